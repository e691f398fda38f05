/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/settings.h - a whole configuration, read, checked and ready to be used.
 *
 * Immutable once loaded and shared by all threads; whoever keeps it holds a reference. A reload
 * loads a new one beside it. Texts, flows, servers and TLS contexts live as long as it does.
 */
#pragma once

#include "config/load.h"
#include "content/signing_key.h"
#include "flow/attempt.h"
#include "flow/flow.h"
#include "net/dns.h"
#include "net/server.h"
#include "queue/transport.h"
#include "smtp/server.h"
#include "spool/spool.h"
#include "webhook/settings.h"

enum { SETTINGS_ADDRESSES_MAX = 64 }; /* of all listeners */

struct settings_domain {
    struct str name; /* lower-case A-labels, or "any" */
    bool is_any;
    size_t index;                  /* in settings.domains */
    const struct flow *recipients; /* NULL: the listener's (deprecated) */
    const struct flow *content;
    const struct transport *transport;
    struct str allow_open_relay; /* the reason, or empty */
    struct config_place place;
    const struct config_node *node;
    const void *values;
};

enum settings_refused_later { SETTINGS_REFUSED_QUARANTINE, SETTINGS_REFUSED_DISCARD };

struct settings_listener {
    struct str name;
    struct net_address *addresses;
    size_t address_count;
    struct smtp_server_settings smtp;
    const struct flow *authentication; /* NULL: no AUTH */
    bool queued;                       /* processing: queued */
    int64_t direct_timeout_ns;
    enum settings_refused_later refused_later;
    bool hide_client;
    const struct flow *recipients; /* deprecated: for domains without their own; or NULL */
    bool *serves;                  /* by index of domain */
    struct config_place place;
    const struct config_node *node;
    const void *values;
};

struct settings_certificate {
    struct str name;
    struct str cert_path;
    struct str key_path;
    bool usable;
    struct config_place place;
    const struct config_node *node;
};

enum settings_full { SETTINGS_FULL_OLDEST, SETTINGS_FULL_DEFER };
enum settings_release { SETTINGS_RELEASE_ADMIN, SETTINGS_RELEASE_RECIPIENT };
enum settings_digest { SETTINGS_DIGEST_NONE, SETTINGS_DIGEST_DAILY };

struct settings_quarantine {
    struct str name;
    int64_t keep_ns;
    uint64_t size;
    int when_full;  /* enum settings_full */
    int release_by; /* enum settings_release */
    int digest;     /* enum settings_digest */
    int64_t digest_at_ns;
    struct str digest_from; /* or empty */
    struct str link;        /* without a slash at its end; or empty */
    struct config_place place;
    const struct config_node *node;
};

enum settings_log_target {
    SETTINGS_LOG_STDOUT,
    SETTINGS_LOG_JOURNAL,
    SETTINGS_LOG_SYSLOG,
    SETTINGS_LOG_FILE
};

enum settings_scope { SETTINGS_SCOPE_ADMIN, SETTINGS_SCOPE_OPERATE, SETTINGS_SCOPE_READ };

enum settings_log_compat { SETTINGS_COMPAT_NONE, SETTINGS_COMPAT_POSTFIX };

struct settings {
    unsigned revision; /* its number; set once, before it is shared. 0: none */

    /* ---- the rows of the top level ---- */
    int64_t version;
    struct str hostname;   /* default: the system's */
    struct str user;       /* empty: postern if it exists and we are root */
    int64_t workers;       /* 0: one a core */
    struct str postmaster; /* default: postmaster@ the first listed domain; may be empty */
    struct str domains_file;
    struct {
        uint64_t messages;
    } memory;
    struct {
        bool open_relay_support;
        int64_t protected_mailboxes; /* 0: no number given */
    } entitlements;
    struct spool_settings spool;
    struct {
        struct str socket, group, mode_text;
        unsigned mode;
        int scope; /* enum settings_scope: of whom the socket lets in */
    } control;
    struct {
        struct flow_limits limits;
    } content;
    struct {
        struct option_texts exempt; /* users, in any case */
    } contain;
    struct {
        struct option_texts listen;
        struct net_address *addresses;
        size_t address_count;
    } admin;
    struct {
        struct option_texts listen;
        struct net_address *addresses;
        size_t address_count;
    } metrics;
    struct { /* of DMARC; without `from`: none */
        struct str from, organization, contact;
        int64_t at_ns;
    } reports;
    struct {
        int64_t every_ns; /* 0: never */
        unsigned parts;   /* set of 1 << enum domain_part */
    } domain_checks;
    struct {
        struct str path; /* empty: in the spool's folder */
        int64_t keep_ns;
        uint64_t size;
        bool subjects;
        struct option_texts headers;
    } events;
    struct {
        int target; /* enum settings_log_target */
        int compat; /* enum settings_log_compat */
        int least;  /* enum event_severity */
        bool trace;
        struct str path;
        struct str socket; /* empty: the usual one */
    } log;
    struct {
        struct option_texts servers;
        int dnssec;
        int64_t timeout_ns;
        const struct config_node *statics;
    } dns_written;
    struct option_texts own_addresses_written;
    struct {
        const struct config_node *trusted_networks, *lists, *servers, *certificates, *listeners,
            *flows, *transports, *domains, *quarantines, *dkim_keys, *providers, *webhooks;
    } sections;

    /* ---- what was made of them ---- */
    struct dns_settings dns;
    struct net_address *own_addresses; /* port 0: all ports */
    size_t own_address_count;
    struct net_network *trusted;
    size_t trusted_count;
    struct server *servers;
    size_t server_count;
    struct transport *transports; /* built-in and inline ones too */
    size_t transport_count;
    const struct flow_attempt_script **attempt_scripts; /* by index of transport; NULL: none */
    struct flow_list *lists;
    size_t list_count;
    struct settings_provider { /* the first that fits a host is its provider */
        struct str name, suffix;
    } * providers;
    size_t provider_count;
    struct flow_set *flows;
    struct settings_certificate *certificates;
    size_t certificate_count;
    struct signing_keys dkim_keys;
    bool signs_seven_bit; /* a transport has eight_bit: convert */
    struct settings_quarantine *quarantines;
    size_t quarantine_count;
    struct webhook_settings *webhooks;
    size_t webhook_count;
    struct settings_listener *listeners;
    size_t listener_count;
    struct settings_domain *domains;
    size_t domain_count;
    struct option_paths files; /* read besides the configuration, to be watched for changes */
    struct option_paths paths; /* all that it names, read or not */

    struct settings_private *hidden;
};

/*
 * Read, check and compile a whole configuration. Everything wrong goes to `report`; FAILED if that
 * holds an error (`err` then says how many). Blocks: reads files, makes TLS contexts. The report
 * stays valid as long as its arena, whatever becomes of the settings.
 */
enum result settings_load(const char *path, struct config_report *report,
                          struct settings **out_settings, struct error *err);
/* The same of the texts of files that were read before (copied); relative paths start at the folder
 * of each name. */
enum result settings_load_texts(const struct config_texts *texts, struct config_report *report,
                                struct settings **out_settings, struct error *err);
/* The same of text in memory, for tests; relative paths start at the working directory. */
enum result settings_load_text(struct str name, struct str text, struct config_report *report,
                               struct settings **out_settings, struct error *err);

/* From any thread. */
struct settings *settings_ref(const struct settings *settings);
void settings_unref(const struct settings *settings); /* NULL is allowed */

/* The domain that takes mail for `domain` (A-labels, lower case) on this listener: the exact one,
 * else `any`; NULL: none. */
const struct settings_domain *settings_find_domain(const struct settings *settings,
                                                   const struct settings_listener *listener,
                                                   struct str domain);
/* The same without a listener, for mail that we make ourselves. */
const struct settings_domain *settings_route(const struct settings *settings, struct str domain);
/* Is it one of ours by name: listed, an alias, or in domains_file? */
bool settings_is_listed(const struct settings *settings, struct str domain);
/* The recipient flow for a domain on a listener. */
const struct flow *settings_recipient_flow(const struct settings_listener *listener,
                                           const struct settings_domain *domain);
/* Who runs this MX host; "other" for all but the large ones. */
struct str settings_provider(const struct settings *settings, struct str host);
const struct settings_quarantine *settings_find_quarantine(const struct settings *settings,
                                                           struct str name);
const struct settings_listener *settings_find_listener(const struct settings *settings,
                                                       struct str name);
const struct transport *settings_find_transport(const struct settings *settings, struct str name);
/* Is (ip, port) one that our listeners accept on (wildcards taken as any address), or in
 * own_addresses? A wildcard counts for loopback and for addresses of this host only. */
bool settings_is_own_address(const struct settings *settings, const struct net_address *address);

/* ---- for people ---- */

struct buf;
/* Every setting with its value in force, as YAML; secrets do not stand in it. */
void settings_effective(const struct settings *settings, struct buf *out);
/* JSON Schema of the whole file. */
void settings_schema(struct buf *out);
/* All rows as text. */
void settings_manual(struct buf *out);
