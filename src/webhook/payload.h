/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook/payload.h - an event as the body of a webhook: {"type", "timestamp", "data"}.
 *
 * Thin: what identifies things and closed words, by which the receiver can ask the API for more;
 * neither addresses nor what others wrote. Full: all fields, as in the log. Under 20,000 bytes
 * either way.
 */
#pragma once

#include "base/buf.h"
#include "event/event.h"

enum { WEBHOOK_PAYLOAD_MAX = 20000 };
enum webhook_payload { WEBHOOK_THIN, WEBHOOK_FULL };

/* Replaces what is in `out`, whose ceiling is WEBHOOK_PAYLOAD_MAX at least. A full one that would
 * be larger is thin, with "truncated": true. */
void webhook_payload_write(enum webhook_payload form, const struct event *event, struct str node,
                           struct str revision, struct buf *out);
/* That of a test. */
void webhook_payload_test(struct str webhook, struct str node, int64_t wall_ns, struct buf *out);
