/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/outcome.c - the table of design section "What a reply means".
 */
#include "queue/outcome.h"

static bool is_enhanced(const struct mail_reply *reply, unsigned subject, unsigned detail)
{
    return reply->enhanced.class != 0 && reply->enhanced.subject == subject &&
           reply->enhanced.detail == detail;
}

/* The enhanced code of a 5xx to MAIL that is about this message and no other. */
static bool is_about_message(const struct mail_reply *reply)
{
    return reply->enhanced.class == 5 && (reply->enhanced.subject == 1 ||
                                          reply->enhanced.subject == 6 || is_enhanced(reply, 3, 4));
}

static bool is_552_for_452(enum queue_stage stage, const struct mail_reply *reply)
{
    return stage == QUEUE_STAGE_RCPT && reply->code == 552 && !is_enhanced(reply, 2, 2) &&
           !is_enhanced(reply, 3, 4);
}

enum queue_outcome queue_outcome_of(enum queue_stage stage, const struct mail_reply *reply)
{
    if (stage < QUEUE_STAGE_MAIL)
        return QUEUE_OUTCOME_NEXT_HOST;
    if (stage == QUEUE_STAGE_MAIL)
        return mail_reply_is_permanent(reply) && is_about_message(reply) ? QUEUE_OUTCOME_FAILED
                                                                         : QUEUE_OUTCOME_NEXT_HOST;
    if (mail_reply_is_positive(reply) && stage == QUEUE_STAGE_END)
        return QUEUE_OUTCOME_DELIVERED;
    if (mail_reply_is_permanent(reply) && !is_552_for_452(stage, reply))
        return QUEUE_OUTCOME_FAILED;
    return QUEUE_OUTCOME_RETRY;
}

bool queue_outcome_too_many(enum queue_stage stage, const struct mail_reply *reply)
{
    return stage == QUEUE_STAGE_RCPT && (reply->code == 452 || is_552_for_452(stage, reply)) &&
           !is_enhanced(reply, 2, 2) && !is_enhanced(reply, 3, 1);
}
