/* SPDX-License-Identifier: Apache-2.0 */
/* flow/backend.c - the steps of a flow that ask about logins and recipients, one by one. */
#include "flow/flow_internal.h"

#include <string.h>

static size_t count_backends(const struct flow_steps *steps)
{
    size_t count = 0;
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        count += step->block->ask != NULL;
        for (unsigned k = 0; k < step->outcome_count; k++)
            if (step->actions[k].kind == ACTION_BRANCH)
                count += count_backends(&step->actions[k].branch);
    }
    return count;
}

/* The parameter of this name, if the block has one. */
static bool read_text(const struct flow_step *step, const char *name, struct str *out)
{
    for (const struct option *row = step->block->options->options; row->name; row++) {
        if (strcmp(row->name, name) != 0)
            continue;
        memcpy(out, (const char *)step->parameters + row->offset, sizeof *out);
        return true;
    }
    return false;
}

static struct flow_backend describe(const struct flow *flow, const struct flow_step *step)
{
    bool is_login = flow->type == FLOW_AUTHENTICATION;
    enum flow_action_kind found = is_login ? ACTION_ACCEPT : step->actions[DIRECTORY_FOUND].kind;
    struct flow_backend backend = {
        .flow = flow->name,
        .block = step->block->name,
        .place = step->place,
        .source = STR_EMPTY,
        .is_login = is_login,
        .found_is_no = found == ACTION_REJECT || found == ACTION_DEFER,
        .step = step,
    };
    if (!read_text(step, "server", &backend.source))
        backend.is_file = read_text(step, "path", &backend.source);
    return backend;
}

static void collect(const struct flow *flow, const struct flow_steps *steps,
                    struct flow_backend *out, size_t *count)
{
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        if (step->block->ask)
            out[(*count)++] = describe(flow, step);
        for (unsigned k = 0; k < step->outcome_count; k++)
            if (step->actions[k].kind == ACTION_BRANCH)
                collect(flow, &step->actions[k].branch, out, count);
    }
}

void flow_backends(const struct flow *flow, struct arena *arena, struct flow_backend **out,
                   size_t *out_count)
{
    *out_count = 0;
    *out = arena_alloc_array(arena, count_backends(&flow->steps) + 1, sizeof **out);
    collect(flow, &flow->steps, *out, out_count);
}

void flow_backend_ask(const struct flow_backend *backend, struct directory *directory,
                      struct str who, struct str password, struct arena *arena,
                      struct directory_answer *out)
{
    struct flow_run run = {.arena = arena, .directory = directory};
    ptrdiff_t at = str_find_last(who, '@');
    struct flow_running running = {
        .run = &run,
        .facts = {.recipient = who,
                  .recipient_domain = at < 0 ? STR_EMPTY : str_from(who, (size_t)at + 1)},
        .login = who,
        .password = password,
    };
    *out = (struct directory_answer){.lookup = DIRECTORY_ERROR};
    if (backend->is_login)
        out->login = DIRECTORY_LOGIN_ERROR;
    backend->step->block->ask(&running, backend->step, out);
}
