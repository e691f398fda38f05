/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/client.h"

#include "base/check.h"
#include "base/memory.h"
#include "smtp/client_internal.h"

#include <stdarg.h>
#include <stdlib.h>

/* ---- life cycle ---- */

struct smtp_client *smtp_client_new(struct stream *stream, bool lmtp)
{
    struct smtp_client *client = NEW(struct smtp_client);
    client->stream = stream;
    client->lmtp = lmtp;
    smtp_reply_parser_init(&client->parser);
    buf_init(&client->out, SMTP_CLIENT_OUTPUT_MAX);
    return client;
}

void smtp_client_ignore(struct smtp_client *client, unsigned extensions)
{
    client->ignored = extensions;
}

void smtp_client_abort(struct smtp_client *client)
{
    if (!client)
        return;
    stream_close(client->stream);
    smtp_reply_parser_done(&client->parser);
    if (client->out.cap)
        memory_wipe(client->out.ptr, client->out.cap);
    buf_done(&client->out);
    free(client);
}

void smtp_client_quit(struct smtp_client *client)
{
    if (client && !client->broken) {
        /* a peer that stopped reading must not hold us for the sake of politeness */
        struct scope scope;
        scope_open(&scope, clock_deadline(NS_PER_S));
        struct error ignored;
        smtp_client_add(client, "QUIT");
        if (smtp_client_send_batch(client, &ignored) != OK)
            client->broken = true;
        scope_close(&scope);
    }
    smtp_client_abort(client);
}

/* ---- commands and replies ---- */

static void add_command(struct smtp_client *client, const char *format, va_list args)
{
    buf_vprintf(&client->out, format, args);
    buf_append(&client->out, STR("\r\n"));
}

void smtp_client_add(struct smtp_client *client, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_command(client, format, args);
    va_end(args);
}

enum result smtp_client_break(struct smtp_client *client, const struct error *err)
{
    if (!client->broken && err)
        client->last_error = *err;
    client->broken = true;
    return FAILED;
}

enum result smtp_client_check(const struct smtp_client *client, struct error *err)
{
    if (!client->broken)
        return OK;
    if (err)
        *err = client->last_error;
    return FAILED;
}

/* All that was asked before is answered: whatever waits here would be taken for the answer to what
 * is asked now. Only a 421 may come at any time (RFC 5321 3.8). */
static enum result check_unasked(const struct smtp_client *client, struct error *err)
{
    struct str input = stream_buffered(client->stream);
    if (!input.len || str_starts(input, STR("421")))
        return OK;
    return fail(err, ERROR_PROTOCOL, "the server spoke before it was asked");
}

enum result smtp_client_send_batch(struct smtp_client *client, struct error *err)
{
    struct error error;
    enum result result = smtp_client_check(client, &error);
    if (result == OK)
        result = check_unasked(client, &error);
    if (result == OK && client->out.overflow)
        result = fail(&error, ERROR_LIMIT, "too many commands for one batch");
    if (result == OK)
        result = stream_write(client->stream, buf_str(&client->out), &error);
    if (result == OK)
        result = stream_flush(client->stream, &error);
    if (client->out.len)
        memory_wipe(client->out.ptr, client->out.len); /* it may have held a password */
    buf_clear(&client->out);
    if (result == OK)
        return OK;
    if (err)
        *err = error;
    return smtp_client_break(client, &error);
}

/* Wait for more of the server's bytes. */
static enum result read_more(struct smtp_client *client, struct error *err) MAY_YIELD
{
    bool end = false;
    if (stream_fill(client->stream, SMTP_CLIENT_INPUT_MAX, &end, err) != OK)
        return FAILED;
    if (end)
        return fail(err, ERROR_TEMPORARY, "the server closed the connection");
    return OK;
}

static enum result read_reply(struct smtp_client *client, struct mail_reply *out_reply,
                              struct error *err) MAY_YIELD
{
    for (;;) {
        size_t used = 0;
        enum smtp_reply_progress progress;
        if (smtp_reply_feed(&client->parser, stream_buffered(client->stream), &used, &progress,
                            out_reply, err) != OK)
            return FAILED;
        stream_consume(client->stream, used);
        if (progress == SMTP_REPLY_COMPLETE)
            return OK;
        if (read_more(client, err) != OK)
            return FAILED;
    }
}

enum result smtp_client_read(struct smtp_client *client, struct mail_reply *out_reply,
                             struct error *err)
{
    struct error error;
    struct mail_reply reply;
    if (smtp_client_check(client, err) != OK)
        return FAILED;
    if (read_reply(client, &reply, &error) != OK) {
        if (err)
            *err = error;
        return smtp_client_break(client, &error);
    }
    if (reply.code == 421) {
        (void)fail(&error, ERROR_TEMPORARY, "the server closes the connection: 421 %.*s",
                   STR_ARG(str_slice(reply.text, 0, 200)));
        (void)smtp_client_break(client, &error);
    }
    *out_reply = reply;
    return OK;
}

enum result smtp_client_ask(struct smtp_client *client, struct mail_reply *out_reply,
                            struct error *err, const char *format, ...)
{
    if (smtp_client_check(client, err) != OK)
        return FAILED;
    va_list args;
    va_start(args, format);
    add_command(client, format, args);
    va_end(args);
    if (smtp_client_send_batch(client, err) != OK)
        return FAILED;
    return smtp_client_read(client, out_reply, err);
}

/* ---- queries ---- */

bool smtp_client_refused_chunking(const struct smtp_client *client)
{
    return client->chunking_refused;
}

unsigned smtp_client_extensions(const struct smtp_client *client)
{
    return client->extensions;
}

uint64_t smtp_client_max_size(const struct smtp_client *client)
{
    return client->max_size;
}

int64_t smtp_client_max_recipients(const struct smtp_client *client)
{
    return client->max_recipients;
}

struct stream *smtp_client_stream(struct smtp_client *client)
{
    return client->stream;
}

bool smtp_client_is_usable(const struct smtp_client *client)
{
    return !client->broken && stream_is_idle_alive(client->stream);
}
