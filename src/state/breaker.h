/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state/breaker.h - a backend that failed three times in a row is left alone for five seconds; then
 * one question finds out whether it is back.
 *
 * What one question breaks says nothing about others: a fault in the midst of a conversation counts
 * once for whatever it was about, and then keeps nobody waiting either; so one message that makes a
 * scanner hang up stops no other. What strangers can ask and what users can ask of the same backend
 * has a breaker each.
 *
 * All workers share a breaker; every field is atomic. Its two events, backend.down and backend.up,
 * come once each time: down when it could not even be reached, or is left alone after faults about
 * three different things.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"

#include <stdatomic.h>

struct state;

enum { BREAKER_FAULTS = 3 };

struct breaker {
    char *name;        /* owned */
    atomic_int faults; /* in a row */
    /* What the last faults were about, where it was something; in a ring. Workers that fail at the
     * same moment may count a thing twice. */
    _Atomic uint64_t abouts[BREAKER_FAULTS - 1];
    atomic_uint next_about;
    _Atomic int64_t closed_until; /* monotonic: no questions before it */
    atomic_bool probing;          /* one question is out to see whether it is back */
    atomic_bool down;             /* told by backend.down */
    _Atomic int64_t down_wall_ns; /* since when */
};

void breaker_init(struct breaker *breaker, struct str name);
void breaker_done(struct breaker *breaker);

/* After OK exactly one of settle() or abandoned() follows. FAILED (temporary): it is left alone
 * now. */
enum result breaker_admit(struct breaker *breaker, struct error *err);
/* `failed`: NULL after an answer; one of the kind cancelled is as abandoned(). `about`: a hash of
 * what was asked, the same when it is asked again; 0 when the backend could not even be reached.
 * `begun_ns` (monotonic) is for the time in backend.answer. */
void breaker_settle(struct breaker *breaker, int64_t begun_ns, uint64_t about,
                    const struct error *failed);
/* The question was given up: nothing is known. */
void breaker_abandoned(struct breaker *breaker);

/* The one of this name, made when it is asked for first; lives as long as the state. */
struct breaker *state_breaker(struct state *state, struct str name);
/* For names that do not come from the configuration: NULL when there are too many already. */
struct breaker *state_breaker_if_few(struct state *state, struct str name);
