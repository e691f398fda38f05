/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook/verdict.h - what a receiver's answer means. Pure; it is given by anybody.
 */
#pragma once

#include "base/str.h"

enum webhook_outcome {
    WEBHOOK_DELIVERED, /* any 2xx */
    WEBHOOK_FAILED,    /* try again; a redirect, too, which is not followed */
    WEBHOOK_GONE,      /* 410: it wants no more of them */
};

struct webhook_verdict {
    enum webhook_outcome outcome;
    bool is_busy;           /* it is the receiver, not this delivery: leave it alone for a while */
    int64_t retry_after_ms; /* as long as it asks for, at most a day; 0: it does not say */
};

/* `status` 0: no answer. `retry_after`: the field's value, seconds or a date (RFC 9110 10.2.3);
 * what is neither is ignored. */
struct webhook_verdict webhook_judge(unsigned status, struct str retry_after, int64_t now_wall_ms);
