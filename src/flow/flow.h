/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/flow.h - flows: compiled once, run per login, recipient or message.
 *
 * A flow is a list of steps; each step is a block with outcomes, and an outcome has an action. A
 * run returns a verdict and leaves a trace; it knows no session, spool or queue.
 */
#pragma once

#include "base/arena.h"
#include "config/option.h"
#include "fiber/fiber.h"
#include "flow/effects.h"
#include "flow/facts.h"
#include "mail/reply.h"
#include "net/server.h"

struct directory;
struct directory_answer;
struct flow;
struct flow_step;
struct flow_set;
struct lane;
struct signing_keys;
struct resolver;
struct state;
struct unpacker;

enum flow_type { FLOW_AUTHENTICATION, FLOW_RECIPIENT, FLOW_CONTENT };

/* ---- compiling ---- */

struct flow_list { /* a name under `lists` */
    struct str name;
    struct net_network *networks;
    size_t network_count;
    struct str *texts; /* addresses, domains: lower case */
    size_t text_count;
};

struct flow_compile_context {
    struct option_context option;
    const struct server *servers;
    size_t server_count;
    const struct flow_list *lists;
    size_t list_count;
    const struct signing_keys *keys; /* NULL: none */
    const struct config_node *root;
    bool signs_seven_bit;       /* 8-bit text is converted before a signature of ours */
    struct option_paths *files; /* gets what a step reads when it is compiled; may be NULL */
};
/* Compile the section `flows` and presets; problems go to the report. */
enum result flow_compile_all(const struct config_node *section,
                             const struct flow_compile_context *context, struct flow_set **out_set);
/* Compile steps that stand in place of a name (domains.*.recipients: […]) or a preset map
 * ({ preset: local-users, server: mail }); `name` is shown in traces. */
enum result flow_compile_inline(struct flow_set *set, enum flow_type type, struct str name,
                                const struct config_node *node,
                                const struct flow_compile_context *context,
                                const struct flow **out_flow);
const struct flow *flow_find(const struct flow_set *set, enum flow_type type, struct str name);
/* Is there a step of that id, in a branch perhaps? */
bool flow_has_step(const struct flow *flow, struct str id);
/* Mark as used; unused flows are warned about by flow_report_unused. */
void flow_mark_used(const struct flow *flow);
void flow_report_unused(const struct flow_set *set, struct config_report *report);
struct str flow_name(const struct flow *flow);

/* ---- running ---- */

enum flow_verdict_kind {
    FLOW_ACCEPT,
    FLOW_REJECT,
    FLOW_DEFER,
    FLOW_DELIVER,
    FLOW_HOLD,
    FLOW_QUARANTINE,
    FLOW_DISCARD
};

/* The numbers of a limit that was reached. */
struct flow_overrun {
    struct str flow, step; /* ids; empty: no limit was reached */
    const char *what;      /* messages, recipients, unknown or bytes */
    const char *by;        /* user, client, … */
    struct str subject;    /* which of them */
    uint64_t count, max;   /* in the window, and allowed */
    int64_t period_ns;
};

struct flow_verdict {
    enum flow_verdict_kind kind;
    /* The account is to be contained. The verdict is FLOW_HOLD in content flows and FLOW_DEFER in
     * recipient flows; the reply is for the case that nobody can be contained. */
    bool contain;
    struct flow_overrun overrun; /* the limit that was reached last in this run */
    struct mail_reply reply;     /* reject and defer; in the run's arena */
    enum mail_reason reason;
    struct str step;   /* id of the step that decided; empty: the end of the flow */
    const char *block; /* its block; at the end of an authentication flow, whose word it was; NULL:
                          nobody's */
    struct str detail;
    struct str *own_addresses; /* authentication: of the backend that said yes */
    size_t own_address_count;
    struct str account; /* authentication: its one name, if others may be typed for it; or empty */
    struct str quarantine; /* FLOW_QUARANTINE: the name of the quarantine */
    /* FLOW_HOLD and FLOW_QUARANTINE: why, in the words of the file; may be empty */
    struct str why;
    struct flow_effects effects; /* recipient and content flows; in the run's arena */
    unsigned steps_run;
};

/* What one message may cost a content flow. Over it is an outcome (`limit` or `error` of the step,
 * else the flow defers), with an event. */
struct flow_limits {
    int64_t time_ns;  /* of the whole run */
    uint64_t memory;  /* bytes that steps may copy or build */
    uint64_t decoded; /* bytes that come out of decoding and unpacking */
    int64_t parts;    /* MIME parts and members of archives */
    int64_t depth;    /* of parts in parts, archives in archives */
};
extern const struct flow_limits flow_limits_default;

/* The ways that mail can go. */
struct flow_ways {
    /* Does any transport take mail for `domain` (A-labels, lower case)? */
    bool (*is_taken)(const void *context, struct str domain);
    /* Is it one of ours by name? Notices never go to strangers' lists by accident. */
    bool (*is_listed)(const void *context, struct str domain);
    struct str postmaster; /* may be empty */
    const void *context;
    /* Parameters of MAIL and RCPT, read into what they are of; false: they are none. NULL: there is
     * nobody to read them. */
    bool (*read_sender_parameters)(struct str text, struct arena *arena, struct mail_sender *out);
    bool (*read_recipient_parameters)(struct str text, struct arena *arena,
                                      struct mail_recipient *out);
};

struct flow_stated_outcome {
    const struct flow *flow;
    const struct flow_step *step;
    unsigned outcome;
};

struct flow_run { /* what a run is lent; valid during the call */
    struct arena *arena;
    struct directory *directory;
    struct state *state;
    const struct flow_facts *facts;
    struct mail_content *content; /* content flows: in, out */
    /* For checks of the sender; copied by each. NULL: DNS gives no answer. */
    const struct resolver *resolver;
    struct str hostname;              /* ours: authserv-id, receiver */
    const struct flow_limits *limits; /* content flows; NULL: flow_limits_default */
    const struct unpacker *unpacker;  /* content flows; NULL: none can be asked */
    const struct flow_ways *ways;     /* NULL: every domain is taken, none is listed */
    /* Content flows: a released message goes on behind the step with this id, and is delivered
     * where the flow ends without a word. A step that is gone: from the beginning. Empty: all of
     * it. */
    struct str after_step;
    /* Content flows: header fields to be told to the history beside those in conditions. */
    const struct str *record_fields;
    size_t record_field_count;
    bool hides_subject; /* no Subject is told */
    struct lane *http;  /* for scripts' questions to web services; NULL: none is answered */
    bool released;      /* it was held, and somebody let it go: limits do not count it again */
    /* Of a rehearsal: what these steps say, in place of what they would find out. */
    const struct flow_stated_outcome *stated;
    size_t stated_count;
};

/* The verdict of an authentication flow is ACCEPT, REJECT (535) or DEFER (454). */
void flow_run_authentication(const struct flow *flow, const struct flow_run *run, struct str login,
                             struct str password, struct flow_verdict *out) MAY_YIELD;
/* A recipient that the flow rewrote is effects.recipients[0]. */
void flow_run_recipient(const struct flow *flow, const struct flow_run *run,
                        struct flow_verdict *out) MAY_YIELD;
/* ACCEPT does not happen here. run->content is changed in place: its head is the run's, its body
 * may be another one that lives as long as the run's arena. */
void flow_run_content(const struct flow *flow, const struct flow_run *run,
                      struct flow_verdict *out) MAY_YIELD;

/* ---- in words, without asking anybody (flow/explain.c) ---- */

enum { FLOW_GIVEN_CLIENT = 1, FLOW_GIVEN_SENDER = 2, FLOW_GIVEN_TLS = 4, FLOW_GIVEN_HELO = 8 };

struct flow_explained { /* one outcome of a step */
    unsigned depth;     /* in branches */
    struct str step;    /* id; empty: the end of the flow */
    const char *block;
    const char *text;      /* of the outcome */
    const char *condition; /* of the step: "", "true", "false" (it is skipped), "open" */
    const char *outcome;   /* "" when skipped */
    const char *action;    /* next, accept, branch (its rows follow), … */
    struct str reply;      /* of a refusal; a backend may have words of its own */
    bool observed;         /* the action is not taken */
    bool rewrites;         /* the recipient may be another behind it, and go another way */
    /* Transports of which the step may choose one; with `routes` it does. */
    const struct str *ways;
    size_t way_count;
    bool routes;
};
struct flow_explanation {
    struct flow_explained *rows;
    size_t count;
    unsigned verdicts; /* set of 1 << enum flow_verdict_kind: what can come of it */
};
/* What the flow does with these facts. Authentication, trust, listener, recipient and user count as
 * given, the others as the set `given` says; conditions on the rest are open, and of a backend
 * every outcome can happen. */
void flow_explain(const struct flow *flow, const struct flow_facts *facts, unsigned given,
                  struct arena *arena, struct flow_explanation *out);
const char *flow_verdict_name(enum flow_verdict_kind kind);

/* ---- whom a flow asks, for a trial (flow/backend.c) ---- */

struct flow_backend { /* a step that asks about a login or a recipient */
    struct str flow;
    const char *block;
    struct config_place place;
    struct str source; /* the name of a server, or the path of a file */
    bool is_file;      /* it is a path */
    bool is_login;     /* about logins; else about recipients */
    bool found_is_no;  /* a recipient that exists is refused */
    const struct flow_step *step;
};
/* Those of the flow with its branches, in the order of the file; in `arena`. */
void flow_backends(const struct flow *flow, struct arena *arena, struct flow_backend **out,
                   size_t *out_count);
/* Ask past caches, conditions and limits; nothing comes of the answer. `who` is a login, or an
 * address as in facts; the password is for logins. */
void flow_backend_ask(const struct flow_backend *backend, struct directory *directory,
                      struct str who, struct str password, struct arena *arena,
                      struct directory_answer *out) MAY_YIELD;

/* ---- again, by what was recorded (flow/replay.c) ---- */

struct flow_recorded { /* a step of the trace */
    struct str step;
    struct str outcome;
    struct str detail;
    struct str values;    /* as conditions read them behind it; may be empty */
    bool has_findings;    /* what it found is told, whole */
    struct str *findings; /* their names */
    size_t finding_count;
};
struct flow_replay {
    const struct flow *flow;   /* to go through */
    const struct flow *former; /* whose steps were recorded; NULL: unknown */
    const struct flow_recorded *records;
    size_t record_count;
    const struct flow_facts *facts;
    /* Are these facts known? The others are, but for those that only a message's text gives. */
    bool has_helo, has_client_name, has_size, has_recipients;
    const struct str *fields; /* names of header fields whose first is known: in facts->header, or
                                 missing there */
    size_t field_count;
};
struct flow_replayed {
    bool open; /* the record does not say enough */
    enum flow_verdict_kind kind;
    struct str step; /* that decided, or at which it is open; empty: the end of the flow */
    struct str why;  /* of an open one, in the arena */
};
/* What the flow says when its questions have the answers of the record: nobody is asked. A step
 * takes the outcome of a recorded one of the same block with the same parameters, whatever it then
 * makes of it. Texts of the flow. */
void flow_replay_run(const struct flow_replay *replay, struct arena *arena,
                     struct flow_replayed *out);

/* ---- relay safety (flow/prove.c) ---- */

struct flow_witness {        /* a session that shows what a proof says */
    struct flow_facts facts; /* of client, sender, recipient */
    struct str text;         /* the message */
    const struct flow_stated_outcome *stated;
    size_t stated_count;
};

enum flow_shown {
    FLOW_SHOWN_NOTHING,
    FLOW_SHOWN_RELAYED, /* it gets out, for any domain or by MX for the one that it was sent to */
    FLOW_SHOWN_LEFT,    /* rewritten to a domain that is not listed */
    FLOW_SHOWN_PASSED,  /* rewritten to another listed domain, by MX */
};

struct flow_relay_case { /* one listener x domain, for a stranger */
    struct str listener;
    bool authentication_required; /* a stranger never gets to RCPT */
    bool tls_never, tls_always;   /* no client has TLS; each has */
    bool queued;                  /* content flows run behind the 250 */
    struct str domain;            /* "example.org" or "any" */
    bool is_any;
    bool is_lookup_mx;
    struct str transport;
    const struct flow *authentication_flow; /* NULL: nobody can log in */
    const struct flow *recipient_flow;
    const struct flow *content_flow; /* NULL: not looked at */
    bool content_shared;             /* other domains of the listener have it, too */
    /* Strangers are in none of these; unless the listener lets them claim an address, and then
     * `claims` is who may, in words with the place: "any client (proxy.from, FILE:9:5)". */
    const struct net_network *trusted;
    size_t trusted_count;
    struct str claims;
    /* The names of a listed domain; of `any`: the names that others have on this listener. */
    const struct str *names;
    size_t name_count;
    /* For steps that route or rewrite: does this transport look up MX? Is this domain listed? Does
     * the listener take mail for domains that are not? */
    bool (*looks_up)(const void *context, struct str transport);
    bool (*is_listed)(const void *context, struct str domain);
    bool takes_any;
    bool as_received; /* for a step: no step before it has changed the recipient */
    /* Other listed domains whose mail goes by MX, and whether the listener takes mail for them: a
     * step that rewrites may lead there, and their own recipient flows are not asked then. */
    const struct flow_relay_target {
        struct str name;
        bool served;
    } * targets;
    size_t target_count;
    /* Does this listed name belong to the domain `name`? */
    bool (*belongs)(const void *context, struct str domain, struct str name);
    /* What this session shows; PASSED: and the domain. NULL: nobody can try. */
    enum flow_shown (*shows)(const struct flow_relay_case *relay,
                             const struct flow_witness *witness, struct str *out_domain);
    const void *context;
    struct config_place place;   /* of the domain */
    struct str allow_open_relay; /* the reason given, or empty */
};
/* The cases of one listener: a recipient flow may lead from one domain to another.
 * Report `open-relay` (error, or warning with allow_open_relay) with the paths, for every case in
 * which a stranger can get mail to a domain of his choice, or to a listed one by MX look-up: by the
 * recipient flow, or by steps that route or rewrite in it or in the content flow. And the warning
 * `passed-by` where a step rewrites what he chose into another listed domain by MX. With a session
 * that goes such a way, where one is found. */
void flow_prove_relay(const struct flow_relay_case *cases, size_t count,
                      struct config_report *report);
/* The outcome of a step by its number ("2", in a branch "2.found.1") and name, as the session in a
 * report says it. */
bool flow_state_outcome(const struct flow *flow, struct str number, struct str outcome,
                        struct flow_stated_outcome *out);

/* ---- the blocks, for people and editors (flow/describe.c) ---- */
struct buf;
const char *flow_type_name(enum flow_type type);
struct flow_block_about {
    const char *name;
    const char *text; /* one line */
    unsigned flows;   /* set of 1 << enum flow_type */
};
/* The block at `index`, from 0; false: there are no more. */
bool flow_block_about(size_t index, struct flow_block_about *out);
/* Markdown of all blocks / of one; false: there is none of that name. */
void flow_describe_blocks(struct buf *out);
bool flow_describe_block(struct str name, struct buf *out);
/* Markdown of what scripts find. */
void flow_describe_scripts(struct buf *out);
/* JSON Schema: the section `flows`; the definitions that it refers to, as members of `$defs`; and
 * the forms of a flow that stands in place of its name, as items of `anyOf`. */
void flow_schema(struct buf *out);
void flow_schema_steps(struct buf *out);
void flow_schema_flow(enum flow_type type, struct buf *out);
