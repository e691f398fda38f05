/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_data.c - DATA, and what DATA and BDAT share: from decoder to body to reply.
 *
 * Whatever is wrong with a message, it is read to its true end first.
 */
#include "smtp/server_internal.h"

#include "base/memory.h"

enum { RATE_GRACE_S = 60 };

/* ---- the body ---- */

bool smtp_server_begin_body(struct smtp_session *session, bool chunks)
{
    const struct smtp_limits *limits = &session->settings->limits;
    struct smtp_data_limits bounds = {
        .size = limits->size,
        .line = limits->line,
        .header_bytes = limits->header_bytes,
        .header_fields = (uint64_t)limits->header_fields,
        .hops = (uint64_t)limits->hops,
    };
    struct mail_reply reply = {.text = STR_EMPTY};
    if (session->handler->begin_data)
        session->body = session->handler->begin_data(session->context, session, &reply);
    else
        session->body = body_memory_new(limits->size ? limits->size : UINT64_MAX);
    if (!session->body) {
        if (reply.code)
            smtp_session_reply(session, &reply);
        else
            smtp_session_refuse_with(session, MAIL_REASON_OVERLOAD, 452, 3, 1,
                                     "Insufficient storage, try again later");
        return false;
    }
    smtp_data_init(&session->data, &bounds, chunks, smtp_session_mends(session));
    session->body_failed = false;
    session->body_start_ns = clock_monotonic_ns();
    session->body_waited_ns = 0;
    session->body_bytes = 0;
    return true;
}

void smtp_server_store(struct smtp_session *session, struct str slice)
{
    struct error err = {.kind = ERROR_NONE};
    if (slice.len == 0 || session->data.fault || session->body_failed)
        return;
    if (body_append(session->body, slice, &err) == FAILED) {
        session->body_failed = true;
        session->body_fault = err.kind;
    }
}

bool smtp_server_decode(struct smtp_session *session, struct str *input)
{
    session->body_bytes += input->len;
    for (;;) {
        struct str slice;
        switch (smtp_data_next(&session->data, input, &slice)) {
        case SMTP_DATA_SLICE:
            smtp_server_store(session, slice);
            break;
        case SMTP_DATA_MORE:
            return false;
        case SMTP_DATA_END:
            session->body_bytes -= input->len;
            return true;
        }
    }
}

bool smtp_server_fill_body(struct smtp_session *session)
{
    const struct smtp_limits *limits = &session->settings->limits;
    int64_t now_ns = clock_monotonic_ns();
    struct smtp_wait wait = smtp_session_command_wait(session);
    if (limits->data_timeout_ns > 0 && limits->data_timeout_ns < TIME_NEVER)
        wait = smtp_wait_earlier(wait, session->body_start_ns + limits->data_timeout_ns,
                                 "data_timeout");
    if (limits->min_rate) {
        /* when the bytes so far will be too few; only waiting for the client counts */
        uint64_t paid_s = session->body_bytes / limits->min_rate;
        if (paid_s < RATE_GRACE_S)
            paid_s = RATE_GRACE_S;
        if (paid_s < 1000000)
            wait = smtp_wait_earlier(
                wait, now_ns + (int64_t)paid_s * NS_PER_S - session->body_waited_ns, "min_rate");
    }
    bool more = smtp_session_fill(session, wait);
    session->body_waited_ns += clock_monotonic_ns() - now_ns;
    return more;
}

/* ---- what is wrong with it ---- */

static const struct {
    unsigned short code, subject, detail;
    enum mail_reason reason;
    const char *limit; /* setting whose limit was reached */
    const char *text;
} faults[] = {
    [SMTP_DATA_BARE_LF] = {550, 5, 2, MAIL_REASON_PROTOCOL, NULL, "Bare <LF> in message"},
    [SMTP_DATA_BARE_CR] = {550, 5, 2, MAIL_REASON_PROTOCOL, NULL, "Bare <CR> in message"},
    [SMTP_DATA_NUL] = {550, 5, 2, MAIL_REASON_PROTOCOL, NULL, "NUL in message"},
    [SMTP_DATA_SIZE] = {552, 3, 4, MAIL_REASON_SIZE, "size", "Message too big"},
    [SMTP_DATA_LINE] = {554, 6, 0, MAIL_REASON_PROTOCOL, "line", "Line too long"},
    [SMTP_DATA_HEADER_BYTES] = {552, 3, 4, MAIL_REASON_SIZE, "header_bytes", "Header too long"},
    [SMTP_DATA_HEADER_FIELDS] = {554, 6, 0, MAIL_REASON_PROTOCOL, "header_fields",
                                 "Too many header fields"},
    [SMTP_DATA_HOPS] = {554, 4, 6, MAIL_REASON_LOOP, "hops", "Too many hops, this is a mail loop"},
};

static uint64_t measure(const struct smtp_data *data)
{
    switch (data->fault) {
    case SMTP_DATA_LINE:
        return data->longest_line;
    case SMTP_DATA_HEADER_FIELDS:
        return data->header_fields;
    case SMTP_DATA_HOPS:
        return data->received_count;
    default:
        return data->size;
    }
}

static MAY_YIELD void refuse_storage(struct smtp_session *session)
{
    if (session->body_fault == ERROR_LIMIT)
        smtp_session_refuse_with(session, MAIL_REASON_OVERLOAD, 452, 3, 1,
                                 "Insufficient storage, try again later");
    else
        smtp_session_refuse_with(session, MAIL_REASON_OVERLOAD, 451, 3, 0,
                                 "Cannot store the message, try again later");
}

bool smtp_server_refuse_body(struct smtp_session *session)
{
    enum smtp_data_fault fault = session->data.fault;
    if (fault == SMTP_DATA_OK && !session->body_failed)
        return false;
    if (fault == SMTP_DATA_OK) {
        refuse_storage(session);
        return true;
    }
    if (faults[fault].limit)
        smtp_session_tell_limit(session, faults[fault].limit, (int64_t)measure(&session->data));
    else
        smtp_session_tell_protocol(session, faults[fault].text);
    smtp_session_refuse_with(session, faults[fault].reason, faults[fault].code,
                             faults[fault].subject, faults[fault].detail, faults[fault].text);
    if (smtp_data_must_close(fault))
        smtp_session_end(session, "protocol");
    return true;
}

/* ---- the end ---- */

static MAY_YIELD void ask(struct smtp_session *session)
{
    const struct smtp_data *data = &session->data;
    struct mail_reply reply = {.text = STR_EMPTY};
    struct smtp_message message = {
        .sender = &session->sender,
        .recipients = session->recipients,
        .recipient_count = session->recipient_count,
        .body = session->body,
        .has_8bit = data->has_8bit,
        .mended_line_ends = data->mended_line_ends,
        .header_length = data->header_length,
        .received_count = data->received_count,
    };
    if (session->handler->message)
        session->handler->message(session->context, session, &message, &reply);
    if (reply.code == 0) {
        smtp_session_refuse_with(session, MAIL_REASON_OVERLOAD, 451, 3, 0,
                                 "Cannot take the message, try again later");
        return;
    }
    if (mail_reply_is_positive(&reply)) {
        session->messages++;
        session->errors = 0;
        session->commands = 0;
    } else if (mail_reply_is_permanent(&reply) && !smtp_session_is_own(session))
        session->errors++;
    smtp_session_reply(session, &reply);
}

void smtp_server_finish_body(struct smtp_session *session)
{
    struct error err = {.kind = ERROR_NONE};
    if (!session->data.fault && !session->body_failed && body_seal(session->body, &err) == FAILED) {
        session->body_failed = true;
        session->body_fault = err.kind;
    }
    if (!smtp_server_refuse_body(session))
        ask(session);
    smtp_session_reset(session);
}

/* ---- DATA ---- */

static MAY_YIELD bool receive(struct smtp_session *session)
{
    for (;;) {
        struct str input = stream_buffered(session->stream);
        struct str rest = input;
        bool ended = smtp_server_decode(session, &rest);
        stream_consume(session->stream, input.len - rest.len);
        if (ended)
            return true;
        if (!smtp_server_fill_body(session))
            return false;
    }
}

void smtp_server_data(struct smtp_session *session, struct str arguments)
{
    (void)arguments;
    if (session->chunks != CHUNK_NONE) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 503, 5, 1, "Not after BDAT");
        return;
    }
    if (session->recipient_count == 0) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 554, 5, 1, "No valid recipients");
        return;
    }
    if (!smtp_server_begin_body(session, /* chunks= */ false)) {
        smtp_session_reset(session);
        return;
    }
    smtp_session_consume_line(session);
    session->command = STR("DATA");
    smtp_session_reply_line(session, 354, false, STR("End data with <CR><LF>.<CR><LF>"));
    if (receive(session))
        smtp_server_finish_body(session);
}
