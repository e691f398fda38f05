/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/data_writer.h - the one place where the bytes of a message leave: dots stuffed, line ends
 * true (RFC 5321 4.5.2), as a pure filter.
 *
 * Content is canonical by construction. Should a bare CR, bare LF or NUL be in it nevertheless, it
 * leaves as a blank, so that no peer can be made to see a line, an end of data or a command that we
 * did not see. Blanks keep the length, so that BDAT sizes stay right.
 */
#pragma once

#include "base/str.h"

struct smtp_data_writer {
    bool dots;           /* DATA; false: BDAT */
    bool at_line_start;  /* private */
    bool holds_cr;       /* private: a CR at the end of a slice waits for its LF */
    uint64_t mend_count; /* bytes replaced: should be 0 */
};

void smtp_data_writer_init(struct smtp_data_writer *writer, bool dots);

/* Take the next run off the front of `*input`; `*out_piece` (of the input, or static) is what to
 * write for it. False when the input is used up. */
bool smtp_data_writer_next(struct smtp_data_writer *writer, struct str *input,
                           struct str *out_piece);

/* What ends the content: a missing line end, and the lone dot of DATA. Static text. */
struct str smtp_data_writer_end(struct smtp_data_writer *writer);
