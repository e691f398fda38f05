/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_input.c - waiting for the client: lines, deadlines, what may not be pipelined.
 */
#include "smtp/server_internal.h"

#include "base/memory.h"

#include <string.h>

struct smtp_wait smtp_wait_earlier(struct smtp_wait a, int64_t deadline_ns, const char *limit)
{
    return deadline_ns < a.deadline_ns ? (struct smtp_wait){deadline_ns, limit} : a;
}

struct smtp_wait smtp_session_command_wait(const struct smtp_session *session)
{
    struct smtp_wait wait = {clock_deadline(session->settings->limits.command_timeout_ns),
                             "command_timeout"};
    return smtp_wait_earlier(wait, session->end_ns, "session_timeout");
}

static MAY_YIELD void end_by_error(struct smtp_session *session, const struct error *err,
                                   const char *limit)
{
    switch (err->kind) {
    case ERROR_TIMEOUT:
        smtp_session_tell_limit(session, limit, 0);
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 421, 4, 2,
                                 "Timeout, closing the connection");
        smtp_session_end(session, limit);
        break;
    case ERROR_CANCELLED:
        smtp_session_refuse_with(session, MAIL_REASON_ADMIN, 421, 3, 2, "Service shutting down");
        smtp_session_end(session, "shutdown");
        break;
    default:
        smtp_session_end(session, "connection lost");
        break;
    }
}

bool smtp_session_fill(struct smtp_session *session, struct smtp_wait wait)
{
    return smtp_session_fill_up_to(session, INPUT_MAX, wait);
}

bool smtp_session_fill_up_to(struct smtp_session *session, size_t max, struct smtp_wait wait)
{
    struct error err = {.kind = ERROR_NONE};
    bool end = false;
    struct scope scope;
    scope_open(&scope, wait.deadline_ns);
    enum result result = stream_flush(session->stream, &err);
    session->unsent = 0;
    if (result == OK)
        result = stream_fill(session->stream, max, &end, &err);
    scope_close(&scope);
    if (result == FAILED)
        end_by_error(session, &err, wait.limit);
    else if (end)
        smtp_session_end(session, "closed by client");
    return result == OK && !end;
}

void smtp_session_consume_line(struct smtp_session *session)
{
    stream_consume(session->stream, session->line_size);
    session->line_size = 0;
}

void smtp_session_wipe_line(struct smtp_session *session)
{
    struct str input = stream_buffered(session->stream);
    /* the stream's own memory; what is behind it was not parsed yet */
    if (session->line_size)
        memory_wipe((char *)(uintptr_t)input.ptr, session->line_size);
    smtp_session_consume_line(session);
}

bool smtp_session_has_more_input(struct smtp_session *session)
{
    struct error err;
    if (stream_buffered(session->stream).len > session->line_size)
        return true;
    /* an error shows at the next read */
    return stream_fill_available(session->stream, session->line_size + 1, &err) == OK &&
           stream_buffered(session->stream).len > session->line_size;
}

static MAY_YIELD bool refuse_line(struct smtp_session *session, const char *text)
{
    session->command = STR_EMPTY;
    smtp_session_tell_protocol(session, text);
    smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 500, 5, 2, text);
    smtp_session_end(session, "protocol");
    return false;
}

/* How long may the line be that starts so? */
static size_t command_max(const struct smtp_session *session, struct str input)
{
    size_t max = session->settings->limits.command_line;
    if (str_starts_nocase(input, STR("AUTH ")))
        return max < INPUT_MAX ? max : INPUT_MAX - 1;
    return COMMAND_LINE_MAX;
}

/* `input` begins with a line of `size` bytes, LF included. */
static MAY_YIELD bool take_line(struct smtp_session *session, struct str input, size_t size,
                                struct str *out_line)
{
    bool crlf = size >= 2 && input.ptr[size - 2] == '\r';
    struct str line = {input.ptr, crlf ? size - 2 : size - 1};
    if (!crlf && !smtp_session_mends(session))
        return refuse_line(session, "Lines end in <CR><LF>");
    if (memchr(line.ptr, '\r', line.len) || str_has_nul(line))
        return refuse_line(session, "Bare <CR> or NUL in a command");
    session->line_size = size;
    *out_line = line;
    return true;
}

bool smtp_session_read_line(struct smtp_session *session, size_t max, struct str *out_line)
{
    struct smtp_wait wait = {.limit = NULL};
    size_t seen = 0;
    for (;;) {
        struct str input = stream_buffered(session->stream);
        const char *lf = input.len > seen ? memchr(input.ptr + seen, '\n', input.len - seen) : NULL;
        size_t size = lf ? (size_t)(lf - input.ptr) + 1 : input.len;
        if (size > (max ? max : command_max(session, input))) {
            smtp_session_tell_limit(session, "command_line", (int64_t)size);
            return refuse_line(session, "Line too long");
        }
        if (lf)
            return take_line(session, input, size, out_line);
        seen = input.len;
        /* one deadline for the whole line, however slowly it drips in */
        if (!wait.limit)
            wait = smtp_session_command_wait(session);
        if (!smtp_session_fill(session, wait))
            return false;
    }
}
