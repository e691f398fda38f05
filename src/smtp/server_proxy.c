/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_proxy.c - the PROXY header that a peer in proxy_from must send before anything else.
 */
#include "smtp/server_internal.h"

#include "net/proxy.h"

enum { HEADER_WAIT_S = 30 };

static void refuse_header(struct smtp_session *session)
{
    session->command = STR("PROXY");
    smtp_session_tell_protocol(session, "no valid PROXY header");
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
            if (!smtp_session_fill(session, wait))
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
