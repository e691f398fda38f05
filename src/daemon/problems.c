/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/problems.h"

#include "base/buf.h"
#include "config/node.h"
#include "event/event.h"

#include <stdio.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 64 * 1024 };

void problems_emit(const struct config_report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct config_problem *problem = &report->problems[i];
        event_emit(EVENT_CONFIG_PROBLEM,
                   F_C(KIND, problem->severity == CONFIG_ERROR ? "error" : "warning"),
                   F_STR(REASON, problem->code), F_STR(FILE, config_file_name(problem->place.file)),
                   F_INT(LINE, problem->place.line), F_INT(COLUMN, problem->place.column),
                   F_STR(ERROR, problem->text), F_STR(DETAIL, problem->detail),
                   F_STR(WHY, problem->fix));
    }
}

int problems_fatal(const struct error *err, int code)
{
    event_emit(EVENT_DAEMON_ERROR, F_C(DETAIL, err->text));
    return code;
}

static void print_event(const struct event *event, void *arg)
{
    struct buf *line = arg;
    buf_clear(line);
    if (isatty(STDOUT_FILENO))
        event_format_human(event, line);
    else
        event_format_json(event, STR_EMPTY, STR_EMPTY, line);
    fwrite(line->ptr, 1, line->len, stdout);
}

void problems_flush(void)
{
    struct buf line BUF_CLEANUP;
    buf_init(&line, LINE_MAX_BYTES);
    event_drain(print_event, &line);
    fflush(stdout);
}
