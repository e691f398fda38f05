/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/loan.h - what a worker lends to the run of a flow: DNS, the directory, counters, web
 * services, and what the settings say of ways and limits.
 */
#pragma once

#include "content/resolver.h"
#include "flow/flow.h"

struct settings;
struct worker;

struct loan {
    struct flow_run run; /* points into the loan, which must stay where it is */
    struct resolver resolver;
    struct flow_ways ways;
};

/* For a flow of these settings; `facts` may be NULL where there are none. What only some runs have
 * (the content, the step to go on behind) is the caller's to put in. */
void loan_init(struct loan *loan, const struct worker *worker, const struct settings *settings,
               struct arena *arena, const struct flow_facts *facts);
