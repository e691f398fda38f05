/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/attempt.h - scripts around an attempt of delivery: transports.*.script.
 *
 * Compiled with the configuration, run by who delivers. The facts of the session are gone by then;
 * what is left are envelope, message and attempt.
 */
#pragma once

#include "flow/flow.h"

struct flow_attempt_script; /* in the arena of the configuration */

struct flow_attempt_options {
    struct str transport; /* its name */
    struct str file;
    struct str before, after; /* functions; empty: none */
    struct option_texts servers;
    uint64_t memory;
    int64_t work;
    int64_t time_ns;
    struct config_place file_place, before_place, after_place;
};
/* NULL: problems were reported. */
const struct flow_attempt_script *flow_attempt_compile(const struct flow_compile_context *context,
                                                       const struct flow_attempt_options *options);

struct flow_attempt_recipient {
    struct str address;
    struct mail_reply reply; /* before: the last time's */
    struct str host;
    const char *outcome; /* "open", "delivered", "deferred", "failed" */
};
struct flow_attempt {
    bool after;
    struct mail_id message, session;
    struct str sender; /* "" for <> */
    const struct flow_attempt_recipient *recipients;
    size_t recipient_count;
    struct str transport, destination, host;
    unsigned number; /* from 1 */
    int64_t age_ns;
    uint64_t size;
};

enum flow_attempt_kind {
    FLOW_ATTEMPT_NEXT,
    FLOW_ATTEMPT_DEFER,
    FLOW_ATTEMPT_REJECT,
    FLOW_ATTEMPT_HOLD,
    FLOW_ATTEMPT_ROUTE
};
struct flow_attempt_said {
    bool fault; /* the script failed: `detail` */
    enum flow_attempt_kind kind;
    struct mail_reply reply;     /* code 0: none was given */
    int64_t delay_ns;            /* 0: none was given */
    const struct server *server; /* ROUTE */
    struct str detail;
};
/* `run` lends arena, directory, state, resolver, ways and lane; told in an event. */
void flow_attempt_run(const struct flow_attempt_script *script, const struct flow_run *run,
                      const struct flow_attempt *attempt, struct flow_attempt_said *out) MAY_YIELD;
