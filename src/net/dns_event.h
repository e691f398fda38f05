/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/dns_event.h - libunbound's pluggable event base on our loop.
 */
#pragma once

#include "base/list.h"

#include <unbound-event.h>
#include <unbound.h>

struct dns_event_base {
    struct ub_event_base ub; /* first: libunbound hands it back */
    struct list events;
};

void dns_event_base_init(struct dns_event_base *base);
/* Takes what libunbound left in the loop out of it; after ub_ctx_delete(). */
void dns_event_base_done(struct dns_event_base *base);
