/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/find.c - `postern find` and `postern tail`: the history searched, and as it happens. */
#include "base/buf.h"
#include "ctl/ctl.h"

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

static void print_end(json_t *answer)
{
    size_t count = json_array_size(json_object_get(answer, "items"));
    const char *back = ctl_text(answer, "looked_back_to");
    if (count)
        printf("%zu shown%s.  ", count,
               json_is_true(json_object_get(answer, "complete")) ? "" : ", there may be more");
    else
        printf("nothing in the history fits.  ");
    print_understood(answer);
    if (back[0]) {
        printf("what is older than ");
        ctl_print_time(back, true);
        printf(" was not looked through: add until:%s.  ", back);
    }
    if (count)
        printf("next: postern trace ID|REF");
    printf("\n");
}

int ctl_find(struct ctl *ctl)
{
    const char *limit = ctl_option(ctl, "--limit");
    ctl_arguments(ctl, 0, 100);
    struct ctl_answer answer;
    struct str path = arena_printf(ctl->arena, "/api/v1/events?q=%s&limit=%s", expression(ctl),
                                   ctl_url_text(ctl, limit ? limit : "50"));
    int code = ctl_show_items(ctl, path.ptr, print_item, &answer);
    if (code)
        return code;
    bool found = json_array_size(json_object_get(answer.json, "items")) > 0;
    if (!ctl->json)
        print_end(answer.json);
    json_decref(answer.json);
    return found ? CTL_YES : CTL_NO;
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
        ctl_print_json(event);
    else if (event)
        ctl_print_event(event, /* with_ids= */ true);
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
