/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/domain_records.c - SPF, DKIM and DMARC of an own domain, beside what the gateway does. */
#include "content/dmarc_record.h"
#include "content/resolver.h"
#include "content/spf.h"
#include "gateway/dkim_dns.h"
#include "gateway/domain_check.h"

#include "base/clock.h"

/* ---- SPF ---- */

/* The record as it is, with these addresses behind its version. */
static struct str with_addresses(struct domain_check *check, struct str record)
{
    struct str terms = STR_EMPTY;
    for (size_t i = 0; i < check->address_count; i++) {
        char text[NET_IP_TEXT];
        struct str ip = net_ip_format(&check->addresses[i], text);
        terms = arena_printf(check->arena, "%.*s %s:%.*s", STR_ARG(terms),
                             str_find(ip, ':') >= 0 ? "ip6" : "ip4", STR_ARG(ip));
    }
    struct str rest = record.len > 6 ? str_from(record, 6) : STR(" mx -all");
    struct str text = arena_printf(check->arena, "v=spf1%.*s%.*s", STR_ARG(terms), STR_ARG(rest));
    return str_c(dkim_dns_zone_line(check->arena, check->domain, text));
}

static bool is_spf(struct str text)
{
    return str_starts_nocase(text, STR("v=spf1")) && (text.len == 6 || text.ptr[6] == ' ');
}

static MAY_YIELD void try_address(struct domain_check *check, const struct net_ip *ip,
                                  struct str record)
{
    char text[NET_IP_TEXT];
    struct str shown = net_ip_format(ip, text);
    struct resolver resolver = resolver_of_dns(check->dns);
    struct spf_request request = {
        .client = *ip,
        .helo = check->settings->hostname,
        .sender = arena_printf(check->arena, "postmaster@%.*s", STR_ARG(check->domain)),
        .receiver = check->settings->hostname,
        .now = (uint64_t)(clock_wall_ns() / NS_PER_S),
    };
    struct spf_outcome outcome;
    spf_check(&resolver, &request, check->arena, &outcome);
    if (outcome.result == SPF_PASS)
        domain_found(check, FINDING_OK, DOMAIN_SPF, STR_EMPTY,
                     "%.*s may send (%.*s), DNS questions: %u", STR_ARG(shown),
                     STR_ARG(outcome.mechanism), resolver.asked);
    else if (outcome.result == SPF_TEMPERROR)
        domain_found(check, FINDING_NO_ANSWER, DOMAIN_SPF, STR_EMPTY, "no answer: %.*s",
                     STR_ARG(outcome.problem));
    else if (outcome.result == SPF_PERMERROR)
        domain_found(check, FINDING_FAIL, DOMAIN_SPF, STR_EMPTY,
                     "the record is broken, so it protects nobody: %.*s", STR_ARG(outcome.problem));
    else
        domain_found(check, FINDING_FAIL, DOMAIN_SPF, with_addresses(check, record),
                     "our mail leaves from %.*s, and the record says %s to it", STR_ARG(shown),
                     spf_result_name(outcome.result));
}

static void judge_end(struct domain_check *check, struct str record)
{
    if (str_find_str(record, STR("+all")) >= 0 || str_ends(str_trim(record), STR(" all")))
        domain_found(check, FINDING_FAIL, DOMAIN_SPF, STR_EMPTY,
                     "the record allows everybody: end it with -all");
    else if (str_find_str(record, STR("?all")) >= 0)
        domain_found(check, FINDING_WARN, DOMAIN_SPF, STR_EMPTY,
                     "?all says nothing about others: end it with -all, or ~all to begin with");
}

void domain_check_spf(struct domain_check *check)
{
    struct dns_text_answer answer;
    struct error err;
    struct str record = STR_EMPTY;
    size_t count = 0;
    if (dns_query_txt(check->dns, check->domain, check->arena, &answer, &err) != OK) {
        domain_found(check, FINDING_NO_ANSWER, DOMAIN_SPF, STR_EMPTY, "no answer: %s", err.text);
        return;
    }
    for (size_t i = 0; answer.status == DNS_FOUND && i < answer.count; i++) {
        if (!is_spf(answer.texts[i]))
            continue;
        record = answer.texts[i];
        count++;
    }
    if (count != 1) {
        domain_found(check, FINDING_FAIL, DOMAIN_SPF, with_addresses(check, STR_EMPTY),
                     count ? "there are several records, which counts as an error"
                           : "there is no record: anybody may use the domain, and large receivers "
                             "refuse its mail");
        return;
    }
    for (size_t i = 0; i < check->address_count; i++)
        try_address(check, &check->addresses[i], record);
    if (check->address_count == 0)
        domain_found(
            check, FINDING_WARN, DOMAIN_SPF, STR_EMPTY,
            "there is a record; name the addresses that your mail leaves from with --ip to "
            "see whether it covers them");
    judge_end(check, record);
}

/* ---- DKIM ---- */

void domain_check_dkim(struct domain_check *check)
{
    const struct signing_keys *keys = &check->settings->dkim_keys;
    size_t signing = 0;
    for (size_t i = 0; i < keys->count; i++) {
        const struct signing_key *key = &keys->items[i];
        struct error err;
        if (!str_equal(key->domain, check->domain) || !key->key)
            continue;
        struct str owner = arena_printf(check->arena, "%.*s._domainkey.%.*s",
                                        STR_ARG(key->selector), STR_ARG(key->domain));
        const char *record = dkim_dns_record(check->arena, key->key, &err);
        enum dkim_shown shown = dkim_dns_look(check->dns, key);
        signing += key->active;
        if (shown == DKIM_SHOWN_PUBLISHED)
            domain_found(check, FINDING_OK, DOMAIN_DKIM, STR_EMPTY, "%.*s is published and %s",
                         STR_ARG(key->selector), key->active ? "signs" : "waits");
        else if (shown == DKIM_SHOWN_NO_ANSWER)
            domain_found(check, FINDING_NO_ANSWER, DOMAIN_DKIM, STR_EMPTY, "no answer for %.*s",
                         STR_ARG(owner));
        else
            domain_found(check, key->active ? FINDING_FAIL : FINDING_WARN, DOMAIN_DKIM,
                         record ? str_c(dkim_dns_zone_line(check->arena, owner, str_c(record)))
                                : STR_EMPTY,
                         "%.*s is %s in DNS%s", STR_ARG(key->selector), dkim_shown_words[shown],
                         key->active ? ", and signs: receivers see broken signatures"
                                     : ", and does not sign yet");
    }
    if (signing == 0)
        domain_found(check, FINDING_WARN, DOMAIN_DKIM, STR_EMPTY,
                     "no key signs for the domain: postern dkim generate --domain %.*s FILE",
                     STR_ARG(check->domain));
}

/* ---- DMARC ---- */

static struct str suggested_dmarc(struct domain_check *check, struct str owner, const char *policy)
{
    struct str text = arena_printf(check->arena, "v=DMARC1; p=%s; rua=mailto:dmarc-reports@%.*s",
                                   policy, STR_ARG(check->domain));
    return str_c(dkim_dns_zone_line(check->arena, owner, text));
}

static void judge_dmarc(struct domain_check *check, struct str owner,
                        const struct dmarc_record *record)
{
    domain_found(check, FINDING_OK, DOMAIN_DMARC, STR_EMPTY, "the policy is %s",
                 dmarc_policy_name(record->p));
    if (record->p == DMARC_POLICY_NONE)
        domain_found(check, FINDING_WARN, DOMAIN_DMARC, suggested_dmarc(check, owner, "quarantine"),
                     "p=none asks for reports only: once they are clean, ask for more");
    if (record->testing)
        domain_found(check, FINDING_WARN, DOMAIN_DMARC, STR_EMPTY,
                     "t=y: receivers do one step less than the policy says");
    if (record->rua.len == 0)
        domain_found(check, FINDING_WARN, DOMAIN_DMARC, STR_EMPTY,
                     "without rua= you never hear who uses your domain");
}

void domain_check_dmarc(struct domain_check *check)
{
    struct dns_text_answer answer;
    struct dmarc_record record = {0};
    struct error err;
    struct str owner = arena_printf(check->arena, "_dmarc.%.*s", STR_ARG(check->domain));
    struct str text = STR_EMPTY;
    size_t count = 0;
    if (dns_query_txt(check->dns, owner, check->arena, &answer, &err) != OK) {
        domain_found(check, FINDING_NO_ANSWER, DOMAIN_DMARC, STR_EMPTY, "no answer: %s", err.text);
        return;
    }
    for (size_t i = 0; answer.status == DNS_FOUND && i < answer.count; i++)
        if (dmarc_record_is_dmarc(answer.texts[i])) {
            text = answer.texts[i];
            count++;
        }
    if (count != 1)
        domain_found(check, FINDING_FAIL, DOMAIN_DMARC, suggested_dmarc(check, owner, "none"),
                     count ? "there are several records, which count as none"
                           : "there is no record: receivers do not know what to do with forgeries");
    else if (!dmarc_record_parse(text, &record) || record.bad_policy)
        domain_found(check, FINDING_FAIL, DOMAIN_DMARC, suggested_dmarc(check, owner, "none"),
                     "the record names no valid policy: %.*s", STR_ARG(str_slice(text, 0, 200)));
    else
        judge_dmarc(check, owner, &record);
}
