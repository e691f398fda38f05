/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_reply.c - replies as lines (RFC 5321 4.2, 2034). They collect in the stream's output
 * and leave together, when the server has to wait for the client (RFC 2920 3.2).
 */
#include "smtp/server_internal.h"

#include <stdio.h>
#include <string.h>

enum {
    LINE_MAX_TEXT = 480, /* of the 512 that RFC 5321 4.5.3.1.5 allows */
    UNSENT_MAX = 32768,  /* replies of a long pipelined group leave before it ends */
};

static MAY_YIELD void send_replies(struct smtp_session *session)
{
    struct error err;
    struct scope scope;
    scope_open(&scope, smtp_session_command_wait(session).deadline_ns);
    /* an error shows at the next read */
    (void)!stream_flush(session->stream, &err);
    scope_close(&scope);
    session->unsent = 0;
}

static MAY_YIELD void put(struct smtp_session *session, struct str line)
{
    struct error err;
    if (session->unsent + line.len > UNSENT_MAX)
        send_replies(session);
    (void)!stream_write(session->stream, line, &err);
    session->unsent += line.len;
}

static size_t put_number(char *at, unsigned number)
{
    size_t len = number >= 100 ? 3 : number >= 10 ? 2 : 1;
    for (size_t i = len; i-- > 0; number /= 10)
        at[i] = (char)('0' + number % 10);
    return len;
}

/* "250-" or "250 2.1.0 "; at most 16 bytes. */
static size_t put_codes(char *at, const struct mail_reply *reply, bool more)
{
    const unsigned enhanced[] = {reply->enhanced.class, reply->enhanced.subject,
                                 reply->enhanced.detail};
    size_t len = put_number(at, reply->code % 1000);
    at[len++] = more ? '-' : ' ';
    for (size_t i = 0; enhanced[0] && i < 3; i++) {
        len += put_number(at + len, enhanced[i] % 1000);
        at[len++] = i < 2 ? '.' : ' ';
    }
    return len;
}

static MAY_YIELD void put_line(struct smtp_session *session, const struct mail_reply *reply,
                               bool more, struct str text)
{
    char line[LINE_MAX_TEXT + 64];
    size_t len = put_codes(line, reply, more);
    bool utf8 = session->in_transaction && session->sender.smtputf8;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool fine = (c >= 32 && c < 127) || (c > 127 && utf8);
        line[len++] = fine ? (char)c : '?';
    }
    line[len++] = '\r';
    line[len++] = '\n';
    put(session, str_of(line, len));
}

/* Take what fits into one line off `*text`, at a blank if there is one. */
static struct str take_piece(struct str *text)
{
    if (text->len <= LINE_MAX_TEXT) {
        struct str all = *text;
        *text = STR_EMPTY;
        return all;
    }
    struct str piece = str_slice(*text, 0, LINE_MAX_TEXT);
    ptrdiff_t blank = str_find_last(piece, ' ');
    if (blank > 0)
        piece.len = (size_t)blank;
    *text = str_from(*text, piece.len + (blank > 0 ? 1 : 0));
    return piece;
}

static void count(struct smtp_session *session, unsigned code)
{
    unsigned digit = code / 100;
    if (digit >= 2 && digit < 2 + SMTP_REPLY_CLASSES)
        session->replies.counts[session->answering][digit - 2]++;
}

void smtp_session_reply(struct smtp_session *session, const struct mail_reply *reply)
{
    struct str rest = reply->text;
    struct str line;
    count(session, reply->code);
    /* str_split gives no part of an empty text that has a pointer, but such a reply has a line */
    if (rest.len == 0) {
        put_line(session, reply, false, STR_EMPTY);
        return;
    }
    while (rest.ptr && str_split(&rest, '\n', &line)) {
        do {
            struct str piece = take_piece(&line);
            put_line(session, reply, line.len > 0 || rest.ptr, piece);
        } while (line.len);
    }
}

void smtp_session_reply_line(struct smtp_session *session, unsigned code, bool more,
                             struct str text)
{
    struct mail_reply reply = {.code = (unsigned short)code};
    if (!more) /* once for all its lines */
        count(session, code);
    put_line(session, &reply, more, str_slice(text, 0, LINE_MAX_TEXT));
}

void smtp_session_say(struct smtp_session *session, unsigned code, unsigned subject,
                      unsigned detail, const char *text)
{
    struct mail_reply reply = mail_reply_of(code, code / 100, subject, detail, str_c(text));
    smtp_session_reply(session, &reply);
}

void smtp_session_refuse(struct smtp_session *session, enum mail_reason reason,
                         struct mail_reply reply)
{
    if (session->handler->refused)
        session->handler->refused(session->context, session, session->command, reason, &reply);
    if (mail_reply_is_permanent(&reply))
        session->errors++;
    smtp_session_reply(session, &reply);
}

void smtp_session_refuse_with(struct smtp_session *session, enum mail_reason reason, unsigned code,
                              unsigned subject, unsigned detail, const char *text)
{
    smtp_session_refuse(session, reason,
                        mail_reply_of(code, code / 100, subject, detail, str_c(text)));
}

void smtp_session_tell_limit(struct smtp_session *session, const char *limit, int64_t value)
{
    /* who it is rides on the fiber */
    event_emit(EVENT_SESSION_LIMIT, F_C(LIMIT, limit), F_INT(VALUE, value),
               F_STR(HELO, session->peer.helo));
}

void smtp_session_tell_protocol(struct smtp_session *session, const char *what)
{
    session->cut_off = true; /* all who call this end the session */
    /* a reply goes with it, and who adds the ref to that tells the event with the ref */
    if (!session->handler->refused)
        event_emit(EVENT_SESSION_PROTOCOL, F_STR(COMMAND, session->command), F_C(DETAIL, what),
                   F_STR(HELO, session->peer.helo));
}
