/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/selection.c - which mail a command means, and what a verb did to it.
 *
 * The queue and the quarantine share it: selectors, --all, --dry-run, --expect, the question to a
 * person, and the words about the outcome.
 */
#include "ctl/list.h"
#include "ctl/selection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct selector selection_selectors[] = {
    {"--id", "ID", "an entry or a message, or its first 8 characters", SELECTION_BOTH},
    {"--to", "ADDRESS", "a recipient, or @domain", SELECTION_BOTH},
    {"--from", "ADDRESS", "the sender, or @domain", SELECTION_BOTH},
    {"--user", "LOGIN", "sent by who logged in so", SELECTION_QUEUE},
    {"--transport", "NAME", "the way out", SELECTION_QUEUE},
    {"--destination", "NAME", "a domain or a server, as it is listed", SELECTION_QUEUE},
    {"--state", "STATE", "ready, waiting, inflight, held, content or paused", SELECTION_QUEUE},
    {"--cause", "C", "a last answer of that cause (postern queue causes)", SELECTION_QUEUE},
    {"--quarantine", "NAME", "lies in that one", SELECTION_QUARANTINE},
    {"--subject", "TEXT", "a part of the subject", SELECTION_QUARANTINE},
    {"--older", "AGE", "accepted at least so long ago: 90s, 15m, 2h, 3d", SELECTION_BOTH},
    {"--limit", "N", "so many at most, the oldest first", SELECTION_BOTH},
    {0},
};

unsigned selection_kind_of(const struct ctl_command *command)
{
    if (!strstr(command->usage, "SELECTORS"))
        return 0;
    return strcmp(command->noun, "quarantine") == 0 ? SELECTION_QUARANTINE : SELECTION_QUEUE;
}

json_t *selection_take(struct ctl *ctl)
{
    json_t *object = json_object();
    unsigned of = selection_kind_of(ctl->command);
    for (const struct selector *selector = selection_selectors; selector->option; selector++) {
        const char *value = selector->of & of ? ctl_option(ctl, selector->option) : NULL;
        if (value)
            json_object_set_new(object, selector->option + strlen("--"), json_string(value));
    }
    return object;
}

const char *selection_take_limit(struct ctl *ctl, json_t *selectors)
{
    const char *limit = ctl_text(selectors, "limit");
    limit = limit[0] ? arena_c(ctl->arena, str_c(limit)) : NULL;
    json_object_del(selectors, "limit");
    return limit;
}

/* ---- verbs ---- */

json_t *selection_take_action(struct ctl *ctl, const char *verb, json_t *object, bool final,
                              bool *out_ask)
{
    const char *expect = ctl_option(ctl, "--expect");
    bool all = ctl_flag(ctl, "--all");
    bool dry_run = ctl->dry_run;
    uint64_t expected = 0;
    ctl_arguments(ctl, 0, 1);
    if (ctl->argc == 1)
        json_object_set_new(object, "id", json_string(ctl->argv[0]));
    bool bulk = json_object_get(object, "id") == NULL;
    bool sound = json_object_size(object) > 0 || all;
    if (!sound)
        fprintf(stderr, "postern: name an ID, selectors, or --all\n");
    if (expect && !str_to_uint(str_c(expect), INT32_MAX, &expected)) {
        fprintf(stderr, "postern: --expect: how many you mean\n");
        sound = false;
    }
    *out_ask = (bulk || final) && !dry_run && !expect;
    json_t *body =
        json_pack("{s:s, s:s, s:o, s:b}", "verb", verb, "reason", ctl->reason ? ctl->reason : "",
                  "select", object, "dry_run", (int)dry_run);
    if (expect)
        json_object_set_new(body, "expect", json_integer((json_int_t)expected));
    if (sound)
        return body;
    json_decref(body);
    return NULL;
}

/* So many at once that a "y" is too little. */
static bool is_number_typed(long long count)
{
    char line[32] = "";
    fprintf(stderr, "this is final; type how many they are, to go on: ");
    return fgets(line, sizeof line, stdin) && atoll(line) == count;
}

/* What is selected is kept while a person looks at some of it: the order is for exactly that. */
static bool is_seen(struct ctl *ctl, const struct selection *what, const char *verb, json_t *body)
{
    enum { MANY = 1000 };
    struct ctl_answer answer;
    size_t i;
    json_t *item;
    bool dry = ctl->dry_run;
    json_t *wish = json_pack("{s:O}", "select", json_object_get(body, "select"));
    ctl->dry_run = false;
    const char *reason = ctl->reason;
    ctl->reason = NULL;
    int code = ctl_request(ctl, "POST", what->selections, wish, &answer);
    ctl->dry_run = dry;
    ctl->reason = reason;
    json_decref(wish);
    if (code)
        return false;
    long long count = ctl_number(answer.json, "count");
    json_array_foreach(json_object_get(answer.json, "sample"), i, item) what->print_item(item);
    ctl_warn_of_loading(answer.json);
    json_object_del(body, "select");
    json_object_set_new(body, "selection", json_string(ctl_text(answer.json, "selection")));
    json_decref(answer.json);
    struct str question =
        arena_printf(ctl->arena, "%s %lld %s?", verb, count, count == 1 ? what->one : what->many);
    if (strcmp(verb, "drop") == 0 && count > MANY)
        return is_number_typed(count);
    return ctl_confirm(ctl, question.ptr);
}

/* Bulk and final verbs ask first; --yes or no terminal means: do as told. */
static bool is_confirmed(struct ctl *ctl, const struct selection *what, const char *verb,
                         json_t *body)
{
    if (ctl->yes || !isatty(STDIN_FILENO))
        return true;
    if (what->selections)
        return is_seen(ctl, what, verb, body);
    char *text = json_dumps(json_object_get(body, "select"), 0);
    struct str question = arena_printf(ctl->arena, "%s everything%s that fits %s?", verb,
                                       what->where, text ? text : "{}");
    free(text);
    return ctl_confirm(ctl, question.ptr);
}

/* Why a verb leaves an entry as it is. */
static const char *why_not(const char *verb)
{
    static const struct {
        const char *verb, *why;
    } rows[] = {
        {"retry", "is held, being delivered, or due already"},
        {"hold", "is held already"},
        {"release", "is not held, or its account is contained (postern incident list)"},
        {"fail", "is of an account that is contained (postern incident list)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].verb, verb) == 0)
            return rows[i].why;
    return "has left meanwhile";
}

static void print_outcome(const struct selection *what, const char *verb, json_t *answer)
{
    long long matched = ctl_number(answer, "matched"), done = ctl_number(answer, "count");
    long long excused = ctl_number(answer, "failed") + ctl_number(answer, "unreadable");
    const char *noun = matched == 1 ? what->one : what->many;
    if (matched == 0) {
        printf("%s: nothing fits\n", verb);
    } else if (json_is_true(json_object_get(answer, "dry_run"))) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(answer, "sample"), i, item) what->print_item(item);
        printf("%s would act on %lld %s.  next: the same with --expect %lld instead of --dry-run\n",
               verb, matched, noun, matched);
    } else {
        printf("%s: %lld of %lld %s", verb, done, matched, noun);
        if (done + excused < matched)
            printf("; the rest %s", why_not(verb));
        printf("\n");
    }
}

static void warn_of_trouble(json_t *answer)
{
    long long failed = ctl_number(answer, "failed");
    long long unreadable = ctl_number(answer, "unreadable");
    if (failed > 0)
        fprintf(stderr,
                "postern: %lld could not be done, as the spool could not be read or written; "
                "nothing happened to them: give the order again\n",
                failed);
    if (unreadable > 0)
        fprintf(stderr,
                "postern: %lld cannot be read: the key that they are encrypted with is missing "
                "(postern quarantine show ID names it)\n",
                unreadable);
    ctl_warn_of_loading(answer);
}

int selection_act(struct ctl *ctl, const struct selection *what, const char *verb, json_t *body,
                  bool ask)
{
    struct ctl_answer answer;
    if (ask && !is_confirmed(ctl, what, verb, body)) {
        json_decref(body);
        return CTL_NO;
    }
    int code = ctl_request(ctl, "POST", what->actions, body, &answer);
    json_decref(body);
    if (code)
        return code;
    if (ctl->json)
        ctl_print(ctl, answer.json);
    else
        print_outcome(what, verb, answer.json);
    warn_of_trouble(answer.json);
    bool dry_run = json_is_true(json_object_get(answer.json, "dry_run"));
    bool any = ctl_number(answer.json, dry_run ? "matched" : "count") > 0;
    bool failed = ctl_number(answer.json, "failed") > 0;
    json_decref(answer.json);
    return any && failed ? CTL_PARTLY : any ? CTL_YES : CTL_NO;
}
