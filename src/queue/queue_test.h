/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/queue_test.h - a queue with a real spool, workers in threads, and a mail server on loopback
 * that takes, defers and refuses as the local part of a recipient says.
 */
#pragma once

#include "base/buf.h"
#include "base/check.h"
#include "base/memory.h"
#include "event/event.h"
#include "fiber/loop.h"
#include "queue/queue.h"
#include "net/dns.h"
#include "spool/spool.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* behind ours: it defines a macro named fail */

/*
 * The peer. Local parts: "ok…" is taken; "never…" gets 550 5.1.1; "later…" gets 451 until
 * `deferrals` were given out; "data…" is refused after the data with 554 5.7.1.
 */
struct sink;
struct sink *sink_new(void);
void sink_free(struct sink *sink);
uint16_t sink_port(const struct sink *sink);
void sink_set_deferrals(struct sink *sink, unsigned deferrals);
/* Greet with this from now on; NULL: 220. */
void sink_set_greeting(struct sink *sink, const char *greeting);
/* Answer DATA only when this is over. */
void sink_set_stalled(struct sink *sink, bool stalled);
/* Take so long for each message. */
void sink_set_delay(struct sink *sink, unsigned milliseconds);
/* How many transactions ended with 250, connections came, RCPT commands were heard. */
unsigned sink_taken(struct sink *sink);
unsigned sink_connections(struct sink *sink);
unsigned sink_rcpts(struct sink *sink);
/* Most transactions there were at once. */
unsigned sink_most_at_once(struct sink *sink);
/* The data of the last message for this recipient, or NULL; the caller frees. */
char *sink_message_for(struct sink *sink, const char *recipient);

struct world {
    char folder[64];
    struct sink *sink;
    struct server server;
    struct transport transports[4];
    size_t transport_count;
    int64_t delays[4];
    struct spool *spool;
    struct queue *queue;
    struct spool_vault *vault; /* NULL: nothing is encrypted */
    size_t workers;
    struct world_worker *threads;
    uint16_t own_port; /* one of our listeners, on every address; 0: none */
    int64_t grace_ns;  /* what stopping gives to running attempts */
    enum queue_content_verdict content_verdict;
    atomic_bool content_waits; /* a content run takes as long as this is true */
    bool no_postmaster;        /* none that a transport takes mail for */
    atomic_uint content_runs;
    size_t content_findings; /* bytes of them, in a group that is held; 0: no group is named */
    /* asked around attempts, of a transport with a script; NULL: nobody */
    void (*hook)(struct world *world, struct queue_hook *hook);
    atomic_uint hooks;
    atomic_uint delivered_inbound;
    atomic_int account; /* enum queue_account: that all letters are of */
    pthread_barrier_t barrier;
};

/* A folder, a sink and a transport "out" to it; not yet running. */
void world_init(struct world *world, size_t workers);
void world_done(struct world *world);
/* Open the spool and start the workers; stop them again (what is in work ends). */
void world_start(struct world *world);
void world_stop(struct world *world);

struct letter {
    const char *from; /* NULL: sender@example.org */
    const char *to[8];
    size_t many;           /* so many more recipients, "ok-N@example.net" */
    size_t domains;        /* > 0: of these, N of "ok-N@dN.test" counts down and begins again */
    const char *transport; /* NULL: "out" */
    const char *content_flow;
    const char *quarantine; /* of a held one, with a content flow */
    const char *text;       /* NULL: a small one */
    const char *refused;    /* one more recipient that the content flow refused */
    unsigned notify;
    bool stranger;
    bool held;
    enum mail_reason held_reason; /* NONE: spam */
    size_t worker;
    int64_t within_ns; /* the client's patience; 0: no end */
};
/* Submit on a worker and wait for the answer. */
enum result world_submit(struct world *world, const struct letter *letter, struct error *err);
/* The same, and it must be taken. */
void send_one(struct world *world, const struct letter *letter);
/* Put an entry into the spool that the queue does not know; its id. */
struct mail_id world_add_stray(struct world *world);
/* `count` letters at once, in one fiber each. */
void world_submit_many(struct world *world, const struct letter *letter, size_t count);

/* Compare the books with the spool now; how many entries differ. */
size_t world_audit(struct world *world);
struct queue_totals totals(struct world *world);
/* So many entries are left, nothing moves, and the books agree. */
bool is_settled(struct world *world, uint64_t entries);

/* WAIT_FOR fails the test when the condition does not come true within about 20 s. */
bool world_pause(void);
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        unsigned turns_ = 0;                                                                       \
        while (!(condition))                                                                       \
            if (!world_pause() || ++turns_ > 20000)                                                \
                fail_msg("never came true: %s", #condition);                                       \
    } while (0)
