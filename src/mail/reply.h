/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mail/reply.h - an SMTP reply: code, enhanced code (RFC 3463) and text.
 */
#pragma once

#include "base/arena.h"

struct mail_enhanced {
    unsigned char class; /* 2, 4, 5; 0: none was given */
    unsigned short subject;
    unsigned short detail;
};

struct mail_reply {
    unsigned short code; /* 200 … 599; 0: no reply */
    struct mail_enhanced enhanced;
    struct str text; /* without codes; lines separated by \n, no other control characters */
};

/* mail_reply_of(550, 5,1,1, STR("No such user")) ; the text is borrowed. */
struct mail_reply mail_reply_of(unsigned code, unsigned class, unsigned subject, unsigned detail,
                                struct str text);
/* Read "550 5.7.1 Relay access denied" (from configuration); false if it is not a 4xx/5xx or 2xx
 * reply or the enhanced class does not fit the code. Text is borrowed. */
bool mail_reply_parse(struct str text, struct mail_reply *out_reply);
/* "550 5.1.1 No such user": one line, for logs and DSN; in `arena`. */
struct str mail_reply_text(struct arena *arena, const struct mail_reply *reply);
/* "5.1.1"; empty if there is no enhanced code. `out` must outlive the str. */
enum { MAIL_ENHANCED_TEXT = 16 };
struct str mail_enhanced_text(struct mail_enhanced enhanced, char out[MAIL_ENHANCED_TEXT]);
bool mail_reply_is_positive(const struct mail_reply *reply);  /* 2xx */
bool mail_reply_is_transient(const struct mail_reply *reply); /* 4xx */
bool mail_reply_is_permanent(const struct mail_reply *reply); /* 5xx */
/* A copy whose text lives in `arena`. */
struct mail_reply mail_reply_copy(struct arena *arena, const struct mail_reply *reply);

/* Why something was refused: closed, safe as a metric label. */
enum mail_reason {
#define MAIL_REASON(id, name) MAIL_REASON_##id,
#include "mail/reasons.h"
#undef MAIL_REASON
    MAIL_REASON_COUNT
};
const char *mail_reason_name(enum mail_reason reason);
