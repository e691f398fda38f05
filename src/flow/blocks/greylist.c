/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/greylist.c - asks who is not known to come again (RFC 6647).
 *
 * What is known: client network, sender and recipient together. The first time is deferred; who
 * comes back after `delay` and within `retry` is known for `keep`. A network that has come back
 * often enough is known for all of its mail. Everything lies in the module state and outlives a
 * restart; senders and recipients only as keyed hashes.
 */
#include "flow/blocks.h"

#include "base/clock.h"

#include <string.h>

enum { KNOWN, UNKNOWN, ERROR };

struct parameters {
    int64_t delay_ns;
    int64_t retry_ns;
    int64_t keep_ns;
    int64_t trust_after;
};

static const struct option options[] = {
    {.name = "delay",
     .type = OPTION_DURATION,
     .offset = offsetof(struct parameters, delay_ns),
     .fallback = "2m",
     .min = NS_PER_S,
     .max = 86400 * NS_PER_S,
     .text = "who comes back sooner is asked again"},
    {.name = "retry",
     .type = OPTION_DURATION,
     .offset = offsetof(struct parameters, retry_ns),
     .fallback = "2d",
     .min = 60 * NS_PER_S,
     .max = INT64_C(30) * 86400 * NS_PER_S,
     .text = "who comes back later begins anew"},
    {.name = "keep",
     .type = OPTION_DURATION,
     .offset = offsetof(struct parameters, keep_ns),
     .fallback = "35d",
     .min = 3600 * NS_PER_S,
     .max = INT64_C(366) * 86400 * NS_PER_S,
     .text = "how long who came back is known, counted from the last message"},
    {.name = "trust_after",
     .type = OPTION_INT,
     .offset = offsetof(struct parameters, trust_after),
     .fallback = "5",
     .min = 0,
     .max = 1000,
     .text = "a client network that came back so often is known whatever it sends; 0: never"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "greylist",
    .text = "Asks the client to come again, if client network, sender and recipient were not seen "
            "together before. Own users, postmaster and abuse are known.",
    .options = options,
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [KNOWN] = {.name = "known", .action = ACTION_NEXT, .text = "it came back, or is ours"},
    [UNKNOWN] = {.name = "unknown",
                 .key = "unknown",
                 .action = ACTION_DEFER,
                 .reply = "451 4.7.1 Greylisted, try again later",
                 .reason = MAIL_REASON_GREYLIST,
                 .text = "it has to come again"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_NOTE,
               .text = "the state gives no answer"},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    if (parameters->retry_ns <= parameters->delay_ns)
        flow_problem(compiling, CONFIG_ERROR, "wrong-value",
                     flow_place_of(node, "retry", step->place),
                     "retry must be longer than delay: nobody would ever be known");
}

/* A record of the state: when it was first seen (wall clock), or how often it came back. */
static enum result read_number(struct flow_running *running, struct str key, bool *out_found,
                               uint64_t *out, struct error *err) MAY_YIELD
{
    enum state_cache_status status;
    struct state_value value;
    *out_found = false;
    if (state_cache_get(running->run->state, key, /* stale_ns= */ 0, &status, &value, err) != OK)
        return FAILED;
    if (status == STATE_CACHE_HIT)
        *out_found = str_to_uint(str_of(value.bytes, value.len), UINT64_MAX, out);
    else
        state_cache_abandon(running->run->state, key);
    return OK;
}

static void write_number(struct flow_running *running, struct str key, uint64_t number,
                         int64_t life_ns)
{
    struct str text = arena_printf(running->run->arena, "%llu", (unsigned long long)number);
    state_cache_put_kept(running->run->state, key, text, life_ns, /* stale_ns= */ 0);
}

static bool is_ours(const struct flow_running *running)
{
    const struct flow_facts *facts = &running->facts;
    return facts->authenticated || facts->trusted ||
           str_starts_nocase(facts->recipient, STR("postmaster@")) ||
           str_starts_nocase(facts->recipient, STR("abuse@"));
}

/* Where the three are known by. The number 0 says that they came back. */
static struct str key_of(struct flow_running *running, const struct flow_step *step)
{
    struct arena *arena = running->run->arena;
    struct str hash =
        flow_keyed_hash(running, state_kept_secret(running->run->state),
                        arena_lower(arena, running->facts.sender), running->facts.recipient);
    return arena_printf(arena, "grey:%.*s:%.*s:%.*s", STR_ARG(step->key),
                        STR_ARG(flow_client_network(running)), STR_ARG(hash));
}

static enum result judge(struct flow_running *running, const struct flow_step *step,
                         bool *out_known, struct error *err) MAY_YIELD
{
    const struct parameters *parameters = step->parameters;
    struct str key = key_of(running, step);
    struct str network = arena_printf(running->run->arena, "grey:%.*s:%.*s", STR_ARG(step->key),
                                      STR_ARG(flow_client_network(running)));
    uint64_t now = (uint64_t)(clock_wall_ns() / NS_PER_S);
    uint64_t first = 0;
    uint64_t back = 0;
    bool seen;
    bool counted;
    if (read_number(running, network, &counted, &back, err) != OK ||
        read_number(running, key, &seen, &first, err) != OK)
        return FAILED;
    bool trusted = parameters->trust_after && counted && back >= (uint64_t)parameters->trust_after;
    bool came_back =
        seen && (first == 0 || now >= first + (uint64_t)(parameters->delay_ns / NS_PER_S));
    *out_known = trusted || came_back;
    if (trusted)
        write_number(running, network, back, parameters->keep_ns);
    if (came_back) {
        write_number(running, key, 0, parameters->keep_ns);
        if (first != 0)
            write_number(running, network, back + 1, parameters->keep_ns);
    } else if (!seen && !trusted) {
        write_number(running, key, now, parameters->retry_ns);
    }
    running->detail = trusted     ? STR("the client network is known")
                      : came_back ? STR("it came back")
                      : seen      ? STR("it came back too soon")
                                  : STR("seen for the first time");
    return OK;
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    bool known;
    *out_outcome = KNOWN;
    if (is_ours(running))
        return OK;
    if (judge(running, step, &known, err) != OK) {
        if (flow_is_over(NULL))
            return FAILED;
        running->detail = arena_str(running->run->arena, str_c(err->text));
        *out_outcome = ERROR;
        return OK;
    }
    *out_outcome = known ? KNOWN : UNKNOWN;
    return OK;
}

const struct flow_block flow_block_greylist = {
    .name = "greylist",
    .text = "asks unknown senders to come again",
    .flows = FLOW_IN_RECIPIENT,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .asks_world = true,
    .changes_field = flow_changes_no_field,
};
