/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/quarantine.h - the keys of the quarantines. Inside gateway/ only. */
#pragma once

#include "gateway/worker.h"

/* Read the keys beside the spool, and systemd's credential quarantine.keys; for the queue. FAILED:
 * a file cannot be used, and mail in quarantine could not be read. */
enum result quarantine_open(struct gateway *gateway, struct error *err);
/* The settings may name the first quarantine: there must be a key. Blocks for a small file. */
void quarantine_prepare(struct gateway *gateway, const struct settings *settings);
