/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_proxy.c - the PROXY header that a peer in proxy_from must send before anything else.
 */
#include "smtp/server_internal.h"

#include "net/proxy.h"

enum {
    HEADER_WAIT_S = 30,
    SHORTEST = 15,  /* "PROXY UNKNOWN" and CRLF */
    V2_HEAD = 16,   /* then as many bytes as its last two say */
    LONGEST = 2048, /* as proxy_parse() takes */
};

/*
 * How much may be read without taking what stands behind the header: that may be the begin of a
 * TLS handshake, which must be left to TLS. A header of version 1 says its end only by CRLF.
 */
static size_t next_read(struct str input)
{
    if (input.len < SHORTEST)
        return SHORTEST;
    if (input.ptr[0] == 'P')
        return input.len + 1;
    if (input.len < V2_HEAD)
        return V2_HEAD;
    size_t body = (size_t)(unsigned char)input.ptr[14] << 8 | (unsigned char)input.ptr[15];
    size_t whole = V2_HEAD + body;
    return whole > input.len && whole <= LONGEST ? whole : input.len + 1;
}

static void refuse_header(struct smtp_session *session)
{
    event_emit(EVENT_SESSION_PROTOCOL, F_C(COMMAND, "PROXY"), F_C(DETAIL, "no valid PROXY header"));
    smtp_session_end(session, "protocol");
}

bool smtp_server_proxy(struct smtp_session *session)
{
    struct smtp_wait wait =
        smtp_wait_earlier(smtp_session_command_wait(session),
                          clock_deadline(HEADER_WAIT_S * NS_PER_S), "command_timeout");
    for (;;) {
        size_t used = 0;
        struct net_address client;
        struct net_address local;
        switch (proxy_parse(stream_buffered(session->stream), &used, &client, &local)) {
        case PROXY_MORE:
            if (!smtp_session_fill_up_to(session, next_read(stream_buffered(session->stream)),
                                         wait))
                return false;
            continue;
        case PROXY_INVALID:
            refuse_header(session);
            return false;
        case PROXY_UNKNOWN:
            session->peer.via_proxy = true;
            break;
        case PROXY_CLIENT:
            session->peer.client = client;
            session->peer.local = local;
            break;
        }
        stream_consume(session->stream, used);
        return true;
    }
}
