/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/metrics.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/memory.h"
#include "mail/id.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    SERIES_MAX = 1000, /* of one row; what more there is counts as "other" */
    LABEL_MAX = 120,   /* bytes of a value */
    LABELS_MAX = 1024,
    BOUNDS_MAX = 16,
    ROWS_MAX = 128,
};

struct series {
    struct series *next;
    char *labels; /* as printed, without braces */
    double sum;   /* of a counter or gauge: its value */
    uint64_t count;
    uint64_t *buckets; /* histograms: one a bound */
};

struct family { /* the rows of one name */
    struct series *first, *last;
    size_t count;
};

struct metrics {
    pthread_mutex_t mutex;
    struct map by_labels;               /* number of the family, and its labels */
    struct family families[ROWS_MAX];   /* at the first row of their name */
    unsigned short family_of[ROWS_MAX]; /* a row's */
    size_t row_count;
    unsigned short of_event[EVENT_TYPE_COUNT][12]; /* rows + 1, ends with 0 */
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
            free(series);
        }
    }
    map_done(&metrics->by_labels);
    pthread_mutex_destroy(&metrics->mutex);
    free(metrics);
}

/* ---- labels ---- */

/* A value may come from the wire: printable ASCII only, with the three escapes of the format. */
static void print_value(struct buf *out, struct str value)
{
    buf_append_byte(out, '"');
    value = str_slice(value, 0, LABEL_MAX);
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        if (c == '"' || c == '\\')
            buf_append_byte(out, '\\');
        buf_append_byte(out, c >= ' ' && c < 127 ? c : '?');
    }
    buf_append_byte(out, '"');
}

static const struct event_field *field_of(const struct event *event, enum event_key key)
{
    for (unsigned i = 0; i < event->count; i++)
        if (event->fields[i].key == key)
            return &event->fields[i];
    return NULL;
}

static void print_label(struct buf *out, const struct metric_label *label,
                        const struct event *event, bool other)
{
    const struct event_field *field = label->fixed ? NULL : field_of(event, label->key);
    struct str value = STR_EMPTY;
    if (label->fixed)
        value = str_c(label->fixed);
    else if (other)
        value = STR("other");
    else if (field && field->kind == EVENT_VALUE_STR)
        value = field->text;
    else if (field && field->kind == EVENT_VALUE_BOOL)
        value = field->number ? STR("true") : STR("false");
    if (label->form == METRIC_OR_NONE && !value.len)
        value = STR("none");
    buf_printf(out, "%s%s=", out->len ? "," : "", label->name);
    print_value(out, value);
}

static void print_labels(struct buf *out, const struct metric_row *row, const struct event *event,
                         bool other)
{
    buf_clear(out);
    for (size_t i = 0; i < METRIC_LABELS && row->labels[i].name; i++)
        print_label(out, &row->labels[i], event, other);
}

/* ---- counting ---- */

static size_t bound_count(const struct metric_row *row)
{
    size_t count = 0;
    while (row->bounds && row->bounds[count] > 0)
        count++;
    return count;
}

static struct series *find(struct metrics *metrics, size_t index, struct str labels, bool make)
{
    char key[LABELS_MAX + 8];
    size_t number = metrics->family_of[index];
    memcpy(key, &number, sizeof number);
    memcpy(key + sizeof number, labels.ptr, labels.len);
    struct str name = str_of(key, sizeof number + labels.len);
    struct series *series = map_get(&metrics->by_labels, name);
    if (series || !make)
        return series;
    struct family *family = &metrics->families[number];
    series = NEW(struct series);
    series->labels = memory_alloc(labels.len + 1);
    memcpy(series->labels, labels.ptr, labels.len);
    size_t bounds = bound_count(&metric_rows[index]);
    if (bounds)
        series->buckets = memory_alloc_array(bounds, sizeof *series->buckets);
    if (family->last)
        family->last->next = series;
    else
        family->first = series;
    family->last = series;
    family->count++;
    map_put(&metrics->by_labels, name, series);
    return series;
}

static double value_of(const struct metric_row *row, const struct event *event)
{
    struct mail_id id;
    const struct event_field *field = field_of(event, row->key);
    switch (row->value) {
    case METRIC_ONE:
        return 1;
    case METRIC_FIELD:
        return field ? (double)field->number : NAN;
    case METRIC_MICROSECONDS:
        return field ? (double)field->number / 1e6 : NAN;
    case METRIC_MESSAGE_AGE:
        if (!field || field->kind != EVENT_VALUE_STR || !mail_id_parse(field->text, &id))
            return NAN;
        return fmax(0, (double)(event->wall_ns / NS_PER_MS - mail_id_time_ms(id)) / 1e3);
    case METRIC_ZERO:
        break;
    }
    return 0;
}

static void count(struct metrics *metrics, size_t index, const struct event *event)
{
    const struct metric_row *row = &metric_rows[index];
    char space[LABELS_MAX];
    struct buf labels = {.ptr = space, .cap = sizeof space, .max = sizeof space};
    double value = value_of(row, event);
    if (isnan(value))
        return;
    print_labels(&labels, row, event, /* other= */ false);
    bool full = metrics->families[metrics->family_of[index]].count >= SERIES_MAX;
    struct series *series = find(metrics, index, buf_str(&labels), !full);
    if (!series) {
        print_labels(&labels, row, event, /* other= */ true);
        series = find(metrics, index, buf_str(&labels), true);
    }
    series->count++;
    series->sum = row->kind == METRIC_GAUGE ? value : series->sum + value;
    for (size_t i = 0; series->buckets && row->bounds[i] > 0; i++)
        if (value <= row->bounds[i]) {
            series->buckets[i]++;
            break;
        }
}

void metrics_take(struct metrics *metrics, const struct event *event)
{
    const unsigned short *list = metrics->of_event[event->type];
    if (!*list)
        return;
    pthread_mutex_lock(&metrics->mutex);
    for (; *list; list++)
        count(metrics, *list - 1u, event);
    pthread_mutex_unlock(&metrics->mutex);
}

struct metrics *metrics_new(void)
{
    struct metrics *metrics = NEW(struct metrics);
    pthread_mutex_init(&metrics->mutex, NULL);
    map_init(&metrics->by_labels);
    for (size_t i = 0; metric_rows[i].name; i++) {
        check(i < ROWS_MAX);
        unsigned short *list = metrics->of_event[metric_rows[i].event];
        while (*list)
            list++;
        *list = (unsigned short)++metrics->row_count;
        metrics->family_of[i] = is_first_of_name(i) ? (unsigned short)i : metrics->family_of[i - 1];
        if (!metric_rows[i].labels[0].name) /* what never happened is 0 */
            (void)find(metrics, i, STR_EMPTY, true);
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
        buf_printf(out, " %.9g\n", number);
}

void metrics_print_sample(struct buf *out, const char *name, const char *label, struct str value,
                          double number)
{
    buf_append(out, str_c(name));
    if (label) {
        buf_printf(out, "{%s=", label);
        print_value(out, value);
        buf_append_byte(out, '}');
    }
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
