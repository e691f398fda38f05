/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/recipient.c - RCPT: which domain, and what does its recipient flow say? (RFC 5321 3.3)
 *
 * The order is that of the manual: the domain is chosen among the listener's (exact, then any),
 * then that domain's flow runs for this recipient alone; last, strangers are kept from mixing
 * recipients whose messages could get different verdicts.
 */
#include "gateway/session.h"

#include "gateway/contain.h"
#include "gateway/loan.h"

#include <string.h>

static bool is_postmaster(const struct session *session, const struct mail_address *address)
{
    if (!str_equal_nocase(address->local, STR("postmaster")))
        return false;
    if (address->kind == MAIL_DOMAIN_NAME)
        return str_equal(address->domain, session->settings->hostname);
    return true; /* without a domain, or at our own address literal: the server saw to that */
}

/* What flows could see is told, so that a decision can be gone through again. */
static struct str tls_of(const struct smtp_peer *peer)
{
    return peer->tls && peer->tls->active ? peer->tls->version : STR_EMPTY;
}

/* Where its mail goes, unless the flow chose another transport. */
static const char *direction_of(const struct settings_domain *domain)
{
    return domain && domain->transport ? transport_direction_name(domain->transport) : "";
}

/* `domain` NULL: it is none of ours. */
static void refuse(struct session *session, struct str to, const struct settings_domain *domain,
                   const struct flow *flow, const struct flow_verdict *verdict,
                   struct mail_reply *out_reply)
{
    struct mail_ref ref;
    char enhanced[MAIL_ENHANCED_TEXT];
    *out_reply = session_with_ref(session, verdict->reply, &ref);
    const struct mail_sender *sender = smtp_session_sender(session->smtp);
    const struct smtp_peer *peer = smtp_session_peer(session->smtp);
    event_emit(
        verdict->kind == FLOW_DEFER ? EVENT_RECIPIENT_DEFER : EVENT_RECIPIENT_REJECT,
        F_C(REF, ref.chars), F_STR(FROM, sender->address), F_STR(TO, to),
        F_STR(DOMAIN, domain ? domain->name : STR_EMPTY), F_C(DIRECTION, direction_of(domain)),
        F_STR(FLOW, flow ? flow_name(flow) : STR_EMPTY), F_STR(STEP, verdict->step),
        F_C(REASON, mail_reason_name(verdict->reason)), F_INT(CODE, out_reply->code),
        F_STR(ENHANCED, mail_enhanced_text(out_reply->enhanced, enhanced)),
        F_STR(REPLY, out_reply->text), F_STR(DETAIL, verdict->detail), F_STR(USER, peer->user),
        F_STR(HELO, peer->helo), F_STR(CLIENT_NAME, peer->client_name), F_STR(TLS, tls_of(peer)));
}

/* Note the recipient's domain; false when it must come in a transaction of its own: a stranger may
 * not mix content flows, for a refusal of one after the acceptance of the other would be
 * backscatter. */
static bool join_transaction(struct session *session, const struct settings_domain *domain,
                             struct str transport)
{
    bool other = session->domain_count > 0 && session->domains[0]->content != domain->content;
    if (other && !session_is_own_user(session))
        return false;
    if (session->domain_count == session->domain_cap) {
        size_t cap = session->domain_cap ? session->domain_cap * 2 : 8;
        struct arena *arena = smtp_session_arena(session->smtp);
        const struct settings_domain **domains = arena_alloc_array(arena, cap, sizeof *domains);
        struct str *transports = arena_alloc_array(arena, cap, sizeof *transports);
        if (session->domain_count) {
            memcpy(domains, session->domains, session->domain_count * sizeof *domains);
            memcpy(transports, session->transports, session->domain_count * sizeof *transports);
        }
        session->domains = domains;
        session->transports = transports;
        session->domain_cap = cap;
    }
    session->transports[session->domain_count] = transport;
    session->domains[session->domain_count++] = domain;
    return true;
}

static void accept_recipient(struct session *session, struct str to,
                             const struct settings_domain *domain, struct str transport,
                             struct mail_reply *out_reply)
{
    if (!join_transaction(session, domain, transport)) {
        struct flow_verdict later = {
            .kind = FLOW_DEFER,
            .reply = mail_reply_of(452, 4, 5, 3, STR("Send this recipient in another transaction")),
            .reason = MAIL_REASON_POLICY,
            .detail = STR("another content flow than the recipients before"),
        };
        refuse(session, to, domain, NULL, &later, out_reply);
        return;
    }
    *out_reply = mail_reply_of(250, 2, 1, 5, STR("Ok"));
    const struct smtp_peer *peer = smtp_session_peer(session->smtp);
    event_emit(EVENT_RECIPIENT_ACCEPT, F_C(MESSAGE, mail_id_text(session->message).chars),
               F_STR(TO, to), F_STR(DOMAIN, domain->name),
               F_STR(FROM, smtp_session_sender(session->smtp)->address), F_STR(HELO, peer->helo),
               F_STR(CLIENT_NAME, peer->client_name), F_STR(TLS, tls_of(peer)));
}

/* <postmaster> goes to the configured address, whatever the recipient flow of its domain says. */
static void accept_postmaster(struct session *session, struct mail_recipient *recipient,
                              struct mail_reply *out_reply)
{
    struct str target = session->settings->postmaster;
    ptrdiff_t at = str_find_last(target, '@');
    struct str domain_name = at < 0 ? STR_EMPTY : str_from(target, (size_t)at + 1);
    /* any listener takes mail for postmaster, so the choice is among all domains */
    const struct settings_domain *domain = settings_route(session->settings, domain_name);
    if (!domain) {
        struct flow_verdict none = {
            .kind = FLOW_DEFER,
            .reply = mail_reply_of(451, 4, 3, 5, STR("No domain takes mail for postmaster")),
            .reason = MAIL_REASON_RELAY_DENIED,
        };
        refuse(session, STR("postmaster"), NULL, NULL, &none, out_reply);
        return;
    }
    recipient->address = target;
    recipient->domain = domain_name;
    accept_recipient(session, target, domain, STR_EMPTY, out_reply);
}

/* A recipient that its flow rewrote goes to the domain table again: its own domain decides where
 * it is sent and which content flow looks at it. NULL: this listener takes no mail for that. */
static const struct settings_domain *follow_rewriting(struct session *session,
                                                      const struct flow_effects *effects,
                                                      const struct settings_domain *domain,
                                                      struct mail_recipient *recipient)
{
    struct arena *arena = smtp_session_arena(session->smtp);
    if (!effects->came_as)
        return domain;
    if (!recipient->orcpt.len) /* who the sender meant (RFC 3461 5.2.3) */
        recipient->orcpt = arena_printf(arena, "rfc822;%.*s", STR_ARG(recipient->address));
    recipient->address = effects->recipients[0].address;
    recipient->domain = effects->recipients[0].domain;
    return settings_find_domain(session->settings, session->listener, recipient->domain);
}

/* The domain in the table of the listener; NULL: it is none of ours. */
static const struct settings_domain *find_domain(struct session *session, struct str name)
{
    if (!session->asked_name.len || !str_equal(session->asked_name, name)) {
        session->asked_name = name;
        session->asked_domain = settings_find_domain(session->settings, session->listener, name);
    }
    return session->asked_domain;
}

void session_recipient(struct session *session, const struct mail_address *address,
                       struct mail_recipient *recipient, struct mail_reply *out_reply)
{
    if (is_postmaster(session, address)) {
        accept_postmaster(session, recipient, out_reply);
        return;
    }
    struct arena *arena = smtp_session_arena(session->smtp);
    struct flow_verdict verdict = {
        .kind = FLOW_REJECT,
        .reply = mail_reply_of(550, 5, 7, 1, STR("Relaying denied")),
        .reason = MAIL_REASON_RELAY_DENIED,
    };
    const struct settings_domain *domain = find_domain(session, address->domain);
    if (!domain) {
        verdict.detail = arena_printf(arena, "no domain of listener %.*s takes mail for %.*s",
                                      STR_ARG(session->listener->name), STR_ARG(address->domain));
        refuse(session, recipient->address, NULL, NULL, &verdict, out_reply);
        return;
    }
    struct flow_facts facts;
    session_facts(session, &facts);
    facts.recipient = arena_lower(arena, recipient->address); /* its key */
    facts.recipient_domain = address->domain;
    facts.recipient_written = recipient->address;
    struct loan loan;
    loan_init(&loan, session->worker, session->settings, arena, &facts);
    const struct flow *flow = settings_recipient_flow(session->listener, domain);
    flow_run_recipient(flow, &loan.run, &verdict);
    if (facts.authenticated)
        incidents_note_recipient(session->worker->gateway->incidents, facts.user,
                                 str_c(session->client_text), facts.recipient_domain,
                                 verdict.reason == MAIL_REASON_RECIPIENT_UNKNOWN);
    contain_by_verdict(session->worker->gateway, session->settings, &facts, flow_name(flow),
                       &verdict);
    if (verdict.kind != FLOW_ACCEPT) {
        refuse(session, recipient->address, domain, flow, &verdict, out_reply);
        return;
    }
    struct str came_as = recipient->address;
    const struct settings_domain *target =
        follow_rewriting(session, &verdict.effects, domain, recipient);
    if (target) {
        accept_recipient(session, recipient->address, target, verdict.effects.transport, out_reply);
        return;
    }
    struct flow_verdict nowhere = {
        .kind = FLOW_DEFER,
        .reply = mail_reply_of(451, 4, 3, 5, STR("Try again later")),
        .reason = MAIL_REASON_RELAY_DENIED,
        .detail = arena_printf(arena, "it became <%.*s>, and no domain of this listener takes that",
                               STR_ARG(recipient->address)),
    };
    refuse(session, came_as, domain, flow, &nowhere, out_reply);
}
