/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/antivirus.c - asks ClamAV's clamd whether there is malware in the message.
 */
#include "flow/blocks.h"

#include "content/clamd.h"
#include "flow/scan_options.h"

enum { CLEAN, INFECTED, TOO_BIG, ERROR };

struct parameters {
    struct str server;
    uint64_t max_size;
};

static const struct option options[] = {
    FLOW_SCAN_SERVER_ROW("a server with clamd:"),
    FLOW_SCAN_SIZE_ROW("100M",
                       "larger messages are not scanned; clamd has its own limit, StreamMaxLength"),
    {.name = NULL},
};
static const struct option_table table = {
    .name = "antivirus",
    .text = "Asks a virus scanner.",
    .options = options,
    .shorthand = "server",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [CLEAN] = {.name = "clean", .key = "clean", .action = ACTION_NEXT, .text = "nothing was found"},
    [INFECTED] = {.name = "infected",
                  .key = "infected",
                  .action = ACTION_REJECT,
                  .reply = "554 5.7.1 This message contains malware",
                  .reason = MAIL_REASON_VIRUS,
                  .text = "malware was found; its name is in the trace"},
    [TOO_BIG] = {.name = "too-big",
                 .key = "too-big",
                 .action = ACTION_NEXT,
                 .reply = "552 5.3.4 This message is too large to be scanned",
                 .reason = MAIL_REASON_SIZE,
                 .text = "the message is larger than max_size, or than clamd takes: it was not "
                         "scanned"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_DEFER,
               .reply = "451 4.3.0 The virus scanner does not answer, try again later",
               .reason = MAIL_REASON_BACKEND_DOWN,
               .text = "clamd gave no answer"},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    step->prepared = flow_compile_server(compiling, parameters->server, 1u << SERVER_CLAMD,
                                         flow_place_of(node, "server", step->place));
}

static unsigned judge_stated(struct flow_running *running, const struct flow_step *step,
                             const struct directory_stated_source *stated)
{
    if (!stated)
        return ERROR;
    if (stated->too_big)
        return TOO_BIG;
    running->detail = stated->virus;
    if (stated->virus.len)
        flow_add_finding(running, step, stated->virus, STR("virus"));
    return stated->virus.len ? INFECTED : CLEAN;
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    struct arena *arena = running->run->arena;
    struct scanner scanner = flow_scanner(running, step->prepared);
    const struct directory_stated_source *stated;
    struct clamd_answer answer;
    if (running->facts.size > parameters->max_size) {
        *out_outcome = TOO_BIG;
        return OK;
    }
    if (flow_scan_is_stated(running, step->prepared, &stated)) {
        *out_outcome = judge_stated(running, step, stated);
        return OK;
    }
    if (clamd_scan(&scanner, running->run->content, arena, &answer, err) != OK) {
        *out_outcome = ERROR;
        running->detail = arena_str(arena, str_c(err->text));
        return OK;
    }
    *out_outcome = answer.result == CLAMD_FOUND     ? INFECTED
                   : answer.result == CLAMD_TOO_BIG ? TOO_BIG
                                                    : CLEAN;
    running->detail = answer.name;
    if (*out_outcome == INFECTED)
        flow_add_finding(running, step, answer.name, STR("virus"));
    return OK;
}

const struct flow_block flow_block_antivirus = {
    .name = "antivirus",
    .text = "asks ClamAV whether there is malware in the message",
    .flows = FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .asks_world = true,
    .changes_field = flow_changes_no_field,
    .finds = true,
};
