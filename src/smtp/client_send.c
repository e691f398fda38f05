/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/client_send.c - one mail transaction: MAIL, RCPT …, DATA or BDAT, content, final replies.
 *
 * A recipient is open while its reply.code is 0: first undecided, then accepted with stage DATA,
 * then waiting for the final reply with stage END. When the connection breaks, what was decided
 * stays, and the stage of the others tells how far they got.
 */
#include "fiber/loop.h"
#include "smtp/client_internal.h"
#include "smtp/data_writer.h"

enum {
    /* RCPT commands in one batch: the replies to a batch must fit into socket buffers, or both
     * sides could wait for each other (RFC 2920 3.1) */
    BATCH_RECIPIENTS = 64,
    SLICE = 64 * 1024,
    SLICE_SMALL = 2 * LOOP_BLOCK, /* for messages that fit */
    /* content that BDAT takes along with the envelope: about what a first flight carries, so that
     * it costs little where all recipients are refused */
    EARLY_CONTENT = 16 * 1024,
};

struct transaction {
    struct smtp_client *client;
    const struct smtp_client_mail *mail;
    struct arena *arena;
    struct mail_reply kept; /* the last reply copied to the arena */
    size_t accepted;        /* recipients that RCPT accepted */
    bool pipelining;
    bool chunking;
    bool smtputf8;
    bool mail_refused;
    bool envelope_open; /* the content goes with the envelope, whose replies are not read yet */
};

/* ---- what was decided ---- */

/* A copy that lives in the arena; a thousand recipients with one text share it. */
static struct mail_reply keep(struct transaction *transaction, const struct mail_reply *reply)
{
    struct mail_reply copy = *reply;
    copy.text = str_slice(copy.text, 0, SMTP_CLIENT_KEPT_TEXT);
    if (str_equal(copy.text, transaction->kept.text))
        copy.text = transaction->kept.text;
    else if (arena_has_room(transaction->arena, copy.text.len + 1))
        copy.text = arena_str(transaction->arena, copy.text);
    else
        copy.text = STR_EMPTY;
    transaction->kept = copy;
    return copy;
}

static void decide(struct transaction *transaction, struct smtp_client_recipient *recipient,
                   enum smtp_stage stage, const struct mail_reply *reply)
{
    recipient->stage = stage;
    recipient->reply = keep(transaction, reply);
    recipient->accepted = mail_reply_is_positive(reply);
}

static void decide_open(struct transaction *transaction, enum smtp_stage stage,
                        const struct mail_reply *reply)
{
    for (size_t i = 0; i < transaction->mail->recipient_count; i++) {
        struct smtp_client_recipient *recipient = &transaction->mail->recipients[i];
        if (recipient->reply.code == 0)
            decide(transaction, recipient, stage, reply);
    }
}

static void set_stage_of_open(struct transaction *transaction, enum smtp_stage stage)
{
    for (size_t i = 0; i < transaction->mail->recipient_count; i++) {
        struct smtp_client_recipient *recipient = &transaction->mail->recipients[i];
        if (recipient->reply.code == 0)
            recipient->stage = stage;
    }
}

static enum result protocol_error(struct transaction *transaction, const char *command,
                                  const struct mail_reply *reply, struct error *err)
{
    struct error error;
    (void)fail(&error, ERROR_PROTOCOL, "the server answered %s with %u", command, reply->code);
    if (err)
        *err = error;
    return smtp_client_break(transaction->client, &error);
}

/* ---- the envelope ---- */

/* Nothing that could end a command early is ever sent; such an address is refused by ourselves. */
static void refuse_unsafe(struct transaction *transaction)
{
    const struct smtp_client_mail *mail = transaction->mail;
    struct mail_reply bad_sender =
        mail_reply_of(553, 5, 1, 7, STR("Sender address cannot be expressed in this transaction"));
    struct mail_reply bad_recipient = mail_reply_of(
        553, 5, 1, 3, STR("Recipient address cannot be expressed in this transaction"));
    if (!smtp_client_address_is_safe(mail->sender->address, transaction->smtputf8))
        decide_open(transaction, SMTP_STAGE_MAIL, &bad_sender);
    for (size_t i = 0; i < mail->recipient_count; i++) {
        struct smtp_client_recipient *recipient = &mail->recipients[i];
        struct str address = recipient->recipient->address;
        if (!recipient->reply.code &&
            (!address.len || !smtp_client_address_is_safe(address, transaction->smtputf8)))
            decide(transaction, recipient, SMTP_STAGE_RCPT, &bad_recipient);
    }
}

static enum result read_reset(struct transaction *transaction, struct error *err) MAY_YIELD
{
    struct mail_reply reply;
    if (smtp_client_read(transaction->client, &reply, err) != OK)
        return FAILED;
    if (!mail_reply_is_positive(&reply))
        return protocol_error(transaction, "RSET", &reply, err);
    transaction->client->needs_reset = false;
    return OK;
}

static enum result read_mail(struct transaction *transaction, struct error *err) MAY_YIELD
{
    struct mail_reply reply;
    if (smtp_client_read(transaction->client, &reply, err) != OK)
        return FAILED;
    if (reply.code >= 300 && reply.code < 400)
        return protocol_error(transaction, "MAIL", &reply, err);
    transaction->mail_refused = !mail_reply_is_positive(&reply);
    if (transaction->mail_refused)
        decide_open(transaction, SMTP_STAGE_MAIL, &reply);
    else
        transaction->client->needs_reset = true;
    return OK;
}

static enum result read_rcpt(struct transaction *transaction,
                             struct smtp_client_recipient *recipient, struct error *err) MAY_YIELD
{
    struct mail_reply reply;
    if (!transaction->mail_refused)
        recipient->stage = SMTP_STAGE_RCPT;
    if (smtp_client_read(transaction->client, &reply, err) != OK)
        return FAILED;
    if (reply.code >= 300 && reply.code < 400)
        return protocol_error(transaction, "RCPT", &reply, err);
    if (mail_reply_is_positive(&reply)) {
        transaction->accepted++;
        if (!transaction->mail_refused)
            recipient->stage = SMTP_STAGE_DATA;
    } else if (!transaction->mail_refused) {
        decide(transaction, recipient, SMTP_STAGE_RCPT, &reply);
    }
    return OK;
}

/* MAIL, with the RSET that an earlier transaction left behind. Not pipelined: ask both now. */
static enum result open_transaction(struct transaction *transaction, bool *out_reset_pending,
                                    struct error *err) MAY_YIELD
{
    struct smtp_client *client = transaction->client;
    *out_reset_pending = client->needs_reset;
    if (client->needs_reset)
        smtp_client_add(client, "RSET");
    if (transaction->pipelining) {
        smtp_client_add_mail(client, transaction->mail);
        return OK;
    }
    if (*out_reset_pending &&
        (smtp_client_send_batch(client, err) != OK || read_reset(transaction, err) != OK))
        return FAILED;
    *out_reset_pending = false;
    smtp_client_add_mail(client, transaction->mail);
    if (smtp_client_send_batch(client, err) != OK)
        return FAILED;
    return read_mail(transaction, err);
}

/* The next recipients that are sent: at most `limit` that are open, from *next on. */
static size_t choose_batch(const struct smtp_client_mail *mail, size_t *next, size_t limit,
                           size_t batch[static BATCH_RECIPIENTS])
{
    size_t count = 0;
    for (; *next < mail->recipient_count && count < limit; (*next)++) {
        if (mail->recipients[*next].reply.code == 0)
            batch[count++] = *next;
    }
    /* so that the batch is known to be the last one when only refused ones follow */
    while (*next < mail->recipient_count && mail->recipients[*next].reply.code != 0)
        (*next)++;
    return count;
}

/* MAIL and every RCPT. `*out_data_pending`: DATA was pipelined behind them, and its reply is the
 * next to read. */
static enum result send_envelope(struct transaction *transaction, bool *out_data_pending,
                                 struct error *err) MAY_YIELD
{
    struct smtp_client *client = transaction->client;
    const struct smtp_client_mail *mail = transaction->mail;
    bool reset_pending;
    bool mail_pending = transaction->pipelining;
    size_t next = 0;
    *out_data_pending = false;
    if (open_transaction(transaction, &reset_pending, err) != OK)
        return FAILED;
    while (!transaction->mail_refused && next < mail->recipient_count) {
        size_t batch[BATCH_RECIPIENTS];
        size_t limit = transaction->pipelining ? BATCH_RECIPIENTS : 1;
        size_t count = choose_batch(mail, &next, limit, batch);
        for (size_t i = 0; i < count; i++)
            smtp_client_add_rcpt(client, mail->recipients[batch[i]].recipient,
                                 transaction->smtputf8);
        if (next == mail->recipient_count && transaction->pipelining && !transaction->chunking) {
            smtp_client_add(client, "DATA");
            *out_data_pending = true;
        }
        if (smtp_client_send_batch(client, err) != OK)
            return FAILED;
        if (reset_pending && read_reset(transaction, err) != OK)
            return FAILED;
        reset_pending = false;
        if (mail_pending && read_mail(transaction, err) != OK)
            return FAILED;
        mail_pending = false;
        for (size_t i = 0; i < count; i++) {
            if (read_rcpt(transaction, &mail->recipients[batch[i]], err) != OK)
                return FAILED;
        }
    }
    return OK;
}

/* ---- the content ---- */

/* A server that has seen enough answers before the end, and often closes then; its words are worth
 * more than the "broken pipe" that comes next. Before the first byte is sent nothing is waited for:
 * what is there already came along with the answer to DATA. */
static enum result check_early_reply(struct transaction *transaction, bool begun, struct error *err)
{
    struct smtp_client *client = transaction->client;
    struct mail_reply reply;
    size_t used;
    enum smtp_reply_progress progress;
    if ((begun && stream_fill_available(client->stream, SMTP_CLIENT_INPUT_MAX, err) != OK) ||
        smtp_reply_feed(&client->parser, stream_buffered(client->stream), &used, &progress, &reply,
                        err) != OK)
        return FAILED;
    stream_consume(client->stream, used);
    if (progress != SMTP_REPLY_COMPLETE)
        return OK;
    if (reply.code >= 400)
        decide_open(transaction, SMTP_STAGE_DATA, &reply);
    return fail(err, ERROR_PROTOCOL, "the server answered %u in the middle of the message",
                reply.code);
}

static enum result write_slices(struct transaction *transaction, struct smtp_data_writer *writer,
                                char *space, size_t size, struct error *err) MAY_YIELD
{
    struct stream *stream = transaction->client->stream;
    uint64_t offset = 0;
    for (;;) {
        struct str data;
        struct str piece;
        if (mail_content_read(transaction->mail->content, offset, size, space, &data, err) != OK)
            return fail_context(err, "the message cannot be read");
        if (!data.len)
            break;
        if (!transaction->envelope_open &&
            check_early_reply(transaction, /* begun= */ offset > 0, err) != OK)
            return FAILED;
        offset += data.len;
        while (smtp_data_writer_next(writer, &data, &piece)) {
            if (stream_write(stream, piece, err) != OK)
                return FAILED;
        }
    }
    if (offset < mail_content_size(transaction->mail->content)) /* never a shorter one instead */
        return fail(err, ERROR_TEMPORARY, "the message ended early");
    if (stream_write(stream, smtp_data_writer_end(writer), err) != OK)
        return FAILED;
    return stream_flush(stream, err);
}

/* Sends it whole, or the connection is of no more use. */
static enum result write_content(struct transaction *transaction, struct error *err) MAY_YIELD
{
    struct smtp_data_writer writer;
    struct error error;
    uint64_t length = mail_content_size(transaction->mail->content);
    size_t size = length < SLICE_SMALL ? SLICE_SMALL : length < SLICE ? (size_t)length + 1 : SLICE;
    char *space = loop_block_take(size);
    smtp_data_writer_init(&writer, /* dots= */ !transaction->chunking);
    enum result result = write_slices(transaction, &writer, space, size, &error);
    loop_block_give(space, size);
    if (result == OK)
        return OK;
    /* a message cut short must never look complete: only closing is left */
    if (err)
        *err = error;
    return smtp_client_break(transaction->client, &error);
}

/* The length that BDAT announces: the content and the line end it may lack. */
static enum result chunk_length(struct transaction *transaction, uint64_t *out_length,
                                struct error *err) MAY_YIELD
{
    const struct mail_content *content = transaction->mail->content;
    uint64_t length = mail_content_size(content);
    char tail[2] = {'\r', '\n'};
    for (unsigned i = 0; i < 2 && length >= 2; i++) {
        char space[1];
        struct str data;
        if (mail_content_read(content, length - 2 + i, 1, space, &data, err) != OK)
            return FAILED;
        tail[i] = data.len ? data.ptr[0] : '\0';
    }
    bool ends = tail[0] == '\r' && tail[1] == '\n' && length != 1;
    *out_length = ends ? length : length + 2;
    return OK;
}

/* The BDAT command goes to the stream, with what waits in front of it; then the content. */
static enum result send_chunk(struct transaction *transaction, struct error *err) MAY_YIELD
{
    uint64_t length;
    struct error error;
    struct smtp_client *client = transaction->client;
    if (chunk_length(transaction, &length, &error) != OK) {
        /* nothing of it was sent, but the transaction cannot go on */
        if (err)
            *err = error;
        return smtp_client_break(client, &error);
    }
    buf_append(&client->out, STR("BDAT "));
    buf_append_int(&client->out, (int64_t)length);
    buf_append(&client->out, STR(" LAST\r\n"));
    enum result result = OK;
    if (client->out.overflow)
        result = fail(&error, ERROR_LIMIT, "too many commands for one batch");
    if (result == OK)
        result = stream_write(client->stream, buf_str(&client->out), &error);
    buf_clear(&client->out);
    if (result != OK) {
        if (err)
            *err = error;
        return smtp_client_break(client, &error);
    }
    return write_content(transaction, err);
}

/* ---- the end ---- */

/* It offered CHUNKING and does not know BDAT: nothing of the content was taken, and what it makes
 * of it (commands, perhaps) is not waited for. */
static enum result refuse_chunking(struct transaction *transaction, const struct mail_reply *reply,
                                   struct error *err)
{
    transaction->client->chunking_refused = true;
    set_stage_of_open(transaction, SMTP_STAGE_MAIL);
    return protocol_error(transaction, "BDAT, which it offered,", reply, err);
}

static enum result read_final(struct transaction *transaction, struct error *err) MAY_YIELD
{
    struct smtp_client *client = transaction->client;
    const struct smtp_client_mail *mail = transaction->mail;
    struct mail_reply reply;
    bool all_taken = true;
    set_stage_of_open(transaction, SMTP_STAGE_END); /* all was sent */
    for (size_t i = 0; i < mail->recipient_count; i++) {
        struct smtp_client_recipient *recipient = &mail->recipients[i];
        if (recipient->reply.code)
            continue;
        if (smtp_client_read(client, &reply, err) != OK)
            return FAILED;
        if (reply.code >= 300 && reply.code < 400)
            return protocol_error(transaction, "the end of the message", &reply, err);
        if (transaction->chunking && !client->lmtp && (reply.code == 500 || reply.code == 502))
            return refuse_chunking(transaction, &reply, err);
        all_taken = all_taken && mail_reply_is_positive(&reply);
        if (client->lmtp)
            decide(transaction, recipient, SMTP_STAGE_END, &reply);
        else
            decide_open(transaction, SMTP_STAGE_END, &reply);
    }
    /* after a failed BDAT the state of the transaction is open (RFC 3030 2) */
    client->needs_reset = transaction->chunking && !all_taken;
    return smtp_client_check(client, err);
}

/* Nobody was accepted, and yet the server said 354 to the DATA that was on its way (RFC 2920 3.1):
 * end the message that nobody gets. */
static enum result send_lone_dot(struct transaction *transaction, struct error *err) MAY_YIELD
{
    struct smtp_client *client = transaction->client;
    struct mail_reply reply = {.code = 354};
    if (client->lmtp || transaction->accepted)
        return protocol_error(transaction, "DATA without recipients", &reply, err);
    return smtp_client_ask(client, &reply, err, ".");
}

/* What DATA said: go on (*out_go), or not. */
static enum result read_data(struct transaction *transaction, bool *out_go,
                             struct error *err) MAY_YIELD
{
    struct mail_reply reply;
    *out_go = false;
    if (smtp_client_read(transaction->client, &reply, err) != OK)
        return FAILED;
    bool somebody = transaction->accepted && !transaction->mail_refused;
    if (reply.code == 354) {
        *out_go = somebody;
        return somebody ? OK : send_lone_dot(transaction, err);
    }
    if (reply.code < 400)
        return protocol_error(transaction, "DATA", &reply, err);
    if (somebody)
        decide_open(transaction, SMTP_STAGE_DATA, &reply);
    return OK;
}

static enum result send_content(struct transaction *transaction, bool data_pending,
                                struct error *err) MAY_YIELD
{
    bool somebody = transaction->accepted && !transaction->mail_refused;
    bool go = somebody;
    if (somebody && transaction->chunking) {
        if (send_chunk(transaction, err) != OK)
            return FAILED;
        return read_final(transaction, err);
    }
    if (somebody && !data_pending) {
        smtp_client_add(transaction->client, "DATA");
        if (smtp_client_send_batch(transaction->client, err) != OK)
            return FAILED;
        data_pending = true;
    }
    if (data_pending && read_data(transaction, &go, err) != OK)
        return FAILED;
    if (!go)
        return smtp_client_check(transaction->client, err);
    return write_content(transaction, err) == OK ? read_final(transaction, err) : FAILED;
}

/* ---- all in one piece ---- */

/*
 * BDAT may be pipelined behind RCPT (RFC 3030 4.2), as the server takes exactly the octets that it
 * announces whatever becomes of the recipients. So a small message costs one round trip instead of
 * two. LMTP is left out: a chunk without recipients has no defined number of replies there.
 */
static bool goes_in_one_piece(const struct transaction *transaction)
{
    return transaction->pipelining && transaction->chunking && !transaction->client->lmtp &&
           transaction->mail->recipient_count <= BATCH_RECIPIENTS &&
           mail_content_size(transaction->mail->content) <= EARLY_CONTENT;
}

/* Nobody was accepted: the server has to refuse the content that came along. */
static enum result read_lone_chunk(struct transaction *transaction, struct error *err) MAY_YIELD
{
    struct smtp_client *client = transaction->client;
    struct mail_reply reply;
    if (smtp_client_read(client, &reply, err) != OK)
        return FAILED;
    if (reply.code < 400)
        return protocol_error(transaction, "BDAT without recipients", &reply, err);
    client->needs_reset = true; /* as after any failed BDAT */
    return smtp_client_check(client, err);
}

static enum result send_in_one_piece(struct transaction *transaction, struct error *err) MAY_YIELD
{
    struct smtp_client *client = transaction->client;
    const struct smtp_client_mail *mail = transaction->mail;
    bool reset_pending;
    size_t batch[BATCH_RECIPIENTS];
    size_t next = 0;
    size_t count = choose_batch(mail, &next, BATCH_RECIPIENTS, batch);
    if (open_transaction(transaction, &reset_pending, err) != OK)
        return FAILED;
    transaction->envelope_open = true;
    for (size_t i = 0; i < count; i++)
        smtp_client_add_rcpt(client, mail->recipients[batch[i]].recipient, transaction->smtputf8);
    if (send_chunk(transaction, err) != OK)
        return FAILED;
    if ((reset_pending && read_reset(transaction, err) != OK) || read_mail(transaction, err) != OK)
        return FAILED;
    for (size_t i = 0; i < count; i++) {
        if (read_rcpt(transaction, &mail->recipients[batch[i]], err) != OK)
            return FAILED;
    }
    if (!transaction->accepted || transaction->mail_refused)
        return read_lone_chunk(transaction, err);
    return read_final(transaction, err);
}

enum result smtp_client_send(struct smtp_client *client, const struct smtp_client_mail *mail,
                             struct arena *arena, struct error *err)
{
    struct transaction transaction = {
        .client = client,
        .mail = mail,
        .arena = arena,
        .kept = {.text = STR_EMPTY},
        .pipelining = client->extensions & SMTP_EXT_PIPELINING,
        .chunking = mail->prefer_chunking && (client->extensions & SMTP_EXT_CHUNKING),
        .smtputf8 = mail->needs_smtputf8 && (client->extensions & SMTP_EXT_SMTPUTF8),
    };
    bool somebody = false;
    for (size_t i = 0; i < mail->recipient_count; i++) {
        struct smtp_client_recipient *recipient = &mail->recipients[i];
        recipient->reply = (struct mail_reply){.text = STR_EMPTY};
        recipient->stage = SMTP_STAGE_MAIL;
        recipient->accepted = false;
    }
    if (smtp_client_check(client, err) != OK)
        return FAILED;
    refuse_unsafe(&transaction);
    for (size_t i = 0; i < mail->recipient_count; i++)
        somebody = somebody || !mail->recipients[i].reply.code;
    if (!somebody)
        return OK;
    if (goes_in_one_piece(&transaction))
        return send_in_one_piece(&transaction, err);
    bool data_pending;
    if (send_envelope(&transaction, &data_pending, err) != OK)
        return FAILED;
    return send_content(&transaction, data_pending, err);
}
