/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/store_text.h - a text looked for in the bytes of rows, letter case (of ASCII) ignored.
 *
 * Rows hold texts as they are, so one that does not stand in a row's bytes is in none of its
 * stories: who looks for a part of a subject passes over most rows without taking them apart.
 * Private to the store.
 */
#pragma once

#include "base/str.h"

struct store_text {
    struct str text;          /* as it was given; borrowed */
    char last[2];             /* of it, in both cases */
    unsigned char skips[256]; /* how far on, by the byte under its last one */
};

/* `text` is not empty; of a long one the end is enough. */
void store_text_init(struct store_text *out, struct str text);
bool store_text_is_in(const struct store_text *text, struct str bytes);
