/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/lookup.c - what the lookup blocks have in common: asking through the cache.
 *
 * found and missing are kept for their times. A found that is past its time outlives an outage by
 * `stale`: when the source gives no answer, it is believed and asked again a minute later. denied
 * and error are told to those who wait for the same address, but never kept.
 */
#include "flow/flow_internal.h"

#include "base/buf.h"

#include <string.h>

enum { STALE_RETRY_S = 60 };

const struct flow_outcome flow_lookup_outcomes[] = {
    [DIRECTORY_FOUND] = {.name = "found",
                         .key = "found",
                         .action = ACTION_ACCEPT,
                         .vouches = true,
                         .reply = "550 5.7.1 Recipient not accepted",
                         .reason = MAIL_REASON_POLICY,
                         .text = "the recipient exists"},
    [DIRECTORY_MISSING] = {.name = "missing",
                           .key = "missing",
                           .action = ACTION_REJECT,
                           .reply = "550 5.1.1 Recipient address unknown",
                           .reason = MAIL_REASON_RECIPIENT_UNKNOWN,
                           .text = "there is no such recipient"},
    [DIRECTORY_DENIED] = {.name = "denied",
                          .key = "denied",
                          .action = ACTION_DEFER,
                          .reply = "451 4.7.1 Recipient cannot be verified now",
                          .reason = MAIL_REASON_RECIPIENT_UNVERIFIED,
                          .text = "the server refuses the question, not the recipient"},
    [DIRECTORY_ERROR] = {.name = "error",
                         .key = "error",
                         .action = ACTION_DEFER,
                         .reply = "451 4.4.3 Recipient cannot be verified now",
                         .reason = MAIL_REASON_BACKEND_DOWN,
                         .text = "no answer could be had"},
    {.name = NULL},
};

/* What is kept: plain memory of this process, never stored. */
struct kept {
    int64_t found_at_ns; /* when the source said so */
    unsigned char lookup;
    unsigned short code;
    struct mail_enhanced enhanced;
    unsigned short text_len; /* of the server's words, behind the struct */
};

static size_t encode(const struct directory_answer *answer, int64_t found_at_ns,
                     char out[STATE_VALUE_MAX])
{
    struct kept kept = {.found_at_ns = found_at_ns,
                        .lookup = (unsigned char)answer->lookup,
                        .code = answer->reply.code,
                        .enhanced = answer->reply.enhanced};
    struct str text = str_slice(answer->reply.text, 0, STATE_VALUE_MAX - sizeof kept);
    kept.text_len = (unsigned short)text.len;
    memcpy(out, &kept, sizeof kept);
    if (text.len)
        memcpy(out + sizeof kept, text.ptr, text.len);
    return sizeof kept + text.len;
}

static bool decode(const struct state_value *value, struct arena *arena,
                   struct directory_answer *out, int64_t *out_found_at_ns)
{
    struct kept kept;
    *out = (struct directory_answer){0};
    if (value->len < sizeof kept)
        return false;
    memcpy(&kept, value->bytes, sizeof kept);
    if (kept.text_len > value->len - sizeof kept)
        return false;
    out->lookup = (enum directory_lookup)kept.lookup;
    out->reply.code = kept.code;
    out->reply.enhanced = kept.enhanced;
    out->reply.text = arena_str(arena, str_of(value->bytes + sizeof kept, kept.text_len));
    *out_found_at_ns = kept.found_at_ns;
    return true;
}

struct flight { /* one question that this fiber has the duty to answer */
    struct flow_running *running;
    const struct flow_lookup *lookup;
    struct str key;
};

static void keep(const struct flight *flight, const struct directory_answer *answer,
                 int64_t found_at_ns, int64_t life_ns, int64_t stale_ns)
{
    char bytes[STATE_VALUE_MAX];
    size_t len = encode(answer, found_at_ns, bytes);
    state_cache_put_kept(flight->running->run->state, flight->key, str_of(bytes, len), life_ns,
                         stale_ns);
}

/* The source gave no answer, but it knew the recipient not too long ago. */
static void keep_stale(const struct flight *flight, const struct directory_answer *stale,
                       int64_t found_at_ns)
{
    int64_t end_ns = found_at_ns + flight->lookup->cache_ns + flight->lookup->stale_ns;
    int64_t life_ns = STALE_RETRY_S * NS_PER_S;
    int64_t left_ns = end_ns - clock_steady_wall_ns() - life_ns;
    keep(flight, stale, found_at_ns, life_ns, left_ns > 0 ? left_ns : 0);
}

static void settle(const struct flight *flight, const struct directory_answer *answer)
{
    const struct flow_lookup *lookup = flight->lookup;
    int64_t now_ns = clock_steady_wall_ns(); /* it may be read after a restart */
    int64_t life_ns = 0;
    int64_t stale_ns = 0;
    if (answer->lookup == DIRECTORY_FOUND) {
        life_ns = lookup->cache_ns;
        stale_ns = lookup->stale_ns;
        if (life_ns == 0 && stale_ns > 0)
            life_ns = 1; /* kept for an outage only */
    } else if (answer->lookup == DIRECTORY_MISSING) {
        life_ns = lookup->cache_missing_ns;
        if (life_ns == 0) /* it was known and is no more: no stale yes from now on */
            life_ns = 1;
    }
    keep(flight, answer, now_ns, life_ns, stale_ns);
}

static MAY_YIELD void ask(struct flow_running *running, const struct flow_step *step,
                          const struct flow_lookup *lookup, struct directory_answer *out)
{
    *out = (struct directory_answer){.lookup = DIRECTORY_ERROR};
    lookup->ask(running, step, out);
}

static MAY_YIELD enum result ask_cached(struct flow_running *running, const struct flow_step *step,
                                        const struct flow_lookup *lookup,
                                        struct directory_answer *answer, struct error *err)
{
    struct arena *arena = running->run->arena;
    struct flight flight = {.running = running, .lookup = lookup};
    flight.key = arena_printf(arena, "rcpt:%.*s:%.*s", STR_ARG(lookup->key),
                              STR_ARG(running->facts.recipient));
    enum state_cache_status status;
    struct state_value value;
    struct directory_answer stale = {0};
    int64_t found_at_ns = 0;
    if (flight.key.len > 1024) {
        ask(running, step, lookup, answer);
        return OK;
    }
    if (state_cache_get(running->run->state, flight.key, lookup->stale_ns, &status, &value, err) !=
        OK)
        return FAILED;
    bool decoded = status != STATE_CACHE_MISS && decode(&value, arena, &stale, &found_at_ns);
    if (status == STATE_CACHE_HIT && decoded) {
        *answer = stale;
        running->detail = STR("from the cache");
        return OK;
    }
    ask(running, step, lookup, answer);
    if (flow_is_over(err)) {
        state_cache_abandon(running->run->state, flight.key); /* others ask for themselves */
        return FAILED;
    }
    if (answer->lookup == DIRECTORY_ERROR && decoded && stale.lookup == DIRECTORY_FOUND) {
        keep_stale(&flight, &stale, found_at_ns);
        running->detail = arena_printf(arena, "stale answer, for: %.*s", STR_ARG(answer->detail));
        stale.detail = running->detail;
        *answer = stale;
        return OK;
    }
    settle(&flight, answer);
    return OK;
}

enum result flow_lookup_run(struct flow_running *running, const struct flow_step *step,
                            const struct flow_lookup *lookup, unsigned *out_outcome,
                            struct error *err)
{
    struct directory_answer answer = {0};
    if (lookup->cache_ns <= 0 && lookup->cache_missing_ns <= 0 && lookup->stale_ns <= 0)
        ask(running, step, lookup, &answer);
    else if (ask_cached(running, step, lookup, &answer, err) != OK)
        return FAILED;
    if (answer.lookup == DIRECTORY_MISSING)
        running->said_missing = true;
    else if (answer.lookup != DIRECTORY_FOUND)
        running->had_error = true;
    /* the server's own words, where it speaks about the recipient */
    if (answer.lookup == DIRECTORY_MISSING && answer.reply.code) {
        running->reply = answer.reply;
        if (!running->reply.enhanced.class)
            running->reply.enhanced = (struct mail_enhanced){5, 1, 1};
    }
    if (answer.detail.len)
        running->detail = answer.detail;
    *out_outcome = (unsigned)answer.lookup;
    return OK;
}
