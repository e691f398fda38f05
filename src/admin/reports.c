/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/reports_internal.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "base/memory.h"

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    COUNTED_MAX = 50000, /* different rows in memory */
    ROWS_MAX = 20000,    /* of one report; the most frequent */
    FLUSH_S = 30,
    DAY_S = 86400,
    KEEP_DAYS = 14, /* what could not be sent that long is forgotten */
    BUSY_MS = 5000,
};

struct counted {
    uint64_t count;
};

struct reports {
    struct reports_settings settings;
    struct arena *arena;
    struct gateway *gateway; /* NULL: nothing is sent */
    sqlite3 *db;             /* under `sending` */
    pthread_mutex_t lock;    /* for what is counted */
    struct map counted;      /* "DAY\tDOMAIN\tORGANIZATION\tFIELDS" */
    uint64_t lost;
    pthread_mutex_t sending; /* one at a time uses the file, and sends */
    pthread_cond_t wake;
    bool stopping;
    bool started;
    pthread_t thread;
};

/* ---- counting ---- */

static struct str text_of(const struct event *event, enum event_key key)
{
    for (unsigned i = 0; i < event->count; i++)
        if (event->fields[i].key == key && event->fields[i].kind == EVENT_VALUE_STR)
            return event->fields[i].text;
    return STR_EMPTY;
}

/* Tabs part the fields. */
static void add_field(struct buf *key, struct str text)
{
    if (key->len)
        buf_append_byte(key, '\t');
    for (size_t i = 0; i < text.len && i < 512; i++)
        buf_append_byte(key, (unsigned char)text.ptr[i] < ' ' ? '?' : text.ptr[i]);
}

void reports_take(struct reports *reports, const struct event *event)
{
    static const enum event_key fields[] = {KEY_DOMAIN, KEY_OBJECT,  KEY_IP,          KEY_ACTION,
                                            KEY_REASON, KEY_OUTCOME, KEY_HEADER_FROM, KEY_FROM,
                                            KEY_SPF,    KEY_DKIM};
    if (event->type != EVENT_DMARC_RESULT)
        return;
    struct buf key BUF_CLEANUP;
    buf_init(&key, 8192);
    buf_append_int(&key, event->wall_ns / NS_PER_S / DAY_S);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        add_field(&key, text_of(event, fields[i]));
    pthread_mutex_lock(&reports->lock);
    struct counted *counted = map_get(&reports->counted, buf_str(&key));
    if (counted) {
        counted->count++;
    } else if (reports->counted.count < COUNTED_MAX && !key.overflow) {
        counted = NEW(struct counted);
        counted->count = 1;
        map_put(&reports->counted, buf_str(&key), counted);
    } else {
        reports->lost++;
    }
    pthread_mutex_unlock(&reports->lock);
}

/* ---- the file ---- */

static enum result sql_failed(struct reports *reports, struct error *err)
{
    return fail(err, ERROR_TEMPORARY, "reports.db: %s",
                reports->db ? sqlite3_errmsg(reports->db) : "no memory");
}

static enum result run_sql(struct reports *reports, const char *sql, struct error *err)
{
    return sqlite3_exec(reports->db, sql, NULL, NULL, NULL) == SQLITE_OK ? OK
                                                                         : sql_failed(reports, err);
}

static enum result prepare(struct reports *reports, const char *sql, sqlite3_stmt **out,
                           struct error *err)
{
    return sqlite3_prepare_v2(reports->db, sql, -1, out, NULL) == SQLITE_OK
               ? OK
               : sql_failed(reports, err);
}

static void bind_text(sqlite3_stmt *statement, int index, struct str text)
{
    sqlite3_bind_text(statement, index, text.ptr, (int)text.len, SQLITE_TRANSIENT);
}

static struct str column_text(sqlite3_stmt *statement, int index, struct arena *arena)
{
    const unsigned char *text = sqlite3_column_text(statement, index);
    return arena_str(arena,
                     str_of((const char *)text, (size_t)sqlite3_column_bytes(statement, index)));
}

static enum result put_counted(struct reports *reports, sqlite3_stmt *statement, struct str key,
                               const struct counted *counted, struct error *err)
{
    struct str day, domain, organization;
    uint64_t number;
    if (!str_split(&key, '\t', &day) || !str_to_uint(day, INT32_MAX, &number) ||
        !str_split(&key, '\t', &domain) || !str_split(&key, '\t', &organization))
        return OK;
    sqlite3_bind_int64(statement, 1, (int64_t)number);
    bind_text(statement, 2, domain);
    bind_text(statement, 3, organization);
    bind_text(statement, 4, key);
    sqlite3_bind_int64(statement, 5, (int64_t)counted->count);
    enum result result = sqlite3_step(statement) == SQLITE_DONE ? OK : sql_failed(reports, err);
    sqlite3_reset(statement);
    return result;
}

/* Move what was counted into the file. Under `sending`. */
static enum result flush(struct reports *reports, struct error *err)
{
    static const char sql[] =
        "INSERT INTO rows VALUES(?1, ?2, ?3, ?4, ?5)"
        " ON CONFLICT(day, domain, fields) DO UPDATE SET count = count + excluded.count";
    struct map counted;
    sqlite3_stmt *statement = NULL;
    size_t cursor = 0;
    struct str key;
    void *value;
    pthread_mutex_lock(&reports->lock);
    counted = reports->counted;
    map_init(&reports->counted);
    pthread_mutex_unlock(&reports->lock);
    enum result result = OK;
    if (counted.count)
        result = run_sql(reports, "BEGIN IMMEDIATE", err);
    if (result == OK && counted.count)
        result = prepare(reports, sql, &statement, err);
    while (map_next(&counted, &cursor, &key, &value)) {
        if (result == OK)
            result = put_counted(reports, statement, key, value, err);
        free(value);
    }
    sqlite3_finalize(statement);
    if (counted.count && result == OK)
        result = run_sql(reports, "COMMIT", err);
    if (counted.count && result != OK)
        sqlite3_exec(reports->db, "ROLLBACK", NULL, NULL, NULL);
    map_done(&counted);
    return result;
}

enum result reports_open(const struct reports_settings *settings, struct reports **out_reports,
                         struct error *err)
{
    struct reports *reports = NEW(struct reports);
    reports->arena = arena_new(0);
    reports->settings =
        (struct reports_settings){.folder = arena_str(reports->arena, settings->folder),
                                  .from = arena_str(reports->arena, settings->from),
                                  .organization = arena_str(reports->arena, settings->organization),
                                  .contact = arena_str(reports->arena, settings->contact),
                                  .hostname = arena_str(reports->arena, settings->hostname),
                                  .at_ns = settings->at_ns};
    map_init(&reports->counted);
    pthread_mutex_init(&reports->lock, NULL);
    pthread_mutex_init(&reports->sending, NULL);
    pthread_cond_init(&reports->wake, NULL);
    struct str path = arena_printf(reports->arena, "%.*s/reports.db", STR_ARG(settings->folder));
    mode_t before = umask(0077);
    int code =
        sqlite3_open_v2(path.ptr, &reports->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL);
    umask(before);
    if (code == SQLITE_OK)
        sqlite3_busy_timeout(reports->db, BUSY_MS);
    if (code != SQLITE_OK)
        (void)sql_failed(reports, err);
    else if (run_sql(
                 reports,
                 "PRAGMA journal_mode = WAL;"
                 "CREATE TABLE IF NOT EXISTS rows(day INTEGER, domain TEXT, organization TEXT,"
                 " fields TEXT, count INTEGER, PRIMARY KEY(day, domain, fields)) WITHOUT ROWID;",
                 err) == OK) {
        *out_reports = reports;
        return OK;
    }
    reports_close(reports);
    return FAILED;
}

void reports_close(struct reports *reports)
{
    struct error err;
    size_t cursor = 0;
    struct str key;
    void *value;
    if (!reports)
        return;
    if (reports->db)
        (void)!flush(reports, &err);
    while (map_next(&reports->counted, &cursor, &key, &value))
        free(value);
    map_done(&reports->counted);
    sqlite3_close(reports->db);
    pthread_cond_destroy(&reports->wake);
    pthread_mutex_destroy(&reports->sending);
    pthread_mutex_destroy(&reports->lock);
    arena_free(reports->arena);
    free(reports);
}

/* ---- making a report ---- */

/* "pass example.net s1" or "pass example.net mfrom" */
static bool read_auth(struct str text, bool is_spf, struct dmarc_report_auth *out)
{
    struct str result, domain, last;
    if (!str_split(&text, ' ', &result) || !str_split(&text, ' ', &domain) ||
        !str_split(&text, ' ', &last))
        return false;
    *out = (struct dmarc_report_auth){.is_spf = is_spf,
                                      .domain = domain,
                                      .result = result,
                                      .selector = is_spf ? STR_EMPTY : last,
                                      .scope = is_spf ? last : STR_EMPTY};
    return true;
}

static void add_auth(struct dmarc_report_row *row, struct str text, bool is_spf)
{
    if (row->auth_count < DMARC_REPORT_AUTHS_MAX &&
        read_auth(str_trim(text), is_spf, &row->auths[row->auth_count]))
        row->auth_count++;
}

bool reports_read_row(struct str fields, uint64_t count, struct arena *arena,
                      struct dmarc_report_row *out)
{
    struct str parts[REPORTS_FIELDS], one;
    fields = arena_str(arena, fields);
    for (size_t i = 0; i < REPORTS_FIELDS; i++)
        if (!str_split(&fields, '\t', &parts[i]))
            return false;
    bool both = str_equal(parts[REPORTS_ALIGNED], STR("both"));
    bool dkim = both || str_equal(parts[REPORTS_ALIGNED], STR("dkim"));
    bool spf = both || str_equal(parts[REPORTS_ALIGNED], STR("spf"));
    *out = (struct dmarc_report_row){.source_ip = parts[REPORTS_IP],
                                     .count = count,
                                     .disposition = parts[REPORTS_DISPOSITION],
                                     .dkim = dkim ? STR("pass") : STR("fail"),
                                     .spf = spf ? STR("pass") : STR("fail"),
                                     .reason = parts[REPORTS_REASON],
                                     .comment = STR_EMPTY,
                                     .header_from = parts[REPORTS_HEADER_FROM],
                                     .envelope_from = parts[REPORTS_ENVELOPE_FROM]};
    add_auth(out, parts[REPORTS_SPF], /* is_spf= */ true);
    struct str list = parts[REPORTS_DKIM];
    while (list.len && str_split(&list, ',', &one))
        add_auth(out, one, /* is_spf= */ false);
    return true;
}

static struct str day_text(int64_t day, struct arena *arena)
{
    char text[TIME_RFC3339_SIZE];
    return arena_str(arena, str_slice(clock_format_rfc3339(day * DAY_S * NS_PER_S, text), 0, 10));
}

struct due { /* a report to be made */
    int64_t day;
    struct str domain, organization;
};

static enum result load_rows(struct reports *reports, const struct due *due, struct arena *arena,
                             struct dmarc_report *report, struct error *err)
{
    sqlite3_stmt *statement = NULL;
    if (prepare(reports,
                "SELECT fields, count FROM rows WHERE day = ?1 AND domain = ?2"
                " ORDER BY count DESC LIMIT ?3",
                &statement, err) != OK)
        return FAILED;
    report->rows = arena_alloc_array(arena, ROWS_MAX, sizeof *report->rows);
    sqlite3_bind_int64(statement, 1, due->day);
    bind_text(statement, 2, due->domain);
    sqlite3_bind_int(statement, 3, ROWS_MAX);
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW && report->row_count < ROWS_MAX)
        report->row_count += reports_read_row(column_text(statement, 0, arena),
                                              (uint64_t)sqlite3_column_int64(statement, 1), arena,
                                              &report->rows[report->row_count]);
    enum result result = code == SQLITE_DONE ? OK : sql_failed(reports, err);
    sqlite3_finalize(statement);
    return result;
}

static enum result forget(struct reports *reports, const struct due *due, struct error *err)
{
    sqlite3_stmt *statement = NULL;
    if (prepare(reports, "DELETE FROM rows WHERE day = ?1 AND domain = ?2", &statement, err) != OK)
        return FAILED;
    sqlite3_bind_int64(statement, 1, due->day);
    bind_text(statement, 2, due->domain);
    enum result result = sqlite3_step(statement) == SQLITE_DONE ? OK : sql_failed(reports, err);
    sqlite3_finalize(statement);
    return result;
}

static enum result send_one(struct reports *reports, const struct due *due, size_t *out_sent,
                            struct error *err)
{
    struct arena *arena = arena_new(0);
    struct dmarc_report report = {
        .organization = reports->settings.organization,
        .email = reports->settings.from,
        .contact = reports->settings.contact,
        .begin_s = due->day * DAY_S,
        .end_s = (due->day + 1) * DAY_S - 1,
        .domain = due->domain,
    };
    size_t sent = 0;
    report.id = arena_printf(arena, "%.*s.%.*s@%.*s", STR_ARG(day_text(due->day, arena)),
                             STR_ARG(due->domain), STR_ARG(reports->settings.hostname));
    enum result result = load_rows(reports, due, arena, &report, err);
    if (result == OK)
        result = report_mail_send(reports->gateway, &reports->settings, due->organization, &report,
                                  arena, &sent, err);
    if (result == OK)
        result = forget(reports, due, err);
    if (result != OK)
        event_emit(EVENT_DMARC_REPORT_FAILED, F_STR(DOMAIN, due->domain), F_C(ERROR, err->text));
    *out_sent += sent;
    arena_free(arena);
    return result;
}

static enum result list_due(struct reports *reports, int64_t before_day, struct arena *arena,
                            struct due **out, size_t *out_count, struct error *err)
{
    sqlite3_stmt *statement = NULL;
    size_t cap = 0;
    *out = NULL;
    *out_count = 0;
    if (prepare(
            reports,
            "SELECT day, domain, max(organization) FROM rows WHERE day < ?1 GROUP BY day, domain",
            &statement, err) != OK)
        return FAILED;
    sqlite3_bind_int64(statement, 1, before_day);
    while (sqlite3_step(statement) == SQLITE_ROW) {
        if (*out_count == cap) {
            size_t more = cap ? cap * 2 : 64;
            struct due *items = arena_alloc_array(arena, more, sizeof *items);
            if (cap)
                memcpy(items, *out, cap * sizeof *items);
            *out = items;
            cap = more;
        }
        (*out)[(*out_count)++] = (struct due){.day = sqlite3_column_int64(statement, 0),
                                              .domain = column_text(statement, 1, arena),
                                              .organization = column_text(statement, 2, arena)};
    }
    sqlite3_finalize(statement);
    return OK;
}

/* Under `sending`. A domain whose DNS does not answer now does not keep the others. */
static enum result send_due(struct reports *reports, int64_t before_day, size_t *out_sent,
                            struct error *err)
{
    struct arena *arena = arena_new(0);
    struct due *due;
    size_t count = 0;
    *out_sent = 0;
    enum result result = flush(reports, err);
    if (result == OK)
        result = list_due(reports, before_day, arena, &due, &count, err);
    for (size_t i = 0; i < count && !reports->stopping; i++) {
        struct error ignored;
        (void)!send_one(reports, &due[i], out_sent, &ignored);
    }
    arena_free(arena);
    return result;
}

enum result reports_send(struct reports *reports, bool today, size_t *out_sent, struct error *err)
{
    int64_t day = clock_wall_ns() / NS_PER_S / DAY_S;
    pthread_mutex_lock(&reports->sending);
    enum result result = fail(err, ERROR_TEMPORARY, "the gateway ends");
    if (reports->gateway && !reports->stopping)
        result = send_due(reports, today ? day + 1 : day, out_sent, err);
    pthread_mutex_unlock(&reports->sending);
    return result;
}

enum result reports_list(struct reports *reports, struct arena *arena,
                         struct reports_waiting **out_items, size_t *out_count, struct error *err)
{
    enum { LISTED_MAX = 10000 };
    sqlite3_stmt *statement = NULL;
    *out_items = arena_alloc_array(arena, LISTED_MAX, sizeof **out_items);
    *out_count = 0;
    pthread_mutex_lock(&reports->sending);
    enum result result = flush(reports, err);
    if (result == OK)
        result = prepare(reports,
                         "SELECT day, domain, count(*), sum(count) FROM rows GROUP BY day, domain",
                         &statement, err);
    while (result == OK && *out_count < LISTED_MAX && sqlite3_step(statement) == SQLITE_ROW)
        (*out_items)[(*out_count)++] =
            (struct reports_waiting){.day = day_text(sqlite3_column_int64(statement, 0), arena),
                                     .domain = column_text(statement, 1, arena),
                                     .rows = (uint64_t)sqlite3_column_int64(statement, 2),
                                     .messages = (uint64_t)sqlite3_column_int64(statement, 3)};
    sqlite3_finalize(statement);
    pthread_mutex_unlock(&reports->sending);
    return result;
}

/* ---- the thread ---- */

static void work(struct reports *reports, int64_t *tried_day)
{
    struct error err;
    size_t sent;
    int64_t now_s = clock_wall_ns() / NS_PER_S;
    int64_t day = now_s / DAY_S;
    char sql[100];
    if (flush(reports, &err) != OK)
        event_emit(EVENT_DMARC_REPORT_FAILED, F_C(ERROR, err.text));
    /* each hour after the time of day: what had no answer is tried again */
    int64_t hour = (now_s - reports->settings.at_ns / NS_PER_S) / 3600;
    if (now_s % DAY_S < reports->settings.at_ns / NS_PER_S || hour == *tried_day)
        return;
    *tried_day = hour;
    if (send_due(reports, day, &sent, &err) != OK)
        event_emit(EVENT_DMARC_REPORT_FAILED, F_C(ERROR, err.text));
    snprintf(sql, sizeof sql, "DELETE FROM rows WHERE day < %lld", (long long)(day - KEEP_DAYS));
    (void)!run_sql(reports, sql, &err);
}

static void *thread_main(void *arg)
{
    struct reports *reports = arg;
    int64_t tried_day = -1;
    pthread_setname_np(pthread_self(), "reports");
    pthread_mutex_lock(&reports->sending);
    while (!reports->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += FLUSH_S;
        pthread_cond_timedwait(&reports->wake, &reports->sending, &until);
        if (!reports->stopping)
            work(reports, &tried_day);
    }
    pthread_mutex_unlock(&reports->sending);
    return NULL;
}

enum result reports_start(struct reports *reports, struct gateway *gateway, struct error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    reports->gateway = gateway;
    reports->started = pthread_create(&reports->thread, NULL, thread_main, reports) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!reports->started)
        return fail(err, ERROR_LIMIT, "cannot start the thread of reports");
    return OK;
}

void reports_stop(struct reports *reports)
{
    if (!reports || !reports->started)
        return;
    pthread_mutex_lock(&reports->sending);
    reports->stopping = true;
    pthread_cond_signal(&reports->wake);
    pthread_mutex_unlock(&reports->sending);
    pthread_join(reports->thread, NULL);
    reports->started = false;
    reports->gateway = NULL;
}
