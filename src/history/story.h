/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/story.h - from an id or a ref to what happened: its events, and the story they tell.
 */
#pragma once

#include "history/store.h"

#include <jansson.h>

/*
 * The events of what `text` names, oldest first, as the objects of the log: an id of a message, of
 * a session (with what its messages went through) or of an entry of the queue, or a ref: of a ref
 * only those that led to its refusal when `only_ref`. Empty when nothing is known. *out_id: the
 * story's.
 */
json_t *story_events(struct store_reader *reader, struct str node, struct str text, bool only_ref,
                     struct mail_id *out_id);

/* Ids of stories that begin so, newest first: how many, at most `max`. */
size_t story_ids(struct store_reader *reader, struct str prefix, struct mail_id *out, size_t max);

/* The same, put in order: session, authentication, recipients with steps and attempts, content,
 * outcomes. `ref` may be NULL: tell only of the refusal that has it. */
json_t *story_tell(json_t *events, struct mail_id id, const char *ref);
