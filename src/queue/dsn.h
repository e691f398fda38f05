/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/dsn.h - the text of a delivery status notification (RFC 3461, 3464, 6522, 6533). Pure.
 */
#pragma once

#include "base/buf.h"
#include "mail/envelope.h"
#include "mail/reply.h"

enum queue_dsn_action {
    QUEUE_DSN_FAILED,
    QUEUE_DSN_DELAYED,
    QUEUE_DSN_DELIVERED, /* into a mailbox */
    QUEUE_DSN_RELAYED    /* to a host that will not report */
};

struct queue_dsn_recipient {
    const struct mail_recipient *recipient;
    enum queue_dsn_action action;
    bool expired;            /* failed because time ran out, not by the last reply */
    struct mail_reply reply; /* the remote's words, or code 0 and our own */
    struct str mta;          /* who said it; empty: we */
    int64_t last_try_wall_ns;
};

struct queue_dsn {
    struct str hostname;
    struct str postmaster;
    const struct mail_sender *sender; /* whom it goes to */
    struct str message_id;            /* the queue's id of the message */
    int64_t arrival_wall_ns;
    int64_t now_wall_ns;
    int64_t give_up_wall_ns; /* of delayed ones; 0: not known */
    const struct queue_dsn_recipient *recipients;
    size_t recipient_count;
    struct str original; /* header section, or with RET=FULL the whole message */
    bool original_is_full;
    bool header_utf8;  /* `original` holds UTF-8 header fields */
    struct mail_id id; /* of the notification: Message-ID and boundary */
};

enum { QUEUE_DSN_FULL_MAX = 64 * 1024, QUEUE_DSN_MAX = 8 << 20 };

/* Header section (ends with the empty line) and body, CRLF line ends. The text is 7-bit unless an
 * address, a reply or the header quoted needs UTF-8. `*out_8bit` says so. */
void queue_dsn_build(const struct queue_dsn *dsn, struct buf *out_head, struct buf *out_body,
                     bool *out_8bit);
