/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/dsn.c - multipart/report with three parts: words for people, fields for programs, and the
 * message or its header.
 */
#include "queue/dsn.h"

#include "base/clock.h"

#include <string.h>

enum { LINE_MAX_TEXT = 900 }; /* of one line we write; RFC 5322 allows 998 */

static bool is_ascii(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] >= 0x80)
            return false;
    return true;
}

/* Foreign text on one line: control characters become spaces. */
static void put_clean(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len && i < LINE_MAX_TEXT; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        buf_append_byte(out, c < 0x20 || c == 0x7f ? ' ' : (char)c);
    }
}

/* "rfc822;Bob@x" (xtext of RFC 3461 is decoded already); UTF-8 goes as type utf-8 (RFC 6533). */
static void put_typed_address(struct buf *out, struct str address)
{
    buf_append(out, is_ascii(address) ? STR("rfc822; ") : STR("utf-8; "));
    put_clean(out, address);
}

static void put_date(struct buf *out, int64_t wall_ns)
{
    char text[TIME_RFC5322_SIZE];
    buf_append(out, clock_format_rfc5322(wall_ns, text));
}

/* ---- what is in it ---- */

static size_t count_action(const struct queue_dsn *dsn, enum queue_dsn_action action)
{
    size_t count = 0;
    for (size_t i = 0; i < dsn->recipient_count; i++)
        count += dsn->recipients[i].action == action;
    return count;
}

static bool needs_utf8(const struct queue_dsn *dsn)
{
    if (dsn->header_utf8 || !is_ascii(dsn->sender->address))
        return true;
    for (size_t i = 0; i < dsn->recipient_count; i++)
        if (!is_ascii(dsn->recipients[i].recipient->address) ||
            !is_ascii(dsn->recipients[i].recipient->orcpt) ||
            !is_ascii(dsn->recipients[i].reply.text))
            return true;
    return false;
}

static struct str subject_of(const struct queue_dsn *dsn)
{
    if (count_action(dsn, QUEUE_DSN_FAILED) > 0)
        return STR("Undelivered mail returned to sender");
    if (count_action(dsn, QUEUE_DSN_DELAYED) > 0)
        return STR("Your mail is delayed");
    return STR("Your mail was delivered");
}

/* ---- the header ---- */

static void put_boundary(struct buf *out, const struct queue_dsn *dsn)
{
    struct mail_id_text id = mail_id_text(dsn->id);
    buf_printf(out, "=_%s", id.chars);
}

static void put_head(const struct queue_dsn *dsn, struct buf *out, bool utf8, bool eight_bit)
{
    struct mail_id_text id = mail_id_text(dsn->id);
    buf_append(out, STR("Date: "));
    put_date(out, dsn->now_wall_ns);
    buf_append(out, STR("\r\nFrom: Mail Delivery System <"));
    put_clean(out, dsn->postmaster.len > 0 ? dsn->postmaster : STR("postmaster"));
    buf_append(out, STR(">\r\nTo: <"));
    put_clean(out, dsn->sender->address);
    buf_append(out, STR(">\r\nSubject: "));
    buf_append(out, subject_of(dsn));
    buf_printf(out, "\r\nMessage-ID: <%s@", id.chars);
    put_clean(out, dsn->hostname);
    buf_append(out, STR(">\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
                        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                        "\tboundary=\""));
    put_boundary(out, dsn);
    buf_append(out, STR("\"\r\n"));
    if (utf8 || eight_bit)
        buf_append(out, STR("Content-Transfer-Encoding: 8bit\r\n"));
    buf_append(out, STR("\r\n"));
}

/* ---- for people ---- */

static void put_recipient_words(const struct queue_dsn_recipient *recipient, struct buf *out)
{
    buf_append(out, STR("  <"));
    put_clean(out, recipient->recipient->address);
    buf_append(out, STR(">\r\n"));
    if (recipient->reply.code == 0 && recipient->reply.text.len == 0)
        return;
    buf_append(out, STR("      "));
    if (recipient->mta.len > 0) {
        put_clean(out, recipient->mta);
        buf_append(out, STR(" said: "));
    }
    if (recipient->reply.code != 0)
        buf_printf(out, "%u ", recipient->reply.code);
    if (recipient->reply.code != 0 && recipient->reply.enhanced.class != 0)
        buf_printf(out, "%u.%u.%u ", recipient->reply.enhanced.class,
                   recipient->reply.enhanced.subject, recipient->reply.enhanced.detail);
    put_clean(out, recipient->reply.text);
    buf_append(out, STR("\r\n"));
}

static void put_words(const struct queue_dsn *dsn, struct buf *out, enum queue_dsn_action action,
                      struct str intro)
{
    if (count_action(dsn, action) == 0)
        return;
    buf_append(out, intro);
    for (size_t i = 0; i < dsn->recipient_count; i++)
        if (dsn->recipients[i].action == action)
            put_recipient_words(&dsn->recipients[i], out);
    buf_append(out, STR("\r\n"));
}

static void put_for_people(const struct queue_dsn *dsn, struct buf *out, bool utf8)
{
    buf_printf(out, "Content-Type: text/plain; charset=%s\r\n", utf8 ? "utf-8" : "us-ascii");
    buf_printf(out, "Content-Transfer-Encoding: %s\r\n\r\n", utf8 ? "8bit" : "7bit");
    buf_append(out, STR("This is the mail gateway at "));
    put_clean(out, dsn->hostname);
    buf_append(out, STR(".\r\n\r\n"));
    put_words(dsn, out, QUEUE_DSN_FAILED,
              STR("Your message could not be delivered to the recipients below, and no further\r\n"
                  "attempt will be made.\r\n\r\n"));
    put_words(
        dsn, out, QUEUE_DSN_DELAYED,
        STR("Your message could not be delivered yet to the recipients below. This is a\r\n"
            "warning only: you need not send it again, delivery is still being tried.\r\n\r\n"));
    put_words(dsn, out, QUEUE_DSN_DELIVERED,
              STR("Your message was delivered to the recipients below.\r\n\r\n"));
    put_words(
        dsn, out, QUEUE_DSN_RELAYED,
        STR("Your message was handed on for the recipients below, to a mail server that will\r\n"
            "not report further success.\r\n\r\n"));
    if (count_action(dsn, QUEUE_DSN_DELAYED) > 0 && dsn->give_up_wall_ns > 0) {
        buf_append(out, STR("Delivery will be given up at "));
        put_date(out, dsn->give_up_wall_ns);
        buf_append(out, STR(".\r\n\r\n"));
    }
    buf_append(out, STR("Reference: "));
    put_clean(out, dsn->message_id);
    buf_append(out, STR("\r\n"));
}

/* ---- for programs ---- */

static void put_status(const struct queue_dsn_recipient *recipient, struct buf *out)
{
    static const unsigned char class_of[] = {5, 4, 2, 2};
    unsigned wanted = class_of[recipient->action];
    const struct mail_enhanced *enhanced = &recipient->reply.enhanced;
    if (recipient->action == QUEUE_DSN_FAILED && recipient->expired)
        buf_append(out, STR("Status: 5.4.7\r\n"));
    else if (enhanced->class == wanted)
        buf_printf(out, "Status: %u.%u.%u\r\n", wanted, enhanced->subject, enhanced->detail);
    else
        buf_printf(out, "Status: %u.0.0\r\n", wanted);
}

static void put_diagnostic(const struct queue_dsn_recipient *recipient, struct buf *out)
{
    if (recipient->mta.len > 0) {
        buf_append(out, STR("Remote-MTA: dns; "));
        put_clean(out, recipient->mta);
        buf_append(out, STR("\r\n"));
    }
    if (recipient->reply.code == 0 && recipient->reply.text.len == 0)
        return;
    buf_append(out, recipient->mta.len > 0 ? STR("Diagnostic-Code: smtp; ")
                                           : STR("Diagnostic-Code: x-postern; "));
    if (recipient->reply.code != 0)
        buf_printf(out, "%u ", recipient->reply.code);
    if (recipient->reply.code != 0 && recipient->reply.enhanced.class != 0)
        buf_printf(out, "%u.%u.%u ", recipient->reply.enhanced.class,
                   recipient->reply.enhanced.subject, recipient->reply.enhanced.detail);
    put_clean(out, recipient->reply.text);
    buf_append(out, STR("\r\n"));
}

static void put_recipient_fields(const struct queue_dsn *dsn,
                                 const struct queue_dsn_recipient *recipient, struct buf *out)
{
    static const char *const actions[] = {"failed", "delayed", "delivered", "relayed"};
    buf_append(out, STR("\r\n"));
    if (recipient->recipient->orcpt.len > 0) {
        struct str rest = recipient->recipient->orcpt;
        struct str type;
        (void)str_split(&rest, ';', &type);
        buf_append(out, STR("Original-Recipient: "));
        put_clean(out, type);
        buf_append(out, STR("; "));
        put_clean(out, rest.ptr == NULL ? STR_EMPTY : rest);
        buf_append(out, STR("\r\n"));
    }
    buf_append(out, STR("Final-Recipient: "));
    put_typed_address(out, recipient->recipient->address);
    buf_printf(out, "\r\nAction: %s\r\n", actions[recipient->action]);
    put_status(recipient, out);
    put_diagnostic(recipient, out);
    if (recipient->last_try_wall_ns > 0) {
        buf_append(out, STR("Last-Attempt-Date: "));
        put_date(out, recipient->last_try_wall_ns);
        buf_append(out, STR("\r\n"));
    }
    if (recipient->action == QUEUE_DSN_DELAYED && dsn->give_up_wall_ns > 0) {
        buf_append(out, STR("Will-Retry-Until: "));
        put_date(out, dsn->give_up_wall_ns);
        buf_append(out, STR("\r\n"));
    }
}

static void put_for_programs(const struct queue_dsn *dsn, struct buf *out, bool utf8)
{
    if (utf8)
        buf_append(out, STR("Content-Type: message/global-delivery-status\r\n"
                            "Content-Transfer-Encoding: 8bit\r\n\r\n"));
    else
        buf_append(out, STR("Content-Type: message/delivery-status\r\n\r\n"));
    if (dsn->sender->envid.len > 0) {
        buf_append(out, STR("Original-Envelope-Id: "));
        put_clean(out, dsn->sender->envid);
        buf_append(out, STR("\r\n"));
    }
    buf_append(out, STR("Reporting-MTA: dns; "));
    put_clean(out, dsn->hostname);
    buf_append(out, STR("\r\nArrival-Date: "));
    put_date(out, dsn->arrival_wall_ns);
    buf_append(out, STR("\r\n"));
    for (size_t i = 0; i < dsn->recipient_count; i++)
        put_recipient_fields(dsn, &dsn->recipients[i], out);
}

/* ---- the message ---- */

/* Cut at a line end so that no half field goes out. */
static struct str cut(struct str text, size_t max)
{
    if (text.len <= max)
        return text;
    struct str part = str_slice(text, 0, max);
    ptrdiff_t end = str_find_last(part, '\n');
    return str_slice(part, 0, end < 0 ? 0 : (size_t)end + 1);
}

static void put_original(const struct queue_dsn *dsn, struct buf *out)
{
    struct str text = cut(dsn->original, QUEUE_DSN_FULL_MAX);
    bool ascii = is_ascii(text);
    const char *type = dsn->original_is_full
                           ? (dsn->header_utf8 ? "message/global" : "message/rfc822")
                           : (dsn->header_utf8 ? "message/global-headers" : "text/rfc822-headers");
    buf_printf(out, "Content-Type: %s\r\n", type);
    if (!ascii)
        buf_append(out, STR("Content-Transfer-Encoding: 8bit\r\n"));
    buf_append(out, STR("\r\n"));
    buf_append(out, text);
    if (!str_ends(text, STR("\r\n")))
        buf_append(out, STR("\r\n"));
}

static void put_delimiter(const struct queue_dsn *dsn, struct buf *out, bool last)
{
    buf_append(out, STR("\r\n--"));
    put_boundary(out, dsn);
    buf_append(out, last ? STR("--\r\n") : STR("\r\n"));
}

void queue_dsn_build(const struct queue_dsn *dsn, struct buf *out_head, struct buf *out_body,
                     bool *out_8bit)
{
    bool utf8 = needs_utf8(dsn);
    bool eight_bit = utf8 || !is_ascii(cut(dsn->original, QUEUE_DSN_FULL_MAX));
    put_head(dsn, out_head, utf8, eight_bit);
    buf_append(out_body, STR("This is a MIME message about the delivery of your mail.\r\n"));
    put_delimiter(dsn, out_body, false);
    put_for_people(dsn, out_body, utf8);
    put_delimiter(dsn, out_body, false);
    put_for_programs(dsn, out_body, utf8);
    if (dsn->original.len > 0) {
        put_delimiter(dsn, out_body, false);
        put_original(dsn, out_body);
    }
    put_delimiter(dsn, out_body, true);
    *out_8bit = eight_bit;
}
