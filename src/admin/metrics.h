/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/metrics.h - numbers for Prometheus, counted from the events.
 *
 * Nothing is counted on mail's way: the log's thread looks at each event once and adds to what the
 * rows of metrics_table.c say. Events that were dropped are not counted; their number is a metric.
 */
#pragma once

#include "event/event.h"

struct buf;
struct metrics;

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

enum metric_label_form {
    METRIC_TEXT,
    METRIC_OR_NONE, /* an empty or missing text is "none" */
    METRIC_TLS,     /* a version of TLS: none, 1.2, 1.3 */
    METRIC_STAGE,   /* what the client was answered, by his command; `fixed` when there is none */
    METRIC_CLASS,   /* of the code of a reply: 4xx, 5xx */
    METRIC_SAFETY,  /* of a delivery, by TLS and the policy in `key`: plain, encrypted, verified */
};
struct metric_label {
    const char *name; /* NULL: no more */
    enum event_key key;
    enum metric_label_form form;
    const char *fixed; /* the value itself; NULL: the event's */
};

enum metric_value {
    METRIC_ONE,          /* each event counts one */
    METRIC_FIELD,        /* the number in `key` */
    METRIC_EACH,         /* the number in `key`, and one where there is none */
    METRIC_IF,           /* one, if the text in `key` is there */
    METRIC_ANSWERED,     /* of a gauge: 0 if the text in `key` is "failed", else 1 */
    METRIC_MICROSECONDS, /* the same, shown in seconds */
    METRIC_MESSAGE_AGE,  /* since the message got its id, in seconds */
};

enum { METRIC_LABELS = 5 };
struct metric_row {
    const char *name;
    const char *text;
    enum metric_kind kind;
    enum event_type event;
    struct metric_label labels[METRIC_LABELS];
    enum metric_value value;
    enum event_key key;
    const double *bounds; /* histograms: ends with 0 */
};
/* Rows of one name stand together; ends with a NULL name. */
extern const struct metric_row metric_rows[];

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics); /* NULL is allowed */
/* On one thread; between hold and release (of the same thread; NULL is allowed) many cost the lock
 * once. */
void metrics_take(struct metrics *metrics, const struct event *event);
void metrics_hold(struct metrics *metrics);
void metrics_release(struct metrics *metrics);
/* The text of all series, in the format of Prometheus 0.0.4; any thread. */
void metrics_print(struct metrics *metrics, struct buf *out);

/* For numbers that are asked for when they are wanted: a family's head, then its samples. */
void metrics_print_head(struct buf *out, const char *name, enum metric_kind kind, const char *text);
/* `label` may be NULL. */
void metrics_print_sample(struct buf *out, const char *name, const char *label, struct str value,
                          double number);
/* Two labels; `second` is a word of ours. */
void metrics_print_pair(struct buf *out, const char *name, const char *label, struct str value,
                        const char *second_label, const char *second, double number);
/* The same with labels as they are printed, of words that need no escape. */
void metrics_print_labelled(struct buf *out, const char *name, struct str labels, double number);
/* For the manual: rows of what is counted, and of what is looked at (api_metrics.c). */
void metrics_describe(struct buf *out);
void admin_describe_gauges(struct buf *out);
