/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/mailboxes.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/memory.h"
#include "event/event.h"
#include "state/state.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_DAYS = 30, KEY_MAX = 320, MAILBOXES_MAX = 5 * 1000 * 1000 };
#define DAY_MS (INT64_C(86400) * 1000)

struct mailboxes {
    pthread_mutex_t mutex;
    struct map seen; /* key -> day it was seen last, as a pointer-sized number above 0 */
    uint64_t entitled;
    int64_t swept_day;
    bool told;
};

static int64_t today(void)
{
    return clock_wall_ns() / (86400 * NS_PER_S);
}

struct mailboxes *mailboxes_new(void)
{
    struct mailboxes *mailboxes = NEW(struct mailboxes);
    pthread_mutex_init(&mailboxes->mutex, NULL);
    map_init(&mailboxes->seen);
    return mailboxes;
}

void mailboxes_free(struct mailboxes *mailboxes)
{
    if (!mailboxes)
        return;
    map_done(&mailboxes->seen);
    pthread_mutex_destroy(&mailboxes->mutex);
    free(mailboxes);
}

void mailboxes_entitle(struct mailboxes *mailboxes, int64_t count)
{
    pthread_mutex_lock(&mailboxes->mutex);
    mailboxes->entitled = count > 0 ? (uint64_t)count : 0;
    mailboxes->told = false;
    pthread_mutex_unlock(&mailboxes->mutex);
}

/* "User+Detail@Example.org" counts as user@example.org. */
static struct str make_key(struct str address, char out[KEY_MAX])
{
    ptrdiff_t at = str_find_last(address, '@');
    size_t local = at < 0 ? address.len : (size_t)at;
    ptrdiff_t plus = str_find(str_slice(address, 0, local), '+');
    size_t end = plus > 0 ? (size_t)plus : local;
    size_t len = 0;
    for (size_t i = 0; i < address.len && len < KEY_MAX; i++) {
        if (i < end || i >= local)
            out[len++] = ascii_lower(address.ptr[i]);
    }
    return str_of(out, len);
}

static void forget_old(struct mailboxes *mailboxes, int64_t day)
{
    size_t cursor = 0;
    struct str key;
    void *seen;
    if (mailboxes->swept_day == day)
        return;
    mailboxes->swept_day = day;
    while (map_next(&mailboxes->seen, &cursor, &key, &seen)) {
        if ((intptr_t)seen <= day - WINDOW_DAYS)
            map_remove(&mailboxes->seen, key);
    }
}

static const struct str prefix = {"mailbox:", 8};

void mailboxes_take(struct str key, int64_t until_ms, void *arg)
{
    struct mailboxes *mailboxes = arg;
    int64_t day = until_ms / DAY_MS - WINDOW_DAYS;
    if (!str_starts(key, prefix) || day <= 0 || day > today())
        return;
    pthread_mutex_lock(&mailboxes->mutex);
    if (mailboxes->seen.count < MAILBOXES_MAX)
        map_put(&mailboxes->seen, str_from(key, prefix.len), (void *)(intptr_t)day);
    pthread_mutex_unlock(&mailboxes->mutex);
}

/* Once a day and mailbox. */
static void keep(struct state *state, struct str key, int64_t day)
{
    char space[KEY_MAX + 8];
    memcpy(space, prefix.ptr, prefix.len);
    memcpy(space + prefix.len, key.ptr, key.len);
    state_keep_fact(state, str_of(space, prefix.len + key.len), (day + WINDOW_DAYS) * DAY_MS);
}

void mailboxes_note(struct mailboxes *mailboxes, struct state *state, struct str address)
{
    char space[KEY_MAX];
    struct str key = make_key(address, space);
    int64_t day = today();
    pthread_mutex_lock(&mailboxes->mutex);
    forget_old(mailboxes, day);
    bool is_new = map_get(&mailboxes->seen, key) != (void *)(intptr_t)day &&
                  mailboxes->seen.count < MAILBOXES_MAX;
    if (is_new)
        map_put(&mailboxes->seen, key, (void *)(intptr_t)day);
    uint64_t count = mailboxes->seen.count;
    bool over = mailboxes->entitled && count > mailboxes->entitled && !mailboxes->told;
    mailboxes->told = mailboxes->told || over;
    uint64_t entitled = mailboxes->entitled;
    pthread_mutex_unlock(&mailboxes->mutex);
    if (is_new && state)
        keep(state, key, day);
    if (over)
        event_emit(EVENT_MAILBOX_COUNT, F_INT(COUNT, count), F_INT(LIMIT, entitled));
}

uint64_t mailboxes_count(struct mailboxes *mailboxes)
{
    pthread_mutex_lock(&mailboxes->mutex);
    forget_old(mailboxes, today());
    uint64_t count = mailboxes->seen.count;
    pthread_mutex_unlock(&mailboxes->mutex);
    return count;
}
