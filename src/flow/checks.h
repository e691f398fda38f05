/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/checks.h - what was found out about the sender of a transaction, shared by all of its runs.
 */
#pragma once

#include "content/arc.h"
#include "content/spf.h"

struct flow_checks {
    bool spf_known;
    struct spf_outcome spf;
    bool helo_known; /* the HELO name's own SPF, where a block asks for it */
    struct spf_outcome helo;
    /* of the content run at work; "" as long as nobody has checked */
    struct str dkim;              /* result of the best signature */
    struct str dkim_domain;       /* of the first that passed */
    struct str dmarc;             /* result */
    struct str dmarc_policy;      /* what the author's domain asks for this message, if it fails */
    const struct arc_answer *arc; /* NULL: nobody has checked */
    double score;                 /* of the spam scanner that was asked last */
    unsigned spf_asked;           /* DNS questions, of the transaction */
    unsigned key_asked;           /* for keys, of the content run */
    /* The envelope sender is genuine: SPF passed for it, or a signature of its domain did. */
    bool sender_verified;
};
