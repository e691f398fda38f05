/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/unpacker.h - archives are looked into by processes that can do nothing else.
 *
 * One process waits at a door; who wants files looked at makes a socket pair and sends one end
 * through it. For each such end the process forks another one, which reads one message's files,
 * says what is in them, and ends: what takes it over sees no other message, no file and no network
 * (base/confine.h). A few run at a time; further ends wait in the door.
 */
#pragma once

#include "content/unpack.h"
#include "fiber/fiber.h"

/* ---- the process ---- */

enum {
    UNPACKER_CPU_SECONDS = 5, /* for the files of one message */
    UNPACKER_SECONDS = 30,    /* by the clock */
    UNPACKER_MEMORY = 512 * 1024 * 1024,
};

/* The two ends of a door: [0] for any number of threads that ask, [1] for unpacker_run(). */
enum result unpacker_open(int out_ends[2], struct error *err);
/* In a process of its own, of one thread and without privileges: serve until the other end is
 * closed by all, then end. A process that follows this one may go on with the same end. */
_Noreturn void unpacker_run(int end);
/* What each forked process does, without being confined: for tests. Returns at the end of input. */
void unpacker_serve(int fd);

/* ---- who asks: on a fiber; one file at a time ---- */

struct unpacker { /* shared by all threads */
    int door;
};
struct unpacking;

/* ERROR_TEMPORARY: too many wait, for example. `unpacker` may be NULL: there is none. */
enum result unpacking_open(const struct unpacker *unpacker, struct unpacking **out,
                           struct error *err);
/* NULL is allowed. Ends the process. */
void unpacking_close(struct unpacking *unpacking);
/* A file: its limits (depth is cut to what is possible), its bytes in any pieces, and what is in
 * it. A file of more than UNPACK_INPUT_MAX is told as UNPACK_OVER. ERROR_LIMIT: it took too much
 * CPU. Other errors: the process ended or spoke nonsense; close it then. */
enum result unpacking_begin(struct unpacking *unpacking, const struct unpack_limits *limits,
                            struct error *err) MAY_YIELD;
enum result unpacking_write(struct unpacking *unpacking, struct str data,
                            struct error *err) MAY_YIELD;
enum result unpacking_finish(struct unpacking *unpacking, unpack_sink sink, void *context,
                             struct unpack_spent *out_spent, struct error *err) MAY_YIELD;
