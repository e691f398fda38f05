/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook/sender.h - how a delivery reaches its receiver. What decides when and what to send knows
 * no protocol; tests lend their own sender.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

struct webhook_settings;
struct dns_settings;
struct loop;

struct webhook_request {
    const struct webhook_settings *webhook;
    struct str id;
    int64_t seconds; /* wall clock */
    struct str signature;
    struct str body;
};
struct webhook_reply {
    unsigned status;
    struct str retry_after; /* as it was given, or empty */
    struct str answer;      /* its beginning */
};

struct webhook_sender {
    /* A MAY_YIELD function, within the caller's time. Texts in `arena`. FAILED: no answer. */
    enum result (*send)(struct webhook_sender *sender, const struct webhook_request *request,
                        struct arena *arena, struct webhook_reply *out, struct error *err);
    void (*free)(struct webhook_sender *sender); /* on the loop's thread */
};

/* By HTTP/1.1, a connection a request; names are looked up as the configuration says. On the loop's
 * thread. */
enum result webhook_sender_http(struct loop *loop, const struct dns_settings *dns,
                                struct webhook_sender **out_sender, struct error *err);
