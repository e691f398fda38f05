/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/rehearsal_session.h - a whole conversation with the real SMTP server and the compiled
 * flows, of which nothing is kept, sent or asked of the network.
 */
#pragma once

#include "gateway/rehearsal.h"

struct rehearsal_session {
    const struct settings *settings;
    const struct settings_listener *listener;
    struct directory *directory;     /* see directory/stated.h */
    const struct resolver *resolver; /* NULL: DNS gives no answer */
    struct net_ip client;
    bool tls; /* the client is taken to have TLS; without it STARTTLS is as the listener says */
    /* After each decision: what it was, one line without a line feed. */
    void (*tell)(void *context, const struct rehearsal *decision, const char *what);
    void *context;
};

/* Serve the other end of `fd` (a connected socket of the loopback interface, taken over) until it
 * says QUIT or goes. Makes a loop of its own: not inside of one. */
enum result rehearsal_session_run(const struct rehearsal_session *in, int fd, struct error *err);
