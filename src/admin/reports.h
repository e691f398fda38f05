/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/reports.h - aggregate reports of DMARC: counted from events, sent once a day.
 *
 * Counting is done by the log's thread in memory; a thread of its own writes the counts to
 * reports.db beside the history, and after midnight (UTC) makes a report for each domain whose
 * policy was looked at and whose record asks for one. Mail never waits for any of it. A crash loses
 * the counts of a minute; a report is never lost, and one that is sent twice bears the same id.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "event/event.h"

struct gateway;
struct reports;

struct reports_settings {
    struct str folder;
    struct str from;         /* address of the author, and of the envelope */
    struct str organization; /* who we are */
    struct str contact;      /* more about that; or empty */
    struct str hostname;
    int64_t at_ns; /* after midnight UTC */
};

enum result reports_open(const struct reports_settings *settings, struct reports **out_reports,
                         struct error *err);
/* Start sending. Ended by reports_stop(), before the gateway goes. */
enum result reports_start(struct reports *reports, struct gateway *gateway, struct error *err);
void reports_stop(struct reports *reports);
/* Writes what was counted. NULL is allowed. */
void reports_close(struct reports *reports);

/* The log's thread. */
void reports_take(struct reports *reports, const struct event *event);

/* ---- for operators; any thread ---- */

struct reports_waiting { /* a report to be */
    struct str day;      /* "2026-11-27" */
    struct str domain;
    uint64_t rows, messages;
};
/* In `arena`; those counted in the last seconds may be missing. */
enum result reports_list(struct reports *reports, struct arena *arena,
                         struct reports_waiting **out_items, size_t *out_count, struct error *err);
/* Make the reports that are due, or all with those of today; blocks until that is done. */
enum result reports_send(struct reports *reports, bool today, size_t *out_sent, struct error *err);
