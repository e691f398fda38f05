/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/data_fuzz.c - any bytes as message data, whole and in pieces: the outcome must be the same,
 * the end must be CRLF.CRLF, and nothing bare may come out.
 *
 * The first byte chooses DATA or BDAT and reject or mend, the second the size of the pieces.
 */
#include "base/buf.h"
#include "base/check.h"
#include "smtp/data.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    struct smtp_data data;
    struct buf out;
    size_t used;
    bool ended;
};

static void run(struct run *run, struct str text, size_t piece, bool chunks, bool mend)
{
    static const struct smtp_data_limits limits = {
        .size = 4096, .line = 100, .header_bytes = 512, .header_fields = 10, .hops = 3};
    buf_init(&run->out, 1 << 24);
    run->used = 0;
    run->ended = false;
    smtp_data_init(&run->data, &limits, chunks, mend);
    while (run->used < text.len && !run->ended) {
        struct str input = str_slice(text, run->used, run->used + piece);
        size_t len = input.len;
        struct str slice;
        enum smtp_data_step step;
        while ((step = smtp_data_next(&run->data, &input, &slice)) == SMTP_DATA_SLICE)
            buf_append(&run->out, slice);
        run->ended = step == SMTP_DATA_END;
        run->used += len - input.len;
    }
    if (chunks)
        buf_append(&run->out, smtp_data_finish(&run->data));
}

static void check_output(const struct run *run)
{
    struct str out = buf_str(&run->out);
    if (run->data.fault)
        return;
    check(!str_has_nul(out));
    for (size_t i = 0; i < out.len; i++) {
        if (out.ptr[i] == '\n')
            check(i > 0 && out.ptr[i - 1] == '\r');
        /* a CR at the very end may be held back, but is never given out alone */
        if (out.ptr[i] == '\r')
            check(i + 1 < out.len && out.ptr[i + 1] == '\n');
    }
    check(run->data.size >= out.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    bool chunks = data[0] & 1;
    bool mend = data[0] & 2;
    size_t piece = data[1] ? data[1] : 1;
    struct str text = str_of((const char *)data + 2, size - 2);
    struct run whole;
    struct run pieces;
    run(&whole, text, text.len ? text.len : 1, chunks, mend);
    run(&pieces, text, piece, chunks, mend);
    check(whole.ended == pieces.ended && whole.used == pieces.used);
    /* which of several faults is kept may depend on the pieces; that there is one must not */
    check(!whole.data.fault == !pieces.data.fault || !whole.ended);
    check(smtp_data_must_close(whole.data.fault) == smtp_data_must_close(pieces.data.fault));
    if (!whole.data.fault && !pieces.data.fault)
        check(str_equal(buf_str(&whole.out), buf_str(&pieces.out)));
    if (!chunks) {
        bool starts = str_starts(text, STR(".\r\n"));
        ptrdiff_t at = starts ? 0 : str_find_str(text, STR("\r\n.\r\n"));
        check(whole.ended == (at >= 0));
        if (whole.ended)
            check(whole.used == (starts ? 3 : (size_t)at + 5));
    }
    check_output(&whole);
    check_output(&pieces);
    buf_done(&whole.out);
    buf_done(&pieces.out);
    return 0;
}
