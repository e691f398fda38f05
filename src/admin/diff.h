/* SPDX-License-Identifier: Apache-2.0 */
/* admin/diff.h - what differs between two configurations, for people: unified, by lines. */
#pragma once

#include "config/load.h"

struct buf;

/* Append the differences of all files of `from` and `to`; nothing when they are equal. Files are
 * paired by their names beside the main file. */
void diff_texts(const struct config_texts *from, const struct config_texts *to, struct buf *out);
/* Of one text. */
void diff_text(struct str name, struct str from, struct str to, struct buf *out);
