/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/login.c - what smtp, file and ldap have in common: asking through the cache.
 *
 * A yes is kept under (step, login, keyed hash of the password): a wrong password never meets a
 * cached yes, and nobody reads a password out of the cache. There is no stale yes, and a no is told
 * to those who asked the same at the same time, but not kept.
 */
#include "flow/flow_internal.h"

#include "base/buf.h"

enum { SENDERS_MAX = 32 };

const struct flow_outcome flow_login_outcomes[] = {
    [DIRECTORY_YES] = {.name = "yes",
                       .key = "yes",
                       .action = ACTION_ACCEPT,
                       .authenticates = true,
                       .text = "login and password are right"},
    [DIRECTORY_NO] = {.name = "no",
                      .key = "no",
                      .action = ACTION_NEXT,
                      .reply = "535 5.7.8 Authentication credentials invalid",
                      .reason = MAIL_REASON_PASSWORD_WRONG,
                      .text = "the password is wrong"},
    [DIRECTORY_UNKNOWN] = {.name = "unknown",
                           .key = "unknown",
                           .action = ACTION_NEXT,
                           .reply = "535 5.7.8 Authentication credentials invalid",
                           .reason = MAIL_REASON_USER_UNKNOWN,
                           .text = "there is no such user here"},
    [DIRECTORY_LOGIN_ERROR] = {.name = "error",
                               .key = "error",
                               .action = ACTION_NEXT,
                               .reply = "454 4.7.0 Temporary authentication failure",
                               .reason = MAIL_REASON_BACKEND_DOWN,
                               .text = "no answer could be had"},
    {.name = NULL},
};

enum { HUNG_UP = DIRECTORY_LOGIN_ERROR + 1 }; /* in the place of an outcome */

/* One byte outcome, then the sender addresses, each with a line feed behind it. */
static bool encode(const struct directory_answer *answer, struct buf *out)
{
    buf_append_byte(out, (char)('0' + (answer->hung_up ? HUNG_UP : (int)answer->login)));
    for (size_t i = 0; answer->login == DIRECTORY_YES && i < answer->sender_count; i++) {
        buf_append(out, answer->senders[i]);
        buf_append_byte(out, '\n');
    }
    return !out->overflow && answer->sender_count <= SENDERS_MAX;
}

static bool decode(const struct state_value *value, struct arena *arena,
                   struct directory_answer *out)
{
    *out = (struct directory_answer){0};
    if (value->len == 0 || value->bytes[0] < '0' || value->bytes[0] > '0' + HUNG_UP)
        return false;
    out->hung_up = value->bytes[0] == '0' + HUNG_UP;
    out->login =
        out->hung_up ? DIRECTORY_LOGIN_ERROR : (enum directory_login)(value->bytes[0] - '0');
    out->senders = arena_alloc_array(arena, SENDERS_MAX, sizeof *out->senders);
    struct str rest = str_of(value->bytes + 1, value->len - 1);
    struct str one;
    while (rest.len && out->sender_count < SENDERS_MAX && str_split(&rest, '\n', &one))
        out->senders[out->sender_count++] = arena_str(arena, one);
    return true;
}

static MAY_YIELD enum result ask_cached(struct flow_running *running, const struct flow_step *step,
                                        const struct flow_login *login,
                                        struct directory_answer *answer, struct error *err)
{
    struct state *state = running->run->state;
    struct arena *arena = running->run->arena;
    struct str hash = flow_keyed_hash(running, state_secret(running->run->state), running->login,
                                      running->password);
    struct str key = arena_printf(arena, "auth:%.*s:%.*s", STR_ARG(step->key), STR_ARG(hash));
    enum state_cache_status status;
    struct state_value value;
    if (state_cache_get(state, key, /* stale_ns= */ 0, &status, &value, err) != OK)
        return FAILED;
    if (status == STATE_CACHE_HIT && decode(&value, arena, answer)) {
        running->detail = STR("from the cache");
        return OK;
    }
    login->ask(running, step, answer);
    if (flow_is_over(err)) {
        state_cache_abandon(state, key); /* others who wait ask for themselves */
        return FAILED;
    }
    struct buf text BUF_CLEANUP;
    buf_init(&text, STATE_VALUE_MAX);
    if (encode(answer, &text)) {
        int64_t life_ns = answer->login == DIRECTORY_YES ? login->cache_ns : 0;
        if (answer->login == DIRECTORY_NO)
            state_cache_drop(state, key);
        state_cache_put(state, key, buf_str(&text), life_ns, /* stale_ns= */ 0);
    } else {
        state_cache_abandon(state, key);
    }
    return OK;
}

enum result flow_login_run(struct flow_running *running, const struct flow_step *step,
                           const struct flow_login *login, unsigned *out_outcome, struct error *err)
{
    struct directory_answer answer = {0};
    if (running->password.len == 0 || running->login.len == 0) {
        running->said_no = true;
        running->refused_by = step->block->name;
        running->detail = STR("empty password or login");
        *out_outcome = DIRECTORY_NO;
        return OK;
    }
    if (login->cache_ns <= 0)
        login->ask(running, step, &answer);
    else if (ask_cached(running, step, login, &answer, err) != OK)
        return FAILED;
    if (answer.login == DIRECTORY_YES) {
        running->own_addresses = answer.senders;
        running->own_address_count = answer.sender_count;
        running->account = login->account;
    }
    if (answer.login != DIRECTORY_YES && !running->had_error) {
        running->refused_by = step->block->name;
        running->refusal = arena_printf(running->run->arena, "%.*s: %s%s%.*s", STR_ARG(step->id),
                                        flow_login_outcomes[answer.login].name,
                                        answer.detail.len ? ", " : "", STR_ARG(answer.detail));
    }
    running->said_no |= answer.login == DIRECTORY_NO;
    running->said_unknown |= answer.login == DIRECTORY_UNKNOWN;
    running->had_error |= answer.login == DIRECTORY_LOGIN_ERROR;
    running->was_hung_up |= answer.hung_up;
    if (answer.detail.len)
        running->detail = answer.detail;
    *out_outcome = (unsigned)answer.login;
    return OK;
}
