/* SPDX-License-Identifier: Apache-2.0 */
#include "content/spf.h"

#include "content/spf_macro.h"

#include <stdio.h>

enum {
    TERMS_MAX = 10, /* RFC 7208 4.6.4 */
    VOIDS_MAX = 2,
    HOSTS_MAX = 10,
    NAME_MAX_LEN = 253,
    EXPANSION_MAX = 4096,
    EXPLANATION_MAX = 300,
};

struct evaluation {
    struct resolver *resolver;
    const struct spf_request *request;
    struct arena *arena;
    struct spf_macro_values values; /* `domain` is that of the record in force */
    struct str reverse_name;        /* of the client, for PTR */
    unsigned terms, voids;
    struct str *client_names; /* confirmed ones; looked up once */
    size_t client_name_count;
    bool names_asked;
    struct spf_outcome *out;
};

enum match { MATCH_NO, MATCH_YES, MATCH_TEMPERROR, MATCH_PERMERROR };

const char *spf_result_name(enum spf_result result)
{
    static const char *const names[] = {"none",     "neutral",   "pass",     "fail",
                                        "softfail", "temperror", "permerror"};
    return names[result];
}

static MAY_YIELD enum spf_result check_host(struct evaluation *evaluation, struct str domain,
                                            bool is_include);

/* ---- problems ---- */

static enum match broken(struct evaluation *evaluation, const char *what, struct str about)
{
    if (evaluation->out->problem.len == 0)
        evaluation->out->problem =
            arena_printf(evaluation->arena, "%s: %.*s", what, STR_ARG(str_slice(about, 0, 100)));
    return MATCH_PERMERROR;
}

static enum match no_answer(struct evaluation *evaluation, const struct error *err)
{
    if (evaluation->out->problem.len == 0)
        evaluation->out->problem = arena_str(evaluation->arena, str_c(err->text));
    return err->kind == ERROR_LIMIT ? MATCH_PERMERROR : MATCH_TEMPERROR;
}

static enum spf_result error_result(enum match match)
{
    return match == MATCH_TEMPERROR ? SPF_TEMPERROR : SPF_PERMERROR;
}

/* ---- names ---- */

static bool is_ascii(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] >= 127)
            return false;
    return true;
}

/* The validated name of the client for %{p} (7.3): the domain itself, below it, or any. */
static struct str best_client_name(const struct evaluation *evaluation)
{
    struct str domain = evaluation->values.domain, below = STR_EMPTY;
    for (size_t i = 0; i < evaluation->client_name_count; i++) {
        struct str name = evaluation->client_names[i];
        if (str_equal_nocase(name, domain))
            return name;
        if (!below.len && name.len > domain.len && str_ends_nocase(name, domain) &&
            name.ptr[name.len - domain.len - 1] == '.')
            below = name;
    }
    if (below.len)
        return below;
    return evaluation->client_name_count ? evaluation->client_names[0] : STR("unknown");
}

/* Is one of the host's addresses the client's? */
static MAY_YIELD enum result has_client(struct evaluation *evaluation, struct str host,
                                        const struct spf_term *term, bool *out_has, bool *out_void,
                                        struct error *err)
{
    const struct net_ip *client = &evaluation->request->client;
    struct resolver_answer answer;
    unsigned char bits = client->family == 4 ? 32 : 128;
    if (term)
        bits = client->family == 4 ? term->bits4 : term->bits6;
    *out_has = false;
    if (resolver_ask(evaluation->resolver, client->family == 4 ? RESOLVER_A : RESOLVER_AAAA, host,
                     evaluation->arena, &answer, err) == FAILED)
        return FAILED;
    *out_void = answer.count == 0;
    for (size_t i = 0; i < answer.count && !*out_has; i++) {
        struct net_network network = {.ip = answer.ips[i], .bits = bits};
        *out_has = net_network_has(&network, client);
    }
    return OK;
}

/* The client's names that lead back to it (5.5). Whatever DNS fails to say leaves a name out. */
static MAY_YIELD void find_client_names(struct evaluation *evaluation, bool *out_void)
{
    struct resolver_answer answer;
    bool has, is_void;
    if (evaluation->names_asked)
        return;
    evaluation->names_asked = true;
    if (resolver_ask(evaluation->resolver, RESOLVER_PTR, evaluation->reverse_name,
                     evaluation->arena, &answer, NULL) == FAILED)
        return;
    *out_void = answer.count == 0;
    evaluation->client_names = arena_alloc_array(evaluation->arena, HOSTS_MAX, sizeof(struct str));
    for (size_t i = 0; i < answer.count && i < HOSTS_MAX; i++)
        if (has_client(evaluation, answer.texts[i], NULL, &has, &is_void, NULL) == OK && has)
            evaluation->client_names[evaluation->client_name_count++] = answer.texts[i];
}

/* ---- macros ---- */

static MAY_YIELD void prepare_values(struct evaluation *evaluation, struct str text)
{
    bool ignored;
    if (!spf_macro_uses(text, 'p'))
        return;
    find_client_names(evaluation, &ignored);
    evaluation->values.client_name = best_client_name(evaluation);
}

/* Drop labels from the left until the name fits (7.3). */
static struct str cut_name(struct str name)
{
    if (str_ends(name, STR(".")))
        name.len--;
    while (name.len > NAME_MAX_LEN) {
        ptrdiff_t dot = str_find(name, '.');
        if (dot < 0)
            break;
        name = str_from(name, (size_t)dot + 1);
    }
    return name;
}

/* The domain of a term: its domain-spec, else the current domain. What no name can be comes out as
 * it is; the resolver knows such names without asking. */
static MAY_YIELD struct str target_name(struct evaluation *evaluation, struct str domain_spec)
{
    struct buf buf BUF_CLEANUP = {0};
    if (domain_spec.len == 0)
        return evaluation->values.domain;
    prepare_values(evaluation, domain_spec);
    buf_init(&buf, EXPANSION_MAX);
    spf_macro_expand(domain_spec, &evaluation->values, &buf);
    if (buf.overflow)
        return STR_EMPTY;
    return arena_str(evaluation->arena, cut_name(buf_str(&buf)));
}

/* ---- mechanisms ---- */

static enum match count_void(struct evaluation *evaluation, bool is_void)
{
    if (!is_void || ++evaluation->voids <= VOIDS_MAX)
        return MATCH_NO;
    return broken(evaluation, "more than 2 lookups without an answer", evaluation->values.domain);
}

static MAY_YIELD enum match match_a(struct evaluation *evaluation, const struct spf_term *term)
{
    bool has, is_void;
    struct error err;
    struct str host = target_name(evaluation, term->domain);
    if (has_client(evaluation, host, term, &has, &is_void, &err) == FAILED)
        return no_answer(evaluation, &err);
    return has ? MATCH_YES : count_void(evaluation, is_void);
}

static MAY_YIELD enum match match_mx(struct evaluation *evaluation, const struct spf_term *term)
{
    struct resolver_answer answer;
    struct error err;
    struct str domain = target_name(evaluation, term->domain);
    if (resolver_ask(evaluation->resolver, RESOLVER_MX, domain, evaluation->arena, &answer, &err) ==
        FAILED)
        return no_answer(evaluation, &err);
    if (answer.count > HOSTS_MAX)
        return broken(evaluation, "more than 10 MX records", domain);
    for (size_t i = 0; i < answer.count; i++) {
        bool has, is_void; /* a host without this family is everyday, and counts for nothing */
        if (has_client(evaluation, answer.texts[i], term, &has, &is_void, &err) == FAILED)
            return no_answer(evaluation, &err);
        if (has)
            return MATCH_YES;
    }
    return count_void(evaluation, answer.count == 0);
}

static MAY_YIELD enum match match_ptr(struct evaluation *evaluation, const struct spf_term *term)
{
    bool is_void = false;
    struct str domain = target_name(evaluation, term->domain);
    find_client_names(evaluation, &is_void);
    for (size_t i = 0; i < evaluation->client_name_count; i++) {
        struct str name = evaluation->client_names[i];
        if (str_equal_nocase(name, domain) ||
            (name.len > domain.len && str_ends_nocase(name, domain) &&
             name.ptr[name.len - domain.len - 1] == '.'))
            return MATCH_YES;
    }
    return count_void(evaluation, is_void);
}

static MAY_YIELD enum match match_exists(struct evaluation *evaluation, const struct spf_term *term)
{
    struct resolver_answer answer;
    struct error err;
    struct str name = target_name(evaluation, term->domain);
    if (resolver_ask(evaluation->resolver, RESOLVER_A, name, evaluation->arena, &answer, &err) ==
        FAILED)
        return no_answer(evaluation, &err);
    return answer.count ? MATCH_YES : count_void(evaluation, true);
}

static MAY_YIELD enum match match_include(struct evaluation *evaluation,
                                          const struct spf_term *term)
{
    struct str own = evaluation->values.domain;
    struct str domain = target_name(evaluation, term->domain);
    enum spf_result result = check_host(evaluation, domain, true);
    evaluation->values.domain = own;
    switch (result) {
    case SPF_PASS:
        return MATCH_YES;
    case SPF_TEMPERROR:
        return MATCH_TEMPERROR;
    case SPF_PERMERROR:
        return MATCH_PERMERROR;
    case SPF_NONE:
        return broken(evaluation, "includes a domain without SPF", domain);
    default:
        return MATCH_NO;
    }
}

static enum match match_network(const struct evaluation *evaluation, const struct spf_term *term)
{
    return net_network_has(&term->network, &evaluation->request->client) ? MATCH_YES : MATCH_NO;
}

static MAY_YIELD enum match match_term(struct evaluation *evaluation, const struct spf_term *term)
{
    bool asks =
        term->mechanism != SPF_ALL && term->mechanism != SPF_IP4 && term->mechanism != SPF_IP6;
    if (asks && ++evaluation->terms > TERMS_MAX)
        return broken(evaluation, "more than 10 terms that ask DNS", term->text);
    switch (term->mechanism) {
    case SPF_ALL:
        return MATCH_YES;
    case SPF_INCLUDE:
        return match_include(evaluation, term);
    case SPF_A:
        return match_a(evaluation, term);
    case SPF_MX:
        return match_mx(evaluation, term);
    case SPF_PTR:
        return match_ptr(evaluation, term);
    case SPF_IP4:
    case SPF_IP6:
        return match_network(evaluation, term);
    case SPF_EXISTS:
        return match_exists(evaluation, term);
    }
    return MATCH_NO;
}

/* ---- explanation ---- */

/* Fetched for a fail only (6.2). Any trouble with it means that there is none. */
static MAY_YIELD void explain(struct evaluation *evaluation, struct str domain_spec)
{
    struct buf buf BUF_CLEANUP = {0};
    struct resolver_answer answer;
    if (domain_spec.len == 0)
        return;
    struct str name = target_name(evaluation, domain_spec);
    if (resolver_ask(evaluation->resolver, RESOLVER_TXT, name, evaluation->arena, &answer, NULL) ==
            FAILED ||
        answer.count != 1 || !spf_macro_is_valid(answer.texts[0], SPF_MACRO_TEXT))
        return;
    prepare_values(evaluation, answer.texts[0]);
    buf_init(&buf, EXPANSION_MAX);
    spf_macro_expand(answer.texts[0], &evaluation->values, &buf);
    struct str text = str_slice(buf_str(&buf), 0, EXPLANATION_MAX);
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < ' ' || text.ptr[i] > 126) /* a value, such as a local part, brought it */
            return;
    if (!buf.overflow)
        evaluation->out->explanation = arena_str(evaluation->arena, text);
}

/* ---- check_host ---- */

static MAY_YIELD enum spf_result follow_redirect(struct evaluation *evaluation,
                                                 struct str domain_spec, bool is_include)
{
    if (++evaluation->terms > TERMS_MAX)
        return error_result(broken(evaluation, "more than 10 terms that ask DNS", STR("redirect")));
    struct str domain = target_name(evaluation, domain_spec);
    enum spf_result result = check_host(evaluation, domain, is_include);
    if (result != SPF_NONE)
        return result;
    return error_result(broken(evaluation, "redirects to a domain without SPF", domain));
}

static MAY_YIELD enum spf_result evaluate(struct evaluation *evaluation,
                                          const struct spf_record *record, bool is_include)
{
    for (size_t i = 0; i < record->count; i++) {
        const struct spf_term *term = &record->terms[i];
        enum match match = match_term(evaluation, term);
        if (match == MATCH_NO)
            continue;
        if (!is_include || match != MATCH_YES)
            evaluation->out->mechanism = term->text;
        if (match != MATCH_YES)
            return error_result(match);
        if (term->qualifier == SPF_FAIL && !is_include)
            explain(evaluation, record->exp);
        return term->qualifier;
    }
    if (record->redirect.len)
        return follow_redirect(evaluation, record->redirect, is_include);
    return SPF_NEUTRAL;
}

/* The one SPF record among the texts (4.5). */
static enum match select_record(struct evaluation *evaluation, const struct resolver_answer *answer,
                                struct str *out_text)
{
    size_t found = 0;
    for (size_t i = 0; i < answer->count; i++) {
        if (!spf_record_is_spf(answer->texts[i]))
            continue;
        *out_text = answer->texts[i];
        found++;
    }
    if (found > 1)
        return broken(evaluation, "more than one SPF record", evaluation->values.domain);
    return found ? MATCH_YES : MATCH_NO;
}

static MAY_YIELD enum spf_result check_host(struct evaluation *evaluation, struct str domain,
                                            bool is_include)
{
    struct resolver_answer answer;
    struct spf_record record;
    struct error err;
    struct str text = STR_EMPTY, bad;
    if (str_find(domain, '.') < 0 || !resolver_name_is_valid(domain))
        return SPF_NONE;
    evaluation->values.domain = domain;
    if (resolver_ask(evaluation->resolver, RESOLVER_TXT, domain, evaluation->arena, &answer,
                     &err) == FAILED)
        return error_result(no_answer(evaluation, &err));
    enum match match = select_record(evaluation, &answer, &text);
    if (match != MATCH_YES)
        return match == MATCH_NO ? SPF_NONE : error_result(match);
    if (!spf_record_parse(text, evaluation->arena, &record, &bad)) {
        struct str shown = is_ascii(bad) ? bad : STR("a term that is not ASCII");
        return error_result(broken(evaluation, "wrong term in the SPF record", shown));
    }
    return evaluate(evaluation, &record, is_include);
}

/* ---- the request ---- */

/* %{i}: IPv6 as 32 nibbles with dots (7.3). */
static struct str dotted_ip(const struct net_ip *ip, struct arena *arena)
{
    static const char digits[] = "0123456789ABCDEF";
    char text[NET_IP_TEXT];
    if (ip->family != 6)
        return arena_str(arena, net_ip_format(ip, text));
    char *nibbles = arena_alloc(arena, 64);
    for (size_t i = 0; i < 16; i++) {
        nibbles[4 * i] = digits[ip->bytes[i] >> 4];
        nibbles[4 * i + 2] = digits[ip->bytes[i] & 15];
        nibbles[4 * i + 1] = nibbles[4 * i + 3] = '.';
    }
    return str_of(nibbles, 63);
}

static struct str expand(struct arena *arena, struct str text,
                         const struct spf_macro_values *values)
{
    struct buf buf BUF_CLEANUP = {0};
    buf_init(&buf, EXPANSION_MAX);
    spf_macro_expand(text, values, &buf);
    return arena_str(arena, buf_str(&buf));
}

static void fill_values(const struct spf_request *request, struct arena *arena,
                        struct evaluation *out)
{
    char text[NET_IP_TEXT];
    struct str sender = request->sender;
    ptrdiff_t at = str_find_last(sender, '@');
    bool has_local = at > 0;
    struct spf_macro_values *values = &out->values;
    values->sender_domain = sender.len == 0 ? request->helo : str_from(sender, (size_t)(at + 1));
    values->local = has_local ? str_slice(sender, 0, (size_t)at) : STR("postmaster");
    values->sender =
        has_local ? sender : arena_printf(arena, "postmaster@%.*s", STR_ARG(values->sender_domain));
    values->is_ip6 = request->client.family == 6;
    values->ip_dotted = dotted_ip(&request->client, arena);
    values->ip_text = arena_str(arena, net_ip_format(&request->client, text));
    values->helo = request->helo;
    values->receiver = request->receiver.len ? request->receiver : STR("unknown");
    values->now = request->now;
    values->client_name = STR("unknown");
    out->reverse_name =
        expand(arena, values->is_ip6 ? STR("%{ir}.ip6.arpa") : STR("%{ir}.in-addr.arpa"), values);
}

/* Of identities only the characters of host names are believed: "good.example(.evil.example" could
 * be read as another name than it is. */
static bool is_identity(struct str domain)
{
    for (size_t i = 0; i < domain.len; i++) {
        char c = domain.ptr[i];
        if (!ascii_is_alpha(c) && !ascii_is_digit(c) && str_find(STR("-_."), c) < 0)
            return false;
    }
    return domain.len > 0;
}

void spf_check(struct resolver *resolver, const struct spf_request *request, struct arena *arena,
               struct spf_outcome *out)
{
    struct evaluation evaluation = {
        .resolver = resolver, .request = request, .arena = arena, .out = out};
    *out = (struct spf_outcome){.is_helo = request->sender.len == 0};
    fill_values(request, arena, &evaluation);
    struct str domain = evaluation.values.sender_domain;
    if (str_ends(domain, STR(".")))
        domain.len--;
    if (request->client.family == 0 || !is_identity(domain))
        return;
    out->result = check_host(&evaluation, domain, false);
    out->domain = arena_lower(arena, domain);
    if (out->result != SPF_TEMPERROR && out->result != SPF_PERMERROR)
        out->problem = STR_EMPTY;
}
