/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/reply_parser.h - replies of a server (RFC 5321 4.2), read as a pure parser.
 *
 * Bytes in, a reply out, no I/O. What a remote server says ends up in logs, DSN and our own
 * replies, so its text is made harmless here, at the door: no control character survives.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "mail/reply.h"

enum {
    SMTP_REPLY_MAX_LINE = 2000, /* octets, without the line end */
    SMTP_REPLY_MAX_LINES = 100,
    SMTP_REPLY_MAX_BYTES = 32 * 1024,
};

struct smtp_reply_parser {
    struct buf text; /* lines joined by \n, codes taken off */
    struct mail_enhanced enhanced;
    unsigned code; /* of the first line; 0 before it */
    unsigned lines;
    size_t bytes;
};

enum smtp_reply_progress { SMTP_REPLY_MORE, SMTP_REPLY_COMPLETE };

void smtp_reply_parser_init(struct smtp_reply_parser *parser);
void smtp_reply_parser_done(struct smtp_reply_parser *parser);

/*
 * Read from `input`, which starts where the call before stopped using it. `*out_used` bytes are
 * taken (whole lines). COMPLETE: `*out_reply` is filled, its text lives until the next call; the
 * parser is ready for the next reply. FAILED (ERROR_PROTOCOL): not a reply, codes that disagree, or
 * a ceiling was passed; the conversation cannot go on.
 */
enum result smtp_reply_feed(struct smtp_reply_parser *parser, struct str input, size_t *out_used,
                            enum smtp_reply_progress *out_progress, struct mail_reply *out_reply,
                            struct error *err);
