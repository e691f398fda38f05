/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/settings_listener.c - reading the `listeners` section. */
#include "gateway/settings_internal.h"

#include "base/clock.h"

#include <stddef.h>

static const struct option_word tls_words[] = {
    {"none", SMTP_TLS_NONE},
    {"offered", SMTP_TLS_OFFERED},
    {"required", SMTP_TLS_REQUIRED},
    {"implicit", SMTP_TLS_IMPLICIT},
    {NULL, 0},
};
static const struct option_word processing_words[] = {{"direct", 0}, {"queued", 1}, {NULL, 0}};
static const struct option_word refused_words[] = {
    {"quarantine", SETTINGS_REFUSED_QUARANTINE},
    {"discard", SETTINGS_REFUSED_DISCARD},
    {NULL, 0},
};
static const struct option_word line_words[] = {
    {"reject", SMTP_LINES_REJECT},
    {"normalise", SMTP_LINES_NORMALISE},
    {NULL, 0},
};
static const struct option_word version_words[] = {{"1.2", 12}, {"1.3", 13}, {NULL, 0}};

enum { UNSET = -1 };

#define AT(member) offsetof(struct settings_listener_values, member)
static const struct option proxy_rows[] = {
    {.name = "from",
     .type = OPTION_TEXTS,
     .offset = AT(proxy_from),
     .text = "networks of the proxies",
     .required = true},
    {0},
};
static const struct option_table proxy_options = {
    .name = "listeners.*.proxy",
    .text = "PROXY protocol: a header is mandatory from these clients.",
    .options = proxy_rows,
    .size = sizeof(struct settings_listener_values),
};
static const struct option xclient_rows[] = {
    {.name = "from",
     .type = OPTION_TEXTS,
     .offset = AT(xclient_from),
     .text = "networks that may say XCLIENT",
     .required = true},
    {0},
};
static const struct option_table xclient_options = {
    .name = "listeners.*.xclient",
    .text = "XCLIENT: these clients may speak for others.",
    .options = xclient_rows,
    .size = sizeof(struct settings_listener_values),
};

static const struct option rows[] = {
    {.name = "listen",
     .type = OPTION_TEXTS,
     .offset = AT(listen),
     .text = "addresses with ports, as \"0.0.0.0:25\"",
     .required = true},
    {.name = "tls",
     .type = OPTION_WORD,
     .offset = AT(tls),
     .text = "default: offered if there is a certificate, else none",
     .words = tls_words},
    {.name = "certificate",
     .type = OPTION_REFERENCES,
     .offset = AT(certificates),
     .text = "certificates by name, the first for clients without SNI; default: all",
     .refers_to = "certificates"},
    {.name = "authentication",
     .type = OPTION_NODE,
     .offset = AT(authentication),
     .text =
         "none, the name of an authentication flow, or { flow: NAME, required: true }; required: "
         "false = strangers and users share the listener"},
    {.name = "processing",
     .type = OPTION_WORD,
     .offset = AT(processing),
     .text = "direct: the content flow runs before the reply; queued: after it",
     .fallback = "direct",
     .words = processing_words},
    {.name = "direct_timeout",
     .type = OPTION_DURATION,
     .offset = AT(direct_timeout_ns),
     .text = "longest wait from data to reply",
     .fallback = "4m",
     .min = NS_PER_S,
     .max = 600 * NS_PER_S},
    {.name = "refused_later",
     .type = OPTION_WORD,
     .offset = AT(refused_later),
     .text = "processing queued: what happens to a stranger's mail that a content flow refuses",
     .fallback = "quarantine",
     .words = refused_words},
    {.name = "hide_client",
     .type = OPTION_BOOL,
     .offset = AT(hide_client),
     .text = "leave the user's address out of Received",
     .fallback = "false"},
    {.name = "domains",
     .type = OPTION_REFERENCES,
     .offset = AT(domains),
     .text = "names that are served here; default: all",
     .refers_to = "domains"},
    {.name = "recipients",
     .type = OPTION_NODE,
     .offset = AT(recipients),
     .text = "deprecated: recipient flow of domains without their own"},
    {.name = "limits",
     .type = OPTION_GROUP,
     .offset = AT(limits),
     .text = "ceilings of a session",
     .group = &smtp_limits_options},
    {.name = "line_endings",
     .type = OPTION_WORD,
     .offset = AT(line_endings),
     .text = "bare LF: reject or normalise; default: reject for strangers, normalise for own users",
     .words = line_words},
    {.name = "proxy",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "PROXY protocol",
     .group = &proxy_options},
    {.name = "xclient",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "XCLIENT",
     .group = &xclient_options},
    {.name = "allow_cleartext_auth",
     .type = OPTION_BOOL,
     .offset = AT(allow_cleartext_auth),
     .text = "offer AUTH without TLS: passwords travel in clear",
     .fallback = "false"},
    {.name = "allow_routed_local_parts",
     .type = OPTION_BOOL,
     .offset = AT(allow_routed_local_parts),
     .text = "take % and ! in local parts from strangers",
     .fallback = "false"},
    {.name = "min_version",
     .type = OPTION_WORD,
     .offset = AT(min_version),
     .text = "oldest TLS version",
     .fallback = "1.2",
     .words = version_words},
    {.name = "ciphers",
     .type = OPTION_TEXT,
     .offset = AT(ciphers),
     .text = "TLS 1.2 ciphers, as OpenSSL names them"},
    {0},
};
const struct option_table settings_listener_options = {
    .name = "listeners.*",
    .text = "Where mail comes in. preset: mx, submission or submissions fills in the usual.",
    .options = rows,
    .size = sizeof(struct settings_listener_values),
};

/* ---- addresses ---- */

static void report_address_twice(struct settings_loading *loading, struct config_place place,
                                 const struct net_address *address)
{
    const struct settings *settings = loading->settings;
    char text[NET_ADDRESS_TEXT];
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct settings_listener *other = &settings->listeners[i];
        for (size_t k = 0; k < other->address_count; k++) {
            const struct net_address *known = &other->addresses[k];
            if (known == address || known->port != address->port ||
                !net_ip_equal(&known->ip, &address->ip) || address->ip.family == 0)
                continue;
            struct str shown = net_address_format(address, text);
            SETTINGS_ERROR(loading, "address-twice", place,
                           "%.*s is used by listener \"%.*s\" already", STR_ARG(shown),
                           STR_ARG(other->name));
            return;
        }
    }
}

static void report_too_many(struct settings_loading *loading, struct config_place place)
{
    const struct settings *settings = loading->settings;
    size_t count = 0;
    for (size_t i = 0; i < settings->listener_count; i++)
        count += settings->listeners[i].address_count;
    if (count == SETTINGS_ADDRESSES_MAX + 1) /* once */
        SETTINGS_ERROR(loading, "too-many", place, "more than %d listening addresses",
                       SETTINGS_ADDRESSES_MAX)
            ->fix = STR("write \"0.0.0.0:25\" and \"[::]:25\" for all addresses of this host");
}

static void bind_addresses(struct settings_loading *loading, struct settings_listener *listener,
                           const struct settings_listener_values *values)
{
    const struct option_texts *texts = &values->listen;
    listener->addresses =
        arena_alloc_array(loading->arena, texts->count + 1, sizeof *listener->addresses);
    for (size_t i = 0; i < texts->count; i++) {
        struct net_address *address = &listener->addresses[listener->address_count];
        if (net_address_parse(texts->items[i], 0, address) && address->ip.family) {
            report_address_twice(loading, texts->places[i], address);
            listener->address_count++;
            report_too_many(loading, texts->places[i]);
            continue;
        }
        SETTINGS_ERROR(loading, "wrong-value", texts->places[i],
                       "\"%.*s\" is not an address with a port", STR_ARG(texts->items[i]))
            ->fix = STR("write \"0.0.0.0:25\", \"[::]:25\" or one address of this host");
    }
    const struct config_pair *listen = config_get_pair(listener->node, STR("listen"));
    if (listen && listen->value.kind == CONFIG_LIST && listen->value.count == 0)
        SETTINGS_ERROR(loading, "empty-value", listen->place, "there is no address")->fix =
            STR("write \"0.0.0.0:25\", or remove the listener");
}

/* ---- authentication ---- */

struct authentication_values {
    const struct config_node *flow;
    bool required;
};
static const struct option authentication_rows[] = {
    {.name = "flow",
     .type = OPTION_NODE,
     .offset = offsetof(struct authentication_values, flow),
     .text = "authentication flow, by name or as steps"},
    {.name = "required",
     .type = OPTION_BOOL,
     .offset = offsetof(struct authentication_values, required),
     .text = "mail needs a login",
     .fallback = "true"},
    {0},
};
const struct option_table settings_authentication_options = {
    .name = "listeners.*.authentication",
    .text = "Who may log in.",
    .options = authentication_rows,
    .shorthand = "flow",
    .size = sizeof(struct authentication_values),
};

/* Without a name (preset submission): the only flow there is. */
static const struct config_node *only_flow(struct settings_loading *loading,
                                           const struct settings_listener *listener)
{
    const struct config_node *section =
        config_get(config_get(loading->context.root, STR("flows")), STR("authentication"));
    if (section && section->kind == CONFIG_MAP && section->count == 1) {
        struct config_node *name = ARENA_NEW(loading->arena, struct config_node);
        *name = (struct config_node){.kind = CONFIG_SCALAR,
                                     .quoted = true,
                                     .place = listener->place,
                                     .text = section->pairs[0].key};
        return name;
    }
    SETTINGS_ERROR(loading, "missing-key", listener->place,
                   "nothing says who may log in on this listener")
        ->fix = STR("add \"authentication: NAME\", a flow under \"flows.authentication\"");
    return NULL;
}

static bool is_submission(const struct settings_listener *listener)
{
    for (size_t i = 0; i < listener->address_count; i++) {
        if (listener->addresses[i].port == 587 || listener->addresses[i].port == 465)
            return true;
    }
    return false;
}

static void bind_authentication(struct settings_loading *loading,
                                struct settings_listener *listener, const struct config_node *node)
{
    if (node && node->kind == CONFIG_SCALAR && str_equal(node->text, STR("none")))
        return;
    if (!node && !is_submission(listener))
        return;
    struct authentication_values values = {.required = true};
    size_t errors = loading->report->errors;
    if (node && option_bind(&settings_authentication_options, node, NULL, &loading->context,
                            &values) == FAILED)
        return;
    if (!values.flow && loading->report->errors == errors)
        values.flow = only_flow(loading, listener);
    if (!values.flow)
        return;
    listener->smtp.authentication = true;
    listener->smtp.authentication_required = values.required;
    listener->authentication = settings_resolve_flow(
        loading, FLOW_AUTHENTICATION, values.flow, STR_EMPTY,
        arena_printf(loading->arena, "%.*s.authentication", STR_ARG(listener->name)));
}

static void check_authentication(struct settings_loading *loading,
                                 const struct settings_listener *listener)
{
    const struct smtp_server_settings *smtp = &listener->smtp;
    const struct config_pair *clear = config_get_pair(listener->node, STR("allow_cleartext_auth"));
    if (smtp->allow_cleartext_auth && smtp->tls != SMTP_TLS_IMPLICIT && clear)
        SETTINGS_WARNING(loading, "cleartext-auth", clear->place,
                         "passwords may travel in clear on listener \"%.*s\"",
                         STR_ARG(listener->name))
            ->fix = STR("remove it; clients start TLS before they log in");
    if (!listener->authentication || smtp->tls != SMTP_TLS_NONE || smtp->allow_cleartext_auth)
        return;
    config_problem(loading->report, smtp->authentication_required ? CONFIG_ERROR : CONFIG_WARNING,
                   "no-login", listener->place,
                   "nobody can log in: without TLS, AUTH is not offered")
        ->fix = STR("give the listener a certificate and \"tls: required\"");
}

/* ---- TLS ---- */

static void bind_tls(struct settings_loading *loading, struct settings_listener *listener,
                     const struct settings_listener_values *values)
{
    bool have = loading->settings->certificate_count > 0;
    listener->smtp.tls = values->tls != UNSET ? (enum smtp_tls_mode)values->tls
                         : have               ? SMTP_TLS_OFFERED
                                              : SMTP_TLS_NONE;
    const struct config_pair *tls = config_get_pair(listener->node, STR("tls"));
    const struct config_pair *named = config_get_pair(listener->node, STR("certificate"));
    if (listener->smtp.tls == SMTP_TLS_NONE) {
        if (named && tls)
            SETTINGS_WARNING(loading, "unused-name", named->place,
                             "a certificate has no use with \"tls: none\"");
        return;
    }
    if (!have) {
        if (!named) /* else the name dangles, which was reported */
            SETTINGS_ERROR(loading, "no-certificate", tls ? tls->place : listener->place,
                           "TLS needs a certificate, and there is none")
                ->fix = STR("add \"certificates: { main: { cert: FILE, key: FILE } }\"");
        return;
    }
    listener->smtp.tls_context =
        settings_listener_tls(loading, &values->certificates, values->min_version, values->ciphers,
                              named ? named->place : listener->place);
}

/* ---- one listener ---- */

static void bind_values(struct settings_loading *loading, struct settings_listener *listener,
                        const struct settings_listener_values *values)
{
    struct smtp_server_settings *smtp = &listener->smtp;
    smtp->listener = listener->name;
    smtp->hostname = loading->settings->hostname;
    smtp->allow_cleartext_auth = values->allow_cleartext_auth;
    smtp->allow_routed_local_parts = values->allow_routed_local_parts;
    smtp->line_endings = values->line_endings == UNSET
                             ? SMTP_LINES_BY_CLIENT
                             : (enum smtp_line_endings)values->line_endings;
    smtp->limits = values->limits;
    struct net_network *networks;
    settings_read_networks(loading, &values->proxy_from, &networks, &smtp->proxy_from_count);
    smtp->proxy_from = networks;
    settings_read_networks(loading, &values->xclient_from, &networks, &smtp->xclient_from_count);
    smtp->xclient_from = networks;
    listener->queued = values->processing == 1;
    listener->direct_timeout_ns = values->direct_timeout_ns;
    listener->refused_later = (enum settings_refused_later)values->refused_later;
    listener->hide_client = values->hide_client;
}

static void bind_recipients(struct settings_loading *loading, struct settings_listener *listener,
                            const struct config_node *node)
{
    if (!node)
        return;
    const struct config_pair *pair = config_get_pair(listener->node, STR("recipients"));
    SETTINGS_WARNING(loading, "deprecated", pair ? pair->place : node->place,
                     "recipients of a listener are deprecated")
        ->fix = STR("give each domain its own \"recipients\"");
    listener->recipients = settings_resolve_flow(
        loading, FLOW_RECIPIENT, node, STR_EMPTY,
        arena_printf(loading->arena, "%.*s.recipients", STR_ARG(listener->name)));
}

static void bind_listener(struct settings_loading *loading, const struct config_pair *pair,
                          struct settings_listener *listener)
{
    struct settings_listener_values *values =
        ARENA_NEW(loading->arena, struct settings_listener_values);
    values->tls = UNSET;
    values->line_endings = UNSET;
    *listener = (struct settings_listener){
        .name = pair->key, .place = pair->place, .node = &pair->value, .values = values};
    (void)!option_bind(&settings_listener_options, &pair->value, NULL, &loading->context, values);
    if (pair->value.kind != CONFIG_MAP)
        return;
    bind_addresses(loading, listener, values);
    bind_values(loading, listener, values);
    bind_tls(loading, listener, values);
    bind_authentication(loading, listener, values->authentication);
    check_authentication(loading, listener);
    bind_recipients(loading, listener, values->recipients);
}

void settings_bind_listeners(struct settings_loading *loading)
{
    const struct config_node *section = settings_section(loading, "listeners");
    struct settings *settings = loading->settings;
    if (!section || section->count == 0) {
        if (!config_get(loading->context.root, STR("listeners")) || section)
            SETTINGS_ERROR(loading, "missing-key", loading->context.root->place,
                           "there is no listener: no mail could come in")
                ->fix = STR("add \"listeners: { inbound: { preset: mx } }\"");
        return;
    }
    settings->listeners =
        arena_alloc_array(loading->arena, section->count, sizeof *settings->listeners);
    for (size_t i = 0; i < section->count; i++) {
        settings->listener_count = i + 1;
        bind_listener(loading, &section->pairs[i], &settings->listeners[i]);
    }
}
