/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/docs.c - `postern docs PAGE`: the pages of the manual that come from the tables of the code.
 *
 * tools/make_manual writes them to docs/manual/, tools/check_docs says when they are stale.
 */
#include "admin/metrics.h"
#include "base/buf.h"
#include "config/option.h"
#include "ctl/ctl.h"
#include "event/event.h"
#include "flow/flow.h"
#include "gateway/settings.h"
#include "mail/reply.h"

#include <stdio.h>
#include <string.h>

enum { PAGE_MAX = 4 * 1024 * 1024 };

static void print_settings(struct buf *out)
{
    buf_append(out, STR("# Reference: settings\n\n"
                        "Every key of the configuration, a part for each map. `NAME.*` is an entry "
                        "of the section `NAME`, under a name that you choose. How the file works: "
                        "[Configuration](02-configuration.md).\n\n"));
    settings_manual(out);
}

static void print_blocks(struct buf *out)
{
    buf_append(out, STR("# Reference: blocks\n\n"
                        "What a step of a flow can be, with its parameters, its outcomes and what "
                        "each leads to. Every step also takes `when`, `id` and `observe`: "
                        "[Flows](03-flows.md).\n\n"));
    flow_describe_blocks(out);
}

static void print_events(struct buf *out)
{
    buf_append(out, STR("# Reference: events\n\n"
                        "What the log, `postern message events` and the API show. An event is one "
                        "JSON object a line: `time`, `seq`, `event`, `severity`, then its fields. "
                        "Which to act on: [Troubleshooting](06-troubleshooting.md).\n\n"
                        "| event | severity | meaning |\n|---|---|---|\n"));
    for (int type = 0; type < EVENT_TYPE_COUNT; type++) {
        buf_printf(out, "| `%s` | %s | ", event_name((enum event_type)type),
                   event_severity_name(event_severity((enum event_type)type)));
        option_print_prose(str_c(event_text((enum event_type)type)), out);
        buf_append(out, STR(" |\n"));
    }
    buf_append(out, STR("\nFields:"));
    for (int key = 0; key < EVENT_KEY_COUNT; key++)
        buf_printf(out, "%s `%s`", key ? "," : "", event_key_name((enum event_key)key));
    buf_append(out, STR(".\n\nFields whose names end in `_us` are microseconds.\n\n"
                        "Values of `reason`:"));
    for (int reason = 0; reason < MAIL_REASON_COUNT; reason++)
        buf_printf(out, "%s `%s`", reason ? "," : "", mail_reason_name((enum mail_reason)reason));
    buf_append(out, STR(".\n"));
}

static void print_metrics(struct buf *out)
{
    buf_append(out, STR("# Reference: metrics\n\n"
                        "What `/metrics` shows, in the text format of Prometheus. How to reach it, "
                        "and which to alert on: [Metrics](11-metrics.md).\n\n"
                        "## Counted from events\n\n"
                        "They begin at 0 when the process starts.\n\n"
                        "| metric | kind | labels | meaning |\n|---|---|---|---|\n"));
    metrics_describe(out);
    buf_append(out, STR("\n## Looked at when asked\n\n"
                        "| metric | kind | labels | meaning |\n|---|---|---|---|\n"));
    admin_describe_gauges(out);
}

static void print_commands(struct buf *out)
{
    buf_append(out, STR("# Reference: commands\n\n"
                        "`postern [--socket PATH] [--json] [--yes] [--no-color] NOUN [VERB] …`. "
                        "The socket is `--socket`, else the variable `POSTERN_SOCKET`, else "
                        "`/run/postern/control.sock`.\n\n"
                        "| command | what it does |\n|---|---|\n"));
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        buf_printf(out, "| `postern %s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
        buf_append(out, c->usage[0] ? STR(" ") : STR(""));
        for (const char *at = c->usage; *at; at++) /* a bar would end the cell */
            buf_printf(out, "%s%c", *at == '|' ? "\\" : "", *at);
        buf_append(out, STR("` | "));
        option_print_prose(str_c(c->text), out);
        buf_append(out, STR(" |\n"));
    }
    buf_append(out, STR("\nSELECTORS are `--id`, `--to`, `--from`, `--transport`, "
                        "`--destination`, `--state`, `--older` and `--limit`: "
                        "[Queue](05-queue.md).\n\n"
                        "| exit code | meaning |\n|---|---|\n"
                        "| 0 | yes |\n| 1 | it worked, and the answer is no |\n"
                        "| 2 | the command line is wrong |\n| 3 | no daemon at the socket |\n"
                        "| 4 | not allowed |\n| 5 | conflict |\n| 6 | done in part |\n"
                        "| 7 | not now, try again |\n"));
}

int ctl_docs(struct ctl *ctl)
{
    static const struct {
        const char *name;
        void (*print)(struct buf *out);
    } pages[] = {
        {"settings", print_settings}, {"blocks", print_blocks},   {"events", print_events},
        {"commands", print_commands}, {"metrics", print_metrics},
    };
    ctl_arguments(ctl, 1, 1);
    struct buf text BUF_CLEANUP;
    buf_init(&text, PAGE_MAX);
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        if (strcmp(ctl->argv[0], pages[i].name) == 0)
            pages[i].print(&text);
    if (text.len == 0) {
        fprintf(stderr, "postern: the pages are: settings, blocks, events, commands, metrics\n");
        return CTL_USAGE;
    }
    while (text.len > 1 && text.ptr[text.len - 2] == '\n') /* one line end at the end */
        text.len--;
    fwrite(text.ptr, 1, text.len, stdout);
    return CTL_YES;
}
