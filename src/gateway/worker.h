/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/worker.h - one worker: a thread with its loop, resolver, kept directory connections and
 * sessions; and the gateway that all workers share.
 *
 * Shared inside gateway/ only.
 */
#pragma once

#include "base/map.h"
#include "fiber/fiber.h"
#include "fiber/loop.h"
#include "gateway/gateway.h"
#include "gateway/intake.h"
#include "gateway/occupancy.h"

#include <pthread.h>
#include <stdatomic.h>

struct directory;
struct directory_shared;
struct dns;
struct incidents;
struct lane;
struct mailboxes;
struct queue;
struct replies;
struct settings;
struct settings_listener;
struct spool;
struct spool_vault;
struct state;

struct closing;
struct worker_socket; /* a listening socket in this worker's epoll set */

struct worker {
    struct gateway *gateway;
    size_t index;
    pthread_t thread;
    struct loop *loop;
    struct error error; /* why it could not start */

    /* the worker thread's own */
    struct settings *settings; /* in force; replaced by a post at reload */
    struct settings *trial;    /* for a share of new sessions; or NULL */
    unsigned share;            /* of 100 */
    struct dns *dns;
    struct directory *directory;
    struct scope sessions;
    struct list open_sessions;
    struct intake_budget intake;
    struct worker_socket *sockets;
    size_t socket_count;
    struct loop_timer heartbeat;
    size_t at_rest;          /* fibers that came to rest since the heap was trimmed */
    uint64_t switches;       /* into fibers, at the last look; */
    uint64_t busiest;        /* most between two looks, since it calmed down */
    struct closing *closing; /* while it drains */
    bool left;               /* its sessions have ended for good */

    /* read by others */
    atomic_size_t session_count;
    atomic_uint_least64_t heartbeats;

    /* the main thread's */
    uint64_t seen_beats;
    int64_t seen_ns;
};

struct gateway {
    struct gateway_options options;
    struct gateway_start start;
    struct worker *workers;
    size_t worker_count;
    pthread_barrier_t loops_made;
    pthread_barrier_t parts_made;
    pthread_barrier_t ended;      /* of the workers alone */
    atomic_size_t workers_closed; /* the last one stops all loops */

    struct spool *spool;
    struct state *state;
    struct queue *queue;
    struct spool_vault *vault;
    struct directory_shared *directories;
    struct lane *http; /* questions of scripts to web services */
    struct occupancy *occupancy;
    struct replies *replies;
    struct mailboxes *mailboxes;
    struct incidents *incidents;
    struct lane *incident_lane; /* opens them for flows */
    pthread_mutex_t settling;   /* one thread at a time goes through mail of closed incidents */

    atomic_bool draining;
    atomic_uint_least64_t sessions_total;
    atomic_uint_least64_t messages_accepted;
    int64_t started_wall_ns;

    pthread_mutex_t mutex; /* settings, for threads that are no workers */
    struct settings *settings;
    int64_t applied_wall_ns;
    size_t pending; /* workers that have not answered the last question */
    pthread_cond_t answered;

    struct map expiring; /* certificate -> days left, as told; of the thread that refreshes */
};

/* Emit `certificate.expiring` where it is time for it. */
void gateway_tell_expiring(struct gateway *gateway);

/* The worker of the calling thread. */
struct worker *worker_current(void);
/* Start the thread; it waits at the gateway's barriers. */
enum result worker_start(struct worker *worker, struct error *err);
/* From another thread: use these settings and sockets (listener by listener, each in the order of
 * its addresses) from now on; sessions keep the settings they began with. Counts gateway->pending
 * down. */
void worker_apply(struct worker *worker, struct settings *settings, const int *fds, size_t count);
/* From another thread: give `trial` (NULL: none) to a share of new sessions. Counts likewise. */
void worker_share(struct worker *worker, struct settings *trial, unsigned share);
/* From another thread: close the listening sockets, let sessions end until `deadline_ns`, then
 * leave the queue and stop the loop. */
void worker_drain(struct worker *worker, int64_t deadline_ns);

/* ---- a session (session.c) ---- */

/* A connection that was just accepted. */
struct session_socket {
    int fd;
    struct net_address peer;
    struct net_address local; /* no family: not known yet */
};
/* On the worker's thread: serve the connection in a fiber of its own; takes `fd` over. The session
 * keeps a reference to `settings`, of which the listener is one. */
void session_start(struct worker *worker, const struct settings *settings,
                   const struct session_socket *socket, size_t listener_index);
/* Say 421 to a connection that nothing is left for, and tell it; the caller closes it. */
void session_refuse_socket(const struct session_socket *socket, struct str listener,
                           const char *limit, const char *detail);
/* Say goodbye to clients that are between two transactions (drain). */
void session_end_idle(struct worker *worker);
