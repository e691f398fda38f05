/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/start.c - what of the settings is set up once, at a start, and whether it differs now. */
#include "base/buf.h"
#include "base/map.h"
#include "gateway/gateway.h"
#include "gateway/settings.h"

enum { TEXT_MAX = 64 * 1024 };

static void add_addresses(struct buf *out, const struct net_address *addresses, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[NET_ADDRESS_TEXT];
        buf_append(out, net_address_format(&addresses[i], text));
        buf_append_byte(out, ' ');
    }
}

static void add_dns(struct buf *out, const struct dns_settings *dns)
{
    buf_printf(out, "%d %lld %.*s ", (int)dns->dnssec, (long long)dns->timeout_ns,
               STR_ARG(dns->trust_anchor_file));
    add_addresses(out, dns->servers, dns->server_count);
    for (size_t i = 0; i < dns->static_count; i++) {
        buf_printf(out, "%.*s:", STR_ARG(dns->statics[i].name));
        for (size_t k = 0; k < dns->statics[i].count; k++)
            buf_printf(out, " %.*s", STR_ARG(dns->statics[i].values[k]));
    }
}

/* Each section as a text; none of them has a secret. */
static void print_section(const struct settings *settings, enum gateway_section section,
                          struct buf *out)
{
    switch (section) {
    case GATEWAY_SPOOL:
        buf_append(out, settings->spool.path);
        break;
    case GATEWAY_CONTROL:
        buf_printf(out, "%.*s %.*s %o %d", STR_ARG(settings->control.socket),
                   STR_ARG(settings->control.group), settings->control.mode,
                   settings->control.scope);
        break;
    case GATEWAY_WORKERS:
        buf_append_int(out, settings->workers);
        break;
    case GATEWAY_USER:
        buf_append(out, settings->user);
        break;
    case GATEWAY_DNS:
        add_dns(out, &settings->dns);
        break;
    case GATEWAY_ADMIN:
        add_addresses(out, settings->admin.addresses, settings->admin.address_count);
        break;
    case GATEWAY_METRICS:
        add_addresses(out, settings->metrics.addresses, settings->metrics.address_count);
        break;
    case GATEWAY_EVENTS:
        buf_printf(out, "%.*s %lld %llu", STR_ARG(settings->events.path),
                   (long long)settings->events.keep_ns, (unsigned long long)settings->events.size);
        break;
    case GATEWAY_LOG:
        buf_printf(out, "%d %d %.*s", settings->log.target, settings->log.compat,
                   STR_ARG(settings->log.path));
        break;
    case GATEWAY_REPORTS:
        buf_printf(out, "%.*s %.*s %.*s %lld", STR_ARG(settings->reports.from),
                   STR_ARG(settings->reports.organization), STR_ARG(settings->reports.contact),
                   (long long)settings->reports.at_ns);
        break;
    case GATEWAY_MEMORY:
        buf_append_int(out, (int64_t)settings->memory.messages);
        break;
    case GATEWAY_SECTIONS:
        break;
    }
}

struct gateway_start gateway_start_of(const struct settings *settings)
{
    struct gateway_start start;
    for (int i = 0; i < GATEWAY_SECTIONS; i++) {
        struct buf text BUF_CLEANUP;
        buf_init(&text, TEXT_MAX);
        print_section(settings, (enum gateway_section)i, &text);
        start.hashes[i] = hash_bytes(buf_str(&text));
    }
    return start;
}

size_t gateway_restart_sections(const struct gateway_start *start, const struct settings *after,
                                const char *out[static GATEWAY_SECTIONS])
{
    static const char *const names[GATEWAY_SECTIONS] = {
        [GATEWAY_SPOOL] = "spool",     [GATEWAY_CONTROL] = "control", [GATEWAY_WORKERS] = "workers",
        [GATEWAY_USER] = "user",       [GATEWAY_DNS] = "dns",         [GATEWAY_ADMIN] = "admin",
        [GATEWAY_METRICS] = "metrics", [GATEWAY_EVENTS] = "events",   [GATEWAY_LOG] = "log",
        [GATEWAY_REPORTS] = "reports", [GATEWAY_MEMORY] = "memory",
    };
    struct gateway_start now = gateway_start_of(after);
    size_t count = 0;
    for (int i = 0; i < GATEWAY_SECTIONS; i++)
        if (now.hashes[i] != start->hashes[i])
            out[count++] = names[i];
    return count;
}
