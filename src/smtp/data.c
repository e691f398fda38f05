/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/data.h"

#include "base/check.h"

#include <string.h>

enum state {
    LINE_START, /* behind a CRLF, or at the very start (behind the CRLF of the command) */
    LF_START,   /* behind a bare LF that was mended: a dot is unstuffed, but ends nothing */
    TEXT,       /* inside of a line */
    CR,         /* a CR is held back until the next byte is known */
    DOT,        /* CRLF and a dot */
    DOT_CR,     /* CRLF, a dot and a CR */
    MEND,       /* a bare LF was taken, its CRLF is still to be given out */
    ENDED,
};

void smtp_data_init(struct smtp_data *data, const struct smtp_data_limits *limits, bool chunks,
                    bool mend)
{
    *data = (struct smtp_data){.limits = *limits, .chunks = chunks, .mend = mend};
}

bool smtp_data_must_close(enum smtp_data_fault fault)
{
    return fault == SMTP_DATA_BARE_LF || fault == SMTP_DATA_BARE_CR || fault == SMTP_DATA_NUL;
}

static void set_fault(struct smtp_data *data, enum smtp_data_fault fault)
{
    if (data->fault == SMTP_DATA_OK ||
        (!smtp_data_must_close(data->fault) && smtp_data_must_close(fault)))
        data->fault = fault;
}

static bool in_header(const struct smtp_data *data)
{
    return data->header_length == 0;
}

/* `size` bytes of the current line, without its end. */
static void add_text(struct smtp_data *data, const char *text, size_t size)
{
    if (in_header(data) && data->name_len < SMTP_DATA_NAME) {
        size_t room = (size_t)(SMTP_DATA_NAME - data->name_len);
        size_t part = size < room ? size : room;
        memcpy(data->name + data->name_len, text, part);
        data->name_len = (unsigned char)(data->name_len + part);
    }
    data->line += size;
    data->size += size;
}

/* A line of the header section is complete; its first bytes are in data->name. */
static void end_header_line(struct smtp_data *data)
{
    if (data->line == 0) {
        data->header_length = data->size;
        return;
    }
    struct str name = {data->name, data->name_len};
    data->name_len = 0;
    bool folded = name.ptr[0] == ' ' || name.ptr[0] == '\t';
    if (folded && data->header_fields > 0)
        return;
    data->header_fields++;
    if (str_starts_nocase(name, STR("Received"))) {
        char next = name.len > 8 ? name.ptr[8] : 0;
        if (next == ':' || next == ' ' || next == '\t')
            data->received_count++;
    }
    if (data->limits.header_fields && data->header_fields > data->limits.header_fields)
        set_fault(data, SMTP_DATA_HEADER_FIELDS);
    if (data->limits.hops && data->received_count > data->limits.hops)
        set_fault(data, SMTP_DATA_HOPS);
}

static void end_line(struct smtp_data *data)
{
    data->lines++;
    data->size += 2;
    if (in_header(data))
        end_header_line(data);
    if (data->line > data->longest_line)
        data->longest_line = data->line;
    data->line = 0;
}

static void check_limits(struct smtp_data *data)
{
    const struct smtp_data_limits *limits = &data->limits;
    if (data->line > data->longest_line)
        data->longest_line = data->line;
    if (limits->size && data->size > limits->size)
        set_fault(data, SMTP_DATA_SIZE);
    if (limits->line && data->longest_line > limits->line)
        set_fault(data, SMTP_DATA_LINE);
    uint64_t header = in_header(data) ? data->size : data->header_length;
    if (limits->header_bytes && header > limits->header_bytes)
        set_fault(data, SMTP_DATA_HEADER_BYTES);
}

/* Sixteen bytes that the compiler handles at once where the machine can. */
typedef unsigned char lanes __attribute__((vector_size(16)));

/* NUL, bytes over 127, and any CR without an LF behind it. */
static void look_at_bytes(struct smtp_data *data, struct str text)
{
    lanes high = {0};
    lanes zero = {0};
    lanes cr = {0};
    unsigned char rest_high = 0;
    bool rest_zero = false;
    bool rest_cr = text.len && text.ptr[text.len - 1] == '\r';
    size_t i = 0;
    for (; i + sizeof(lanes) < text.len; i += sizeof(lanes)) {
        lanes part, behind;
        memcpy(&part, text.ptr + i, sizeof part);
        memcpy(&behind, text.ptr + i + 1, sizeof behind);
        high |= part;
        zero |= (lanes)(part == 0);
        cr |= (lanes)(part == '\r') & (lanes)(behind != '\n');
    }
    for (; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        rest_high |= byte;
        rest_zero |= byte == 0;
        rest_cr |= byte == '\r' && i + 1 < text.len && text.ptr[i + 1] != '\n';
    }
    for (size_t k = 0; k < sizeof(lanes); k++) {
        rest_high |= high[k];
        rest_zero |= zero[k] != 0;
        rest_cr |= cr[k] != 0;
    }
    if (rest_high & 0x80)
        data->has_8bit = true;
    if (rest_cr)
        set_fault(data, SMTP_DATA_BARE_CR);
    if (rest_zero)
        set_fault(data, SMTP_DATA_NUL);
}

/*
 * Starting inside of a line: the longest run of bytes that can be given out as it is, taken off the
 * input. Each byte is looked at a fixed number of times, whatever it is.
 */
static struct str take_run(struct smtp_data *data, struct str *input)
{
    const char *begin = input->ptr;
    const char *end = begin + input->len;
    const char *at = begin;
    const char *stop; /* end of the slice */
    const char *next; /* where the input goes on */
    for (;;) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        bool crlf = lf && lf > at && lf[-1] == '\r';
        bool held = !lf && end[-1] == '\r';
        const char *text_end = crlf ? lf - 1 : lf ? lf : held ? end - 1 : end;
        add_text(data, at, (size_t)(text_end - at));
        if (!crlf) {
            data->state = lf ? MEND : held ? CR : TEXT;
            stop = text_end;
            next = lf ? lf + 1 : end;
            break;
        }
        end_line(data);
        at = lf + 1;
        if (at == end || (*at == '.' && !data->chunks)) {
            data->state = LINE_START;
            stop = next = at;
            break;
        }
    }
    struct str slice = {begin, (size_t)(stop - begin)};
    *input = str_from(*input, (size_t)(next - begin));
    look_at_bytes(data, slice);
    return slice;
}

/* A byte in a state between lines. True: `*out_slice` was filled or the end was found. */
static bool step(struct smtp_data *data, struct str *input, struct str *out_slice)
{
    char byte = input->ptr[0];
    switch ((enum state)data->state) {
    case CR:
        if (byte == '\n') {
            *input = str_from(*input, 1);
            data->state = LINE_START;
            end_line(data);
            *out_slice = STR("\r\n");
            return true;
        }
        set_fault(data, SMTP_DATA_BARE_CR);
        data->state = TEXT;
        return false;
    case DOT:
        data->state = byte == '\r' ? DOT_CR : TEXT;
        if (byte == '\r')
            *input = str_from(*input, 1);
        return false;
    case DOT_CR:
        if (byte == '\n') {
            *input = str_from(*input, 1);
            data->state = ENDED;
            return true;
        }
        set_fault(data, SMTP_DATA_BARE_CR);
        data->state = TEXT;
        return false;
    case LINE_START:
    case LF_START:
        if (byte == '.' && !data->chunks) {
            *input = str_from(*input, 1);
            data->state = data->state == LINE_START ? DOT : TEXT;
        } else
            data->state = TEXT;
        return false;
    default:
        check(false);
        return false;
    }
}

static struct str mend_line_end(struct smtp_data *data)
{
    if (data->mend)
        data->mended_line_ends = true;
    else
        set_fault(data, SMTP_DATA_BARE_LF);
    data->state = LF_START;
    end_line(data);
    return STR("\r\n");
}

enum smtp_data_step smtp_data_next(struct smtp_data *data, struct str *input, struct str *out_slice)
{
    *out_slice = STR_EMPTY;
    check(data->state != ENDED);
    if (data->state == MEND) {
        *out_slice = mend_line_end(data);
        return SMTP_DATA_SLICE;
    }
    while (input->len) {
        if (data->state == TEXT) {
            *out_slice = take_run(data, input);
            check_limits(data);
            /* an empty run (a line end alone) is no slice, but may leave a line end to give out */
            if (out_slice->len == 0 && data->state == MEND)
                *out_slice = mend_line_end(data);
            if (out_slice->len)
                return SMTP_DATA_SLICE;
        } else if (step(data, input, out_slice)) {
            check_limits(data);
            return data->state == ENDED ? SMTP_DATA_END : SMTP_DATA_SLICE;
        }
    }
    return SMTP_DATA_MORE;
}

struct str smtp_data_finish(struct smtp_data *data)
{
    check(data->state != MEND);
    if (data->state == CR)
        set_fault(data, SMTP_DATA_BARE_CR);
    if (data->state == LINE_START || data->state == LF_START)
        return STR_EMPTY;
    data->state = LINE_START;
    end_line(data);
    check_limits(data);
    return STR("\r\n");
}
