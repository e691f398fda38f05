/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/encoded_word.h - the text behind "=?utf-8?Q?gr=C3=BC=C3=9Fe?=" (RFC 2047), for people.
 */
#pragma once

#include "base/arena.h"

/*
 * `text` (an unfolded field's) with its encoded words decoded, in `arena`, at most `most` bytes and
 * not cut inside a character. UTF-8, US-ASCII, ISO-8859-1 and -15 and Windows-1252 are known; a
 * word of another charset, or a broken one, stays as it is. Control characters become blanks. Bytes
 * that were no UTF-8 before are none after: what shows them escapes them.
 */
struct str encoded_word_text(struct arena *arena, struct str text, size_t most);
