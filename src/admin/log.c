/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/log.h"

#include "admin/log_journal.h"
#include "admin/log_postfix.h"
#include "admin/log_socket.h"
#include "admin/metrics.h"
#include "admin/reports.h"
#include "history/store.h"
#include "history/tail.h"
#include "mail/id.h"
#include "webhook/webhooks.h"
#include "base/buf.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_MAX_BYTES = 128 * 1024,
    BATCH_MAX = 4 * 1024 * 1024,
    WAIT_MS = 50,
    REVISION_SIZE = 16,
    SETTLE_S = 5,
};

struct admin_log {
    struct admin_log_settings settings;
    struct arena *arena;
    pthread_t thread;
    atomic_bool stop;
    atomic_bool reopen;
    atomic_uint_least64_t lost;
    int fd;

    /* the thread's */
    struct event_lines *lines;
    struct buf line;
    struct buf batch;
    size_t batch_needed;
    uint64_t reported_drops;
    struct log_socket socket;
    char (*ids)[EVENT_ID_SIZE]; /* of events, for the journal */

    pthread_mutex_t mutex; /* for what follows */
    char revision[REVISION_SIZE];
    uint64_t settle_wanted, settle_done; /* wishes to have everything told */
    pthread_cond_t settled;
};

/* ---- writing ---- */

static uint64_t count_lines(struct str text)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < text.len; i++)
        lines += text.ptr[i] == '\n';
    return lines;
}

static void write_out(struct admin_log *log)
{
    struct str rest = buf_str(&log->batch);
    while (rest.len) {
        ssize_t sent = write(log->fd, rest.ptr, rest.len);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0) {
            atomic_fetch_add(&log->lost, count_lines(rest));
            break;
        }
        rest = str_from(rest, (size_t)sent);
    }
    buf_settle(&log->batch, &log->batch_needed);
}

static int syslog_level(enum event_severity severity)
{
    static const int levels[] = {LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING, LOG_ERR};
    return levels[severity];
}

static void send_datagram(struct admin_log *log)
{
    if (log->line.overflow || !log_socket_send(&log->socket, buf_str(&log->line)))
        atomic_fetch_add(&log->lost, 1);
}

static void send_syslog(struct admin_log *log, const struct event *event, const char *name,
                        unsigned process, struct str line)
{
    char head[LOG_SOCKET_HEAD_SIZE];
    struct str text = log_socket_head(syslog_level(event_severity(event->type)), event->wall_ns,
                                      name, process, head);
    buf_clear(&log->line);
    buf_append(&log->line, text);
    buf_append(&log->line, str_trim(line));
    send_datagram(log);
}

struct postfix_line {
    struct admin_log *log;
    const struct event *event;
};

static void put_postfix_line(const char *program, unsigned process, struct str line, void *arg)
{
    struct postfix_line *context = arg;
    struct admin_log *log = context->log;
    char time[LOG_POSTFIX_TIME_SIZE], host[256], name[64];
    ptrdiff_t dot = str_find(log->settings.node, '.');
    struct str node = dot > 0 ? str_slice(log->settings.node, 0, (size_t)dot) : log->settings.node;
    snprintf(name, sizeof name, "postfix/%s", program);
    if (log->settings.target == ADMIN_LOG_SYSLOG) {
        send_syslog(log, context->event, name, process, line);
        return;
    }
    struct str now = log_postfix_time(context->event->wall_ns, time);
    buf_clear(&log->line);
    buf_printf(&log->line, "%.*s %s %s[%u]: ", STR_ARG(now),
               node.len && str_to_c(node, host, sizeof host) ? host : "localhost", name, process);
    buf_append(&log->line, line);
    buf_append_byte(&log->line, '\n');
    if (log->batch.len + log->line.len > BATCH_MAX)
        write_out(log);
    buf_append(&log->batch, buf_str(&log->line));
}

/* What a session or its message went through is of the revision that it began with: it is shown in
 * the place of the revision in force. */
static struct str revision_of(struct admin_log *log, const struct event *event,
                              char room[static REVISION_SIZE])
{
    if (event->revision.len && event->revision.len < REVISION_SIZE)
        return event->revision;
    pthread_mutex_lock(&log->mutex);
    memcpy(room, log->revision, REVISION_SIZE);
    pthread_mutex_unlock(&log->mutex);
    return str_c(room);
}

/* Behind the last field of the line: the 16 bytes of the message's id are those of its trace. */
static void put_trace(const struct event *event, struct buf *line)
{
    struct mail_id id;
    for (unsigned i = 0; i < event->count; i++) {
        const struct event_field *field = &event->fields[i];
        if (field->key != KEY_MESSAGE || field->kind != EVENT_VALUE_STR ||
            !mail_id_parse(field->text, &id) || line->len < 2)
            continue;
        line->len -= 2; /* the end of the object, and of the line */
        buf_printf(line, ",\"trace\":\"%016llx%016llx\"}\n", (unsigned long long)id.high,
                   (unsigned long long)id.low);
        return;
    }
}

static void write_event(struct admin_log *log, const struct event *event, struct str revision)
{
    if (log->settings.target == ADMIN_LOG_JOURNAL) {
        buf_clear(&log->line);
        log_journal_entry(event, log->ids[event->type], log->settings.node, revision, &log->line);
        send_datagram(log);
        return;
    }
    if (log->batch.len > BATCH_MAX)
        write_out(log);
    if (log->settings.human)
        event_format_human(event, &log->batch);
    else
        event_lines_json(log->lines, event, revision, &log->batch);
    if (log->settings.trace && !log->settings.human)
        put_trace(event, &log->batch);
    if (log->settings.target != ADMIN_LOG_SYSLOG)
        return;
    send_syslog(log, event, "postern", (unsigned)getpid(), buf_str(&log->batch));
    buf_clear(&log->batch);
}

static void take_event(const struct event *event, void *arg)
{
    struct admin_log *log = arg;
    char room[REVISION_SIZE];
    struct str revision = revision_of(log, event, room);
    if (log->settings.store)
        store_put(log->settings.store, event, revision);
    if (log->settings.metrics)
        metrics_take(log->settings.metrics, event);
    if (log->settings.reports)
        reports_take(log->settings.reports, event);
    tail_offer(log->settings.tail, event, revision);
    webhooks_offer(log->settings.webhooks, event, revision);
    if (log->settings.postfix) { /* it knows itself what Postfix would tell */
        struct postfix_line line = {log, event};
        log_postfix_lines(event, put_postfix_line, &line);
        return;
    }
    if (event_severity(event->type) >= log->settings.least)
        write_event(log, event, revision);
}

static void report_drops(struct admin_log *log)
{
    uint64_t dropped = event_dropped();
    if (dropped == log->reported_drops)
        return;
    event_emit(EVENT_TRACE_LOST, F_INT(COUNT, dropped - log->reported_drops));
    log->reported_drops = dropped;
}

static enum result open_file(struct admin_log *log, struct error *err)
{
    char path[4096];
    if (!str_to_c(log->settings.path, path, sizeof path))
        return fail(err, ERROR_PERMANENT, "log: not a path");
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return fail_errno(err, errno, "log.path: cannot open %s", path);
    if (log->fd > STDERR_FILENO)
        close(log->fd);
    log->fd = fd;
    return OK;
}

/* Those up to here are kept by what is done next. */
static uint64_t wishes(struct admin_log *log)
{
    pthread_mutex_lock(&log->mutex);
    uint64_t wanted = log->settle_wanted;
    pthread_mutex_unlock(&log->mutex);
    return wanted;
}

static void keep(struct admin_log *log, uint64_t wanted)
{
    pthread_mutex_lock(&log->mutex);
    if (log->settle_done != wanted)
        pthread_cond_broadcast(&log->settled);
    log->settle_done = wanted;
    pthread_mutex_unlock(&log->mutex);
}

static void *run(void *arg)
{
    struct admin_log *log = arg;
    pthread_setname_np(pthread_self(), "log");
    for (;;) {
        bool last = atomic_load(&log->stop);
        if (!last)
            event_wait(WAIT_MS);
        uint64_t wanted = wishes(log);
        struct error err;
        if (atomic_exchange(&log->reopen, false) && log->settings.target == ADMIN_LOG_FILE &&
            open_file(log, &err) != OK)
            event_emit(EVENT_DAEMON_WARNING, F_C(DETAIL, err.text));
        store_hold(log->settings.store);
        metrics_hold(log->settings.metrics);
        event_drain(take_event, log);
        webhooks_release(log->settings.webhooks);
        metrics_release(log->settings.metrics);
        store_release(log->settings.store);
        report_drops(log);
        write_out(log);
        keep(log, wanted);
        if (last)
            return NULL;
    }
}

/* Syslog may come later. Without a journal the lines go to the standard output, which is what the
 * word meant before, and what containers want. */
static void open_collector(struct admin_log *log)
{
    struct admin_log_settings *settings = &log->settings;
    bool journal = settings->target == ADMIN_LOG_JOURNAL;
    struct error err;
    struct str usual = journal ? STR(LOG_SOCKET_JOURNAL) : STR(LOG_SOCKET_SYSLOG);
    log_socket_init(&log->socket, settings->socket.len ? settings->socket : usual,
                    /* takes_files= */ journal);
    if (!journal)
        return;
    if (settings->postfix || log_socket_connect(&log->socket, &err) != OK) {
        settings->target = ADMIN_LOG_STDOUT;
        return;
    }
    log->ids = memory_alloc_array(EVENT_TYPE_COUNT, sizeof *log->ids);
    for (int i = 0; i < EVENT_TYPE_COUNT; i++)
        (void)log_journal_id((enum event_type)i, log->ids[i]);
}

enum result admin_log_start(const struct admin_log_settings *settings, struct admin_log **out_log,
                            struct error *err)
{
    struct admin_log *log = NEW(struct admin_log);
    log->settings = *settings;
    log->arena = arena_new(0);
    log->settings.node = arena_str(log->arena, settings->node);
    log->settings.path = arena_str(log->arena, settings->path);
    log->settings.socket = arena_str(log->arena, settings->socket);
    log->fd = STDOUT_FILENO;
    log->lines = event_lines_new(log->settings.node);
    buf_init(&log->line, LINE_MAX_BYTES);
    buf_init(&log->batch, BATCH_MAX + LINE_MAX_BYTES);
    pthread_mutex_init(&log->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&log->settled, &monotonic);
    pthread_condattr_destroy(&monotonic);
    enum result result = OK;
    open_collector(log);
    if (settings->target == ADMIN_LOG_FILE)
        result = open_file(log, err);
    if (result == OK && pthread_create(&log->thread, NULL, run, log) != 0)
        result = fail(err, ERROR_LIMIT, "cannot start the log thread");
    if (result != OK) {
        log_socket_close(&log->socket);
        free(log->ids);
        event_lines_free(log->lines);
        arena_free(log->arena);
        free(log);
        return FAILED;
    }
    *out_log = log;
    return OK;
}

void admin_log_stop(struct admin_log *log)
{
    if (!log)
        return;
    atomic_store(&log->stop, true);
    pthread_join(log->thread, NULL);
    if (log->fd > STDERR_FILENO)
        close(log->fd);
    log_socket_close(&log->socket);
    free(log->ids);
    buf_done(&log->line);
    buf_done(&log->batch);
    event_lines_free(log->lines);
    pthread_cond_destroy(&log->settled);
    pthread_mutex_destroy(&log->mutex);
    arena_free(log->arena);
    free(log);
}

bool admin_log_settle(struct admin_log *log)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += SETTLE_S;
    pthread_mutex_lock(&log->mutex);
    uint64_t wish = ++log->settle_wanted;
    pthread_mutex_unlock(&log->mutex);
    event_hurry();
    pthread_mutex_lock(&log->mutex);
    while (log->settle_done < wish &&
           pthread_cond_timedwait(&log->settled, &log->mutex, &until) == 0)
        ;
    bool settled = log->settle_done >= wish;
    pthread_mutex_unlock(&log->mutex);
    return settled;
}

void admin_log_set_revision(struct admin_log *log, struct str revision)
{
    pthread_mutex_lock(&log->mutex);
    if (!str_to_c(revision, log->revision, sizeof log->revision))
        log->revision[0] = '\0';
    pthread_mutex_unlock(&log->mutex);
}

void admin_log_reopen(struct admin_log *log)
{
    atomic_store(&log->reopen, true);
}

uint64_t admin_log_lost(const struct admin_log *log)
{
    return atomic_load(&log->lost);
}
