/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/domain.c - `postern domain check`: would the world believe mail of your domains?
 *
 * Everything is compared with what this gateway does: the addresses it sends from, the keys it
 * signs with, the name it greets with. Each red line comes with the record to publish.
 */
#include "ctl/domain.h"

#include "base/buf.h"
#include "mail/address.h"
#include "net/tls.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

enum { CERTIFICATE_SOON_DAYS = 14 };

void domain_found(struct domain_check *check, enum finding_state state, const char *what,
                  struct str record, const char *format, ...)
{
    va_list args;
    if (check->count == FINDINGS_MAX)
        return;
    va_start(args, format);
    check->findings[check->count++] =
        (struct finding){.state = state,
                         .what = what,
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
        domain_found(check, FINDING_NO_ANSWER, "MX", STR_EMPTY, "no answer for %.*s: %s",
                     STR_ARG(mx->host), err.text);
    else if (answer.status != DNS_FOUND || !answer.count)
        domain_found(check, FINDING_FAIL, "MX", STR_EMPTY, "%.*s has no address",
                     STR_ARG(mx->host));
    else
        domain_found(check, FINDING_OK, "MX", STR_EMPTY, "%u %.*s%s", mx->preference,
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
        domain_found(check, FINDING_NO_ANSWER, "MX", STR_EMPTY, "no answer: %s", err.text);
        return;
    }
    if (answer.status != DNS_FOUND || !answer.count) {
        domain_found(check, FINDING_FAIL, "MX", record, "nobody is told where mail for it goes");
        return;
    }
    if (answer.count == 1 && answer.hosts[0].host.len == 0) {
        domain_found(check, FINDING_FAIL, "MX", record,
                     "the domain says that it takes no mail (null MX, RFC 7505)");
        return;
    }
    for (size_t i = 0; i < answer.count; i++)
        check_host(check, &answer.hosts[i], &own);
    if (!own)
        domain_found(
            check, FINDING_WARN, "MX", record,
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
            domain_found(check, FINDING_NO_ANSWER, "PTR", STR_EMPTY, "no answer for %.*s: %s",
                         STR_ARG(ip), err.text);
        else if (status != DNS_FOUND)
            domain_found(
                check, FINDING_FAIL, "PTR", STR_EMPTY,
                "%.*s has no name that leads back to it: ask who runs the network for a PTR "
                "record to %.*s",
                STR_ARG(ip), STR_ARG(check->settings->hostname));
        else if (!str_equal_nocase(name, check->settings->hostname))
            domain_found(check, FINDING_WARN, "PTR", STR_EMPTY,
                         "%.*s is %.*s, and greets as %.*s: the same name is better", STR_ARG(ip),
                         STR_ARG(name), STR_ARG(check->settings->hostname));
        else
            domain_found(check, FINDING_OK, "PTR", STR_EMPTY, "%.*s is %.*s", STR_ARG(ip),
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
            domain_found(check, FINDING_WARN, "TLS", STR_EMPTY,
                         "listener %.*s has no certificate: mail comes in clear",
                         STR_ARG(listener->name));
            continue;
        }
        int days = tls_context_days_left(context);
        bool fits = tls_context_has_name(context, settings->hostname);
        enum finding_state state = days < 0                                ? FINDING_FAIL
                                   : days < CERTIFICATE_SOON_DAYS || !fits ? FINDING_WARN
                                                                           : FINDING_OK;
        domain_found(check, state, "TLS", STR_EMPTY, "listener %.*s: %s%.*s; %s %d days",
                     STR_ARG(listener->name),
                     fits ? "its certificate is for " : "no certificate is for ",
                     STR_ARG(settings->hostname), days < 0 ? "it ended" : "it is valid for",
                     days < 0 ? -days : days);
    }
}

/* ---- which addresses, which domains ---- */

static void add_address(struct domain_check *check, const struct net_ip *ip)
{
    for (size_t i = 0; i < check->address_count; i++)
        if (net_ip_equal(&check->addresses[i], ip))
            return;
    if (check->address_count < ADDRESSES_MAX)
        check->addresses[check->address_count++] = *ip;
}

/* As asked for; else what transports say, else where our name leads. */
static MAY_YIELD void find_addresses(struct domain_check *check, struct str asked)
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

struct errand {
    struct ctl *ctl;
    const struct settings *settings;
    const char *domain;
    struct str addresses;
    enum finding_state worst;
    struct error err;
    bool failed;
    size_t checked;
};

static void print(struct errand *errand, const struct domain_check *check)
{
    static const char *const words[] = {[FINDING_OK] = "ok",
                                        [FINDING_WARN] = "warn",
                                        [FINDING_FAIL] = "FAIL",
                                        [FINDING_NO_ANSWER] = "?"};
    static const char *const names[] = {[FINDING_OK] = "ok",
                                        [FINDING_WARN] = "warn",
                                        [FINDING_FAIL] = "fail",
                                        [FINDING_NO_ANSWER] = "no-answer"};
    if (!errand->ctl->json)
        printf("%s%.*s\n", errand->checked ? "\n" : "", STR_ARG(check->domain));
    for (size_t i = 0; i < check->count; i++) {
        const struct finding *finding = &check->findings[i];
        if (finding->state > errand->worst)
            errand->worst = finding->state;
        if (!errand->ctl->json) {
            printf("  %-4s %-6s ", words[finding->state], finding->what);
            ctl_print_text(arena_c(check->arena, finding->text));
            printf("\n");
            if (finding->record.len) {
                printf("       publish: ");
                ctl_print_text(arena_c(check->arena, finding->record));
                printf("\n");
            }
            continue;
        }
        json_t *item =
            json_pack("{s:s%, s:s, s:s, s:s%}", "domain", check->domain.ptr, check->domain.len,
                      "check", finding->what, "state", names[finding->state], "text",
                      finding->text.ptr, finding->text.len);
        if (item && finding->record.len)
            json_object_set_new(item, "record",
                                json_stringn(finding->record.ptr, finding->record.len));
        ctl_print_json(item);
        json_decref(item);
    }
}

static MAY_YIELD void check_domain(struct errand *errand, struct dns *dns, struct str domain)
{
    struct domain_check *check = ARENA_NEW(errand->ctl->arena, struct domain_check);
    check->arena = errand->ctl->arena;
    check->settings = errand->settings;
    check->dns = dns;
    check->domain = domain;
    find_addresses(check, errand->addresses);
    check_mx(check);
    domain_check_spf(check);
    domain_check_dkim(check);
    domain_check_dmarc(check);
    check_names(check);
    check_certificates(check);
    print(errand, check);
    errand->checked++;
}

static MAY_YIELD void run(struct loop *loop, void *arg)
{
    struct errand *errand = arg;
    const struct settings *settings = errand->settings;
    struct dns *dns;
    if (dns_new(loop, &settings->dns, &dns, &errand->err) != OK) {
        errand->failed = true;
        return;
    }
    for (size_t i = 0; i < settings->domain_count; i++) {
        const struct settings_domain *domain = &settings->domains[i];
        if (!domain->is_any &&
            (!errand->domain || str_equal_nocase(domain->name, str_c(errand->domain))))
            check_domain(errand, dns, domain->name);
    }
    dns_free(dns);
}

int ctl_domain_check(struct ctl *ctl)
{
    static const int codes[] = {[FINDING_OK] = CTL_YES,
                                [FINDING_WARN] = CTL_YES,
                                [FINDING_FAIL] = CTL_NO,
                                [FINDING_NO_ANSWER] = CTL_TRY_AGAIN};
    const char *addresses = ctl_option(ctl, "--ip");
    struct errand errand = {
        .ctl = ctl, .domain = ctl_option(ctl, "--domain"), .addresses = str_c(addresses)};
    ctl_arguments(ctl, 0, 1);
    struct settings *settings = ctl_dkim_settings(ctl, NULL);
    if (!settings)
        return CTL_NO;
    errand.settings = settings;
    int code = CTL_NO;
    if (ctl_on_loop(run, &errand, &errand.err) != OK || errand.failed)
        fprintf(stderr, "postern: %s\n", errand.err.text);
    else if (!errand.checked)
        fprintf(stderr, "postern: there is no such domain under domains\n");
    else
        code = codes[errand.worst];
    settings_unref(settings);
    return code;
}
