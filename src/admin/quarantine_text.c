/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/quarantine_text.h"

#include "base/clock.h"
#include "crypto/base64.h"
#include "mail/id.h"

#include <string.h>

enum { SHOWN_MAX = 300, PART_MAX = 2 * 1024 * 1024, LINE = 57, DAY = 10 };

/* ---- hostile text ---- */

/* The length of the UTF-8 character at the front, with its number; 0: it is none. */
static size_t character(struct str text, uint32_t *out)
{
    unsigned char first = (unsigned char)text.ptr[0];
    size_t len = first < 0x80   ? 1
                 : first < 0xc2 ? 0
                 : first < 0xe0 ? 2
                 : first < 0xf0 ? 3
                 : first < 0xf5 ? 4
                                : 0;
    if (len == 0 || len > text.len)
        return 0;
    uint32_t c = len == 1 ? first : first & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        unsigned char next = (unsigned char)text.ptr[i];
        if ((next & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (next & 0x3f);
    }
    bool is_short = (len == 3 && c < 0x800) || (len == 4 && c < 0x10000);
    if (is_short || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
        return 0;
    *out = c;
    return len;
}

/* Controls, and what turns writing round or cannot be seen. */
static bool is_hidden(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c ||
           (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
           (c >= 0xe0000 && c <= 0xe0fff);
}

static void write_text(struct str text, bool html, struct buf *out)
{
    size_t end = out->len + 8 * SHOWN_MAX;
    for (size_t shown = 0; text.len && shown < SHOWN_MAX && out->len < end;) {
        uint32_t c = 0;
        size_t len = character(text, &c);
        struct str one = str_slice(text, 0, len ? len : 1);
        if (!len || is_hidden(c))
            buf_append(out, len && c < 0x20 ? STR(" ") : STR("\xef\xbf\xbd"));
        else if (str_starts(text, STR("://"))) /* programs that read mail make links of it */
            buf_append(out, STR("[:]"));
        else if (html && c == '&')
            buf_append(out, STR("&amp;"));
        else if (html && c == '<')
            buf_append(out, STR("&lt;"));
        else if (html && c == '>')
            buf_append(out, STR("&gt;"));
        else if (html && c == '"')
            buf_append(out, STR("&quot;"));
        else if (html && c == '\'')
            buf_append(out, STR("&#39;"));
        else
            buf_append(out, one);
        shown += one.len;
        text = str_from(text, one.len);
    }
    if (text.len)
        buf_append(out, STR("\xe2\x80\xa6"));
}

void quarantine_text_html(struct str text, struct buf *out)
{
    write_text(text, /* html= */ true, out);
}

void quarantine_text_plain(struct str text, struct buf *out)
{
    write_text(text, /* html= */ false, out);
}

/* ---- what there is to say ---- */

static struct str or_else(struct str text, struct str other)
{
    return text.len ? text : other;
}

static struct str author_of(const struct queue_item *item)
{
    return or_else(item->kept->author, or_else(item->sender, STR("(nobody)")));
}

static struct str subject_of(const struct queue_item *item)
{
    return item->kept->problem.len ? STR("(it cannot be read)")
                                   : or_else(item->kept->subject, STR("(no subject)"));
}

/* "2026-11-27 10:21" */
static void write_time(int64_t wall_ns, struct buf *out)
{
    char text[TIME_RFC3339_SIZE];
    struct str time = clock_format_rfc3339(wall_ns, text);
    buf_printf(out, "%.*s %.*s UTC", DAY, time.ptr, 5, str_from(time, DAY + 1).ptr);
}

static void write_reason(const struct queue_item *item, bool html, struct buf *out)
{
    struct str reason = or_else(item->kept->why, item->hold_reason);
    write_text(reason, html, out);
    if (item->kept->scored)
        buf_printf(out, " (score %.1f)", (double)item->kept->score / 1000);
}

/* ---- the digest ---- */

static void write_item_plain(const struct digest_item *one, struct buf *out)
{
    buf_append(out, STR("  "));
    write_time(one->item->kept->held_since_wall_ns, out);
    buf_append(out, STR("\r\n  From:    "));
    quarantine_text_plain(author_of(one->item), out);
    buf_append(out, STR("\r\n  Subject: "));
    quarantine_text_plain(subject_of(one->item), out);
    buf_append(out, STR("\r\n  Reason:  "));
    write_reason(one->item, false, out);
    buf_printf(out, "\r\n  %.*s\r\n\r\n", STR_ARG(one->url));
}

static void write_plain(const struct digest *digest, struct buf *out)
{
    buf_append(out, STR("These messages to you were put aside:\r\n\r\n"));
    for (size_t i = 0; i < digest->count; i++)
        write_item_plain(&digest->items[i], out);
    if (digest->left_out)
        buf_printf(out, "and %zu more that are not listed here.\r\n\r\n", digest->left_out);
    buf_printf(out,
               "To have one delivered, open its link and confirm. Whatever you leave is removed\r\n"
               "%lld days after it came.\r\n",
               (long long)(digest->keep_ns / (86400 * NS_PER_S)));
}

static void write_item_html(const struct digest_item *one, struct buf *out)
{
    buf_append(out, STR("<tr><td>"));
    write_time(one->item->kept->held_since_wall_ns, out);
    buf_append(out, STR("</td><td>"));
    quarantine_text_html(author_of(one->item), out);
    buf_append(out, STR("</td><td>"));
    quarantine_text_html(subject_of(one->item), out);
    buf_append(out, STR("</td><td>"));
    write_reason(one->item, true, out);
    buf_printf(out, "</td><td><a href=\"%.*s\">Look at it</a></td></tr>\r\n", STR_ARG(one->url));
}

static void write_html(const struct digest *digest, struct buf *out)
{
    buf_append(out, STR("<!DOCTYPE html>\r\n<html><head><meta charset=\"utf-8\"><title>Quarantine"
                        "</title></head><body>\r\n<p>These messages to you were put aside:</p>\r\n"
                        "<table border=\"1\" cellpadding=\"4\" cellspacing=\"0\">\r\n<tr><th>Came"
                        "</th><th>From</th><th>Subject</th><th>Reason</th><th></th></tr>\r\n"));
    for (size_t i = 0; i < digest->count; i++)
        write_item_html(&digest->items[i], out);
    buf_append(out, STR("</table>\r\n"));
    if (digest->left_out)
        buf_printf(out, "<p>and %zu more that are not listed here.</p>\r\n", digest->left_out);
    buf_printf(out,
               "<p>To have one delivered, open its link and confirm. Whatever you leave is removed "
               "%lld days after it came.</p>\r\n</body></html>\r\n",
               (long long)(digest->keep_ns / (86400 * NS_PER_S)));
}

static void write_part(const char *type, void (*write)(const struct digest *, struct buf *),
                       const struct digest *digest, struct buf *out)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, PART_MAX);
    write(digest, &text);
    out->overflow = out->overflow || text.overflow;
    buf_printf(out,
               "--digest\r\nContent-Type: text/%s; charset=utf-8\r\n"
               "Content-Transfer-Encoding: base64\r\n\r\n",
               type);
    for (size_t at = 0; at < text.len; at += LINE) {
        base64_encode(str_slice(buf_str(&text), at, at + LINE), out);
        buf_append(out, STR("\r\n"));
    }
}

void quarantine_digest_write(const struct digest *digest, struct buf *out)
{
    char date[TIME_RFC5322_SIZE];
    struct str now = clock_format_rfc5322(clock_wall_ns(), date);
    size_t count = digest->count + digest->left_out;
    buf_printf(out, "From: Quarantine <%.*s>\r\nTo: <%.*s>\r\nDate: %.*s\r\n",
               STR_ARG(digest->from), STR_ARG(digest->to), STR_ARG(now));
    buf_printf(out, "Subject: Quarantine: %zu new message%s\r\n", count, count == 1 ? "" : "s");
    /* no program answers it, and none takes our own digest for something to list */
    buf_printf(out,
               "Message-ID: <%s@%.*s>\r\nMIME-Version: 1.0\r\nAuto-Submitted: auto-generated\r\n"
               "X-Auto-Response-Suppress: All\r\n"
               "Content-Type: multipart/alternative; boundary=\"digest\"\r\n\r\n",
               mail_id_text(mail_id_new()).chars, STR_ARG(digest->hostname));
    write_part("plain", write_plain, digest, out);
    write_part("html", write_html, digest, out);
    buf_append(out, STR("--digest--\r\n"));
}

/* ---- pages ---- */

static void begin_page(struct str title, struct buf *out)
{
    buf_append(out, STR("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                        "<meta name=\"viewport\" content=\"width=device-width\">"
                        "<meta name=\"robots\" content=\"noindex\"><title>"));
    quarantine_text_html(title, out);
    buf_append(out, STR("</title><style>body{font:1rem/1.5 sans-serif;max-width:40rem;margin:3rem "
                        "auto;padding:0 1rem}th{text-align:left;padding-right:1rem;"
                        "vertical-align:top}td{overflow-wrap:anywhere}button{font:inherit;"
                        "padding:.5rem 1rem}</style></head><body><h1>"));
    quarantine_text_html(title, out);
    buf_append(out, STR("</h1>\n"));
}

void quarantine_page_write(struct str title, struct str text, struct buf *out)
{
    begin_page(title, out);
    buf_append(out, STR("<p>"));
    quarantine_text_html(text, out);
    buf_append(out, STR("</p></body></html>\n"));
}

static void write_row(const char *name, struct str value, struct buf *out)
{
    buf_printf(out, "<tr><th>%s</th><td>", name);
    quarantine_text_html(value, out);
    buf_append(out, STR("</td></tr>\n"));
}

void quarantine_page_message(const struct queue_item *item, struct str recipient, struct buf *out)
{
    begin_page(STR("A message in quarantine"), out);
    buf_append(out, STR("<table>\n"));
    write_row("From", author_of(item), out);
    write_row("Sender", or_else(item->sender, STR("<>")), out);
    write_row("To", recipient, out);
    write_row("Subject", subject_of(item), out);
    buf_append(out, STR("<tr><th>Came</th><td>"));
    write_time(item->kept->held_since_wall_ns, out);
    buf_append(out, STR("</td></tr>\n<tr><th>Reason</th><td>"));
    write_reason(item, true, out);
    buf_append(out, STR("</td></tr>\n</table>\n<p>It was put aside because it may be unwanted or "
                        "dangerous. Release it only if you expect it.</p>\n"
                        "<form method=\"post\"><button>Release it to me</button></form>\n"
                        "</body></html>\n"));
}
