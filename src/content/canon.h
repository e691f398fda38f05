/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/canon.h - the canonical forms of header fields and bodies (RFC 6376 3.4), straight into
 * a hash, without a copy.
 */
#pragma once

#include "content/dkim.h"
#include "crypto/sha256.h"
#include "mail/header.h"

/* Where canonical octets go: a few are collected, so that the hash is not called for each. */
struct canon_sink {
    struct sha256 sha;
    uint64_t size; /* octets taken so far */
    size_t used;
    char collected[512];
};
void canon_sink_open(struct canon_sink *sink);
/* `to`, which was not open, goes on from where `from` is. */
void canon_sink_copy(struct canon_sink *from, struct canon_sink *to);
void canon_sink_finish(struct canon_sink *sink, unsigned char out_hash[SHA256_SIZE]);
void canon_sink_close(struct canon_sink *sink); /* as sha256_close */

/* ---- header fields ---- */

/* The field with its CRLF. */
void canon_field(struct canon_sink *sink, enum dkim_canon canon, const struct mail_field *field);
/* A signature's own field: without its final CRLF, and without `hole`, the value of its b= tag (a
 * slice of the field's value). */
void canon_signature(struct canon_sink *sink, enum dkim_canon canon, const struct mail_field *field,
                     struct str hole);

/* ---- bodies ---- */

/* Lines end in CRLF; CR and LF alone are ordinary octets. */
struct canon_body {
    struct canon_sink sink;
    enum dkim_canon canon;
    uint64_t line_ends; /* seen, and written once something follows */
    bool blank;         /* likewise, relaxed: a run of blanks */
    bool cr;            /* likewise: a CR, perhaps of a CRLF */
};
void canon_body_open(struct canon_body *body, enum dkim_canon canon);
void canon_body_add(struct canon_body *body, struct str data);
void canon_body_finish(struct canon_body *body, struct dkim_body_hash *out);
void canon_body_close(struct canon_body *body); /* as sha256_close */

/* Fill those of message->bodies that `wanted` names (a set of 1 << canon), in one pass. */
enum result canon_hash_bodies(struct dkim_message *message, unsigned wanted,
                              struct error *err) MAY_YIELD;
