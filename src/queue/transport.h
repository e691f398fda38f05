/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/transport.h - how mail leaves: the `transports` section.
 */
#pragma once

#include "config/option.h"
#include "net/server.h"

enum transport_method { TRANSPORT_SERVER, TRANSPORT_LOOKUP_MX, TRANSPORT_LMTP, TRANSPORT_DISCARD };
enum transport_direction { TRANSPORT_INBOUND, TRANSPORT_OUTBOUND };
enum transport_eight_bit {
    TRANSPORT_EIGHT_BIT_SEND,
    TRANSPORT_EIGHT_BIT_CONVERT,
    TRANSPORT_EIGHT_BIT_FAIL
};
enum transport_to_strangers { TRANSPORT_DSN_VERIFIED, TRANSPORT_DSN_ALWAYS, TRANSPORT_DSN_NEVER };
enum transport_on_error { TRANSPORT_ON_ERROR_DEFER, TRANSPORT_ON_ERROR_NEXT };
enum { TRANSPORT_NOTIFY_FAILURE, TRANSPORT_NOTIFY_DELAY, TRANSPORT_NOTIFY_SUCCESS };

struct transport_retry {
    struct option_durations delays;
    int64_t count; /* -1 in the file's absence: as many as delays */
};

/* Functions that are asked around each attempt; what they are is the business of who has them. */
struct transport_script {
    struct str file; /* empty: none */
    struct str before, after;
    struct option_texts servers; /* that an attempt may be sent to instead */
    int on_error;                /* enum transport_on_error: of a fault before an attempt */
    uint64_t memory;
    int64_t work;
    int64_t time_ns;
};

struct transport {
    struct str name;
    int method;
    struct str server_name;
    const struct server *server; /* method server and lmtp */
    int direction;
    int64_t port; /* lookup-mx: 25 */
    int tls;      /* enum server_tls; for lookup-mx; a server's entry has its own */
    struct tls_context *tls_context;
    struct str source_address;
    struct str helo; /* default: hostname */
    struct transport_retry retry;
    unsigned dsn; /* set of 1 << TRANSPORT_NOTIFY_… */
    int dsn_to_strangers;
    int64_t delay_after_ns;     /* 4h */
    int64_t expire_ns;          /* 5d */
    int64_t attempt_timeout_ns; /* 5m */
    int eight_bit;
    unsigned ignored_extensions; /* set of enum smtp_extension */
    bool allow_private;
    int64_t limit_connections; /* 20 */
    struct option_rate limit_messages;
    struct transport_script script;
    struct config_place place;
};

enum result transport_bind_all(const struct config_node *section,
                               const struct option_context *context, const struct server *servers,
                               size_t server_count, struct transport **out, size_t *out_count);
const struct transport *transport_find(const struct transport *transports, size_t count,
                                       struct str name);
/* "inbound" or "outbound". */
const char *transport_direction_name(const struct transport *transport);
/* When is retry `k` (from 1) due after the start of the attempt before; -1: there is no retry k. */
int64_t transport_retry_delay(const struct transport *transport, unsigned k);
extern const struct option_table transport_options;
