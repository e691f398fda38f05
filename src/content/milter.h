/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/milter.h - one message shown to a milter as if it came in just now, from the connection
 * to its end, and what the milter says of it and wants changed.
 *
 * A connection a message. The body is streamed in pieces of 64 KiB; what replaces it is written
 * into a new body as it comes. Nothing is changed here: that is the caller's.
 */
#pragma once

#include "content/milter_packet.h"
#include "content/scanner.h"
#include "mail/envelope.h"
#include "mail/header.h"

enum {
    MILTER_CHANGES_MAX = 1000,
    MILTER_CHANGES_BYTES = 4 * 1024 * 1024,
};

struct milter_macro {
    const char *name; /* "j", "{auth_type}" */
    struct str value; /* empty: not sent */
    unsigned stages; /* set of 1 << enum milter_stage: where it goes unless the milter names others;
                        in others it is sent when it is asked for there */
};

struct milter_question {
    struct net_ip client;
    struct str client_name; /* empty: none is known */
    struct str helo;
    struct str sender;            /* "" for <> */
    struct str sender_parameters; /* "SIZE=1 BODY=8BITMIME", separated by one blank each */
    const struct mail_recipient *recipients;
    size_t recipient_count;
    const struct milter_macro *macros; /* those of recipients are added here */
    size_t macro_count;
    const struct mail_field *fields; /* that it is shown */
    size_t field_count;
    const struct mail_content *content;
    uint64_t body_begin; /* in the content */
    unsigned actions;    /* offered: MILTER_MAY_… */
    uint64_t body_max;   /* a body that replaces the old one */
};

enum milter_verdict {
    MILTER_VERDICT_ACCEPT,
    MILTER_VERDICT_REJECT,
    MILTER_VERDICT_DEFER,
    MILTER_VERDICT_DISCARD
};
struct milter_opinion { /* texts in the arena */
    enum milter_verdict verdict;
    struct str reply;              /* "550 5.7.1 words", or empty: in our own */
    struct str recipient;          /* who was refused, where it was not the whole message */
    bool leading_space;            /* values of fields come with the blank behind the colon */
    struct milter_answer *changes; /* in order; MILTER_QUARANTINE is among them */
    size_t change_count;
    struct body *body; /* in place of the old one; NULL: none. The caller's. */
    bool body_has_8bit;
};

/* The server's time-out is for each answer; a milter that says "progress" gets it anew, within the
 * caller's deadline. FAILED: no answer, or one that is none; nothing is left to release. */
enum result milter_ask(const struct scanner *scanner, const struct milter_question *question,
                       struct arena *arena, struct milter_opinion *out,
                       struct error *err) MAY_YIELD;

/* Greets and parts, for a check whether it is there: the version it speaks. A scanner_talk; `arg`
 * is an unsigned *. */
enum result milter_greet(struct stream *stream, const struct server_endpoint *endpoint, void *arg,
                         struct error *err) MAY_YIELD;
