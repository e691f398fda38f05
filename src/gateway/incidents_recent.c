/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/incidents_recent.c - what each account did in this hour and the one before.
 *
 * Of the users seen last, and of each the domains and clients that came up most; a name that finds
 * no room takes the place of the rarest and its count, so that what is frequent stays.
 */
#include "base/clock.h"
#include "base/list.h"
#include "base/memory.h"
#include "gateway/incidents_internal.h"

#include <stdlib.h>
#include <string.h>

enum { USERS_MAX = 2000, NAMES = 16 };
#define HOUR_NS (INT64_C(3600) * NS_PER_S)

struct tally {
    char name[INCIDENT_NAME];
    uint8_t len;
    uint32_t count;
};
struct hour {
    int64_t begin_ns; /* monotonic; 0: nothing */
    int64_t begin_wall_ns;
    int64_t messages, recipients, unknown;
    struct tally domains[NAMES], clients[NAMES];
};
struct account {
    struct list link;
    struct str user; /* owned, lower case */
    struct hour now, before;
};

struct incident_recents {
    pthread_mutex_t mutex;
    struct map accounts;
    struct list order; /* the one seen last is the last */
};

struct incident_recents *incident_recents_new(void)
{
    struct incident_recents *recents = NEW(struct incident_recents);
    pthread_mutex_init(&recents->mutex, NULL);
    map_init(&recents->accounts);
    list_init(&recents->order);
    return recents;
}

static void account_free(struct incident_recents *recents, struct account *account)
{
    map_remove(&recents->accounts, account->user);
    list_remove(&account->link);
    free((char *)account->user.ptr);
    free(account);
}

void incident_recents_free(struct incident_recents *recents)
{
    while (!list_is_empty(&recents->order))
        account_free(recents, CONTAINER(recents->order.next, struct account, link));
    map_done(&recents->accounts);
    pthread_mutex_destroy(&recents->mutex);
    free(recents);
}

static struct str lower(struct str text, char *space, size_t size)
{
    size_t len = text.len < size ? text.len : size;
    for (size_t i = 0; i < len; i++)
        space[i] = ascii_lower(text.ptr[i]);
    return str_of(space, len);
}

static struct account *account_of(struct incident_recents *recents, struct str user)
{
    char space[INCIDENT_USER_MAX];
    struct str key = lower(user, space, sizeof space);
    struct account *account = map_get(&recents->accounts, key);
    if (account) {
        list_remove(&account->link);
        list_append(&recents->order, &account->link);
        return account;
    }
    if (recents->accounts.count >= USERS_MAX)
        account_free(recents, CONTAINER(recents->order.next, struct account, link));
    account = NEW(struct account);
    char *copy = memory_alloc(key.len);
    memcpy(copy, key.ptr, key.len);
    account->user = str_of(copy, key.len);
    list_init(&account->link);
    list_append(&recents->order, &account->link);
    map_put(&recents->accounts, account->user, account);
    return account;
}

static void turn_hours(struct account *account, int64_t now_ns)
{
    int64_t age_ns = now_ns - account->now.begin_ns;
    if (account->now.begin_ns && age_ns < HOUR_NS)
        return;
    account->before =
        account->now.begin_ns && age_ns < 2 * HOUR_NS ? account->now : (struct hour){.begin_ns = 0};
    account->now = (struct hour){.begin_ns = now_ns, .begin_wall_ns = clock_wall_ns()};
}

static void tally_add(struct tally *tallies, struct str text, uint32_t amount)
{
    struct str name = str_slice(text, 0, INCIDENT_NAME);
    struct tally *rarest = &tallies[0];
    if (name.len == 0)
        return;
    for (size_t i = 0; i < NAMES; i++) {
        if (str_equal_nocase(str_of(tallies[i].name, tallies[i].len), name)) {
            tallies[i].count += amount;
            return;
        }
        if (tallies[i].count < rarest->count)
            rarest = &tallies[i];
    }
    memcpy(rarest->name, name.ptr, name.len);
    rarest->len = (uint8_t)name.len;
    rarest->count += amount;
}

void incidents_note_message(struct incidents *incidents, struct str user)
{
    struct incident_recents *recents = incidents->recents;
    pthread_mutex_lock(&recents->mutex);
    struct account *account = account_of(recents, user);
    turn_hours(account, clock_monotonic_ns());
    account->now.messages++;
    pthread_mutex_unlock(&recents->mutex);
}

void incidents_note_recipient(struct incidents *incidents, struct str user, struct str client,
                              struct str domain, bool unknown)
{
    struct incident_recents *recents = incidents->recents;
    pthread_mutex_lock(&recents->mutex);
    struct account *account = account_of(recents, user);
    struct hour *hour = &account->now;
    turn_hours(account, clock_monotonic_ns());
    hour->recipients++;
    hour->unknown += unknown;
    tally_add(hour->domains, domain, 1);
    tally_add(hour->clients, client, 1);
    pthread_mutex_unlock(&recents->mutex);
}

/* ---- telling ---- */

static int compare_tallies(const void *a, const void *b)
{
    const struct tally *left = a, *right = b;
    return left->count > right->count ? -1 : left->count < right->count;
}

/* The most frequent of both hours. */
static size_t tell_most(const struct tally *now, const struct tally *before, struct arena *arena,
                        struct incident_share *out)
{
    struct tally sum[NAMES];
    size_t count = 0;
    memcpy(sum, now, sizeof sum);
    for (size_t i = 0; i < NAMES; i++)
        if (before[i].count)
            tally_add(sum, str_of(before[i].name, before[i].len), before[i].count);
    qsort(sum, NAMES, sizeof *sum, compare_tallies);
    while (count < INCIDENT_SHARES && sum[count].count) {
        out[count] = (struct incident_share){
            .name = arena_str(arena, str_of(sum[count].name, sum[count].len)),
            .count = sum[count].count};
        count++;
    }
    return count;
}

void incident_recents_tell(struct incident_recents *recents, struct str user, struct arena *arena,
                           struct incident *out)
{
    char space[INCIDENT_USER_MAX];
    pthread_mutex_lock(&recents->mutex);
    struct account *account = map_get(&recents->accounts, lower(user, space, sizeof space));
    if (account) {
        turn_hours(account, clock_monotonic_ns());
        const struct hour *now = &account->now, *before = &account->before;
        out->recent_since_wall_ns = before->begin_ns ? before->begin_wall_ns : now->begin_wall_ns;
        out->messages = now->messages + before->messages;
        out->recipients = now->recipients + before->recipients;
        out->unknown = now->unknown + before->unknown;
        out->domain_count = tell_most(now->domains, before->domains, arena, out->domains);
        out->client_count = tell_most(now->clients, before->clients, arena, out->clients);
    }
    pthread_mutex_unlock(&recents->mutex);
}
