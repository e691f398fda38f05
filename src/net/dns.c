/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "net/dns_answer.h"
#include "net/dns_resolver.h"
#include "net/dns_static.h"
#include "net/dns_stub.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOSTS_MAX = 100, ADDRESSES_MAX = 100, TEXTS_MAX = 100, NAMES_TO_CONFIRM = 10 };

struct dns {
    struct dns_resolver *resolver; /* or: */
    struct dns_stub *stub;
    enum dns_dnssec dnssec;
    struct dns_statics *statics;

    /* written by the worker, read by others */
    atomic_uint_least64_t counts[2][DNS_KINDS][DNS_RESULTS]; /* asked, from the cache */
    atomic_uint_least64_t took[DNS_BOUNDS], took_us;
};

enum result dns_new(struct loop *loop, const struct dns_settings *settings, struct dns **out_dns,
                    struct error *err)
{
    for (size_t i = 0; i < settings->server_count; i++)
        if (settings->servers[i].ip.family == 0)
            return fail(err, ERROR_PERMANENT, "a DNS server must have an IP address");
    struct dns *dns = NEW(struct dns);
    dns->dnssec = settings->dnssec;
    enum result result =
        dns_statics_new(settings->statics, settings->static_count, &dns->statics, err);
    if (result == OK)
        result = settings->dnssec == DNS_DNSSEC_TRUST_AD
                     ? dns_stub_new(settings, &dns->stub, err)
                     : dns_resolver_new(loop, settings, &dns->resolver, err);
    if (result == FAILED) {
        dns_free(dns);
        return FAILED;
    }
    *out_dns = dns;
    return OK;
}

void dns_free(struct dns *dns)
{
    if (!dns)
        return;
    dns_resolver_free(dns->resolver);
    dns_stub_free(dns->stub);
    dns_statics_free(dns->statics);
    free(dns);
}

/* ---- one question ---- */

/* A name that cannot be does not exist: there is nobody to ask. */
static bool can_be_name(struct str name)
{
    unsigned char wire[255];
    return name.len <= DNS_NAME_TEXT && !str_has_nul(name) && dns_name_to_wire(name, wire) > 0;
}

static const char *type_name(enum dns_type type)
{
    switch (type) {
    case DNS_A:
        return "A";
    case DNS_AAAA:
        return "AAAA";
    case DNS_MX:
        return "MX";
    case DNS_TXT:
        return "TXT";
    case DNS_PTR:
        return "PTR";
    default:
        return "record";
    }
}

/* ---- numbers ---- */

enum { RESULT_FOUND, RESULT_NO_DATA, RESULT_NO_NAME, RESULT_FAILED };
const char *const dns_kind_names[DNS_KINDS] = {"A", "AAAA", "MX", "TXT", "PTR", "other"};
const char *const dns_result_names[DNS_RESULTS] = {"found", "no_data", "no_name", "failed"};
const double dns_bounds[DNS_BOUNDS] = {0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30};

static size_t kind_of(enum dns_type type)
{
    static const enum dns_type kinds[] = {DNS_A, DNS_AAAA, DNS_MX, DNS_TXT, DNS_PTR};
    size_t kind = 0;
    while (kind < sizeof kinds / sizeof *kinds && kinds[kind] != type)
        kind++;
    return kind;
}

static size_t result_of(const struct dns_reply *reply)
{
    if (reply->failed)
        return RESULT_FAILED;
    return reply->answer.status == DNS_FOUND     ? RESULT_FOUND
           : reply->answer.status == DNS_NO_DATA ? RESULT_NO_DATA
                                                 : RESULT_NO_NAME;
}

static void add(atomic_uint_least64_t *number, uint64_t more)
{
    atomic_fetch_add_explicit(number, more, memory_order_relaxed);
}

static void count(struct dns *dns, const enum dns_type *types, size_t type_count,
                  const struct dns_reply *replies, int64_t begun_ns)
{
    int64_t took_ns = clock_monotonic_ns() - begun_ns;
    for (size_t i = 0; i < type_count; i++) {
        const struct dns_reply *reply = &replies[i];
        add(&dns->counts[reply->cached][kind_of(types[i])][result_of(reply)], 1);
        if (reply->cached)
            continue;
        add(&dns->took_us, (uint64_t)(took_ns / NS_PER_US));
        for (size_t k = 0; k < DNS_BOUNDS; k++) {
            if ((double)took_ns / 1e9 <= dns_bounds[k]) {
                add(&dns->took[k], 1);
                break;
            }
        }
    }
}

void dns_add_numbers(const struct dns *dns, struct dns_numbers *io)
{
    for (size_t kind = 0; kind < DNS_KINDS; kind++) {
        for (size_t result = 0; result < DNS_RESULTS; result++) {
            io->asked[kind][result] += atomic_load(&dns->counts[0][kind][result]);
            io->cached[kind][result] += atomic_load(&dns->counts[1][kind][result]);
        }
    }
    for (size_t i = 0; i < DNS_BOUNDS; i++)
        io->took[i] += atomic_load(&dns->took[i]);
    io->took_us += atomic_load(&dns->took_us);
}

/* ---- questions ---- */

static MAY_YIELD enum result ask_types(struct dns *dns, struct str name, const enum dns_type *types,
                                       size_t type_count, struct arena *arena,
                                       struct dns_reply *out, struct error *err)
{
    if (fiber_check(err) == FAILED)
        return FAILED;
    int64_t begun_ns = clock_monotonic_ns();
    enum result result =
        dns->stub ? dns_stub_ask(dns->stub, name, types, type_count, arena, out, err)
                  : dns_resolver_ask(dns->resolver, name, types, type_count, arena, out, err);
    if (result == OK)
        count(dns, types, type_count, out, begun_ns);
    return result;
}

static MAY_YIELD enum result ask(struct dns *dns, struct str name, enum dns_type type,
                                 struct arena *arena, struct dns_reply *out, struct error *err)
{
    *out = (struct dns_reply){.answer.status = DNS_NO_NAME};
    if (!can_be_name(name))
        return OK;
    if (ask_types(dns, name, &type, 1, arena, out, err) == FAILED)
        return FAILED;
    if (!out->failed)
        return OK;
    if (err)
        *err = out->why;
    return fail_context(err, "%s of %.*s", type_name(type), STR_ARG(str_slice(name, 0, 100)));
}

static void shuffle(void *items, size_t count, size_t size)
{
    char *base = items, swap[64];
    check(size <= sizeof swap);
    for (size_t left = count; left > 1; left--) {
        char *a = base + (left - 1) * size, *b = base + random_below((uint32_t)left) * size;
        memcpy(swap, a, size);
        memcpy(a, b, size);
        memcpy(b, swap, size);
    }
}

/* ---- MX ---- */

static int by_preference(const void *a, const void *b)
{
    const struct dns_mx *left = a, *right = b;
    return (left->preference > right->preference) - (left->preference < right->preference);
}

/* Random order inside a preference (RFC 5321 5.1): shuffled first, then put in order; glibc's
 * qsort may not keep equal ones in place, which does no harm to what is random. */
static void order(struct dns_mx_answer *answer)
{
    shuffle(answer->hosts, answer->count, sizeof answer->hosts[0]);
    if (answer->count)
        qsort(answer->hosts, answer->count, sizeof answer->hosts[0], by_preference);
    if (answer->count > HOSTS_MAX)
        answer->count = HOSTS_MAX;
}

enum result dns_query_mx(struct dns *dns, struct str domain, struct arena *arena,
                         struct dns_mx_answer *out, struct error *err)
{
    struct dns_mx_answer answer = {0};
    struct dns_reply reply;
    if (dns_statics_mx(dns->statics, domain, arena, &answer)) {
        order(&answer);
        *out = answer;
        return OK;
    }
    if (ask(dns, domain, DNS_MX, arena, &reply, err) == FAILED)
        return FAILED;
    answer.status = reply.answer.status;
    answer.secure = reply.secure;
    answer.count = reply.answer.count;
    answer.hosts = arena_alloc_array(arena, answer.count, sizeof answer.hosts[0]);
    for (size_t i = 0; i < answer.count; i++)
        answer.hosts[i] =
            (struct dns_mx){reply.answer.records[i].preference, reply.answer.records[i].text};
    order(&answer);
    *out = answer;
    return OK;
}

/* ---- addresses ---- */

static void add_family(struct dns_address_answer *answer, const struct dns_reply *reply)
{
    struct net_ip *begin = answer->ips + answer->count;
    size_t count = reply->answer.count;
    for (size_t i = 0; i < count; i++)
        begin[i] = reply->answer.records[i].ip;
    shuffle(begin, count, sizeof begin[0]);
    answer->count += count < ADDRESSES_MAX / 2 ? count : ADDRESSES_MAX / 2;
}

/* One family without an answer is no reason to doubt the other one's addresses. */
static enum result join_families(const struct dns_reply replies[2], struct str host,
                                 struct arena *arena, struct dns_address_answer *out,
                                 struct error *err)
{
    struct dns_address_answer answer = {.secure = replies[0].secure && replies[1].secure};
    size_t room = replies[0].answer.count + replies[1].answer.count;
    answer.ips = arena_alloc_array(arena, room, sizeof answer.ips[0]);
    add_family(&answer, &replies[0]);
    add_family(&answer, &replies[1]);
    for (int i = 0; i < 2 && answer.count == 0; i++) {
        if (!replies[i].failed)
            continue;
        if (err)
            *err = replies[i].why;
        return fail_context(err, "address of %.*s", STR_ARG(str_slice(host, 0, 100)));
    }
    answer.status = answer.count ? DNS_FOUND : DNS_NO_DATA;
    if (replies[0].answer.status == DNS_NO_NAME && replies[1].answer.status == DNS_NO_NAME)
        answer.status = DNS_NO_NAME;
    *out = answer;
    return OK;
}

enum result dns_query_addresses(struct dns *dns, struct str host, struct arena *arena,
                                struct dns_address_answer *out, struct error *err)
{
    static const enum dns_type types[2] = {DNS_AAAA, DNS_A};
    struct dns_reply replies[2];
    if (dns_statics_addresses(dns->statics, host, arena, out))
        return OK;
    if (!can_be_name(host)) {
        *out = (struct dns_address_answer){.status = DNS_NO_NAME};
        return OK;
    }
    if (ask_types(dns, host, types, 2, arena, replies, err) == FAILED)
        return FAILED;
    return join_families(replies, host, arena, out, err);
}

/* Static names have their addresses in both families. */
static struct dns_address_answer only_family(const struct dns_address_answer *both, unsigned family)
{
    struct dns_address_answer answer = *both;
    answer.count = 0;
    for (size_t i = 0; i < both->count; i++)
        if (both->ips[i].family == family)
            answer.ips[answer.count++] = both->ips[i];
    if (answer.status == DNS_FOUND && answer.count == 0)
        answer.status = DNS_NO_DATA;
    return answer;
}

enum result dns_query_family(struct dns *dns, struct str host, unsigned family, struct arena *arena,
                             struct dns_address_answer *out, struct error *err)
{
    struct dns_reply reply;
    struct dns_address_answer answer;
    if (dns_statics_addresses(dns->statics, host, arena, &answer)) {
        *out = only_family(&answer, family);
        return OK;
    }
    if (ask(dns, host, family == 4 ? DNS_A : DNS_AAAA, arena, &reply, err) == FAILED)
        return FAILED;
    answer = (struct dns_address_answer){.status = reply.answer.status, .secure = reply.secure};
    answer.ips = arena_alloc_array(arena, reply.answer.count, sizeof answer.ips[0]);
    for (size_t i = 0; i < reply.answer.count; i++)
        answer.ips[answer.count++] = reply.answer.records[i].ip;
    *out = answer;
    return OK;
}

/* ---- texts and names ---- */

static MAY_YIELD enum result ask_texts(struct dns *dns, struct str name, enum dns_type type,
                                       struct arena *arena, struct dns_text_answer *out,
                                       struct error *err)
{
    struct dns_reply reply;
    if (ask(dns, name, type, arena, &reply, err) == FAILED)
        return FAILED;
    struct dns_text_answer answer = {.status = reply.answer.status, .secure = reply.secure};
    answer.count = reply.answer.count < TEXTS_MAX ? reply.answer.count : TEXTS_MAX;
    answer.texts = arena_alloc_array(arena, answer.count, sizeof answer.texts[0]);
    for (size_t i = 0; i < answer.count; i++)
        answer.texts[i] = reply.answer.records[i].text;
    *out = answer;
    return OK;
}

enum result dns_query_txt(struct dns *dns, struct str name, struct arena *arena,
                          struct dns_text_answer *out, struct error *err)
{
    return ask_texts(dns, name, DNS_TXT, arena, out, err);
}

enum result dns_query_ptr(struct dns *dns, struct str name, struct arena *arena,
                          struct dns_text_answer *out, struct error *err)
{
    return ask_texts(dns, name, DNS_PTR, arena, out, err);
}

/* The name under which PTR records of an address stand (RFC 1035 3.5, RFC 3596 2.5). */
static struct str reverse_name(const struct net_ip *ip, struct arena *arena)
{
    char text[80];
    size_t len = 0;
    const unsigned char *bytes = ip->bytes;
    if (ip->family == 4)
        return arena_printf(arena, "%u.%u.%u.%u.in-addr.arpa", bytes[3], bytes[2], bytes[1],
                            bytes[0]);
    for (int i = 15; i >= 0; i--)
        len += (size_t)snprintf(text + len, sizeof text - len, "%x.%x.", bytes[i] & 0xf,
                                bytes[i] >> 4);
    return arena_printf(arena, "%.*sip6.arpa", (int)len, text);
}

static bool has_address(const struct dns_address_answer *answer, const struct net_ip *ip)
{
    for (size_t i = 0; i < answer->count; i++)
        if (net_ip_equal(&answer->ips[i], ip))
            return true;
    return false;
}

/* A name with escapes is none that anybody should read or compare. */
static bool is_host_name(struct str name)
{
    return name.len > 0 && name.len <= 253 && str_find(name, '\\') < 0;
}

enum result dns_query_client_name(struct dns *dns, const struct net_ip *ip, struct arena *arena,
                                  enum dns_status *out_status, struct str *out_name,
                                  struct error *err)
{
    struct dns_text_answer names;
    bool unsure = false;
    if (ip->family == 0 || dns_statics_name(dns->statics, ip, arena, out_name)) {
        *out_status = ip->family ? DNS_FOUND : DNS_NO_NAME;
        return OK;
    }
    if (ask_texts(dns, reverse_name(ip, arena), DNS_PTR, arena, &names, err) == FAILED)
        return FAILED;
    for (size_t i = 0; i < names.count && i < NAMES_TO_CONFIRM; i++) {
        struct dns_address_answer addresses;
        if (!is_host_name(names.texts[i]))
            continue;
        if (dns_query_addresses(dns, names.texts[i], arena, &addresses, err) == FAILED) {
            if (fiber_check(err) == FAILED)
                return FAILED;
            unsure = true; /* another name may still be confirmed */
            continue;
        }
        if (!has_address(&addresses, ip))
            continue;
        *out_status = DNS_FOUND;
        *out_name = names.texts[i];
        return OK;
    }
    if (unsure)
        return fail(err, ERROR_TEMPORARY, "the client's name cannot be confirmed now");
    *out_status = DNS_NO_NAME;
    *out_name = STR_EMPTY;
    return OK;
}

/* ---- DNSSEC ---- */

enum result dns_probe_dnssec(struct dns *dns, struct str name, struct error *err)
{
    struct dns_reply reply;
    if (dns->dnssec == DNS_DNSSEC_NONE)
        return OK;
    struct arena *arena = arena_new(0);
    enum result result = ask(dns, name.len ? name : STR("."), DNS_SOA, arena, &reply, err);
    arena_free(arena);
    if (result == OK && !reply.secure)
        result = fail(err, ERROR_PERMANENT,
                      dns->dnssec == DNS_DNSSEC_VALIDATE
                          ? "the DNS servers do not pass on DNSSEC signatures"
                          : "the DNS servers do not validate: the AD bit is missing");
    return result;
}
