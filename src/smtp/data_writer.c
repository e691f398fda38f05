/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/data_writer.h"

#include <string.h>

void smtp_data_writer_init(struct smtp_data_writer *writer, bool dots)
{
    *writer = (struct smtp_data_writer){.dots = dots, .at_line_start = true};
}

/* Index of `byte` in text[begin, end), or `end`. */
static size_t index_of(struct str text, size_t begin, size_t end, char byte)
{
    const char *found = begin < end ? memchr(text.ptr + begin, byte, end - begin) : NULL;
    return found ? (size_t)(found - text.ptr) : end;
}

/* Sixteen bytes that the compiler handles at once where the machine can. */
typedef unsigned char lanes __attribute__((vector_size(16)));

enum { STRIDE = 2 * sizeof(lanes) };

/* Are the next STRIDE bytes, behind one that may be looked at too, as they should be: each LF
 * behind a CR and each CR before an LF, no NUL, no dot to be stuffed? */
static bool is_plain(const char *text, bool dots)
{
    lanes found = {0};
    for (size_t i = 0; i < STRIDE; i += sizeof(lanes)) {
        lanes byte, before;
        memcpy(&byte, text + i, sizeof byte);
        memcpy(&before, text + i - 1, sizeof before);
        found |= (lanes)(byte == 0) | ((lanes)(byte == '\n') ^ (lanes)(before == '\r'));
        if (dots)
            found |= (lanes)(byte == '.') & (lanes)(before == '\n');
    }
    uint64_t half[2];
    memcpy(half, &found, sizeof half);
    return (half[0] | half[1]) == 0;
}

/* From the start of a line, which is not that of the text, over whole lines that need no look. */
static size_t skip_plain(struct str text, size_t begin, bool dots)
{
    size_t at = begin;
    while (text.len - at >= STRIDE && is_plain(text.ptr + at, dots))
        at += STRIDE;
    const char *last = memrchr(text.ptr + begin, '\n', at - begin);
    return last ? (size_t)(last - text.ptr) + 1 : begin;
}

/* How far `text` may leave as it is. `writer->at_line_start` is left as it is at that point. */
static size_t clean_run(struct smtp_data_writer *writer, struct str text)
{
    size_t at = 0;
    while (at < text.len) {
        if (writer->at_line_start && writer->dots && text.ptr[at] == '.')
            return at;
        size_t line_end = index_of(text, at, text.len, '\n');
        size_t cr = index_of(text, at, line_end, '\r');
        size_t stop = index_of(text, at, cr, '\0');
        if (stop != cr || cr + 1 != line_end || line_end == text.len) {
            /* no CRLF follows in one piece: stop at the NUL, the CR, the bare LF or the end */
            if (stop > at)
                writer->at_line_start = false;
            return stop;
        }
        writer->at_line_start = true;
        at = skip_plain(text, line_end + 1, writer->dots);
    }
    return at;
}

bool smtp_data_writer_next(struct smtp_data_writer *writer, struct str *input,
                           struct str *out_piece)
{
    if (!input->len)
        return false;
    if (writer->holds_cr) {
        writer->holds_cr = false;
        writer->at_line_start = input->ptr[0] == '\n';
        if (writer->at_line_start) {
            *input = str_from(*input, 1);
            *out_piece = STR("\r\n");
            return true;
        }
        writer->mend_count++;
        *out_piece = STR(" ");
        return true;
    }
    size_t run = clean_run(writer, *input);
    if (run) {
        *out_piece = str_slice(*input, 0, run);
        *input = str_from(*input, run);
        return true;
    }
    char byte = input->ptr[0];
    bool last = input->len == 1;
    *input = str_from(*input, 1);
    if (byte == '\r' && last) {
        writer->holds_cr = true;
        return false;
    }
    writer->at_line_start = false;
    if (byte == '.') {
        *out_piece = STR("..");
        return true;
    }
    writer->mend_count++;
    *out_piece = STR(" ");
    return true;
}

struct str smtp_data_writer_end(struct smtp_data_writer *writer)
{
    if (writer->holds_cr) {
        writer->mend_count++;
        return writer->dots ? STR(" \r\n.\r\n") : STR(" \r\n");
    }
    if (!writer->at_line_start)
        return writer->dots ? STR("\r\n.\r\n") : STR("\r\n");
    return writer->dots ? STR(".\r\n") : STR_EMPTY;
}
