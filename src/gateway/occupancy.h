/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/occupancy.h - how many sessions are open, per listener and per client network.
 *
 * One count for all workers, behind a mutex that is held for a few instructions at connect and
 * disconnect (decisions/0003).
 */
#pragma once

#include "base/str.h"
#include "net/address.h"

struct occupancy;

enum occupancy_answer { OCCUPANCY_OK, OCCUPANCY_LISTENER_FULL, OCCUPANCY_CLIENT_FULL };

struct occupancy *occupancy_new(void);
void occupancy_free(struct occupancy *occupancy);

/* Count a session in; a ceiling of 0 is none. Not counted unless OK. `listener` is its name. */
enum occupancy_answer occupancy_enter(struct occupancy *occupancy, struct str listener,
                                      const struct net_ip *client, int64_t max_sessions,
                                      int64_t max_per_client);
void occupancy_leave(struct occupancy *occupancy, struct str listener, const struct net_ip *client);
uint64_t occupancy_sessions(struct occupancy *occupancy, struct str listener);
