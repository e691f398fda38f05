/* SPDX-License-Identifier: Apache-2.0 */
/* queue/select.c - matching entries with what operators ask for. */
#include "queue/select.h"

#include "base/memory.h"
#include "queue/cause.h"

#include <stdlib.h>
#include <string.h>

void queue_selector_copy(struct arena *arena, const struct queue_selector *from,
                         struct queue_selector *out)
{
    *out = *from;
    out->id = arena_str(arena, from->id);
    out->to = arena_lower(arena, from->to);
    out->from = arena_lower(arena, from->from);
    out->transport = arena_str(arena, from->transport);
    out->destination = arena_lower(arena, from->destination);
    out->cause = arena_str(arena, from->cause);
    out->quarantine = arena_str(arena, from->quarantine);
    out->subject = arena_lower(arena, from->subject);
    out->user = arena_str(arena, from->user);
    if (from->id_count > 0) {
        struct mail_id *ids = arena_alloc_array(arena, from->id_count, sizeof *ids);
        memcpy(ids, from->ids, from->id_count * sizeof *ids);
        out->ids = ids;
    }
}

enum queue_state queue_state_of(const struct queue_attempt *view)
{
    enum queue_state state = (enum queue_state)view->entry->state;
    if ((state == QUEUE_READY || state == QUEUE_WAITING) && view->transport != NULL &&
        queue_is_paused(view->worker->queue, view->transport, &view->meta))
        return QUEUE_PAUSED;
    return state;
}

struct str queue_view_destination(const struct queue_attempt *view)
{
    return view->transport != NULL ? queue_destination_name(view->transport, &view->meta)
                                   : STR_EMPTY;
}

int64_t queue_view_next_try_wall_ns(const struct queue_attempt *view)
{
    struct str error;
    int64_t probe_wall_ns;
    return queue_site_waits(view->entry, &error, &probe_wall_ns) ? probe_wall_ns
                                                                 : view->record.due_wall_ns;
}

bool queue_address_fits(struct arena *arena, struct str pattern, struct str address)
{
    if (pattern.len == 0)
        return true;
    struct str lower = arena_lower(arena, address);
    return pattern.ptr[0] == '@' ? str_ends(lower, pattern) : str_equal(lower, pattern);
}

static bool matches_id(const struct queue_entry *entry, struct str id)
{
    if (id.len == 0)
        return true;
    struct mail_id_text own = mail_id_text(entry->id);
    struct mail_id_text message = mail_id_text(entry->message);
    return id.len >= 8 &&
           (str_starts_nocase(str_c(own.chars), id) || str_starts_nocase(str_c(message.chars), id));
}

static bool matches_recipient(const struct queue_attempt *view, struct str pattern)
{
    if (pattern.len == 0)
        return true;
    for (size_t i = 0; i < view->meta.recipient_count; i++)
        if (view->record.status[i] == QUEUE_STATUS_PENDING &&
            queue_address_fits(view->arena, pattern, view->meta.recipients[i].address))
            return true;
    return false;
}

static bool matches_cause(const struct queue_attempt *view, struct str cause)
{
    struct queue_cause found;
    if (cause.len == 0)
        return true;
    for (size_t i = 0; i < view->meta.recipient_count; i++) {
        const struct queue_said *said = view->record.said[i];
        if (said == NULL || view->record.status[i] != QUEUE_STATUS_PENDING)
            continue;
        queue_cause_of(view->arena, &said->reply, &found);
        if (str_equal_nocase(str_c(found.id), cause))
            return true;
    }
    return false;
}

/* Letters of ASCII compare without case. */
static bool matches_subject(const struct queue_attempt *view, struct str subject)
{
    struct queue_label label;
    struct error err;
    if (subject.len == 0)
        return true;
    return queue_label_read(view->worker->queue, &view->meta, view->arena, &label, &err) == OK &&
           str_find_str(arena_lower(view->arena, label.subject), subject) >= 0;
}

static bool matches_quarantine(const struct queue_attempt *view,
                               const struct queue_selector *selector)
{
    struct str name = selector->quarantine;
    if (name.len > 0 &&
        (!view->record.held || view->meta.kept.quarantine.len == 0 ||
         (!str_equal(name, STR("*")) && !str_equal(name, view->meta.kept.quarantine))))
        return false;
    return !(selector->undigested && view->record.digested) &&
           matches_subject(view, selector->subject);
}

static int compare_ids(const void *a, const void *b)
{
    const struct mail_id *left = a;
    const struct mail_id *right = b;
    if (left->high != right->high)
        return left->high < right->high ? -1 : 1;
    return left->low < right->low ? -1 : left->low > right->low;
}

/* What needs no decoding. */
static bool may_match(const struct queue_entry *entry, const struct queue_selector *selector)
{
    if (compare_ids(&entry->id, &selector->after) <= 0)
        return false;
    bool waits = entry->state == QUEUE_READY || entry->state == QUEUE_WAITING;
    if (selector->state >= 0 && selector->state != entry->state &&
        !(selector->state == QUEUE_PAUSED && waits))
        return false;
    if (selector->quarantine.len > 0 && (entry->state != QUEUE_HELD || !entry->shelved))
        return false;
    if (selector->older_ns > 0 &&
        clock_steady_wall_ns() - entry->accepted_wall_ns < selector->older_ns)
        return false;
    return matches_id(entry, selector->id);
}

static bool matches_user(const struct queue_attempt *view, struct str user)
{
    return user.len == 0 ||
           ((view->meta.flags & (QUEUE_META_OWN_USER | QUEUE_META_DSN)) == QUEUE_META_OWN_USER &&
            str_equal_nocase(view->meta.fairness_key, user));
}

static bool matches(const struct queue_attempt *view, const struct queue_selector *selector)
{
    return (selector->state < 0 || selector->state == (int)queue_state_of(view)) &&
           matches_user(view, selector->user) &&
           (selector->held_reason == MAIL_REASON_NONE ||
            (view->record.held && view->record.reason == selector->held_reason)) &&
           matches_quarantine(view, selector) && matches_recipient(view, selector->to) &&
           queue_address_fits(view->arena, selector->from, view->meta.sender.address) &&
           (selector->transport.len == 0 || str_equal(selector->transport, view->meta.transport)) &&
           (selector->destination.len == 0 ||
            str_equal_nocase(selector->destination, queue_view_destination(view))) &&
           matches_cause(view, selector->cause);
}

/* Of those named, what this worker has. */
static struct mail_id *named(struct queue_worker *worker, const struct queue_selector *selector,
                             size_t *out_count)
{
    struct mail_id *ids = memory_alloc_array(selector->id_count, sizeof *ids);
    size_t count = 0;
    for (size_t i = 0; i < selector->id_count; i++)
        if (queue_worker_find(worker, selector->ids[i]) != NULL)
            ids[count++] = selector->ids[i];
    *out_count = count;
    return ids;
}

/* Ids of what may match, in their order: entries come and go while other fibers have their turns.
 */
static struct mail_id *candidates(struct queue_worker *worker,
                                  const struct queue_selector *selector, size_t *out_count)
{
    struct mail_id *ids = NULL;
    size_t count = 0, cap = 0;
    bool in_order = true;
    for (const struct queue_entry *entry = queue_table_oldest(worker); entry != NULL;
         entry = queue_table_newer(entry)) {
        if (!may_match(entry, selector))
            continue;
        if (count == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            ids = memory_resize_array(ids, cap, sizeof *ids);
        }
        in_order = in_order && (count == 0 || compare_ids(&ids[count - 1], &entry->id) < 0);
        ids[count++] = entry->id;
    }
    if (!in_order) /* what was found at the start, or stands in the place of another */
        qsort(ids, count, sizeof *ids, compare_ids);
    *out_count = count;
    return ids;
}

void queue_select_each(struct queue_share *share, const struct queue_selector *selector,
                       void (*look)(struct queue_share *share, const struct queue_attempt *view))
{
    struct arena *arena = arena_new(0);
    size_t count;
    struct mail_id *ids = selector->ids != NULL ? named(share->worker, selector, &count)
                                                : candidates(share->worker, selector, &count);
    for (size_t i = 0; i < count && !share->enough; i++) {
        struct queue_entry *entry = queue_worker_find(share->worker, ids[i]);
        struct queue_attempt view;
        if (entry != NULL) {
            queue_attempt_init(&view, entry, arena);
            if (selector->ids != NULL || matches(&view, selector))
                look(share, &view);
            queue_attempt_done(&view);
            arena_clear(arena);
        }
        if (i % QUEUE_ASK_SLICE == QUEUE_ASK_SLICE - 1) {
            atomic_fetch_add(&share->ask->steps, 1);
            fiber_yield();
        }
    }
    free(ids);
    arena_free(arena);
}
