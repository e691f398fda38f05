/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/route.h - which hosts an attempt may speak to, in order (RFC 5321 5.1, 7505).
 */
#pragma once

#include "mail/reply.h"
#include "net/dns.h"
#include "queue/queue.h"

enum { QUEUE_ROUTE_HOSTS = 10, QUEUE_ROUTE_PER_HOST = 4, QUEUE_ROUTE_TARGETS = 20 };

struct queue_target {
    struct net_address address;
    struct str host; /* name for TLS and reports; the address when there is no name */
};

enum queue_route_status {
    QUEUE_ROUTE_FOUND,
    QUEUE_ROUTE_FAILED, /* for good, as `reply` says */
    QUEUE_ROUTE_RETRY   /* no answer now, as `reply` says (code 0) */
};
struct queue_route {
    enum queue_route_status status;
    struct queue_target *targets;
    size_t count;
    struct mail_reply reply;
};

/* One host of the MX set with what is known about it. */
struct queue_route_host {
    unsigned preference;
    struct str name;
    const struct net_ip *ips;
    size_t ip_count;
    bool unknown; /* its addresses could not be asked now */
};
struct queue_route_rules {
    uint16_t port;
    bool allow_private;
    struct str hostname; /* ours */
    bool (*is_own)(const void *context, const struct net_address *address);
    bool own_port; /* one of our listeners has the port: an MX of our name is us */
    const void *context;
};
/* Pure: an own address or name removes its preference and all worse ones; private addresses are
 * left out. `hosts` are ordered by preference. Targets live in `arena`. */
void queue_route_select(const struct queue_route_host *hosts, size_t count,
                        const struct queue_route_rules *rules, struct arena *arena,
                        struct queue_route *out);

/* For any method but discard. FAILED only as fiber_suspend(). */
enum result queue_route_find(struct dns *dns, const struct queue_handler *handler,
                             const struct queue_snapshot *snapshot,
                             const struct transport *transport, struct str domain,
                             struct arena *arena, struct queue_route *out,
                             struct error *err) MAY_YIELD;
