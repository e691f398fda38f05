/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/arc.h - the Authenticated Received Chain (RFC 8617): who handled a message before us, and
 * what they saw of its authentication.
 */
#pragma once

#include "content/dkim.h"

enum { ARC_SETS_MAX = 20 /* longer chains fail */, ARC_INSTANCE_MAX = 50 };

enum arc_result { ARC_NONE, ARC_PASS, ARC_FAIL };
const char *arc_result_name(enum arc_result result);

struct arc_set {
    struct str domain;   /* d= of the seal */
    struct str selector; /* s= likewise */
    struct str results;  /* ARC-Authentication-Results behind "i=N;", folded as it came */
};
struct arc_answer {
    enum arc_result result;
    unsigned count;    /* highest instance; 0: there is no chain */
    bool ended;        /* the newest seal says cv=fail: nobody seals it again */
    bool known;        /* `sets` are filled: the chain is whole, whether it passes or not */
    bool signs_from;   /* the newest message signature, if it passes, is of From, too */
    struct str detail; /* why it fails, a few words of ASCII */
    struct arc_set sets[ARC_SETS_MAX]; /* [0] is the oldest */
};
/* Validate the chain: the newest message signature and all seals. As dkim_verify. */
enum result arc_verify(struct dkim_message *message, const struct dkim_dns *dns,
                       struct arena *arena, struct arc_answer *out, struct error *err) MAY_YIELD;

struct arc_sealer {
    struct str domain; /* A-labels */
    struct str selector;
    const struct sign_key *key;
    struct str authserv_id;  /* whose Authentication-Results are taken into the chain */
    const struct str *names; /* fields to sign; NULL: ours */
    size_t name_count;
};
/*
 * The next set: ARC-Seal, ARC-Message-Signature and ARC-Authentication-Results with their CRLFs, in
 * `arena`. `chain` is what arc_verify said when the message came. Empty if there is nothing to
 * seal: no results of ours are in the header, or the chain has ended. Errors as with dkim_sign.
 */
enum result arc_seal(struct dkim_message *message, const struct arc_sealer *sealer,
                     const struct arc_answer *chain, struct arena *arena, struct str *out_fields,
                     struct error *err) MAY_YIELD;
