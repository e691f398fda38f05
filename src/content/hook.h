/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/hook.h - a web service that decides: facts as JSON, and the message if it wants it, in a
 * POST; a verdict as JSON in the answer.
 */
#pragma once

#include "net/http.h"
#include "content/scanner.h"

enum {
    HOOK_ANSWER_MAX = 256 * 1024,
    HOOK_FIELDS_MAX = 100, /* to add, and to remove */
    HOOK_FINDINGS_MAX = 50,
};

enum hook_outcome {
    HOOK_ACCEPT,
    HOOK_REJECT,
    HOOK_DEFER,
    HOOK_HOLD,
    HOOK_QUARANTINE,
    HOOK_DISCARD,
    HOOK_OUTCOMES
};

struct hook_question {
    struct str facts;    /* a JSON object */
    struct str password; /* sent as a bearer token, or empty */
    /* Sent behind the facts, in a form with two parts (RFC 7578), "facts" and "message"; NULL: the
     * facts are all. */
    const struct mail_content *content;
    uint64_t content_size; /* as much of it is sent */
};

struct hook_pair { /* a field, or a finding and its text */
    struct str name, value;
};
struct hook_answer { /* texts in the arena, UTF-8, without control characters */
    enum hook_outcome outcome;
    struct str reply;  /* "550 5.7.1 words": of a refusal; or empty */
    struct str reason; /* for the trace; or empty */
    bool scored;
    double score;
    struct hook_pair *add;
    size_t add_count;
    struct str *remove; /* names of fields */
    size_t remove_count;
    struct hook_pair *findings;
    size_t finding_count;
};

/* FAILED: no answer, or one that is none. */
enum result hook_ask(const struct scanner *scanner, const struct hook_question *question,
                     struct arena *arena, struct hook_answer *out, struct error *err) MAY_YIELD;

/* The answer as it came, head and body; pure, for tests. */
enum result hook_read_answer(struct str text, struct arena *arena, struct hook_answer *out,
                             struct error *err);
