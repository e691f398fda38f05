/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/rehearsal.h"

#include "gateway/plan.h"
#include "gateway/rehearsal_internal.h"
#include "smtp/address.h"

enum { STATE_ENTRIES = 1000, TEXT_MAX = 64 * 1024 * 1024 };

static void refuse(struct rehearsing *run, struct mail_reply reply, enum mail_reason reason)
{
    run->out->reply = reply;
    run->out->reason = reason;
}

static struct flow_run lend(struct rehearsing *run)
{
    run->ways = plan_ways(run->in->settings);
    return (struct flow_run){.arena = run->in->arena,
                             .directory = run->in->directory,
                             .state = run->state,
                             .resolver = run->in->resolver,
                             .facts = &run->facts,
                             .ways = &run->ways,
                             .hostname = run->in->settings->hostname,
                             .stated = run->in->stated,
                             .stated_count = run->in->stated_count};
}

static void take_verdict(struct rehearsing *run, const struct flow_verdict *verdict)
{
    run->out->detail = verdict->detail;
    if (verdict->kind == FLOW_REJECT || verdict->kind == FLOW_DEFER)
        refuse(run, verdict->reply, verdict->reason);
}

/* ---- the session: what the SMTP server and its listener allow ---- */

static bool may_log_in(struct rehearsing *run)
{
    const struct smtp_server_settings *smtp = &run->in->listener->smtp;
    bool cleartext = smtp->allow_cleartext_auth && smtp->tls != SMTP_TLS_REQUIRED;
    run->out->auth = "refused";
    if (!run->in->listener->authentication ||
        (!run->in->tls && smtp->tls == SMTP_TLS_NONE && !cleartext)) {
        refuse(run, mail_reply_of(502, 5, 5, 1, STR("Authentication is not offered")),
               MAIL_REASON_PROTOCOL);
        return false;
    }
    if (!run->in->tls && !cleartext) {
        refuse(run, mail_reply_of(530, 5, 7, 0, STR("Must issue a STARTTLS command first")),
               MAIL_REASON_TLS_REQUIRED);
        return false;
    }
    return true;
}

bool rehearsal_login(struct rehearsing *run, struct str user, struct str password)
{
    struct flow_verdict verdict;
    struct flow_run lent = lend(run);
    flow_run_authentication(run->in->listener->authentication, &lent, user, password, &verdict);
    run->out->auth = flow_verdict_name(verdict.kind);
    run->out->step = verdict.step;
    take_verdict(run, &verdict);
    if (verdict.kind != FLOW_ACCEPT)
        return false;
    run->out->reply = mail_reply_of(235, 2, 7, 0, STR("Authenticated"));
    run->facts.authenticated = true;
    run->facts.user = verdict.account.len ? verdict.account : user;
    run->facts.own_addresses = verdict.own_addresses;
    run->facts.own_address_count = verdict.own_address_count;
    return true;
}

static bool may_send(struct rehearsing *run)
{
    const struct smtp_server_settings *smtp = &run->in->listener->smtp;
    struct mail_address from;
    struct mail_reply fault;
    run->out->recipient = "refused";
    if (smtp->tls == SMTP_TLS_REQUIRED && !run->in->tls) {
        refuse(run, mail_reply_of(530, 5, 7, 0, STR("Must issue a STARTTLS command first")),
               MAIL_REASON_TLS_REQUIRED);
        return false;
    }
    if (smtp->authentication_required && !run->facts.authenticated) {
        refuse(run, mail_reply_of(530, 5, 7, 0, STR("Authentication required")),
               MAIL_REASON_AUTH_REQUIRED);
        return false;
    }
    if (run->in->from.len && !smtp_address_sender(run->in->arena, run->in->from,
                                                  /* smtputf8= */ true, &from, &fault)) {
        refuse(run, fault, MAIL_REASON_PROTOCOL);
        return false;
    }
    if (run->in->from.len) {
        run->facts.sender = mail_address_text(run->in->arena, &from);
        run->facts.sender_domain = from.domain;
        run->facts.smtputf8 = from.smtputf8;
    }
    return true;
}

/* ---- the recipient ---- */

/* Mail for <postmaster> goes where the settings say, whatever recipient flows hold of it. */
static bool find_postmaster(struct rehearsing *run)
{
    const struct settings *settings = run->in->settings;
    bool ours = run->to.kind != MAIL_DOMAIN_NAME || str_equal(run->to.domain, settings->hostname);
    if (!ours || !str_equal_nocase(run->to.local, STR("postmaster")))
        return false;
    ptrdiff_t at = str_find_last(settings->postmaster, '@');
    struct str domain = at < 0 ? STR_EMPTY : str_from(settings->postmaster, (size_t)at + 1);
    run->chosen = settings_route(settings, domain);
    if (run->chosen) {
        run->out->domain = run->chosen->name;
        run->facts.recipient = settings->postmaster;
        run->facts.recipient_domain = domain;
        run->out->recipient = "accept";
    } else {
        run->out->recipient = "defer";
        refuse(run, mail_reply_of(451, 4, 3, 5, STR("No domain takes mail for postmaster")),
               MAIL_REASON_RELAY_DENIED);
    }
    return true;
}

/* What the recipient flow changed: who it is for, and how it goes. */
static void follow_effects(struct rehearsing *run, const struct flow_effects *effects)
{
    run->routed = effects->transport;
    if (!effects->came_as)
        return;
    run->facts.recipient = effects->recipients[0].address;
    run->facts.recipient_domain = effects->recipients[0].domain;
    run->chosen =
        settings_find_domain(run->in->settings, run->in->listener, effects->recipients[0].domain);
    if (run->chosen) {
        run->out->domain = run->chosen->name;
        return;
    }
    run->out->recipient = "defer";
    refuse(run, mail_reply_of(451, 4, 3, 5, STR("Try again later")), MAIL_REASON_RELAY_DENIED);
}

void rehearsal_recipient(struct rehearsing *run)
{
    struct flow_verdict verdict;
    run->out->recipient = "reject";
    run->chosen = NULL;
    if (find_postmaster(run))
        return;
    run->chosen = settings_find_domain(run->in->settings, run->in->listener, run->to.domain);
    if (!run->chosen) {
        refuse(run, mail_reply_of(550, 5, 7, 1, STR("Relaying denied")), MAIL_REASON_RELAY_DENIED);
        return;
    }
    run->out->domain = run->chosen->name;
    run->facts.recipient = mail_address_key(run->in->arena, &run->to);
    run->facts.recipient_written = mail_address_text(run->in->arena, &run->to);
    run->facts.recipient_domain = run->to.domain;
    const struct flow *flow = settings_recipient_flow(run->in->listener, run->chosen);
    struct flow_run lent = lend(run);
    const struct flow_ways ways = plan_ways(run->in->settings);
    lent.ways = &ways;
    flow_run_recipient(flow, &lent, &verdict);
    run->out->recipient_flow = flow_name(flow);
    run->out->recipient = flow_verdict_name(verdict.kind);
    run->out->step = verdict.step;
    take_verdict(run, &verdict);
    if (verdict.kind == FLOW_ACCEPT)
        follow_effects(run, &verdict.effects);
}

/* ---- the content ---- */

static struct str header_of(struct str text)
{
    ptrdiff_t end = str_find_str(text, STR("\r\n\r\n"));
    return end < 0 ? text : str_slice(text, 0, (size_t)end + 4);
}

static void tell_way(struct rehearsing *run, const struct flow_effects *effects)
{
    const struct settings_domain *domain = run->chosen;
    run->out->sent_to = run->facts.recipient;
    if (effects->came_as && effects->recipient_count) {
        run->out->sent_to = effects->recipients[0].address;
        if (effects->came_as[0] < 0) /* a new one: the domain table says where it goes */
            domain = settings_route(run->in->settings, effects->recipients[0].domain);
    }
    run->out->transport = effects->transport.len            ? effects->transport
                          : domain != run->chosen && domain ? domain->transport->name
                          : run->routed.len                 ? run->routed
                                                            : run->chosen->transport->name;
}

void rehearsal_content(struct rehearsing *run, struct body *body)
{
    const struct flow *flow = run->chosen->content;
    struct flow_verdict verdict;
    struct mail_content content = {.head = STR_EMPTY, .body = body};
    run->facts.message = mail_id_new();
    struct flow_run lent = lend(run);
    const struct flow_ways ways = plan_ways(run->in->settings);
    lent.content = &content;
    lent.ways = &ways;
    flow_run_content(flow, &lent, &verdict);
    run->out->content_action = flow_verdict_name(verdict.kind);
    run->out->content_step = verdict.step;
    run->out->head = content.head;
    run->out->content = flow_name(flow);
    tell_way(run, &verdict.effects);
    take_verdict(run, &verdict);
    /* a queued message was answered before its flow ran */
    if (run->in->listener->queued || !run->out->reply.code || run->out->reply.code < 300)
        run->out->reply = mail_reply_of(250, 2, 0, 0, STR("Ok"));
}

/* ---- one message ---- */

static bool read_recipient(struct rehearsing *run)
{
    struct mail_reply fault;
    const struct smtp_address_rules rules = {
        .smtputf8 = true, .allow_routed = run->in->listener->smtp.allow_routed_local_parts};
    if (smtp_address_recipient(run->in->arena, run->in->to, &rules, &run->to, &fault))
        return true;
    run->out->recipient = "reject";
    refuse(run, fault, MAIL_REASON_PROTOCOL);
    return false;
}

/* "bob@example.org", and perhaps "bob2@example.org", … */
static void fill_recipients(struct rehearsing *run)
{
    struct arena *arena = run->in->arena;
    struct str address = run->facts.recipient, domain = run->facts.recipient_domain;
    size_t count = 1 + run->in->more;
    struct mail_recipient *recipients = arena_alloc_array(arena, count, sizeof *recipients);
    for (size_t i = 0; i < count; i++) {
        struct str local = str_slice(address, 0, (size_t)str_find_last(address, '@'));
        struct str name =
            i ? arena_printf(arena, "%.*s%zu@%.*s", STR_ARG(local), i + 1, STR_ARG(domain))
              : address;
        recipients[i] =
            (struct mail_recipient){.address = name, .domain = domain, .orcpt = STR_EMPTY};
    }
    run->facts.recipients = recipients;
    run->facts.recipient_count = count;
}

static NO_YIELD_CHECK void send_text(struct rehearsing *run)
{
    struct error err;
    struct body *body = body_memory_new(TEXT_MAX);
    fill_recipients(run);
    run->facts.size = run->in->text.len;
    run->facts.header = header_of(run->in->text);
    if (body_append(body, run->in->text, &err) == OK && body_seal(body, &err) == OK)
        rehearsal_content(run, body);
    body_unref(body);
}

static NO_YIELD_CHECK void play(struct rehearsing *run)
{
    const struct rehearsal_in *in = run->in;
    if (in->user.len && (!may_log_in(run) || !rehearsal_login(run, in->user, in->password)))
        return;
    if (!in->has_mail || !may_send(run) || !read_recipient(run))
        return;
    rehearsal_recipient(run);
    if (run->chosen && str_equal(str_c(run->out->recipient), STR("accept")))
        send_text(run);
}

void rehearsal_clear(struct rehearsal *out)
{
    *out = (struct rehearsal){.auth = "",
                              .recipient = "",
                              .content_action = "",
                              .step = STR_EMPTY,
                              .domain = STR_EMPTY,
                              .recipient_flow = STR_EMPTY,
                              .content = STR_EMPTY,
                              .content_step = STR_EMPTY,
                              .transport = STR_EMPTY,
                              .sent_to = STR_EMPTY,
                              .detail = STR_EMPTY,
                              .head = STR_EMPTY};
}

void rehearsal_run(const struct rehearsal_in *in, struct rehearsal *out)
{
    struct rehearsing run = {.in = in, .out = out, .state = state_new(NULL, 1, STATE_ENTRIES)};
    const struct settings *settings = in->settings;
    rehearsal_clear(out);
    run.facts = (struct flow_facts){
        .trusted = net_networks_have(settings->trusted, settings->trusted_count, &in->client),
        .user = STR_EMPTY,
        .client = in->client,
        .client_name = in->client_name,
        .helo = in->helo,
        .tls = in->tls ? STR("TLSv1.3") : STR_EMPTY,
        .listener = in->listener->name,
        .sender = STR_EMPTY,
        .sender_domain = STR_EMPTY,
        .recipient = STR_EMPTY,
        .recipient_domain = STR_EMPTY,
        .header = STR_EMPTY,
        .checks = &run.checks,
    };
    play(&run);
    state_free(run.state);
}
