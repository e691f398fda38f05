/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/survey.c - the queue in groups: by destination, by sender, by cause, by transport.
 *
 * Each worker groups its own entries; the groups of all are added up on the asker's thread.
 */
#include "base/memory.h"
#include "queue/cause.h"
#include "queue/select.h"

#include <stdlib.h>
#include <string.h>

struct group_table {
    struct arena *arena;
    struct map map;
    struct queue_survey_group *others;
};
struct survey_request {
    struct queue_ask ask;
    struct queue_selector selector;
    enum queue_survey_by by;
};
/* A share's `out`. */
struct survey_part {
    struct group_table table;
    int64_t now_wall_ns;
};

/* ---- tables ---- */

static struct queue_survey_group *find_group(struct group_table *table, struct str key,
                                             bool *out_new)
{
    struct queue_survey_group *group = map_get(&table->map, key);
    *out_new = false;
    if (group != NULL)
        return group;
    if (table->map.count >= QUEUE_GROUPS && table->others != NULL)
        return table->others;
    *out_new = true;
    group = ARENA_NEW(table->arena, struct queue_survey_group);
    group->name = group->transport = group->pattern = group->sample = STR_EMPTY;
    if (table->map.count >= QUEUE_GROUPS) {
        key = STR("(others)");
        table->others = group;
        *out_new = false;
        group->name = key;
    }
    map_put(&table->map, key, group);
    return group;
}

static void add_place(struct arena *arena, struct queue_survey_group *group, struct str place)
{
    size_t kept = group->place_count < QUEUE_GROUP_PLACES ? group->place_count : QUEUE_GROUP_PLACES;
    for (size_t i = 0; i < kept; i++)
        if (str_equal(group->places[i], place))
            return;
    if (kept < QUEUE_GROUP_PLACES)
        group->places[group->place_count++] = arena_str(arena, place);
}

/* ---- one entry ---- */

static size_t age_column(int64_t age_ns)
{
    size_t column = 0;
    for (int64_t top_ns = 5 * 60 * NS_PER_S; column < QUEUE_AGES - 1 && age_ns > top_ns;
         top_ns *= 2)
        column++;
    return column;
}

static int64_t earliest(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static void count_entry(struct queue_survey_group *group, const struct queue_attempt *view,
                        int64_t now_wall_ns)
{
    const struct queue_record *record = &view->record;
    group->entries++;
    group->recipients += view->entry->pending;
    group->bytes += view->entry->ready.size;
    enum queue_state state = queue_state_of(view);
    group->states[state]++;
    group->state_bytes[state] += view->entry->ready.size;
    group->ages[age_column(now_wall_ns - view->meta.accepted_wall_ns)]++;
    group->oldest_wall_ns = earliest(group->oldest_wall_ns, view->meta.accepted_wall_ns);
    if (record->last_try_wall_ns > group->last_wall_ns)
        group->last_wall_ns = record->last_try_wall_ns;
    if (record->held)
        return;
    group->oldest_due_wall_ns = earliest(group->oldest_due_wall_ns, view->meta.accepted_wall_ns);
    group->next_wall_ns = earliest(group->next_wall_ns, queue_view_next_try_wall_ns(view));
}

static void by_destination(struct survey_part *part, const struct queue_attempt *view)
{
    struct arena *arena = part->table.arena;
    struct str name = queue_view_destination(view);
    bool is_new;
    struct str key =
        arena_lower(view->arena, arena_printf(view->arena, "%.*s %.*s",
                                              STR_ARG(view->meta.transport), STR_ARG(name)));
    struct queue_survey_group *group = find_group(&part->table, key, &is_new);
    if (is_new) {
        group->name = arena_lower(arena, name);
        group->transport = arena_str(arena, view->meta.transport);
    }
    count_entry(group, view, part->now_wall_ns);
}

static struct queue_survey_group *group_of_transport(struct survey_part *part, struct str transport)
{
    bool is_new;
    struct queue_survey_group *group = find_group(&part->table, transport, &is_new);
    if (is_new)
        group->transport = arena_str(part->table.arena, transport);
    return group;
}

static void by_transport(struct survey_part *part, const struct queue_attempt *view)
{
    count_entry(group_of_transport(part, view->meta.transport), view, part->now_wall_ns);
}

/* Sites come and go between entries, so they are looked at in one go. */
static void note_limits(struct survey_part *part, const struct queue_worker *worker)
{
    size_t cursor = 0;
    struct str key, transport, name;
    void *value;
    while (map_next(&worker->sites, &cursor, &key, &value)) {
        const struct queue_site *site = value;
        if (site->limited_since_ns == 0)
            continue;
        queue_destination_parts(key, &transport, &name);
        group_of_transport(part, transport)->limited = true;
    }
}

static void by_sender(struct survey_part *part, const struct queue_attempt *view)
{
    struct str sender = view->meta.sender.address;
    ptrdiff_t at = str_find_last(sender, '@');
    bool is_new;
    struct str domain = sender.len == 0 ? STR("<>") : str_from(sender, (size_t)(at + 1));
    domain = arena_lower(view->arena, domain);
    struct queue_survey_group *group = find_group(&part->table, domain, &is_new);
    if (is_new)
        group->name = arena_str(part->table.arena, domain);
    count_entry(group, view, part->now_wall_ns);
}

/* An entry stands once under each cause that it has. */
static void by_cause(struct survey_part *part, const struct queue_attempt *view)
{
    struct arena *arena = part->table.arena;
    struct queue_survey_group *seen[QUEUE_RECIPIENTS_MAX];
    const struct queue_said *last = NULL;
    size_t seen_count = 0;
    for (size_t i = 0; i < view->meta.recipient_count && i < QUEUE_RECIPIENTS_MAX; i++) {
        const struct queue_said *said = view->record.said[i];
        struct queue_cause cause;
        bool is_new, again = false;
        if (said == NULL || said == last || view->record.status[i] != QUEUE_STATUS_PENDING)
            continue;
        last = said;
        queue_cause_of(view->arena, &said->reply, &cause);
        struct queue_survey_group *group = find_group(&part->table, str_c(cause.id), &is_new);
        for (size_t j = 0; j < seen_count; j++)
            again |= seen[j] == group;
        if (again)
            continue;
        seen[seen_count++] = group;
        if (is_new) {
            group->name = arena_str(arena, str_c(cause.id));
            group->pattern = arena_str(arena, cause.pattern);
            group->sample = said->reply.code != 0 ? mail_reply_text(arena, &said->reply)
                                                  : arena_str(arena, said->reply.text);
        }
        add_place(arena, group, queue_view_destination(view));
        count_entry(group, view, part->now_wall_ns);
    }
}

static void look(struct queue_share *share, const struct queue_attempt *view)
{
    switch (CONTAINER(share->ask, struct survey_request, ask)->by) {
    case QUEUE_BY_DESTINATION:
        by_destination(share->out, view);
        break;
    case QUEUE_BY_SENDER:
        by_sender(share->out, view);
        break;
    case QUEUE_BY_CAUSE:
        by_cause(share->out, view);
        break;
    case QUEUE_BY_TRANSPORT:
        by_transport(share->out, view);
        break;
    }
}

static void run_survey(struct queue_share *share) MAY_YIELD
{
    struct survey_request *request = CONTAINER(share->ask, struct survey_request, ask);
    struct survey_part *part = NEW(struct survey_part);
    part->table.arena = share->arena;
    part->now_wall_ns = clock_steady_wall_ns();
    map_init(&part->table.map);
    share->out = part;
    queue_select_each(share, &request->selector, look);
    if (request->by == QUEUE_BY_TRANSPORT)
        note_limits(part, share->worker);
}

/* ---- adding up ---- */

static void add_up(struct arena *arena, struct queue_survey_group *sum,
                   const struct queue_survey_group *part)
{
    sum->entries += part->entries;
    sum->recipients += part->recipients;
    sum->bytes += part->bytes;
    for (size_t i = 0; i <= QUEUE_PAUSED; i++)
        sum->states[i] += part->states[i];
    for (size_t i = 0; i <= QUEUE_PAUSED; i++)
        sum->state_bytes[i] += part->state_bytes[i];
    sum->limited = sum->limited || part->limited;
    for (size_t i = 0; i < QUEUE_AGES; i++)
        sum->ages[i] += part->ages[i];
    sum->oldest_wall_ns = earliest(sum->oldest_wall_ns, part->oldest_wall_ns);
    sum->oldest_due_wall_ns = earliest(sum->oldest_due_wall_ns, part->oldest_due_wall_ns);
    sum->next_wall_ns = earliest(sum->next_wall_ns, part->next_wall_ns);
    if (part->last_wall_ns > sum->last_wall_ns)
        sum->last_wall_ns = part->last_wall_ns;
    for (size_t i = 0; i < part->place_count; i++)
        add_place(arena, sum, part->places[i]);
}

static void add_table(struct group_table *sums, const struct group_table *part)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&part->map, &cursor, &key, &value)) {
        const struct queue_survey_group *from = value;
        bool is_new;
        struct queue_survey_group *sum = find_group(sums, key, &is_new);
        if (is_new) {
            sum->name = arena_str(sums->arena, from->name);
            sum->transport = arena_str(sums->arena, from->transport);
            sum->pattern = arena_str(sums->arena, from->pattern);
            sum->sample = arena_str(sums->arena, from->sample);
        }
        add_up(sums->arena, sum, from);
    }
}

static int compare_groups(const void *a, const void *b)
{
    const struct queue_survey_group *left = a;
    const struct queue_survey_group *right = b;
    if (left->entries != right->entries)
        return left->entries > right->entries ? -1 : 1;
    int names = str_compare(left->name, right->name);
    return names != 0 ? names : str_compare(left->transport, right->transport);
}

static void put_in_order(struct group_table *sums, struct arena *arena, struct queue_survey *out)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    out->groups = arena_alloc_array(arena, sums->map.count + 1, sizeof *out->groups);
    while (map_next(&sums->map, &cursor, &key, &value)) {
        out->groups[out->count++] = *(struct queue_survey_group *)value;
        out->entries += ((struct queue_survey_group *)value)->entries;
    }
    qsort(out->groups, out->count, sizeof *out->groups, compare_groups);
}

/* The last one to let go: the parts' maps. */
static void release_survey(struct queue_ask *ask)
{
    for (size_t i = 0; i < ask->share_count; i++)
        if (ask->shares[i].out != NULL)
            map_done(&((struct survey_part *)ask->shares[i].out)->table.map);
}

enum result queue_survey(struct queue *queue, const struct queue_selector *selector,
                         enum queue_survey_by by, struct arena *arena, struct queue_survey *out,
                         struct error *err)
{
    struct survey_request *request = queue_ask_new(queue, sizeof *request);
    struct group_table sums = {.arena = arena};
    queue_selector_copy(request->ask.arena, selector, &request->selector);
    request->by = by;
    request->ask.release = release_survey;
    *out = (struct queue_survey){0};
    map_init(&sums.map);
    enum result result = queue_ask_all(&request->ask, run_survey, err);
    for (size_t i = 0; result == OK && i < request->ask.share_count; i++)
        if (request->ask.shares[i].out != NULL)
            add_table(&sums, &((struct survey_part *)request->ask.shares[i].out)->table);
    if (result == OK)
        put_in_order(&sums, arena, out);
    map_done(&sums.map);
    queue_ask_unref(&request->ask);
    return result;
}
