/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event/format.h - pieces of an event's JSON.
 *
 * Private to event/.
 */
#pragma once

#include "event/record.h"

/* Where the value of each field stands. */
struct format_places {
    uint32_t begin[EVENT_FIELDS];
    uint32_t end[EVENT_FIELDS];
};

/* All behind the number of the event, with the newline; `places` are offsets in `out`, which is
 * empty, or NULL. */
void format_json_rest(const struct event *event, struct str node, struct str revision,
                      struct buf *out, struct format_places *places);
void format_value(const struct event_field *field, struct buf *out);
