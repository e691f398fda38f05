/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/settings_relay.c - what is checked over the whole: can a stranger relay, do passwords
 * travel in clear, is a name used nowhere.
 */
#include "gateway/settings_internal.h"

enum { NAMES_MAX = 1000 };

/* ---- relay safety ---- */

static bool is_lookup_mx(const struct settings_domain *domain)
{
    return domain->transport && domain->transport->method == TRANSPORT_LOOKUP_MX;
}

static void check_entitlement(struct settings_loading *loading)
{
    const struct settings *settings = loading->settings;
    if (settings->entitlements.open_relay_support)
        return;
    for (size_t i = 0; i < settings->domain_count; i++) {
        const struct settings_domain *domain = &settings->domains[i];
        if (!domain->is_any && !is_lookup_mx(domain))
            continue;
        SETTINGS_ERROR(loading, "open-relay-support", domain->place,
                       domain->is_any ? "a domain `any` relays mail to the whole world"
                                      : "a transport with MX look-ups relays mail to the world")
            ->fix = STR("add \"entitlements: { open_relay_support: true }\" if that is meant");
    }
}

static void check_allowed(struct settings_loading *loading)
{
    const struct settings *settings = loading->settings;
    for (size_t i = 0; i < settings->domain_count; i++) {
        const struct config_pair *pair =
            config_get_pair(settings->domains[i].node, STR("allow_open_relay"));
        if (pair && str_trim(settings->domains[i].allow_open_relay).len == 0)
            SETTINGS_ERROR(loading, "empty-value", pair->place,
                           "\"allow_open_relay\" is the reason, in words")
                ->fix = STR("write allow_open_relay: \"WHY\", or remove it");
    }
}

/* Networks so wide that a stranger can be in them. */
static bool is_wide(const struct net_network *networks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (settings_network_is_wide(&networks[i]))
            return true;
    return false;
}

/* Who may claim to be a trusted client, in words; empty: nobody but own front ends. */
static struct str claims(struct settings_loading *loading, const struct settings_listener *listener)
{
    const struct smtp_server_settings *smtp = &listener->smtp;
    const char *key = is_wide(smtp->proxy_from, smtp->proxy_from_count)       ? "proxy"
                      : is_wide(smtp->xclient_from, smtp->xclient_from_count) ? "xclient"
                                                                              : NULL;
    if (!key)
        return STR_EMPTY;
    const struct config_pair *pair = config_get_pair(listener->node, str_c(key));
    return arena_printf(
        loading->report->arena, "%s.from of listener %.*s (%.*s)", key, STR_ARG(listener->name),
        STR_ARG(config_place_text(loading->report->arena, pair ? pair->place : listener->place)));
}

/* The names of the domain; of `any`: those that are another's on this listener. */
static const struct str *names_of(struct settings_loading *loading,
                                  const struct settings_listener *listener,
                                  const struct settings_domain *domain, size_t *out_count)
{
    const struct map *map = &loading->settings->hidden->domains;
    *out_count = 0;
    if (map->count > NAMES_MAX)
        return NULL; /* the proof does without */
    struct str *names = arena_alloc_array(loading->arena, map->count + 1, sizeof *names);
    struct str name;
    void *value;
    size_t at = 0;
    while (map_next(map, &at, &name, &value)) {
        const struct settings_domain *owner = value;
        if (domain->is_any ? listener->serves[owner->index] : owner == domain)
            names[(*out_count)++] = name;
    }
    return names;
}

static bool looks_up(const void *context, struct str name)
{
    const struct transport *transport = settings_find_transport(context, name);
    return !transport || transport->method == TRANSPORT_LOOKUP_MX;
}

static bool is_listed(const void *context, struct str domain)
{
    return settings_is_listed(context, domain);
}

static bool belongs(const void *context, struct str domain, struct str name)
{
    const struct settings *settings = context;
    const struct settings_domain *owner = map_get(&settings->hidden->domains, domain);
    return owner && str_equal(owner->name, name);
}

static struct flow_relay_target *targets_of(struct settings_loading *loading,
                                            const struct settings_listener *listener,
                                            const struct settings_domain *domain, size_t *out_count)
{
    const struct settings *settings = loading->settings;
    struct flow_relay_target *targets =
        arena_alloc_array(loading->arena, settings->domain_count + 1, sizeof *targets);
    *out_count = 0;
    for (size_t i = 0; i < settings->domain_count; i++) {
        const struct settings_domain *other = &settings->domains[i];
        if (other != domain && !other->is_any && is_lookup_mx(other))
            targets[(*out_count)++] = (struct flow_relay_target){
                .name = other->name, .served = listener->serves[other->index]};
    }
    return targets;
}

static struct flow_relay_case relay_case(struct settings_loading *loading,
                                         const struct settings_listener *listener,
                                         const struct settings_domain *domain, bool may_rehearse)
{
    const struct settings *settings = loading->settings;
    const struct settings_domain *any = settings->hidden->any;
    struct flow_relay_case relay = {
        .listener = listener->name,
        .authentication_required =
            listener->smtp.authentication && listener->smtp.authentication_required,
        .domain = domain->name,
        .is_any = domain->is_any,
        .is_lookup_mx = is_lookup_mx(domain),
        .transport = domain->transport ? domain->transport->name : STR_EMPTY,
        .authentication_flow = listener->authentication,
        .recipient_flow = settings_recipient_flow(listener, domain),
        .content_flow = domain->content,
        .tls_never = listener->smtp.tls == SMTP_TLS_NONE,
        .tls_always =
            listener->smtp.tls == SMTP_TLS_REQUIRED || listener->smtp.tls == SMTP_TLS_IMPLICIT,
        .queued = listener->queued,
        .shows = may_rehearse ? settings_relay_shows : NULL,
        .trusted = settings->trusted,
        .trusted_count = settings->trusted_count,
        .claims = settings->trusted_count ? claims(loading, listener) : STR_EMPTY,
        .looks_up = looks_up,
        .is_listed = is_listed,
        .belongs = belongs,
        .takes_any = any != NULL, /* content flows choose among all domains */
        .context = settings,
        .place = domain->place,
        .allow_open_relay = domain->allow_open_relay,
    };
    relay.names = names_of(loading, listener, domain, &relay.name_count);
    relay.targets = targets_of(loading, listener, domain, &relay.target_count);
    return relay;
}

/* Who looks up MX sends to the world; `inbound` counts its recipients as own mailboxes. */
static void check_directions(struct settings_loading *loading)
{
    for (size_t i = 0; i < loading->settings->transport_count; i++) {
        const struct transport *transport = &loading->settings->transports[i];
        if (transport->method == TRANSPORT_LOOKUP_MX && transport->direction == TRANSPORT_INBOUND)
            SETTINGS_WARNING(loading, "inbound-lookup-mx", transport->place,
                             "transport \"%.*s\" looks up MX and says that it is inbound",
                             STR_ARG(transport->name))
                ->fix = STR("name your mail server (\"server: NAME\"), or remove the direction");
    }
}

static void find_shared(struct flow_relay_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++)
            if (i != k && cases[i].content_flow == cases[k].content_flow)
                cases[i].content_shared = true;
}

void settings_check_relay(struct settings_loading *loading)
{
    const struct settings *settings = loading->settings;
    /* flows with errors cannot be run */
    bool may_rehearse = loading->report->may_rehearse && !loading->report->errors;
    check_entitlement(loading);
    check_directions(loading);
    check_allowed(loading);
    struct flow_relay_case *cases =
        arena_alloc_array(loading->arena, settings->domain_count + 1, sizeof *cases);
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        size_t count = 0;
        for (size_t k = 0; k < settings->domain_count && listener->serves; k++)
            if (listener->serves[k])
                cases[count++] = relay_case(loading, listener, &settings->domains[k], may_rehearse);
        find_shared(cases, count);
        flow_prove_relay(cases, count, loading->report);
    }
}

/* ---- passwords towards backends ---- */

/* What a smarthost is told; the passwords of users are the flow compiler's business. */
void settings_check_logins(struct settings_loading *loading)
{
    for (size_t i = 0; i < loading->settings->server_count; i++) {
        const struct server *server = &loading->settings->servers[i];
        if (server->user.len && server->tls == SERVER_TLS_NONE && !server_is_loopback(server))
            SETTINGS_WARNING(loading, "cleartext-credentials", server->place,
                             "the password of \"%.*s\" travels in clear", STR_ARG(server->user))
                ->fix = STR("write \"tls: required\" or \"tls: verified\"");
    }
}

/* ---- names that nothing uses ---- */

static bool is_word_char(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_' || c == '.' || c == ':';
}

/* Does `name` stand in `text` as a whole word: expressions and short forms count as use. */
static bool has_word(struct str text, struct str name)
{
    for (size_t at = 0; at + name.len <= text.len; at++) {
        ptrdiff_t found = str_find_str(str_from(text, at), name);
        if (found < 0)
            return false;
        at += (size_t)found;
        bool starts = at == 0 || !is_word_char(text.ptr[at - 1]);
        size_t end = at + name.len;
        if (starts && (end == text.len || !is_word_char(text.ptr[end])))
            return true;
    }
    return false;
}

static bool mentions(const struct config_node *node, struct str name)
{
    if (node->kind == CONFIG_SCALAR)
        return has_word(node->text, name);
    for (size_t i = 0; i < node->count; i++) {
        if (mentions(node->kind == CONFIG_MAP ? &node->pairs[i].value : &node->items[i], name))
            return true;
    }
    return false;
}

static bool is_used(const struct settings_loading *loading, const char *const *users,
                    struct str name)
{
    for (; *users; users++) {
        const struct config_node *node = config_get(loading->context.root, str_c(*users));
        if (node && mentions(node, name))
            return true;
    }
    return false;
}

void settings_check_unused(struct settings_loading *loading)
{
    static const struct {
        const char *section;
        const char *users[5];
    } sections[] = {
        {"servers", {"flows", "transports", "domains", "listeners", NULL}},
        {"transports", {"flows", "domains", NULL}},
        {"quarantines", {"flows", "domains", "listeners", NULL}},
        {"lists", {"flows", "domains", "listeners", NULL}},
    };
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        const struct config_node *section =
            config_get(loading->context.root, str_c(sections[i].section));
        for (size_t k = 0; section && section->kind == CONFIG_MAP && k < section->count; k++) {
            const struct config_pair *pair = &section->pairs[k];
            if (pair->place.line && !is_used(loading, sections[i].users, pair->key))
                SETTINGS_WARNING(loading, "unused-name", pair->place, "\"%.*s\" is used nowhere",
                                 STR_ARG(pair->key))
                    ->fix = STR("use it, or remove it");
        }
    }
    if (loading->settings->flows)
        flow_report_unused(loading->settings->flows, loading->report);
}
