/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/queue.c - `postern queue …`: list, show, and the verbs on a selection. */
#include "base/buf.h"
#include "ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const selectors[] = {"id",    "to",    "from",  "transport", "destination",
                                        "state", "older", "limit", "cause",     "user"};
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

static const char *path_with(struct ctl *ctl, const char *base, json_t *object)
{
    struct buf path;
    buf_init(&path, 64 * 1024);
    buf_append(&path, str_c(base));
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
        printf("  %s: %s", strcmp(ctl_text(item, "state"), "paused") == 0 ? "clock stands" : "held",
               ctl_text(item, "reason"));
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

static void warn_of_loading(json_t *answer)
{
    if (json_is_true(json_object_get(answer, "loading")))
        fprintf(stderr, "postern: the queue is still being loaded: this is not all of it\n");
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
    warn_of_loading(answer.json);
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
    int code = show_list(ctl, path_with(ctl, "/api/v1/queue/messages", object));
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
    char *text = json_dumps(object, 0);
    struct str question =
        arena_printf(ctl->arena, "%s everything that fits %s?", verb, text ? text : "{}");
    free(text);
    return ctl_confirm(ctl, question.ptr);
}

json_t *ctl_take_action(struct ctl *ctl, const char *verb, json_t *object, bool final,
                        bool *out_ask)
{
    const char *reason = ctl_option(ctl, "--reason");
    const char *expect = ctl_option(ctl, "--expect");
    bool all = ctl_flag(ctl, "--all");
    bool dry_run = ctl_flag(ctl, "--dry-run");
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
    json_t *body = json_pack("{s:s, s:s, s:o, s:b}", "verb", verb, "reason", reason ? reason : "",
                             "select", object, "dry_run", (int)dry_run);
    if (expect)
        json_object_set_new(body, "expect", json_integer((json_int_t)expected));
    if (sound)
        return body;
    json_decref(body);
    return NULL;
}

void ctl_warn_of_failed(json_t *answer)
{
    long long failed = ctl_number(answer, "failed");
    if (failed > 0)
        fprintf(stderr,
                "postern: %lld could not be done, as the spool could not be read or written; "
                "nothing happened to them: give the order again\n",
                failed);
}

static void print_action(struct ctl *ctl, const char *verb, json_t *answer)
{
    long long matched = ctl_number(answer, "matched"), done = ctl_number(answer, "count");
    if (ctl->json) {
        ctl_print_json(answer);
    } else if (json_is_true(json_object_get(answer, "dry_run"))) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(answer, "sample"), i, item)
        {
            print_item(item);
        }
        printf("%s would act on %lld %s.  next: the same with --expect %lld instead of --dry-run\n",
               verb, matched, matched == 1 ? "entry" : "entries", matched);
    } else {
        printf("%s: %lld of %lld %s\n", verb, done, matched, matched == 1 ? "entry" : "entries");
    }
    ctl_warn_of_failed(answer);
}

static int act(struct ctl *ctl, const char *verb, bool final)
{
    struct ctl_answer answer;
    bool ask;
    json_t *body = ctl_take_action(ctl, verb, take_selectors(ctl), final, &ask);
    if (!body)
        return CTL_USAGE;
    if (ask && !is_confirmed(ctl, verb, json_object_get(body, "select"))) {
        json_decref(body);
        return CTL_NO;
    }
    int code = ctl_request(ctl, "POST", "/api/v1/queue/actions", body, &answer);
    json_decref(body);
    if (code)
        return code;
    print_action(ctl, verb, answer.json);
    warn_of_loading(answer.json);
    bool dry_run = json_is_true(json_object_get(answer.json, "dry_run"));
    bool any = ctl_number(answer.json, dry_run ? "matched" : "count") > 0;
    bool failed = ctl_number(answer.json, "failed") > 0;
    json_decref(answer.json);
    return any && !failed ? CTL_YES : CTL_NO;
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

/* ---- in groups ---- */

static void print_cause(json_t *cause)
{
    printf("%s %7lld  oldest %s  ", ctl_text(cause, "cause"), ctl_number(cause, "count"),
           ctl_text(cause, "oldest"));
    ctl_print_text(ctl_text(cause, "pattern"));
    printf("\n        said: ");
    ctl_print_text(ctl_text(cause, "sample"));
    printf("\n        destinations:");
    size_t i;
    json_t *place;
    json_array_foreach(json_object_get(cause, "destinations"), i, place)
    {
        printf(" ");
        ctl_print_text(json_string_value(place));
    }
    if (ctl_text(cause, "next_try")[0])
        printf("   next try %s", ctl_text(cause, "next_try"));
    printf("\n");
}

/* GET, then each item as JSON or by `print`; the answer, to be freed, or NULL with *out_code. */
static json_t *get_groups(struct ctl *ctl, const char *path, void (*print)(json_t *item),
                          int *out_code)
{
    struct ctl_answer answer;
    *out_code = ctl_request(ctl, "GET", path, NULL, &answer);
    if (*out_code)
        return NULL;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(answer.json, "items"), i, item)
    {
        if (ctl->json)
            ctl_print_json(item);
        else
            print(item);
    }
    warn_of_loading(answer.json);
    return answer.json;
}

int ctl_queue_causes(struct ctl *ctl)
{
    json_t *object = take_selectors(ctl);
    int code;
    ctl_arguments(ctl, 0, 0);
    json_t *answer =
        get_groups(ctl, path_with(ctl, "/api/v1/queue/causes", object), print_cause, &code);
    json_decref(object);
    if (!answer)
        return code;
    if (!ctl->json && ctl_number(answer, "total") == 0)
        printf("nothing was deferred\n");
    else if (!ctl->json)
        printf("%zu of %lld causes.  next: postern queue cause show C | retry --cause C | list "
               "--cause C\n",
               json_array_size(json_object_get(answer, "items")), ctl_number(answer, "total"));
    json_decref(answer);
    return CTL_YES;
}

int ctl_queue_cause(struct ctl *ctl)
{
    struct ctl_answer answer;
    ctl_arguments(ctl, 2, 2);
    if (strcmp(ctl->argv[0], "show") != 0) {
        fprintf(stderr, "postern: queue cause show C\n");
        return CTL_USAGE;
    }
    struct str path =
        arena_printf(ctl->arena, "/api/v1/queue/causes/%s", ctl_url_text(ctl, ctl->argv[1]));
    int code = ctl_request(ctl, "GET", path.ptr, NULL, &answer);
    if (code)
        return code;
    if (ctl->json) {
        ctl_print_json(answer.json);
    } else {
        size_t i;
        json_t *item;
        print_cause(answer.json);
        json_array_foreach(json_object_get(answer.json, "items"), i, item)
        {
            print_item(item);
        }
    }
    warn_of_loading(answer.json);
    json_decref(answer.json);
    return CTL_YES;
}

static void print_shape(json_t *row)
{
    const char *name = ctl_text(row, "sender");
    if (ctl_text(row, "destination")[0])
        name = ctl_text(row, "destination");
    printf("%8lld", ctl_number(row, "count"));
    size_t i;
    json_t *age;
    json_array_foreach(json_object_get(row, "ages"), i, age)
    {
        printf("%7lld", (long long)json_integer_value(age));
    }
    printf("  ");
    if (ctl_text(row, "transport")[0])
        printf("%s -> ", ctl_text(row, "transport"));
    ctl_print_text(name);
    printf("\n");
}

int ctl_queue_shape(struct ctl *ctl)
{
    json_t *object = take_selectors(ctl);
    int code;
    if (ctl_flag(ctl, "--senders"))
        json_object_set_new(object, "by", json_string("sender"));
    ctl_arguments(ctl, 0, 0);
    if (!ctl->json)
        printf("   count    <5m   <10m   <20m   <40m   <80m  <160m  <320m  <640m <1280m  older\n");
    json_t *answer =
        get_groups(ctl, path_with(ctl, "/api/v1/queue/shape", object), print_shape, &code);
    json_decref(object);
    if (!answer)
        return code;
    if (!ctl->json)
        printf("%8lld in %lld rows, %zu shown.  next: postern queue causes | transport show NAME\n",
               ctl_number(answer, "count"), ctl_number(answer, "total"),
               json_array_size(json_object_get(answer, "items")));
    json_decref(answer);
    return CTL_YES;
}
