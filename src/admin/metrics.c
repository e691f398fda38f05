/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/metrics.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/memory.h"
#include "mail/id.h"
#include "smtp/server.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    SERIES_MAX = 1000, /* of one row; what more there is counts as "other" */
    LABEL_MAX = 120,   /* bytes of a value */
    KEY_MAX = 1 + METRIC_LABELS * (1 + LABEL_MAX),
    LABELS_MAX = 2048,
    ROWS_MAX = 128,
};

struct series {
    struct series *next;
    char *key; /* in the map: number of the family, and the values of the labels */
    size_t key_len;
    char *labels; /* as printed, without braces */
    double sum;   /* of a counter or gauge: its value */
    uint64_t count;
    uint64_t *buckets; /* histograms: one a bound */
};

struct family { /* the rows of one name */
    struct series *first, *last;
    size_t count;
};

enum { ROWS_OF_EVENT = 12 };

/* What the last event of a stream counted as in one row. As long as the fields that it depends on
 * stay, the next one counts as the same. */
struct counting {
    struct series *series; /* NULL: not at all */
    uint64_t *bucket;      /* NULL: none */
    double value;
    int64_t born_ms;     /* of an age: when that was */
    uint32_t depends_on; /* fields of the event */
};

struct metrics {
    pthread_mutex_t mutex;
    bool held;                    /* by the thread that counts */
    struct event_slots countings; /* of each stream: struct counting, one a row */
    struct map by_key;
    struct family families[ROWS_MAX];   /* at the first row of their name */
    unsigned short family_of[ROWS_MAX]; /* a row's */
    size_t row_count;
    unsigned short of_event[EVENT_TYPE_COUNT][ROWS_OF_EVENT + 1]; /* rows + 1, ends with 0 */
};

static bool is_first_of_name(size_t index)
{
    return index == 0 || strcmp(metric_rows[index].name, metric_rows[index - 1].name) != 0;
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    for (size_t i = 0; i < metrics->row_count; i++) {
        while (metrics->families[i].first) {
            struct series *series = metrics->families[i].first;
            metrics->families[i].first = series->next;
            free(series->buckets);
            free(series->labels);
            free(series->key);
            free(series);
        }
    }
    map_done(&metrics->by_key);
    event_slots_done(&metrics->countings, free);
    pthread_mutex_destroy(&metrics->mutex);
    free(metrics);
}

/* ---- labels ---- */

/* An event, and where in it each key stands: number of the field + 1. */
struct indexed {
    const struct event *event;
    unsigned char at[EVENT_KEY_COUNT];
};

static void index_fields(const struct event *event, struct indexed *out)
{
    *out = (struct indexed){.event = event};
    for (unsigned i = event->count; i > 0; i--)
        out->at[event->fields[i - 1].key] = (unsigned char)i;
}

static const struct event_field *field_of(const struct indexed *indexed, enum event_key key)
{
    return indexed->at[key] ? &indexed->event->fields[indexed->at[key] - 1] : NULL;
}

/* "TLSv1.3", or nothing. */
static struct str tls_of(const struct event_field *field)
{
    const struct str prefix = STR("TLSv");
    struct str version = field && field->kind == EVENT_VALUE_STR ? field->text : STR_EMPTY;
    if (str_starts(version, prefix))
        version = str_from(version, prefix.len);
    return version.len ? str_slice(version, 0, LABEL_MAX) : STR("none");
}

/* The words are those of postern_smtp_replies_total. A client may say anything. */
static struct str stage_of(const struct event_field *field, const char *otherwise)
{
    static const struct {
        const char *command;
        enum smtp_answered stage;
    } known[] = {
        {"PROXY", SMTP_ANSWERED_CONNECT}, {"HELO", SMTP_ANSWERED_HELO},
        {"EHLO", SMTP_ANSWERED_HELO},     {"STARTTLS", SMTP_ANSWERED_STARTTLS},
        {"AUTH", SMTP_ANSWERED_AUTH},     {"MAIL", SMTP_ANSWERED_MAIL},
        {"RCPT", SMTP_ANSWERED_RCPT},     {"DATA", SMTP_ANSWERED_DATA},
        {"BDAT", SMTP_ANSWERED_DATA},
    };
    if (!field || field->kind != EVENT_VALUE_STR || !field->text.len)
        return str_c(otherwise);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (str_equal_nocase(field->text, str_c(known[i].command)))
            return str_c(smtp_answered_names[known[i].stage]);
    return str_c(smtp_answered_names[SMTP_ANSWERED_OTHER]);
}

static struct str class_of(const struct event_field *field)
{
    bool permanent = field && field->kind == EVENT_VALUE_INT && field->number >= 500;
    return permanent ? STR("5xx") : STR("4xx");
}

/* The row has labels of both, so it is looked at again when one of them changes. */
static struct str safety_of(const struct indexed *indexed, enum event_key policy_key)
{
    const struct event_field *tls = field_of(indexed, KEY_TLS);
    const struct event_field *policy = field_of(indexed, policy_key);
    if (!tls || !tls->text.len)
        return STR("plain");
    return policy && str_equal(policy->text, STR("verified")) ? STR("verified") : STR("encrypted");
}

static struct str value_of_label(const struct metric_label *label, const struct indexed *indexed,
                                 bool other)
{
    if (label->fixed && label->form != METRIC_STAGE)
        return str_c(label->fixed);
    if (other)
        return STR("other");
    const struct event_field *field = field_of(indexed, label->key);
    if (label->form == METRIC_TLS)
        return tls_of(field);
    if (label->form == METRIC_STAGE)
        return stage_of(field, label->fixed);
    if (label->form == METRIC_CLASS)
        return class_of(field);
    if (label->form == METRIC_SAFETY)
        return safety_of(indexed, label->key);
    struct str value = STR_EMPTY;
    if (field && field->kind == EVENT_VALUE_STR)
        value = str_slice(field->text, 0, LABEL_MAX);
    else if (field && field->kind == EVENT_VALUE_BOOL)
        value = field->number ? STR("true") : STR("false");
    return label->form == METRIC_OR_NONE && !value.len ? STR("none") : value;
}

/* What a series is found by. A value may come from the wire: printable ASCII only. */
struct key {
    size_t len;
    char bytes[KEY_MAX];
};

static void make_key(const struct metrics *metrics, size_t index, const struct indexed *indexed,
                     bool other, struct key *out)
{
    const struct metric_label *labels = metric_rows[index].labels;
    char *at = out->bytes;
    *at++ = (char)metrics->family_of[index];
    for (size_t i = 0; i < METRIC_LABELS && labels[i].name; i++) {
        struct str value = value_of_label(&labels[i], indexed, other);
        *at++ = (char)value.len;
        for (size_t k = 0; k < value.len; k++) {
            char c = value.ptr[k];
            *at++ = c >= ' ' && c < 127 ? c : '?';
        }
    }
    out->len = (size_t)(at - out->bytes);
}

/* With the three escapes of the format, of which one cannot occur. */
static void print_value(struct buf *out, struct str value)
{
    buf_append_byte(out, '"');
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        if (c == '"' || c == '\\')
            buf_append_byte(out, '\\');
        buf_append_byte(out, c >= ' ' && c < 127 ? c : '?');
    }
    buf_append_byte(out, '"');
}

/* The labels of a row as printed, from the values in a key. */
static char *print_labels(const struct metric_row *row, const struct key *key)
{
    struct buf out BUF_CLEANUP;
    const char *at = key->bytes + 1;
    buf_init(&out, LABELS_MAX);
    for (size_t i = 0; i < METRIC_LABELS && row->labels[i].name; i++) {
        struct str value = str_of(at + 1, (unsigned char)*at);
        buf_printf(&out, "%s%s=", out.len ? "," : "", row->labels[i].name);
        print_value(&out, value);
        at += 1 + value.len;
    }
    char *text = memory_alloc(out.len + 1);
    memcpy(text, buf_str(&out).ptr, out.len);
    return text;
}

/* ---- counting ---- */

static size_t bound_count(const struct metric_row *row)
{
    size_t count = 0;
    while (row->bounds && row->bounds[count] > 0)
        count++;
    return count;
}

static struct series *find(struct metrics *metrics, size_t index, const struct key *key, bool make)
{
    struct series *series = map_get(&metrics->by_key, str_of(key->bytes, key->len));
    if (series || !make)
        return series;
    struct family *family = &metrics->families[metrics->family_of[index]];
    series = NEW(struct series);
    series->key = memory_alloc(key->len);
    series->key_len = key->len;
    memcpy(series->key, key->bytes, key->len);
    series->labels = print_labels(&metric_rows[index], key);
    size_t bounds = bound_count(&metric_rows[index]);
    if (bounds)
        series->buckets = memory_alloc_array(bounds, sizeof *series->buckets);
    if (family->last)
        family->last->next = series;
    else
        family->first = series;
    family->last = series;
    family->count++;
    map_put(&metrics->by_key, str_of(key->bytes, key->len), series);
    return series;
}

static double age_of(const struct counting *counting, const struct event *event)
{
    return fmax(0, (double)(event->wall_ns / NS_PER_MS - counting->born_ms) / 1e3);
}

/* NAN: it counts nothing. */
static double value_of(const struct metric_row *row, const struct indexed *indexed,
                       struct counting *counting)
{
    struct mail_id id;
    if (row->value == METRIC_ONE)
        return 1;
    const struct event_field *field = field_of(indexed, row->key);
    if (row->value == METRIC_EACH)
        return field && field->kind == EVENT_VALUE_INT ? (double)field->number : 1;
    if (row->value == METRIC_ANSWERED)
        return !field || !str_equal(field->text, STR("failed"));
    if (!field)
        return NAN;
    if (row->value == METRIC_IF)
        return field->text.len ? 1 : NAN;
    if (row->value == METRIC_FIELD)
        return (double)field->number;
    if (row->value == METRIC_MICROSECONDS)
        return (double)field->number / 1e6;
    if (field->kind != EVENT_VALUE_STR || !mail_id_parse(field->text, &id)) /* of an age */
        return NAN;
    counting->born_ms = mail_id_time_ms(id);
    return age_of(counting, indexed->event);
}

static uint32_t fields_of(const struct metric_row *row, const struct indexed *indexed)
{
    uint32_t fields = 0;
    if (row->value != METRIC_ONE && indexed->at[row->key])
        fields |= UINT32_C(1) << (indexed->at[row->key] - 1);
    for (size_t i = 0; i < METRIC_LABELS && row->labels[i].name; i++)
        if ((!row->labels[i].fixed || row->labels[i].form == METRIC_STAGE) &&
            indexed->at[row->labels[i].key])
            fields |= UINT32_C(1) << (indexed->at[row->labels[i].key] - 1);
    return fields;
}

static uint64_t *bucket_of(const struct metric_row *row, const struct series *series, double value)
{
    for (size_t i = 0; series->buckets && row->bounds[i] > 0; i++)
        if (value <= row->bounds[i])
            return &series->buckets[i];
    return NULL;
}

/* What the event counts as in the row. */
static void prepare(struct metrics *metrics, size_t index, const struct indexed *indexed,
                    struct counting *out)
{
    const struct metric_row *row = &metric_rows[index];
    *out = (struct counting){.depends_on = fields_of(row, indexed)};
    out->value = value_of(row, indexed, out);
    if (isnan(out->value))
        return;
    struct key key;
    make_key(metrics, index, indexed, /* other= */ false, &key);
    bool full = metrics->families[metrics->family_of[index]].count >= SERIES_MAX;
    out->series = find(metrics, index, &key, !full);
    if (!out->series) {
        make_key(metrics, index, indexed, /* other= */ true, &key);
        out->series = find(metrics, index, &key, true);
    }
    out->bucket = bucket_of(row, out->series, out->value);
}

static void count(const struct metric_row *row, const struct event *event,
                  struct counting *counting)
{
    struct series *series = counting->series;
    if (!series)
        return;
    if (row->value == METRIC_MESSAGE_AGE) { /* it changes with the time */
        counting->value = age_of(counting, event);
        counting->bucket = bucket_of(row, series, counting->value);
    }
    series->count++;
    series->sum = row->kind == METRIC_GAUGE ? counting->value : series->sum + counting->value;
    if (counting->bucket)
        ++*counting->bucket;
}

void metrics_take(struct metrics *metrics, const struct event *event)
{
    const unsigned short *list = metrics->of_event[event->type];
    if (!*list)
        return;
    struct counting **countings =
        (struct counting **)event_slot(&metrics->countings, event->source, event->type);
    uint32_t changed = *countings ? event->changed : EVENT_ALL_CHANGED;
    if (!*countings)
        *countings = memory_alloc_array(ROWS_OF_EVENT, sizeof **countings);
    struct indexed indexed = {.event = NULL};
    if (!metrics->held)
        pthread_mutex_lock(&metrics->mutex);
    for (size_t i = 0; list[i]; i++) {
        struct counting *counting = &(*countings)[i];
        if (changed == EVENT_ALL_CHANGED || changed & counting->depends_on) {
            if (!indexed.event)
                index_fields(event, &indexed);
            prepare(metrics, list[i] - 1u, &indexed, counting);
        }
        count(&metric_rows[list[i] - 1u], event, counting);
    }
    if (!metrics->held)
        pthread_mutex_unlock(&metrics->mutex);
}

void metrics_hold(struct metrics *metrics)
{
    if (!metrics)
        return;
    pthread_mutex_lock(&metrics->mutex);
    metrics->held = true;
}

void metrics_release(struct metrics *metrics)
{
    if (!metrics)
        return;
    metrics->held = false;
    pthread_mutex_unlock(&metrics->mutex);
}

struct metrics *metrics_new(void)
{
    struct metrics *metrics = NEW(struct metrics);
    pthread_mutex_init(&metrics->mutex, NULL);
    map_init(&metrics->by_key);
    for (size_t i = 0; metric_rows[i].name; i++) {
        check(i < ROWS_MAX);
        unsigned short *list = metrics->of_event[metric_rows[i].event];
        while (*list)
            list++;
        check(list < metrics->of_event[metric_rows[i].event] + ROWS_OF_EVENT);
        *list = (unsigned short)++metrics->row_count;
        metrics->family_of[i] = is_first_of_name(i) ? (unsigned short)i : metrics->family_of[i - 1];
        if (!metric_rows[i].labels[0].name) { /* what never happened is 0 */
            struct key key = {.len = 1, .bytes = {(char)metrics->family_of[i]}};
            (void)find(metrics, i, &key, true);
        }
    }
    return metrics;
}

/* ---- printing ---- */

static const char *const kinds[] = {
    [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};

void metrics_print_head(struct buf *out, const char *name, enum metric_kind kind, const char *text)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, text, name, kinds[kind]);
}

static void print_number(struct buf *out, double number)
{
    if (number == floor(number) && fabs(number) < 9e15)
        buf_printf(out, " %.0f\n", number);
    else
        buf_printf(out, " %.15g\n", number);
}

void metrics_print_sample(struct buf *out, const char *name, const char *label, struct str value,
                          double number)
{
    buf_append(out, str_c(name));
    if (label) {
        buf_printf(out, "{%s=", label);
        print_value(out, str_slice(value, 0, LABEL_MAX));
        buf_append_byte(out, '}');
    }
    print_number(out, number);
}

void metrics_print_pair(struct buf *out, const char *name, const char *label, struct str value,
                        const char *second_label, const char *second, double number)
{
    buf_printf(out, "%s{%s=", name, label);
    print_value(out, str_slice(value, 0, LABEL_MAX));
    buf_printf(out, ",%s=\"%s\"}", second_label, second);
    print_number(out, number);
}

void metrics_print_labelled(struct buf *out, const char *name, struct str labels, double number)
{
    buf_printf(out, "%s{%.*s}", name, STR_ARG(labels));
    print_number(out, number);
}

static void print_histogram(struct buf *out, const struct metric_row *row,
                            const struct series *series)
{
    const char *comma = series->labels[0] ? "," : "";
    uint64_t sum = 0;
    for (size_t i = 0; row->bounds[i] > 0; i++) {
        sum += series->buckets[i];
        buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", row->name, series->labels, comma,
                   row->bounds[i], (unsigned long long)sum);
    }
    buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", row->name, series->labels, comma,
               (unsigned long long)series->count);
    const char *open = series->labels[0] ? "{" : "";
    const char *close = series->labels[0] ? "}" : "";
    buf_printf(out, "%s_sum%s%s%s", row->name, open, series->labels, close);
    print_number(out, series->sum);
    buf_printf(out, "%s_count%s%s%s %llu\n", row->name, open, series->labels, close,
               (unsigned long long)series->count);
}

static void print_series(struct buf *out, const struct metric_row *row, const struct series *series)
{
    if (row->kind == METRIC_HISTOGRAM) {
        print_histogram(out, row, series);
        return;
    }
    buf_append(out, str_c(row->name));
    if (series->labels[0])
        buf_printf(out, "{%s}", series->labels);
    print_number(out, series->sum);
}

void metrics_print(struct metrics *metrics, struct buf *out)
{
    pthread_mutex_lock(&metrics->mutex);
    for (size_t i = 0; i < metrics->row_count; i++) {
        const struct metric_row *row = &metric_rows[i];
        if (!is_first_of_name(i))
            continue;
        metrics_print_head(out, row->name, row->kind, row->text);
        for (const struct series *series = metrics->families[i].first; series;
             series = series->next)
            print_series(out, row, series);
    }
    pthread_mutex_unlock(&metrics->mutex);
}

void metrics_describe(struct buf *out)
{
    for (size_t i = 0; metric_rows[i].name; i++) {
        const struct metric_row *row = &metric_rows[i];
        if (!is_first_of_name(i))
            continue;
        buf_printf(out, "| `%s` | %s |", row->name, kinds[row->kind]);
        for (size_t k = 0; k < METRIC_LABELS && row->labels[k].name; k++)
            buf_printf(out, "%s `%s`", k ? "," : "", row->labels[k].name);
        buf_printf(out, " | %s |\n", row->text);
    }
}
