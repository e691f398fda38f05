/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/story_words.h - a story in plain words, for its sender.
 *
 * What became of the mail, why, and what he can do. Nothing of how the gateway is made: no steps,
 * backends, addresses of servers of ours, patterns or names of what was found.
 */
#pragma once

#include "base/buf.h"

#include <jansson.h>

/* `story` as story_tell() makes it. One paragraph, in UTF-8 as the story has it. */
void story_explain(json_t *story, struct buf *out);
