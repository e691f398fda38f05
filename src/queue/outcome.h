/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/outcome.h - what a reply, or none, means for a recipient. A pure function.
 */
#pragma once

#include "mail/reply.h"

enum queue_stage {
    QUEUE_STAGE_CONNECT,
    QUEUE_STAGE_GREETING,
    QUEUE_STAGE_HELLO,
    QUEUE_STAGE_TLS,
    QUEUE_STAGE_AUTH,
    QUEUE_STAGE_MAIL,
    QUEUE_STAGE_RCPT,
    QUEUE_STAGE_DATA,
    QUEUE_STAGE_END,
};

enum queue_outcome {
    QUEUE_OUTCOME_DELIVERED,
    QUEUE_OUTCOME_NEXT_HOST, /* ask the next host of this attempt; none left: retry later */
    QUEUE_OUTCOME_RETRY,     /* this recipient later */
    QUEUE_OUTCOME_FAILED,    /* final */
};

/*
 * 5xx is final only as answer to RCPT, DATA/BDAT or end of data, or to MAIL when the enhanced code
 * speaks of an address (x.1.x), the size (x.3.4) or the content (x.6.x): a server that refuses us
 * as such must not bounce a company's mail. 552 to RCPT without 5.2.2 or 5.3.4 counts as 452
 * (RFC 5321 4.5.3.1.10). Code 0: no reply came.
 */
enum queue_outcome queue_outcome_of(enum queue_stage stage, const struct mail_reply *reply);
/* RCPT said that it takes no more recipients in this transaction; the others may go at once. */
bool queue_outcome_too_many(enum queue_stage stage, const struct mail_reply *reply);
