/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/tail.h - live events for those who listen: each gets what its selector chooses, as JSON
 * lines, in a buffer of its own. Who is too slow loses events and is told how many.
 */
#pragma once

#include "admin/selector.h"

struct tail;
struct tail_reader;

struct tail *tail_new(void);
/* After the readers have ended. NULL is allowed. */
void tail_free(struct tail *tail);
/* Let readers end: they return at once from now on. */
void tail_stop(struct tail *tail);

/* The log's thread: hand an event to whom it may concern. Cheap when nobody listens. */
void tail_offer(struct tail *tail, const struct event *event, struct str node, struct str revision);

/* NULL when there are too many. `query` is parsed again; it must be good. */
struct tail_reader *tail_join(struct tail *tail, struct str query);
void tail_leave(struct tail_reader *reader);
/*
 * Wait at most `timeout_ms` for lines; copy at most `size` bytes of server-sent events to `to` and
 * tell how many: 0 when it is time for a sign of life, -1 at the end.
 */
ptrdiff_t tail_read(struct tail_reader *reader, char *to, size_t size, int timeout_ms);
