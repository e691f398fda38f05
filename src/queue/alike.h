/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/alike.h - bytes that differ from others in some words only (pure).
 *
 * Servers put a log number, a time, an address into what they answer, so that each message has
 * words of its own and nearly all of them are the same. Where two are alike, the second is kept as
 * what is different in it. Words that may differ are those with a digit, an "@", a dot inside, or a
 * capital behind a small letter; everything else must be equal, byte by byte.
 */
#pragma once

#include "base/buf.h"

/* The same for all that are alike. */
uint64_t queue_alike_hash(struct str bytes);
/* Append what is different in `bytes`; nothing when they are equal. False: they are not alike (then
 * something may have been appended). */
bool queue_alike_pack(struct str base, struct str bytes, struct buf *out);
/* Append what pack was given. Where `packed` ends it knows itself; its length may be more. */
void queue_alike_unpack(struct str base, struct str packed, struct buf *out);
