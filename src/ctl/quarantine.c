/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/quarantine.c - `postern quarantine …`: what lies there, and the verbs on a selection. */
#include "base/buf.h"
#include "base/clock.h"
#include "config/option.h"
#include "ctl/list.h"
#include "ctl/selection.h"

#include <stdio.h>
#include <string.h>

enum { LIMITS_MAX = 256 };

static void print_line(const char *name, const char *text)
{
    if (!text[0])
        return;
    printf("  %-8s ", name);
    ctl_print_text(text);
    printf("\n");
}

static void print_reason(json_t *item)
{
    json_t *score = json_object_get(item, "score");
    printf("  %-8s %s", "reason", ctl_text(item, "reason"));
    if (json_is_number(score))
        printf(", score %.1f", json_number_value(score));
    if (ctl_text(item, "detail")[0]) {
        printf(": ");
        ctl_print_text(ctl_text(item, "detail"));
    }
    printf("\n");
}

static void print_item(json_t *item)
{
    size_t i;
    json_t *to;
    printf("%s", ctl_text(item, "entry"));
    ctl_print_moment("  ", item, "since");
    printf("  ");
    ctl_print_text(ctl_text(item, "quarantine"));
    printf("  %lld bytes\n", ctl_number(item, "size"));
    print_line("author", ctl_text(item, "author"));
    print_line("sender", ctl_text(item, "from")[0] ? ctl_text(item, "from") : "<>");
    json_array_foreach(json_object_get(item, "to"), i, to)
    {
        print_line("to", json_string_value(to));
    }
    print_line("subject", ctl_text(item, "subject"));
    print_reason(item);
    print_line("problem", ctl_text(item, "problem"));
}

/* What show tells besides. */
static void print_more(json_t *item)
{
    struct str findings = str_c(ctl_text(item, "findings")), line;
    print_item(item);
    print_line("message", ctl_text(item, "message"));
    printf("  %-8s ", "step");
    ctl_print_text(ctl_text(item, "flow"));
    printf(" / ");
    ctl_print_text(ctl_text(item, "step"));
    printf("\n");
    while (findings.len && str_split(&findings, '\n', &line)) {
        char text[1024];
        if (line.len && str_to_c(str_slice(line, 0, sizeof text - 1), text, sizeof text))
            print_line("finding", text);
    }
}

static int show(struct ctl *ctl, const struct ctl_list *list, const char *nothing)
{
    struct ctl_listed listed;
    int code = ctl_list(ctl, list, &listed);
    if (code)
        return code;
    if (!ctl->json && listed.shown == 0)
        printf("%s\n", nothing);
    else if (!ctl->json)
        printf("%s.  next: postern quarantine show ID | raw ID | release ID | delete ID\n",
               ctl_list_count(ctl, &listed));
    ctl_listed_free(&listed);
    return CTL_YES;
}

int ctl_quarantine_list(struct ctl *ctl)
{
    json_t *query = selection_take(ctl);
    const char *limit = selection_take_limit(ctl, query);
    ctl_arguments(ctl, 0, 0);
    const struct ctl_list list = {ctl_path_with(ctl, "/api/v1/quarantine/messages", query),
                                  "QuarantinedMessage", .limit = limit, .print = print_item};
    int code =
        show(ctl, &list, json_object_size(query) ? "nothing fits" : "nothing is in quarantine");
    json_decref(query);
    return code;
}

int ctl_quarantine_show(struct ctl *ctl)
{
    ctl_arguments(ctl, 1, 1);
    struct str path =
        arena_printf(ctl->arena, "/api/v1/quarantine/messages/%s", ctl_url_text(ctl, ctl->argv[0]));
    const struct ctl_list list = {path.ptr, "QuarantinedMessage", .print = print_more};
    return show(ctl, &list, "nothing fits");
}

int ctl_quarantine_raw(struct ctl *ctl)
{
    struct ctl_answer answer;
    ctl_arguments(ctl, 1, 1);
    struct str path = arena_printf(ctl->arena, "/api/v1/quarantine/messages/%s/raw",
                                   ctl_url_text(ctl, ctl->argv[0]));
    int code = ctl_request(ctl, "GET", path.ptr, NULL, &answer);
    if (code)
        return code;
    ctl_print_file(answer.body);
    return CTL_YES;
}

/* ---- verbs ---- */

/* --from-start, or --from start, which is no sender. */
static bool is_from_start(struct ctl *ctl, json_t *selectors_given)
{
    bool said = ctl_flag(ctl, "--from-start");
    if (strcmp(ctl_text(selectors_given, "from"), "start") != 0)
        return said;
    json_object_del(selectors_given, "from");
    return true;
}

static const struct selection kept = {
    "/api/v1/quarantine/actions", NULL, "message", "messages", " in quarantine", print_item};

static int act(struct ctl *ctl, const char *verb, bool final)
{
    bool ask;
    json_t *selectors = selection_take(ctl);
    bool from_start = !final && is_from_start(ctl, selectors);
    json_t *body = selection_take_action(ctl, verb, selectors, final, &ask);
    if (body && from_start)
        json_object_set_new(body, "from", json_string("start"));
    return body ? selection_act(ctl, &kept, verb, body, ask) : CTL_USAGE;
}

int ctl_quarantine_release(struct ctl *ctl)
{
    return act(ctl, "release", /* final= */ false);
}

int ctl_quarantine_delete(struct ctl *ctl)
{
    return act(ctl, "delete", /* final= */ true);
}

/* ---- the quarantines themselves ---- */

static void print_quarantine(json_t *item)
{
    printf("%-16s %7lld messages %12lld bytes", ctl_text(item, "quarantine"),
           ctl_number(item, "count"), ctl_number(item, "bytes"));
    if (!json_is_true(json_object_get(item, "configured"))) {
        printf("  not configured any more: they stay until you release or delete them\n");
        return;
    }
    struct buf limits BUF_CLEANUP;
    buf_init(&limits, LIMITS_MAX);
    buf_append(&limits, STR("keep "));
    option_print_duration(ctl_number(item, "keep_seconds") * NS_PER_S, &limits);
    buf_append(&limits, STR(", size "));
    option_print_size((uint64_t)ctl_number(item, "size"), &limits);
    printf("  %.*s, release by %s, digest %s\n", STR_ARG(buf_str(&limits)),
           ctl_text(item, "release_by"), ctl_text(item, "digest"));
}

static void print_quarantines(json_t *answer)
{
    size_t i;
    json_t *item;
    json_t *items = json_object_get(answer, "items");
    json_array_foreach(items, i, item) print_quarantine(item);
    if (json_array_size(items) == 0)
        printf("no quarantine is configured, and none holds mail\n");
    if (ctl_text(answer, "key")[0])
        printf("new mail is encrypted with the key %s\n", ctl_text(answer, "key"));
}

int ctl_quarantine_status(struct ctl *ctl)
{
    ctl_arguments(ctl, 0, 0);
    return ctl_show(ctl, "/api/v1/quarantines", print_quarantines);
}

static int post(struct ctl *ctl, const char *path, json_t *body, const char *name,
                const char *words)
{
    struct ctl_answer answer;
    int code = ctl_request(ctl, "POST", path, body, &answer);
    json_decref(body);
    if (code)
        return code;
    if (ctl->json)
        ctl_print(ctl, answer.json);
    else if (json_is_integer(json_object_get(answer.json, name)))
        printf("%s%lld\n", words, ctl_number(answer.json, name));
    else
        printf("%s%s\n", words, ctl_text(answer.json, name));
    json_decref(answer.json);
    return CTL_YES;
}

int ctl_quarantine_digest(struct ctl *ctl)
{
    ctl_arguments(ctl, 0, 1);
    json_t *body = json_object();
    if (ctl->argc == 1)
        json_object_set_new(body, "quarantine", json_string(ctl->argv[0]));
    return post(ctl, "/api/v1/quarantine/digests", body, "sent", "digests sent: ");
}

int ctl_quarantine_key(struct ctl *ctl)
{
    ctl_arguments(ctl, 0, 0);
    return post(ctl, "/api/v1/quarantine/keys", json_object(), "key",
                "what comes now is encrypted with the new key ");
}
