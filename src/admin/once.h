/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/once.h - what was asked for once is done once: the field Idempotency-Key.
 *
 * A key stands for one request of one actor for 24 hours. That a request begins is on disk before
 * it is worked on, and its answer behind it, so that neither a lost answer nor the end of the
 * process does a thing twice; only what holds a secret is kept in memory alone. All of it is
 * bounded, and nothing is forgotten early: when it is full, requests with a new key are turned
 * away. Functions may be called from any thread.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "mail/id.h"

struct once;

enum { ONCE_KEY_MAX = 255, ONCE_HOURS = 24 };

/* The file is once.log in `folder`; it is made with the first key. `ceiling`: bytes of keys and
 * answers, 0: 16 MiB. FAILED: it is there and cannot
 * be read or is none of ours, so nobody knows what was done. */
enum result once_open(struct str folder, size_t ceiling, struct once **out_once, struct error *err);
void once_close(struct once *once); /* NULL is allowed */

struct once_request {
    struct str actor, key;
    struct str what; /* method, path and query */
    struct str body;
    bool secret; /* nothing of it goes to the disk */
    int64_t now_ms;
};
enum once_state {
    ONCE_NEW,     /* go on, then once_done or once_forget */
    ONCE_DONE,    /* the answer was this */
    ONCE_RUNNING, /* the first request is still at work */
    ONCE_OTHER,   /* the key came with another request */
    ONCE_UNKNOWN, /* the process ended meanwhile: nobody knows whether it was done */
    ONCE_FULL,    /* no room for another key, or the disk takes none */
};
struct once_answer {
    enum once_state state;
    struct mail_id id; /* made for the request when it began: for what is to bear an id */
    unsigned status;   /* of ONCE_DONE */
    struct str text;   /* in the arena */
};
/* Blocks: a file is synced. */
void once_begin(struct once *once, const struct once_request *request, struct arena *arena,
                struct once_answer *out);
/* It was done, and this was the answer; also after ONCE_UNKNOWN, for who found out. */
void once_done(struct once *once, const struct once_request *request, unsigned status,
               struct str text);
/* Nothing was done: the key is as if it had not come. */
void once_forget(struct once *once, const struct once_request *request);
