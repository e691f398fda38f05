/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/sendmail.h - the command under its old names: sendmail, mailq, newaliases.
 *
 * Exit codes are those of sysexits.h, for that is what callers know: 75 means try again later.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "ctl/ctl.h"

/* Run as what argv[0] calls us; false: it is none of the old names. */
bool sendmail_by_name(struct ctl *ctl, const char *name, int *out_code);

/* ---- the message (ctl/sendmail_message.c) ---- */

enum { SENDMAIL_RECIPIENTS_MAX = 1000 };

struct sendmail_recipients {
    const char *items[SENDMAIL_RECIPIENTS_MAX];
    size_t count;
    bool too_many;
};

/* The addresses in a list as it stands on a command line or in a header field (RFC 5322 3.4, read
 * generously: names, comments and groups are passed over); each that has no domain gets `domain`.
 * In `arena`. */
void sendmail_add_addresses(struct arena *arena, struct str list, const char *domain,
                            struct sendmail_recipients *out);
/* Line ends become CRLF. With `fields`, the recipients of To, Cc and Bcc are added to `out`. Bcc is
 * taken out; Date, Message-ID and From are put in where they are missing. False: it did not fit. */
bool sendmail_complete(struct arena *arena, struct str typed, bool fields, const char *sender,
                       const char *full_name, const char *domain, struct sendmail_recipients *out,
                       struct buf *message);
