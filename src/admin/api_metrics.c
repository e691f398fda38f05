/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/api_metrics.c - GET /metrics: what was counted from events, and what is now.
 */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/log.h"
#include "admin/metrics.h"
#include "base/buf.h"
#include "base/clock.h"
#include "gateway/operations.h"
#include "queue/queue.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { METRICS_MAX = 16 * 1024 * 1024 };

static void one(struct buf *out, const char *name, enum metric_kind kind, const char *text,
                double number)
{
    metrics_print_head(out, name, kind, text);
    metrics_print_sample(out, name, NULL, STR_EMPTY, number);
}

static void info(struct buf *out, const char *name, const char *text, const char *label,
                 struct str value)
{
    metrics_print_head(out, name, METRIC_GAUGE, text);
    metrics_print_sample(out, name, label, value, 1);
}

static void print_gateway(const struct gateway_status *status, struct buf *out)
{
    info(out, "postern_build_info", "The version.", "version", STR(POSTERN_VERSION));
    info(out, "postern_config_info", "The configuration in force.", "revision", status->revision);
    one(out, "postern_config_applied_timestamp_seconds", METRIC_GAUGE,
        "When the configuration in force was applied.", (double)status->applied_wall_ns / 1e9);
    one(out, "postern_draining", METRIC_GAUGE, "1: no new connections are taken.",
        status->draining);
    one(out, "postern_delivery_paused", METRIC_GAUGE,
        "1: nothing is delivered, after repeated crashes.", status->delivery_paused);
    metrics_print_head(out, "postern_smtp_sessions", METRIC_GAUGE, "Connections now.");
    for (size_t i = 0; i < status->listener_count; i++)
        metrics_print_sample(out, "postern_smtp_sessions", "listener", status->listeners[i].name,
                             (double)status->listeners[i].sessions);
    one(out, "postern_incidents_open", METRIC_GAUGE, "Accounts that are contained now.",
        (double)status->incidents_open);
    one(out, "postern_protected_mailboxes", METRIC_GAUGE, "Distinct mailboxes in 30 days.",
        (double)status->protected_mailboxes);
    if (status->certificate_days_left != INT_MAX)
        one(out, "postern_certificate_expiry_timestamp_seconds", METRIC_GAUGE,
            "When the first certificate of a listener ends, to the day.",
            (double)clock_wall_ns() / 1e9 + status->certificate_days_left * 86400.0);
    one(out, "postern_events_dropped_total", METRIC_COUNTER,
        "Events that the log did not keep up with: they are in no other number.",
        (double)status->events_dropped);
}

static void print_workers(const struct gateway_worker_numbers *workers, size_t count,
                          struct buf *out)
{
    static const struct {
        const char *name, *text;
        enum metric_kind kind;
    } families[] = {
        {"postern_worker_fibers", "Sessions, deliveries and helpers now.", METRIC_GAUGE},
        {"postern_worker_turns_total", "Turns of the loop.", METRIC_COUNTER},
        {"postern_worker_longest_turn_seconds",
         "The longest turn: nobody else was served meanwhile.", METRIC_GAUGE},
    };
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        metrics_print_head(out, families[f].name, families[f].kind, families[f].text);
        for (size_t i = 0; i < count; i++) {
            char name[16];
            int len = snprintf(name, sizeof name, "%zu", i);
            double values[] = {(double)workers[i].fibers, (double)workers[i].turns,
                               (double)workers[i].longest_turn_ns / 1e9};
            metrics_print_sample(out, families[f].name, "worker", str_of(name, (size_t)len),
                                 values[f]);
        }
    }
}

struct pair {
    const char *word;
    uint64_t value;
};

static void family(struct buf *out, const char *name, enum metric_kind kind, const char *text,
                   const char *label, const struct pair *pairs)
{
    metrics_print_head(out, name, kind, text);
    for (; pairs->word; pairs++)
        metrics_print_sample(out, name, label, str_c(pairs->word), (double)pairs->value);
}

static void print_queue(const struct queue_totals *totals, struct buf *out)
{
    family(out, "postern_queue_recipients", METRIC_GAUGE, "Recipients in the queue now.", "state",
           (struct pair[]){{"ready", totals->ready},
                           {"waiting", totals->waiting},
                           {"inflight", totals->inflight},
                           {"held", totals->held},
                           {0}});
    one(out, "postern_queue_unloaded_recipients", METRIC_GAUGE,
        "Recipients that are still to be loaded from the spool after a start.",
        (double)(int64_t)totals->unloaded);
    one(out, "postern_queue_entries", METRIC_GAUGE, "Messages in the queue, one a destination.",
        (double)totals->entries);
    one(out, "postern_queue_bytes", METRIC_GAUGE, "Size of the messages in the queue.",
        (double)totals->bytes);
    one(out, "postern_queue_oldest_seconds", METRIC_GAUGE,
        "Age of the oldest message in the queue.", (double)totals->oldest_ns / 1e9);
    family(out, "postern_balance_in_recipients_total", METRIC_COUNTER,
           "Recipients that came into the queue, over all restarts.", "by",
           (struct pair[]){{"accepted", totals->accepted}, {"generated", totals->generated}, {0}});
    family(out, "postern_balance_out_recipients_total", METRIC_COUNTER,
           "Recipients that left the queue, over all restarts.", "by",
           (struct pair[]){{"delivered", totals->delivered},
                           {"failed_dsn", totals->failed_dsn},
                           {"failed_silent", totals->failed_silent},
                           {"quarantined", totals->quarantined},
                           {"discarded", totals->discarded},
                           {"dropped", totals->dropped},
                           {"damaged", totals->damaged},
                           {0}});
    one(out, "postern_balance", METRIC_GAUGE,
        "What came in, less what left, less what is here: 0, but for what is just moving.",
        (double)queue_balance(totals));
}

static void print_spool(const struct gateway_spool_numbers *spool, struct buf *out)
{
    one(out, "postern_spool_has_room", METRIC_GAUGE, "0: mail is refused for lack of space.",
        spool->has_room);
    one(out, "postern_spool_units_total", METRIC_COUNTER, "Units committed.", (double)spool->units);
    one(out, "postern_spool_syncs_total", METRIC_COUNTER, "Syncs; many units share one.",
        (double)spool->syncs);
    one(out, "postern_spool_written_bytes_total", METRIC_COUNTER, "Bytes written.",
        (double)spool->bytes_written);
    one(out, "postern_spool_segments", METRIC_GAUGE, "Files of the log.", (double)spool->segments);
    one(out, "postern_spool_live_bytes", METRIC_GAUGE, "Bytes that are still needed.",
        (double)spool->live_bytes);
    one(out, "postern_spool_disk_bytes", METRIC_GAUGE, "Bytes of all files.",
        (double)spool->disk_bytes);
}

/* ---- the process ---- */

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the folder itself */
}

static void print_process(int64_t started_wall_ns, struct buf *out)
{
    struct rusage usage;
    struct rlimit files;
    unsigned long virtual_pages = 0, resident_pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file) {
        if (fscanf(file, "%lu %lu", &virtual_pages, &resident_pages) != 2)
            resident_pages = 0;
        fclose(file);
    }
    double page = (double)sysconf(_SC_PAGESIZE);
    getrusage(RUSAGE_SELF, &usage);
    getrlimit(RLIMIT_NOFILE, &files);
    double cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    one(out, "process_cpu_seconds_total", METRIC_COUNTER, "CPU time.", cpu);
    one(out, "process_resident_memory_bytes", METRIC_GAUGE, "Memory in RAM.",
        (double)resident_pages * page);
    one(out, "process_virtual_memory_bytes", METRIC_GAUGE, "Address space.",
        (double)virtual_pages * page);
    one(out, "process_open_fds", METRIC_GAUGE, "Open descriptors.", open_descriptors());
    one(out, "process_max_fds", METRIC_GAUGE, "Descriptors allowed.", (double)files.rlim_cur);
    one(out, "process_start_time_seconds", METRIC_GAUGE, "Start of the working process.",
        (double)started_wall_ns / 1e9);
}

struct gauges {
    struct gateway_status status;
    struct queue_totals totals;
    struct gateway_spool_numbers spool;
    const struct gateway_worker_numbers *workers;
    size_t worker_count;
    uint64_t log_lost;
};

static void print_gauges(const struct gauges *gauges, struct buf *out)
{
    print_gateway(&gauges->status, out);
    print_queue(&gauges->totals, out);
    print_spool(&gauges->spool, out);
    print_workers(gauges->workers, gauges->worker_count, out);
    one(out, "postern_log_lost_total", METRIC_COUNTER,
        "Lines of the log that could not be written.", (double)gauges->log_lost);
    print_process(gauges->status.started_wall_ns, out);
}

void admin_api_metrics(struct admin_request *request, struct admin_answer *answer)
{
    struct gauges gauges = {0};
    struct buf out BUF_CLEANUP;
    buf_init(&out, METRICS_MAX);
    gateway_status(request->gateway, request->arena, &gauges.status);
    gateway_spool_numbers(request->gateway, &gauges.spool);
    gauges.totals = queue_totals(gateway_queue(request->gateway));
    gauges.workers = gateway_worker_numbers(request->gateway, request->arena, &gauges.worker_count);
    gauges.log_lost = admin_log_lost(request->log);
    print_gauges(&gauges, &out);
    metrics_print(request->metrics, &out);
    answer->text = arena_str(request->arena, buf_str(&out));
    answer->type = "text/plain; version=0.0.4; charset=utf-8";
}

/* ---- for the manual ---- */

/* "# HELP NAME TEXT", "# TYPE NAME KIND", and the first sample behind them, as a row of a table. */
static void describe_family(struct str help, struct str type, struct str sample, struct buf *out)
{
    ptrdiff_t space = str_find(help, ' ');
    struct str name = str_slice(help, 0, (size_t)space);
    ptrdiff_t open = str_find(sample, '{');
    ptrdiff_t equal = str_find(sample, '=');
    buf_printf(out, "| `%.*s` | %.*s | ", STR_ARG(name), STR_ARG(str_from(type, name.len + 1)));
    if (open >= 0 && equal > open)
        buf_printf(out, "`%.*s`", STR_ARG(str_slice(sample, (size_t)open + 1, (size_t)equal)));
    buf_printf(out, " | %.*s |\n", STR_ARG(str_from(help, (size_t)space + 1)));
}

void admin_describe_gauges(struct buf *out)
{
    struct gateway_listener_status listener = {.name = STR("mx")};
    struct gateway_worker_numbers worker = {0};
    struct gauges gauges = {.workers = &worker, .worker_count = 1};
    struct buf text BUF_CLEANUP;
    struct str rest, line, help = STR_EMPTY, type = STR_EMPTY;
    gauges.status.listeners = &listener;
    gauges.status.listener_count = 1;
    buf_init(&text, METRICS_MAX);
    print_gauges(&gauges, &text);
    rest = buf_str(&text);
    while (str_split(&rest, '\n', &line)) {
        if (str_starts(line, STR("# HELP ")))
            help = str_from(line, 7);
        else if (str_starts(line, STR("# TYPE ")))
            type = str_from(line, 7);
        else if (type.len) { /* the first sample */
            describe_family(help, type, line, out);
            type = STR_EMPTY;
        }
    }
}
