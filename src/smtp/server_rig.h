/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_rig.h - for tests: a whole server on one end of a stream in memory, with a handler
 * that decides by the names in addresses.
 *
 * Logins: alice/secret is right, later/… is not decided now. Recipients: unknown@ 550, later@ 451,
 * domains example.org and example.net, postmaster and literals are accepted, others 550 5.7.1.
 * Senders: refused@ is refused at MAIL, reject@ after the data, nobody@ gets no body.
 */
#pragma once

#include "base/buf.h"
#include "smtp/server.h"

struct rig {
    struct smtp_server_settings settings;
    struct stream *server;
    struct stream *client;
    atomic_bool draining;
    bool refuse_connection;
    size_t body_max; /* what a body of the rig can hold; 0: enough */
    /* what came of it */
    bool done;
    unsigned messages;
    unsigned connections; /* calls of connected() */
    unsigned resets;
    unsigned asked;           /* calls of authenticate() */
    struct buf envelope;      /* "sender > recipient recipient" of the last message */
    struct buf message;       /* of the last message */
    struct buf facts;         /* client, helo and so on at the last MAIL */
    struct smtp_message last; /* numbers only; pointers are stale */
};

/* Sensible settings, all limits at their defaults, AUTH allowed in clear. */
void rig_init(struct rig *rig);
void rig_done(struct rig *rig);
/* Body of the server's fiber: runs the session and closes its end. */
void rig_serve(void *rig);
