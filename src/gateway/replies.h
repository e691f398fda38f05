/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/replies.h - what clients were replied, by listener, command and class.
 *
 * One table for all workers, behind a mutex that is held once a session, at its end: a reply costs
 * its session an addition, and nobody an event.
 */
#pragma once

#include "base/arena.h"
#include "gateway/operations.h"
#include "smtp/server.h"

struct replies;

struct replies *replies_new(void);
void replies_free(struct replies *replies);
/* Any thread; a listener is known by its name, also when a reload changed it. */
void replies_add(struct replies *replies, struct str listener, const struct smtp_replies *counts);
/* The listeners that had sessions; in `arena`. Any thread. */
struct gateway_replies *replies_list(struct replies *replies, struct arena *arena,
                                     size_t *out_count);
