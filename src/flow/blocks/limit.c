/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/limit.c - how much somebody may do in a sliding time, over all workers.
 *
 * Authentication: failures of a client network with one login, and of the network with all logins
 * together; counted when the run has ended in no, so a directory that is down costs nobody
 * anything. Recipient and content flows: messages and recipients of a user, client network, sender,
 * domain (the recipient's in recipient flows, the sender's in content flows) or listener.
 */
#include "flow/blocks.h"

#include "event/event.h"

enum by { BY_CLIENT, BY_USER, BY_SENDER, BY_DOMAIN, BY_LISTENER };
enum { UNDER, OVER };
enum { NETWORK_FACTOR = 5 }; /* one wrong password in a phone must not lock an office out */

struct parameters {
    int by;
    struct option_rate failures;
    struct option_rate client_failures;
    struct option_rate messages;
    struct option_rate recipients;
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
    {.name = NULL},
};
static const struct option_table table = {
    .name = "limit",
    .text = "Counts, and acts when there is too much.",
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
    if (parameters->messages.count || parameters->recipients.count)
        complain(compiling, node, step, parameters->messages.count ? "messages" : "recipients",
                 "an authentication flow counts failures only", STR("say failures: 10/15m"));
    if (!parameters->client_failures.count) {
        parameters->client_failures = parameters->failures;
        parameters->client_failures.count *= NETWORK_FACTOR;
    }
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    if (compiling->flow->type == FLOW_AUTHENTICATION) {
        prepare_authentication(compiling, step, node);
        return;
    }
    if (parameters->failures.count || parameters->client_failures.count)
        complain(compiling, node, step, "failures", "failures are counted in authentication flows",
                 STR("say messages: or recipients:"));
    if (parameters->messages.count && compiling->flow->type == FLOW_RECIPIENT)
        complain(compiling, node, step, "messages", "messages are counted in content flows",
                 STR("say recipients: here, or put the limit into the content flow"));
    if (!parameters->messages.count && !parameters->recipients.count)
        complain(compiling, node, step, "recipients", "this limit has no number",
                 STR("add recipients: 500/1h"));
}

/* ---- running ---- */

/* Count, or look whether there is room; false: over. */
static MAY_YIELD enum result ask(struct flow_running *running, struct str key,
                                 const struct option_rate *rate, uint64_t amount, bool peek,
                                 bool *out_allowed, struct error *err)
{
    struct state_limit_answer answer;
    if (state_limit(running->run->state, key, amount, rate->count, rate->period_ns, peek, &answer,
                    err) != OK)
        return FAILED;
    *out_allowed = answer.allowed;
    if (!answer.allowed)
        running->detail =
            arena_printf(running->run->arena, "%llu of %llu used, room in %lld s",
                         (unsigned long long)answer.count, (unsigned long long)rate->count,
                         (long long)(answer.retry_in_ns / NS_PER_S) + 1);
    return OK;
}

static void pending_add(struct flow_running *running, struct str key,
                        const struct option_rate *rate)
{
    if (running->pending_count == FLOW_PENDING_MAX)
        return;
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
    if (ask(running, by_login, &parameters->failures, 1, /* peek= */ true, out_allowed, err) != OK)
        return FAILED;
    if (!*out_allowed)
        return OK;
    if (ask(running, by_network, &parameters->client_failures, 1, /* peek= */ true, out_allowed,
            err) != OK)
        return FAILED;
    if (*out_allowed) {
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

static MAY_YIELD enum result run_transaction(struct flow_running *running,
                                             const struct flow_step *step, bool *out_allowed,
                                             struct error *err)
{
    const struct parameters *parameters = step->parameters;
    struct arena *arena = running->run->arena;
    struct str subject = subject_of(running, (enum by)parameters->by);
    uint64_t recipients =
        running->flow->type == FLOW_RECIPIENT ? 1 : running->facts.recipient_count;
    *out_allowed = true;
    if (!subject.len) {
        running->detail = STR("nobody to count for");
        return OK;
    }
    if (subject.len > 320) /* longer than any address */
        subject =
            flow_keyed_hash(running, state_kept_secret(running->run->state), subject, STR_EMPTY);
    if (parameters->recipients.count) {
        struct str key =
            arena_printf(arena, "limit:%.*s:recipients:%.*s", STR_ARG(step->key), STR_ARG(subject));
        if (ask(running, key, &parameters->recipients, recipients, /* peek= */ false, out_allowed,
                err) != OK)
            return FAILED;
    }
    if (*out_allowed && parameters->messages.count) {
        struct str key =
            arena_printf(arena, "limit:%.*s:messages:%.*s", STR_ARG(step->key), STR_ARG(subject));
        return ask(running, key, &parameters->messages, 1, /* peek= */ false, out_allowed, err);
    }
    return OK;
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
    .text = "counts failures, messages or recipients, and acts when there are too many",
    .flows = FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .built = true,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = flow_changes_no_field,
};
