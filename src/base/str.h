/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/str.h - a borrowed run of characters with its length; two words, passed by value.
 *
 * A str owns nothing and may hold any byte, NUL too. It ends in NUL only where a comment says so.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
    const char *ptr;
    size_t len;
};

/* A str of a string literal. */
#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_EMPTY    ((struct str){"", 0})

/* For printf: "%.*s", STR_ARG(s). */
#define STR_ARG(s) (int)(s).len, (s).ptr

/* A str of a C string; NULL gives an empty one. */
struct str str_c(const char *text);
struct str str_of(const char *ptr, size_t len);

bool str_equal(struct str a, struct str b);
/* ASCII letters compare without case; no locale. */
bool str_equal_nocase(struct str a, struct str b);
/* <0, 0, >0 by bytes, shorter first. */
int str_compare(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_starts_nocase(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
bool str_ends_nocase(struct str s, struct str suffix);

/* Index of the first (last) such byte, or -1. */
ptrdiff_t str_find(struct str s, char byte);
ptrdiff_t str_find_last(struct str s, char byte);
/* Index of the first occurrence of `needle`, or -1. */
ptrdiff_t str_find_str(struct str s, struct str needle);
bool str_has_nul(struct str s);

/* The part from `begin` on, and up to `end`; indexes beyond the end are cut to it. */
struct str str_from(struct str s, size_t begin);
struct str str_slice(struct str s, size_t begin, size_t end);

/* Without leading and trailing blanks and tabs (and CR, LF). */
struct str str_trim(struct str s);

/* Take the part before `separator` off the front of `*rest` into `*out_part`; the last part is
 * what is left. False when `*rest` was used up (its ptr is NULL then). */
bool str_split(struct str *rest, char separator, struct str *out_part);

/* Decimal digits only, no sign, no blanks; false for anything else or above `max`. */
bool str_to_uint(struct str s, uint64_t max, uint64_t *out_value);

/* Copy into `dst` of `size` bytes with a NUL behind it; false (and dst[0] = 0) if it does not fit
 * or holds a NUL. For the doors to libraries. */
bool str_to_c(struct str s, char *dst, size_t size);

/* ASCII only. */
char ascii_lower(char c);
bool ascii_is_alpha(char c);
bool ascii_is_digit(char c);

/* Length of the sequence of UTF-8 at the start of `text`, which is not empty, and its code point; 0
 * if it is none (overlong, a surrogate, beyond U+10FFFF, cut). */
size_t str_utf8(struct str text, uint32_t *out_point);
bool str_is_utf8(struct str text);
/* May a terminal obey it, or an eye be misled by it? Control characters, and those that turn the
 * direction of text, end a line, or cannot be seen. */
bool str_is_unsafe_point(uint32_t point);
