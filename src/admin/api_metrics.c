/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/api_metrics.c - GET /metrics: what was counted from events, and what is now.
 */
#include "admin/routes.h"

#include "admin/domain_watch.h"
#include "admin/http.h"
#include "admin/log.h"
#include "admin/metrics.h"
#include "admin/queue_selector.h"
#include "admin/transport_numbers.h"
#include "base/buf.h"
#include "base/clock.h"
#include "gateway/operations.h"
#include "history/store.h"
#include "net/dns.h"
#include "queue/queue.h"
#include "webhook/webhooks.h"

#include <dirent.h>
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
    one(out, "postern_config_last_apply_timestamp_seconds", METRIC_GAUGE,
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

/* Those that happened: a listener, a command, a class. */
static void print_replies(const struct gateway_replies *replies, size_t count, struct buf *out)
{
    char labels[256];
    metrics_print_head(out, "postern_smtp_replies_total", METRIC_COUNTER,
                       "Replies to clients, counted when their connections end.");
    for (size_t i = 0; i < count; i++) {
        struct str listener = str_slice(replies[i].listener, 0, 120);
        for (size_t k = 0; k < SMTP_ANSWERED_COUNT * SMTP_REPLY_CLASSES; k++) {
            uint64_t number = replies[i].counts[k / SMTP_REPLY_CLASSES][k % SMTP_REPLY_CLASSES];
            if (!number)
                continue;
            int len =
                snprintf(labels, sizeof labels, "listener=\"%.*s\",command=\"%s\",code=\"%zuxx\"",
                         STR_ARG(listener), smtp_answered_names[k / SMTP_REPLY_CLASSES],
                         2 + k % SMTP_REPLY_CLASSES);
            metrics_print_labelled(out, "postern_smtp_replies_total", str_of(labels, (size_t)len),
                                   (double)number);
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

static void print_quarantines(const struct queue_quarantine_numbers *quarantines, size_t count,
                              struct buf *out)
{
    metrics_print_head(out, "postern_quarantine_messages", METRIC_GAUGE,
                       "Messages in quarantine now.");
    for (size_t i = 0; i < count; i++)
        metrics_print_sample(out, "postern_quarantine_messages", "quarantine", quarantines[i].name,
                             (double)quarantines[i].entries);
    metrics_print_head(out, "postern_quarantine_bytes", METRIC_GAUGE, "Their size.");
    for (size_t i = 0; i < count; i++)
        metrics_print_sample(out, "postern_quarantine_bytes", "quarantine", quarantines[i].name,
                             (double)quarantines[i].bytes);
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

/* ---- DNS ---- */

static uint64_t dns_total(const uint64_t counts[DNS_KINDS][DNS_RESULTS])
{
    uint64_t total = 0;
    for (size_t kind = 0; kind < DNS_KINDS; kind++) {
        for (size_t result = 0; result < DNS_RESULTS; result++)
            total += counts[kind][result];
    }
    return total;
}

static void print_dns_counts(const uint64_t counts[DNS_KINDS][DNS_RESULTS], const char *cached,
                             struct buf *out)
{
    char labels[80];
    for (size_t kind = 0; kind < DNS_KINDS; kind++) {
        for (size_t result = 0; result < DNS_RESULTS; result++) {
            int len = snprintf(labels, sizeof labels, "type=\"%s\",result=\"%s\",cached=\"%s\"",
                               dns_kind_names[kind], dns_result_names[result], cached);
            metrics_print_labelled(out, "postern_dns_queries_total", str_of(labels, (size_t)len),
                                   (double)counts[kind][result]);
        }
    }
}

static void print_dns(const struct dns_numbers *numbers, struct buf *out)
{
    char labels[32];
    double total = (double)dns_total(numbers->asked);
    double cached = (double)dns_total(numbers->cached);
    uint64_t sum = 0;
    metrics_print_head(out, "postern_dns_queries_total", METRIC_COUNTER,
                       "Questions to DNS; cached: answered without asking anybody.");
    print_dns_counts(numbers->asked, "false", out);
    print_dns_counts(numbers->cached, "true", out);
    one(out, "postern_dns_cached_ratio", METRIC_GAUGE,
        "Share of the questions since the start that the cache answered.",
        total + cached > 0 ? cached / (total + cached) : 0);
    metrics_print_head(out, "postern_dns_query_seconds", METRIC_HISTOGRAM,
                       "How long questions took that the cache did not answer.");
    for (size_t i = 0; i < DNS_BOUNDS; i++) {
        sum += numbers->took[i];
        int len = snprintf(labels, sizeof labels, "le=\"%g\"", dns_bounds[i]);
        metrics_print_labelled(out, "postern_dns_query_seconds_bucket", str_of(labels, (size_t)len),
                               (double)sum);
    }
    metrics_print_labelled(out, "postern_dns_query_seconds_bucket", STR("le=\"+Inf\""), total);
    metrics_print_sample(out, "postern_dns_query_seconds_sum", NULL, STR_EMPTY,
                         (double)numbers->took_us / 1e6);
    metrics_print_sample(out, "postern_dns_query_seconds_count", NULL, STR_EMPTY, total);
}

/* ---- a change that waits for its confirmation ---- */

static void print_unconfirmed(bool unconfirmed, int64_t confirm_by_ns, struct buf *out)
{
    double left =
        unconfirmed && confirm_by_ns ? (double)(confirm_by_ns - clock_wall_ns()) / 1e9 : 0;
    one(out, "postern_config_unconfirmed", METRIC_GAUGE,
        "1: a configuration waits for its confirmation, or has a share of the sessions.",
        unconfirmed);
    one(out, "postern_config_unconfirmed_left_seconds", METRIC_GAUGE,
        "After this it is taken back by itself; 0 when nothing is, or it has no such time.",
        left > 0 ? left : 0);
}

/* ---- transports ---- */

/* Of each transport and each state. */
static void print_by_state(const struct transport_numbers *transports, size_t count,
                           const char *name, const char *text, bool bytes, struct buf *out)
{
    metrics_print_head(out, name, METRIC_GAUGE, text);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k <= QUEUE_PAUSED; k++)
            metrics_print_pair(out, name, "transport", transports[i].name, "state",
                               admin_state_name((enum queue_state)k),
                               (double)(bytes ? transports[i].bytes : transports[i].messages)[k]);
    }
}

static void print_transports(const struct transport_numbers *transports, size_t count,
                             double seconds, struct buf *out)
{
    int64_t now_ns = clock_wall_ns();
    print_by_state(transports, count, "postern_queue_messages",
                   "Messages in the queue, one a destination.", false, out);
    print_by_state(transports, count, "postern_queue_bytes", "Their size.", true, out);
    metrics_print_head(out, "postern_queue_oldest_seconds", METRIC_GAUGE,
                       "Age of the oldest of them that is not held; 0: there is none.");
    for (size_t i = 0; i < count; i++) {
        int64_t oldest_ns = transports[i].oldest_wall_ns;
        metrics_print_sample(out, "postern_queue_oldest_seconds", "transport", transports[i].name,
                             oldest_ns && oldest_ns < now_ns ? (double)(now_ns - oldest_ns) / 1e9
                                                             : 0);
    }
    metrics_print_head(out, "postern_queue_paused", METRIC_GAUGE,
                       "1: an operator paused all of the transport (admin), or mail waits for its "
                       "rate (limit).");
    for (size_t i = 0; i < count; i++) {
        metrics_print_pair(out, "postern_queue_paused", "transport", transports[i].name, "by",
                           "admin", transports[i].paused);
        metrics_print_pair(out, "postern_queue_paused", "transport", transports[i].name, "by",
                           "limit", transports[i].limited);
    }
    one(out, "postern_queue_survey_age_seconds", METRIC_GAUGE,
        "How old these numbers are: a long queue is not walked through each time.", seconds);
}

/* ---- webhooks ---- */

static void print_webhook_results(const struct webhook_status *webhooks, size_t count,
                                  struct buf *out)
{
    static const char *const results[] = {"delivered", "failed", "dropped"};
    metrics_print_head(out, "postern_webhook_deliveries_total", METRIC_COUNTER,
                       "Deliveries that are over: taken by the receiver, given up, or dropped as "
                       "too many waited.");
    for (size_t i = 0; i < count; i++) {
        const uint64_t numbers[] = {webhooks[i].delivered, webhooks[i].failed, webhooks[i].dropped};
        for (size_t k = 0; k < sizeof results / sizeof *results; k++)
            metrics_print_pair(out, "postern_webhook_deliveries_total", "endpoint",
                               webhooks[i].name, "result", results[k], (double)numbers[k]);
    }
}

static void print_webhooks(const struct webhook_status *webhooks, size_t count, struct buf *out)
{
    int64_t now_ms = clock_steady_wall_ns() / NS_PER_MS;
    print_webhook_results(webhooks, count, out);
    metrics_print_head(out, "postern_webhook_attempts_failed_total", METRIC_COUNTER,
                       "Attempts of a delivery that failed.");
    for (size_t i = 0; i < count; i++)
        metrics_print_sample(out, "postern_webhook_attempts_failed_total", "endpoint",
                             webhooks[i].name, (double)webhooks[i].attempts_failed);
    metrics_print_head(out, "postern_webhook_pending", METRIC_GAUGE, "Deliveries that wait.");
    for (size_t i = 0; i < count; i++)
        metrics_print_sample(out, "postern_webhook_pending", "endpoint", webhooks[i].name,
                             (double)webhooks[i].pending);
    metrics_print_head(out, "postern_webhook_oldest_seconds", METRIC_GAUGE,
                       "Age of the oldest that waits.");
    for (size_t i = 0; i < count; i++) {
        int64_t oldest_ms = webhooks[i].oldest_ms;
        metrics_print_sample(out, "postern_webhook_oldest_seconds", "endpoint", webhooks[i].name,
                             oldest_ms && oldest_ms < now_ms ? (double)(now_ms - oldest_ms) / 1e3
                                                             : 0);
    }
    metrics_print_head(out, "postern_webhook_up", METRIC_GAUGE,
                       "0: the receiver fails again and again, or answered 410.");
    for (size_t i = 0; i < count; i++)
        metrics_print_sample(out, "postern_webhook_up", "endpoint", webhooks[i].name,
                             !webhooks[i].is_failing && !webhooks[i].is_disabled);
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

static void print_certificates(const struct gateway_certificate *certificates, size_t count,
                               struct buf *out)
{
    metrics_print_head(out, "postern_certificate_expiry_timestamp_seconds", METRIC_GAUGE,
                       "When a certificate of the listeners ends, or the first one of its chain.");
    for (size_t i = 0; i < count; i++)
        metrics_print_sample(out, "postern_certificate_expiry_timestamp_seconds", "name",
                             certificates[i].name, (double)certificates[i].ends_at_s);
}

/* Each event once: `all` never reached any of the sinks, and is in no other number. */
static void print_dropped(uint64_t all, uint64_t log, uint64_t history, uint64_t webhooks,
                          struct buf *out)
{
    family(out, "postern_events_dropped_total", METRIC_COUNTER,
           "Events that were lost: before all (all), or for the log, the history or, before their "
           "outbox, the webhooks alone.",
           "sink",
           (struct pair[]){
               {"all", all}, {"log", log}, {"history", history}, {"webhooks", webhooks}, {0}});
}

static void print_domains(const struct domain_watch_numbers *domains, struct buf *out)
{
    struct pair pairs[DOMAIN_WATCHED + 1] = {{0}};
    static const char *const words[DOMAIN_WATCHED] = {
        [DOMAIN_MX] = "mx", [DOMAIN_SPF] = "spf", [DOMAIN_DKIM] = "dkim", [DOMAIN_DMARC] = "dmarc"};
    for (size_t i = 0; i < DOMAIN_WATCHED; i++)
        pairs[i] = (struct pair){words[i], domains->unhealthy[i]};
    family(out, "postern_domains_unhealthy", METRIC_GAUGE,
           "Listed domains of which DNS says something wrong, as of the last look.", "check",
           pairs);
}

struct gauges {
    struct gateway_status status;
    struct domain_watch_numbers domains;
    const struct gateway_replies *replies;
    size_t reply_count;
    struct queue_totals totals;
    struct gateway_spool_numbers spool;
    const struct gateway_worker_numbers *workers;
    size_t worker_count;
    const struct queue_quarantine_numbers *quarantines;
    size_t quarantine_count;
    const struct gateway_certificate *certificates;
    size_t certificate_count;
    uint64_t log_lost, history_lost, webhooks_lost;
    struct dns_numbers dns;
    bool unconfirmed;
    int64_t confirm_by_ns;
    const struct transport_numbers *transports;
    size_t transport_count;
    double transports_age_s;
    const struct webhook_status *webhooks;
    size_t webhook_count;
};

static void print_gauges(const struct gauges *gauges, struct buf *out)
{
    print_gateway(&gauges->status, out);
    print_replies(gauges->replies, gauges->reply_count, out);
    print_domains(&gauges->domains, out);
    print_unconfirmed(gauges->unconfirmed, gauges->confirm_by_ns, out);
    print_queue(&gauges->totals, out);
    print_transports(gauges->transports, gauges->transport_count, gauges->transports_age_s, out);
    print_dns(&gauges->dns, out);
    print_quarantines(gauges->quarantines, gauges->quarantine_count, out);
    print_spool(&gauges->spool, out);
    print_workers(gauges->workers, gauges->worker_count, out);
    print_webhooks(gauges->webhooks, gauges->webhook_count, out);
    print_certificates(gauges->certificates, gauges->certificate_count, out);
    print_dropped(gauges->status.events_dropped, gauges->log_lost, gauges->history_lost,
                  gauges->webhooks_lost, out);
    print_process(gauges->status.started_wall_ns, out);
}

void admin_api_metrics(struct admin_request *request, struct admin_answer *answer)
{
    struct gauges gauges = {0};
    struct buf out BUF_CLEANUP;
    buf_init(&out, METRICS_MAX);
    admin_log_settle(request->log);
    gateway_status(request->gateway, request->arena, &gauges.status);
    gateway_spool_numbers(request->gateway, &gauges.spool);
    domain_watch_numbers(request->domains, &gauges.domains);
    gauges.replies = gateway_replies(request->gateway, request->arena, &gauges.reply_count);
    gauges.totals = queue_totals(gateway_queue(request->gateway));
    gauges.workers = gateway_worker_numbers(request->gateway, request->arena, &gauges.worker_count);
    gauges.quarantines = queue_quarantine_numbers(gateway_queue(request->gateway), request->arena,
                                                  &gauges.quarantine_count);
    gauges.log_lost = admin_log_lost(request->log);
    gauges.history_lost = request->store ? store_totals(request->store).dropped : 0;
    gauges.certificates =
        gateway_certificates(request->gateway, request->arena, &gauges.certificate_count);
    gateway_dns_numbers(request->gateway, &gauges.dns);
    gauges.unconfirmed = admin_config_is_unconfirmed(request, &gauges.confirm_by_ns);
    gauges.webhooks_lost = webhooks_lost(request->webhooks);
    gauges.webhooks = webhooks_list(request->webhooks, request->arena, &gauges.webhook_count);
    gauges.transports = transport_watch_look(request->transports, request->gateway, request->arena,
                                             &gauges.transport_count, &gauges.transports_age_s);
    print_gauges(&gauges, &out);
    metrics_print(request->metrics, &out);
    answer->text = arena_str(request->arena, buf_str(&out));
    answer->type = "text/plain; version=0.0.4; charset=utf-8";
}

/* ---- for the manual ---- */

/* `type`, `result`: of a sample, but not the bound of a histogram. */
static void describe_labels(struct str sample, struct buf *out)
{
    ptrdiff_t open = str_find(sample, '{');
    struct str rest = open < 0 ? STR_EMPTY : str_from(sample, (size_t)open + 1);
    struct str label;
    bool any = false;
    while (str_split(&rest, ',', &label)) {
        ptrdiff_t equal = str_find(label, '=');
        if (equal <= 0 || str_starts(label, STR("le=")))
            continue;
        buf_printf(out, "%s`%.*s`", any ? ", " : "", STR_ARG(str_slice(label, 0, (size_t)equal)));
        any = true;
    }
}

/* "# HELP NAME TEXT", "# TYPE NAME KIND", and the first sample behind them, as a row of a table. */
static void describe_family(struct str help, struct str type, struct str sample, struct buf *out)
{
    ptrdiff_t space = str_find(help, ' ');
    struct str name = str_slice(help, 0, (size_t)space);
    buf_printf(out, "| `%.*s` | %.*s | ", STR_ARG(name), STR_ARG(str_from(type, name.len + 1)));
    describe_labels(sample, out);
    buf_printf(out, " | %.*s |\n", STR_ARG(str_from(help, (size_t)space + 1)));
}

void admin_describe_gauges(struct buf *out)
{
    struct gateway_listener_status listener = {.name = STR("mx")};
    struct gateway_replies replies = {.listener = STR("mx"), .counts = {{1}}};
    struct gateway_worker_numbers worker = {0};
    struct transport_numbers transport = {.name = STR("internet")};
    struct queue_quarantine_numbers quarantine = {.name = STR("spam")};
    struct webhook_status webhook = {.name = STR("ops")};
    struct gateway_certificate certificate = {.name = STR("main")};
    struct gauges gauges = {.replies = &replies,
                            .reply_count = 1,
                            .workers = &worker,
                            .worker_count = 1,
                            .transports = &transport,
                            .transport_count = 1,
                            .quarantines = &quarantine,
                            .quarantine_count = 1,
                            .certificates = &certificate,
                            .certificate_count = 1,
                            .webhooks = &webhook,
                            .webhook_count = 1};
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
