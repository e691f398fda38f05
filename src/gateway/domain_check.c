/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/domain_check.h"

#include "net/tls.h"

#include <stdarg.h>

enum {
    CERTIFICATE_SOON_DAYS = 14,
    HOSTS_MAX = 10, /* of an MX set that are looked at */
};

const char *const domain_part_names[DOMAIN_PARTS] = {
    [DOMAIN_MX] = "MX",       [DOMAIN_SPF] = "SPF", [DOMAIN_DKIM] = "DKIM",
    [DOMAIN_DMARC] = "DMARC", [DOMAIN_PTR] = "PTR", [DOMAIN_TLS] = "TLS",
};

void domain_found(struct domain_check *check, enum finding_state state, enum domain_part part,
                  struct str record, const char *format, ...)
{
    va_list args;
    if (check->count == FINDINGS_MAX)
        return;
    va_start(args, format);
    check->findings[check->count++] =
        (struct finding){.state = state,
                         .part = part,
                         .record = record,
                         .text = arena_vprintf(check->arena, format, args)};
    va_end(args);
}

/* ---- MX ---- */

static MAY_YIELD bool is_own_host(struct domain_check *check, struct str host)
{
    struct dns_address_answer theirs, ours;
    struct error err;
    if (str_equal_nocase(host, check->settings->hostname))
        return true;
    if (dns_query_addresses(check->dns, host, check->arena, &theirs, &err) != OK ||
        dns_query_addresses(check->dns, check->settings->hostname, check->arena, &ours, &err) != OK)
        return false;
    for (size_t i = 0; i < theirs.count; i++)
        for (size_t k = 0; k < ours.count; k++)
            if (net_ip_equal(&theirs.ips[i], &ours.ips[k]))
                return true;
    return false;
}

static MAY_YIELD void check_host(struct domain_check *check, const struct dns_mx *mx, bool *out_own)
{
    struct dns_address_answer answer;
    struct error err;
    bool own = is_own_host(check, mx->host);
    *out_own = *out_own || own;
    if (dns_query_addresses(check->dns, mx->host, check->arena, &answer, &err) != OK)
        domain_found(check, FINDING_NO_ANSWER, DOMAIN_MX, STR_EMPTY, "no answer for %.*s: %s",
                     STR_ARG(mx->host), err.text);
    else if (answer.status != DNS_FOUND || !answer.count)
        domain_found(check, FINDING_FAIL, DOMAIN_MX, STR_EMPTY, "%.*s has no address",
                     STR_ARG(mx->host));
    else
        domain_found(check, FINDING_OK, DOMAIN_MX, STR_EMPTY, "%u %.*s%s", mx->preference,
                     STR_ARG(mx->host), own ? " is this gateway" : "");
}

static MAY_YIELD void check_mx(struct domain_check *check)
{
    struct dns_mx_answer answer;
    struct error err;
    bool own = false;
    struct str record = arena_printf(check->arena, "%.*s. IN MX 10 %.*s.", STR_ARG(check->domain),
                                     STR_ARG(check->settings->hostname));
    if (dns_query_mx(check->dns, check->domain, check->arena, &answer, &err) != OK) {
        domain_found(check, FINDING_NO_ANSWER, DOMAIN_MX, STR_EMPTY, "no answer: %s", err.text);
        return;
    }
    if (answer.status != DNS_FOUND || !answer.count) {
        domain_found(check, FINDING_FAIL, DOMAIN_MX, record,
                     "nobody is told where mail for it goes");
        return;
    }
    if (answer.count == 1 && answer.hosts[0].host.len == 0) {
        domain_found(check, FINDING_FAIL, DOMAIN_MX, record,
                     "the domain says that it takes no mail (null MX, RFC 7505)");
        return;
    }
    for (size_t i = 0; i < answer.count && i < HOSTS_MAX; i++)
        check_host(check, &answer.hosts[i], &own);
    if (!own)
        domain_found(
            check, FINDING_WARN, DOMAIN_MX, record,
            "none of them is this gateway (%.*s): mail for the domain does not come by here",
            STR_ARG(check->settings->hostname));
}

/* ---- the addresses that mail leaves from ---- */

static MAY_YIELD void check_names(struct domain_check *check)
{
    for (size_t i = 0; i < check->address_count; i++) {
        char text[NET_IP_TEXT];
        struct str ip = net_ip_format(&check->addresses[i], text);
        enum dns_status status;
        struct str name;
        struct error err;
        if (dns_query_client_name(check->dns, &check->addresses[i], check->arena, &status, &name,
                                  &err) != OK)
            domain_found(check, FINDING_NO_ANSWER, DOMAIN_PTR, STR_EMPTY, "no answer for %.*s: %s",
                         STR_ARG(ip), err.text);
        else if (status != DNS_FOUND)
            domain_found(
                check, FINDING_FAIL, DOMAIN_PTR, STR_EMPTY,
                "%.*s has no name that leads back to it: ask who runs the network for a PTR "
                "record to %.*s",
                STR_ARG(ip), STR_ARG(check->settings->hostname));
        else if (!str_equal_nocase(name, check->settings->hostname))
            domain_found(check, FINDING_WARN, DOMAIN_PTR, STR_EMPTY,
                         "%.*s is %.*s, and greets as %.*s: the same name is better", STR_ARG(ip),
                         STR_ARG(name), STR_ARG(check->settings->hostname));
        else
            domain_found(check, FINDING_OK, DOMAIN_PTR, STR_EMPTY, "%.*s is %.*s", STR_ARG(ip),
                         STR_ARG(name));
    }
}

/* ---- certificates ---- */

static void check_certificates(struct domain_check *check)
{
    const struct settings *settings = check->settings;
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        const struct tls_context *context = listener->smtp.tls_context;
        if (!context) {
            domain_found(check, FINDING_WARN, DOMAIN_TLS, STR_EMPTY,
                         "listener %.*s has no certificate: mail comes in clear",
                         STR_ARG(listener->name));
            continue;
        }
        int days = tls_context_days_left(context);
        bool fits = tls_context_has_name(context, settings->hostname);
        enum finding_state state = days < 0                                ? FINDING_FAIL
                                   : days < CERTIFICATE_SOON_DAYS || !fits ? FINDING_WARN
                                                                           : FINDING_OK;
        domain_found(check, state, DOMAIN_TLS, STR_EMPTY, "listener %.*s: %s%.*s; %s %d days",
                     STR_ARG(listener->name),
                     fits ? "its certificate is for " : "no certificate is for ",
                     STR_ARG(settings->hostname), days < 0 ? "it ended" : "it is valid for",
                     days < 0 ? -days : days);
    }
}

/* ---- which addresses ---- */

static void add_address(struct domain_check *check, const struct net_ip *ip)
{
    for (size_t i = 0; i < check->address_count; i++)
        if (net_ip_equal(&check->addresses[i], ip))
            return;
    if (check->address_count < ADDRESSES_MAX)
        check->addresses[check->address_count++] = *ip;
}

/* As asked for; else what transports say, else where our name leads. */
void domain_check_addresses(struct domain_check *check, struct str asked)
{
    const struct settings *settings = check->settings;
    struct str one;
    struct net_ip ip;
    while (asked.len && str_split(&asked, ',', &one))
        if (net_ip_parse(str_trim(one), &ip))
            add_address(check, &ip);
    for (size_t i = 0; !check->address_count && i < settings->transport_count; i++)
        if (settings->transports[i].direction == TRANSPORT_OUTBOUND &&
            net_ip_parse(settings->transports[i].source_address, &ip))
            add_address(check, &ip);
    struct dns_address_answer answer;
    struct error err;
    if (check->address_count ||
        dns_query_addresses(check->dns, settings->hostname, check->arena, &answer, &err) != OK)
        return;
    for (size_t i = 0; i < answer.count; i++)
        add_address(check, &answer.ips[i]);
}

/* ---- all of it ---- */

void domain_check_run(struct domain_check *check, unsigned parts)
{
    static const struct {
        enum domain_part part;
        void (*run)(struct domain_check *check);
    } all[] = {{DOMAIN_MX, check_mx},
               {DOMAIN_SPF, domain_check_spf},
               {DOMAIN_DKIM, domain_check_dkim},
               {DOMAIN_DMARC, domain_check_dmarc},
               {DOMAIN_PTR, check_names},
               {DOMAIN_TLS, check_certificates}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (parts & 1u << all[i].part)
            all[i].run(check);
}
