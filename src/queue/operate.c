/* SPDX-License-Identifier: Apache-2.0 */
/* queue/operate.c - what operators look at: lists, and messages. */
#include "base/memory.h"
#include "queue/retry.h"
#include "queue/select.h"
#include "spool/vault.h"

#include <stdlib.h>
#include <string.h>

enum { LIMIT_DEFAULT = 1000, LIMIT_MAX = 100000, BYTES_MAX = 8 * 1024 * 1024 /* a worker */ };

/* ---- listing ---- */

struct list_request {
    struct queue_ask ask;
    struct queue_selector selector;
    size_t limit;
};

static void list_recipients(struct queue_share *share, const struct queue_attempt *view,
                            struct queue_item *item)
{
    struct arena *arena = share->arena;
    item->recipient_count = view->meta.recipient_count;
    item->recipients =
        arena_alloc_array(arena, item->recipient_count + 1, sizeof *item->recipients);
    for (size_t i = 0; i < item->recipient_count; i++) {
        const struct queue_said *said = view->record.said[i];
        struct queue_item_recipient *recipient = &item->recipients[i];
        recipient->address = arena_str(arena, view->meta.recipients[i].address);
        recipient->done = view->record.status[i] == QUEUE_STATUS_DONE;
        if (said == NULL)
            continue;
        recipient->last_reply = said->reply.code != 0 ? mail_reply_text(arena, &said->reply)
                                                      : arena_str(arena, said->reply.text);
        item->last_error = recipient->last_reply;
    }
}

static void list_kept(struct queue_share *share, const struct queue_attempt *view,
                      struct queue_item *item)
{
    const struct queue_kept *kept = &view->meta.kept;
    struct arena *arena = share->arena;
    struct queue_label label;
    struct error err;
    if (!view->record.held || kept->quarantine.len == 0)
        return;
    item->kept = ARENA_NEW(arena, struct queue_item_kept);
    *item->kept = (struct queue_item_kept){
        .quarantine = arena_str(arena, kept->quarantine),
        .flow = arena_str(arena, view->meta.content_flow),
        .step = arena_str(arena, kept->step),
        .why = arena_str(arena, kept->why),
        .findings = arena_str(arena, kept->findings),
        .problem = STR_EMPTY,
        .scored = kept->scored,
        .score = kept->score,
        .held_since_wall_ns = view->record.held_since_wall_ns,
        .digested = view->record.digested,
    };
    if (queue_label_read(view->worker->queue, &view->meta, arena, &label, &err) == FAILED)
        item->kept->problem = arena_str(arena, str_c(err.text));
    item->kept->subject = arena_str(arena, label.subject);
    item->kept->author = arena_str(arena, label.author);
    if ((view->meta.flags & QUEUE_META_SEALED) != 0)
        item->size = spool_vault_plain_size(item->size);
}

static void list_times(const struct queue_attempt *view, struct queue_item *item)
{
    const struct queue_record *record = &view->record;
    if (record->held) {
        item->hold_reason = str_c(mail_reason_name(record->reason));
        return;
    }
    item->next_try_wall_ns = queue_view_next_try_wall_ns(view);
    if (view->transport == NULL)
        return;
    if (item->state == QUEUE_PAUSED)
        item->hold_reason = STR("paused");
    item->give_up_wall_ns = queue_retry_give_up(
        view->transport, record->attempts, record->due_wall_ns,
        queue_life_start_wall_ns(view->worker->queue, view->transport, &view->meta, record) +
            view->transport->expire_ns);
}

static void list_entry(struct queue_share *share, const struct queue_attempt *view)
{
    const struct list_request *request = CONTAINER(share->ask, struct list_request, ask);
    struct arena *arena = share->arena;
    share->total++;
    if (share->count == request->limit || (share->count > 0 && arena_used(arena) > BYTES_MAX)) {
        share->cut = true;
        share->enough = request->selector.uncounted;
        return;
    }
    if (share->count == share->cap) {
        share->cap = share->cap == 0 ? 64 : share->cap * 2;
        share->out = memory_resize_array(share->out, share->cap, sizeof(struct queue_item));
    }
    struct queue_item *item = &((struct queue_item *)share->out)[share->count++];
    *item = (struct queue_item){
        .entry = view->entry->id,
        .message = view->entry->message,
        .state = queue_state_of(view),
        .sender = arena_str(arena, view->meta.sender.address),
        .transport = arena_str(arena, view->meta.transport),
        .destination = arena_str(arena, queue_view_destination(view)),
        .hold_reason = STR_EMPTY,
        .last_error = STR_EMPTY,
        .size = view->entry->ready.size,
        .accepted_wall_ns = view->meta.accepted_wall_ns,
        .last_try_wall_ns = view->record.last_try_wall_ns,
        .attempts = view->record.attempts,
    };
    list_times(view, item);
    list_recipients(share, view, item);
    list_kept(share, view, item);
}

static void run_list(struct queue_share *share) MAY_YIELD
{
    struct list_request *request = CONTAINER(share->ask, struct list_request, ask);
    queue_select_each(share, &request->selector, list_entry);
}

static struct queue_item_kept *copy_kept(struct arena *arena, const struct queue_item_kept *from)
{
    if (from == NULL)
        return NULL;
    struct queue_item_kept *to = ARENA_NEW(arena, struct queue_item_kept);
    *to = *from;
    to->quarantine = arena_str(arena, from->quarantine);
    to->flow = arena_str(arena, from->flow);
    to->step = arena_str(arena, from->step);
    to->why = arena_str(arena, from->why);
    to->findings = arena_str(arena, from->findings);
    to->subject = arena_str(arena, from->subject);
    to->author = arena_str(arena, from->author);
    to->problem = arena_str(arena, from->problem);
    return to;
}

static void copy_item(struct arena *arena, const struct queue_item *from, struct queue_item *to)
{
    *to = *from;
    to->sender = arena_str(arena, from->sender);
    to->transport = arena_str(arena, from->transport);
    to->destination = arena_str(arena, from->destination);
    to->hold_reason = arena_str(arena, from->hold_reason);
    to->last_error = arena_str(arena, from->last_error);
    to->kept = copy_kept(arena, from->kept);
    to->recipients = arena_alloc_array(arena, from->recipient_count + 1, sizeof *to->recipients);
    for (size_t i = 0; i < from->recipient_count; i++) {
        to->recipients[i] = from->recipients[i];
        to->recipients[i].address = arena_str(arena, from->recipients[i].address);
        to->recipients[i].last_reply = arena_str(arena, from->recipients[i].last_reply);
    }
}

static int compare_items(const void *a, const void *b)
{
    const struct mail_id *left = &(*(const struct queue_item *const *)a)->entry;
    const struct mail_id *right = &(*(const struct queue_item *const *)b)->entry;
    if (left->high != right->high)
        return left->high < right->high ? -1 : 1;
    return left->low < right->low ? -1 : left->low > right->low;
}

/* The last item of a worker that found more: what others have behind it may not be all there is. */
static const struct queue_item *earliest_cut(const struct queue_ask *ask)
{
    const struct queue_item *earliest = NULL;
    for (size_t i = 0; i < ask->share_count; i++) {
        const struct queue_share *share = &ask->shares[i];
        if (!share->cut)
            continue;
        const struct queue_item *last = &((struct queue_item *)share->out)[share->count - 1];
        if (earliest == NULL || compare_items(&last, &earliest) < 0)
            earliest = last;
    }
    return earliest;
}

static void collect(const struct list_request *request, struct arena *arena, struct queue_list *out)
{
    const struct queue_item *end = earliest_cut(&request->ask);
    size_t count = 0;
    for (size_t i = 0; i < request->ask.share_count; i++) {
        count += request->ask.shares[i].count;
        out->total += request->ask.shares[i].total;
    }
    const struct queue_item **all = memory_alloc_array(count + 1, sizeof(struct queue_item *));
    size_t found = count;
    count = 0;
    for (size_t i = 0; i < request->ask.share_count; i++)
        for (size_t j = 0; j < request->ask.shares[i].count; j++) {
            all[count] = &((struct queue_item *)request->ask.shares[i].out)[j];
            count += end == NULL || compare_items(&all[count], &end) <= 0;
        }
    qsort(all, count, sizeof *all, compare_items);
    if (count > request->limit)
        count = request->limit;
    out->more = end != NULL || count < found;
    out->items = arena_alloc_array(arena, count + 1, sizeof *out->items);
    out->count = count;
    for (size_t i = 0; i < count; i++)
        copy_item(arena, all[i], &out->items[i]);
    free(all);
}

enum result queue_list(struct queue *queue, const struct queue_selector *selector,
                       struct arena *arena, struct queue_list *out, struct error *err)
{
    struct list_request *request = queue_ask_new(queue, sizeof *request);
    queue_selector_copy(request->ask.arena, selector, &request->selector);
    request->limit = selector->limit == 0 ? LIMIT_DEFAULT : selector->limit;
    if (request->limit > LIMIT_MAX)
        request->limit = LIMIT_MAX;
    enum result result = queue_ask_all(&request->ask, run_list, err);
    *out = (struct queue_list){0};
    if (result == OK)
        collect(request, arena, out);
    queue_ask_unref(&request->ask);
    return result;
}

/* ---- reading ---- */

struct raw_request {
    struct queue_ask ask;
    struct mail_id id;
    struct buf text;
    bool found;
    bool failed;
    struct error error;
};

static struct queue_entry *find_any(struct queue_worker *worker, struct mail_id id)
{
    struct queue_entry *entry = queue_worker_find(worker, id);
    if (entry != NULL)
        return entry;
    for (entry = queue_table_oldest(worker); entry != NULL; entry = queue_table_newer(entry))
        if (mail_id_equal(entry->message, id))
            break;
    return entry;
}

static enum result read_all(struct raw_request *request, const struct mail_content *content,
                            struct error *err) MAY_YIELD
{
    enum { PIECE = 16 * 1024 };
    char *space = memory_alloc(PIECE);
    uint64_t at = 0;
    struct str part;
    enum result result;
    while ((result = mail_content_read(content, at, PIECE, space, &part, err)) == OK &&
           part.len > 0) {
        buf_append(&request->text, part);
        at += part.len;
    }
    free(space);
    if (result == OK && request->text.overflow)
        return fail(err, ERROR_LIMIT, "the message is too large to show");
    return result;
}

static void run_raw(struct queue_share *share) MAY_YIELD
{
    struct raw_request *request = CONTAINER(share->ask, struct raw_request, ask);
    struct queue_entry *entry = find_any(share->worker, request->id);
    struct error err = {0};
    if (entry == NULL)
        return;
    struct arena *arena = arena_new(0);
    struct queue_attempt view;
    queue_attempt_init(&view, entry, arena);
    enum result result = queue_attempt_load(&view, &err);
    pthread_mutex_lock(&share->ask->mutex);
    bool first = !request->found;
    request->found = true;
    pthread_mutex_unlock(&share->ask->mutex);
    if (result == OK && first)
        result = read_all(request, &view.content, &err);
    if (result == FAILED) {
        request->failed = true;
        request->error = err;
    }
    queue_attempt_done(&view);
    arena_free(arena);
}

static void release_raw(struct queue_ask *ask)
{
    buf_done(&CONTAINER(ask, struct raw_request, ask)->text);
}

enum result queue_raw(struct queue *queue, struct mail_id id, struct buf *out, bool *out_found,
                      struct error *err)
{
    struct raw_request *request = queue_ask_new(queue, sizeof *request);
    request->ask.release = release_raw;
    request->id = id;
    buf_init(&request->text, out->max);
    enum result result = queue_ask_all(&request->ask, run_raw, err);
    *out_found = false;
    if (result == OK && request->failed) {
        result = fail(err, request->error.kind, "%s", request->error.text);
    } else if (result == OK) {
        *out_found = request->found;
        buf_append(out, buf_str(&request->text));
    }
    queue_ask_unref(&request->ask);
    return result;
}
