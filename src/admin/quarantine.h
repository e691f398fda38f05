/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/quarantine.h - keeps the quarantines within their limits, and sends digests.
 *
 * A thread of its own looks each second. What was in a digest is noted with each message, when the
 * last one was sent in the file quarantine.digests beside the spool: a crash may repeat a digest,
 * never leave one out.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"

struct gateway;
struct quarantine_keeper;

/* `folder` is the spool's. */
enum result quarantine_keeper_start(struct str folder, struct gateway *gateway,
                                    struct quarantine_keeper **out_keeper, struct error *err);
/* Before the gateway goes. NULL is allowed. */
void quarantine_keeper_stop(struct quarantine_keeper *keeper);

/* Send the digests of a quarantine now, whatever the time; blocks. `*out_found`: there is one of
 * that name that has digests. Any thread. */
enum result quarantine_keeper_digest(struct quarantine_keeper *keeper, struct str name,
                                     bool *out_found, size_t *out_sent, struct error *err);
