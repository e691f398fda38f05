/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/incidents.c - the table of incidents in memory. */
#include "gateway/incidents.h"

#include "base/clock.h"
#include "base/memory.h"
#include "gateway/incidents_internal.h"

#include <stdlib.h>
#include <string.h>

enum { REASON_MAX = 1000, TEXT_MAX = 320 };

const char *incident_state_name(enum incident_state state)
{
    static const char *const names[INCIDENT_STATES] = {"open", "releasing", "dropping", "released",
                                                       "dropped"};
    return names[state];
}

/* ---- tables ---- */

struct incident_table incident_table_new(size_t cap)
{
    struct arena *arena = arena_new(0);
    struct incident_table table = {
        .arena = arena, .items = arena_alloc_array(arena, cap + 1, sizeof(struct incident))};
    map_init(&table.contained);
    map_init(&table.settling);
    return table;
}

void incident_table_done(struct incident_table *table)
{
    map_done(&table->contained);
    map_done(&table->settling);
    arena_free(take(table->arena));
}

static struct str copy_text(struct arena *arena, struct str text, size_t max)
{
    return arena_str(arena, str_slice(text, 0, max));
}

static void copy_shares(struct arena *arena, const struct incident_share *from, size_t count,
                        struct incident_share *to)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (struct incident_share){.name = copy_text(arena, from[i].name, INCIDENT_NAME),
                                        .count = from[i].count};
}

void incident_copy(struct arena *arena, const struct incident *from, struct incident *to)
{
    *to = *from;
    to->user = arena_lower(arena, from->user);
    to->opened_by = copy_text(arena, from->opened_by, TEXT_MAX);
    to->reason = copy_text(arena, from->reason, REASON_MAX);
    to->flow = copy_text(arena, from->flow, TEXT_MAX);
    to->step = copy_text(arena, from->step, TEXT_MAX);
    to->what = copy_text(arena, from->what, TEXT_MAX);
    to->by = copy_text(arena, from->by, TEXT_MAX);
    to->subject = copy_text(arena, from->subject, TEXT_MAX);
    to->closed_by = copy_text(arena, from->closed_by, TEXT_MAX);
    to->closing_reason = copy_text(arena, from->closing_reason, REASON_MAX);
    copy_shares(arena, from->domains, from->domain_count, to->domains);
    copy_shares(arena, from->clients, from->client_count, to->clients);
}

struct incident *incident_table_add(struct incident_table *table, const struct incident *incident)
{
    struct incident *copy = &table->items[table->count++];
    incident_copy(table->arena, incident, copy);
    return copy;
}

static bool is_done(const struct incident *incident)
{
    return incident->state == INCIDENT_RELEASED || incident->state == INCIDENT_DROPPED;
}

/* Its last touch before it is written and put into force. */
static void index_table(struct incident_table *table)
{
    table->open = table->unsettled = 0;
    for (size_t i = 0; i < table->count; i++) {
        struct incident *incident = &table->items[i];
        if (incident->state == INCIDENT_OPEN) {
            table->open++;
            map_put(&table->contained, incident->user, incident);
        } else if (!is_done(incident)) {
            table->unsettled++;
            map_put(&table->settling, incident->user, incident);
        }
    }
}

static struct incident_table copy_table(const struct incident_table *from)
{
    struct incident_table copy = incident_table_new(from->count + 1);
    size_t done = 0;
    for (size_t i = 0; i < from->count; i++)
        done += is_done(&from->items[i]);
    for (size_t i = 0; i < from->count; i++) {
        bool forgotten = is_done(&from->items[i]) && done > INCIDENTS_CLOSED_MAX;
        done -= forgotten;
        if (!forgotten)
            incident_table_add(&copy, &from->items[i]);
    }
    return copy;
}

static void put_in_force(struct incidents *incidents, struct incident_table table)
{
    pthread_mutex_lock(&incidents->mutex);
    struct incident_table old = incidents->table;
    incidents->table = table;
    atomic_store(&incidents->open, table.open);
    atomic_store(&incidents->unsettled, table.unsettled);
    pthread_mutex_unlock(&incidents->mutex);
    incident_table_done(&old);
}

/* On disk first; takes the table over. */
static enum result put_table(struct incidents *incidents, struct incident_table table,
                             struct error *err)
{
    index_table(&table);
    if (incidents->path && incident_table_save(&table, incidents->path, err) != OK) {
        incident_table_done(&table);
        return FAILED;
    }
    put_in_force(incidents, table);
    return OK;
}

struct incidents *incidents_new(void)
{
    struct incidents *incidents = NEW(struct incidents);
    pthread_mutex_init(&incidents->mutex, NULL);
    pthread_mutex_init(&incidents->changing, NULL);
    incidents->table = incident_table_new(0);
    incidents->recents = incident_recents_new();
    return incidents;
}

void incidents_free(struct incidents *incidents)
{
    if (!incidents)
        return;
    incident_table_done(&incidents->table);
    incident_recents_free(incidents->recents);
    pthread_mutex_destroy(&incidents->mutex);
    pthread_mutex_destroy(&incidents->changing);
    free(incidents->path);
    free(incidents);
}

enum result incidents_load(struct incidents *incidents, struct str path, struct error *err)
{
    struct incident_table table;
    free(incidents->path);
    incidents->path = memory_alloc(path.len + 1);
    memcpy(incidents->path, path.ptr, path.len);
    if (incident_table_read(incidents->path, &table, err) != OK)
        return FAILED;
    index_table(&table);
    put_in_force(incidents, table);
    return OK;
}

/* ---- asking ---- */

/* Its number, or 0. The mutex is taken only where there is any. */
static int64_t look_up(struct incidents *incidents, const atomic_size_t *count,
                       const struct map *map, struct str user)
{
    char lower[INCIDENT_USER_MAX];
    if (atomic_load_explicit(count, memory_order_acquire) == 0 || user.len == 0 ||
        user.len > sizeof lower)
        return 0;
    for (size_t i = 0; i < user.len; i++)
        lower[i] = ascii_lower(user.ptr[i]);
    pthread_mutex_lock(&incidents->mutex);
    const struct incident *found = map_get(map, str_of(lower, user.len));
    int64_t number = found ? found->number : 0;
    pthread_mutex_unlock(&incidents->mutex);
    return number;
}

bool incidents_contains(struct incidents *incidents, struct str user, int64_t *out_number)
{
    int64_t number = look_up(incidents, &incidents->open, &incidents->table.contained, user);
    if (number && out_number)
        *out_number = number;
    return number != 0;
}

bool incidents_settles(struct incidents *incidents, struct str user)
{
    return look_up(incidents, &incidents->unsettled, &incidents->table.settling, user) != 0;
}

size_t incidents_open_count(const struct incidents *incidents)
{
    return atomic_load(&incidents->open);
}

bool incidents_is_unsettled(const struct incidents *incidents)
{
    return atomic_load(&incidents->unsettled) > 0;
}

struct incident *incidents_list(struct incidents *incidents, struct arena *arena, size_t *out_count)
{
    pthread_mutex_lock(&incidents->mutex);
    size_t count = incidents->table.count;
    struct incident *list = arena_alloc_array(arena, count + 1, sizeof *list);
    for (size_t i = 0; i < count; i++)
        incident_copy(arena, &incidents->table.items[count - 1 - i], &list[i]);
    pthread_mutex_unlock(&incidents->mutex);
    *out_count = count;
    return list;
}

static struct incident *find(const struct incident_table *table, int64_t number)
{
    for (size_t i = table->count; i > 0; i--)
        if (table->items[i - 1].number == number)
            return &table->items[i - 1];
    return NULL;
}

bool incidents_find(struct incidents *incidents, int64_t number, struct arena *arena,
                    struct incident *out)
{
    pthread_mutex_lock(&incidents->mutex);
    const struct incident *found = find(&incidents->table, number);
    if (found)
        incident_copy(arena, found, out);
    pthread_mutex_unlock(&incidents->mutex);
    return found != NULL;
}

/* ---- changing ---- */

/* What waited to be released is held again, by the new one. */
static void supersede(struct incident_table *table, struct str user, int64_t now_wall_ns)
{
    for (size_t i = 0; i < table->count; i++) {
        struct incident *incident = &table->items[i];
        if (incident->state == INCIDENT_RELEASING && str_equal(incident->user, user)) {
            incident->state = INCIDENT_RELEASED;
            incident->done_wall_ns = now_wall_ns;
        }
    }
}

static enum result open_new(struct incidents *incidents, const struct incident *draft,
                            int64_t *out_number, struct error *err)
{
    const struct incident_table *now = &incidents->table; /* stands still: we are changing it */
    if (now->open >= INCIDENTS_OPEN_MAX)
        return fail(err, ERROR_LIMIT, "there are %d open incidents", INCIDENTS_OPEN_MAX);
    struct incident_table table = copy_table(now);
    struct incident incident = *draft;
    incident.number = now->count ? now->items[now->count - 1].number + 1 : 1;
    incident.state = INCIDENT_OPEN;
    incident_recents_tell(incidents->recents, draft->user, table.arena, &incident);
    struct incident *added = incident_table_add(&table, &incident);
    supersede(&table, added->user, added->opened_wall_ns);
    *out_number = added->number;
    return put_table(incidents, table, err);
}

enum result incidents_open(struct incidents *incidents, const struct incident *draft,
                           int64_t *out_number, bool *out_new, struct error *err)
{
    if (draft->user.len == 0 || draft->user.len > INCIDENT_USER_MAX)
        return fail(err, ERROR_PERMANENT, "a name of a user has 1 to %d bytes", INCIDENT_USER_MAX);
    pthread_mutex_lock(&incidents->changing);
    *out_new = !incidents_contains(incidents, draft->user, out_number);
    enum result result = *out_new ? open_new(incidents, draft, out_number, err) : OK;
    pthread_mutex_unlock(&incidents->changing);
    return result;
}

enum result incidents_close(struct incidents *incidents, const struct incident_closing *closing,
                            enum incident_state *out_state, struct error *err)
{
    enum result result = OK;
    pthread_mutex_lock(&incidents->changing);
    const struct incident *found = find(&incidents->table, closing->number);
    *out_state = found ? found->state : INCIDENT_STATES;
    if (found && found->state == INCIDENT_OPEN) {
        struct incident_table table = copy_table(&incidents->table);
        struct incident *incident = find(&table, closing->number);
        incident->state = closing->drop ? INCIDENT_DROPPING : INCIDENT_RELEASING;
        incident->closed_wall_ns = clock_steady_wall_ns();
        incident->closed_by = copy_text(table.arena, closing->actor, TEXT_MAX);
        incident->closing_reason = copy_text(table.arena, closing->reason, REASON_MAX);
        result = put_table(incidents, table, err);
    }
    pthread_mutex_unlock(&incidents->changing);
    return result;
}

enum result incidents_finish(struct incidents *incidents, int64_t number, struct error *err)
{
    enum result result = OK;
    pthread_mutex_lock(&incidents->changing);
    const struct incident *found = find(&incidents->table, number);
    if (found && found->state != INCIDENT_OPEN && !is_done(found)) {
        struct incident_table table = copy_table(&incidents->table);
        struct incident *incident = find(&table, number);
        incident->state =
            incident->state == INCIDENT_DROPPING ? INCIDENT_DROPPED : INCIDENT_RELEASED;
        incident->done_wall_ns = clock_steady_wall_ns();
        result = put_table(incidents, table, err);
    }
    pthread_mutex_unlock(&incidents->changing);
    return result;
}
