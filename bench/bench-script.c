/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/bench-script.c - what a small script costs a message: processor time of a run, with its
 * state, and the memory it has at most. ninja bench-script && ./bench-script
 */
#include "script/script.h"

#include <stdio.h>
#include <time.h>

static double used_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static enum result give_sender(struct script_call *call, struct error *err)
{
    (void)err;
    script_return_text(call, STR("ann@example.org"));
    return OK;
}

static const struct script_row rows[] = {
    {.name = "sender", .text = "the sender", .where = 1, .answer = give_sender},
    {.name = NULL},
};
static const struct script_object object = {.name = "mail", .rows = rows, .where = 1};

static const char small[] = "local blocked = { ['x@example.org'] = true }\n"
                            "function content(mail)\n"
                            "  if blocked[mail.sender] then return 'reject' end\n"
                            "  if mail.sender:match('@example%.org$') then return 'deliver' end\n"
                            "end\n";
static const char large[] =
    "local words = {}\n"
    "for i = 1, 1000 do words[i] = 'word' .. i end\n"
    "function content(mail)\n"
    "  local found = coroutine.wrap(function()\n"
    "    for i, word in ipairs(words) do\n"
    "      if mail.sender:find(word, 1, true) then return i end\n"
    "    end\n"
    "  end)()\n"
    "  return found and 'hold' or 'deliver', table.concat(words, ' ', 1, 9)\n"
    "end\n";

/* Off a fiber nothing of it can suspend. */
NO_YIELD_CHECK static int measure(const char *name, const char *text, unsigned runs)
{
    struct arena *arena = arena_new(0);
    struct script_loading loading = {.arena = arena};
    struct script *script;
    struct script_problem problem;
    if (script_load_text(&loading, STR("bench"), str_c(text), &script, &problem) != OK) {
        printf("%s: %.*s\n", name, STR_ARG(problem.text));
        return 1;
    }
    struct script_outcome outcome = {.memory = 0};
    double begin_us = used_us();
    for (unsigned i = 0; i < runs; i++) {
        struct arena *of_run = arena_new(0);
        struct script_run run = {
            .script = script, .function = STR("content"), .argument = &object, .arena = of_run};
        if (script_run(&run, &outcome) != OK)
            return 1;
        arena_free(of_run);
    }
    printf("%s: %.1f us a run, %zu bytes, %llu steps of work\n", name,
           (used_us() - begin_us) / runs, outcome.memory, (unsigned long long)outcome.work);
    arena_free(arena);
    return 0;
}

int main(void)
{
    return measure("small", small, 20000) | measure("large", large, 1000);
}
