/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/queue.h - accepted mail on its way out: entries, schedule, destinations, delivery, DSN.
 *
 * An entry is (message, transport, recipients) of one recipient group. It is durable in the spool
 * before queue_submit() returns. States and transitions: STATES.md. What the queue needs from above
 * (the current configuration, content runs) it asks of a struct queue_handler.
 */
#pragma once

#include "base/arena.h"
#include "fiber/fiber.h"
#include "mail/body.h"
#include "mail/envelope.h"
#include "mail/reply.h"
#include "net/server.h"
#include "queue/entry.h"
#include "queue/transport.h"

struct dns;
struct loop;
struct queue;
struct spool;
struct spool_vault;
struct state;

/* ---- what the queue asks ---- */

struct queue_group;
struct queue_snapshot; /* a reference to the configuration, opaque */

struct queue_content_run { /* processing: queued */
    struct str flow;
    const struct mail_sender *sender;
    const struct mail_recipient *recipients;
    size_t recipient_count;
    struct mail_id message;
    unsigned flags;               /* QUEUE_META_… */
    struct str transport;         /* chosen at reception */
    struct str origin;            /* what queue_submit was given */
    struct str after_step;        /* it was kept there and released: begin behind it; else empty */
    bool released;                /* it was held once, and somebody let it go */
    struct mail_content *content; /* in, out; a new body is not the queue's to release */
    struct arena *arena;
    enum mail_reason held_reason; /* out: why, for QUEUE_CONTENT_HOLD without groups */
    /* out: what stands in place of the entry for DELIVER and HOLD (none: the entry as it is), and
     * generated groups (copies, notices), which are made whatever the verdict is but DEFER. In the
     * arena. */
    struct queue_group *groups;
    size_t group_count;
    uint64_t discarded; /* out: recipients that a step took off */
    uint64_t added;     /* out: recipients that a step put on */
};
enum queue_content_verdict {
    QUEUE_CONTENT_DELIVER,
    QUEUE_CONTENT_DEFER,
    QUEUE_CONTENT_REJECT,
    QUEUE_CONTENT_DISCARD,
    QUEUE_CONTENT_HOLD
};

enum queue_account {
    QUEUE_ACCOUNT_FREE, /* what is still held for it goes on by itself */
    QUEUE_ACCOUNT_CONTAINED,
    QUEUE_ACCOUNT_SETTLING, /* free; somebody sees to what is held */
};

/* What somebody says before or after an attempt of a transport that names a script. */
struct queue_hook_recipient {
    struct str address;
    /* After: what came of it. Before: what was said the last time; code 0 and no text: nothing. */
    struct mail_reply reply;
    struct str mta;
    enum { QUEUE_HOOK_OPEN, QUEUE_HOOK_DELIVERED, QUEUE_HOOK_DEFERRED, QUEUE_HOOK_FAILED } outcome;
};
struct queue_hook {
    bool after;
    const struct transport *transport;
    struct mail_id message, session;
    struct str destination;
    const struct mail_sender *sender;
    const struct queue_hook_recipient *recipients; /* those that were open when it began */
    size_t recipient_count;
    unsigned attempt; /* from 1 */
    int64_t age_ns;   /* of the message */
    uint64_t size;
    struct str host; /* after: that was spoken to last; may be empty */
    struct arena *arena;
    /* out; all zero: go on */
    enum {
        QUEUE_HOOK_NEXT,
        QUEUE_HOOK_DEFER,  /* before: no attempt now. After: refusals are for now. */
        QUEUE_HOOK_REJECT, /* before: give up. After: what is not delivered is refused for good. */
        QUEUE_HOOK_HOLD,
        QUEUE_HOOK_ROUTE /* before: this attempt goes to `server` */
    } verdict;
    struct mail_reply said; /* of DEFER and REJECT; code 0: standard words */
    int64_t delay_ns;       /* from now to the next attempt; 0: the transport's */
    const struct server *server;
};

struct queue_handler {
    /* A reference to the configuration in force; release with release_snapshot. Any worker. */
    const struct queue_snapshot *(*take_snapshot)(void *context);
    void (*release_snapshot)(void *context, const struct queue_snapshot *snapshot);
    /* NULL: it is gone; the entry is held with reason transport-missing. */
    const struct transport *(*transport)(const struct queue_snapshot *snapshot, struct str name);
    /* Transport name for mail to `domain` (for DSN); empty if none takes it. */
    struct str (*route)(const struct queue_snapshot *snapshot, struct str domain);
    struct str (*hostname)(const struct queue_snapshot *snapshot);
    struct str (*postmaster)(const struct queue_snapshot *snapshot);
    /* Is (ip, port) one that our own listeners accept on, or in own_addresses? */
    bool (*is_own_address)(const struct queue_snapshot *snapshot,
                           const struct net_address *address);
    /* Does any of our listeners have this port? (For an MX that bears our name.) NULL: asked by
     * is_own_address with a loopback address. */
    bool (*is_own_port)(const struct queue_snapshot *snapshot, uint16_t port);
    /* Who runs this MX host, for events; a text of the snapshot. NULL: nobody says. */
    struct str (*provider)(const struct queue_snapshot *snapshot, struct str host);
    enum queue_content_verdict (*run_content)(void *context, const struct queue_snapshot *snapshot,
                                              struct queue_content_run *run,
                                              struct mail_reply *out_reply);
    /* Signature fields for a message that we wrote ourselves, in `arena`; empty if no key is for
     * its author. A MAY_YIELD function; NULL: nothing is signed. */
    struct str (*sign)(const struct queue_snapshot *snapshot, const struct mail_content *content,
                       struct arena *arena);
    /* Around each attempt of a transport with a script; a MAY_YIELD function. NULL: nobody asks. */
    void (*hook)(void *context, const struct queue_snapshot *snapshot, struct queue_hook *hook);
    /* Is the account of this user contained? Its mail is held then, whatever state it is in, and
     * nobody gets a notification about it. Any worker, and cheap; NULL: all are free. */
    enum queue_account (*account)(void *context, struct str user);
    /* An inbound transport delivered to this recipient (protected mailboxes). */
    void (*delivered_inbound)(void *context, struct str address);
    void *context;
};

/* ---- life cycle: one queue a process; each worker joins on its thread ---- */

struct queue *queue_new(struct spool *spool, struct state *state,
                        const struct queue_handler *handler, struct loop *const *loops,
                        size_t worker_count);
/* The spool, when it was not there yet in queue_new; before the workers join. */
void queue_set_spool(struct queue *queue, struct spool *spool);
/* With these keys what lies in a quarantine is encrypted. Before the workers join. */
void queue_set_vault(struct queue *queue, struct spool_vault *vault);
/* Where operators' orders (pause, slow) are kept; read now. Without it they end with the process.
 */
enum result queue_open_steering(struct queue *queue, struct str path, struct error *err);
/* Take mail, deliver none while the process lives: after repeated crashes. Before the workers join.
 */
void queue_stop_delivery(struct queue *queue);
/* Bytes of committed messages that are kept in memory for the first attempt; over it they are read
 * from the spool. Default 64M. */
void queue_set_memory_budget(struct queue *queue, uint64_t bytes);

/*
 * Poison guard: memory shared with the supervisor. While an entry is worked on its id stands in a
 * slot (high word 0: free). Ids found there after a crash are suspects; those that were suspects
 * twice go to queue_set_suspects() before queue_recover() and are held with reason `crash`.
 */
enum { QUEUE_POISON_SLOTS = 4096 };
struct queue_poison_page {
    _Atomic uint64_t ids[QUEUE_POISON_SLOTS][2]; /* high, low */
};
void queue_poison_page(struct queue *queue, struct queue_poison_page *page);
void queue_set_suspects(struct queue *queue, const struct mail_id *ids, size_t count);

/* There are accounts that are being seen to: what is found of them is held until that is done, for
 * the record of a hold may have been lost. Before queue_recover(). */
void queue_settle_found(struct queue *queue);

/* Called by spool_open for what was found, before the workers join. */
struct spool_found;
void queue_recover(struct queue *queue, const struct spool_found *found);
void queue_join(struct queue *queue, size_t worker, struct dns *dns);
/* On the worker's thread, after a burst: memory that was kept for what comes next goes back. */
void queue_rest(struct queue *queue, size_t worker);
/* Stop attempts (running ones get until `deadline_ns`), let go of connections. */
void queue_leave(struct queue *queue, size_t worker, int64_t deadline_ns) MAY_YIELD;
void queue_free(struct queue *queue);

/* ---- accepting ---- */

struct queue_group {
    struct mail_content content; /* its body is referenced, not consumed */
    struct str transport;        /* name */
    struct str content_flow;     /* processing: queued: the flow still to run; else empty */
    const struct mail_recipient *recipients;
    size_t recipient_count;
    bool held;
    enum mail_reason held_reason;
    /* why, of a held one; with content_flow a release goes on behind kept.step */
    struct queue_kept kept;
    const struct mail_sender *sender; /* NULL: the submission's */
    bool has_8bit;                    /* more than the submission says */
    bool seven_bit;                   /* whatever the submission says; has_8bit comes after */
    /* A copy or a notice of ours: counted as generated; when it fails only postmaster hears. */
    bool generated;
    /* A message of its own, to which has_8bit and header_utf8 alone apply; zero: the
     * submission's. */
    struct mail_id message;
    bool header_utf8;
    bool sealed; /* the queue's: its content is encrypted */
};
struct queue_submission {
    struct mail_id message;
    struct mail_id session;
    const struct mail_sender *sender;
    bool own_user;           /* authenticated or trusted: DSN may go to the sender */
    bool sender_verified;    /* a stranger whose sender passed SPF or signed */
    struct str fairness_key; /* user, else client network */
    struct str origin;       /* facts for a later content run, opaque to the queue */
    bool has_8bit;
    bool needs_smtputf8; /* its header does; addresses the queue looks at itself */
    const struct queue_group *groups;
    size_t group_count;
    uint64_t discarded; /* recipients discarded by rule, for the balance */
    uint64_t added;     /* recipients among the groups' that a content flow put on: generated */
    /* recipients refused by a content flow that get a DSN in the same unit */
    const struct mail_recipient *refused;
    const struct mail_reply *refused_replies;
    size_t refused_count;
    /* what their notification quotes; NULL: that of the first group */
    const struct mail_content *refused_content;
};
/* Durable when OK; the first attempts start from memory. ERROR_LIMIT: no space (452);
 * ERROR_TEMPORARY: 451. Waits while never-attempted mail exceeds what destinations take. */
enum result queue_submit(struct queue *queue, const struct queue_submission *submission,
                         struct error *err) MAY_YIELD;

/* ---- operators: called from any thread that is no worker; block ---- */

enum queue_state {
    QUEUE_READY,
    QUEUE_WAITING,
    QUEUE_INFLIGHT,
    QUEUE_HELD,
    QUEUE_CONTENT,
    QUEUE_PAUSED /* ready or waiting, but an operator paused its destination: its clock stands */
};
enum queue_verb { QUEUE_RETRY, QUEUE_HOLD, QUEUE_RELEASE, QUEUE_FAIL, QUEUE_DROP };

struct queue_selector { /* empty members select everything */
    struct str id;      /* message or entry id, or a unique prefix of at least 8 */
    struct str to;      /* address or @domain */
    struct str from;
    struct str transport;
    struct str destination;
    struct str quarantine; /* held in it; "*": in any */
    struct str subject;    /* stands in the subject; of what lies in quarantine */
    bool undigested;       /* the recipients were not told */
    struct str cause;      /* as queue_survey names it */
    struct str user;       /* who was logged in when it came; without notices and copies of ours */
    enum mail_reason held_reason; /* NONE: any */
    int64_t older_ns;
    int state;                 /* enum queue_state, -1: any */
    size_t limit;              /* the oldest; 0: 1000 for lists, no limit for actions */
    struct mail_id after;      /* lists: what follows this entry, which may be gone; zero: all */
    const struct mail_id *ids; /* these entries, in their order, whatever else is said; NULL: any */
    size_t id_count;
    bool uncounted; /* lists: nobody asks for the total, so the rest is not looked at */
};
struct queue_item_recipient {
    struct str address;
    struct str last_reply;
    bool done;
};
struct queue_item_kept { /* of what lies in quarantine */
    struct str quarantine, flow, step, why, findings;
    struct str subject, author; /* of the message; empty, with a problem, when it cannot be read */
    struct str problem;
    bool scored;
    int64_t score; /* thousandths */
    int64_t held_since_wall_ns;
    bool digested;
};
struct queue_item {
    struct mail_id entry, message;
    enum queue_state state;
    struct str sender, transport, destination, hold_reason, last_error;
    struct queue_item_recipient *recipients;
    size_t recipient_count;
    uint64_t size;
    int64_t accepted_wall_ns, next_try_wall_ns, give_up_wall_ns, last_try_wall_ns;
    unsigned attempts;
    struct queue_item_kept *kept; /* NULL: it is in no quarantine */
};
struct queue_list {
    struct queue_item *items; /* in `arena`, by the ids of the entries: the oldest first */
    size_t count;
    bool more;    /* there are some behind the last one: the limit, or some MiB, are reached */
    size_t total; /* that matched, unless uncounted */
};
enum result queue_list(struct queue *queue, const struct queue_selector *selector,
                       struct arena *arena, struct queue_list *out, struct error *err);
/* The ids of what is selected (the oldest `limit`), in their order and in `arena`: for an action on
 * exactly these. */
enum result queue_select(struct queue *queue, const struct queue_selector *selector,
                         struct arena *arena, struct mail_id **out_ids, size_t *out_count,
                         struct error *err);
struct queue_action {
    enum queue_verb verb;
    struct str actor, reason;     /* for the audit event */
    enum mail_reason hold_reason; /* QUEUE_HOLD; NONE: admin */
    bool dry_run;                 /* only count */
    /* of what lies in quarantine: */
    bool only_to;    /* RELEASE and DROP: for the recipients that selector.to names, no others */
    bool from_start; /* RELEASE: through the whole flow again, not on behind the step */
    bool expects;    /* do nothing unless so many are selected: */
    size_t expected;
};
struct queue_action_result {
    size_t matched;
    size_t done;       /* what left meanwhile, or is in no state for the verb, is not */
    size_t unreadable; /* of those not done: encrypted with a key that is missing */
    size_t failed; /* of those not done: the spool could not be read or written; order it again */
    bool refused;  /* another number than expected was selected, so nothing was done */
};
enum result queue_act(struct queue *queue, const struct queue_selector *selector,
                      const struct queue_action *action, struct queue_action_result *out,
                      struct error *err);
/* Has each worker all entries that were found at the start? Else actions miss some. */
bool queue_is_known(struct queue *queue);
/* What was written before this call, lazily or not, is on stable storage when OK. */
enum result queue_flush(struct queue *queue, struct error *err);
/* The message as it would be sent; *out_found false if there is none. */
enum result queue_raw(struct queue *queue, struct mail_id id, struct buf *out, bool *out_found,
                      struct error *err);

/* ---- the queue in groups ---- */

enum queue_survey_by { QUEUE_BY_DESTINATION, QUEUE_BY_SENDER, QUEUE_BY_CAUSE, QUEUE_BY_TRANSPORT };
enum {
    QUEUE_AGES = 10,      /* up to 5, 10, 20 … 1280 minutes, and older */
    QUEUE_GROUPS = 10000, /* more are put together as "(others)" */
    QUEUE_GROUP_PLACES = 8,
};
struct queue_survey_group {
    struct str name;            /* destination, domain of the sender, id of the cause; or empty */
    struct str transport;       /* by destination, by transport */
    struct str pattern, sample; /* by cause */
    struct str places[QUEUE_GROUP_PLACES]; /* by cause: destinations */
    size_t place_count;                    /* that were seen; more than fit are only counted */
    uint64_t entries, recipients, bytes;
    uint64_t states[QUEUE_PAUSED + 1]; /* entries in each */
    uint64_t state_bytes[QUEUE_PAUSED + 1];
    bool limited;               /* by transport: a destination waits for its rate */
    uint64_t ages[QUEUE_AGES];  /* entries */
    int64_t oldest_wall_ns;     /* accepted */
    int64_t oldest_due_wall_ns; /* likewise, of those that are not held */
    int64_t last_wall_ns;       /* last try */
    int64_t next_wall_ns;       /* next try; 0: none is planned */
};
struct queue_survey {
    struct queue_survey_group *groups; /* the largest first; in `arena` */
    size_t count;
    uint64_t entries; /* in all of them */
};
enum result queue_survey(struct queue *queue, const struct queue_selector *selector,
                         enum queue_survey_by by, struct arena *arena, struct queue_survey *out,
                         struct error *err);

/* ---- destinations ---- */

enum queue_steer_verb { QUEUE_PAUSE, QUEUE_RESUME, QUEUE_SLOW };
struct queue_steer {
    enum queue_steer_verb verb;
    struct str transport;
    struct str destination;  /* domain, or the server's name; empty: each of the transport */
    struct option_rate slow; /* for QUEUE_SLOW: messages to each destination */
    struct str actor, reason;
};
/*
 * Durable when OK, and in force on every worker. PAUSE: no attempts, and the clock of the mail
 * stands still; what is being sent is finished. RESUME takes all orders back (of the destination,
 * or of the transport with all of its destinations); *out_count says how many.
 */
enum result queue_steer(struct queue *queue, const struct queue_steer *steer, size_t *out_count,
                        struct error *err);
/* Orders in force; see steering.h. */
struct queue_steering_order *queue_orders(struct queue *queue, struct arena *arena,
                                          size_t *out_count);

struct queue_place { /* a destination of a transport */
    struct str transport, name;
    bool paused;
    struct option_rate slow;           /* count 0: no */
    uint64_t states[QUEUE_PAUSED + 1]; /* entries in each */
    uint64_t entries, bytes;
    int64_t oldest_wall_ns;
    unsigned connections; /* open, or being opened */
    int64_t window, max;  /* how many it may have now, and at most; 0: not known */
    unsigned failures;    /* in a row, of reaching it */
    bool probing;
    int64_t probe_wall_ns; /* when it is tried again; 0: it is not backed off */
    int64_t failed_wall_ns;
    struct str last_error;
    uint64_t per_minute; /* messages that it took */
};
struct queue_places {
    struct queue_place *items; /* in `arena` */
    size_t count;
};
/* Of the selector's transport and destination, if it names them. */
enum result queue_places(struct queue *queue, const struct queue_selector *selector,
                         struct arena *arena, struct queue_places *out, struct error *err);

struct queue_probe_target {
    struct str host, address;
    bool ready; /* it would take mail */
    struct str problem;
    struct str tls, cipher; /* empty: clear text */
    int64_t connect_us, greeting_us, tls_us;
};
struct queue_probe {
    bool known;         /* there is such a transport */
    struct str problem; /* there is no way at all */
    int64_t dns_us;
    struct queue_probe_target *targets;
    size_t count;
};
/* Speak to every host that mail to `domain` would be tried at, up to the login, and send nothing.
 */
enum result queue_probe(struct queue *queue, struct str transport, struct str domain,
                        struct arena *arena, struct queue_probe *out, struct error *err);

/* ---- quarantines ---- */

struct queue_quarantine_numbers {
    struct str name;
    uint64_t entries, bytes;
};
/* Of each that has or had something; in `arena`. Any thread. */
struct queue_quarantine_numbers *queue_quarantine_numbers(struct queue *queue, struct arena *arena,
                                                          size_t *out_count);
/* Bytes that lie in it now. Any thread. */
uint64_t queue_quarantine_bytes(struct queue *queue, struct str name);
struct queue_quarantine_limits {
    struct str name;
    int64_t keep_ns; /* since it was accepted */
    uint64_t size;   /* 0: no limit */
};
/* Remove what is older than that, and the oldest of the rest while it is more than that; an event
 * names each. */
enum result queue_quarantine_expire(struct queue *queue,
                                    const struct queue_quarantine_limits *limits, size_t *out_count,
                                    struct error *err);
/* How many lie in a quarantine whose key is missing. Looks at each. */
enum result queue_quarantine_unreadable(struct queue *queue, size_t *out_count, struct error *err);
/* The recipients of these entries were told of them. */
enum result queue_quarantine_digested(struct queue *queue, const struct mail_id *entries,
                                      size_t count, struct error *err);

struct queue_totals {
    uint64_t accepted, generated, delivered, failed_dsn, failed_silent, quarantined, discarded,
        dropped, damaged;
    uint64_t ready, waiting, inflight, held; /* recipients in the queue now */
    uint64_t unloaded; /* of these, recipients not loaded yet after a start; not in the others */
    bool loading;
    uint64_t entries, bytes, oldest_ns;
};
struct queue_totals queue_totals(struct queue *queue);
/* accepted + generated - (everything that left) - (everything that is here): 0, but for what is
 * just moving. */
int64_t queue_balance(const struct queue_totals *totals);
