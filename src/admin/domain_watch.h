/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/domain_watch.h - looks now and then at what DNS says of the listed domains.
 *
 * A thread of its own with a loop and, for each look, a resolver of its own, so that nothing that
 * was wrong is remembered: mail waits for none of it. A domain is looked at about each
 * `domain_checks.every`, and at most one at a time with a pause before the next, however many there
 * are. What turns wrong or right is an event; no answer changes nothing.
 */
#pragma once

#include "gateway/domain_check.h"

struct domain_watch;
struct gateway;

enum { DOMAIN_WATCHED = DOMAIN_DMARC + 1 }; /* parts that are looked at: the first ones */

enum result domain_watch_start(struct gateway *gateway, struct domain_watch **out_watch,
                               struct error *err);
/* Before the gateway goes. NULL is allowed. */
void domain_watch_stop(struct domain_watch *watch);

enum domain_health { DOMAIN_UNKNOWN, DOMAIN_HEALTHY, DOMAIN_UNHEALTHY };
extern const char *const domain_health_names[]; /* "unknown", "healthy", "unhealthy" */

struct domain_watched {
    struct str domain;
    int64_t looked_wall_ns; /* 0: not yet */
    struct {
        enum domain_health health;
        struct str text, record; /* of what is wrong */
    } parts[DOMAIN_WATCHED];
};
struct domain_watch_numbers { /* domains of which a part is wrong, by part; and of which any is */
    uint64_t unhealthy[DOMAIN_WATCHED];
    uint64_t any;
};
void domain_watch_numbers(struct domain_watch *watch, struct domain_watch_numbers *out);
/* By name, in `arena`; any thread. */
void domain_watch_list(struct domain_watch *watch, struct arena *arena, struct domain_watched **out,
                       size_t *out_count);
