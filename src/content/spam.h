/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/spam.h - how likely is a message spam? rspamd over HTTP, and SpamAssassin's spamd.
 */
#pragma once

#include "content/scanner.h"

enum spam_action { /* rspamd's own advice */
                   SPAM_NO_ACTION,
                   SPAM_TAG,
                   SPAM_DEFER,
                   SPAM_REJECT,
};

struct spam_question {     /* what the scanner is told beside the message */
    struct str message_id; /* ours */
    struct str client;     /* address */
    struct str client_name, helo, user, sender, hostname;
    const struct str *recipients;
    size_t recipient_count;
    struct str password; /* rspamd's, or empty */
};

struct spam_answer {
    double score;
    double required; /* what the scanner itself calls spam */
    enum spam_action action;
    struct str symbols; /* "NAME(1.5) OTHER(0.2)", the weightiest first; in the arena */
};

/* By the kind of the server. FAILED: no answer. */
enum result spam_check(const struct scanner *scanner, const struct spam_question *question,
                       const struct mail_content *content, struct arena *arena,
                       struct spam_answer *out, struct error *err) MAY_YIELD;

/* ---- the answers as they come; pure, for tests ---- */

/* HTTP status line, fields, and a JSON object as the body. */
enum result rspamd_read_answer(struct str text, struct arena *arena, struct spam_answer *out,
                               struct error *err);
/* SPAMD/1.x, fields, and the symbols as the body. */
enum result spamd_read_answer(struct str text, struct arena *arena, struct spam_answer *out,
                              struct error *err);
