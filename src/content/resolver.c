/* SPDX-License-Identifier: Apache-2.0 */
#include "content/resolver.h"

enum { NAME_MAX_LEN = 253, LABEL_MAX = 63 };

bool resolver_name_is_valid(struct str name)
{
    size_t label = 0;
    if (str_ends(name, STR(".")))
        name.len--;
    if (name.len == 0 || name.len > NAME_MAX_LEN)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] < ' ' || name.ptr[i] >= 127 || name.ptr[i] == '\\')
            return false;
        if (name.ptr[i] == '.' && label == 0)
            return false;
        label = name.ptr[i] == '.' ? 0 : label + 1;
        if (label > LABEL_MAX)
            return false;
    }
    return label > 0;
}

static void take(struct resolver *resolver, unsigned questions)
{
    if (questions > resolver->budget)
        questions = resolver->budget;
    resolver->budget -= questions;
    resolver->asked += questions;
}

static MAY_YIELD enum result ask_in_time(struct resolver *resolver, enum resolver_type type,
                                         struct str name, struct arena *arena,
                                         struct resolver_answer *out, struct error *err)
{
    if (resolver->deadline_ns == 0)
        return resolver->ask(resolver->context, type, name, arena, out, err);
    struct scope scope;
    scope_open(&scope, resolver->deadline_ns);
    enum result result = resolver->ask(resolver->context, type, name, arena, out, err);
    scope_close(&scope);
    return result;
}

enum result resolver_ask(struct resolver *resolver, enum resolver_type type, struct str name,
                         struct arena *arena, struct resolver_answer *out, struct error *err)
{
    *out = (struct resolver_answer){.status = DNS_NO_NAME};
    if (!resolver_name_is_valid(name))
        return OK;
    if (resolver->budget == 0)
        return fail(err, ERROR_LIMIT, "more DNS questions than one message may ask");
    take(resolver, 1);
    if (ask_in_time(resolver, type, name, arena, out, err) == OK)
        return OK;
    take(resolver, RESOLVER_UNANSWERED_COST - 1);
    return FAILED;
}

/* ---- the worker's DNS ---- */

static MAY_YIELD enum result ask_addresses(struct dns *dns, struct str name, unsigned family,
                                           struct arena *arena, struct resolver_answer *out,
                                           struct error *err)
{
    struct dns_address_answer answer;
    if (dns_query_family(dns, name, family, arena, &answer, err) == FAILED)
        return FAILED;
    *out = (struct resolver_answer){
        .status = answer.status, .ips = answer.ips, .count = answer.count, .secure = answer.secure};
    return OK;
}

static MAY_YIELD enum result ask_mx(struct dns *dns, struct str name, struct arena *arena,
                                    struct resolver_answer *out, struct error *err)
{
    struct dns_mx_answer answer;
    if (dns_query_mx(dns, name, arena, &answer, err) == FAILED)
        return FAILED;
    *out = (struct resolver_answer){
        .status = answer.status, .count = answer.count, .secure = answer.secure};
    out->texts = arena_alloc_array(arena, answer.count, sizeof out->texts[0]);
    for (size_t i = 0; i < answer.count; i++)
        out->texts[i] = answer.hosts[i].host;
    return OK;
}

static MAY_YIELD enum result ask_dns(void *context, enum resolver_type type, struct str name,
                                     struct arena *arena, struct resolver_answer *out,
                                     struct error *err)
{
    struct dns *dns = context;
    struct dns_text_answer answer;
    if (type == RESOLVER_A || type == RESOLVER_AAAA)
        return ask_addresses(dns, name, type == RESOLVER_A ? 4 : 6, arena, out, err);
    if (type == RESOLVER_MX)
        return ask_mx(dns, name, arena, out, err);
    enum result result = type == RESOLVER_PTR ? dns_query_ptr(dns, name, arena, &answer, err)
                                              : dns_query_txt(dns, name, arena, &answer, err);
    if (result == FAILED)
        return FAILED;
    *out = (struct resolver_answer){.status = answer.status,
                                    .texts = answer.texts,
                                    .count = answer.count,
                                    .secure = answer.secure};
    return OK;
}

NO_YIELD_CHECK struct resolver resolver_of_dns(struct dns *dns)
{
    return (struct resolver){.ask = ask_dns, .context = dns, .budget = RESOLVER_BUDGET};
}
