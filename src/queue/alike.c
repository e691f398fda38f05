/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/alike.c - packed := n × (small: 2 × words that are equal before it + 1 if it is the last;
 * small: length; the word). Of words, those that may differ are counted.
 */
#include "queue/alike.h"

#include "base/check.h"
#include "base/map.h"

#include <string.h>

/* ---- words ---- */

static bool is_of_word(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || (c != 0 && strchr("._@+=-", c) != NULL);
}

static bool is_small(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_capital(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool may_differ(struct str word)
{
    for (size_t i = 0; i < word.len; i++) {
        char c = word.ptr[i], before = i > 0 ? word.ptr[i - 1] : '.';
        if (ascii_is_digit(c) || c == '@' || (is_small(before) && is_capital(c)) ||
            (before == '.' && i > 1 && ascii_is_alpha(c)))
            return true;
    }
    return false;
}

/* What comes next: a word, or a byte that is of none. */
struct piece {
    struct str bytes;
    bool may_differ;
};

static bool next_piece(struct str *rest, struct piece *out)
{
    size_t len = 0;
    if (rest->len == 0)
        return false;
    while (len < rest->len && is_of_word(rest->ptr[len]))
        len++;
    out->bytes = str_slice(*rest, 0, len > 0 ? len : 1);
    out->may_differ = len > 0 && may_differ(out->bytes);
    *rest = str_from(*rest, out->bytes.len);
    return true;
}

/* ---- numbers ---- */

static void put_small(struct buf *out, size_t value)
{
    for (; value >= 128; value >>= 7)
        buf_append_byte(out, (char)(unsigned char)(value | 128));
    buf_append_byte(out, (char)(unsigned char)value);
}

static size_t get_small(struct str *rest)
{
    size_t value = 0, part = 128;
    for (unsigned shift = 0; part >= 128; shift += 7) {
        check(rest->len > 0 && shift < 32); /* our own bytes */
        part = (unsigned char)rest->ptr[0];
        *rest = str_from(*rest, 1);
        value |= (part & 127) << shift;
    }
    return value;
}

/* ---- the public side ---- */

uint64_t queue_alike_hash(struct str bytes)
{
    struct piece piece;
    uint64_t sum = 0;
    for (struct str rest = bytes; next_piece(&rest, &piece);)
        sum = sum * 0x9e3779b97f4a7c15 + (piece.may_differ ? 1 : hash_bytes(piece.bytes));
    return sum ^ sum >> 32;
}

bool queue_alike_pack(struct str base, struct str bytes, struct buf *out)
{
    struct piece old, piece = {0}, differs = {0};
    size_t equal = 0, before = 0;
    bool any = false;
    while (next_piece(&bytes, &piece)) {
        if (!next_piece(&base, &old) || old.may_differ != piece.may_differ)
            return false;
        if (str_equal(old.bytes, piece.bytes)) {
            equal += piece.may_differ;
            continue;
        }
        if (!piece.may_differ)
            return false;
        if (any) { /* the one before was not the last */
            put_small(out, 2 * before);
            put_small(out, differs.bytes.len);
            buf_append(out, differs.bytes);
        }
        any = true;
        differs = piece;
        before = equal;
        equal = 0;
    }
    if (any) {
        put_small(out, 2 * before + 1);
        put_small(out, differs.bytes.len);
        buf_append(out, differs.bytes);
    }
    return base.len == 0;
}

void queue_alike_unpack(struct str base, struct str packed, struct buf *out)
{
    struct piece piece;
    size_t mark = get_small(&packed);
    size_t equal = mark / 2;
    bool over = false;
    while (next_piece(&base, &piece)) {
        if (over || !piece.may_differ || equal > 0) {
            equal -= !over && piece.may_differ;
            buf_append(out, piece.bytes);
            continue;
        }
        size_t len = get_small(&packed);
        check(len <= packed.len);
        buf_append(out, str_slice(packed, 0, len));
        packed = str_from(packed, len);
        over = mark % 2 == 1;
        mark = over ? 0 : get_small(&packed);
        equal = mark / 2;
    }
    check(over);
}
