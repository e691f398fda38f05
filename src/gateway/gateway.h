/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/gateway.h - joins listeners, sessions, flows, spool and queue: the running product.
 *
 * Owned by the child's main thread, which calls everything here; workers are threads inside.
 */
#pragma once

#include "base/error.h"
#include "mail/id.h"

struct gateway;
struct queue_poison_page;
struct settings;
struct unpacker;

struct gateway_options {
    struct str config_path;                /* shown in the status; outlives the gateway */
    struct queue_poison_page *poison_page; /* shared with the supervisor; NULL: none */
    const struct mail_id *suspects;        /* entries worked on at two crashes: held */
    size_t suspect_count;
    bool delivery_paused;            /* after repeated crashes */
    const struct unpacker *unpacker; /* NULL: archives cannot be looked into */
};

/* Open the spool, recover the queue, start the workers; listening begins with gateway_apply(). A
 * reference to `settings` is taken. */
enum result gateway_new(struct settings *settings, const struct gateway_options *options,
                        struct gateway **out_gateway, struct error *err);
/*
 * Put `settings` (a reference is taken) into force for new sessions. `fds`: a listening socket for
 * each address of each listener, in order; they stay the caller's, who closes those of the
 * configuration before only after this has returned.
 */
void gateway_apply(struct gateway *gateway, struct settings *settings, const int *fds,
                   size_t count);
/*
 * Give `trial` (a reference is taken) to `share` of 100 new sessions, by the network of the client,
 * so that each client sees one configuration; NULL: to none. Sockets, transports and the queue stay
 * those of the settings in force. gateway_apply() ends it.
 */
void gateway_share(struct gateway *gateway, struct settings *trial, unsigned share);
/* Sections of which something is set up once, at a start. */
enum gateway_section {
    GATEWAY_SPOOL,
    GATEWAY_CONTROL,
    GATEWAY_WORKERS,
    GATEWAY_USER,
    GATEWAY_DNS,
    GATEWAY_ADMIN,
    GATEWAY_METRICS,
    GATEWAY_EVENTS,
    GATEWAY_LOG,
    GATEWAY_REPORTS,
    GATEWAY_MEMORY,
    GATEWAY_SECTIONS
};
/* What they were, without the settings: those hold keys, which leave when they do. */
struct gateway_start {
    uint64_t hashes[GATEWAY_SECTIONS];
};
struct gateway_start gateway_start_of(const struct settings *settings);
/* Names of sections that differ from what they were at the start: they count after the next. */
size_t gateway_restart_sections(const struct gateway_start *start, const struct settings *after,
                                const char *out[static GATEWAY_SECTIONS]);
/* Take no more connections, let sessions and attempts end until `deadline_ns` (monotonic), stop the
 * workers, close the spool. Blocks. */
void gateway_drain(struct gateway *gateway, int64_t deadline_ns);
void gateway_free(struct gateway *gateway);

/* False when a worker has not come round for 5 s: the process should abort and start anew. */
bool gateway_is_alive(struct gateway *gateway);
/* Read changed certificate files; now and then, blocks for file reads. */
void gateway_refresh(struct gateway *gateway);
