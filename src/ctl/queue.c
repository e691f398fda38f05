/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/queue.c - `postern queue …`: list, show, and the verbs on a selection. */
#include "ctl/list.h"
#include "ctl/selection.h"

#include <stdio.h>
#include <string.h>

static void print_item(json_t *item)
{
    printf("%s  %-8s %8lld  %s -> ", ctl_text(item, "entry"), ctl_text(item, "state"),
           ctl_number(item, "size"), ctl_text(item, "transport"));
    ctl_print_text(ctl_text(item, "destination"));
    printf("\n  from ");
    ctl_print_text(ctl_text(item, "from")[0] ? ctl_text(item, "from") : "<>");
    printf("  attempts %lld", ctl_number(item, "attempt"));
    ctl_print_moment("  next ", item, "next_try");
    ctl_print_moment("  gives up ", item, "give_up");
    if (ctl_text(item, "reason")[0] && strcmp(ctl_text(item, "reason"), "none") != 0)
        printf("  %s: %s", strcmp(ctl_text(item, "state"), "paused") == 0 ? "clock stands" : "held",
               ctl_text(item, "reason"));
    printf("\n");
    size_t i;
    json_t *recipient;
    const char *error = ctl_text(item, "error");
    bool told = false; /* the last error, as the reply to a recipient */
    json_array_foreach(json_object_get(item, "to"), i, recipient)
    {
        const char *reply = ctl_text(recipient, "reply");
        printf("  to ");
        ctl_print_text(ctl_text(recipient, "to"));
        if (json_is_true(json_object_get(recipient, "done")))
            printf("  done: delivered or given up"); /* which of the two, its story knows */
        printf("%s", reply[0] ? "  " : "");
        ctl_print_text(reply);
        printf("\n");
        told = told || strcmp(reply, error) == 0;
    }
    if (error[0] && !told) {
        printf("  last error: ");
        ctl_print_text(error);
        printf("\n");
    }
}

static int show_list(struct ctl *ctl, const char *path, const char *limit, const char *nothing)
{
    const struct ctl_list list = {path, "Entry", .limit = limit, .print = print_item};
    struct ctl_listed listed;
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    if (!ctl->json && listed.shown == 0)
        printf("%s\n", nothing);
    else if (!ctl->json)
        printf("%s.  next: postern queue show|retry|release ID | message raw ID\n",
               ctl_list_count(ctl, &listed));
    ctl_listed_free(&listed);
    return CTL_YES;
}

int ctl_queue_list(struct ctl *ctl)
{
    json_t *query = selection_take(ctl);
    const char *limit = selection_take_limit(ctl, query);
    ctl_arguments(ctl, 0, 0);
    int code = show_list(ctl, ctl_path_with(ctl, "/api/v1/queue/messages", query), limit,
                         json_object_size(query) ? "nothing fits" : "nothing waits");
    json_decref(query);
    return code;
}

int ctl_queue_show(struct ctl *ctl)
{
    ctl_arguments(ctl, 1, 1);
    struct str path =
        arena_printf(ctl->arena, "/api/v1/queue/messages/%s", ctl_url_text(ctl, ctl->argv[0]));
    return show_list(ctl, path.ptr, NULL, "nothing fits");
}

static const struct selection queued = {
    "/api/v1/queue/actions", "/api/v1/queue/selections", "entry", "entries", "", print_item};

static int act(struct ctl *ctl, const char *verb, bool final)
{
    bool ask;
    json_t *body = selection_take_action(ctl, verb, selection_take(ctl), final, &ask);
    return body ? selection_act(ctl, &queued, verb, body, ask) : CTL_USAGE;
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
    printf("%s %7lld", ctl_text(cause, "cause"), ctl_number(cause, "count"));
    ctl_print_moment("  oldest ", cause, "oldest");
    printf("  ");
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
    ctl_print_moment("   next try ", cause, "next_try");
    printf("\n");
}

int ctl_queue_causes(struct ctl *ctl)
{
    struct ctl_listed listed;
    json_t *query = selection_take(ctl);
    const char *limit = selection_take_limit(ctl, query);
    ctl_arguments(ctl, 0, 0);
    const struct ctl_list list = {ctl_path_with(ctl, "/api/v1/queue/causes", query), "Cause",
                                  .limit = limit, .print = print_cause};
    int code = ctl_list(ctl, &list, &listed);
    json_decref(query);
    if (code)
        return code;
    if (!ctl->json && listed.shown == 0)
        printf("nothing was deferred\n");
    else if (!ctl->json)
        printf("%s.  next: postern queue cause show C | retry --cause C | list --cause C\n",
               ctl_list_count(ctl, &listed));
    ctl_listed_free(&listed);
    return CTL_YES;
}

/* With its oldest mail. */
static void print_cause_page(json_t *cause)
{
    size_t i;
    json_t *item;
    print_cause(cause);
    json_array_foreach(json_object_get(cause, "items"), i, item) print_item(item);
}

int ctl_queue_cause(struct ctl *ctl)
{
    ctl_arguments(ctl, 2, 2);
    if (strcmp(ctl->argv[0], "show") != 0) {
        fprintf(stderr, "postern: queue cause show C\n");
        return CTL_USAGE;
    }
    struct str path =
        arena_printf(ctl->arena, "/api/v1/queue/causes/%s", ctl_url_text(ctl, ctl->argv[1]));
    return ctl_show(ctl, path.ptr, print_cause_page);
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
    struct ctl_listed listed;
    json_t *query = selection_take(ctl);
    const char *limit = selection_take_limit(ctl, query);
    if (ctl_flag(ctl, "--senders"))
        json_object_set_new(query, "by", json_string("sender"));
    ctl_arguments(ctl, 0, 0);
    const struct ctl_list list = {ctl_path_with(ctl, "/api/v1/queue/shape", query), "ShapeRow",
                                  .limit = limit, .print = print_shape};
    json_decref(query);
    if (!ctl->json)
        printf("   count    <5m   <10m   <20m   <40m   <80m  <160m  <320m  <640m <1280m  older\n");
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    if (!ctl->json)
        printf("%8lld in all, %s.  next: postern queue causes | transport show NAME\n",
               ctl_number(listed.first, "count"), ctl_list_count(ctl, &listed));
    ctl_listed_free(&listed);
    return CTL_YES;
}
