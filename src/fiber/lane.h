/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/lane.h - threads for calls that block (files, crypt, LDAP).
 *
 * Each lane has its own threads and its own bound on jobs that wait, so that a hung directory
 * stops nothing else. A job owns its memory: a waiter that gives up abandons it, and the lane
 * releases it when the work is over.
 */
#pragma once

#include "fiber/fiber.h"

struct lane;

struct lane_job {
    void (*work)(struct lane_job *job);    /* on a lane thread; may block; must not touch fibers */
    void (*release)(struct lane_job *job); /* frees an abandoned job; on any thread */
    struct lane_job_state *state;          /* the lane's */
};

/* `name` is static. At most `max_waiting` jobs wait beside those that run. */
struct lane *lane_new(const char *name, unsigned threads, size_t max_waiting);
/* The same for jobs that compute long: they take what the rest of the process leaves of the
 * processors (nice 10, where that is allowed). */
struct lane *lane_new_background(const char *name, unsigned threads, size_t max_waiting);
/* Waits for the running jobs; releases those that wait. No fiber may be inside lane_run. */
void lane_free(struct lane *lane);

/*
 * Do the job and wait for it. OK: the work is done and the job is the caller's again. FAILED: the
 * job is the lane's, which will release it; ERROR_LIMIT when too many wait, else as
 * fiber_suspend().
 */
enum result lane_run(struct lane *lane, struct lane_job *job, struct error *err) MAY_YIELD;

/* What runs and what waits is to end soon: lane_job_is_abandoned() says so to the work of each,
 * though somebody still waits for it. Any thread. */
void lane_stop(struct lane *lane);

/* For `work`, in between: has the waiter given up, or the lane been stopped, so that nobody wants
 * what comes of it? */
bool lane_job_is_abandoned(const struct lane_job *job);

/* Jobs waiting and running now. */
size_t lane_load(const struct lane *lane);
