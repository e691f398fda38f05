/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_xclient.c - XCLIENT, by which a trusted front end says who its client is.
 *
 * All or nothing: one wrong attribute and nothing changes. LOGIN is read and ignored: who may send
 * as whom is decided by our own authentication only.
 */
#include "smtp/server_internal.h"

#include "smtp/parameter.h"

struct claim {
    struct smtp_peer peer;
    struct str helo;
    bool address_given;
    bool name_given;
};

static bool is_unavailable(struct str value)
{
    return str_equal_nocase(value, STR("[UNAVAILABLE]")) ||
           str_equal_nocase(value, STR("[TEMPUNAVAIL]"));
}

static bool read_ip(struct str value, struct net_ip *out_ip)
{
    if (str_starts_nocase(value, STR("IPV6:")))
        value = str_from(value, 5);
    return net_ip_parse(value, out_ip);
}

static bool read_port(struct str value, uint16_t *out_port)
{
    uint64_t port;
    if (!str_to_uint(value, UINT16_MAX, &port))
        return false;
    *out_port = (uint16_t)port;
    return true;
}

static bool read_address(struct claim *claim, struct str value, bool unavailable)
{
    claim->address_given = true;
    claim->peer.via_proxy = unavailable;
    struct net_ip ip = {.family = 0};
    if (!unavailable && !read_ip(value, &ip))
        return false;
    if (!unavailable)
        claim->peer.client = (struct net_address){.ip = ip};
    return true;
}

static bool read_attribute(struct claim *claim, struct str name, struct str value)
{
    bool unavailable = is_unavailable(value);
    struct net_ip ip;
    if (str_equal_nocase(name, STR("ADDR")))
        return read_address(claim, value, unavailable);
    if (str_equal_nocase(name, STR("LOGIN")))
        return true;
    if (str_equal_nocase(name, STR("NAME"))) {
        claim->name_given = true;
        claim->peer.client_name = unavailable ? STR_EMPTY : value;
        return value.len <= HELO_MAX;
    }
    if (str_equal_nocase(name, STR("HELO"))) {
        claim->helo = unavailable ? STR_EMPTY : value;
        return value.len <= HELO_MAX;
    }
    if (str_equal_nocase(name, STR("PROTO"))) {
        claim->peer.esmtp = str_equal_nocase(value, STR("ESMTP"));
        return claim->peer.esmtp || unavailable || str_equal_nocase(value, STR("SMTP"));
    }
    if (str_equal_nocase(name, STR("PORT")))
        return unavailable || read_port(value, &claim->peer.client.port);
    if (str_equal_nocase(name, STR("DESTPORT")))
        return unavailable || read_port(value, &claim->peer.local.port);
    if (!str_equal_nocase(name, STR("DESTADDR")))
        return false;
    if (!unavailable && !read_ip(value, &ip))
        return false;
    if (!unavailable)
        claim->peer.local = (struct net_address){.ip = ip, .port = claim->peer.local.port};
    return true;
}

static bool read_claim(struct smtp_session *session, struct str arguments, struct claim *claim)
{
    struct arena *arena = smtp_session_arena(session);
    struct smtp_parameter parameter;
    enum smtp_parameter_step step;
    uint16_t port = 0;
    while ((step = smtp_parameter_next(&arguments, &parameter)) == SMTP_PARAMETER_ONE) {
        struct str value;
        if (!parameter.has_value || !smtp_xtext_decode(arena, parameter.value, false, &value) ||
            !read_attribute(claim, parameter.keyword, value))
            return false;
        /* ADDR behind PORT must not take the port away */
        if (claim->peer.client.port)
            port = claim->peer.client.port;
        claim->peer.client.port = port;
    }
    return step == SMTP_PARAMETER_END;
}

void smtp_server_xclient(struct smtp_session *session, struct str arguments)
{
    if (!session->may_xclient) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 502, 5, 1,
                                 "Command not implemented");
        return;
    }
    struct claim claim = {.peer = session->peer, .helo = STR_EMPTY};
    claim.peer.client.port = 0;
    if (arguments.len == 0 || !read_claim(session, arguments, &claim)) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 501, 5, 4, "Bad XCLIENT attribute");
        return;
    }
    /* the name of another address, which one before said or we found */
    struct str name = claim.address_given && !claim.name_given ? STR_EMPTY : claim.peer.client_name;
    if (name.len)
        name = arena_str(smtp_session_long_arena(session), name);
    /* its memory goes with the transaction's */
    smtp_session_set_helo(session, claim.helo);
    struct str helo = session->peer.helo;
    session->peer.client = claim.peer.client;
    session->peer.local = claim.peer.local;
    session->peer.via_proxy = claim.peer.via_proxy;
    smtp_session_forget(session);
    session->peer.client_name = name;
    session->peer.helo = helo;
    session->peer.esmtp = claim.peer.esmtp;
    smtp_session_set_client(session);
    smtp_server_greet(session, false);
}
