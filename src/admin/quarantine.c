/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/quarantine.h"

#include "admin/quarantine_link.h"
#include "admin/quarantine_text.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/map.h"
#include "base/memory.h"
#include "event/event.h"
#include "gateway/operations.h"
#include "spool/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    DAY_S = 86400,
    EXPIRE_LEAST_S = 1, /* a sixtieth of what is kept, within these */
    EXPIRE_MOST_S = 60,
    AGAIN_S = 60,         /* after something that did not work */
    LIST_AT_ONCE = 10000, /* entries of a digest run in memory */
    ROUNDS_MAX = 100,     /* of these; the rest the next day */
    FILE_MAX = 256 * 1024,
};

struct watched {         /* a quarantine, by its name */
    int64_t expire_ns;   /* monotonic: look at ages again */
    int64_t digest_ns;   /* monotonic: not before, after a failure */
    int64_t last_wall_s; /* the last digest; 0: it is not known */
};

struct quarantine_keeper {
    struct gateway *gateway;
    char *path;         /* when digests were sent */
    struct map watched; /* the thread's */
    bool has_looked_at_keys;
    pthread_mutex_t sending;
    pthread_mutex_t lock; /* for `stopping` */
    pthread_cond_t wake;
    bool stopping;
    pthread_t thread;
};

/* ---- the file ---- */

static struct watched *watch(struct quarantine_keeper *keeper, struct str name)
{
    struct watched *watched = map_get(&keeper->watched, name);
    if (!watched) {
        watched = NEW(struct watched);
        map_put(&keeper->watched, name, watched);
    }
    return watched;
}

static void read_times(struct quarantine_keeper *keeper)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, FILE_MAX);
    struct error ignored; /* there may be none yet */
    (void)!file_read_path(keeper->path, &text, &ignored);
    struct str rest = buf_str(&text), line, number;
    uint64_t value;
    while (rest.len && str_split(&rest, '\n', &line))
        if (str_split(&line, ' ', &number) && line.ptr && line.len &&
            str_to_uint(number, INT64_MAX / NS_PER_S, &value))
            watch(keeper, line)->last_wall_s = (int64_t)value;
}

static void write_times(struct quarantine_keeper *keeper)
{
    struct buf text BUF_CLEANUP;
    size_t cursor = 0;
    struct str name;
    void *value;
    buf_init(&text, FILE_MAX);
    while (map_next(&keeper->watched, &cursor, &name, &value))
        if (((struct watched *)value)->last_wall_s)
            buf_printf(&text, "%lld %.*s\n", (long long)((struct watched *)value)->last_wall_s,
                       STR_ARG(name));
    struct error err;
    if (file_replace(keeper->path, 0640, buf_str(&text), &err) != OK)
        event_emit(EVENT_QUARANTINE_PROBLEM, F_C(FILE, keeper->path), F_C(ERROR, err.text),
                   F_C(DETAIL, "a digest may be sent a second time"));
}

/* ---- limits ---- */

static void expire(struct quarantine_keeper *keeper, const struct gateway_quarantine *quarantine,
                   struct watched *watched)
{
    struct queue *queue = gateway_queue(keeper->gateway);
    int64_t now_ns = clock_monotonic_ns();
    /* one that defers removes nothing, whatever came in at the same time */
    uint64_t size = quarantine->defers ? 0 : quarantine->size;
    bool is_over = size && queue_quarantine_bytes(queue, quarantine->name) > size;
    size_t count;
    struct error err;
    if (now_ns < watched->expire_ns && !is_over)
        return;
    struct queue_quarantine_limits limits = {quarantine->name, quarantine->keep_ns, size};
    int64_t next_ns = quarantine->keep_ns / 60;
    if (next_ns < EXPIRE_LEAST_S * NS_PER_S)
        next_ns = EXPIRE_LEAST_S * NS_PER_S;
    if (next_ns > EXPIRE_MOST_S * NS_PER_S)
        next_ns = EXPIRE_MOST_S * NS_PER_S;
    watched->expire_ns = now_ns + next_ns;
    if (queue_quarantine_expire(queue, &limits, &count, &err) != OK)
        event_emit(EVENT_QUARANTINE_PROBLEM, F_STR(QUARANTINE, quarantine->name),
                   F_C(ERROR, err.text), F_C(DETAIL, "its limits could not be looked at"));
}

/* ---- digests ---- */

struct letter {    /* to one recipient */
    struct str to; /* as the first message has it */
    struct digest_item *items;
    size_t count, left_out;
};

struct round {
    struct quarantine_keeper *keeper;
    const struct gateway_quarantine *quarantine;
    struct arena *arena;
    struct queue_list list;
    bool *untold;       /* of it: the digest of a recipient could not be sent */
    struct map letters; /* by recipient */
    size_t sent, failed;
};

static void add_item(struct round *round, struct str recipient, const struct queue_item *item)
{
    struct str key = arena_lower(round->arena, recipient);
    struct letter *letter = map_get(&round->letters, key);
    if (!letter) {
        letter = ARENA_NEW(round->arena, struct letter);
        letter->to = recipient;
        map_put(&round->letters, key, letter);
    }
    if (letter->count == DIGEST_ITEMS_MAX) {
        letter->left_out++;
        return;
    }
    /* room for 1, 2, 4 … */
    if ((letter->count & (letter->count - 1)) == 0) {
        struct digest_item *grown = arena_alloc_array(
            round->arena, letter->count ? letter->count * 2 : 1, sizeof *letter->items);
        if (letter->count)
            memcpy(grown, letter->items, letter->count * sizeof *grown);
        letter->items = grown;
    }
    letter->items[letter->count++] = (struct digest_item){.item = item};
}

static void sort_out(struct round *round)
{
    for (size_t i = 0; i < round->list.count; i++) {
        const struct queue_item *item = &round->list.items[i];
        for (size_t k = 0; k < item->recipient_count; k++) {
            struct str to = item->recipients[k].address;
            if (gateway_is_own_recipient(round->keeper->gateway, to))
                add_item(round, to, item);
        }
    }
}

static bool make_links(struct round *round, struct letter *letter)
{
    for (size_t i = 0; i < letter->count; i++) {
        const struct queue_item *item = letter->items[i].item;
        struct str token;
        struct quarantine_link link = {
            .message = item->message,
            .quarantine = round->quarantine->name,
            .recipient = letter->to,
            .expires_wall_ns = item->accepted_wall_ns + round->quarantine->keep_ns,
        };
        if (!quarantine_link_make(gateway_vault(round->keeper->gateway), &link, round->arena,
                                  &token))
            return false;
        letter->items[i].url = arena_printf(round->arena, "%.*s/quarantine/%.*s",
                                            STR_ARG(round->quarantine->link), STR_ARG(token));
    }
    return true;
}

static void send_letter(struct round *round, struct letter *letter)
{
    struct error failure, *err = &failure;
    struct buf text BUF_CLEANUP;
    struct mail_id message;
    struct arena *arena = arena_new(0);
    const struct gateway_quarantine *quarantine = round->quarantine;
    struct digest digest = {.from = quarantine->from,
                            .to = letter->to,
                            .hostname = quarantine->hostname,
                            .quarantine = quarantine->name,
                            .items = letter->items,
                            .count = letter->count,
                            .left_out = letter->left_out,
                            .keep_ns = quarantine->keep_ns};
    buf_init(&text, DIGEST_MESSAGE_MAX);
    enum result result =
        make_links(round, letter) ? OK : fail(err, ERROR_PERMANENT, "no link can be made");
    quarantine_digest_write(&digest, &text);
    if (result == OK && text.overflow)
        result = fail(err, ERROR_LIMIT, "the digest is too large");
    if (result == OK)
        result = gateway_notify(round->keeper->gateway, letter->to, buf_str(&text), arena, &message,
                                err);
    if (result == OK) {
        round->sent++;
        event_emit(EVENT_QUARANTINE_DIGEST, F_C(MESSAGE, mail_id_text(message).chars),
                   F_STR(TO, letter->to), F_STR(QUARANTINE, quarantine->name),
                   F_INT(COUNT, letter->count + letter->left_out));
    } else {
        round->failed++;
        for (size_t i = 0; i < letter->count; i++)
            round->untold[letter->items[i].item - round->list.items] = true;
        event_emit(EVENT_QUARANTINE_PROBLEM, F_STR(TO, letter->to),
                   F_STR(QUARANTINE, quarantine->name), F_C(ERROR, err->text),
                   F_C(DETAIL, "a digest could not be sent; what it lists is in the next one"));
    }
    arena_free(arena);
}

static enum result note_told(struct round *round, struct error *err)
{
    struct mail_id *ids = arena_alloc_array(round->arena, round->list.count + 1, sizeof *ids);
    size_t count = 0;
    for (size_t i = 0; i < round->list.count; i++)
        if (!round->untold[i])
            ids[count++] = round->list.items[i].entry;
    return queue_quarantine_digested(gateway_queue(round->keeper->gateway), ids, count, err);
}

/* What is new, some of it; *out_more: there is more. */
static enum result run_round(struct round *round, bool *out_more, struct error *err)
{
    struct queue_selector selector = {.quarantine = round->quarantine->name,
                                      .undigested = true,
                                      .state = -1,
                                      .limit = LIST_AT_ONCE,
                                      .uncounted = true};
    size_t cursor = 0;
    struct str to;
    void *letter;
    if (queue_list(gateway_queue(round->keeper->gateway), &selector, round->arena, &round->list,
                   err) == FAILED)
        return FAILED;
    round->untold = arena_alloc_array(round->arena, round->list.count + 1, sizeof(bool));
    map_init(&round->letters);
    sort_out(round);
    while (map_next(&round->letters, &cursor, &to, &letter))
        send_letter(round, letter);
    map_done(&round->letters);
    *out_more = round->list.more && round->failed == 0;
    return note_told(round, err);
}

static enum result send_digests(struct quarantine_keeper *keeper,
                                const struct gateway_quarantine *quarantine, size_t *out_sent,
                                struct error *err)
{
    enum result result = OK;
    bool more = true;
    *out_sent = 0;
    pthread_mutex_lock(&keeper->sending);
    for (unsigned i = 0; more && i < ROUNDS_MAX && result == OK; i++) {
        struct round round = {.keeper = keeper, .quarantine = quarantine, .arena = arena_new(0)};
        result = run_round(&round, &more, err);
        *out_sent += round.sent;
        arena_free(round.arena);
    }
    pthread_mutex_unlock(&keeper->sending);
    return result;
}

/* At its time of the day; one that was missed is made up for. */
static void digest(struct quarantine_keeper *keeper, const struct gateway_quarantine *quarantine,
                   struct watched *watched)
{
    int64_t now_s = clock_wall_ns() / NS_PER_S;
    int64_t at_s = quarantine->digest_at_ns / NS_PER_S;
    int64_t due_s = now_s - now_s % DAY_S + at_s;
    struct error err;
    size_t sent;
    if (due_s > now_s)
        due_s -= DAY_S;
    if (!watched->last_wall_s || watched->last_wall_s > now_s) { /* the first is the next one */
        watched->last_wall_s = now_s;
        write_times(keeper);
    }
    if (watched->last_wall_s >= due_s || clock_monotonic_ns() < watched->digest_ns)
        return;
    if (send_digests(keeper, quarantine, &sent, &err) == OK || sent > 0) { /* never twice a day */
        watched->last_wall_s = now_s;
        write_times(keeper);
        return;
    }
    watched->digest_ns = clock_monotonic_ns() + AGAIN_S * NS_PER_S;
    event_emit(EVENT_QUARANTINE_PROBLEM, F_STR(QUARANTINE, quarantine->name), F_C(ERROR, err.text),
               F_C(DETAIL, "digests are tried again in a minute"));
}

enum result quarantine_keeper_digest(struct quarantine_keeper *keeper, struct str name,
                                     bool *out_found, size_t *out_sent, struct error *err)
{
    struct arena *arena = arena_new(0);
    size_t count;
    struct gateway_quarantine *all = gateway_quarantines(keeper->gateway, arena, &count);
    enum result result = OK;
    *out_found = false;
    *out_sent = 0;
    for (size_t i = 0; i < count && result == OK; i++) {
        size_t sent = 0;
        if (!all[i].daily || (name.len && !str_equal(all[i].name, name)))
            continue;
        *out_found = true;
        result = send_digests(keeper, &all[i], &sent, err);
        *out_sent += sent;
    }
    arena_free(arena);
    return result;
}

/* ---- the thread ---- */

/* Once all is loaded. */
static void look_at_keys(struct quarantine_keeper *keeper)
{
    struct queue *queue = gateway_queue(keeper->gateway);
    struct error err;
    size_t count;
    if (keeper->has_looked_at_keys || queue_totals(queue).loading ||
        queue_quarantine_unreadable(queue, &count, &err) != OK)
        return;
    keeper->has_looked_at_keys = true;
    if (count)
        event_emit(EVENT_QUARANTINE_PROBLEM, F_INT(COUNT, count),
                   F_C(DETAIL, "so many messages in quarantine cannot be read, since the keys that "
                               "they are encrypted with are missing; they stay"));
}

static void look(struct quarantine_keeper *keeper)
{
    struct arena *arena = arena_new(0);
    size_t count;
    struct gateway_quarantine *all = gateway_quarantines(keeper->gateway, arena, &count);
    for (size_t i = 0; i < count; i++) {
        struct watched *watched = watch(keeper, all[i].name);
        expire(keeper, &all[i], watched);
        if (all[i].daily)
            digest(keeper, &all[i], watched);
    }
    arena_free(arena);
    look_at_keys(keeper);
}

static void *run(void *arg)
{
    struct quarantine_keeper *keeper = arg;
    pthread_setname_np(pthread_self(), "quarantine");
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->stopping) {
        pthread_mutex_unlock(&keeper->lock);
        look(keeper);
        pthread_mutex_lock(&keeper->lock);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        if (!keeper->stopping)
            pthread_cond_timedwait(&keeper->wake, &keeper->lock, &until);
    }
    pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

static void destroy(struct quarantine_keeper *keeper)
{
    size_t cursor = 0;
    struct str name;
    void *value;
    while (map_next(&keeper->watched, &cursor, &name, &value))
        free(value);
    map_done(&keeper->watched);
    pthread_cond_destroy(&keeper->wake);
    pthread_mutex_destroy(&keeper->lock);
    pthread_mutex_destroy(&keeper->sending);
    free(keeper->path);
    free(keeper);
}

static char *path_of(struct str folder, const char *name)
{
    size_t size = folder.len + strlen(name) + 2;
    char *path = memory_alloc(size);
    memcpy(path, folder.ptr, folder.len);
    path[folder.len] = '/';
    memcpy(path + folder.len + 1, name, strlen(name));
    return path;
}

enum result quarantine_keeper_start(struct str folder, struct gateway *gateway,
                                    struct quarantine_keeper **out_keeper, struct error *err)
{
    struct quarantine_keeper *keeper = NEW(struct quarantine_keeper);
    pthread_condattr_t attributes;
    keeper->gateway = gateway;
    keeper->path = path_of(folder, "quarantine.digests");
    map_init(&keeper->watched);
    pthread_mutex_init(&keeper->sending, NULL);
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&keeper->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    read_times(keeper);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&keeper->thread, NULL, run, keeper);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        destroy(keeper);
        return fail_errno(err, code, "cannot start the thread of the quarantines");
    }
    *out_keeper = keeper;
    return OK;
}

void quarantine_keeper_stop(struct quarantine_keeper *keeper)
{
    if (!keeper)
        return;
    pthread_mutex_lock(&keeper->lock);
    keeper->stopping = true;
    pthread_cond_signal(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
    pthread_join(keeper->thread, NULL);
    destroy(keeper);
}
