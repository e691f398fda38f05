/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/explanation.h"

#include "admin/http.h"
#include "mail/address.h"
#include "net/address.h"
#include "smtp/address.h"

#include <string.h>

enum answer { ACCEPT, REJECT, DEFER };

#define BIT(kind) (1u << (kind))
static const unsigned going_on = BIT(FLOW_ACCEPT) | BIT(FLOW_DELIVER) | BIT(FLOW_HOLD) |
                                 BIT(FLOW_QUARANTINE) | BIT(FLOW_DISCARD);

enum { WAYS_MAX = 32 };

struct wish {
    const struct explanation_question *question;
    bool tls;
    const struct settings *settings;
    struct arena *arena;
    struct error *err;
    const struct settings_listener *listener;
    struct mail_address to;
    struct flow_facts facts;
    unsigned given;
    struct str ways[WAYS_MAX]; /* transports that it may take, the first without a doubt if alone */
    size_t way_count;
    json_t *rewritten_by; /* steps behind which the recipient may be another */
    json_t *out;
};

static void add_way(struct wish *wish, struct str name)
{
    for (size_t i = 0; i < wish->way_count; i++)
        if (str_equal(wish->ways[i], name))
            return;
    if (wish->way_count < WAYS_MAX)
        wish->ways[wish->way_count++] = name;
}

static void add_rewriter(struct wish *wish, struct str step)
{
    json_t *last = json_array_get(wish->rewritten_by, json_array_size(wish->rewritten_by) - 1);
    if (!json_is_string(last) || !str_equal(str_c(json_string_value(last)), step))
        json_array_append_new(wish->rewritten_by, admin_json(step));
}

/* Steps that choose a transport, or another recipient. What all mail comes past decides alone. */
static void follow_ways(struct wish *wish, const struct flow_explanation *explanation)
{
    bool may_be_over = false;
    for (size_t i = 0; i < explanation->count; i++) {
        const struct flow_explained *row = &explanation->rows[i];
        bool is_certain =
            row->depth == 0 && strcmp(row->condition, "open") != 0 && row->routes && !may_be_over;
        if (row->observed)
            continue;
        if (is_certain)
            wish->way_count = 0;
        for (size_t k = 0; k < row->way_count; k++)
            add_way(wish, row->ways[k]);
        if (row->rewrites)
            add_rewriter(wish, row->step);
        may_be_over |= strcmp(row->action, "accept") == 0 || strcmp(row->action, "deliver") == 0 ||
                       strcmp(row->action, "branch") == 0;
    }
}

static json_t *explain_flow(struct wish *wish, const struct flow *flow, unsigned *out_verdicts)
{
    struct flow_explanation explanation;
    json_t *object = json_object();
    json_t *rows = json_array();
    json_t *may = json_array();
    flow_explain(flow, &wish->facts, wish->given, wish->arena, &explanation);
    follow_ways(wish, &explanation);
    for (size_t i = 0; i < explanation.count; i++) {
        const struct flow_explained *one = &explanation.rows[i];
        json_t *row =
            json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:b}", "depth", (int)one->depth, "block",
                      one->block, "condition", one->condition, "outcome", one->outcome, "text",
                      one->text, "action", one->action, "observed", one->observed);
        json_object_set_new(row, "step", admin_json(one->step));
        json_object_set_new(row, "reply", admin_json(one->reply));
        json_array_append_new(rows, row);
    }
    for (int kind = FLOW_ACCEPT; kind <= FLOW_DISCARD; kind++) {
        if (explanation.verdicts & (1u << kind))
            json_array_append_new(may,
                                  json_string(flow_verdict_name((enum flow_verdict_kind)kind)));
    }
    json_object_set_new(object, "flow", admin_json(flow_name(flow)));
    json_object_set_new(object, "rows", rows);
    json_object_set_new(object, "may", may);
    *out_verdicts = explanation.verdicts;
    return object;
}

/* ---- reading the question ---- */

/* Users come to a listener with AUTH, others to one that does not require it. */
static const struct settings_listener *default_listener(const struct wish *wish)
{
    const struct settings *settings = wish->settings;
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        if (wish->question->user.len ? listener->authentication != NULL
                                     : !listener->smtp.authentication_required)
            return listener;
    }
    return settings->listener_count ? &settings->listeners[0] : NULL;
}

static enum result choose_listener(struct wish *wish)
{
    struct str name = wish->question->listener;
    const struct settings *settings = wish->settings;
    wish->listener = name.len ? settings_find_listener(settings, name) : default_listener(wish);
    if (wish->listener)
        return OK;
    if (!name.len)
        return fail(wish->err, ERROR_PERMANENT, "the configuration has no listener");
    struct str names = STR_EMPTY;
    for (size_t i = 0; i < settings->listener_count; i++)
        names = arena_printf(wish->arena, "%.*s %.*s", STR_ARG(names),
                             STR_ARG(settings->listeners[i].name));
    return fail(wish->err, ERROR_PERMANENT, "there is no listener \"%.*s\"; there are:%.*s",
                STR_ARG(str_slice(name, 0, 100)), STR_ARG(str_slice(names, 0, 300)));
}

static enum result read_address(const struct wish *wish, struct str text, bool is_recipient,
                                struct mail_address *out)
{
    if (mail_address_parse(wish->arena, text, is_recipient, true, out) == MAIL_ADDRESS_OK)
        return OK;
    return fail(wish->err, ERROR_PERMANENT, "\"%.*s\" is no address",
                STR_ARG(str_slice(text, 0, 300)));
}

static enum result read_addresses(struct wish *wish)
{
    const struct explanation_question *question = wish->question;
    struct mail_address from = {.domain = STR_EMPTY};
    struct flow_facts *facts = &wish->facts;
    bool has_sender = question->has_from && question->from.len;
    if (read_address(wish, question->address, true, &wish->to) != OK)
        return FAILED;
    facts->recipient = mail_address_key(wish->arena, &wish->to);
    facts->recipient_domain = wish->to.domain;
    if (has_sender && read_address(wish, question->from, false, &from) != OK)
        return FAILED;
    facts->sender = has_sender ? mail_address_text(wish->arena, &from) : STR_EMPTY;
    facts->sender_domain = from.domain;
    wish->given |= question->has_from ? FLOW_GIVEN_SENDER : 0;
    return OK;
}

static enum result read_session(struct wish *wish)
{
    const struct explanation_question *question = wish->question;
    struct flow_facts *facts = &wish->facts;
    enum smtp_tls_mode mode = wish->listener->smtp.tls;
    facts->listener = wish->listener->name;
    facts->authenticated = question->user.len > 0;
    facts->user = question->user;
    facts->client_name = facts->helo = facts->header = STR_EMPTY;
    /* who logs in and who meets a listener that wants TLS has it */
    wish->tls = question->tls || question->user.len || mode == SMTP_TLS_REQUIRED ||
                mode == SMTP_TLS_IMPLICIT;
    facts->tls = wish->tls ? STR("TLSv1.3") : STR_EMPTY;
    wish->given |= wish->tls || mode == SMTP_TLS_NONE ? FLOW_GIVEN_TLS : 0;
    if (!question->client.len)
        return OK;
    wish->given |= FLOW_GIVEN_CLIENT;
    if (!net_ip_parse(question->client, &facts->client))
        return fail(wish->err, ERROR_PERMANENT, "\"%.*s\" is no IP address",
                    STR_ARG(str_slice(question->client, 0, 100)));
    facts->trusted =
        net_networks_have(wish->settings->trusted, wish->settings->trusted_count, &facts->client);
    return OK;
}

/* ---- the answer ---- */

static void answer(struct wish *wish, enum answer code, const char *reply)
{
    json_object_set_new(wish->out, "answer",
                        json_string(code == ACCEPT   ? "accept"
                                    : code == REJECT ? "reject"
                                                     : "defer"));
    json_object_set_new(wish->out, "reply", json_string(reply));
}

static enum answer judge(unsigned verdicts)
{
    if (verdicts & going_on)
        return ACCEPT;
    return verdicts & BIT(FLOW_REJECT) ? REJECT : DEFER;
}

/* Mail for <postmaster> goes where the settings say, whatever recipient flows hold of it. */
static const struct settings_domain *postmaster_domain(struct wish *wish)
{
    const struct settings *settings = wish->settings;
    bool ours = wish->to.kind != MAIL_DOMAIN_NAME || str_equal(wish->to.domain, settings->hostname);
    if (!ours || !str_equal_nocase(wish->to.local, STR("postmaster")))
        return NULL;
    ptrdiff_t at = str_find_last(settings->postmaster, '@');
    struct str name = at < 0 ? STR_EMPTY : str_from(settings->postmaster, (size_t)at + 1);
    json_object_set_new(wish->out, "postmaster", admin_json(settings->postmaster));
    wish->facts.recipient = settings->postmaster;
    wish->facts.recipient_domain = name;
    return settings_route(settings, name);
}

static json_t *explain_way(const struct wish *wish, struct str name)
{
    const struct transport *transport = settings_find_transport(wish->settings, name);
    return transport
               ? explanation_transport(wish->settings, transport, wish->facts.recipient_domain,
                                       wish->question->dns, wish->arena)
               : json_null();
}

/* The transport, and those that steps may choose in place of it. */
static void explain_ways(struct wish *wish)
{
    json_t *others = json_array();
    for (size_t i = 1; i < wish->way_count; i++)
        json_array_append_new(others, explain_way(wish, wish->ways[i]));
    json_object_set_new(wish->out, "transport", explain_way(wish, wish->ways[0]));
    json_object_set_new(wish->out, "or_transports", others);
    json_object_set(wish->out, "rewritten_by", wish->rewritten_by);
}

static enum answer explain_content(struct wish *wish, const struct settings_domain *domain,
                                   enum answer code)
{
    unsigned verdicts;
    json_t *content = explain_flow(wish, domain->content, &verdicts);
    json_object_set_new(content, "queued", json_boolean(wish->listener->queued));
    json_object_set_new(wish->out, "content", content);
    explain_ways(wish);
    /* after a 250 the flow may hold or throw away, but the client is not refused */
    return wish->listener->queued ? code : judge(verdicts);
}

static void explain_recipient(struct wish *wish)
{
    unsigned verdicts = BIT(FLOW_ACCEPT);
    const struct settings_domain *domain = postmaster_domain(wish);
    bool is_postmaster = domain != NULL;
    if (!is_postmaster)
        domain = settings_find_domain(wish->settings, wish->listener, wish->to.domain);
    if (!domain) {
        answer(wish, REJECT, "550 5.7.1 Relaying denied");
        return;
    }
    json_object_set_new(wish->out, "domain", admin_json(domain->name));
    json_object_set_new(wish->out, "domain_place",
                        admin_json(config_place_text(wish->arena, domain->place)));
    add_way(wish, domain->transport->name);
    if (!is_postmaster) {
        const struct flow *flow = settings_recipient_flow(wish->listener, domain);
        json_object_set_new(wish->out, "recipients", explain_flow(wish, flow, &verdicts));
    }
    enum answer code = judge(verdicts);
    if (code == ACCEPT)
        code = explain_content(wish, domain, code);
    answer(wish, code, "");
}

static void explain(struct wish *wish)
{
    unsigned ignored;
    struct mail_reply fault;
    const struct smtp_address_rules rules = {
        .smtputf8 = true, .allow_routed = wish->listener->smtp.allow_routed_local_parts};
    json_object_set_new(wish->out, "address", admin_json(wish->facts.recipient));
    json_object_set_new(wish->out, "listener", admin_json(wish->listener->name));
    json_object_set_new(wish->out, "user", admin_json(wish->facts.user));
    json_object_set_new(wish->out, "tls", json_boolean(wish->tls));
    json_object_set_new(wish->out, "trusted", json_boolean(wish->facts.trusted));
    if (wish->question->user.len && !wish->listener->authentication) {
        answer(wish, REJECT, "502 5.5.1 Authentication is not offered");
        return;
    }
    if (wish->question->user.len)
        json_object_set_new(wish->out, "authentication",
                            explain_flow(wish, wish->listener->authentication, &ignored));
    if (wish->listener->smtp.authentication_required && !wish->question->user.len) {
        answer(wish, REJECT, "530 5.7.0 Authentication required");
        return;
    }
    if (!smtp_address_recipient(wish->arena, wish->question->address, &rules, &wish->to, &fault)) {
        answer(wish, REJECT, mail_reply_text(wish->arena, &fault).ptr);
        return;
    }
    explain_recipient(wish);
}

/* ---- the whole ---- */

json_t *explanation_make(const struct settings *settings,
                         const struct explanation_question *question, struct arena *arena,
                         struct error *err)
{
    struct wish wish = {.question = question, .settings = settings, .arena = arena, .err = err};
    if (choose_listener(&wish) != OK || read_addresses(&wish) != OK || read_session(&wish) != OK)
        return NULL;
    wish.out = json_object();
    wish.rewritten_by = json_array();
    explain(&wish);
    json_decref(wish.rewritten_by);
    return wish.out;
}
