/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/flow_internal.h - compiled flows and the shape of a block, shared by this module's files.
 *
 * Everything compiled lives in the arena of the configuration snapshot and is immutable, but for
 * the mark of use that loading sets.
 */
#pragma once

#include "base/map.h"
#include "content/mime.h"
#include "content/resolver.h"
#include "content/scanner.h"
#include "directory/directory.h"
#include "directory/stated.h"
#include "flow/checks.h"
#include "flow/expression.h"
#include "flow/flow.h"
#include "mail/body.h"
#include "state/state.h"

enum {
    FLOW_STEPS_MAX = 500, /* of one flow, with its branches */
    FLOW_DEPTH_MAX = 8,   /* branches in branches */
    FLOW_FIELDS_MAX = 32, /* header fields that the conditions of one flow are recorded for */
    FLOW_REPLY_MAX = 400, /* bytes of a reply written in the file */
};

enum { /* sets of flow types */
       FLOW_IN_AUTHENTICATION = 1 << FLOW_AUTHENTICATION,
       FLOW_IN_RECIPIENT = 1 << FLOW_RECIPIENT,
       FLOW_IN_CONTENT = 1 << FLOW_CONTENT,
};

/* ---- actions ---- */

enum flow_action_kind {
    ACTION_NEXT,
    ACTION_NOTE,
    ACTION_ACCEPT,
    ACTION_REJECT,
    ACTION_DEFER,
    ACTION_DELIVER,
    ACTION_HOLD,
    ACTION_QUARANTINE,
    ACTION_DISCARD,
    ACTION_CONTAIN,
    ACTION_BRANCH,
    ACTION_COUNT
};

struct flow_steps {
    struct flow_step *items;
    size_t count;
    struct config_place place;
};

struct flow_action {
    enum flow_action_kind kind;
    struct mail_reply reply; /* written in the file; code 0: the standard words */
    struct str quarantine;   /* its name */
    struct str why;          /* written in the file, of a hold or quarantine */
    enum mail_reason reason; /* written in the file, or NONE */
    struct flow_steps branch;
};

/* Words of an action, and where it is legal. */
struct flow_action_row {
    const char *word; /* NULL: no word, a list of steps */
    unsigned flows;
    bool decides; /* the flow ends here */
};
extern const struct flow_action_row flow_actions[ACTION_COUNT];

/* ---- blocks ---- */

struct flow_outcome {
    const char *name;
    const char *key;              /* parameter that overrides the action; NULL: fixed */
    enum flow_action_kind action; /* default */
    const char *reply;            /* standard words of a refusal */
    enum mail_reason reason;
    bool authenticates; /* a backend's own yes: the only one that may be `accept` at a login */
    bool vouches;       /* a backend knows the recipient */
    const char *text;
};

struct flow_running;
struct flow_compiling;

struct flow_answer { /* what a step said when it ran */
    const struct flow_step *step;
    unsigned outcome;
    struct str detail;
};

struct flow_block {
    const char *name;
    const char *text;
    unsigned flows;
    const struct option_table *options;  /* parameters */
    const struct flow_outcome *outcomes; /* ends with a NULL name */
    bool own_when;                       /* `when` is the block's test, not the step's condition */
    bool may_route;         /* it can choose a transport: the proof of relay safety looks at it */
    bool may_rewrite;       /* it can change recipients: their domains enter that proof anew */
    bool signs;             /* it makes a signature of ours */
    bool breaks_signatures; /* it changes what was signed: an error behind one that signs */
    bool finds;             /* it may add findings */
    bool asks_world;        /* what it says is known to others: in a rehearsal it may be stated */
    /* For the proof: may both be said in one transaction, in which no recipient changed? NULL: yes.
     */
    bool (*agrees)(const struct flow_step *step, unsigned outcome, const struct flow_step *before,
                   unsigned outcome_before);
    /* After binding: resolve and check. `node` may be NULL. Problems go to the report. */
    void (*prepare)(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node);
    /* Index of the outcome. FAILED: an internal error, which ends the flow. NULL: outcome 0. */
    enum result (*run)(struct flow_running *running, const struct flow_step *step,
                       unsigned *out_outcome, struct error *err);
    /* The question alone, of blocks that ask about a login or a recipient; a MAY_YIELD function. */
    void (*ask)(struct flow_running *running, const struct flow_step *step,
                struct directory_answer *out);
    /* For the proof: can this outcome happen, by what is known? NULL: always. */
    bool (*is_reachable)(const struct flow_step *step, unsigned outcome,
                         const struct expression_knowledge *known);
    /* For the proof: what holds when this outcome happens. NULL, or NULL as answer: nothing. */
    const struct expression *(*condition)(const struct flow_step *step, unsigned outcome,
                                          bool *out_truth);
    /* Of a block that may route: can the transport be one that looks up MX? NULL: yes. With
     * `routes` it is chosen whenever the step is come to. */
    bool routes;
    /* Of a block that may route: the transports that it may choose; their number. */
    size_t (*ways)(const struct flow_step *step, const struct str **out);
    bool (*may_look_up)(const struct flow_step *step, const struct flow_relay_case *relay);
    /* Of a block that may rewrite: can a recipient whose name or domain the client chose get a
     * domain that is not listed? NULL: yes. */
    bool (*may_leave)(const struct flow_step *step, const struct flow_relay_case *relay);
    /* Of a block that may rewrite: can a recipient whose name the client chose get an address of
     * the listed domain `name`? NULL: no. */
    bool (*may_enter)(const struct flow_step *step, const struct flow_relay_case *relay,
                      struct str name);
    /* Of a block that may rewrite: can it change a recipient of this case at all? NULL: yes. */
    bool (*may_change)(const struct flow_step *step, const struct flow_relay_case *relay);
    /* For a session that the proof makes up: texts of the step that addresses or names may have to
     * fit, patterns with a ~ before them. NULL: none. */
    void (*suggest)(const struct flow_step *step, void (*add)(void *context, struct str text),
                    void *context);
    /* What to do about it, where the file does not say to which domain; NULL: it does. */
    const char *enter_fix;
    /* For a replay: what this step makes of an answer that another step of this block got, by its
     * outcome and detail in the trace. False: that cannot be told. NULL: the same outcome. */
    bool (*judge_again)(const struct flow_step *step, struct str outcome, struct str detail,
                        unsigned *out_outcome);
    /* For a replay, where nobody asked just what this step asks: what it would say by what other
     * steps of this block said. False: that cannot be told, and maybe why. NULL: never. */
    bool (*infer)(const struct flow_step *step, const struct flow_answer *answers, size_t count,
                  const struct expression_knowledge *known, struct arena *arena,
                  unsigned *out_outcome, struct str *out_missing);
    const char *const *judges_by; /* parameters that only judge the answer; ends with NULL */
    /* For a replay: does it change header fields of this name? NULL: it may change any, and the
     * results of checks. */
    bool (*changes_field)(const struct flow_step *step, struct str name);
    unsigned results; /* names that it gives a value: a set of 1 << enum expression_name */
    /* For a replay: what conditions know behind it, by what the trace says of it; a set of
     * 1 << enum expression_name that is in `io_checks` now. NULL: nothing new. */
    unsigned (*recall)(struct str outcome, struct str detail, struct arena *arena,
                       struct flow_checks *io_checks);
};
/* For changes_field: none; and any, of a block whose `results` are complete. */
bool flow_changes_no_field(const struct flow_step *step, struct str name);
bool flow_changes_any_field(const struct flow_step *step, struct str name);
/* What conditions may see anew behind the block: a set of 1 << enum expression_name. */
unsigned flow_block_results(const struct flow_block *block);
/* Ends with NULL. */
extern const struct flow_block *const flow_blocks[];
const struct flow_block *flow_block_find(struct str name);
/* JSON Schema of the names of presets. */
struct buf;
void flow_schema_presets(enum flow_type type, struct buf *out);

/* ---- compiled ---- */

struct flow_step {
    struct str id;
    struct str number; /* place in the flow: "3", in a branch "3.1" */
    const struct flow_block *block;
    struct config_place place;
    const struct expression *when; /* NULL: always */
    struct config_place when_place;
    bool observe;
    struct str note;
    const struct config_node *written; /* parameters as in the file; NULL: none */
    void *parameters;
    const void *prepared; /* the block's own */
    struct str key;       /* prefix of this step's keys in module state */
    unsigned outcome_count;
    struct flow_action *actions; /* one an outcome */
};

struct flow {
    enum flow_type type;
    struct str name;
    struct flow_steps steps;
    struct config_place place;
    bool builtin;
    bool broken;        /* it has errors: never run, and nothing can be proven of it */
    bool *used;         /* set while loading */
    struct str *fields; /* of a content flow: names of header fields in its conditions */
    size_t field_count;
};
/* flow/record.c */
void flow_collect_fields(struct flow *flow, struct arena *arena);
void flow_record_fields(const struct flow_running *running);
/* What the step that just ran found, an event each; returns how many. */
size_t flow_record_findings(struct flow_running *running, const struct flow_step *step);
/* What conditions read of checks behind it, "spf=pass score=4.2": what it may have changed, and
 * what was never told in this run. May be empty. */
struct str flow_record_values(struct flow_running *running, const struct flow_step *step);
/* The same read back: what is in `io_checks` then, a set of 1 << enum expression_name. */
unsigned flow_recall_values(struct str values, struct flow_checks *io_checks);

struct flow_set {
    struct arena *arena;
    struct flow **flows;
    size_t count;
    size_t cap;
};

struct flow_compiling {
    const struct flow_compile_context *context;
    struct flow *flow;
    struct map ids; /* to places */
    size_t steps;
    unsigned depth;
};

/* compile.c */
void flow_compile_steps(struct flow_compiling *compiling, const struct config_node *list,
                        struct str number_prefix, struct flow_steps *out_steps);
void flow_compile_step(struct flow_compiling *compiling, const struct config_node *node,
                       struct str number, struct flow_step *out_step);
void flow_set_add_builtin(struct flow_set *set, enum flow_type type, struct str name,
                          const struct config_node *steps,
                          const struct flow_compile_context *context);
/* ends.c */
void flow_check_ends(const struct flow *flow, const struct flow_compile_context *context);
/* never.c: warn about conditions that can never hold. */
void flow_check_never(const struct flow *flow, const struct flow_compile_context *context);
/* Can control pass this step (or these steps) without a verdict? */
bool flow_step_may_pass(const struct flow_step *step);
bool flow_steps_may_pass(const struct flow_steps *steps);
#define flow_problem(compiling, severity, code, place, ...)                                        \
    config_problem((compiling)->context->option.report, (severity), (code), (place), __VA_ARGS__)
struct str flow_fix(const struct flow_compiling *compiling, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* action.c */
void flow_compile_action(struct flow_compiling *compiling, const struct flow_step *step,
                         const struct flow_outcome *outcome, const struct config_node *node,
                         struct flow_action *out_action);
/* The reply written in the file for a reject or defer; code 0 and a problem if it does not fit. */
struct mail_reply flow_compile_reply(struct flow_compiling *compiling, struct str text,
                                     enum flow_action_kind kind, struct config_place place);
/* What hold and quarantine say, as actions and as blocks. */
struct flow_kept {
    struct str quarantine;
    struct str why;
    int reason; /* enum mail_reason */
};
extern const struct option_table flow_hold_table;
extern const struct option_table flow_quarantine_table;
/* The name where the file has exactly one, else empty. */
struct str flow_only_quarantine(const struct flow_compiling *compiling);
/* Fill in the name where only one is there; report if none or several are. */
void flow_compile_quarantine(struct flow_compiling *compiling, struct flow_kept *kept,
                             struct config_place place);
void flow_action_keep(struct flow_action *action, const struct flow_kept *kept);
/* resolve.c */
/* The server that a step names, of one of the kinds (a set of 1 << kind); NULL: reported. */
const struct server *flow_compile_server(struct flow_compiling *compiling, struct str name,
                                         unsigned kinds, struct config_place place);
struct config_place flow_place_of(const struct config_node *node, const char *key,
                                  struct config_place fallback);
/* Warn if the file cannot be read now. */
void flow_check_file(struct flow_compiling *compiling, struct str path, struct config_place place);
/* A filter that names neither user nor recipient is an error. */
void flow_check_placeholder(struct flow_compiling *compiling, struct str text, bool is_recipient,
                            struct config_place place);

/* templates.c */
void flow_compile_templates(struct flow_set *set, const struct flow_compile_context *context);
/* Steps of { preset: NAME, … } as a list node, or NULL when problems were reported. */
const struct config_node *flow_preset_steps(enum flow_type type, const struct config_node *node,
                                            const struct flow_compile_context *context);

/* ---- running ---- */

struct flow_pending { /* a failure to be counted if the login is refused */
    struct str key;
    uint64_t max;
    int64_t period_ns;
};
enum { FLOW_PENDING_MAX = 16 };

struct flow_spent { /* of flow_limits */
    uint64_t memory, decoded;
    int64_t parts;
};

struct flow_running {
    const struct flow *flow;
    const struct flow_run *run;
    struct flow_facts facts; /* with the header section as edited */
    struct flow_verdict *verdict;
    /* authentication */
    struct str login;
    struct str password;
    bool said_no;                 /* some backend knows the login and refused the password */
    bool said_unknown;            /* some backend does not know the login */
    bool had_error;               /* some backend gave no answer */
    bool was_hung_up;             /* some mail server hung up at the password: an attempt */
    struct str refusal;           /* why it is no yes: the first error, else the last no */
    const char *refused_by;       /* the block that said it; NULL: none did */
    struct flow_pending *pending; /* FLOW_PENDING_MAX, or NULL */
    unsigned pending_count;
    bool said_missing;           /* some lookup does not know the recipient */
    struct flow_overrun overrun; /* of the last limit that was reached */
    struct str *own_addresses;
    size_t own_address_count;
    struct str account;
    /* content: once a step has made a new head, how much of it is trace fields of ours */
    bool has_new_head;
    size_t trace_len;
    bool has_new_body; /* of the flow's own: the old header section does not stand in it */
    struct flow_spent spent;
    struct { /* to the history, in this run */
        unsigned names;
        size_t findings;
    } told;
    struct mime_message *mime; /* of the body at work, once a step has asked */
    /* what the block of the current step says; empty before each */
    struct mail_reply reply;
    struct str detail;
    struct str quarantine;   /* in place of the action's */
    enum mail_reason reason; /* the same */
};

/* run.c: what a client is told; `said`: a backend's own words, or NULL. */
struct mail_reply flow_standard_reply(enum flow_type type, enum flow_verdict_kind kind);
struct mail_reply flow_refusal_reply(enum flow_type type, enum flow_verdict_kind kind,
                                     const struct flow_outcome *outcome,
                                     const struct flow_action *action,
                                     const struct mail_reply *said);
/* Of an action that decides. */
enum flow_verdict_kind flow_verdict_of(enum flow_type type, enum flow_action_kind action);
const char *flow_action_name(const struct flow_action *action);

/* Has the session (or the flow's time) ended? What a block then gets is no answer to share. */
bool flow_is_over(struct error *err);
/* The client's network as text, for keys of limits; in the run's arena. */
struct str flow_client_network(const struct flow_running *running);
/* Hex of a keyed hash, for keys that must be short or must not show what they hide. `secret`:
 * state_secret(), or state_kept_secret() for keys that outlive a restart. */
struct str flow_keyed_hash(const struct flow_running *running, const unsigned char *secret,
                           struct str a, struct str b);

/* head.c: the header section changes, the body is shared and never written to. */
/* Our trace fields stay on top; *out_own is the message's own section below them. */
struct str flow_head_split(const struct flow_running *running, struct str *out_own);
/* `head` is the whole new section, of which the first `trace_len` bytes are trace fields, in place
 * of one whose own part has `own_len` bytes. */
void flow_head_replace(struct flow_running *running, struct str head, size_t trace_len,
                       size_t own_len);
/* Put whole fields, with their final CRLF, above all others. */
void flow_head_prepend(struct flow_running *running, struct str fields);

/* effects.c: what blocks change beyond the header. They look at step->observe first. */
/* The envelope sender from here on, "" for <>; the address is taken as it is. */
void flow_set_sender(struct flow_running *running, struct str address);
/* And the RET and ENVID that go with it; kept as it is. */
void flow_set_sender_parameters(struct flow_running *running, const struct mail_sender *parameters);
/* Recipient flows: the recipient from here on. The address is in its key form. */
void flow_set_recipient(struct flow_running *running, struct str address, struct str domain);
/* Content flows: all recipients from here on, with their came_as. The arrays live in the run's
 * arena. Of several with one address the first stays. */
void flow_set_recipients(struct flow_running *running, struct mail_recipient *recipients,
                         long *came_as, size_t count);
/* All recipients go by the transport of this name (it exists: the file was checked). */
void flow_set_transport(struct flow_running *running, struct str name);
/* A copy or a notice; ERROR_LIMIT beyond FLOW_EXTRAS_MAX. Texts and content are kept as they are
 * and must live in the run's arena (a body: until its end, see flow_body_keep). */
enum result flow_add_extra(struct flow_running *running, const struct flow_extra *extra,
                           struct error *err);
/* What a step found. Texts are copied. Also in observed steps: it is what they are for. */
void flow_add_finding(struct flow_running *running, const struct flow_step *step, struct str name,
                      struct str text);
/* What a scanner thinks of the message: for `score`, the trace and the quarantine. */
void flow_set_score(struct flow_running *running, double score);
/* Count against the limits of the message. ERROR_LIMIT with words for a trace when there is too
 * much; the block says `limit` or `error` then. */
enum flow_budget { FLOW_BUDGET_MEMORY, FLOW_BUDGET_DECODED, FLOW_BUDGET_PARTS };
enum result flow_spend(struct flow_running *running, enum flow_budget budget, uint64_t amount,
                       struct error *err);
const struct flow_limits *flow_limits_of(const struct flow_running *running);

/* The body behind the header section in force, its size and its bytes, as body_read(). */
uint64_t flow_body_size(const struct flow_running *running);
enum result flow_body_read(const struct flow_running *running, uint64_t offset, size_t size,
                           char *space, struct str *out_data, struct error *err) MAY_YIELD;
/* Another body (sealed; the reference becomes the run's) behind the same header section. The old
 * one is untouched: other groups and copies made before still have it. */
void flow_body_replace(struct flow_running *running, struct body *body, bool has_8bit);
/* seven_bit.c: before a signature of ours (RFC 6376 5.3), where the configuration wants it: 8-bit
 * text becomes quoted-printable or base64, so that no host on the way has to. What cannot be
 * converted stays. */
enum result flow_body_make_seven_bit(struct flow_running *running, struct error *err) MAY_YIELD;
/* mime.c: the parts of the message as it is now, found once and counted against the limits. Texts
 * live in the run's arena; the next change of the body ends its use. ERROR_LIMIT: too many. */
enum result flow_mime(struct flow_running *running, const struct mime_message **out,
                      struct error *err) MAY_YIELD;
/* All that a reader sees as text, as UTF-8, in windows of at most 16 KiB that overlap by 1 KiB; a
 * part's begin and end are those of a window. *out_done true ends it. */
typedef enum result (*flow_window)(void *context, struct str text, bool *out_done,
                                   struct error *err);
enum result flow_body_windows(struct flow_running *running, flow_window window, void *context,
                              struct error *err) MAY_YIELD;
/* The run's arena releases the reference at its end. */
void flow_body_keep(struct flow_running *running, struct body *body);
/* The header section with a changed own part: `own` in place of what flow_head_split() gave. */
void flow_head_set_own(struct flow_running *running, struct str own);

/* sender.c: SPF, once a transaction. */
const struct spf_outcome *flow_sender_spf(struct flow_running *running) MAY_YIELD;
/* The same of the HELO name, whatever the sender is. */
const struct spf_outcome *flow_sender_helo(struct flow_running *running) MAY_YIELD;
/* A resolver for one check: at most `budget` questions and 20 seconds. */
struct resolver flow_sender_resolver(const struct flow_running *running, unsigned budget);
/* For keys of DKIM and ARC: at most as many as the message has left, too. */
struct resolver flow_key_resolver(const struct flow_running *running, unsigned budget);
struct spf_request flow_sender_request(const struct flow_running *running);

/* arc.c */
/* The resolver as DKIM and ARC ask it. */
struct dkim_dns flow_dkim_dns(struct resolver *resolver);
/* Validate the chain into facts.checks->arc. */
enum result flow_arc_check(struct flow_running *running, struct dkim_message *message,
                           struct error *err) MAY_YIELD;
/* Does it pass, are all of its sealers trusted, and did the first of them see DMARC pass? */
bool flow_arc_vouches(const struct arc_answer *answer, const struct option_texts *trusted,
                      struct arena *arena);

/* scan.c: shared by the blocks that show a message to a scanner. */
/* A hash of what the run is about, for breakers (state/breaker.h): of its sender, recipient, login
 * and Message-ID. Never 0. */
uint64_t flow_about(const struct flow_running *running);
struct scanner flow_scanner(const struct flow_running *running, const struct server *server);
/* In a rehearsal: true, with what was stated of the server, or NULL when it gives no answer (the
 * detail says so). */
bool flow_scan_is_stated(struct flow_running *running, const struct server *server,
                         const struct directory_stated_source **out_source);

/* lookup.c: shared by the three lookup blocks; answers by way of the cache. */
struct flow_lookup {
    struct str key; /* of the source, without the address */
    int64_t cache_ns;
    int64_t cache_missing_ns;
    int64_t stale_ns;
    void (*ask)(struct flow_running *running, const struct flow_step *step,
                struct directory_answer *out);
};
enum result flow_lookup_run(struct flow_running *running, const struct flow_step *step,
                            const struct flow_lookup *lookup, unsigned *out_outcome,
                            struct error *err) MAY_YIELD;
extern const struct flow_outcome flow_lookup_outcomes[];

/* login.c: shared by the three blocks of authentication flows. */
struct flow_login {
    int64_t cache_ns;
    void (*ask)(struct flow_running *running, const struct flow_step *step,
                struct directory_answer *out);
    struct str account; /* its name, if the backend looks at a part of the login only; or empty */
};
enum result flow_login_run(struct flow_running *running, const struct flow_step *step,
                           const struct flow_login *login, unsigned *out_outcome,
                           struct error *err) MAY_YIELD;
extern const struct flow_outcome flow_login_outcomes[];
