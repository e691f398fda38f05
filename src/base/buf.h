/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/buf.h - growing bytes with a ceiling set at birth.
 *
 * Passing the ceiling is remembered, not grown: the piece that did not fit is left out whole and
 * `overflow` stays set, so a chain of appends needs one test at its end.
 */
#pragma once

#include "base/str.h"

#include <stdarg.h>
#include <string.h>

struct buf {
    char *ptr;
    size_t len;
    size_t cap; /* never more than max */
    size_t max;
    bool overflow;
};

void buf_init(struct buf *buf, size_t max);
/* Frees; the buf may be used again after buf_init. */
void buf_done(struct buf *buf);
/* Empty it and forget an overflow; memory is kept. */
void buf_clear(struct buf *buf);
/* The same, for one that is filled again and again: of what a burst needed, memory is given back
 * some turns after it. `*needed` is what it was filled with of late, 0 at first. */
void buf_settle(struct buf *buf, size_t *needed);

/* The piece that needs new room; for buf_append alone. */
void buf_append_grow(struct buf *buf, struct str text);

/* In the header, as every event, header field and reply is put together from small pieces. */
static inline void buf_append(struct buf *buf, struct str text)
{
    if (text.len == 0 || text.len > buf->cap - buf->len) {
        buf_append_grow(buf, text);
        return;
    }
    memcpy(buf->ptr + buf->len, text.ptr, text.len);
    buf->len += text.len;
}

static inline void buf_append_byte(struct buf *buf, char byte)
{
    buf_append(buf, (struct str){&byte, 1});
}

/* In decimal. */
void buf_append_int(struct buf *buf, int64_t number);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *buf, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
/* Room for `size` more bytes at ptr + len, or NULL (overflow is set then). The caller adds to len
 * what it wrote. */
char *buf_reserve(struct buf *buf, size_t size);
/* Drop the first `size` bytes. */
void buf_consume(struct buf *buf, size_t size);

struct str buf_str(const struct buf *buf);

#define BUF_CLEANUP __attribute__((cleanup(buf_done)))
