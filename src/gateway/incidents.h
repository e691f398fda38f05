/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/incidents.h - accounts that are contained, and why: the table and its file.
 *
 * Kept in one small text file beside the mail that is replaced as a whole (written, synced,
 * renamed) before a change counts. What the account did shortly before (whom it wrote to, from
 * where) is kept in memory, of the most active users, so that an incident has it when it opens. Any
 * thread may call; asking costs nothing while no account is contained. Knows no queue.
 *
 * The file: a first line "postern-incidents 1", then a line an incident: parts "key=value"
 * separated by tabs, in texts "%XX" for control characters and "%". Keys that are not known are
 * passed over, so that an older version reads what a newer one wrote.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/str.h"

struct incidents;

enum incident_state {
    INCIDENT_OPEN,      /* the account is contained */
    INCIDENT_RELEASING, /* closed; its held mail is being let go */
    INCIDENT_DROPPING,  /* closed; its held mail is being dropped */
    INCIDENT_RELEASED,
    INCIDENT_DROPPED,
    INCIDENT_STATES
};
const char *incident_state_name(enum incident_state state);

enum {
    INCIDENT_SHARES = 10, /* domains, clients */
    INCIDENT_NAME = 64,   /* bytes of one of them that are kept */
    INCIDENTS_OPEN_MAX = 1000,
    INCIDENTS_CLOSED_MAX = 1000, /* the oldest are forgotten */
    INCIDENT_USER_MAX = 512,
};

struct incident_share { /* how much of it */
    struct str name;
    int64_t count;
};

struct incident {
    int64_t number; /* from 1 */
    enum incident_state state;
    struct str user; /* lower case */
    int64_t opened_wall_ns;
    struct str opened_by; /* "flow", or the actor */
    struct str reason;
    /* the limit that was reached; all empty: an operator, or a step without a limit */
    struct str flow, step, what, by, subject;
    int64_t count, max, period_ns;
    /* what the account did from then until it was contained */
    int64_t recent_since_wall_ns;
    int64_t messages, recipients, unknown;
    struct incident_share domains[INCIDENT_SHARES], clients[INCIDENT_SHARES];
    size_t domain_count, client_count;
    /* of its end */
    int64_t closed_wall_ns, done_wall_ns;
    struct str closed_by, closing_reason;
};

struct incidents *incidents_new(void);
void incidents_free(struct incidents *incidents); /* NULL is allowed */
/* Read the file at `path`, which need not be there, and keep every change in it from now on.
 * FAILED: it is not ours or damaged; nobody can say who was contained. */
enum result incidents_load(struct incidents *incidents, struct str path, struct error *err);

/* Is the account contained? *out_number (may be NULL): by which incident. */
bool incidents_contains(struct incidents *incidents, struct str user, int64_t *out_number);
/* Is it free, with an incident whose mail is still to be released or dropped? */
bool incidents_settles(struct incidents *incidents, struct str user);
size_t incidents_open_count(const struct incidents *incidents);
/* Is there one whose mail is still to be released or dropped? */
bool incidents_is_unsettled(const struct incidents *incidents);

/* Contain draft->user; number, state, user's case and what it did recently are filled in. *out_new
 * false: it is contained already, and *out_number says by which. Blocks (a file is synced). FAILED:
 * nothing changed; ERROR_LIMIT: there are too many. */
enum result incidents_open(struct incidents *incidents, const struct incident *draft,
                           int64_t *out_number, bool *out_new, struct error *err);
struct incident_closing {
    int64_t number;
    bool drop; /* its held mail; else it is released */
    struct str actor, reason;
};
/* From now on the account is free. *out_state: what it was before; INCIDENT_STATES: there is no
 * such incident. Only an open one changes. Blocks. */
enum result incidents_close(struct incidents *incidents, const struct incident_closing *closing,
                            enum incident_state *out_state, struct error *err);
/* Its mail is dealt with, durably. Blocks. */
enum result incidents_finish(struct incidents *incidents, int64_t number, struct error *err);
/* All of them, the newest first; texts in `arena`. */
struct incident *incidents_list(struct incidents *incidents, struct arena *arena,
                                size_t *out_count);
/* False: there is none of that number. */
bool incidents_find(struct incidents *incidents, int64_t number, struct arena *arena,
                    struct incident *out);

/* ---- what accounts do (incidents_recent.c) ---- */

void incidents_note_message(struct incidents *incidents, struct str user);
/* Somebody logged in as `user` asked for a recipient in `domain`. */
void incidents_note_recipient(struct incidents *incidents, struct str user, struct str client,
                              struct str domain, bool unknown);
