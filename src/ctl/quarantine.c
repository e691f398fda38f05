/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/quarantine.c - `postern quarantine …`: what lies there, and the verbs on a selection. */
#include "base/buf.h"
#include "ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const selectors[] = {"id",         "to",    "from", "subject",
                                        "quarantine", "older", "limit"};
enum { SELECTORS = sizeof selectors / sizeof *selectors };

static json_t *take_selectors(struct ctl *ctl)
{
    json_t *object = json_object();
    for (size_t i = 0; i < SELECTORS; i++) {
        struct str option = arena_printf(ctl->arena, "--%s", selectors[i]);
        const char *value = ctl_option(ctl, option.ptr);
        if (value)
            json_object_set_new(object, selectors[i], json_string(value));
    }
    return object;
}

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
    printf("%s  %s  ", ctl_text(item, "entry"), ctl_text(item, "since"));
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

static int show(struct ctl *ctl, const char *path, void (*print)(json_t *item))
{
    struct ctl_answer answer;
    int code = ctl_request(ctl, "GET", path, NULL, &answer);
    if (code)
        return code;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(answer.json, "items"), i, item)
    {
        if (ctl->json)
            ctl_print_json(item);
        else
            print(item);
    }
    long long total = ctl_number(answer.json, "total");
    if (json_is_true(json_object_get(answer.json, "loading")))
        fprintf(stderr, "postern: the queue is still being loaded: this is not all of it\n");
    if (!ctl->json && total == 0)
        printf("nothing is in quarantine\n");
    else if (!ctl->json)
        printf("%zu of %lld shown.  next: postern quarantine show ID | raw ID | release ID | "
               "delete ID\n",
               json_array_size(json_object_get(answer.json, "items")), total);
    json_decref(answer.json);
    return CTL_YES;
}

int ctl_quarantine_list(struct ctl *ctl)
{
    struct buf path BUF_CLEANUP;
    const char *name;
    json_t *value;
    char separator = '?';
    json_t *object = take_selectors(ctl);
    ctl_arguments(ctl, 0, 0);
    buf_init(&path, 64 * 1024);
    buf_append(&path, STR("/api/v1/quarantine/messages"));
    json_object_foreach(object, name, value)
    {
        buf_printf(&path, "%c%s=%s", separator, name, ctl_url_text(ctl, json_string_value(value)));
        separator = '&';
    }
    int code = show(ctl, arena_c(ctl->arena, buf_str(&path)), print_item);
    json_decref(object);
    return code;
}

int ctl_quarantine_show(struct ctl *ctl)
{
    ctl_arguments(ctl, 1, 1);
    struct str path =
        arena_printf(ctl->arena, "/api/v1/quarantine/messages/%s", ctl_url_text(ctl, ctl->argv[0]));
    return show(ctl, path.ptr, print_more);
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
    fwrite(answer.body.ptr, 1, answer.body.len, stdout);
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

/* NULL: it makes no sense, and that was said. */
static json_t *take_action(struct ctl *ctl, const char *verb, bool *out_ask)
{
    json_t *object = take_selectors(ctl);
    bool from_start = strcmp(verb, "release") == 0 && is_from_start(ctl, object);
    json_t *body =
        ctl_take_action(ctl, verb, object, /* final= */ strcmp(verb, "delete") == 0, out_ask);
    if (body && from_start)
        json_object_set_new(body, "from", json_string("start"));
    return body;
}

static void print_action(struct ctl *ctl, const char *verb, json_t *answer)
{
    long long matched = ctl_number(answer, "matched"), done = ctl_number(answer, "count");
    long long unreadable = ctl_number(answer, "unreadable");
    size_t i;
    json_t *item;
    if (ctl->json) {
        ctl_print_json(answer);
    } else if (json_is_true(json_object_get(answer, "dry_run"))) {
        json_array_foreach(json_object_get(answer, "sample"), i, item)
        {
            print_item(item);
        }
        printf("%s would act on %lld %s.  next: the same with --expect %lld instead of --dry-run\n",
               verb, matched, matched == 1 ? "message" : "messages", matched);
    } else {
        printf("%s: %lld of %lld %s\n", verb, done, matched, matched == 1 ? "message" : "messages");
    }
    ctl_warn_of_failed(answer);
    if (unreadable)
        fprintf(stderr,
                "postern: %lld cannot be read: the key that they are encrypted with is missing "
                "(postern quarantine show ID names it)\n",
                unreadable);
}

static int act(struct ctl *ctl, const char *verb)
{
    struct ctl_answer answer;
    bool ask;
    json_t *body = take_action(ctl, verb, &ask);
    if (!body)
        return CTL_USAGE;
    char *text = json_dumps(json_object_get(body, "select"), 0);
    struct str question = arena_printf(ctl->arena, "%s everything in quarantine that fits %s?",
                                       verb, text ? text : "{}");
    free(text);
    if (ask && !ctl_confirm(ctl, question.ptr)) {
        json_decref(body);
        return CTL_NO;
    }
    int code = ctl_request(ctl, "POST", "/api/v1/quarantine/actions", body, &answer);
    json_decref(body);
    if (code)
        return code;
    print_action(ctl, verb, answer.json);
    bool dry_run = json_is_true(json_object_get(answer.json, "dry_run"));
    bool any = ctl_number(answer.json, dry_run ? "matched" : "count") > 0;
    bool failed = ctl_number(answer.json, "failed") > 0;
    json_decref(answer.json);
    return any && !failed ? CTL_YES : CTL_NO;
}

int ctl_quarantine_release(struct ctl *ctl)
{
    return act(ctl, "release");
}

int ctl_quarantine_delete(struct ctl *ctl)
{
    return act(ctl, "delete");
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
    printf("  keep %lldd, size %lld, release by %s, digest %s\n",
           ctl_number(item, "keep_seconds") / 86400, ctl_number(item, "size"),
           ctl_text(item, "release_by"), ctl_text(item, "digest"));
}

int ctl_quarantine_status(struct ctl *ctl)
{
    struct ctl_answer answer;
    size_t i;
    json_t *item;
    ctl_arguments(ctl, 0, 0);
    int code = ctl_request(ctl, "GET", "/api/v1/quarantines", NULL, &answer);
    if (code)
        return code;
    if (ctl->json) {
        ctl_print_json(answer.json);
    } else {
        json_t *items = json_object_get(answer.json, "items");
        json_array_foreach(items, i, item)
        {
            print_quarantine(item);
        }
        if (json_array_size(items) == 0)
            printf("no quarantine is configured, and none holds mail\n");
        if (ctl_text(answer.json, "key")[0])
            printf("new mail is encrypted with the key %s\n", ctl_text(answer.json, "key"));
    }
    json_decref(answer.json);
    return CTL_YES;
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
        ctl_print_json(answer.json);
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
