/* SPDX-License-Identifier: Apache-2.0 */
/* admin/diff.h - what differs between two configurations, for people: unified, by lines. */
#pragma once

#include "config/load.h"

struct buf;

/* Which side is which, behind the name and a tab, as patch(1) knows it: "r41", "the file". */
struct diff_sides {
    struct str before, after;
};

/* Append the differences of all files of `from` and `to`; nothing when they are equal. Files are
 * paired by their names beside the main file. */
void diff_texts(const struct config_texts *from, const struct config_texts *to,
                struct diff_sides sides, struct buf *out);
/* Of one text. */
void diff_text(struct str name, struct str from, struct str to, struct diff_sides sides,
               struct buf *out);
