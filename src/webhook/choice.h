/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook/choice.h - which events a webhook gets: names, "delivery.*", "*", and an expression as of
 * find and tail.
 *
 * Never an event about webhooks, nor about events that webhooks lost: one that failed would make
 * the next.
 */
#pragma once

#include "history/event_filter.h"

struct webhook_choice {
    bool wants[EVENT_TYPE_COUNT];
    struct event_filter filter; /* no terms: each fits */
};

enum webhook_word {
    WEBHOOK_WORD_TAKEN,
    WEBHOOK_WORD_UNKNOWN, /* there is no such event */
    WEBHOOK_WORD_OF_OWN,  /* it is about webhooks */
};
/* "message.rejected", "delivery.*"; "*": all but those of severity debug. */
enum webhook_word webhook_choice_add(struct webhook_choice *choice, struct str word);
/* Of what was added, or of all events if `alone`, only what fits. Texts in `arena`. FAILED says in
 * `err` what is wrong with it. */
enum result webhook_choice_filter(struct webhook_choice *choice, struct str expression, bool alone,
                                  struct arena *arena, struct error *err);
bool webhook_choice_fits(const struct webhook_choice *choice, const struct event *event);
/* All names that can be chosen, and "family.*" of each; for suggestions. */
const struct str *webhook_choice_names(struct arena *arena, size_t *out_count);
