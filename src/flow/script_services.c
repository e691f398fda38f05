/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/script_services.c - the object `postern` of scripts: DNS, directories, web services, counts,
 * a cache, lists, the log.
 *
 * An answer that cannot be had is nil and a reason, so that a script decides what becomes of it;
 * wrong arguments are errors. All waiting is done on the fiber.
 */
#include "base/buf.h"
#include "event/event.h"
#include "flow/expression.h"
#include "flow/pattern.h"
#include "flow/script.h"
#include "flow/text.h"

enum { KEY_MAX = 200, LINE_MAX_LEN = 500, AMOUNT_MAX = 1000 * 1000 * 1000 };

static struct flow_scripting *of(const struct script_call *call)
{
    return call->context;
}

static const struct flow_run *run_of(const struct script_call *call)
{
    return of(call)->running->run;
}

static enum result no_answer(struct script_call *call, const struct error *why)
{
    script_return_nil(call);
    script_return_text(call, arena_str(call->arena, str_c(why->text)));
    return OK;
}

/* ---- DNS ---- */

static bool find_type(struct str word, enum resolver_type *out)
{
    static const char *const words[] = {"a", "aaaa", "mx", "ptr", "txt"};
    static const enum resolver_type types[] = {RESOLVER_A, RESOLVER_AAAA, RESOLVER_MX, RESOLVER_PTR,
                                               RESOLVER_TXT};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (str_equal_nocase(word, str_c(words[i]))) {
            *out = types[i];
            return true;
        }
    }
    return false;
}

/* "192.0.2.1" as the name that PTR is asked for. */
static struct str reverse_name(struct script_call *call, struct str name)
{
    static const char digits[] = "0123456789abcdef";
    struct net_ip ip;
    struct buf text BUF_CLEANUP;
    buf_init(&text, 100);
    if (!net_ip_parse(name, &ip))
        return name;
    for (int i = ip.family == 4 ? 3 : 15; i >= 0; i--) {
        if (ip.family == 4)
            buf_printf(&text, "%u.", ip.bytes[i]);
        else
            buf_printf(&text, "%c.%c.", digits[ip.bytes[i] & 15], digits[ip.bytes[i] >> 4]);
    }
    buf_append(&text, ip.family == 4 ? STR("in-addr.arpa") : STR("ip6.arpa"));
    return arena_str(call->arena, buf_str(&text));
}

static MAY_YIELD enum result dns(struct script_call *call, struct error *err)
{
    struct str word, name;
    enum resolver_type type;
    struct resolver_answer answer = {0};
    if (script_take_text(call, 0, &word, err) != OK || script_take_text(call, 1, &name, err) != OK)
        return FAILED;
    if (!find_type(word, &type))
        return fail(err, ERROR_PERMANENT,
                    "argument 1: say \"a\", \"aaaa\", \"mx\", \"ptr\" or "
                    "\"txt\"");
    if (type == RESOLVER_PTR)
        name = reverse_name(call, name);
    struct error why = {0};
    struct resolver *resolver = &of(call)->resolver;
    if (!resolver->ask) {
        (void)fail(&why, ERROR_TEMPORARY, "there is no DNS here");
        return no_answer(call, &why);
    }
    if (resolver_ask(resolver, type, name, call->arena, &answer, &why) != OK)
        return no_answer(call, &why);
    struct script_value *items = script_return_list(call, answer.count);
    for (size_t i = 0; i < answer.count; i++) {
        char text[NET_IP_TEXT];
        items[i] =
            script_text(answer.ips ? arena_str(call->arena, net_ip_format(&answer.ips[i], text))
                                   : answer.texts[i]);
    }
    return OK;
}

/* ---- directories ---- */

static enum result option_text(const struct script_call *call, size_t index, const char *key,
                               struct str *out, struct error *err)
{
    const struct script_value *options = &call->arguments[index];
    const struct script_value *value =
        index < call->argument_count ? script_value_get(options, key) : NULL;
    *out = STR_EMPTY;
    if (!value)
        return OK;
    if (value->kind != SCRIPT_TEXT)
        return fail(err, ERROR_PERMANENT, "%s must be a text", key);
    *out = value->text;
    return OK;
}

static MAY_YIELD enum result ask_directory(struct script_call *call, const struct server *server,
                                           struct str address, struct directory_answer *out,
                                           struct error *err)
{
    struct directory *directory = run_of(call)->directory;
    struct mail_address parsed;
    *out = (struct directory_answer){.lookup = DIRECTORY_ERROR, .detail = STR_EMPTY};
    if (mail_address_parse(call->arena, address, false, true, &parsed) != MAIL_ADDRESS_OK)
        return fail(err, ERROR_PERMANENT, "\"%.*s\" is no address",
                    STR_ARG(str_slice(address, 0, 100)));
    struct str key = mail_address_key(call->arena, &parsed);
    if (server->kind == SERVER_SMTP) {
        directory_lookup_smtp(directory, server, key, parsed.smtputf8, call->arena, out);
        return OK;
    }
    struct directory_ldap_query query = {.server = server};
    if (option_text(call, 2, "filter", &query.filter, err) != OK ||
        option_text(call, 2, "base", &query.base_dn, err) != OK)
        return FAILED;
    if (!query.filter.len)
        query.filter = STR("(mail={address})");
    directory_lookup_ldap(directory, &query, key, call->arena, out);
    return OK;
}

static MAY_YIELD enum result lookup(struct script_call *call, struct error *err)
{
    static const char *const words[] = {"found", "missing", "denied", "error"};
    const struct flow_script *script = of(call)->script;
    struct str name, address;
    struct directory_answer answer;
    if (script_take_text(call, 0, &name, err) != OK ||
        script_take_text(call, 1, &address, err) != OK)
        return FAILED;
    const struct server *server = server_find(script->servers, script->server_count, name);
    if (!server || (server->kind != SERVER_SMTP && server->kind != SERVER_LDAP))
        return fail(err, ERROR_PERMANENT, "there is no server \"%.*s\" with smtp: or ldap:",
                    STR_ARG(str_slice(name, 0, 100)));
    if (of(call)->lookups++ >= FLOW_SCRIPT_LOOKUPS)
        return fail(err, ERROR_LIMIT, "more than %d questions", FLOW_SCRIPT_LOOKUPS);
    if (ask_directory(call, server, address, &answer, err) != OK)
        return FAILED;
    script_return_text(call, str_c(words[answer.lookup]));
    struct str said =
        answer.reply.code ? mail_reply_text(call->arena, &answer.reply) : answer.detail;
    script_return_text(call, said.ptr ? said : STR_EMPTY);
    return OK;
}

static enum result listed(struct script_call *call, struct error *err)
{
    const struct flow_script *script = of(call)->script;
    struct str name, text;
    struct net_ip ip;
    if (script_take_text(call, 0, &name, err) != OK || script_take_text(call, 1, &text, err) != OK)
        return FAILED;
    for (size_t i = 0; i < script->list_count; i++) {
        const struct flow_list *list = &script->lists[i];
        if (!str_equal(list->name, name))
            continue;
        bool is_in = expression_list_has(list, text) ||
                     (net_ip_parse(text, &ip) &&
                      net_networks_have(list->networks, list->network_count, &ip));
        script_return_bool(call, is_in);
        return OK;
    }
    return fail(err, ERROR_PERMANENT, "there is no list \"%.*s\" under lists",
                STR_ARG(str_slice(name, 0, 100)));
}

static enum result is_domain_listed(struct script_call *call, struct error *err)
{
    const struct flow_ways *ways = run_of(call)->ways;
    struct str text, domain;
    if (script_take_text(call, 0, &text, err) != OK)
        return FAILED;
    script_return_bool(call, ways && mail_domain_normalize(call->arena, text, &domain) &&
                                 ways->is_listed(ways->context, domain));
    return OK;
}

/* ---- shared by all workers ---- */

static enum result take_key(struct script_call *call, const char *prefix, struct str *out,
                            struct error *err)
{
    struct str key;
    if (script_take_text(call, 0, &key, err) != OK)
        return FAILED;
    if (!key.len || key.len > KEY_MAX)
        return fail(err, ERROR_PERMANENT, "argument 1: a key has 1 to %d bytes", KEY_MAX);
    *out = arena_printf(call->arena, "%s%.*s", prefix, STR_ARG(key));
    return OK;
}

static MAY_YIELD enum result count(struct script_call *call, struct error *err)
{
    struct str key, period;
    int64_t max, amount = 1, period_ns;
    struct state_limit_answer answer;
    if (take_key(call, "limit:script:", &key, err) != OK ||
        script_take_integer(call, 1, 1, AMOUNT_MAX, &max, err) != OK ||
        script_take_text(call, 2, &period, err) != OK)
        return FAILED;
    if (call->argument_count > 3 && script_take_integer(call, 3, 0, AMOUNT_MAX, &amount, err) != OK)
        return FAILED;
    if (!option_parse_duration(period, &period_ns) || period_ns <= 0)
        return fail(err, ERROR_PERMANENT, "argument 3: a time such as \"1h\"");
    bool peek = amount == 0 || of(call)->observe;
    struct error why = {0};
    if (state_limit(run_of(call)->state, key, amount ? (uint64_t)amount : 1, (uint64_t)max,
                    period_ns, peek, &answer, &why) != OK)
        return no_answer(call, &why);
    script_return_bool(call, answer.allowed);
    script_return_integer(call, (int64_t)answer.count);
    return OK;
}

static MAY_YIELD enum result cache_get(struct script_call *call, struct error *err)
{
    struct str key;
    struct state_value value;
    enum state_cache_status status;
    struct error why = {0};
    if (take_key(call, "script:", &key, err) != OK)
        return FAILED;
    if (state_cache_get(run_of(call)->state, key, /* stale_ns= */ 0, &status, &value, &why) != OK)
        return no_answer(call, &why);
    if (status != STATE_CACHE_HIT) { /* nobody waits for a script to find it */
        state_cache_abandon(run_of(call)->state, key);
        script_return_nil(call);
        return OK;
    }
    script_return_text(call, arena_str(call->arena, str_of(value.bytes, value.len)));
    return OK;
}

static enum result cache_put(struct script_call *call, struct error *err)
{
    struct str key, value, life;
    int64_t life_ns;
    if (take_key(call, "script:", &key, err) != OK ||
        script_take_text(call, 1, &value, err) != OK || script_take_text(call, 2, &life, err) != OK)
        return FAILED;
    if (value.len > STATE_VALUE_MAX)
        return fail(err, ERROR_LIMIT, "argument 2: a value has at most %d bytes", STATE_VALUE_MAX);
    if (!option_parse_duration(life, &life_ns) || life_ns <= 0)
        return fail(err, ERROR_PERMANENT, "argument 3: a time such as \"1h\"");
    if (call->arguments[3].truth)
        state_cache_put_kept(run_of(call)->state, key, value, life_ns, 0);
    else
        state_cache_put(run_of(call)->state, key, value, life_ns, 0);
    return OK;
}

/* ---- the rest ---- */

static enum result match(struct script_call *call, struct error *err)
{
    struct str text, expression, form;
    const struct pattern *pattern;
    size_t fault;
    bool matches = false;
    struct str filled = STR_EMPTY;
    struct error why = {0};
    if (script_take_text(call, 0, &text, err) != OK ||
        script_take_text(call, 1, &expression, err) != OK ||
        script_take_text_or(call, 2, STR_EMPTY, &form, err) != OK ||
        pattern_new(call->arena, expression, &pattern, &fault, err) != OK)
        return FAILED;
    enum result result =
        form.len ? pattern_expand(pattern, text, form, call->arena, &matches, &filled, &why)
                 : pattern_match(pattern, text, &matches, &why);
    if (result != OK)
        return no_answer(call, &why);
    if (form.len && matches)
        script_return_text(call, filled);
    else
        script_return_bool(call, matches);
    return OK;
}

static enum result log_line(struct script_call *call, struct error *err)
{
    struct flow_scripting *scripting = of(call);
    struct str text;
    if (script_take_text(call, 0, &text, err) != OK)
        return FAILED;
    if (scripting->lines++ >= FLOW_SCRIPT_LINES)
        return fail(err, ERROR_LIMIT, "more than %d lines", FLOW_SCRIPT_LINES);
    text = str_slice(text, 0, LINE_MAX_LEN);
    event_emit(EVENT_SCRIPT_LOG,
               F_STR(FLOW, scripting->step ? scripting->running->flow->name : STR_EMPTY),
               F_STR(STEP, scripting->place), F_STR(DETAIL, text));
    return OK;
}

static enum result now(struct script_call *call, struct error *err)
{
    (void)err;
    script_return_integer(call, clock_wall_ns() / NS_PER_S);
    return OK;
}

static enum result date(struct script_call *call, struct error *err)
{
    static const char *const names[] = {"year",   "month",  "day",    "hour",
                                        "minute", "second", "weekday"};
    enum { KEYS = 7, SECONDS_A_DAY = 86400 };
    int64_t seconds = clock_wall_ns() / NS_PER_S;
    if (call->argument_count > 0 &&
        script_take_integer(call, 0, 0, INT64_C(9000000000), &seconds, err) != OK)
        return FAILED;
    char text[TIME_RFC3339_SIZE];
    struct str rest = clock_format_rfc3339(seconds * NS_PER_S, text);
    static const size_t places[] = {0, 5, 8, 11, 14, 17}; /* in "2026-11-24T10:21:00.412Z" */
    int64_t values[KEYS] = {0};
    for (size_t i = 0; i < KEYS - 1; i++) {
        uint64_t value = 0;
        (void)str_to_uint(str_slice(rest, places[i], places[i] + (i ? 2 : 4)), UINT32_MAX, &value);
        values[i] = (int64_t)value;
    }
    values[KEYS - 1] = (seconds / SECONDS_A_DAY + 3) % 7 + 1; /* 1970 began on a Thursday */
    struct script_value *items = script_return_list(call, KEYS);
    struct script_value *map = &call->results[0];
    map->kind = SCRIPT_MAP;
    map->keys = arena_alloc_array(call->arena, KEYS, sizeof *map->keys);
    for (size_t i = 0; i < KEYS; i++) {
        map->keys[i] = str_c(names[i]);
        items[i] = (struct script_value){.kind = SCRIPT_INTEGER, .integer = values[i]};
    }
    return OK;
}

/* clang-format off */
const struct script_row flow_postern_rows[] = {
    {"dns", "type, name", "asks DNS for \"a\", \"aaaa\", \"mx\", \"ptr\" (also of an address) or \"txt\": a list of texts, empty if there is none; nil and a reason when there is no answer", FLOW_EVERYWHERE, true, 0, dns, 500},
    {"lookup", "server, address [, options]", "asks a server with smtp: or ldap: whether the recipient exists: \"found\", \"missing\", \"denied\" or \"error\", and its words; options of ldap: { filter = \"(mail={address})\", base = \"…\" }", FLOW_EVERYWHERE, true, 0, lookup, 1000},
    {"http", "url or options", "asks a web service: { status =, body =, headers = }, or nil and a reason; options: { url = or server = and path =, method =, body =, headers =, timeout = \"5s\" }", FLOW_EVERYWHERE, true, 0, flow_script_http, 5000},
    {"listed", "list, text", "is the address, domain or client's address in that list of the configuration?", FLOW_EVERYWHERE, false, 0, listed, 100},
    {"is_own_domain", "domain", "is the domain one of those under domains, by name or alias?", FLOW_EVERYWHERE, false, 0, is_domain_listed, 0},
    {"count", "key, max, period [, amount]", "counts for the key, over all workers and restarts, if that stays within max in the period (\"1h\"): true or false, and the count; amount 0 only looks", FLOW_EVERYWHERE, true, 0, count, 200},
    {"cache_get", "key", "the text that was put under the key, or nil", FLOW_EVERYWHERE, true, 0, cache_get, 200},
    {"cache_put", "key, text, time [, kept]", "keeps a text of at most 600 bytes for the time, for all workers; kept: over a restart, too", FLOW_EVERYWHERE, false, 0, cache_put, 200},
    {"match", "text, pattern [, form]", "does the regular expression (PCRE2, with bounds) match? With a form its text with $1 … filled in, or false", FLOW_EVERYWHERE, true, 0, match, 1000},
    {"log", "text", "says something in an event script.log", FLOW_EVERYWHERE, false, 0, log_line, 100},
    {"time", "", "seconds since 1970, UTC", FLOW_EVERYWHERE, false, 0, now, 0},
    {"date", "[seconds]", "{ year =, month =, day =, hour =, minute =, second =, weekday = } in UTC; Monday is 1", FLOW_EVERYWHERE, false, 0, date, 0},
    {.name = NULL},
};
/* clang-format on */
