/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway.h"

#include "base/check.h"
#include "base/memory.h"
#include "directory/directory.h"
#include "event/event.h"
#include "fiber/lane.h"
#include "gateway/ask.h"
#include "gateway/contain.h"
#include "gateway/glue.h"
#include "gateway/mailboxes.h"
#include "gateway/quarantine.h"
#include "gateway/replies.h"
#include "gateway/settings.h"
#include "gateway/worker.h"
#include "net/dns.h"
#include "net/tls.h"
#include "spool/spool.h"
#include "spool/vault.h"
#include "state/keeper.h"
#include "state/state.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    STATE_ENTRIES = 500000,
    WORKERS_MAX = 64,
    ALIVE_S = 5,
    HTTP_THREADS = 16, /* of scripts: each waits for its web service */
    HTTP_WAITING = 200,
    INCIDENTS_WAITING = 200,
};

/* ---- start ---- */

static size_t count_workers(const struct settings *settings)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t count = settings->workers > 0 ? (size_t)settings->workers
                   : cores > 0           ? (size_t)cores
                                         : 1;
    return count < WORKERS_MAX ? count : WORKERS_MAX;
}

static void recover_entry(void *context, const struct spool_found *found)
{
    queue_recover(((struct gateway *)context)->queue, found);
}

/* Beside the mail: whoever moves the spool moves the orders with it. */
static enum result open_steering(struct gateway *gateway, struct error *err)
{
    struct arena *arena = arena_new(0);
    struct str path = arena_printf(arena, "%.*s/steering", STR_ARG(gateway->settings->spool.path));
    enum result result = queue_open_steering(gateway->queue, path, err);
    arena_free(arena);
    return result;
}

/* Before the queue is read: what it holds may be mail of an account that is contained. */
static enum result load_incidents(struct gateway *gateway, struct error *err)
{
    struct arena *arena = arena_new(0);
    struct str path = arena_printf(arena, "%.*s/incidents", STR_ARG(gateway->settings->spool.path));
    enum result result = incidents_load(gateway->incidents, path, err);
    arena_free(arena);
    return result;
}

/* Counts and answers that outlive a restart lie beside the history. Mail works without them. */
static void keep_state(struct gateway *gateway)
{
    const struct settings *settings = gateway->settings;
    struct arena *arena = arena_new(0);
    struct str folder = settings->events.path.len ? settings->events.path : settings->spool.path;
    struct str path = arena_printf(arena, "%.*s/state.db", STR_ARG(folder));
    struct state_keeper *keeper;
    struct error err;
    bool aside = false;
    enum result result = state_keeper_open_sqlite(path.ptr, &keeper, &aside, &err);
    if (aside)
        event_emit(EVENT_DAEMON_WARNING, F_STR(FILE, path),
                   F_C(DETAIL, "was damaged and set aside: limits, greylisting and the count of "
                               "mailboxes begin anew"));
    if (result == OK)
        result = state_keep(gateway->state, keeper, mailboxes_take, gateway->mailboxes, &err);
    if (result != OK)
        event_emit(EVENT_DAEMON_WARNING, F_STR(FILE, path), F_C(ERROR, err.text),
                   F_C(DETAIL, "counts and answers will not outlive a restart"));
    arena_free(arena);
}

/* The queue exists before the spool is open, for the spool tells it what it finds. */
static enum result open_spool(struct gateway *gateway, struct loop *const *loops, struct error *err)
{
    struct queue_handler handler;
    if (load_incidents(gateway, err) != OK)
        return FAILED;
    glue_fill_handler(gateway, &handler);
    gateway->state = state_new(loops, gateway->worker_count, STATE_ENTRIES);
    keep_state(gateway);
    contain_forget_unsettled(gateway);
    gateway->queue =
        queue_new(/* spool= */ NULL, gateway->state, &handler, loops, gateway->worker_count);
    if (incidents_is_unsettled(gateway->incidents))
        queue_settle_found(gateway->queue);
    if (gateway->options.poison_page)
        queue_poison_page(gateway->queue, gateway->options.poison_page);
    queue_set_suspects(gateway->queue, gateway->options.suspects, gateway->options.suspect_count);
    if (gateway->options.delivery_paused)
        queue_stop_delivery(gateway->queue);
    queue_set_memory_budget(gateway->queue, gateway->settings->memory.messages);
    struct spool_settings spool = gateway->settings->spool;
    /* what is read faster than anybody could notice is known before mail is taken; the rest is
     * loaded from when the last worker joined the queue */
    spool.load_later_over = UINT64_C(64) << 20;
    if (spool_open(&spool, recover_entry, gateway, &gateway->spool, err) != OK ||
        quarantine_open(gateway, err) != OK)
        return FAILED;
    queue_set_spool(gateway->queue, gateway->spool);
    return open_steering(gateway, err);
}

static enum result start_workers(struct gateway *gateway, struct error *err)
{
    size_t count = gateway->worker_count;
    struct loop *loops[WORKERS_MAX];
    pthread_barrier_init(&gateway->loops_made, NULL, (unsigned)count + 1);
    pthread_barrier_init(&gateway->parts_made, NULL, (unsigned)count + 1);
    pthread_barrier_init(&gateway->ended, NULL, (unsigned)count);
    for (size_t i = 0; i < count; i++) {
        gateway->workers[i].gateway = gateway;
        gateway->workers[i].index = i;
        if (worker_start(&gateway->workers[i], err) != OK)
            return FAILED; /* the process ends: nothing waits for the others */
    }
    pthread_barrier_wait(&gateway->loops_made);
    for (size_t i = 0; i < count; i++) {
        loops[i] = gateway->workers[i].loop;
        if (!loops[i]) {
            *err = gateway->workers[i].error;
            return FAILED;
        }
    }
    if (open_spool(gateway, loops, err) != OK)
        return FAILED;
    pthread_barrier_wait(&gateway->loops_made);
    pthread_barrier_wait(&gateway->parts_made);
    for (size_t i = 0; i < count; i++) {
        if (gateway->workers[i].error.kind != ERROR_NONE) {
            *err = gateway->workers[i].error;
            return FAILED;
        }
    }
    return OK;
}

struct probe {
    enum result result;
    struct error *err;
};

NO_YIELD_CHECK static void probe_dnssec(void *arg)
{
    struct probe *probe = arg;
    probe->result = dns_probe_dnssec(worker_current()->dns, STR_EMPTY, probe->err);
}

/* A resolver that strips signatures is an error of the configuration; one that does not answer now
 * may answer later. */
static enum result check_dnssec(struct gateway *gateway, struct error *err)
{
    struct probe probe = {.err = err};
    if (gateway->settings->dns.dnssec == DNS_DNSSEC_NONE)
        return OK;
    if (ask_worker(&gateway->workers[0], probe_dnssec, &probe, err) != OK)
        return FAILED;
    if (probe.result == OK || err->kind == ERROR_PERMANENT)
        return probe.result;
    event_emit(EVENT_DAEMON_WARNING, F_C(DETAIL, "DNSSEC could not be probed"),
               F_C(ERROR, err->text));
    return OK;
}

enum result gateway_new(struct settings *settings, const struct gateway_options *options,
                        struct gateway **out_gateway, struct error *err)
{
    struct gateway *gateway = NEW(struct gateway);
    gateway->options = *options;
    gateway->settings = settings_ref(settings);
    gateway->start = gateway_start_of(settings);
    gateway->worker_count = count_workers(settings);
    gateway->workers = memory_alloc_array(gateway->worker_count, sizeof(struct worker));
    for (size_t i = 0; i < gateway->worker_count; i++)
        intake_budget_init(&gateway->workers[i].intake,
                           gateway->settings->memory.messages / gateway->worker_count);
    gateway->directories = directory_shared_new();
    gateway->http = lane_new("http", HTTP_THREADS, HTTP_WAITING);
    gateway->occupancy = occupancy_new();
    gateway->replies = replies_new();
    gateway->mailboxes = mailboxes_new();
    gateway->incidents = incidents_new();
    gateway->incident_lane = lane_new("incidents", 1, INCIDENTS_WAITING);
    pthread_mutex_init(&gateway->settling, NULL);
    gateway->started_wall_ns = clock_wall_ns();
    pthread_mutex_init(&gateway->mutex, NULL);
    map_init(&gateway->expiring);
    pthread_cond_init(&gateway->answered, NULL);
    /* on failure the caller ends the process: threads may wait at the barriers */
    if (start_workers(gateway, err) != OK || check_dnssec(gateway, err) != OK)
        return FAILED;
    *out_gateway = gateway;
    return OK;
}

/* ---- reload ---- */

static void warn_restart(const char *section)
{
    event_emit(EVENT_DAEMON_WARNING, F_C(OBJECT, section),
               F_C(DETAIL, "changed, but in force only after the next start"));
}

static bool is_among(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (names[i] == name)
            return true;
    return false;
}

/* What stays as it was is told when it changes, and not again with each later change. */
static void tell_unapplied(struct gateway *gateway, const struct settings *before,
                           const struct settings *after)
{
    const char *pending[GATEWAY_SECTIONS];
    const char *changed[GATEWAY_SECTIONS];
    struct gateway_start former = gateway_start_of(before);
    size_t pending_count = gateway_restart_sections(&gateway->start, after, pending);
    size_t changed_count = gateway_restart_sections(&former, after, changed);
    for (size_t i = 0; i < pending_count; i++)
        if (is_among(pending[i], changed, changed_count))
            warn_restart(pending[i]);
}

void gateway_apply(struct gateway *gateway, struct settings *settings, const int *fds, size_t count)
{
    pthread_mutex_lock(&gateway->mutex);
    struct settings *before = gateway->settings;
    gateway->settings = settings_ref(settings);
    gateway->applied_wall_ns = clock_wall_ns();
    gateway->pending = gateway->worker_count;
    pthread_mutex_unlock(&gateway->mutex);
    if (before != settings)
        tell_unapplied(gateway, before, settings);
    quarantine_prepare(gateway, settings);
    mailboxes_entitle(gateway->mailboxes, settings->entitlements.protected_mailboxes);
    for (size_t i = 0; i < gateway->worker_count; i++)
        worker_apply(&gateway->workers[i], settings, fds, count);
    pthread_mutex_lock(&gateway->mutex);
    while (gateway->pending)
        pthread_cond_wait(&gateway->answered, &gateway->mutex);
    pthread_mutex_unlock(&gateway->mutex);
    settings_unref(before);
}

void gateway_share(struct gateway *gateway, struct settings *trial, unsigned share)
{
    pthread_mutex_lock(&gateway->mutex);
    gateway->pending = gateway->worker_count;
    pthread_mutex_unlock(&gateway->mutex);
    for (size_t i = 0; i < gateway->worker_count; i++)
        worker_share(&gateway->workers[i], trial, share);
    pthread_mutex_lock(&gateway->mutex);
    while (gateway->pending)
        pthread_cond_wait(&gateway->answered, &gateway->mutex);
    pthread_mutex_unlock(&gateway->mutex);
}

/* ---- end ---- */

void gateway_drain(struct gateway *gateway, int64_t deadline_ns)
{
    atomic_store(&gateway->draining, true);
    lane_stop(gateway->http);
    for (size_t i = 0; i < gateway->worker_count; i++)
        worker_drain(&gateway->workers[i], deadline_ns);
    for (size_t i = 0; i < gateway->worker_count; i++)
        pthread_join(gateway->workers[i].thread, NULL);
    lane_free(take(gateway->incident_lane));
    spool_close(gateway->spool);
    gateway->spool = NULL;
}

void gateway_free(struct gateway *gateway)
{
    check(gateway->spool == NULL);
    queue_free(gateway->queue);
    spool_vault_close(gateway->vault);
    state_free(gateway->state);
    lane_free(gateway->http);
    directory_shared_free(gateway->directories);
    occupancy_free(gateway->occupancy);
    replies_free(gateway->replies);
    mailboxes_free(gateway->mailboxes);
    incidents_free(gateway->incidents);
    settings_unref(gateway->settings);
    pthread_barrier_destroy(&gateway->loops_made);
    pthread_barrier_destroy(&gateway->parts_made);
    pthread_barrier_destroy(&gateway->ended);
    map_done(&gateway->expiring);
    pthread_mutex_destroy(&gateway->mutex);
    pthread_mutex_destroy(&gateway->settling);
    pthread_cond_destroy(&gateway->answered);
    free(gateway->workers);
    free(gateway);
}

/* ---- watching ---- */

bool gateway_is_alive(struct gateway *gateway)
{
    int64_t now = clock_monotonic_ns();
    for (size_t i = 0; i < gateway->worker_count; i++) {
        struct worker *worker = &gateway->workers[i];
        uint64_t beats = atomic_load_explicit(&worker->heartbeats, memory_order_relaxed);
        if (beats != worker->seen_beats || worker->seen_ns == 0) {
            worker->seen_beats = beats;
            worker->seen_ns = now;
        } else if (now - worker->seen_ns > ALIVE_S * NS_PER_S) {
            return false;
        }
    }
    return true;
}

void gateway_refresh(struct gateway *gateway)
{
    gateway_settle_incidents(gateway);
    pthread_mutex_lock(&gateway->mutex);
    struct settings *settings = settings_ref(gateway->settings);
    pthread_mutex_unlock(&gateway->mutex);
    for (size_t i = 0; i < settings->listener_count; i++) {
        if (settings->listeners[i].smtp.tls_context)
            tls_context_refresh(settings->listeners[i].smtp.tls_context);
    }
    settings_unref(settings);
    gateway_tell_expiring(gateway);
}
