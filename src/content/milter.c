/* SPDX-License-Identifier: Apache-2.0 */
#include "content/milter.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { COMMAND_MAX = 65536, READ_MAX = 64 * 1024, PARTING_S = 2 };

struct talk {
    struct stream *stream;
    const struct milter_question *question;
    struct milter_opinion *out;
    struct arena *arena;
    int64_t timeout_ns; /* of an answer */
    struct milter_terms terms;
    const struct mail_recipient *recipient; /* at its stage */
    struct buf command;                     /* data of the next one */
    struct buf packet;                      /* the last answer, command and data */
    struct milter_answer answer;            /* slices of it */
    size_t change_bytes;
    bool ended_in_cr; /* the new body so far */
    bool ended_line;
    bool over; /* it has a verdict */
    bool skip; /* it has seen enough of the body */
};

/* ---- packets ---- */

static MAY_YIELD enum result send_packet(struct talk *talk, char command, struct str data,
                                         struct error *err)
{
    char head[5];
    struct scope scope;
    milter_write_head(command, data.len, head);
    scope_open(&scope, clock_deadline(talk->timeout_ns));
    enum result result = stream_write(talk->stream, str_of(head, sizeof head), err);
    if (result == OK)
        result = stream_write(talk->stream, data, err);
    scope_close(&scope);
    return result;
}

/* Exactly `size` bytes, appended to the packet. */
static MAY_YIELD enum result receive(struct talk *talk, size_t size, struct error *err)
{
    bool end = false;
    while (size > 0) {
        struct str piece = str_slice(stream_buffered(talk->stream), 0, size);
        if (piece.len == 0) {
            if (end)
                return fail(err, ERROR_TEMPORARY, "the milter closed the connection");
            if (stream_fill(talk->stream, READ_MAX, &end, err) != OK)
                return FAILED;
            continue;
        }
        buf_append(&talk->packet, piece);
        stream_consume(talk->stream, piece.len);
        size -= piece.len;
    }
    return OK;
}

static MAY_YIELD enum result receive_packet(struct talk *talk, struct error *err)
{
    buf_clear(&talk->packet);
    if (receive(talk, 4, err) != OK)
        return FAILED;
    const unsigned char *p = (const unsigned char *)talk->packet.ptr;
    size_t length = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (length == 0 || length > MILTER_PACKET_MAX)
        return fail(err, ERROR_PROTOCOL, "the milter announced a packet of %zu bytes", length);
    buf_clear(&talk->packet);
    return receive(talk, length, err);
}

/* A packet whole within the time for an answer. */
static MAY_YIELD enum result wait_for_packet(struct talk *talk, struct error *err)
{
    struct scope scope;
    scope_open(&scope, clock_deadline(talk->timeout_ns));
    enum result result = receive_packet(talk, err);
    scope_close(&scope);
    return result;
}

/* What was sent gets the same time to be taken. */
static MAY_YIELD enum result flush(struct talk *talk, struct error *err)
{
    struct scope scope;
    scope_open(&scope, clock_deadline(talk->timeout_ns));
    enum result result = stream_flush(talk->stream, err);
    scope_close(&scope);
    return result;
}

/* The next answer that is more than a sign of life. */
static MAY_YIELD enum result next_answer(struct talk *talk, struct error *err)
{
    do {
        if (wait_for_packet(talk, err) != OK)
            return FAILED;
        struct str packet = buf_str(&talk->packet);
        if (milter_read_answer(packet.ptr[0], str_from(packet, 1), talk->terms.actions,
                               &talk->answer, err) != OK)
            return FAILED;
    } while (talk->answer.kind == MILTER_PROGRESS);
    return OK;
}

/* ---- verdicts ---- */

static void decide(struct talk *talk, enum milter_verdict verdict)
{
    talk->out->verdict = verdict;
    talk->over = true;
    if (talk->recipient && (verdict == MILTER_VERDICT_REJECT || verdict == MILTER_VERDICT_DEFER))
        talk->out->recipient = arena_str(talk->arena, talk->recipient->address);
}

/* An answer that is no change. */
static enum result take_verdict(struct talk *talk, bool may_skip, struct error *err)
{
    struct milter_opinion *out = talk->out;
    switch (talk->answer.kind) {
    case MILTER_CONTINUE:
        return OK;
    case MILTER_ACCEPT:
        decide(talk, MILTER_VERDICT_ACCEPT);
        return OK;
    case MILTER_REJECT:
        decide(talk, MILTER_VERDICT_REJECT);
        return OK;
    case MILTER_DEFER:
        decide(talk, MILTER_VERDICT_DEFER);
        return OK;
    case MILTER_DISCARD:
        decide(talk, MILTER_VERDICT_DISCARD);
        return OK;
    case MILTER_REPLY:
        if (!milter_read_reply(talk->answer.name, talk->arena, &out->reply))
            return fail(err, ERROR_PROTOCOL, "the milter gave a reply that is no refusal");
        decide(talk, out->reply.ptr[0] == '5' ? MILTER_VERDICT_REJECT : MILTER_VERDICT_DEFER);
        return OK;
    case MILTER_SKIP:
        talk->skip = true;
        return may_skip ? OK
                        : fail(err, ERROR_PROTOCOL, "the milter wants to skip what is no body");
    default:
        return fail(err, ERROR_PROTOCOL, "the milter changes a message that it has not seen whole");
    }
}

/* ---- macros ---- */

static bool is_named(struct str names, const char *name)
{
    struct str part;
    struct str bare = str_c(name);
    if (bare.len > 2 && bare.ptr[0] == '{')
        bare = str_slice(bare, 1, bare.len - 1);
    while (str_split(&names, ' ', &part)) {
        if (part.len > 2 && part.ptr[0] == '{')
            part = str_slice(part, 1, part.len - 1);
        if (str_equal(part, bare))
            return true;
    }
    return false;
}

static void add_macro(struct talk *talk, enum milter_stage stage, const struct milter_macro *macro)
{
    bool wanted = talk->terms.named[stage] ? is_named(talk->terms.macros[stage], macro->name)
                                           : (macro->stages >> stage & 1) != 0;
    if (!wanted || macro->value.len == 0)
        return;
    milter_write_text(&talk->command, str_c(macro->name));
    milter_write_text(&talk->command, macro->value);
}

static MAY_YIELD enum result send_macros(struct talk *talk, enum milter_stage stage, char command,
                                         struct error *err)
{
    const struct milter_question *question = talk->question;
    buf_clear(&talk->command);
    buf_append_byte(&talk->command, command);
    for (size_t i = 0; i < question->macro_count; i++)
        add_macro(talk, stage, &question->macros[i]);
    if (talk->recipient) {
        const struct milter_macro own[] = {
            {"{rcpt_mailer}", STR("smtp"), 1u << MILTER_AT_RECIPIENT},
            {"{rcpt_host}", talk->recipient->domain, 1u << MILTER_AT_RECIPIENT},
            {"{rcpt_addr}", talk->recipient->address, 1u << MILTER_AT_RECIPIENT}};
        for (size_t i = 0; i < sizeof own / sizeof *own; i++)
            add_macro(talk, stage, &own[i]);
    }
    if (talk->command.len == 1 || talk->command.overflow)
        return OK;
    return send_packet(talk, 'D', buf_str(&talk->command), err);
}

/* ---- one stage ---- */

/* An answer too many would be taken for that to the next question, and the last one, with all that
 * it wants changed, for nothing. */
static enum result was_silent(struct talk *talk, struct error *err)
{
    if (stream_fill_available(talk->stream, READ_MAX, err) != OK)
        return FAILED;
    if (stream_buffered(talk->stream).len == 0)
        return OK;
    return fail(err, ERROR_PROTOCOL, "the milter said something unasked");
}

/* Tell it, and hear what it says, unless it wants not to be told, or says nothing. */
static MAY_YIELD enum result tell(struct talk *talk, char command, struct str data, unsigned mute,
                                  struct error *err)
{
    if (!(talk->terms.steps & mute) && was_silent(talk, err) != OK)
        return FAILED;
    if (send_packet(talk, command, data, err) != OK)
        return FAILED;
    if (talk->terms.steps & mute)
        return OK;
    if (flush(talk, err) != OK || next_answer(talk, err) != OK)
        return FAILED;
    return take_verdict(talk, command == 'B', err);
}

static bool is_told(const struct talk *talk, unsigned unwanted)
{
    return !talk->over && !(talk->terms.steps & unwanted);
}

/* ---- the message, stage by stage ---- */

static MAY_YIELD enum result negotiate(struct talk *talk, unsigned actions, struct error *err)
{
    buf_clear(&talk->command);
    milter_write_u32(&talk->command, MILTER_VERSION);
    milter_write_u32(&talk->command, actions);
    milter_write_u32(&talk->command, MILTER_STEPS_OFFERED);
    if (send_packet(talk, 'O', buf_str(&talk->command), err) != OK || flush(talk, err) != OK ||
        wait_for_packet(talk, err) != OK)
        return FAILED;
    struct str packet = buf_str(&talk->packet);
    if (packet.ptr[0] != 'O')
        return fail(err, ERROR_PROTOCOL, "the milter does not negotiate");
    /* the terms outlive the packet */
    return milter_read_terms(arena_str(talk->arena, str_from(packet, 1)), actions, &talk->terms,
                             err);
}

static MAY_YIELD enum result tell_connection(struct talk *talk, struct error *err)
{
    const struct milter_question *question = talk->question;
    char text[NET_IP_TEXT];
    struct str ip = net_ip_format(&question->client, text);
    bool known = question->client.family != 0;
    if (!is_told(talk, MILTER_NO_CONNECT))
        return OK;
    if (send_macros(talk, MILTER_AT_CONNECT, 'C', err) != OK)
        return FAILED;
    buf_clear(&talk->command);
    milter_write_text(&talk->command, question->client_name.len
                                          ? question->client_name
                                          : arena_printf(talk->arena, "[%.*s]", STR_ARG(ip)));
    buf_append_byte(&talk->command, !known ? 'U' : question->client.family == 6 ? '6' : '4');
    if (known) {
        buf_append(&talk->command, str_of("\0\0", 2)); /* its port is not known here */
        milter_write_text(&talk->command, ip);
    }
    return tell(talk, 'C', buf_str(&talk->command), MILTER_MUTE_CONNECT, err);
}

static MAY_YIELD enum result tell_helo(struct talk *talk, struct error *err)
{
    if (!is_told(talk, MILTER_NO_HELO))
        return OK;
    if (send_macros(talk, MILTER_AT_HELO, 'H', err) != OK)
        return FAILED;
    buf_clear(&talk->command);
    milter_write_text(&talk->command, talk->question->helo);
    return tell(talk, 'H', buf_str(&talk->command), MILTER_MUTE_HELO, err);
}

/* An address, and parameters that are separated by blanks. */
static void write_path(struct talk *talk, struct str address, struct str parameters)
{
    struct str part;
    buf_clear(&talk->command);
    milter_write_text(&talk->command, arena_printf(talk->arena, "<%.*s>", STR_ARG(address)));
    while (str_split(&parameters, ' ', &part))
        if (part.len)
            milter_write_text(&talk->command, part);
}

static MAY_YIELD enum result tell_sender(struct talk *talk, struct error *err)
{
    if (!is_told(talk, MILTER_NO_MAIL))
        return OK;
    if (send_macros(talk, MILTER_AT_MAIL, 'M', err) != OK)
        return FAILED;
    write_path(talk, talk->question->sender, talk->question->sender_parameters);
    return tell(talk, 'M', buf_str(&talk->command), MILTER_MUTE_MAIL, err);
}

static MAY_YIELD enum result tell_recipients(struct talk *talk, struct error *err)
{
    const struct milter_question *question = talk->question;
    enum result result = OK;
    for (size_t i = 0; i < question->recipient_count && result == OK; i++) {
        if (!is_told(talk, MILTER_NO_RECIPIENTS))
            break;
        talk->recipient = &question->recipients[i];
        result = send_macros(talk, MILTER_AT_RECIPIENT, 'R', err);
        write_path(talk, talk->recipient->address, STR_EMPTY);
        if (result == OK)
            result = tell(talk, 'R', buf_str(&talk->command), MILTER_MUTE_RECIPIENTS, err);
    }
    talk->recipient = NULL;
    return result;
}

static MAY_YIELD enum result tell_data(struct talk *talk, struct error *err)
{
    if (!is_told(talk, MILTER_NO_DATA) || talk->terms.version < MILTER_VERSION_DATA)
        return OK;
    if (send_macros(talk, MILTER_AT_DATA, 'T', err) != OK)
        return FAILED;
    return tell(talk, 'T', STR_EMPTY, MILTER_MUTE_DATA, err);
}

static MAY_YIELD enum result tell_fields(struct talk *talk, struct error *err)
{
    const struct milter_question *question = talk->question;
    bool leading_space = (talk->terms.steps & MILTER_LEADING_SPACE) != 0;
    for (size_t i = 0; i < question->field_count; i++) {
        if (!is_told(talk, MILTER_NO_HEADERS))
            return OK;
        const struct mail_field *field = &question->fields[i];
        size_t room = MILTER_CHUNK - 2 - str_slice(field->name, 0, READ_MAX / 2).len;
        buf_clear(&talk->command);
        milter_write_field(&talk->command, str_slice(field->name, 0, READ_MAX / 2),
                           str_slice(field->value, 0, room), leading_space);
        if (tell(talk, 'L', buf_str(&talk->command), MILTER_MUTE_HEADERS, err) != OK)
            return FAILED;
    }
    return OK;
}

static MAY_YIELD enum result tell_end_of_fields(struct talk *talk, struct error *err)
{
    if (!is_told(talk, MILTER_NO_END_OF_HEADERS))
        return OK;
    if (send_macros(talk, MILTER_AT_END_OF_HEADERS, 'N', err) != OK)
        return FAILED;
    return tell(talk, 'N', STR_EMPTY, MILTER_MUTE_END_OF_HEADERS, err);
}

/* As much as a packet holds: what lies in memory comes in pieces of its own. */
static MAY_YIELD enum result read_chunk(const struct mail_content *content, uint64_t at,
                                        char *space, size_t *out_len, struct error *err)
{
    size_t len = 0;
    while (len < MILTER_CHUNK) {
        struct str piece;
        if (mail_content_read(content, at + len, MILTER_CHUNK - len, space + len, &piece, err) !=
            OK)
            return FAILED;
        if (piece.len == 0)
            break;
        if (piece.ptr != space + len)
            memcpy(space + len, piece.ptr, piece.len);
        len += piece.len;
    }
    *out_len = len;
    return OK;
}

static MAY_YIELD enum result tell_body(struct talk *talk, struct error *err)
{
    const struct milter_question *question = talk->question;
    char *space = memory_alloc(MILTER_CHUNK);
    enum result result = OK;
    uint64_t at = question->body_begin;
    size_t len = 1;
    while (result == OK && len && !talk->skip && is_told(talk, MILTER_NO_BODY)) {
        result = read_chunk(question->content, at, space, &len, err);
        if (result == OK && len)
            result = tell(talk, 'B', str_of(space, len), MILTER_MUTE_BODY, err);
        at += len;
    }
    free(space);
    return result;
}

/* ---- what it wants changed ---- */

/* Line ends become CRLF, whatever it sent: others must not read other lines than we do. */
static MAY_YIELD enum result add_to_body(struct talk *talk, struct str piece, struct error *err)
{
    struct body *body = talk->out->body;
    struct buf text BUF_CLEANUP;
    buf_init(&text, 2 * piece.len + 2);
    for (size_t i = 0; i < piece.len; i++) {
        char c = piece.ptr[i];
        talk->out->body_has_8bit |= (unsigned char)c > 127;
        if (talk->ended_in_cr && c != '\n')
            buf_append(&text, STR("\r\n"));
        if (c == '\n')
            buf_append(&text, STR("\r\n"));
        else if (c != '\r')
            buf_append_byte(&text, c);
        talk->ended_in_cr = c == '\r';
        talk->ended_line = c == '\n' || c == '\r';
    }
    return body_append(body, buf_str(&text), err);
}

static MAY_YIELD enum result take_body(struct talk *talk, struct error *err)
{
    if (!talk->out->body) {
        talk->out->body = body_memory_new(talk->question->body_max);
        talk->ended_line = true;
    }
    if (add_to_body(talk, talk->answer.value, err) == OK)
        return OK;
    return err->kind == ERROR_LIMIT ? fail(err, ERROR_PERMANENT, "its new body is too large")
                                    : FAILED;
}

static MAY_YIELD enum result end_body(struct talk *talk, struct error *err)
{
    struct body *body = talk->out->body;
    if (!body)
        return OK;
    if ((talk->ended_in_cr || !talk->ended_line) && body_append(body, STR("\r\n"), err) != OK)
        return FAILED;
    return body_seal(body, err);
}

static enum result keep_change(struct talk *talk, struct error *err)
{
    struct milter_opinion *out = talk->out;
    const struct milter_answer *answer = &talk->answer;
    talk->change_bytes += answer->name.len + answer->value.len;
    if (out->change_count >= MILTER_CHANGES_MAX || talk->change_bytes > MILTER_CHANGES_BYTES)
        return fail(err, ERROR_PERMANENT, "the milter wants more than %d changes, or %d bytes",
                    MILTER_CHANGES_MAX, MILTER_CHANGES_BYTES);
    if (!out->changes)
        out->changes = arena_alloc_array(talk->arena, MILTER_CHANGES_MAX, sizeof *out->changes);
    out->changes[out->change_count++] =
        (struct milter_answer){.kind = answer->kind,
                               .index = answer->index,
                               .name = arena_str(talk->arena, answer->name),
                               .value = arena_str(talk->arena, answer->value)};
    return OK;
}

static MAY_YIELD enum result tell_end(struct talk *talk, struct error *err)
{
    if (talk->over)
        return OK;
    if (send_macros(talk, MILTER_AT_END, 'E', err) != OK || was_silent(talk, err) != OK ||
        send_packet(talk, 'E', STR_EMPTY, err) != OK || flush(talk, err) != OK ||
        next_answer(talk, err) != OK)
        return FAILED;
    while (milter_answer_is_change(talk->answer.kind)) {
        bool is_body = talk->answer.kind == MILTER_REPLACE_BODY;
        if ((is_body ? take_body(talk, err) : keep_change(talk, err)) != OK ||
            next_answer(talk, err) != OK)
            return FAILED;
    }
    talk->out->leading_space = (talk->terms.steps & MILTER_LEADING_SPACE) != 0;
    return take_verdict(talk, /* may_skip= */ false, err) == OK ? end_body(talk, err) : FAILED;
}

/* ---- all of it ---- */

typedef enum result stage(struct talk *talk, struct error *err);

static MAY_YIELD enum result converse(struct talk *talk, struct error *err)
{
    static stage *const stages[] = {tell_connection,    tell_helo, tell_sender,
                                    tell_recipients,    tell_data, tell_fields,
                                    tell_end_of_fields, tell_body, tell_end};
    if (negotiate(talk, talk->question->actions, err) != OK)
        return FAILED;
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        if (stages[i](talk, err) != OK)
            return FAILED;
    return OK;
}

/* A milter that is gone by now has said what it had to say. */
static MAY_YIELD void part(struct talk *talk)
{
    struct error ignored;
    if (send_packet(talk, 'Q', STR_EMPTY, &ignored) == OK)
        (void)!flush(talk, &ignored);
}

/* One that does not answer everything must end without another word: else what was taken for its
 * last answer was that to an earlier question. */
static MAY_YIELD enum result see_it_end(struct talk *talk, struct error *err)
{
    static const unsigned mute = MILTER_MUTE_HEADERS | MILTER_MUTE_CONNECT | MILTER_MUTE_HELO |
                                 MILTER_MUTE_MAIL | MILTER_MUTE_RECIPIENTS | MILTER_MUTE_DATA |
                                 MILTER_MUTE_END_OF_HEADERS | MILTER_MUTE_BODY;
    struct scope scope;
    struct error ignored;
    bool end = false;
    if (!(talk->terms.steps & mute))
        return OK;
    int64_t patience_ns = PARTING_S * NS_PER_S;
    scope_open(&scope,
               clock_deadline(talk->timeout_ns < patience_ns ? talk->timeout_ns : patience_ns));
    while (!end && stream_buffered(talk->stream).len == 0)
        if (stream_fill(talk->stream, READ_MAX, &end, &ignored) != OK)
            break;
    scope_close(&scope);
    if (stream_buffered(talk->stream).len == 0)
        return fiber_check(err);
    return fail(err, ERROR_PROTOCOL, "the milter said something unasked");
}

static void prepare(struct talk *talk, struct stream *stream)
{
    talk->stream = stream;
    buf_init(&talk->command, 2 * COMMAND_MAX);
    buf_init(&talk->packet, MILTER_PACKET_MAX);
}

static void clean(struct talk *talk)
{
    buf_done(&talk->command);
    buf_done(&talk->packet);
}

static enum result ask(struct stream *stream, const struct server_endpoint *endpoint, void *arg,
                       struct error *err) MAY_YIELD
{
    (void)endpoint;
    struct talk talk = *(const struct talk *)arg;
    *talk.out = (struct milter_opinion){.reply = STR_EMPTY, .recipient = STR_EMPTY};
    prepare(&talk, stream);
    enum result result = converse(&talk, err);
    if (result == OK) {
        part(&talk);
        result = see_it_end(&talk, err);
    }
    clean(&talk);
    if (result != OK) {
        body_unref(talk.out->body);
        talk.out->body = NULL;
    }
    return result;
}

enum result milter_ask(const struct scanner *scanner, const struct milter_question *question,
                       struct arena *arena, struct milter_opinion *out, struct error *err)
{
    struct talk talk = {.question = question,
                        .arena = arena,
                        .out = out,
                        .timeout_ns = scanner->server->timeout_ns};
    struct scanner timed = *scanner;
    timed.talk_has_own_time = true;
    return scanner_ask(&timed, ask, &talk, err);
}

enum result milter_greet(struct stream *stream, const struct server_endpoint *endpoint, void *arg,
                         struct error *err)
{
    (void)endpoint;
    unsigned *version = arg;
    struct arena *arena = arena_new(0);
    struct talk talk = {.arena = arena, .timeout_ns = TIME_NEVER};
    prepare(&talk, stream);
    enum result result = negotiate(&talk, MILTER_MAY_ALL, err);
    *version = talk.terms.version;
    if (result == OK)
        part(&talk);
    clean(&talk);
    arena_free(arena);
    return result;
}
