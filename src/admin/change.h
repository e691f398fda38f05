/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/change.h - wishes to change the configuration in force, from the threads of the API to the
 * main thread, which alone does it.
 */
#pragma once

#include "base/arena.h"
#include "config/load.h"

enum change_kind { CHANGE_APPLY, CHANGE_CONFIRM, CHANGE_ROLLBACK };

struct change {
    enum change_kind kind;
    struct arena *arena; /* of the answer too */
    struct str actor;
    struct str reason;
    struct config_texts texts; /* APPLY: all files */
    int64_t
        confirm_ns; /* APPLY, ROLLBACK: reverted after this unless confirmed; 0: at once for good */
    unsigned share; /* APPLY: of 100 new sessions; 0: all */
    unsigned number; /* CONFIRM: must be this; ROLLBACK: to this; 0: whichever */
    bool dry_run;    /* APPLY: say what would come of it */
    unsigned base;   /* APPLY: this must be in force; 0: whichever */

    /* the answer */
    unsigned status;   /* as of HTTP: 200 done, 409 not as things are, 412 another base, 422 errors,
                          503 not now */
    struct str detail; /* why not */
    struct str problems;     /* of the configuration: a JSON object a line */
    struct str warning;      /* of what was done nevertheless; empty: none */
    unsigned revision;       /* in force, or given a share, afterwards */
    unsigned former;         /* and before */
    bool unchanged;          /* the texts were in force already */
    const char *restart[16]; /* sections whose changes count after the next start */
    size_t restart_count;
};

struct change_desk;

/* `wake` is called (from any thread) when there is something to take. */
struct change_desk *change_desk_new(void (*wake)(void));
void change_desk_free(struct change_desk *desk);
/* Everyone who waits gets a 503, and so does who comes later. */
void change_desk_close(struct change_desk *desk);

/* Any thread but the main one: waits for the answer. */
void change_ask(struct change_desk *desk, struct change *change);
/* Main thread: the wish that waits, or NULL; then its answer is complete. */
struct change *change_take(struct change_desk *desk);
void change_done(struct change_desk *desk);
