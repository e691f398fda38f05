/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/tail.h - live events for those who listen.
 *
 * The last events (some 4 MiB of them) are kept in memory, and each reader is a place in them: it
 * looks at what came since in its own thread, so many or slow readers cost the log nothing. Who
 * comes back with the id of the last event seen goes on behind it. Who is too slow, or was away too
 * long, is told how many events passed unseen.
 */
#pragma once

#include "history/event_filter.h"

struct tail;
struct tail_reader;

struct tail *tail_new(void);
/* After the readers have ended. NULL is allowed. */
void tail_free(struct tail *tail);
/* Let readers end: they return at once from now on. */
void tail_stop(struct tail *tail);

/* The log's thread: keep an event for whom it may concern. */
void tail_offer(struct tail *tail, const struct event *event, struct str revision);

struct tail_request {
    struct str query;   /* parsed again; it must be good */
    struct str last_id; /* "id:" of the last event seen, empty: from now on */
    struct str node;
};
/* NULL when there are too many. */
struct tail_reader *tail_join(struct tail *tail, const struct tail_request *request);
void tail_leave(struct tail_reader *reader);
/*
 * Wait at most `timeout_ms` for events; copy at most `size` bytes of server-sent events to `to` and
 * tell how many: 0 when it is time for a sign of life, -1 at the end.
 */
ptrdiff_t tail_read(struct tail_reader *reader, char *to, size_t size, int timeout_ms);
