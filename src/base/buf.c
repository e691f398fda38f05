/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max};
}

void buf_done(struct buf *buf)
{
    free(buf->ptr);
    *buf = (struct buf){0};
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
    buf->overflow = false;
}

void buf_settle(struct buf *buf, size_t *needed)
{
    enum { ALWAYS = 64 * 1024, TIMES = 4 };
    size_t of_late = *needed - *needed / 8;
    *needed = buf->len > of_late ? buf->len : of_late;
    buf_clear(buf);
    if (buf->cap <= ALWAYS || buf->cap / TIMES <= *needed)
        return;
    size_t max = buf->max;
    buf_done(buf);
    buf_init(buf, max);
}

char *buf_reserve(struct buf *buf, size_t size)
{
    if (size > buf->max - buf->len) {
        buf->overflow = true;
        return NULL;
    }
    size_t need = buf->len + size;
    if (need > buf->cap || !buf->ptr) {
        size_t cap = buf->cap ? buf->cap : 256;
        while (cap < need)
            cap *= 2;
        if (cap > buf->max)
            cap = buf->max;
        buf->ptr = memory_resize_array(buf->ptr, cap, 1);
        buf->cap = cap;
    }
    return buf->ptr + buf->len;
}

void buf_append_grow(struct buf *buf, struct str text)
{
    char *at = buf_reserve(buf, text.len);
    if (at && text.len) {
        memcpy(at, text.ptr, text.len);
        buf->len += text.len;
    }
}

void buf_append_int(struct buf *buf, int64_t number)
{
    char digits[20];
    char *at = digits + sizeof digits;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (number < 0)
        *--at = '-';
    buf_append(buf, (struct str){at, (size_t)(digits + sizeof digits - at)});
}

void buf_vprintf(struct buf *buf, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    /* into the room that is there; most pieces fit */
    size_t room = buf->ptr ? buf->cap - buf->len : 0;
    int len = vsnprintf(room ? buf->ptr + buf->len : NULL, room, format, again);
    va_end(again);
    check(len >= 0);
    /* vsnprintf writes a NUL behind the text: room for it is asked for, but it is not counted */
    char *at = buf_reserve(buf, (size_t)len + 1);
    if (at) {
        if ((size_t)len >= room)
            vsnprintf(at, (size_t)len + 1, format, args);
        buf->len += (size_t)len;
    }
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_vprintf(buf, format, args);
    va_end(args);
}

void buf_consume(struct buf *buf, size_t size)
{
    check(size <= buf->len);
    if (size)
        memmove(buf->ptr, buf->ptr + size, buf->len - size);
    buf->len -= size;
}

struct str buf_str(const struct buf *buf)
{
    return (struct str){buf->ptr ? buf->ptr : "", buf->len};
}
