/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/serve.c - one entry at its destination: an attempt, and what the destination learns of it.
 */
#include "base/memory.h"
#include "event/event.h"
#include "queue/hook.h"
#include "queue/site.h"

static void report(struct queue_site *site, const struct queue_attempt *attempt)
{
    struct queue_destination_news news;
    struct str key = queue_destination_key(site->destination);
    if (attempt->stopped)
        return;
    int64_t now_ns = clock_monotonic_ns();
    if (attempt->reached) {
        queue_destination_count(site->destination, site->worker->index, now_ns);
        queue_destination_success(site->destination, site->max, &news);
    } else {
        queue_destination_failure(site->destination, attempt->start_ns, now_ns, &attempt->error,
                                  &news);
    }
    if (news.backed_off)
        event_emit(EVENT_DESTINATION_BACKOFF, F_STR(DESTINATION, key),
                   F_C(ERROR, attempt->error.text), F_INT(COUNT, news.failures));
    if (news.came_up)
        event_emit(EVENT_DESTINATION_UP, F_STR(DESTINATION, key));
}

static void note_finished(struct queue_site *site)
{
    struct queue_worker *worker = site->worker;
    int64_t now_ns = clock_monotonic_ns();
    int64_t past_ns = now_ns - worker->window_start_ns;
    queue_site_note_progress(site);
    worker->finished++;
    if (past_ns < 100 * NS_PER_MS)
        return;
    double rate = (double)worker->finished * (double)NS_PER_S / (double)past_ns;
    worker->rate = worker->rate == 0 || past_ns > NS_PER_S ? rate : 0.5 * (worker->rate + rate);
    worker->finished = 0;
    worker->window_start_ns = now_ns;
}

/* What comes before anything is sent. False: the entry is dealt with, or stays as it is. */
static bool prepare(struct queue_attempt *attempt) MAY_YIELD
{
    struct error err;
    if (queue_attempt_bar(attempt))
        return false;
    if (queue_is_expired(attempt)) {
        queue_settle_time(attempt);
        return false;
    }
    if (queue_attempt_load(attempt, &err) == OK)
        return true;
    if (err.kind == ERROR_PERMANENT) {
        queue_settle_damaged(attempt);
        return false;
    }
    attempt->stopped = err.kind == ERROR_CANCELLED;
    if (attempt->stopped)
        queue_settle(attempt);
    else
        queue_settle_unread(attempt, &err);
    return false;
}

bool queue_site_serve(struct queue_site *site, struct queue_entry *entry,
                      struct queue_connection *connection)
{
    struct queue_worker *worker = site->worker;
    struct arena *arena = arena_new(0);
    struct queue_attempt attempt;
    int64_t ready_since_ns = entry->ready_since_ns;
    _Atomic uint64_t *slot = queue_poison_note(worker, entry->id);
    bool reached = true;
    queue_attempt_init(&attempt, entry, arena);
    attempt.times.queue_us = (attempt.start_ns - ready_since_ns) / NS_PER_US;
    if (site->limited_since_ns != 0)
        attempt.times.limit_us =
            (attempt.start_ns -
             (site->limited_since_ns > ready_since_ns ? site->limited_since_ns : ready_since_ns)) /
            NS_PER_US;
    if (prepare(&attempt)) {
        if (queue_hook_deliver(&attempt, connection))
            report(site, &attempt);
        reached = attempt.reached;
        if (reached)
            note_finished(site);
        queue_settle(&attempt);
    }
    queue_attempt_done(&attempt);
    queue_poison_clear(slot);
    arena_free(arena);
    return reached;
}

void queue_site_refuse(struct queue_entry *entry, const struct error *error)
{
    struct arena *arena = arena_new(0);
    struct queue_attempt attempt;
    queue_attempt_init(&attempt, entry, arena);
    if (attempt.transport == NULL) {
        queue_entry_hold(entry, MAIL_REASON_TRANSPORT_MISSING, arena);
    } else {
        struct mail_reply reply = {.enhanced = {4, 4, 1}, .text = str_c(error->text)};
        int64_t late_ns = attempt.start_wall_ns - attempt.record.due_wall_ns;
        attempt.start_wall_ns -= late_ns;
        attempt.start_ns -= late_ns;
        for (size_t i = 0; i < attempt.meta.recipient_count; i++)
            attempt.results[i].said.reply = reply;
        queue_settle(&attempt);
    }
    queue_attempt_done(&attempt);
    arena_free(arena);
}
