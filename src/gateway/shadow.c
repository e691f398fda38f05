/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/shadow.h"

#include "mail/address.h"
#include "smtp/address.h"

struct shadowing {
    const struct settings *candidate;
    const struct settings *former;
    const struct shadow_case *recorded;
    const struct settings_listener *listener; /* of the candidate */
    struct arena *arena;
    struct shadow_answer *out;
    struct flow_facts facts;
};

static void say(struct shadowing *self, bool open, const char *verdict, struct str where)
{
    *self->out = (struct shadow_answer){.open = open, .verdict = verdict, .where = where};
}

static const struct settings_domain *find_entry(const struct settings *settings, struct str name)
{
    for (size_t i = 0; i < settings->domain_count; i++)
        if (str_equal(settings->domains[i].name, name))
            return &settings->domains[i];
    return NULL;
}

struct str shadow_content_flow(const struct settings *settings, struct str domain)
{
    const struct settings_domain *entry = find_entry(settings, domain);
    return entry && entry->content ? flow_name(entry->content) : STR_EMPTY;
}

static void fill_facts(struct shadowing *self)
{
    const struct shadow_case *recorded = self->recorded;
    const struct settings *settings = self->candidate;
    ptrdiff_t at = str_find_last(recorded->sender, '@');
    self->facts = (struct flow_facts){
        .authenticated = recorded->user.len > 0 && recorded->kind != SHADOW_LOGIN,
        .trusted = net_networks_have(settings->trusted, settings->trusted_count, &recorded->client),
        .user = recorded->kind == SHADOW_LOGIN ? STR_EMPTY : recorded->user,
        .client = recorded->client,
        .client_name = recorded->client_name,
        .helo = recorded->helo,
        .tls = recorded->tls,
        .listener = recorded->listener,
        .sender = recorded->sender,
        .sender_domain = at < 0 ? STR_EMPTY : str_from(recorded->sender, (size_t)at + 1),
        .recipient = STR_EMPTY,
        .recipient_domain = STR_EMPTY,
        .header = recorded->header,
        .size = recorded->size,
    };
}

static void replay(struct shadowing *self, const struct flow *flow, const struct flow *former)
{
    struct flow_replayed replayed;
    const struct flow_replay in = {
        .flow = flow,
        .former = former,
        .records = self->recorded->records,
        .record_count = self->recorded->record_count,
        .facts = &self->facts,
        .has_helo = self->recorded->helo.len > 0,
        .has_client_name = self->recorded->client_name.len > 0,
        .has_size = self->recorded->kind == SHADOW_CONTENT,
        .has_recipients = self->facts.recipient_count > 0,
        .fields = self->recorded->fields,
        .field_count = self->recorded->field_count,
    };
    flow_replay_run(&in, self->arena, &replayed);
    struct str step = replayed.step.len ? replayed.step : STR("end");
    say(self, replayed.open, flow_verdict_name(replayed.kind),
        arena_printf(self->arena, "%.*s/%.*s", STR_ARG(flow_name(flow)), STR_ARG(step)));
    self->out->why = replayed.why;
}

/* ---- what the listener allows ---- */

static bool may_log_in(struct shadowing *self)
{
    const struct smtp_server_settings *smtp = &self->listener->smtp;
    bool cleartext = smtp->allow_cleartext_auth && smtp->tls != SMTP_TLS_REQUIRED;
    if (!self->listener->authentication)
        say(self, false, "refused", STR("authentication is not offered"));
    else if (self->recorded->tls.len == 0 && smtp->tls != SMTP_TLS_IMPLICIT && !cleartext)
        say(self, false, "refused", STR("no login without TLS"));
    else
        return true;
    return false;
}

static bool may_send(struct shadowing *self)
{
    const struct smtp_server_settings *smtp = &self->listener->smtp;
    if (smtp->tls == SMTP_TLS_REQUIRED && self->recorded->tls.len == 0)
        say(self, false, "refused", STR("TLS is required"));
    else if (smtp->authentication_required && !self->facts.authenticated)
        say(self, false, "refused", STR("a login is required"));
    else
        return true;
    return false;
}

/* ---- decisions ---- */

static void log_in(struct shadowing *self)
{
    const struct settings_listener *before =
        settings_find_listener(self->former, self->recorded->listener);
    if (may_log_in(self))
        replay(self, self->listener->authentication, before ? before->authentication : NULL);
}

/* The domain's entry for the recipient; NULL: said. */
static const struct settings_domain *choose(struct shadowing *self)
{
    struct mail_address address;
    struct mail_reply fault;
    const struct smtp_address_rules rules = {.smtputf8 = true, .allow_routed = true};
    if (!smtp_address_recipient(self->arena, self->recorded->recipient, &rules, &address, &fault)) {
        say(self, true, "reject", STR("the address cannot be read again"));
        return NULL;
    }
    const struct settings_domain *domain =
        settings_find_domain(self->candidate, self->listener, address.domain);
    if (!domain) {
        say(self, false, "reject", STR("no domain takes it"));
        return NULL;
    }
    self->facts.recipient = mail_address_key(self->arena, &address);
    self->facts.recipient_domain = address.domain;
    return domain;
}

static void take_recipient(struct shadowing *self)
{
    const struct settings_listener *listener =
        settings_find_listener(self->former, self->recorded->listener);
    const struct settings_domain *before = find_entry(self->former, self->recorded->domain);
    const struct settings_domain *domain = may_send(self) ? choose(self) : NULL;
    if (domain)
        replay(self, settings_recipient_flow(self->listener, domain),
               before && listener ? settings_recipient_flow(listener, before) : NULL);
}

/* Those of the transaction that this flow sees together. */
static void fill_recipients(struct shadowing *self, const struct flow *content)
{
    const struct shadow_case *recorded = self->recorded;
    const struct smtp_address_rules rules = {.smtputf8 = true, .allow_routed = true};
    struct mail_recipient *members =
        arena_alloc_array(self->arena, recorded->recipient_count + 1, sizeof *members);
    for (size_t i = 0; i < recorded->recipient_count; i++) {
        struct mail_address address;
        struct mail_reply fault;
        if (!smtp_address_recipient(self->arena, recorded->recipients[i], &rules, &address,
                                    &fault)) {
            self->facts.recipient_count = 0; /* not all can be read again */
            return;
        }
        const struct settings_domain *domain =
            settings_find_domain(self->candidate, self->listener, address.domain);
        if (domain && domain->content == content)
            members[self->facts.recipient_count++] = (struct mail_recipient){
                .address = recorded->recipients[i], .domain = address.domain};
    }
    self->facts.recipients = members;
}

static void take_content(struct shadowing *self)
{
    const struct settings_domain *before = find_entry(self->former, self->recorded->domain);
    const struct settings_domain *domain = choose(self);
    self->facts.recipient = self->facts.recipient_domain = STR_EMPTY;
    if (!domain)
        return;
    fill_recipients(self, domain->content);
    replay(self, domain->content, before ? before->content : NULL);
}

void shadow_run(const struct settings *candidate, const struct settings *former,
                const struct shadow_case *recorded, struct arena *arena, struct shadow_answer *out)
{
    struct shadowing self = {
        .candidate = candidate, .former = former, .recorded = recorded, .arena = arena, .out = out};
    self.listener = settings_find_listener(candidate, recorded->listener);
    if (!self.listener) {
        say(&self, true, "refused", STR("the listener is gone"));
        return;
    }
    fill_facts(&self);
    if (recorded->kind == SHADOW_LOGIN)
        log_in(&self);
    else if (recorded->kind == SHADOW_RECIPIENT)
        take_recipient(&self);
    else
        take_content(&self);
}
