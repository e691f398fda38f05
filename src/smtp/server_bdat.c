/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_bdat.c - BDAT (RFC 3030): exactly as many octets as were said belong to the chunk,
 * also when it is refused, or what follows would be taken for commands.
 */
#include "smtp/server_internal.h"

#include <stdio.h>

enum { SMALL_CHUNK = 512 }; /* chunks under it count as commands */

/* Read `size` octets; into the body if `keep`. False: the connection is over. */
static MAY_YIELD bool receive(struct smtp_session *session, uint64_t size, bool keep)
{
    for (;;) {
        struct str input = stream_buffered(session->stream);
        struct str part = str_slice(input, 0, size < input.len ? (size_t)size : input.len);
        size_t len = part.len;
        if (keep)
            (void)smtp_server_decode(session, &part);
        else
            session->body_bytes += len;
        stream_consume(session->stream, len);
        size -= len;
        if (size == 0)
            return true;
        if (!smtp_server_fill_body(session))
            return false;
    }
}

/* Why this chunk cannot be taken, by the state of the session; false: it can. */
static bool is_out_of_order(struct smtp_session *session, struct mail_reply *out,
                            enum mail_reason *out_reason)
{
    if (!smtp_session_may_run(session, SMTP_VERB_BDAT, out, out_reason))
        return true;
    if (!session->in_transaction)
        *out = mail_reply_of(503, 5, 5, 1, STR("Need MAIL first"));
    else if (session->chunks == CHUNK_FAILED)
        *out = mail_reply_of(503, 5, 5, 1, STR("An earlier chunk was refused"));
    else if (session->recipient_count == 0)
        *out = mail_reply_of(554, 5, 5, 1, STR("No valid recipients"));
    else
        return false;
    return true;
}

/* The transaction cannot become a message any more. */
static void fail_chunks(struct smtp_session *session, bool last)
{
    if (last)
        smtp_session_reset(session);
    else if (session->in_transaction)
        session->chunks = CHUNK_FAILED;
}

static MAY_YIELD void discard(struct smtp_session *session, uint64_t size)
{
    /* a clock of its own, so that time and rate are bounded here too */
    session->body_start_ns = clock_monotonic_ns();
    session->body_waited_ns = 0;
    session->body_bytes = 0;
    (void)receive(session, size, false);
}

static MAY_YIELD void end_chunk(struct smtp_session *session, uint64_t size, bool last)
{
    if (last) {
        smtp_server_store(session, smtp_data_finish(&session->data));
        smtp_server_finish_body(session);
        return;
    }
    if (smtp_server_refuse_body(session)) {
        fail_chunks(session, false);
        return;
    }
    char text[48];
    snprintf(text, sizeof text, "%llu octets received", (unsigned long long)size);
    smtp_session_say(session, 250, 0, 0, text);
}

void smtp_server_bdat(struct smtp_session *session, struct str arguments)
{
    uint64_t size;
    bool last;
    struct mail_reply fault;
    enum mail_reason reason;
    if (!smtp_command_chunk(arguments, &size, &last)) {
        /* nobody knows how many octets follow */
        smtp_session_tell_protocol(session, "BDAT without a size");
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 501, 5, 4,
                                 "Syntax: BDAT size [LAST]");
        smtp_session_end(session, "protocol");
        return;
    }
    if (size < SMALL_CHUNK)
        session->commands++;
    smtp_session_consume_line(session);
    session->command = STR("BDAT");
    if (is_out_of_order(session, &fault, &reason)) {
        discard(session, size);
        if (!session->closing)
            smtp_session_refuse(session, reason, fault);
        fail_chunks(session, last);
        return;
    }
    if (session->chunks == CHUNK_NONE && !smtp_server_begin_body(session, /* chunks= */ true)) {
        discard(session, size);
        fail_chunks(session, last);
        return;
    }
    session->chunks = CHUNK_OPEN;
    if (receive(session, size, true))
        end_chunk(session, size, last);
}
