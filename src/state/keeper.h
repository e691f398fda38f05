/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state/keeper.h - where counts and answers rest while no worker runs.
 *
 * The state is in memory; a keeper is told lazily what changed and asked once, at start. Another
 * kind of storage fills the same four functions. What it says at start is believed, so it must be
 * as private as the process.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"

enum state_record_kind {
    STATE_RECORD_LIMIT,
    STATE_RECORD_VALUE,
    STATE_RECORD_SECRET,
    STATE_RECORD_FACT, /* of somebody above, who bounds them */
};

struct state_record {
    enum state_record_kind kind;
    struct str key;
    struct str value;
    int64_t until_ms; /* wall clock; forgotten then. 0: to be removed */
};

struct state_keeper;
typedef void state_take_record(const struct state_record *record, void *arg);

struct state_keeper_ops {
    /* Every record that is not over, the longest-lived last; texts are borrowed until `each`
     * returns. */
    enum result (*load)(struct state_keeper *keeper, int64_t now_ms, state_take_record *each,
                        void *arg, struct error *err);
    /* Put, replace or remove these, all or none. On one thread, as all that follow. */
    enum result (*store)(struct state_keeper *keeper, const struct state_record *records,
                         size_t count, struct error *err);
    /* One bounded piece of forgetting: what is over, and of counts and answers all but the `most`
     * that live longest. */
    enum result (*tend)(struct state_keeper *keeper, int64_t now_ms, size_t most,
                        struct error *err);
    void (*close)(struct state_keeper *keeper);
};

struct state_keeper {
    const struct state_keeper_ops *ops;
};

/* A file; made if missing, readable by its owner only. One that is damaged is set aside (renamed,
 * `*out_aside`) and a new one begun. */
enum result state_keeper_open_sqlite(const char *path, struct state_keeper **out_keeper,
                                     bool *out_aside, struct error *err);
