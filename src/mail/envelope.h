/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mail/envelope.h - who sends a message to whom, with the parameters of ESMTP (RFC 5321, 3461).
 */
#pragma once

#include "base/arena.h"
#include "mail/address.h"
#include "mail/id.h"

enum mail_body_type { MAIL_BODY_7BIT, MAIL_BODY_8BITMIME, MAIL_BODY_BINARY };
enum mail_ret { MAIL_RET_NONE, MAIL_RET_HDRS, MAIL_RET_FULL };
enum { /* NOTIFY, a set; 0: not given */
       MAIL_NOTIFY_NEVER = 1,
       MAIL_NOTIFY_SUCCESS = 2,
       MAIL_NOTIFY_FAILURE = 4,
       MAIL_NOTIFY_DELAY = 8,
};

struct mail_sender {
    struct str address; /* "local@domain", empty for <> */
    enum mail_body_type body;
    bool smtputf8; /* SMTPUTF8 was given */
    enum mail_ret ret;
    struct str envid; /* decoded xtext, or empty */
    uint64_t size;    /* declared, or 0 */
};

struct mail_recipient {
    struct str address; /* as it will be sent */
    struct str domain;  /* the part behind @, lower case A-labels */
    struct str orcpt;   /* "rfc822;user@example.org" decoded, or empty */
    unsigned notify;
};
