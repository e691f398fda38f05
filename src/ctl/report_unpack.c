/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/report_unpack.c - the door to libarchive, which knows gzip and zip.
 */
#include "ctl/report_unpack.h"

#include "base/buf.h"
#include "content/dmarc_report.h"
#include "crypto/base64.h"
#include "mail/header.h"

#include <archive.h>
#include <archive_entry.h>

enum { MEMBERS_MAX = 100, PARTS_MAX = 100 };

static bool is_packed(struct str data)
{
    return str_starts(data, STR("\x1f\x8b")) || str_starts(data, STR("PK\x03\x04"));
}

static bool is_xml(struct str data)
{
    data = str_trim(data);
    if (str_starts(data, STR("\xef\xbb\xbf")))
        data = str_from(data, 3);
    return str_starts(data, STR("<"));
}

/* One member; false: it is too large or damaged. */
static bool read_member(struct archive *archive, struct buf *out)
{
    char *space;
    buf_clear(out);
    while ((space = buf_reserve(out, 65536))) {
        la_ssize_t got = archive_read_data(archive, space, 65536);
        if (got <= 0)
            return got == 0;
        out->len += (size_t)got;
    }
    return false;
}

static enum result unpack(struct str data, report_take_xml *take, void *context, struct error *err)
{
    struct archive *archive = archive_read_new();
    struct archive_entry *entry;
    struct buf member BUF_CLEANUP;
    size_t taken = 0;
    buf_init(&member, DMARC_REPORT_XML_MAX);
    archive_read_support_filter_gzip(archive);
    archive_read_support_format_zip_streamable(archive);
    archive_read_support_format_raw(archive);
    if (archive_read_open_memory(archive, data.ptr, data.len) == ARCHIVE_OK)
        for (int i = 0; i < MEMBERS_MAX && archive_read_next_header(archive, &entry) == ARCHIVE_OK;
             i++) {
            if (!read_member(archive, &member))
                break;
            if (is_xml(buf_str(&member)))
                taken += take(buf_str(&member), context);
        }
    archive_read_free(archive);
    return taken ? OK : fail(err, ERROR_PROTOCOL, "there is no report in the archive");
}

/* ---- a message: the attachments that are base64 and unpack ---- */

static bool decode_lines(struct str text, struct buf *out)
{
    struct buf joined BUF_CLEANUP;
    buf_init(&joined, text.len + 1);
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] > ' ')
            buf_append_byte(&joined, text.ptr[i]);
    return joined.len && base64_decode(buf_str(&joined), out);
}

/* Parts begin behind a line that starts with two hyphens. */
static bool next_part(struct str *rest, struct str *out_part)
{
    ptrdiff_t begin = str_starts(*rest, STR("--")) ? 0 : str_find_str(*rest, STR("\n--"));
    if (begin < 0)
        return false;
    *rest = str_from(*rest, (size_t)begin + 1);
    ptrdiff_t line_end = str_find(*rest, '\n');
    if (line_end < 0)
        return false;
    *rest = str_from(*rest, (size_t)line_end + 1);
    ptrdiff_t end = str_find_str(*rest, STR("\n--"));
    *out_part = end < 0 ? *rest : str_slice(*rest, 0, (size_t)end + 1);
    return true;
}

/* The body behind the empty line, whatever line ends there are. */
static struct str body_of(struct str part)
{
    ptrdiff_t crlf = str_find_str(part, STR("\r\n\r\n"));
    ptrdiff_t lf = str_find_str(part, STR("\n\n"));
    if (crlf >= 0 && (lf < 0 || crlf < lf))
        return str_from(part, (size_t)crlf + 4);
    return lf >= 0 ? str_from(part, (size_t)lf + 2) : STR_EMPTY;
}

static bool take_body(struct str body, report_take_xml *take, void *context)
{
    struct buf data BUF_CLEANUP;
    struct error ignored;
    buf_init(&data, DMARC_REPORT_XML_MAX);
    if (!decode_lines(body, &data))
        return false;
    if (is_packed(buf_str(&data)))
        return unpack(buf_str(&data), take, context, &ignored) == OK;
    return is_xml(buf_str(&data)) && take(buf_str(&data), context);
}

static enum result unpack_message(struct str input, report_take_xml *take, void *context,
                                  struct error *err)
{
    struct str rest = input, part;
    bool found = take_body(body_of(input), take, context); /* the attachment alone */
    for (int i = 0; i < PARTS_MAX && next_part(&rest, &part); i++)
        found = take_body(body_of(part), take, context) || found;
    return found ? OK : fail(err, ERROR_PROTOCOL, "there is no report in this");
}

enum result report_unpack(struct str input, report_take_xml *take, void *context, struct error *err)
{
    if (is_packed(input))
        return unpack(input, take, context, err);
    if (is_xml(input))
        return take(input, context) ? OK : fail(err, ERROR_PROTOCOL, "there is no report in this");
    return unpack_message(input, take, context, err);
}
