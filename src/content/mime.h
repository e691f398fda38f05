/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/mime.h - the parts of a message (RFC 2045 to 2049, 2231): found once, read when asked
 * for.
 *
 * One pass over the lines, without recursion and without a copy: time is linear in the size,
 * memory in the number of parts, whatever a sender wrote. Broken MIME is read as most mail programs
 * read it. Decoding streams; what it costs is told to the caller, who may say enough.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "fiber/fiber.h"
#include "mail/body.h"

enum mime_encoding { MIME_IDENTITY, MIME_QUOTED_PRINTABLE, MIME_BASE64, MIME_UNKNOWN };

struct mime_part {
    long parent; /* index, -1: the message itself */
    unsigned depth;
    struct str type;    /* "text/plain", lower case; the default where the header says nothing */
    struct str charset; /* lower case; "" where none is said */
    struct str name;    /* of a file, UTF-8; "" */
    bool is_attachment; /* Content-Disposition: attachment */
    enum mime_encoding encoding;
    struct str header; /* of the part, with its empty line */
    bool is_multipart; /* others are in it */
    bool is_message;   /* message/rfc822, which is the next part */
    /* bytes of the message's body, without the line end before the next boundary */
    uint64_t header_begin, body_begin, body_end;
};

struct mime_source {
    const struct mail_content *content;
    struct str header; /* of the message; its body is what stands behind it in content */
};
struct mime_limits {
    size_t parts;
    unsigned depth;
    size_t memory; /* bytes of headers of parts */
};
struct mime_message {
    struct mime_source source;
    struct mime_part *parts; /* the first is the message; in order of their begin; in the arena */
    size_t count;
};

/* ERROR_LIMIT: more than the limits allow, a part with a header of more than 64K, or a boundary
 * longer than a line may be: what cannot be seen of a message may be seen by its reader. Yields now
 * and then. */
enum result mime_read(const struct mime_source *source, const struct mime_limits *limits,
                      struct arena *arena, struct mime_message *out, struct error *err) MAY_YIELD;

/* Takes decoded bytes; FAILED ends the reading. */
typedef enum result (*mime_sink)(void *context, struct str data, struct error *err);
/* The content of a leaf as its encoding hides it: bytes. */
enum result mime_decode(const struct mime_message *message, const struct mime_part *part,
                        mime_sink sink, void *context, struct error *err) MAY_YIELD;
/* Is it shown as text: text/plain or text/html, no attachment? */
bool mime_is_text(const struct mime_part *part);
/* The same content as UTF-8. Of a charset that we do not know bytes above 127 become U+FFFD;
 * *out_faithful (may be NULL) false says that something was lost. `strip_html`: of text/html only
 * what a reader sees, tags cut out. */
enum result mime_decode_text(const struct mime_message *message, const struct mime_part *part,
                             bool strip_html, mime_sink sink, void *context, bool *out_faithful,
                             struct error *err) MAY_YIELD;

/* ---- values of header fields ---- */

/* A parameter of a structured field ("boundary"), by RFC 2231 too; UTF-8; "" if there is none. */
struct str mime_parameter(struct str value, const char *name, struct arena *arena);
/* All that are there under this name: each plain one, then that of RFC 2231; programs differ in
 * which they take. At most `max`. *out_cut: the value goes on behind what is read of it. */
size_t mime_parameters(struct str value, const char *name, struct arena *arena, struct str *out,
                       size_t max, bool *out_cut);
/* The first word of a structured field, lower case: "text/plain", "base64"; blanks and comments
 * before it and around its slash are none of it (RFC 2045 5.1). */
struct str mime_first_word(struct str value, struct arena *arena);
/* Encoded words (RFC 2047) as UTF-8; what is none stays. */
struct str mime_decode_words(struct str text, struct arena *arena);
/* Bytes of a charset as UTF-8, appended; false: not known, or something was lost. */
bool mime_to_utf8(struct str charset, struct str text, struct buf *out);
