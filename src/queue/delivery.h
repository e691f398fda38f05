/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/delivery.h - one attempt: a straight function from the route to the last reply.
 */
#pragma once

#include "queue/outcome.h"
#include "queue/worker.h"
#include "smtp/client.h"

enum queue_verdict {
    QUEUE_VERDICT_OPEN, /* not decided; counts as deferred in the end */
    QUEUE_VERDICT_DEFERRED,
    QUEUE_VERDICT_DELIVERED,
    QUEUE_VERDICT_FAILED,
    QUEUE_VERDICT_DISCARDED,
};

struct queue_result {
    enum queue_verdict verdict;
    struct queue_said said;
    bool told_onward; /* the next host knows DSN and will report itself */
};

/* A connection that a runner keeps from message to message. */
struct queue_connection {
    struct smtp_client *client; /* NULL: none */
    const struct queue_snapshot *snapshot;
    char host[256];
    struct net_address peer;
    unsigned messages;
    int64_t opened_ns;
    struct str tls; /* static texts */
    struct str cipher;
    struct str policy;             /* of TLS */
    char source[NET_ADDRESS_TEXT]; /* our own address of the connection */
};

struct queue_times {
    int64_t queue_us, limit_us, dns_us, connect_us, tls_us, greeting_us, transfer_us;
};

struct queue_attempt {
    struct queue_worker *worker;
    struct queue_entry *entry;
    struct arena *arena;
    const struct queue_snapshot *snapshot;
    const struct transport *transport;
    struct queue_meta meta;
    struct queue_record record;
    struct mail_content content;
    struct mail_content
        seven_bit;                /* its other form, made for a host without 8BITMIME; or no body */
    bool as_seven_bit;            /* this connection gets that one */
    struct queue_result *results; /* one a recipient of meta; those of done ones mean nothing */
    struct queue_times times;
    int64_t start_ns, start_wall_ns;
    bool reached;       /* a host was ready to take mail */
    bool no_plain;      /* STARTTLS was tampered with: no clear text in this attempt */
    bool no_chunking;   /* a host offered it and does not know BDAT */
    bool stopped;       /* cancelled: what is open was not tried */
    bool elsewhere;     /* a hook sent it to another server than the destination's */
    bool hold;          /* a hook says so: what is left is held */
    int64_t delay_ns;   /* to the next attempt, as a hook says; 0: the transport's */
    struct error error; /* of the destination, when it was not reached */
    /* for events */
    char host[256];
    char source[NET_ADDRESS_TEXT]; /* our own address there */
    struct net_address peer;
    struct str tls, cipher, policy;
    struct str provider; /* by the first MX host; empty: not by MX, or nothing was found */
};

/* Fills results; the connection is used, made, kept or closed. */
void queue_delivery_run(struct queue_attempt *attempt,
                        struct queue_connection *connection) MAY_YIELD;
/* May it be used for this attempt? Closes it if not. */
bool queue_connection_check(struct queue_connection *connection, const struct queue *queue,
                            const struct queue_snapshot *snapshot) MAY_YIELD;
void queue_connection_close(struct queue_connection *connection, const struct queue *queue,
                            bool politely) MAY_YIELD;
/* No mail: what the hosts say up to the login. The attempt has one open recipient and no entry. */
void queue_delivery_probe(struct queue_attempt *attempt, struct queue_probe *out) MAY_YIELD;
