/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/settings_internal.h - what the files that read a configuration share while they do. */
#pragma once

#include "base/map.h"
#include "gateway/settings.h"

#include <stdatomic.h>

struct settings_private {
    struct arena *arena;
    atomic_uint references;
    struct settings_domain *any; /* the domain `any`, or NULL */
    struct map domains;          /* name, alias, or line of domains_file: struct settings_domain */
    struct config_node root;     /* with presets and short forms expanded */
    struct net_ip *interfaces;   /* addresses of this host, at load */
    size_t interface_count;
};

struct settings_loading {
    struct settings *settings;
    struct arena *arena;
    struct config_report *report;
    struct option_context context; /* the two above and the root */
    struct flow_compile_context flow_context;
};

struct settings_listener_values { /* rows of listeners.* */
    struct option_texts listen;
    int tls; /* -1: not given */
    struct option_texts certificates;
    const struct config_node *authentication;
    int processing;
    int64_t direct_timeout_ns;
    int refused_later;
    bool hide_client;
    struct option_texts domains;
    const struct config_node *recipients;
    struct smtp_limits limits;
    int line_endings;
    struct option_texts proxy_from, xclient_from;
    bool allow_cleartext_auth;
    bool allow_routed_local_parts;
    int min_version;
    struct str ciphers;
};

struct settings_domain_values { /* rows of domains.* */
    struct option_texts aliases;
    const struct config_node *recipients;
    const struct config_node *content;
    struct str transport;
    struct str allow_open_relay;
};

extern const struct option_table settings_top_options;
extern const struct option_table settings_listener_options;
extern const struct option_table settings_authentication_options;
extern const struct option_table settings_domain_options;
extern const struct option_table settings_certificate_options;
extern const struct option_table settings_quarantine_options;
extern const struct option_table settings_list_options;
extern const struct option_table settings_network_options;
extern const struct option_table settings_provider_options;

#define SETTINGS_ERROR(loading, code, place, ...)                                                  \
    config_problem((loading)->report, CONFIG_ERROR, code, place, __VA_ARGS__)
#define SETTINGS_WARNING(loading, code, place, ...)                                                \
    config_problem((loading)->report, CONFIG_WARNING, code, place, __VA_ARGS__)

/* The section as a map, or NULL (absent, or reported as no map). */
const struct config_node *settings_section(struct settings_loading *loading, const char *name);

/* See flow_relay_case.shows: by the flows themselves, in a rehearsal. */
enum flow_shown settings_relay_shows(const struct flow_relay_case *relay,
                                     const struct flow_witness *witness, struct str *out_domain);

/* Each step of loading, in this order; problems go to the report. */
void settings_expand(struct settings_loading *loading, struct config_node *root);
void settings_bind_top(struct settings_loading *loading);
void settings_bind_lists(struct settings_loading *loading);
void settings_bind_providers(struct settings_loading *loading);
void settings_bind_certificates(struct settings_loading *loading);
void settings_bind_quarantines(struct settings_loading *loading);
void settings_bind_listeners(struct settings_loading *loading);
void settings_bind_domains(struct settings_loading *loading);
void settings_bind_trusted(struct settings_loading *loading);
void settings_check_relay(struct settings_loading *loading);
void settings_check_logins(struct settings_loading *loading);
void settings_check_unused(struct settings_loading *loading);

/* A list of networks, each plain or { network, reason }; `what` is for messages. */
void settings_read_networks(struct settings_loading *loading, const struct option_texts *texts,
                            struct net_network **out, size_t *out_count);

/* All addresses, or more public ones than a /24 or a /48. */
bool settings_network_is_wide(const struct net_network *network);

/*
 * The flow that `node` names, or holds as steps or a preset; `fallback` (a built-in name) when
 * `node` is NULL. `owner` names inline flows in traces. NULL: a problem was reported.
 */
const struct flow *settings_resolve_flow(struct settings_loading *loading, enum flow_type type,
                                         const struct config_node *node, struct str fallback,
                                         struct str owner);
/* The TLS context of a listener with these certificates (all usable ones if none is named). */
struct tls_context *settings_listener_tls(struct settings_loading *loading,
                                          const struct option_texts *names, int min_version,
                                          struct str ciphers, struct config_place place);

/* Lines of a file without comments and blanks, in the arena; false: reported at `place`. */
bool settings_read_lines(struct settings_loading *loading, struct str path,
                         struct config_place place, struct option_texts *out);
