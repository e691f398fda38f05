/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/explain.c - `postern explain ADDRESS`: what would become of a message, by the file alone.
 *
 * Nobody is asked and nothing is sent. Where the answer of a backend or a fact that was not given
 * decides, all that can come of it is shown.
 */
#include "ctl/explain.h"

#include "base/buf.h"
#include "mail/address.h"
#include "net/address.h"
#include "smtp/address.h"

#include <stdio.h>
#include <string.h>

enum { REPORT_MAX = 1024 * 1024 };
static const char default_path[] = "/etc/postern/postern.yaml";

#define BIT(kind) (1u << (kind))
static const unsigned going_on = BIT(FLOW_ACCEPT) | BIT(FLOW_DELIVER) | BIT(FLOW_HOLD) |
                                 BIT(FLOW_QUARANTINE) | BIT(FLOW_DISCARD);

struct wish {
    const char *address, *from, *client, *user, *listener_name, *path;
    bool tls, dns;
    const struct settings *settings;
    const struct settings_listener *listener;
    struct mail_address to;
    struct flow_facts facts;
    unsigned given;
    json_t *out;
};

/* ---- reading the question ---- */

/* Users come to a listener with AUTH, others to one that does not require it. */
static const struct settings_listener *default_listener(const struct wish *wish)
{
    const struct settings *settings = wish->settings;
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        if (wish->user ? listener->authentication != NULL : !listener->smtp.authentication_required)
            return listener;
    }
    return settings->listener_count ? &settings->listeners[0] : NULL;
}

static bool choose_listener(struct wish *wish)
{
    wish->listener = wish->listener_name
                         ? settings_find_listener(wish->settings, str_c(wish->listener_name))
                         : default_listener(wish);
    if (wish->listener)
        return true;
    if (!wish->listener_name) {
        fprintf(stderr, "postern: the configuration has no listener\n");
        return false;
    }
    fprintf(stderr, "postern: there is no listener \"%s\"; there are:", wish->listener_name);
    for (size_t i = 0; i < wish->settings->listener_count; i++)
        fprintf(stderr, " %.*s", STR_ARG(wish->settings->listeners[i].name));
    fprintf(stderr, "\n");
    return false;
}

static bool read_addresses(struct ctl *ctl, struct wish *wish)
{
    struct mail_address from = {.domain = STR_EMPTY};
    struct flow_facts *facts = &wish->facts;
    if (mail_address_parse(ctl->arena, str_c(wish->address), true, true, &wish->to) !=
        MAIL_ADDRESS_OK) {
        fprintf(stderr, "postern: \"%s\" is no address\n", wish->address);
        return false;
    }
    facts->recipient = mail_address_key(ctl->arena, &wish->to);
    facts->recipient_domain = wish->to.domain;
    if (wish->from && wish->from[0] &&
        mail_address_parse(ctl->arena, str_c(wish->from), false, true, &from) != MAIL_ADDRESS_OK) {
        fprintf(stderr, "postern: \"%s\" is no address\n", wish->from);
        return false;
    }
    facts->sender = wish->from && wish->from[0] ? mail_address_text(ctl->arena, &from) : STR_EMPTY;
    facts->sender_domain = from.domain;
    wish->given |= wish->from ? FLOW_GIVEN_SENDER : 0;
    return true;
}

static bool read_session(struct wish *wish)
{
    struct flow_facts *facts = &wish->facts;
    enum smtp_tls_mode mode = wish->listener->smtp.tls;
    facts->listener = wish->listener->name;
    facts->authenticated = wish->user != NULL;
    facts->user = wish->user ? str_c(wish->user) : STR_EMPTY;
    facts->client_name = facts->helo = facts->header = STR_EMPTY;
    /* who logs in and who meets a listener that wants TLS has it */
    wish->tls |= wish->user || mode == SMTP_TLS_REQUIRED || mode == SMTP_TLS_IMPLICIT;
    facts->tls = wish->tls ? STR("TLSv1.3") : STR_EMPTY;
    wish->given |= wish->tls || mode == SMTP_TLS_NONE ? FLOW_GIVEN_TLS : 0;
    if (!wish->client)
        return true;
    wish->given |= FLOW_GIVEN_CLIENT;
    if (!net_ip_parse(str_c(wish->client), &facts->client)) {
        fprintf(stderr, "postern: \"%s\" is no IP address\n", wish->client);
        return false;
    }
    facts->trusted =
        net_networks_have(wish->settings->trusted, wish->settings->trusted_count, &facts->client);
    return true;
}

/* ---- the answer ---- */

static int answer(struct wish *wish, int code, const char *reply)
{
    json_object_set_new(wish->out, "answer",
                        json_string(code == CTL_YES  ? "accept"
                                    : code == CTL_NO ? "reject"
                                                     : "defer"));
    json_object_set_new(wish->out, "reply", json_string(reply));
    return code;
}

static int judge(unsigned verdicts)
{
    if (verdicts & going_on)
        return CTL_YES;
    return verdicts & BIT(FLOW_REJECT) ? CTL_NO : CTL_TRY_AGAIN;
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
    json_object_set_new(wish->out, "postmaster", explain_text(settings->postmaster));
    wish->facts.recipient = settings->postmaster;
    wish->facts.recipient_domain = name;
    return settings_route(settings, name);
}

static int explain_content(struct ctl *ctl, struct wish *wish, const struct settings_domain *domain,
                           int code)
{
    unsigned verdicts;
    json_t *content =
        explain_flow(domain->content, &wish->facts, wish->given, ctl->arena, &verdicts);
    json_object_set_new(content, "queued", json_boolean(wish->listener->queued));
    json_object_set_new(wish->out, "content", content);
    json_object_set_new(wish->out, "transport",
                        explain_transport(wish->settings, domain->transport,
                                          wish->facts.recipient_domain, wish->dns, ctl->arena));
    /* after a 250 the flow may hold or throw away, but the client is not refused */
    return wish->listener->queued ? code : judge(verdicts);
}

static int explain_recipient(struct ctl *ctl, struct wish *wish)
{
    unsigned verdicts = BIT(FLOW_ACCEPT);
    const struct settings_domain *domain = postmaster_domain(wish);
    bool is_postmaster = domain != NULL;
    if (!is_postmaster)
        domain = settings_find_domain(wish->settings, wish->listener, wish->to.domain);
    if (!domain)
        return answer(wish, CTL_NO, "550 5.7.1 Relaying denied");
    json_object_set_new(wish->out, "domain", explain_text(domain->name));
    json_object_set_new(wish->out, "domain_place",
                        explain_text(config_place_text(ctl->arena, domain->place)));
    if (!is_postmaster) {
        const struct flow *flow = settings_recipient_flow(wish->listener, domain);
        json_object_set_new(wish->out, "recipients",
                            explain_flow(flow, &wish->facts, wish->given, ctl->arena, &verdicts));
    }
    int code = judge(verdicts);
    if (code == CTL_YES)
        code = explain_content(ctl, wish, domain, code);
    return answer(wish, code, "");
}

static int explain(struct ctl *ctl, struct wish *wish)
{
    unsigned ignored;
    struct mail_reply fault;
    const struct smtp_address_rules rules = {
        .smtputf8 = true, .allow_routed = wish->listener->smtp.allow_routed_local_parts};
    json_object_set_new(wish->out, "address", explain_text(wish->facts.recipient));
    json_object_set_new(wish->out, "listener", explain_text(wish->listener->name));
    json_object_set_new(wish->out, "user", explain_text(wish->facts.user));
    json_object_set_new(wish->out, "tls", json_boolean(wish->tls));
    json_object_set_new(wish->out, "trusted", json_boolean(wish->facts.trusted));
    if (wish->user && !wish->listener->authentication)
        return answer(wish, CTL_NO, "502 5.5.1 Authentication is not offered");
    if (wish->user)
        json_object_set_new(wish->out, "authentication",
                            explain_flow(wish->listener->authentication, &wish->facts, wish->given,
                                         ctl->arena, &ignored));
    if (wish->listener->smtp.authentication_required && !wish->user)
        return answer(wish, CTL_NO, "530 5.7.0 Authentication required");
    if (!smtp_address_recipient(ctl->arena, str_c(wish->address), &rules, &wish->to, &fault))
        return answer(wish, CTL_NO, mail_reply_text(ctl->arena, &fault).ptr);
    return explain_recipient(ctl, wish);
}

/* ---- printing ---- */

static void print_head(json_t *out)
{
    const char *user = ctl_text(out, "user");
    printf("listener %s, ", ctl_text(out, "listener"));
    if (user[0]) {
        printf("user ");
        ctl_print_text(user);
    } else {
        printf("%s",
               json_is_true(json_object_get(out, "trusted")) ? "a trusted client" : "a stranger");
    }
    printf("%s\n", json_is_true(json_object_get(out, "tls")) ? ", with TLS" : "");
    if (json_object_get(out, "authentication"))
        explain_print_flow("authentication", json_object_get(out, "authentication"));
    if (ctl_text(out, "domain")[0])
        printf("domain %s  (%s)\n", ctl_text(out, "domain"), ctl_text(out, "domain_place"));
    if (ctl_text(out, "postmaster")[0])
        printf("  taken without asking: mail for postmaster goes to %s\n",
               ctl_text(out, "postmaster"));
}

static void print_answer(json_t *out, int code)
{
    json_t *recipients = json_object_get(out, "recipients");
    bool depends = json_array_size(json_object_get(recipients, "may")) > 1;
    const char *word = code == CTL_YES ? "accepted" : code == CTL_NO ? "refused" : "deferred";
    if (ctl_text(out, "reply")[0])
        printf("%s: %s\n", word, ctl_text(out, "reply"));
    else if (depends && code == CTL_YES)
        printf("it can be accepted: the branches above depend on what is not known here\n");
    else
        printf("it would be %s\n", word);
}

static void print_all(json_t *out, int code)
{
    json_t *recipients = json_object_get(out, "recipients");
    json_t *content = json_object_get(out, "content");
    print_head(out);
    if (recipients)
        explain_print_flow("recipient", recipients);
    if (content) {
        explain_print_flow("content", content);
        if (json_is_true(json_object_get(content, "queued")))
            printf("  (after the message is accepted: processing is queued)\n");
        explain_print_transport(json_object_get(out, "transport"));
    }
    print_answer(out, code);
}

/* ---- the command ---- */

static bool load(struct ctl *ctl, const char *path, struct settings **out_settings)
{
    struct config_report report;
    struct error err;
    config_report_init(&report, ctl->arena);
    if (settings_load(path, &report, out_settings, &err) == OK)
        return true;
    struct buf text BUF_CLEANUP;
    buf_init(&text, REPORT_MAX);
    config_report_print(&report, ctl->colour, &text);
    fwrite(buf_str(&text).ptr, 1, text.len, stderr);
    fprintf(stderr, "postern: %s: %s\n", path, err.text);
    return false;
}

static int run(struct ctl *ctl, struct wish *wish)
{
    struct settings *settings = NULL;
    int code = CTL_USAGE;
    if (!load(ctl, wish->path, &settings)) {
        settings_unref(settings);
        return CTL_USAGE;
    }
    wish->settings = settings;
    wish->out = json_object();
    if (choose_listener(wish) && read_addresses(ctl, wish) && read_session(wish)) {
        code = explain(ctl, wish);
        if (ctl->json)
            ctl_print_json(wish->out);
        else
            print_all(wish->out, code);
    }
    json_decref(wish->out);
    settings_unref(settings);
    return code;
}

int ctl_explain(struct ctl *ctl)
{
    struct wish wish = {.from = ctl_option(ctl, "--from"),
                        .client = ctl_option(ctl, "--client"),
                        .user = ctl_option(ctl, "--user"),
                        .listener_name = ctl_option(ctl, "--listener"),
                        .path = ctl_option(ctl, "--config"),
                        .tls = ctl_flag(ctl, "--tls"),
                        .dns = ctl_flag(ctl, "--dns")};
    ctl_arguments(ctl, 1, 2);
    wish.address = ctl->argv[0];
    if (ctl->argc > 1)
        wish.path = ctl->argv[1];
    if (!wish.path)
        wish.path = default_path;
    return run(ctl, &wish);
}
