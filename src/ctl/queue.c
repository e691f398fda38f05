/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/queue.c - `postern queue …`: list, show, and the verbs on a selection. */
#include "base/buf.h"
#include "ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const selectors[] = {"id",          "to",    "from",  "transport",
                                        "destination", "state", "older", "limit"};
enum { SELECTORS = sizeof selectors / sizeof *selectors };

/* Take the selector options out of the arguments into an object. */
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

static const char *list_path(struct ctl *ctl, json_t *object)
{
    struct buf path;
    buf_init(&path, 64 * 1024);
    buf_append(&path, STR("/api/v1/queue/messages"));
    const char *name;
    json_t *value;
    char separator = '?';
    json_object_foreach(object, name, value)
    {
        buf_printf(&path, "%c%s=%s", separator, name, ctl_url_text(ctl, json_string_value(value)));
        separator = '&';
    }
    const char *copy = arena_c(ctl->arena, buf_str(&path));
    buf_done(&path);
    return copy;
}

static void print_item(json_t *item)
{
    printf("%s  %-8s %8lld  %s -> ", ctl_text(item, "entry"), ctl_text(item, "state"),
           ctl_number(item, "size"), ctl_text(item, "transport"));
    ctl_print_text(ctl_text(item, "destination"));
    printf("\n  from ");
    ctl_print_text(ctl_text(item, "from")[0] ? ctl_text(item, "from") : "<>");
    printf("  attempts %lld", ctl_number(item, "attempt"));
    if (ctl_text(item, "next_try")[0])
        printf("  next %s", ctl_text(item, "next_try"));
    if (ctl_text(item, "give_up")[0])
        printf("  gives up %s", ctl_text(item, "give_up"));
    if (ctl_text(item, "reason")[0] && strcmp(ctl_text(item, "reason"), "none") != 0)
        printf("  held: %s", ctl_text(item, "reason"));
    printf("\n");
    size_t i;
    json_t *recipient;
    json_array_foreach(json_object_get(item, "to"), i, recipient)
    {
        printf("  to ");
        ctl_print_text(ctl_text(recipient, "to"));
        if (ctl_text(recipient, "reply")[0]) {
            printf("  ");
            ctl_print_text(ctl_text(recipient, "reply"));
        }
        printf("\n");
    }
    if (ctl_text(item, "error")[0]) {
        printf("  last error: ");
        ctl_print_text(ctl_text(item, "error"));
        printf("\n");
    }
}

static int show_list(struct ctl *ctl, const char *path)
{
    struct ctl_answer answer;
    int code = ctl_request(ctl, "GET", path, NULL, &answer);
    if (code)
        return code;
    json_t *items = json_object_get(answer.json, "items");
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item)
    {
        if (ctl->json)
            ctl_print_json(item);
        else
            print_item(item);
    }
    long long total = ctl_number(answer.json, "total");
    if (!ctl->json && total == 0)
        printf("nothing waits\n");
    else if (!ctl->json)
        printf("%zu of %lld shown.  next: postern queue show ID | retry ID | message raw ID\n",
               json_array_size(items), total);
    json_decref(answer.json);
    return CTL_YES;
}

int ctl_queue_list(struct ctl *ctl)
{
    json_t *object = take_selectors(ctl);
    ctl_arguments(ctl, 0, 0);
    int code = show_list(ctl, list_path(ctl, object));
    json_decref(object);
    return code;
}

int ctl_queue_show(struct ctl *ctl)
{
    ctl_arguments(ctl, 1, 1);
    struct str path =
        arena_printf(ctl->arena, "/api/v1/queue/messages/%s", ctl_url_text(ctl, ctl->argv[0]));
    return show_list(ctl, path.ptr);
}

/* Bulk and final verbs ask first; --yes or no terminal means: do as told. */
static bool is_confirmed(struct ctl *ctl, const char *verb, json_t *object)
{
    if (ctl->yes || !isatty(STDIN_FILENO))
        return true;
    char *text = json_dumps(object, 0);
    fprintf(stderr, "%s everything that fits %s? [y/N] ", verb, text ? text : "{}");
    char line[16] = "";
    bool yes = fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y');
    free(text);
    return yes;
}

static int act(struct ctl *ctl, const char *verb, bool final)
{
    json_t *object = take_selectors(ctl);
    const char *reason = ctl_option(ctl, "--reason");
    bool all = ctl_flag(ctl, "--all");
    ctl_arguments(ctl, 0, 1);
    if (ctl->argc == 1)
        json_object_set_new(object, "id", json_string(ctl->argv[0]));
    bool bulk = json_object_get(object, "id") == NULL;
    if (json_object_size(object) == 0 && !all) {
        fprintf(stderr, "postern: name an ID, selectors, or --all\n");
        json_decref(object);
        return CTL_USAGE;
    }
    if ((bulk || final) && !is_confirmed(ctl, verb, object)) {
        json_decref(object);
        return CTL_NO;
    }
    json_t *body = json_pack("{s:s, s:s, s:o}", "verb", verb, "reason", reason ? reason : "",
                             "select", object);
    struct ctl_answer answer;
    int code = ctl_request(ctl, "POST", "/api/v1/queue/actions", body, &answer);
    json_decref(body);
    if (code)
        return code;
    long long count = ctl_number(answer.json, "count");
    if (ctl->json)
        ctl_print_json(answer.json);
    else
        printf("%s: %lld %s\n", verb, count, count == 1 ? "entry" : "entries");
    json_decref(answer.json);
    return count ? CTL_YES : CTL_NO;
}

int ctl_queue_retry(struct ctl *ctl)
{
    return act(ctl, "retry", false);
}

int ctl_queue_hold(struct ctl *ctl)
{
    return act(ctl, "hold", false);
}

int ctl_queue_release(struct ctl *ctl)
{
    return act(ctl, "release", false);
}

int ctl_queue_fail(struct ctl *ctl)
{
    return act(ctl, "fail", true);
}

int ctl_queue_drop(struct ctl *ctl)
{
    return act(ctl, "drop", true);
}
