/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/message.c - `postern message …` and `postern send`. */
#include "base/clock.h"
#include "base/file.h"
#include "ctl/list.h"
#include "mail/id.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_MAX = 64 * 1024 * 1024, FOLLOW_STEPS = 600, FOLLOW_STEP_MS = 100 };

int ctl_message_raw(struct ctl *ctl)
{
    ctl_arguments(ctl, 1, 1);
    struct str path =
        arena_printf(ctl->arena, "/api/v1/messages/%s/raw", ctl_url_text(ctl, ctl->argv[0]));
    struct ctl_answer answer;
    int code = ctl_request(ctl, "GET", path.ptr, NULL, &answer);
    if (code)
        return code;
    json_decref(answer.json);
    ctl_print_file(answer.body);
    return CTL_YES;
}

static int get_events(struct ctl *ctl, const char *id, struct ctl_answer *answer)
{
    struct str path = arena_printf(ctl->arena, "/api/v1/messages/%s/events", ctl_url_text(ctl, id));
    return ctl_request(ctl, "GET", path.ptr, NULL, answer);
}

int ctl_message_events(struct ctl *ctl)
{
    ctl_arguments(ctl, 1, 1);
    ctl_require_id(ctl->argv[0]);
    struct ctl_answer answer;
    int code = get_events(ctl, ctl->argv[0], &answer);
    if (code)
        return code;
    json_t *items = json_object_get(answer.json, "items");
    size_t i;
    json_t *event;
    json_array_foreach(items, i, event)
    {
        if (ctl->json)
            ctl_print(ctl, event);
        else
            ctl_print_event(ctl, event, /* with_ids= */ false);
    }
    bool found = json_array_size(items) > 0;
    if (!found && !ctl->json)
        printf("the history knows nothing of it\n");
    json_decref(answer.json);
    return found ? CTL_YES : CTL_NO;
}

/* ---- send ---- */

static bool read_message(const char *path, struct buf *out)
{
    struct error err;
    bool good = strcmp(path, "-") == 0 ? file_read(STDIN_FILENO, out, &err) == OK
                                       : file_read_path(path, out, &err) == OK;
    if (!good)
        fprintf(stderr, "postern: %s: %s\n", path, err.text);
    return good;
}

static void write_test_message(const char *from, const char *to, const char *subject,
                               struct buf *out)
{
    char date[TIME_RFC5322_SIZE];
    struct str now = clock_format_rfc5322(clock_wall_ns(), date);
    buf_printf(out,
               "Date: %.*s\r\nFrom: <%s>\r\nTo: <%s>\r\nSubject: %s\r\n"
               "Message-ID: <%s@postern.test>\r\n\r\nA test message of `postern send`.\r\n",
               STR_ARG(now), from, to, subject, mail_id_text(mail_id_new()).chars);
}

/* What an event says of the end of a recipient: the exit code, or -1: it goes on. */
static int end_of(const char *event)
{
    static const struct {
        const char *event;
        int code;
    } ends[] = {
        {"delivery.sent", CTL_YES},           {"message.discarded", CTL_YES},
        {"delivery.failed", CTL_NO},          {"delivery.expired", CTL_NO},
        {"delivery.deferred", CTL_TRY_AGAIN}, {"delivery.held", CTL_TRY_AGAIN},
        {"message.held", CTL_TRY_AGAIN},      {"message.quarantined", CTL_TRY_AGAIN},
    };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (strcmp(event, ends[i].event) == 0)
            return ends[i].code;
    return -1;
}

/* Print new events of the message until its first attempt has an end. */
static int follow(struct ctl *ctl, const char *id)
{
    size_t shown = 0;
    for (int step = 0; step < FOLLOW_STEPS; step++) {
        struct ctl_answer answer;
        int code = get_events(ctl, id, &answer);
        if (code)
            return code;
        int end = -1;
        json_t *items = json_object_get(answer.json, "items");
        for (; shown < json_array_size(items); shown++) {
            json_t *event = json_array_get(items, shown);
            if (ctl->json)
                ctl_print(ctl, event);
            else
                ctl_print_event(ctl, event, /* with_ids= */ false);
            int code_here = end_of(ctl_text(event, "event"));
            end = code_here >= 0 ? code_here : end;
        }
        json_decref(answer.json);
        if (end >= 0)
            return end;
        nanosleep(&(struct timespec){.tv_nsec = FOLLOW_STEP_MS * NS_PER_MS}, NULL);
    }
    fprintf(stderr, "postern: no end yet; see: postern queue show %s\n", id);
    return CTL_TRY_AGAIN;
}

int ctl_send(struct ctl *ctl)
{
    const char *to = ctl_option(ctl, "--to");
    const char *from = ctl_option(ctl, "--from");
    const char *path = ctl_option(ctl, "--file");
    const char *subject = ctl_option(ctl, "--subject");
    ctl_arguments(ctl, 0, 0);
    if (!to) {
        fprintf(stderr, "postern: send needs --to ADDRESS\n");
        return CTL_USAGE;
    }
    if (!strchr(to, '@')) {
        fprintf(stderr, "postern: --to: \"%s\" has no domain\n", to);
        return CTL_USAGE;
    }
    if (!from)
        from = to;
    struct buf text BUF_CLEANUP;
    buf_init(&text, MESSAGE_MAX);
    if (path && !read_message(path, &text))
        return CTL_USAGE;
    if (!path)
        write_test_message(from, to, subject ? subject : "Test", &text);
    json_t *body = json_pack("{s:s, s:[s], s:o}", "from", from, "to", to, "data",
                             json_stringn(text.ptr, text.len));
    if (!body) {
        fprintf(stderr, "postern: the message is not UTF-8\n");
        return CTL_USAGE;
    }
    struct ctl_answer answer;
    int code = ctl_request(ctl, "POST", "/api/v1/messages", body, &answer);
    json_decref(body);
    if (code)
        return code;
    bool accepted = json_is_true(json_object_get(answer.json, "accepted"));
    const char *id = arena_c(ctl->arena, str_c(ctl_text(answer.json, "message")));
    if (ctl->json) {
        ctl_print(ctl, answer.json);
    } else {
        ctl_print_text(ctl_text(answer.json, "reply"));
        printf("\n");
    }
    json_decref(answer.json);
    return accepted ? follow(ctl, id) : CTL_NO;
}
