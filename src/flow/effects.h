/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/effects.h - what a run changes beyond its verdict: envelope, route, score, further mail.
 *
 * A run works on a copy of its own: another group of recipients of the same message sees none of
 * this. Nothing has happened yet when the run returns; whoever called it makes the effects come
 * true together with the verdict, in one durable unit, or not at all (a deferral leaves nothing
 * behind). Everything lives in the run's arena, bodies included.
 */
#pragma once

#include "mail/body.h"
#include "mail/envelope.h"

enum {
    FLOW_EXTRAS_MAX = 100,   /* copies and notices of one run */
    FLOW_FINDINGS_MAX = 200, /* of one run; more are counted only */
    FLOW_NEW_RECIPIENT = -1,
};

/* What a step found out about the message: a virus's name, a rule that hit, a tag. */
struct flow_finding {
    struct str step; /* id */
    struct str name; /* "Eicar-Test-Signature", "BAYES_99" */
    struct str text; /* in words; may be empty */
};

enum flow_extra_kind {
    FLOW_COPY,  /* of this message, as it was at that step */
    FLOW_NOTICE /* a message of our own about it */
};
/* A message to be sent besides. Its failure is told to nobody but postmaster. */
struct flow_extra {
    enum flow_extra_kind kind;
    struct mail_recipient to;
    struct str sender;      /* empty: <> */
    struct mail_id message; /* of a notice: its own */
    struct mail_content content;
    bool has_8bit;
    bool seven_bit; /* of a copy: as in flow_effects */
    struct str step;
};

struct flow_effects {
    /* envelope */
    bool sender_changed;
    struct str sender; /* "" for <> */
    /* With RET and ENVID in place of those that came; NULL: they stay. */
    const struct mail_sender *sender_parameters;
    /* In force behind the run when they changed (NULL: as they came). `came_as` has for each its
     * index among those that came, or FLOW_NEW_RECIPIENT: its way must be looked up anew. */
    const struct mail_recipient *recipients;
    const long *came_as;
    size_t recipient_count;
    /* name of the transport that a step chose for all recipients; empty: those of their domains */
    struct str transport;
    bool has_8bit;  /* a step put 8-bit text into the body */
    bool seven_bit; /* a step made 7-bit text of all of it, before that */
    /* judgements */
    struct flow_finding *findings;
    size_t finding_count;
    size_t findings_dropped;
    bool scored;
    double score; /* of the scanner that was asked last */
    /* further mail */
    struct flow_extra *extras;
    size_t extra_count;
};
