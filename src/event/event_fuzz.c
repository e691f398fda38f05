/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a text holds, it goes through the ring unchanged and stays one printable value. */
#include "event/event.h"

#include "base/buf.h"
#include "base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LONGEST_TEXT = 1024 };

static void check_printable(struct str line)
{
    check(line.len > 0 && line.ptr[line.len - 1] == '\n');
    for (size_t i = 0; i + 1 < line.len; i++)
        check(line.ptr[i] >= 0x20 && line.ptr[i] < 0x7F);
}

/* `rest` starts behind an opening quote: step over the string and its closing quote. */
static struct str skip_string(struct str rest)
{
    while (rest.len && rest.ptr[0] != '"')
        rest = str_from(rest, rest.ptr[0] == '\\' ? 2 : 1);
    check(rest.len > 0);
    return str_from(rest, 1);
}

static void check_event(const struct event *event, void *arg)
{
    const struct str *text = arg;
    check(event->count == 2 && event->fields[1].number == (int64_t)text->len);
    struct str seen = event->fields[0].text;
    check(seen.len == text->len || (seen.len <= LONGEST_TEXT && seen.len > LONGEST_TEXT - 4));
    check(str_starts(*text, seen));

    struct buf line;
    buf_init(&line, 1 << 20);
    event_format_json(event, STR_EMPTY, STR_EMPTY, &line);
    check_printable(buf_str(&line));
    ptrdiff_t at = str_find_str(buf_str(&line), STR("\"detail\":\""));
    check(at > 0);
    struct str rest = skip_string(str_from(buf_str(&line), (size_t)at + strlen("\"detail\":\"")));
    check(str_starts(rest, STR(",\"size\":")) && str_ends(rest, STR("}\n")));

    buf_clear(&line);
    event_format_human(event, &line);
    check_printable(buf_str(&line));
    check(!line.overflow);
    buf_done(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    event_emit(EVENT_DAEMON_WARNING, F_STR(DETAIL, text), F_INT(SIZE, size));
    check(event_drain(check_event, &text) == 1);
    return 0;
}
