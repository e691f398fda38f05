/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/data.h - the one decoder of message bytes, for DATA (RFC 5321 4.5.2) and BDAT (RFC 3030).
 *
 * Pure: bytes in, slices of decoded bytes out, without a copy. The end of DATA is exactly
 * CRLF.CRLF, whatever else was wrong before: a refused message is read to the same end as a good
 * one, so nothing behind it can be taken for commands (SMTP smuggling). What comes out never holds
 * a bare LF; after a fault it is worthless and must be thrown away.
 */
#pragma once

#include "base/str.h"

enum smtp_data_fault {
    SMTP_DATA_OK,
    /* these are kept over all others: they end the connection */
    SMTP_DATA_BARE_LF,
    SMTP_DATA_BARE_CR,
    SMTP_DATA_NUL,
    SMTP_DATA_SIZE,
    SMTP_DATA_LINE,
    SMTP_DATA_HEADER_BYTES,
    SMTP_DATA_HEADER_FIELDS,
    SMTP_DATA_HOPS,
};

/* Above these a fault is set; 0 of the unsigned ones is no bound. */
struct smtp_data_limits {
    uint64_t size;
    uint64_t line; /* without its CRLF */
    uint64_t header_bytes;
    uint64_t header_fields;
    uint64_t hops;
};

enum { SMTP_DATA_NAME = 16 };

struct smtp_data {
    /* read by all */
    enum smtp_data_fault fault;
    uint64_t size; /* decoded bytes so far */
    uint64_t lines;
    uint64_t longest_line;
    uint64_t header_length; /* with the empty line; 0: not seen (yet) */
    uint64_t header_fields;
    unsigned received_count;
    bool has_8bit;
    bool mended_line_ends;
    /* private */
    struct smtp_data_limits limits;
    bool chunks; /* BDAT: no dots, no end */
    bool mend;   /* a bare LF becomes CRLF instead of a fault */
    unsigned char state;
    unsigned char name_len;    /* of the current line, while in the header section */
    char name[SMTP_DATA_NAME]; /* its first bytes */
    uint64_t line;             /* bytes of the current line so far */
};

enum smtp_data_step {
    SMTP_DATA_SLICE, /* *out_slice is the next part of the message */
    SMTP_DATA_MORE,  /* the input is used up */
    SMTP_DATA_END,   /* DATA only: CRLF.CRLF is passed, what is left of the input lies behind it */
};

void smtp_data_init(struct smtp_data *data, const struct smtp_data_limits *limits, bool chunks,
                    bool mend);
/* Decode the next part of `*input` and take it off. The slice points into the input or to static
 * text. Call again until it is not SLICE. */
enum smtp_data_step smtp_data_next(struct smtp_data *data, struct str *input,
                                   struct str *out_slice);
/* The last chunk was fed: what is still to be added (a missing CRLF at the end), or empty. */
struct str smtp_data_finish(struct smtp_data *data);

/* True for the faults after which the peer's idea of lines cannot be trusted. */
bool smtp_data_must_close(enum smtp_data_fault fault);
