/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/label.h - what people know a message by: its subject and author, fit to be shown.
 */
#pragma once

#include "base/arena.h"
#include "base/str.h"

/* Decoded, without control characters, and not endless; empty if there is none. In `arena`. */
struct str label_subject(struct arena *arena, struct str header);
struct str label_author(struct arena *arena, struct str header);
/* Both, as struct queue_kept has them. */
struct str label_text(struct arena *arena, struct str header);
