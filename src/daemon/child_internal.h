/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/child_internal.h - the working process's main thread: what child.c and the changes of the
 * configuration (revise.c) share.
 */
#pragma once

#include "admin/revisions.h"
#include "config/report.h"
#include "daemon/child.h"
#include "daemon/sandbox.h"
#include "gateway/gateway.h"
#include "daemon/link.h"

struct settings;

struct child {
    const struct child_options *options;
    struct settings *settings; /* in force */
    unsigned told_revision;    /* by config.applied; 0: none yet */
    struct gateway *gateway;
    struct admin_log *log;
    struct admin_http *http;
    struct store *store; /* NULL: the history cannot be opened; mail goes on */
    struct tail *tail;
    struct metrics *metrics;
    struct reports *reports;
    struct quarantine_keeper *quarantines;
    struct domain_watch *domains;
    struct once *once;           /* NULL: its file cannot be read; no keys are taken */
    struct webhooks *webhooks;   /* NULL: their thread cannot be started; mail goes on */
    struct admin_access *access; /* NULL: the file of tokens cannot be read; mail goes on */
    enum sandbox_paths confined;
    uint64_t files_state; /* of the files read besides the configuration */

    /* ---- revise.c ---- */
    struct revisions *revisions; /* NULL: their folder cannot be used; mail goes on */
    struct change_desk *desk;
    struct gateway_start at_start; /* what counts only at a start stays as it was then */
    char spool_path[4096];
    struct settings *former; /* in force before the one that waits for its confirmation */
    struct settings *trial;  /* gets a share of the sessions */
    int64_t revert_at_ns;    /* monotonic; TIME_NEVER: nothing waits */
    int64_t keep_at_ns;      /* monotonic: when to write the state, which the disk did not take */
    unsigned counted;        /* without revisions on disk: the number given last */
};

struct child_sockets {
    int fds[SETTINGS_ADDRESSES_MAX];
    size_t count;
};

/* The listening sockets of `settings`, from the supervisor. */
enum result child_ask_for_sockets(struct child *child, const struct settings *settings,
                                  struct child_sockets *out, struct error *err);
/* Put `settings` (taken over) into force with these sockets, which are closed. */
void child_use(struct child *child, struct settings *settings, struct child_sockets *sockets);

/* ---- revise.c ---- */

/* Find out what to start with: child->settings. */
enum result revise_start(struct child *child, struct error *err);
/* The gateway runs: tell what is in force, and let a share begin. */
void revise_started(struct child *child);
/* SIGHUP: what the file says now. */
void revise_read_file(struct child *child);
/* Files that the configuration in force names have changed: read it and them again. */
void revise_read_named(struct child *child);
/* Answer the wish that waits; revert what was not confirmed in time. */
void revise_turn(struct child *child);
void revise_stop(struct child *child);
