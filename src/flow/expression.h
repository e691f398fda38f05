/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/expression.h - the conditions of flows: `when: authenticated or client in trusted`.
 *
 * Parsed and typed when the file is loaded; names come from a closed table. `or` binds weaker than
 * `and`, that weaker than `not`. Texts compare without ASCII case; patterns (`~`) are PCRE2 and
 * respect case unless they say (?i). An address is also `in` a list that holds its domain.
 */
#pragma once

#include "flow/flow.h"

struct expression;

enum { EXPRESSION_TEXT_MAX = 4096, EXPRESSION_ASSUMED_MAX = 64 };

/*
 * The scalar `node` as a condition of a flow of that type, in the context's arena; NULL when
 * problems were reported. Places of problems point into the scalar.
 */
const struct expression *expression_parse(const struct config_node *node, enum flow_type type,
                                          const struct flow_compile_context *context);

/* FAILED: a pattern was too costly; the caller takes that as an internal error of the flow. */
enum result expression_eval(const struct expression *expression, const struct flow_facts *facts,
                            struct arena *scratch, bool *out_value, struct error *err);

enum expression_domain {
    EXPRESSION_DOMAIN_OPEN,
    EXPRESSION_DOMAIN_ONE_OF,
    EXPRESSION_DOMAIN_NONE_OF
};

/* A condition that holds, or does not, where a proof has come to. */
struct expression_assumption {
    const struct expression *expression;
    bool truth;
    unsigned epoch; /* the step; names that change between steps are compared within one only */
    /* Or by name: since which step it has its value, 0: from the beginning (a proof that goes along
     * one path knows). NULL: `unstable` says it. */
    const unsigned *since;
};
enum expression_tls { EXPRESSION_TLS_OPEN, EXPRESSION_TLS_NEVER, EXPRESSION_TLS_ALWAYS };

/* What a proof knows about the client. */
struct expression_knowledge {
    bool stranger;         /* not authenticated, not in trusted_networks; but: */
    bool may_log_in;       /* a login can succeed without right */
    bool may_claim_client; /* he can make us believe any address, also a trusted one */
    struct str listener;   /* empty: not known */
    enum expression_tls tls;
    /* A stranger's address is in none of these. */
    const struct net_network *trusted;
    size_t trusted_count;
    /* What recipient.domain is (not). */
    enum expression_domain domain_is;
    bool domain_of_all; /* also of each recipient that a message has in this flow */
    const struct str *domains;
    size_t domain_count;
    unsigned unstable; /* a set of 1 << name: those that change between steps */
    /* A set of 1 << name: where one has its value since `unset_since`, that is "" or 0: nothing has
     * given it another. */
    unsigned unset, unset_since;
    unsigned epoch;        /* of the conditions asked about; 0: no step */
    const unsigned *since; /* of the same; see struct expression_assumption */
    const struct expression_assumption *assumed;
    size_t assumed_count;
    /* Or one case instead of all clients: the facts of which `given` (a set of 1 << name, see
     * expression_internal.h) holds; the rest stays undecided. */
    const struct flow_facts *facts;
    unsigned given;
    const struct str *fields; /* header fields that are given, missing ones too */
    size_t field_count;
    const struct mail_recipient *recipient; /* inside any() and all() */
    struct arena *scratch;                  /* for values of header fields */
};
enum expression_truth { EXPRESSION_FALSE, EXPRESSION_TRUE, EXPRESSION_UNDECIDED };
/* Three-valued: what does not follow from `known` is undecided. */
enum expression_truth expression_judge(const struct expression *expression,
                                       const struct expression_knowledge *known);
/* In one case: the first name in it that is not given, as it is written; empty: all are. */
struct str expression_missing(const struct expression *expression,
                              const struct expression_knowledge *known, struct arena *arena);
/* Can all of these hold together, for a client of whom that is known? False is certain, true is
 * not: beyond a budget, and of what cannot be told, it is possible (flow/expression_proof.c). */
bool expression_possible(const struct expression_assumption *items, size_t count,
                         const struct expression_knowledge *known);

/* The value of a name (NAME_…, see expression_internal.h) that is a text; in `scratch`. */
struct str expression_fact(int name, const struct flow_facts *facts, struct arena *scratch);
/* Is the text, or the domain of the address, in the list? */
struct flow_list;
bool expression_list_has(const struct flow_list *list, struct str text);

struct buf;
/* The table of names, for the manual. */
void expression_describe(struct buf *out);
