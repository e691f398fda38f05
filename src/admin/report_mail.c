/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/report_mail.c - a report as a message: XML, compressed, attached (RFC 9990; RFC
 * 7489 7.2.1). The door to zlib.
 */
#include "admin/reports_internal.h"

#include "base/clock.h"
#include "crypto/base64.h"
#include "event/event.h"
#include "gateway/operations.h"
#include "mail/id.h"

#include <string.h>
#include <zlib.h>

enum { MESSAGE_MAX = 32 * 1024 * 1024, LINE = 57, GZIP_WINDOW = 15 + 16 };

static enum result compress_text(struct str text, struct buf *out, struct error *err)
{
    z_stream stream = {0};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return fail(err, ERROR_TEMPORARY, "no memory to compress");
    uLong bound = deflateBound(&stream, text.len);
    char *space = buf_reserve(out, bound);
    enum result result = OK;
    stream.next_in = (Bytef *)(uintptr_t)text.ptr;
    stream.avail_in = (uInt)text.len;
    stream.next_out = (Bytef *)space;
    stream.avail_out = (uInt)bound;
    if (!space || deflate(&stream, Z_FINISH) != Z_STREAM_END)
        result = fail(err, ERROR_LIMIT, "the report is too large");
    else
        out->len += stream.total_out;
    deflateEnd(&stream);
    return result;
}

static void write_base64(struct buf *out, struct str data)
{
    for (size_t at = 0; at < data.len; at += LINE) {
        base64_encode(str_slice(data, at, at + LINE), out);
        buf_append(out, STR("\r\n"));
    }
}

/* Values of header fields come from DNS and the configuration. */
static void write_value(struct buf *out, struct str value)
{
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        buf_append_byte(out, c < ' ' || c > 126 || c == '"' || c == '<' || c == '>' ? '?' : c);
    }
}

static void write_head(const struct reports_settings *settings, struct str to,
                       const struct dmarc_report *report, struct buf *out)
{
    char date[TIME_RFC5322_SIZE];
    struct str now = clock_format_rfc5322(clock_wall_ns(), date);
    buf_append(out, STR("From: \""));
    write_value(out, settings->organization);
    buf_printf(out, "\" <%.*s>\r\nTo: <%.*s>\r\nDate: %.*s\r\n", STR_ARG(settings->from),
               STR_ARG(to), STR_ARG(now));
    buf_append(out, STR("Subject: Report Domain: "));
    write_value(out, report->domain);
    buf_append(out, STR("\r\n Submitter: "));
    write_value(out, settings->hostname);
    buf_append(out, STR("\r\n Report-ID: <"));
    write_value(out, report->id);
    buf_printf(out,
               ">\r\nMessage-ID: <%s@%.*s>\r\nMIME-Version: 1.0\r\n"
               "Auto-Submitted: auto-generated\r\n"
               "Content-Type: multipart/mixed; boundary=\"report\"\r\n\r\n",
               mail_id_text(mail_id_new()).chars, STR_ARG(settings->hostname));
}

enum result report_mail_write(const struct reports_settings *settings, struct str to,
                              const struct dmarc_report *report, struct buf *out, struct error *err)
{
    struct buf xml BUF_CLEANUP;
    struct buf packed BUF_CLEANUP;
    buf_init(&xml, DMARC_REPORT_XML_MAX);
    buf_init(&packed, MESSAGE_MAX / 2);
    dmarc_report_write(report, &xml);
    if (xml.overflow)
        return fail(err, ERROR_LIMIT, "the report is over %d bytes", DMARC_REPORT_XML_MAX);
    if (compress_text(buf_str(&xml), &packed, err) != OK)
        return FAILED;
    write_head(settings, to, report, out);
    buf_printf(out,
               "--report\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
               "This is an aggregate report of DMARC about %.*s, made by %.*s.\r\n"
               "--report\r\nContent-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n"
               "Content-Disposition: attachment;\r\n"
               " filename=\"%.*s!%.*s!%lld!%lld.xml.gz\"\r\n\r\n",
               STR_ARG(report->domain), STR_ARG(settings->hostname), STR_ARG(settings->hostname),
               STR_ARG(report->domain), (long long)report->begin_s, (long long)report->end_s);
    write_base64(out, buf_str(&packed));
    buf_append(out, STR("--report--\r\n"));
    return out->overflow ? fail(err, ERROR_LIMIT, "the message is too large") : OK;
}

static enum result send_to(struct gateway *gateway, const struct reports_settings *settings,
                           const struct gateway_report_address *to,
                           const struct dmarc_report *report, struct arena *arena, bool *out_sent,
                           struct error *err)
{
    struct mail_reply reply;
    struct mail_id id = {0};
    struct buf message BUF_CLEANUP;
    buf_init(&message, MESSAGE_MAX);
    *out_sent = false;
    if (report_mail_write(settings, to->address, report, &message, err) != OK)
        return FAILED;
    if (to->max_bytes && message.len > to->max_bytes) {
        event_emit(EVENT_DMARC_REPORTED, F_STR(DOMAIN, report->domain), F_STR(TO, to->address),
                   F_C(DETAIL, "the report is larger than they take"));
        return OK;
    }
    if (gateway_inject(gateway, settings->from, &to->address, 1, buf_str(&message), &id, arena,
                       &reply, err) != OK)
        return FAILED;
    if (reply.code / 100 == 4)
        return fail(err, ERROR_TEMPORARY, "%.*s", STR_ARG(reply.text));
    *out_sent = reply.code / 100 == 2;
    event_emit(EVENT_DMARC_REPORTED, F_STR(DOMAIN, report->domain), F_STR(TO, to->address),
               F_C(MESSAGE, *out_sent ? mail_id_text(id).chars : ""),
               F_INT(COUNT, report->row_count), F_STR(REPLY, reply.text));
    return OK;
}

enum result report_mail_send(struct gateway *gateway, const struct reports_settings *settings,
                             struct str organization, struct dmarc_report *report,
                             struct arena *arena, size_t *out_sent, struct error *err)
{
    struct gateway_report_policy policy;
    *out_sent = 0;
    if (gateway_report_policy(gateway, report->domain, organization, arena, &policy, err) != OK)
        return FAILED;
    report->p = policy.p;
    report->sp = policy.sp;
    report->np = policy.np;
    report->adkim = policy.strict_dkim ? STR("s") : STR("r");
    report->aspf = policy.strict_spf ? STR("s") : STR("r");
    report->testing = policy.testing ? STR("y") : STR("n");
    if (policy.address_count == 0)
        event_emit(EVENT_DMARC_REPORTED, F_STR(DOMAIN, report->domain),
                   F_C(DETAIL, "nobody wants a report"));
    for (size_t i = 0; i < policy.address_count; i++) {
        bool sent;
        if (send_to(gateway, settings, &policy.addresses[i], report, arena, &sent, err) != OK)
            return FAILED;
        *out_sent += sent;
    }
    return OK;
}
