/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook/webhooks.h - a reader of the event stream that tells web services (Standard Webhooks).
 *
 * A thread with a loop of its own. The log's thread hands it copies of the events that some webhook
 * may want, in bounded memory: what does not fit is counted and told of (events.dropped, sink
 * "webhooks"), so neither log nor mail waits for it. Everything else is the dispatcher's.
 */
#pragma once

#include "webhook/dispatcher.h"

struct webhooks;
struct dns_settings;

/* `folder`: of the outbox. Copies the texts. */
enum result webhooks_start(struct str folder, struct str node, const struct dns_settings *dns,
                           struct webhooks **out_webhooks, struct error *err);
/* From now on these (taken over, also after a stop). Any thread. NULL is allowed. */
void webhooks_use(struct webhooks *webhooks, const struct webhook_set *set);
/* No attempt goes on, no test is taken; events still reach the outbox. NULL is allowed. */
void webhooks_halt(struct webhooks *webhooks);
/* When nobody offers, uses or asks any more. NULL is allowed. */
void webhooks_stop(struct webhooks *webhooks);

/* ---- the log's thread ---- */

/* NULL is allowed. */
void webhooks_offer(struct webhooks *webhooks, const struct event *event, struct str revision);
/* What was offered goes on its way. NULL is allowed. */
void webhooks_release(struct webhooks *webhooks);

/* Events that never came to the outbox, as too many were on the way. Any thread. NULL is allowed.
 */
uint64_t webhooks_lost(const struct webhooks *webhooks);

/* ---- other threads: answered by the loop, blocking until then ---- */

struct webhook_status *webhooks_list(struct webhooks *webhooks, struct arena *arena,
                                     size_t *out_count);
enum result webhooks_deliveries(struct webhooks *webhooks, struct str name, int state,
                                int64_t before, size_t most, struct arena *arena, bool *out_known,
                                struct webhook_deliveries *out, struct error *err);
enum result webhooks_delivery(struct webhooks *webhooks, struct str id, struct arena *arena,
                              struct webhook_delivery *out, bool *out_found, struct error *err);
enum result webhooks_retry(struct webhooks *webhooks, struct str id, bool *out_found,
                           struct error *err);
enum result webhooks_pause(struct webhooks *webhooks, struct str name, bool pause, struct str by,
                           bool *out_known, struct error *err);
/* As long as the webhook's time-out at most. FAILED: it could not be tried now. */
enum result webhooks_test(struct webhooks *webhooks, struct str name, struct arena *arena,
                          bool *out_known, struct webhook_delivery *out, struct error *err);
