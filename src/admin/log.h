/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/log.h - the reader of the event stream: writes the log, feeds history and live tails.
 *
 * One thread; never blocks mail: what it cannot write is counted and left out.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "event/event.h"

struct metrics;
struct reports;
struct store;
struct tail;
struct webhooks;

enum admin_log_target { ADMIN_LOG_STDOUT, ADMIN_LOG_SYSLOG, ADMIN_LOG_FILE, ADMIN_LOG_JOURNAL };

struct admin_log_settings {
    enum admin_log_target target;
    struct str path;           /* FILE; opened for appending */
    struct str socket;         /* SYSLOG, JOURNAL; empty: the usual one */
    enum event_severity least; /* DEBUG events are kept for traces, not logged, unless set */
    struct str node;           /* host name */
    bool trace;                /* JSON lines about a message name its trace, for OpenTelemetry */
    bool human;                /* one line for a person in place of JSON */
    bool postfix;              /* the words of Postfix in place of either (admin/log_postfix.h) */
    struct store *store;       /* gets every event; NULL: no history */
    struct tail *tail;         /* likewise */
    struct metrics *metrics;   /* likewise */
    struct reports *reports;   /* likewise */
    struct webhooks *webhooks; /* likewise */
};

struct admin_log;

enum result admin_log_start(const struct admin_log_settings *settings, struct admin_log **out_log,
                            struct error *err);
/* Drain once more, write, end the thread. NULL is allowed. */
void admin_log_stop(struct admin_log *log);
/* What was emitted before this call is in the log, in the metrics and with the history when it
 * returns. False: not within some seconds, as when nobody reads the log. Any thread but mail's. */
bool admin_log_settle(struct admin_log *log);
/* Shown with each event from now on. Any thread. */
void admin_log_set_revision(struct admin_log *log, struct str revision);
/* Open the file again (after rotation). Any thread. */
void admin_log_reopen(struct admin_log *log);
/* Lines that could not be written. */
uint64_t admin_log_lost(const struct admin_log *log);
