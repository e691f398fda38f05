/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/event_guess.h - what a word without a key means: one box takes an id, a ref, an address,
 * a message-id, an IP address, a domain, or a part of any text.
 *
 * Private to the expressions of find and tail.
 */
#pragma once

#include "history/event_filter.h"

/* By its looks alone; `as` of the term says what it was taken for. */
struct event_term event_guess(struct str word);
/* As a part of any text, as one in quotes is. */
struct event_term event_guess_text(struct str word);

/* A Message-ID, with its angle brackets or without. */
bool event_guess_is_message_id(struct str text, struct str wanted);
bool event_guess_index_message_id(struct str text, struct store_term *out);

/* For terms that event_guess() made, FIELD and WORD excepted. */
bool event_guess_fits(const struct event_term *term, const struct event *event);
/* Words of the index of which a story that fits has one; false: the index cannot tell. */
bool event_guess_index(const struct event_term *term, struct store_term *out);
