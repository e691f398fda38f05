/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/find.c - `postern find` and `postern tail`: the history searched, and as it happens. */
#include "base/buf.h"
#include "ctl/list.h"

#include <stdio.h>
#include <string.h>

/* The words of the command line are one expression. */
static const char *expression(struct ctl *ctl)
{
    struct str text = STR_EMPTY;
    for (int i = 0; i < ctl->argc; i++)
        text = arena_printf(ctl->arena, "%.*s %s", STR_ARG(text), ctl->argv[i]);
    return ctl_url_text(ctl, arena_c(ctl->arena, str_trim(text)));
}

static void print_item(json_t *item)
{
    size_t i;
    json_t *to;
    ctl_print_time(ctl_text(item, "time"), true);
    printf("  %-9s ", ctl_text(item, "verdict")[0] ? ctl_text(item, "verdict") : "-");
    printf("%s  ", ctl_text(item, "ref")[0] ? ctl_text(item, "ref") : ctl_text(item, "id"));
    bool mail = ctl_text(item, "from")[0] || json_array_size(json_object_get(item, "to")) > 0;
    ctl_print_text(ctl_text(item, "client"));
    if (mail) {
        printf("  <");
        ctl_print_text(ctl_text(item, "from"));
        printf(">");
    } else if (ctl_text(item, "user")[0]) {
        printf("  login ");
        ctl_print_text(ctl_text(item, "user"));
    } else if (!ctl_text(item, "client")[0]) {
        printf("the gateway itself: %s", ctl_text(item, "event"));
    }
    json_array_foreach(json_object_get(item, "to"), i, to)
    {
        printf("%s<", i ? ", " : " -> ");
        ctl_print_text(json_string_value(to));
        printf(">");
    }
    if (ctl_text(item, "reason")[0] && strcmp(ctl_text(item, "reason"), "none") != 0) {
        printf("  ");
        ctl_print_text(ctl_text(item, "reason"));
    }
    printf("\n");
}

/* "192.0.2.7" was taken for a client. */
static void print_understood(json_t *answer)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(answer, "understood"), i, item)
    {
        printf("\"");
        ctl_print_text(ctl_text(item, "word"));
        printf("\" was taken for %s.  ", ctl_text(item, "as"));
    }
}

static void print_end(const struct ctl_listed *listed)
{
    const char *back = ctl_text(listed->last, "looked_back_to");
    if (listed->shown)
        printf("%zu shown%s.  ", listed->shown,
               json_is_true(json_object_get(listed->last, "complete")) ? ""
                                                                       : ", there may be more");
    else
        printf("nothing in the history fits.  ");
    print_understood(listed->last);
    if (back[0]) {
        printf("what is older than ");
        ctl_print_time(back, true);
        printf(" was not looked through: add until:%s.  ", back);
    }
    if (listed->shown)
        printf("next: postern trace ID|REF");
    printf("\n");
}

int ctl_find(struct ctl *ctl)
{
    const char *limit = ctl_option(ctl, "--limit");
    ctl_arguments(ctl, 0, 100);
    struct ctl_listed listed;
    const struct ctl_list list = {
        arena_printf(ctl->arena, "/api/v1/events?q=%s", expression(ctl)).ptr, "FoundStory",
        .uncounted = true, .limit = limit ? limit : "50", .print = print_item};
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    if (!ctl->json)
        print_end(&listed);
    ctl_listed_free(&listed);
    return listed.shown ? CTL_YES : CTL_NO;
}

/* ---- tail ---- */

struct tail {
    struct ctl *ctl;
    struct buf line;
};

static void show_line(struct ctl *ctl, struct str line)
{
    if (!str_starts(line, STR("data: ")))
        return;
    line = str_from(line, 6);
    json_t *event = json_loadb(line.ptr, line.len, 0, NULL);
    if (event && ctl->json)
        ctl_print(ctl, event);
    else if (event)
        ctl_print_event(ctl, event, /* with_ids= */ true);
    fflush(stdout);
    json_decref(event);
}

/* Whole lines of what came so far; the rest waits for more. */
static bool take_piece(struct str piece, void *arg)
{
    struct tail *tail = arg;
    buf_append(&tail->line, piece);
    struct str rest = buf_str(&tail->line);
    ptrdiff_t end;
    while ((end = str_find(rest, '\n')) >= 0) {
        show_line(tail->ctl, str_slice(rest, 0, (size_t)end));
        rest = str_from(rest, (size_t)end + 1);
    }
    size_t left = rest.len;
    memmove(tail->line.ptr, rest.ptr, left);
    tail->line.len = left;
    return !tail->line.overflow && !ferror(stdout);
}

int ctl_tail(struct ctl *ctl)
{
    const char *query = ctl_option(ctl, "-q");
    ctl_arguments(ctl, 0, 0);
    struct tail tail = {.ctl = ctl};
    buf_init(&tail.line, 1024 * 1024);
    struct str path = arena_printf(ctl->arena, "/api/v1/events/stream?q=%s",
                                   ctl_url_text(ctl, query ? query : ""));
    int code = ctl_listen(ctl, path.ptr, take_piece, &tail);
    buf_done(&tail.line);
    return code;
}
