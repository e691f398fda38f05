/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/prove_internal.h - what the parts of the proof of relay safety share.
 *
 * prove.c walks each step once, with what holds on every way to it: quick, and never too hopeful.
 * What that finds open is gone through again way by way (prove_search.c), which is precise but may
 * not come to an end; and for a way that can be gone a session is made up that goes it
 * (prove_witness.c, prove_values.c).
 */
#pragma once

#include "flow/expression_internal.h"
#include "flow/flow_internal.h"

/* What a path must do to be one: accept, after one step that lets mail go elsewhere. */
enum aim { AIM_ACCEPT, AIM_ROUTED, AIM_REWRITTEN, AIM_PASSED_BY };

struct prove_goal {
    const struct flow_relay_case *relay;
    enum aim aim;
    struct str target; /* AIM_PASSED_BY: the listed domain */
    bool unprotected;  /* a backend's yes counts as a yes */
};

/* Is it a step that lets mail go elsewhere, as the aim says? */
bool prove_is_changer(const struct prove_goal *goal, const struct flow_step *step);
/* A backend's yes protects a listed domain as long as it stays that one. */
bool prove_protects(const struct prove_goal *goal, const struct flow_step *step, unsigned outcome);
/* What is known of a stranger at the beginning of the flow. */
struct expression_knowledge prove_knowledge(const struct flow_relay_case *relay,
                                            const struct flow *flow);

/* ---- way by way (prove_search.c) ---- */

enum prove_end {
    PROVE_NO_WAY,       /* it is certain that there is none */
    PROVE_REFUSED_LATE, /* the recipient is taken, but it is certain that the message is not */
    PROVE_OPEN,
};
struct prove_session { /* a session that goes such a way */
    bool is_known;     /* the rest has values */
    bool has_relayed;  /* in a rehearsal */
    struct flow_witness witness;
};
struct prove_budget { /* of one check */
    unsigned steps;   /* to be come to */
    unsigned tries;   /* rehearsals */
};
/* In `flow`, the recipient flow of the goal's case or its content flow. */
enum prove_end prove_search(const struct prove_goal *goal, const struct flow *flow,
                            struct prove_budget *budget, struct arena *arena,
                            struct prove_session *out);

/* ---- a session for a way (prove_witness.c) ---- */

struct prove_way {
    const struct prove_goal *goal;
    const struct expression_assumption *assumed;
    size_t assumed_count;
    /* Names have the values of the session since the beginning, and those of the message (`begun`
     * of the content flow) since then: what came later depends on what steps made of it. */
    unsigned content_begun;
    bool rewritten;                         /* the recipient may be another in the content flow */
    const struct flow_stated_outcome *hops; /* its steps, with what they say */
    size_t hop_count;
};
/* Find values for all names, so that the conditions hold; with goal->relay->shows: which show it.
 * False: no such is found. */
bool prove_find_session(const struct prove_way *way, struct prove_budget *budget,
                        struct arena *arena, struct prove_session *out);
/* "client 192.0.2.7, HELO x, …": one line. */
struct str prove_session_text(const struct prove_goal *goal, const struct prove_session *session,
                              struct arena *arena);

/* ---- values to try (prove_values.c) ---- */

enum { PROVE_VALUES_MAX = 48, PROVE_RECIPIENTS_MAX = 100 };

struct prove_texts {
    struct str items[PROVE_VALUES_MAX];
    size_t count;
};
struct prove_values { /* that the conditions write down, or that fit their patterns perhaps */
    struct prove_texts locals, domains, words, addresses, fields;
    struct net_ip clients[PROVE_VALUES_MAX];
    size_t client_count;
    uint64_t sizes[PROVE_VALUES_MAX];
    size_t size_count;
    size_t recipients; /* more than a condition says; 0: none does */
    unsigned names;    /* set of 1 << enum expression_name: those that conditions look at */
};
void prove_values_add(struct prove_values *values, const struct expression *expression,
                      struct arena *arena);
void prove_values_add_text(struct prove_texts *texts, struct str text);
/* The first address of the network, and the first behind it. */
void prove_values_add_network(struct prove_values *values, const struct net_network *network);
/* A text that may match the pattern; it need not. */
struct str prove_pattern_guess(struct str pattern, struct arena *arena);
