/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/settings_top.c - the rows of the top level, and what is made of them. */
#include "gateway/settings_internal.h"

#include "base/clock.h"
#include "event/event.h"
#include "gateway/domain_check.h"
#include "gateway/memory_limit.h"
#include "mail/address.h"
#include "net/address.h"

#include <stddef.h>
#include <unistd.h>

enum { MESSAGES_MEMORY = 256 * 1024 * 1024 };

#define DAY_NS     (INT64_C(86400) * NS_PER_S)
#define AT(member) offsetof(struct settings, member)
/* groups at offset 0: their rows name members of the settings themselves */
#define GROUP_TABLE(variable, name_, text_, rows_)                                                 \
    static const struct option_table variable = {                                                  \
        .name = (name_), .text = (text_), .options = (rows_), .size = sizeof(struct settings)}

static const struct option memory_rows[] = {
    {.name = "messages",
     .type = OPTION_SIZE,
     .offset = AT(memory.messages),
     .text = "bodies and queued mail kept in memory; more waits on disk. Without it 256M, or an "
             "eighth of the control group's limit if that is less",
     .min = 16 << 20,
     .max = INT64_C(1) << 40,
     .reload = RELOAD_RESTART},
    {0},
};
GROUP_TABLE(memory_options, "memory", "What memory is used for.", memory_rows);

static const struct option entitlement_rows[] = {
    {.name = "open_relay_support",
     .type = OPTION_BOOL,
     .offset = AT(entitlements.open_relay_support),
     .text = "allow a domain `any`, and transports that look up MX records",
     .fallback = "false"},
    {.name = "protected_mailboxes",
     .type = OPTION_INT,
     .offset = AT(entitlements.protected_mailboxes),
     .text = "mailboxes that were agreed on; more is shown, never refused",
     .min = 1,
     .max = 100000000},
    {0},
};
GROUP_TABLE(entitlement_options, "entitlements", "What was agreed on.", entitlement_rows);

static const struct option_word dnssec_words[] = {
    {"none", DNS_DNSSEC_NONE},
    {"trust-ad", DNS_DNSSEC_TRUST_AD},
    {"validate", DNS_DNSSEC_VALIDATE},
    {NULL, 0},
};
static const struct option dns_rows[] = {
    {.name = "servers",
     .type = OPTION_TEXTS,
     .offset = AT(dns_written.servers),
     .text = "resolvers, address[:port]; default: the system's"},
    {.name = "dnssec",
     .type = OPTION_WORD,
     .offset = AT(dns_written.dnssec),
     .text = "whose word on signatures counts",
     .fallback = "none",
     .words = dnssec_words},
    {.name = "timeout",
     .type = OPTION_DURATION,
     .offset = AT(dns_written.timeout_ns),
     .text = "longest wait for one answer",
     .fallback = "10s",
     .min = 100 * NS_PER_MS,
     .max = 120 * NS_PER_S},
    {.name = "static",
     .type = OPTION_NODE,
     .offset = AT(dns_written.statics),
     .text = "answers given without asking: { name: [ addresses ], \"mx:name\": [ \"10 host\" ] }"},
    {0},
};
GROUP_TABLE(dns_options, "dns", "How names are looked up.", dns_rows);

static const struct option_word scope_words[] = {
    {"admin", SETTINGS_SCOPE_ADMIN},
    {"operate", SETTINGS_SCOPE_OPERATE},
    {"read", SETTINGS_SCOPE_READ},
    {NULL, 0},
};
static const struct option control_rows[] = {
    {.name = "socket",
     .type = OPTION_PATH,
     .offset = AT(control.socket),
     .text = "Unix socket of the command line",
     .fallback = "/run/postern/control.sock",
     .reload = RELOAD_RESTART},
    {.name = "group",
     .type = OPTION_TEXT,
     .offset = AT(control.group),
     .text = "group that may use it",
     .reload = RELOAD_RESTART},
    {.name = "mode",
     .type = OPTION_TEXT,
     .offset = AT(control.mode_text),
     .text = "its mode, in octal",
     .fallback = "0660",
     .reload = RELOAD_RESTART},
    {.name = "scope",
     .type = OPTION_WORD,
     .offset = AT(control.scope),
     .text = "what those may do whom group and mode let in; root and the daemon's user may do all",
     .fallback = "admin",
     .words = scope_words,
     .reload = RELOAD_RESTART},
    {0},
};
GROUP_TABLE(control_options, "control", "The control socket.", control_rows);

static const struct option admin_rows[] = {
    {.name = "listen",
     .type = OPTION_TEXTS,
     .offset = AT(admin.listen),
     .text = "loopback addresses with ports, as \"127.0.0.1:8443\"; who has a token may use them",
     .required = true,
     .reload = RELOAD_RESTART},
    {0},
};
GROUP_TABLE(admin_options, "admin", "The API over TCP.", admin_rows);

static const struct option metrics_rows[] = {
    {.name = "listen",
     .type = OPTION_TEXTS,
     .offset = AT(metrics.listen),
     .text = "addresses with ports, as \"127.0.0.1:9925\": whoever reaches them may read",
     .required = true,
     .reload = RELOAD_RESTART},
    {0},
};
GROUP_TABLE(metrics_options, "metrics", "Numbers for Prometheus over TCP.", metrics_rows);

static const struct option dmarc_report_rows[] = {
    {.name = "from",
     .type = OPTION_TEXT,
     .offset = AT(reports.from),
     .text = "address that they come from; its mailbox gets what cannot be delivered",
     .required = true,
     .reload = RELOAD_RESTART},
    {.name = "organization",
     .type = OPTION_TEXT,
     .offset = AT(reports.organization),
     .text = "who you are; default: hostname",
     .reload = RELOAD_RESTART},
    {.name = "contact",
     .type = OPTION_TEXT,
     .offset = AT(reports.contact),
     .text = "where to ask about them, a URL or an address",
     .reload = RELOAD_RESTART},
    {.name = "at",
     .type = OPTION_DURATION,
     .offset = AT(reports.at_ns),
     .text = "when they are sent, after midnight UTC",
     .fallback = "1h",
     .min = 0,
     .max = 23 * 3600 * NS_PER_S,
     .reload = RELOAD_RESTART},
    {0},
};
GROUP_TABLE(dmarc_report_options, "reports.dmarc",
            "Aggregate reports to the domains whose policies were looked at.", dmarc_report_rows);
static const struct option report_rows[] = {
    {.name = "dmarc",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "aggregate reports of DMARC; absent: none are sent",
     .group = &dmarc_report_options,
     .reload = RELOAD_RESTART},
    {0},
};
GROUP_TABLE(report_options, "reports", "Reports to others.", report_rows);
static const struct option content_limit_rows[] = {
    {.name = "time",
     .type = OPTION_DURATION,
     .offset = AT(content.limits.time_ns),
     .text = "how long the content flow of a message may take",
     .fallback = "3m",
     .min = NS_PER_S,
     .max = 3600 * NS_PER_S},
    {.name = "memory",
     .type = OPTION_SIZE,
     .offset = AT(content.limits.memory),
     .text = "working memory of its steps",
     .fallback = "64M",
     .min = 1 << 20,
     .max = INT64_C(4) << 30},
    {.name = "decoded",
     .type = OPTION_SIZE,
     .offset = AT(content.limits.decoded),
     .text = "bytes that come out of decoding and unpacking it, all steps together",
     .fallback = "200M",
     .min = 1 << 20,
     .max = INT64_C(64) << 30},
    {.name = "parts",
     .type = OPTION_INT,
     .offset = AT(content.limits.parts),
     .text = "MIME parts, and members of archives",
     .fallback = "2000",
     .min = 10,
     .max = 100000},
    {.name = "depth",
     .type = OPTION_INT,
     .offset = AT(content.limits.depth),
     .text = "parts in parts, and archives in archives",
     .fallback = "32",
     .min = 2,
     .max = 100},
    {0},
};
GROUP_TABLE(
    content_limit_options, "content.limits",
    "What one message may cost a content flow; over it is the outcome `limit` or `error` of "
    "the step at work, which defers unless the flow says otherwise.",
    content_limit_rows);
static const struct option content_rows[] = {
    {.name = "limits",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "what one message may cost",
     .group = &content_limit_options},
    {0},
};
GROUP_TABLE(content_options, "content", "Content flows.", content_rows);

static const struct option contain_rows[] = {
    {.name = "exempt",
     .type = OPTION_TEXTS,
     .offset = AT(contain.exempt),
     .text =
         "users, as they log in, that no flow contains; where one would, their mail is deferred "
         "and an event tells of it"},
    {0},
};
GROUP_TABLE(contain_options, "contain", "Accounts that are contained by flows (`then: contain`).",
            contain_rows);

static const struct option_word part_words[] = {
    {"mx", DOMAIN_MX}, {"spf", DOMAIN_SPF}, {"dkim", DOMAIN_DKIM}, {"dmarc", DOMAIN_DMARC}, {0}};
static const struct option domain_check_rows[] = {
    {.name = "every",
     .type = OPTION_DURATION,
     .offset = AT(domain_checks.every_ns),
     .text = "how often each of the listed domains is looked at, about; 0s: never",
     .fallback = "1h",
     .min = 0,
     .max = 30 * DAY_NS},
    {.name = "checks",
     .type = OPTION_WORDS,
     .offset = AT(domain_checks.parts),
     .text = "what of them",
     .fallback = "[ mx, spf, dkim, dmarc ]",
     .words = part_words},
    {0},
};
GROUP_TABLE(
    domain_check_options, "domain_checks",
    "What DNS says of the domains, looked at now and then: events domain.unhealthy and "
    "domain.healthy, and the number postern_domains_unhealthy. `postern domain check` asks at "
    "once, and more.",
    domain_check_rows);

static const struct option event_rows[] = {
    {.name = "path",
     .type = OPTION_PATH,
     .offset = AT(events.path),
     .text = "folder of the history; default: in the spool's"},
    {.name = "keep",
     .type = OPTION_DURATION,
     .offset = AT(events.keep_ns),
     .text = "how long it is kept",
     .fallback = "90d",
     .min = DAY_NS,
     .max = 3660 * DAY_NS},
    {.name = "size",
     .type = OPTION_SIZE,
     .offset = AT(events.size),
     .text = "how large it may grow",
     .fallback = "10G",
     .min = 16 << 20,
     .max = INT64_C(1) << 50},
    {.name = "subjects",
     .type = OPTION_BOOL,
     .offset = AT(events.subjects),
     .text = "tell the subjects of accepted messages, so that they can be found by them",
     .fallback = "true"},
    {.name = "headers",
     .type = OPTION_TEXTS,
     .offset = AT(events.headers),
     .text = "names of header fields that are kept with each message, for postern shadow; those "
             "that conditions of its flow look at always are"},
    {0},
};
GROUP_TABLE(event_options, "events", "The history of what happened.", event_rows);

static const struct option_word log_words[] = {
    {"stdout", SETTINGS_LOG_STDOUT},
    {"journal", SETTINGS_LOG_JOURNAL},
    {"syslog", SETTINGS_LOG_SYSLOG},
    {"file", SETTINGS_LOG_FILE},
    {NULL, 0},
};
static const struct option_word compat_words[] = {
    {"none", SETTINGS_COMPAT_NONE},
    {"postfix", SETTINGS_COMPAT_POSTFIX},
    {NULL, 0},
};
static const struct option_word severity_words[] = {
    {"debug", EVENT_DEBUG}, {"info", EVENT_INFO},   {"notice", EVENT_NOTICE},
    {"warn", EVENT_WARN},   {"error", EVENT_ERROR}, {NULL, 0},
};
static const struct option log_rows[] = {
    {.name = "to",
     .type = OPTION_WORD,
     .offset = AT(log.target),
     .text =
         "where the log goes; journal: with fields to find by and an explanation of each event, "
         "see journalctl -x; where there is no journal, to the standard output",
     .fallback = "stdout",
     .words = log_words},
    {.name = "path", .type = OPTION_PATH, .offset = AT(log.path), .text = "to: file: its path"},
    {.name = "socket",
     .type = OPTION_PATH,
     .offset = AT(log.socket),
     .reload = RELOAD_RESTART,
     .text =
         "to: syslog or journal: their socket, default /dev/log or /run/systemd/journal/socket"},
    {.name = "trace",
     .type = OPTION_BOOL,
     .offset = AT(log.trace),
     .fallback = "false",
     .reload = RELOAD_RESTART,
     .text =
         "name the trace of each message in its JSON lines: 32 hexadecimal digits, the number that "
         "its id is, as OpenTelemetry wants it"},
    {.name = "least",
     .type = OPTION_WORD,
     .offset = AT(log.least),
     .text = "the least severity that is logged; the history has all events",
     .fallback = "info",
     .reload = RELOAD_RESTART,
     .words = severity_words},
    {.name = "compat",
     .type = OPTION_WORD,
     .offset = AT(log.compat),
     .text = "postfix: lines as Postfix writes them, for pflogsumm, fail2ban and eyes used to them",
     .fallback = "none",
     .reload = RELOAD_RESTART,
     .words = compat_words},
    {0},
};
GROUP_TABLE(log_options, "log", "The log.", log_rows);

static const struct option rows[] = {
    {.name = "version",
     .type = OPTION_INT,
     .offset = AT(version),
     .text = "version of this format: 1",
     .required = true,
     .min = 1,
     .max = 1},
    {.name = "hostname",
     .type = OPTION_TEXT,
     .offset = AT(hostname),
     .text = "name that this gateway greets with; default: the system's"},
    {.name = "user",
     .type = OPTION_TEXT,
     .offset = AT(user),
     .text = "user to run as; default: postern, when started as root and it exists",
     .reload = RELOAD_RESTART},
    {.name = "workers",
     .type = OPTION_INT,
     .offset = AT(workers),
     .text = "threads for mail; 0: one a core",
     .fallback = "0",
     .min = 0,
     .max = 1024,
     .reload = RELOAD_RESTART},
    {.name = "postmaster",
     .type = OPTION_TEXT,
     .offset = AT(postmaster),
     .text = "where mail to <postmaster> goes; default: postmaster@ the first listed domain"},
    {.name = "own_addresses",
     .type = OPTION_TEXTS,
     .offset = AT(own_addresses_written),
     .text = "addresses under which the world reaches us (NAT), address or address:port"},
    {.name = "trusted_networks",
     .type = OPTION_NODE,
     .offset = AT(sections.trusted_networks),
     .text = "clients that count as own users: networks, or { network: N, reason: WHY }"},
    {.name = "domains_file",
     .type = OPTION_PATH,
     .offset = AT(domains_file),
     .text = "further domains, a line a name, and behind it the listed domain that it is like"},
    {.name = "lists",
     .type = OPTION_NODE,
     .offset = AT(sections.lists),
     .text = "names for files of addresses, domains and networks"},
    {.name = "providers",
     .type = OPTION_NODE,
     .offset = AT(sections.providers),
     .text = "large receivers by their MX hosts, for numbers"},
    {.name = "content",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "bounds of content flows",
     .group = &content_options},
    {.name = "contain",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "accounts that flows contain",
     .group = &contain_options},
    {.name = "memory",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "what memory is used for",
     .group = &memory_options},
    {.name = "servers",
     .type = OPTION_NODE,
     .offset = AT(sections.servers),
     .text = "backends by name"},
    {.name = "certificates",
     .type = OPTION_NODE,
     .offset = AT(sections.certificates),
     .text = "certificates by name"},
    {.name = "dkim_keys",
     .type = OPTION_NODE,
     .offset = AT(sections.dkim_keys),
     .text = "keys that sign mail, by name"},
    {.name = "listeners",
     .type = OPTION_NODE,
     .offset = AT(sections.listeners),
     .text = "where mail comes in"},
    {.name = "flows",
     .type = OPTION_NODE,
     .offset = AT(sections.flows),
     .text = "what is decided, and how"},
    {.name = "transports",
     .type = OPTION_NODE,
     .offset = AT(sections.transports),
     .text = "how mail leaves"},
    {.name = "domains",
     .type = OPTION_NODE,
     .offset = AT(sections.domains),
     .text = "who takes mail for which domain"},
    {.name = "entitlements",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "what was agreed on",
     .group = &entitlement_options},
    {
        .name = "quarantines",
        .type = OPTION_NODE,
        .offset = AT(sections.quarantines),
        .text = "quarantines by name",
    },
    {.name = "webhooks",
     .type = OPTION_NODE,
     .offset = AT(sections.webhooks),
     .text = "web services that are told of events, by name"},
    {.name = "dns",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "how names are looked up",
     .group = &dns_options,
     .reload = RELOAD_RESTART},
    {.name = "spool",
     .type = OPTION_GROUP,
     .offset = AT(spool),
     .text = "where accepted mail is kept",
     .group = &spool_options},
    {.name = "control",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "the control socket",
     .group = &control_options},
    {.name = "admin",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "the API over TCP, with tokens; absent: over the control socket only",
     .group = &admin_options,
     .reload = RELOAD_RESTART},
    {.name = "metrics",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "numbers for Prometheus over TCP; absent: over the control socket only",
     .group = &metrics_options,
     .reload = RELOAD_RESTART},
    {.name = "reports",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "reports to others",
     .group = &report_options,
     .reload = RELOAD_RESTART},
    {.name = "domain_checks",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "what DNS says of the domains, looked at now and then",
     .group = &domain_check_options},
    {.name = "events",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "the history of what happened",
     .group = &event_options},
    {.name = "log",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "the log",
     .group = &log_options,
     .reload = RELOAD_RESTART},
    {0},
};
const struct option_table settings_top_options = {
    .name = "postern.yaml",
    .text = "The configuration of the gateway.",
    .options = rows,
    .size = sizeof(struct settings),
};

/* ---- what is made of them ---- */

static struct config_place place_at(const struct settings_loading *loading, const char *section,
                                    const char *key)
{
    const struct config_node *node = config_get(loading->context.root, str_c(section));
    const struct config_node *value = key ? config_get(node, str_c(key)) : node;
    return value ? value->place : (struct config_place){0};
}

/* A small control group gives an eighth of what it has. */
static void derive_memory(struct settings *settings)
{
    uint64_t share = memory_limit() / 8;
    if (settings->memory.messages == 0)
        settings->memory.messages = share < MESSAGES_MEMORY ? share : MESSAGES_MEMORY;
}

/* A name that may stand there, but with which other servers take no mail from us. */
static void judge_hostname(struct settings_loading *loading, struct config_place place,
                           struct str name)
{
    static const char *const nowhere[] = {".localhost", ".localdomain", ".local", ".invalid"};
    bool is_nowhere = str_equal(name, STR("localhost"));
    bool is_letters = true;
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++)
        is_nowhere = is_nowhere || str_ends_nocase(name, str_c(nowhere[i]));
    for (size_t i = 0; i < name.len; i++)
        is_letters = is_letters && name.ptr[i] != '_';
    const char *why = is_nowhere                ? "is no name that another host could look up"
                      : str_find(name, '.') < 0 ? "has no domain"
                      : !is_letters             ? "holds a \"_\", which stands in no host name"
                                                : NULL;
    if (why)
        SETTINGS_WARNING(loading, "hostname", place, "\"%.*s\" %s: others may refuse our mail",
                         STR_ARG(name), why)
            ->fix = STR("write the name that DNS has for this host's address");
}

static void derive_hostname(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    struct str normal;
    struct net_ip ip;
    struct config_place place = place_at(loading, "hostname", NULL);
    if (!settings->hostname.len) {
        char name[256] = "localhost";
        if (gethostname(name, sizeof name - 1) != 0)
            return;
        settings->hostname = arena_str(loading->arena, str_c(name));
        if (str_find(settings->hostname, '.') < 0)
            SETTINGS_WARNING(loading, "hostname", loading->context.root->place,
                             "the system's name \"%s\" has no domain", name)
                ->fix = STR("add \"hostname: mx.example.org\"");
    } else if (net_ip_parse(settings->hostname, &ip) ||
               !mail_domain_normalize(loading->arena, settings->hostname, &normal)) {
        SETTINGS_ERROR(loading, "wrong-value", place, "\"%.*s\" is not a host name",
                       STR_ARG(settings->hostname))
            ->fix = STR("write a name, as mx.example.org");
    } else {
        settings->hostname = normal;
        judge_hostname(loading, place, normal);
    }
}

/* Reports are mail of ours: the address must be one. */
static void check_report_address(struct settings_loading *loading)
{
    struct mail_address address;
    const struct settings *settings = loading->settings;
    if (!settings->reports.from.len)
        return;
    if (mail_address_parse(loading->arena, settings->reports.from, false, false, &address) !=
            MAIL_ADDRESS_OK ||
        address.kind != MAIL_DOMAIN_NAME)
        SETTINGS_ERROR(loading, "wrong-value", place_at(loading, "reports", NULL),
                       "reports.dmarc.from is not an address: \"%.*s\"",
                       STR_ARG(str_slice(settings->reports.from, 0, 100)));
}

static void read_addresses(struct settings_loading *loading, const struct option_texts *texts,
                           uint16_t default_port, bool with_default, struct net_address **out,
                           size_t *out_count)
{
    *out = arena_alloc_array(loading->arena, texts->count + 1, sizeof **out);
    for (size_t i = 0; i < texts->count; i++) {
        struct net_address *address = &(*out)[*out_count];
        struct net_ip ip;
        *address = (struct net_address){0};
        bool alone = with_default && net_ip_parse(texts->items[i], &ip);
        if (alone)
            *address = (struct net_address){.ip = ip, .port = default_port};
        if (alone || net_address_parse(texts->items[i], 0, address)) {
            (*out_count)++;
            continue;
        }
        SETTINGS_ERROR(loading, "wrong-value", texts->places[i], "\"%.*s\" is not an IP address%s",
                       STR_ARG(texts->items[i]), with_default ? "" : " with a port");
    }
}

static void derive_statics(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    const struct config_node *node = settings->dns_written.statics;
    if (!node)
        return;
    if (node->kind != CONFIG_MAP) {
        SETTINGS_ERROR(loading, "wrong-type", node->place, "a map of names is wanted here")->fix =
            STR("write { mail.local: [ 127.0.0.1 ] }");
        return;
    }
    struct dns_static *statics =
        arena_alloc_array(loading->arena, node->count + 1, sizeof *statics);
    for (size_t i = 0; i < node->count; i++) {
        struct option_texts values;
        if (!option_read_texts(&node->pairs[i].value, &loading->context, &values))
            continue;
        statics[settings->dns.static_count++] =
            (struct dns_static){node->pairs[i].key, values.items, values.count};
        bool mx = str_starts(node->pairs[i].key, STR("mx:"));
        for (size_t k = 0; k < values.count; k++) {
            struct net_ip ip;
            uint64_t preference;
            ptrdiff_t blank = str_find(values.items[k], ' ');
            bool good =
                mx ? blank > 0 && str_to_uint(str_slice(values.items[k], 0, (size_t)blank), 65535,
                                              &preference)
                   : str_find(node->pairs[i].key, ':') >= 0 || net_ip_parse(values.items[k], &ip);
            if (!good)
                SETTINGS_ERROR(loading, "wrong-value", values.places[k],
                               mx ? "\"%.*s\" is not a preference and a host"
                                  : "\"%.*s\" is not an IP address",
                               STR_ARG(values.items[k]))
                    ->fix = mx ? STR("write \"10 mail.local\"") : STR_EMPTY;
        }
    }
    settings->dns.statics = statics;
}

static void derive_control(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    struct str text = settings->control.mode_text;
    unsigned mode = 0;
    bool good = text.len >= 3 && text.len <= 5;
    for (size_t i = 0; i < text.len && good; i++) {
        good = (text.ptr[i] >= '0' && text.ptr[i] <= '7') || (i == 1 && text.ptr[i] == 'o');
        if (text.ptr[i] != 'o')
            mode = mode << 3 | (unsigned)(text.ptr[i] - '0');
    }
    settings->control.mode = mode;
    if (!good || mode > 0777)
        SETTINGS_ERROR(loading, "wrong-value", place_at(loading, "control", "mode"),
                       "\"%.*s\" is not a mode", STR_ARG(text))
            ->fix = STR("write octal digits, as in 0660");
    else if (mode & 0002)
        SETTINGS_WARNING(loading, "control-open", place_at(loading, "control", "mode"),
                         "every user of this host may control the gateway");
    if (settings->control.socket.len > 107)
        SETTINGS_ERROR(loading, "wrong-value", place_at(loading, "control", "socket"),
                       "the path of a socket has at most 107 characters");
}

/* There is no TLS on it: nothing may leave this host. */
static void check_admin(struct settings_loading *loading)
{
    const struct option_texts *texts = &loading->settings->admin.listen;
    for (size_t i = 0; i < texts->count; i++) {
        struct net_address address = {0};
        if (net_address_parse(texts->items[i], 0, &address) && !net_ip_is_loopback(&address.ip))
            SETTINGS_ERROR(
                loading, "clear-text", texts->places[i],
                "the API speaks no TLS, and tokens must not cross a network in the clear")
                ->fix = STR("listen on 127.0.0.1 or [::1], and put a proxy with TLS before it");
    }
}

static void derive_postmaster(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    struct mail_address address;
    if (!settings->postmaster.len)
        return;
    if (mail_address_parse(loading->arena, settings->postmaster, false, true, &address) !=
            MAIL_ADDRESS_OK ||
        address.domain.len == 0)
        SETTINGS_ERROR(loading, "wrong-value", place_at(loading, "postmaster", NULL),
                       "\"%.*s\" is not an address", STR_ARG(settings->postmaster))
            ->fix = STR("write NAME@DOMAIN");
    else
        settings->postmaster = mail_address_text(loading->arena, &address);
}

void settings_bind_top(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    (void)!option_bind(&settings_top_options, loading->context.root, NULL, &loading->context,
                       settings);
    derive_memory(settings);
    derive_hostname(loading);
    derive_postmaster(loading);
    derive_control(loading);
    check_report_address(loading);
    read_addresses(loading, &settings->own_addresses_written, 0, true, &settings->own_addresses,
                   &settings->own_address_count);
    read_addresses(loading, &settings->dns_written.servers, 53, true, &settings->dns.servers,
                   &settings->dns.server_count);
    read_addresses(loading, &settings->admin.listen, 0, false, &settings->admin.addresses,
                   &settings->admin.address_count);
    check_admin(loading);
    read_addresses(loading, &settings->metrics.listen, 0, false, &settings->metrics.addresses,
                   &settings->metrics.address_count);
    settings->dns.dnssec = (enum dns_dnssec)settings->dns_written.dnssec;
    settings->dns.timeout_ns = settings->dns_written.timeout_ns;
    derive_statics(loading);
    if (settings->log.target == SETTINGS_LOG_FILE && !settings->log.path.len)
        SETTINGS_ERROR(loading, "missing-key", place_at(loading, "log", NULL),
                       "a log to a file needs its path")
            ->fix = STR("add \"path:\"");
}
