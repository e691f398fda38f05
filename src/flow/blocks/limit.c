/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/limit.c - how much somebody may do in a sliding time, over all workers.
 *
 * Authentication: failures of a client network with one login, and of the network with all logins
 * together; counted when the run has ended in no, so a directory that is down costs nobody
 * anything. Recipient and content flows: messages, recipients, bytes of a user, client network,
 * sender, domain (the recipient's in recipient flows, the sender's in content flows) or listener;
 * in recipient flows also recipients that do not exist, counted as failures are: when the run has
 * ended.
 *
 * All counts of a step are looked at before any of them goes up, so that what is refused costs
 * nothing.
 */
#include "flow/blocks.h"

#include "event/event.h"

enum by { BY_CLIENT, BY_USER, BY_SENDER, BY_DOMAIN, BY_LISTENER };
enum { UNDER, OVER };
enum { RATES = 3, KIB = 1024 };
enum { NETWORK_FACTOR = 5 }; /* one wrong password in a phone must not lock an office out */

struct parameters {
    int by;
    struct option_rate failures;
    struct option_rate client_failures;
    struct option_rate messages;
    struct option_rate recipients;
    struct option_rate unknown;
    struct str bytes_text;
    struct option_rate bytes; /* in KiB, which fit the counters */
    struct str warn_text;
    uint64_t warn_percent; /* 0: no warning */
};

static const struct option_word by_words[] = {
    {"client", BY_CLIENT}, {"user", BY_USER},         {"sender", BY_SENDER},
    {"domain", BY_DOMAIN}, {"listener", BY_LISTENER}, {NULL, 0},
};
static const struct option options[] = {
    {.name = "by",
     .type = OPTION_WORD,
     .offset = offsetof(struct parameters, by),
     .text = "whose: client (its network), user, sender, domain or listener",
     .fallback = "client",
     .words = by_words},
    {.name = "failures",
     .type = OPTION_RATE,
     .offset = offsetof(struct parameters, failures),
     .text = "authentication: refused logins of a client network with the same login"},
    {.name = "client_failures",
     .type = OPTION_RATE,
     .offset = offsetof(struct parameters, client_failures),
     .text = "authentication: the same with any login; default: five times failures"},
    {.name = "messages",
     .type = OPTION_RATE,
     .offset = offsetof(struct parameters, messages),
     .text = "content: messages"},
    {.name = "recipients",
     .type = OPTION_RATE,
     .offset = offsetof(struct parameters, recipients),
     .text = "recipient and content: recipients"},
    {.name = "unknown",
     .type = OPTION_RATE,
     .offset = offsetof(struct parameters, unknown),
     .text = "recipient: recipients that a lookup does not know, and that were not accepted"},
    {.name = "bytes",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, bytes_text),
     .text = "content: size of the messages, as in 200M/1h"},
    {.name = "warn_at",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, warn_text),
     .text = "an event when so much of a limit is used, as in 80%"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "limit",
    .text = "Counts in sliding windows, over all workers and restarts, and acts when there is too "
            "much. What is refused is not counted. Several numbers in one step: the first that is "
            "reached counts.",
    .options = options,
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [UNDER] = {.name = "under", .action = ACTION_NEXT, .text = "there is room"},
    [OVER] = {.name = "over",
              .key = "then",
              .action = ACTION_DEFER,
              .reply = "450 4.7.1 Too much in too short a time, try again later",
              .reason = MAIL_REASON_RATE_LIMIT,
              .text = "the limit is reached"},
    {.name = NULL},
};

static void complain(struct flow_compiling *compiling, const struct config_node *node,
                     const struct flow_step *step, const char *key, const char *text,
                     struct str fix)
{
    struct config_problem *problem = flow_problem(
        compiling, CONFIG_ERROR, "bad-limit", flow_place_of(node, key, step->place), "%s", text);
    problem->fix = fix;
}

static void prepare_authentication(struct flow_compiling *compiling, struct flow_step *step,
                                   const struct config_node *node)
{
    struct parameters *parameters = step->parameters;
    if (parameters->by != BY_CLIENT)
        complain(compiling, node, step, "by", "an authentication flow knows no user yet",
                 STR("say by: client"));
    if (!parameters->failures.count)
        complain(compiling, node, step, "failures", "this limit has no number",
                 STR("add failures: 10/15m"));
    const struct {
        const char *key;
        bool given;
    } others[] = {
        {"messages", parameters->messages.count > 0},
        {"recipients", parameters->recipients.count > 0},
        {"unknown", parameters->unknown.count > 0},
        {"bytes", parameters->bytes_text.len > 0},
        {"warn_at", parameters->warn_text.len > 0},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].given)
            complain(compiling, node, step, others[i].key,
                     "an authentication flow counts failures only", STR("say failures: 10/15m"));
    if (!parameters->client_failures.count) {
        parameters->client_failures = parameters->failures;
        parameters->client_failures.count *= NETWORK_FACTOR;
    }
}

/* "200M/1h" as a rate of KiB. */
static bool read_bytes(struct str text, struct option_rate *out)
{
    static const char units[] = "KMGT";
    struct str number;
    struct str rest = text;
    uint64_t value, factor = 1;
    if (!str_split(&rest, '/', &number) || number.len == 0)
        return false;
    for (size_t i = 0; units[i]; i++)
        if (number.ptr[number.len - 1] == units[i])
            factor = UINT64_C(1) << (10 * (i + 1));
    if (factor > 1)
        number.len--;
    if (!str_to_uint(number, INT64_MAX / (INT64_C(1) << 40), &value) || value == 0)
        return false;
    uint64_t kib = (value * factor + KIB - 1) / KIB;
    *out = (struct option_rate){.count = kib};
    return kib <= UINT32_MAX && option_parse_duration(rest, &out->period_ns) && out->period_ns > 0;
}

static void prepare_numbers(struct flow_compiling *compiling, struct flow_step *step,
                            const struct config_node *node)
{
    struct parameters *parameters = step->parameters;
    struct str warn = parameters->warn_text;
    if (parameters->bytes_text.len && !read_bytes(parameters->bytes_text, &parameters->bytes))
        complain(compiling, node, step, "bytes", "this is no size in a time",
                 STR("write bytes: 200M/1h, at most 3T"));
    if (warn.len && warn.ptr[warn.len - 1] == '%')
        warn.len--;
    if (warn.len &&
        (!str_to_uint(warn, 99, &parameters->warn_percent) || parameters->warn_percent == 0))
        complain(compiling, node, step, "warn_at", "this is no share of a limit",
                 STR("write warn_at: 80%, from 1% to 99%"));
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    if (compiling->flow->type == FLOW_AUTHENTICATION) {
        prepare_authentication(compiling, step, node);
        return;
    }
    prepare_numbers(compiling, step, node);
    if (parameters->failures.count || parameters->client_failures.count)
        complain(compiling, node, step, "failures", "failures are counted in authentication flows",
                 STR("say messages: or recipients:"));
    bool of_recipient = compiling->flow->type == FLOW_RECIPIENT;
    if (of_recipient && (parameters->messages.count || parameters->bytes.count))
        complain(compiling, node, step, parameters->messages.count ? "messages" : "bytes",
                 "messages are counted in content flows",
                 STR("say recipients: here, or put the limit into the content flow"));
    if (!of_recipient && parameters->unknown.count)
        complain(compiling, node, step, "unknown",
                 "recipients are looked up in recipient flows, and counted there",
                 STR("put this limit into the recipient flow, before the lookup"));
    if (!parameters->messages.count && !parameters->recipients.count &&
        !parameters->unknown.count && !parameters->bytes_text.len)
        complain(compiling, node, step, "recipients", "this limit has no number",
                 STR("add recipients: 500/1h"));
}

/* ---- running ---- */

/* Count, or look whether there is room; false: over. */
static MAY_YIELD enum result ask(struct flow_running *running, struct str key,
                                 const struct option_rate *rate, uint64_t amount, bool peek,
                                 struct state_limit_answer *out, struct error *err)
{
    if (state_limit(running->run->state, key, amount, rate->count, rate->period_ns, peek, out,
                    err) != OK)
        return FAILED;
    if (!out->allowed)
        running->detail =
            arena_printf(running->run->arena, "%llu of %llu used, room in %lld s",
                         (unsigned long long)out->count, (unsigned long long)rate->count,
                         (long long)(out->retry_in_ns / NS_PER_S) + 1);
    return OK;
}

static void pending_add(struct flow_running *running, struct str key,
                        const struct option_rate *rate)
{
    if (running->pending_count == FLOW_PENDING_MAX)
        return;
    if (!running->pending)
        running->pending =
            arena_alloc_array(running->run->arena, FLOW_PENDING_MAX, sizeof *running->pending);
    running->pending[running->pending_count++] =
        (struct flow_pending){.key = key, .max = rate->count, .period_ns = rate->period_ns};
}

static MAY_YIELD enum result run_authentication(struct flow_running *running,
                                                const struct flow_step *step, bool *out_allowed,
                                                struct error *err)
{
    const struct parameters *parameters = step->parameters;
    struct arena *arena = running->run->arena;
    struct str network = flow_client_network(running);
    struct str hash = flow_keyed_hash(running, state_kept_secret(running->run->state),
                                      arena_lower(arena, running->login), STR_EMPTY);
    struct str by_login = arena_printf(arena, "limit:%.*s:%.*s:%.*s", STR_ARG(step->key),
                                       STR_ARG(network), STR_ARG(hash));
    struct str by_network =
        arena_printf(arena, "limit:%.*s:%.*s", STR_ARG(step->key), STR_ARG(network));
    struct state_limit_answer answer;
    if (ask(running, by_login, &parameters->failures, 1, /* peek= */ true, &answer, err) != OK)
        return FAILED;
    if (answer.allowed && ask(running, by_network, &parameters->client_failures, 1,
                              /* peek= */ true, &answer, err) != OK)
        return FAILED;
    *out_allowed = answer.allowed;
    if (answer.allowed) {
        pending_add(running, by_login, &parameters->failures);
        pending_add(running, by_network, &parameters->client_failures);
    }
    return OK;
}

/* Whose count this is; empty: nobody's, and the step is passed. */
static struct str subject_of(const struct flow_running *running, enum by by)
{
    const struct flow_facts *facts = &running->facts;
    switch (by) {
    case BY_CLIENT:
        return flow_client_network(running);
    case BY_USER:
        return arena_lower(running->run->arena, facts->user);
    case BY_SENDER:
        return arena_lower(running->run->arena, facts->sender);
    case BY_DOMAIN:
        return running->flow->type == FLOW_RECIPIENT ? facts->recipient_domain
                                                     : facts->sender_domain;
    case BY_LISTENER:
        return facts->listener;
    }
    return STR_EMPTY;
}

/* What a step counts of this message or recipient. */
struct counted {
    const char *what;
    const struct option_rate *rate;
    uint64_t amount;
    bool later; /* counted by the run's end, or not at all */
    struct str key;
};

static size_t list_counted(const struct flow_running *running, const struct parameters *parameters,
                           struct counted out[RATES])
{
    const struct flow_facts *facts = &running->facts;
    size_t count = 0;
    bool of_recipient = running->flow->type == FLOW_RECIPIENT;
    if (parameters->messages.count)
        out[count++] =
            (struct counted){.what = "messages", .rate = &parameters->messages, .amount = 1};
    if (parameters->recipients.count)
        out[count++] = (struct counted){.what = "recipients",
                                        .rate = &parameters->recipients,
                                        .amount = of_recipient ? 1 : facts->recipient_count};
    if (parameters->bytes.count)
        out[count++] = (struct counted){
            .what = "bytes", .rate = &parameters->bytes, .amount = (facts->size + KIB - 1) / KIB};
    if (parameters->unknown.count)
        out[count++] = (struct counted){
            .what = "unknown", .rate = &parameters->unknown, .amount = 1, .later = true};
    return count;
}

static void note_overrun(struct flow_running *running, const struct flow_step *step,
                         const struct counted *counted, uint64_t count, struct str subject)
{
    const struct parameters *parameters = step->parameters;
    bool of_bytes = counted->rate == &parameters->bytes;
    const char *by = by_words[0].word;
    for (size_t i = 0; by_words[i].word; i++)
        if (by_words[i].value == parameters->by)
            by = by_words[i].word;
    running->overrun = (struct flow_overrun){
        .flow = running->flow->name,
        .step = step->id,
        .what = counted->what,
        .by = by,
        .subject = subject,
        .count = of_bytes ? count * KIB : count,
        .max = of_bytes ? counted->rate->count * KIB : counted->rate->count,
        .period_ns = counted->rate->period_ns,
    };
    running->detail =
        arena_printf(running->run->arena, "%s: %.*s", counted->what, STR_ARG(running->detail));
}

/* Once each time that the count passes the share. */
static void warn(struct flow_running *running, const struct flow_step *step,
                 const struct counted *counted, uint64_t count, struct str subject)
{
    const struct parameters *parameters = step->parameters;
    uint64_t share = counted->rate->count * parameters->warn_percent / 100;
    if (!parameters->warn_percent || count < share || count - counted->amount >= share)
        return;
    event_emit(EVENT_LIMIT_NEAR, F_STR(FLOW, running->flow->name), F_STR(STEP, step->id),
               F_C(LIMIT, counted->what), F_STR(OBJECT, subject), F_INT(COUNT, count),
               F_INT(EXPECTED, counted->rate->count), F_STR(LISTENER, running->facts.listener),
               F_STR(USER, running->facts.user));
}

static MAY_YIELD enum result count_all(struct flow_running *running, const struct flow_step *step,
                                       struct counted *list, size_t count, struct str subject,
                                       bool *out_allowed, struct error *err)
{
    struct state_limit_answer answer;
    for (size_t turn = count > 1 || list[0].later ? 0 : 1; turn < 2; turn++) {
        for (size_t i = 0; i < count; i++) {
            bool peek = turn == 0;
            if (!peek && list[i].later) {
                pending_add(running, list[i].key, list[i].rate);
                continue;
            }
            if (ask(running, list[i].key, list[i].rate, list[i].amount, peek, &answer, err) != OK)
                return FAILED;
            *out_allowed = answer.allowed;
            if (!answer.allowed) {
                note_overrun(running, step, &list[i], answer.count, subject);
                return OK;
            }
            if (!peek)
                warn(running, step, &list[i], answer.count, subject);
        }
    }
    return OK;
}

static MAY_YIELD enum result run_transaction(struct flow_running *running,
                                             const struct flow_step *step, bool *out_allowed,
                                             struct error *err)
{
    const struct parameters *parameters = step->parameters;
    struct str subject = subject_of(running, (enum by)parameters->by);
    struct counted list[RATES];
    *out_allowed = true;
    if (!subject.len || running->run->released) {
        running->detail = subject.len ? STR("somebody released it: it is not counted")
                                      : STR("nobody to count for");
        return OK;
    }
    struct str name = subject;
    if (subject.len > 320) /* longer than any address */
        name = flow_keyed_hash(running, state_kept_secret(running->run->state), subject, STR_EMPTY);
    size_t count = list_counted(running, parameters, list);
    for (size_t i = 0; i < count; i++)
        list[i].key = arena_printf(running->run->arena, "limit:%.*s:%s:%.*s", STR_ARG(step->key),
                                   list[i].what, STR_ARG(name));
    return count_all(running, step, list, count, subject, out_allowed, err);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    bool allowed = true;
    enum result result = running->flow->type == FLOW_AUTHENTICATION
                             ? run_authentication(running, step, &allowed, err)
                             : run_transaction(running, step, &allowed, err);
    if (result != OK)
        return FAILED;
    *out_outcome = allowed ? UNDER : OVER;
    if (!allowed)
        event_emit(EVENT_LIMIT_REACHED, F_STR(FLOW, running->flow->name), F_STR(STEP, step->id),
                   F_STR(DETAIL, running->detail), F_STR(LISTENER, running->facts.listener));
    return OK;
}

const struct flow_block flow_block_limit = {
    .name = "limit",
    .text = "counts failures, messages, recipients or bytes, and acts when there are too many",
    .flows = FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .asks_world = true,
    .changes_field = flow_changes_no_field,
};
