/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/entry.h - the bytes of an entry: what never changes (meta) and what does (record).
 *
 * Both are versioned and length-prefixed, little endian. The decoders take bytes from disk and
 * trust nothing. FORMAT: see entry.c.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "mail/envelope.h"
#include "mail/reply.h"

enum {
    QUEUE_META_OWN_USER = 1 << 0,
    QUEUE_META_SENDER_VERIFIED = 1 << 1,
    QUEUE_META_HAS_8BIT = 1 << 2,
    QUEUE_META_HEADER_UTF8 = 1 << 3,
    QUEUE_META_DSN = 1 << 4,        /* made by us: a failure of it is never bounced */
    QUEUE_META_POSTMASTER = 1 << 5, /* a failed DSN on its way to postmaster */
    QUEUE_META_SEALED = 1 << 6,     /* its content is stored encrypted (spool/vault.h) */
};

enum {
    QUEUE_META_MAX = 1 << 20,
    QUEUE_RECORD_MAX = 4096,
    QUEUE_RECIPIENTS_MAX = 100, /* in one entry that is delivered (RFC 5321 4.5.3.1.8) */
};

/* Why a content flow keeps a message: for people, for the quarantine, and for going on. */
struct queue_kept {
    struct str step;       /* of the content flow that kept it: a release goes on behind it */
    struct str quarantine; /* its name; empty: it is held */
    struct str why;        /* in words; may be empty */
    struct str findings;   /* "step name text" a line; may be empty */
    bool scored;
    int64_t score; /* thousandths */
    /* "subject\nauthor" of what goes into a quarantine; behind queue_submit sealed, or empty */
    struct str label;
};

struct queue_meta {
    struct mail_id message;
    struct mail_id session;
    int64_t accepted_wall_ns;
    unsigned flags;
    struct mail_sender sender;
    struct str fairness_key;
    struct str origin;
    struct str transport;
    struct str content_flow; /* still to run, or empty */
    struct queue_kept kept;  /* by that flow; all empty: it has not kept the message */
    struct mail_recipient *recipients;
    size_t recipient_count;
};

enum queue_status { QUEUE_STATUS_PENDING, QUEUE_STATUS_DONE };

/* The last that was said about a recipient. */
struct queue_said {
    struct mail_reply reply; /* code 0: our own finding, in text and enhanced */
    struct str mta;          /* who said it; empty: we */
};

struct queue_record {
    bool held;
    enum mail_reason reason;
    bool delay_told;
    bool digested; /* its recipients were told that it is in quarantine */
    unsigned attempts;
    int64_t due_wall_ns; /* next attempt */
    int64_t last_try_wall_ns;
    int64_t held_since_wall_ns;
    int64_t held_total_ns; /* the clock stood still that long */
    size_t recipient_count;
    unsigned char *status;    /* enum queue_status each */
    struct queue_said **said; /* NULL: nothing yet */
};

/* The same in parts: what differs from entry to entry, and what many have in common (who is done,
 * and the words of the last answer; the times of a hold, of the few that have them). */
struct queue_record_fixed {
    int64_t due_wall_ns, last_try_wall_ns;
    uint32_t attempts;
    uint8_t flags;
    uint8_t reason; /* enum mail_reason */
};

/* Append; the buf overflows when it is too small. */
void queue_meta_encode(const struct queue_meta *meta, struct buf *out);
/* Everything is copied into `arena`. False: not ours, or damaged. */
bool queue_meta_decode(struct str bytes, struct arena *arena, struct queue_meta *out);

/*
 * The same in memory, in parts: `common` is what many entries share (sender, transport, flow),
 * `own` what is left without message and accepted_wall_ns. The domain of a single recipient is a
 * part of its own (`out_domain`, of meta; empty: it stands in `own`).
 */
void queue_meta_split(const struct queue_meta *meta, struct buf *common, struct str *out_domain,
                      struct buf *own);
/* What split wrote of the meta of `message`; accepted_wall_ns is the caller's to set. */
bool queue_meta_read(struct mail_id message, struct str common, struct str domain, struct str own,
                     struct arena *arena, struct queue_meta *out);

/* All pending, nothing said. */
void queue_record_init(struct queue_record *record, size_t recipient_count, struct arena *arena);
size_t queue_record_pending(const struct queue_record *record);
/* Append at most QUEUE_RECORD_MAX bytes: long texts are cut, and the rarest words left out. */
void queue_record_encode(const struct queue_record *record, struct buf *out);
/* encode = split, then join; the tail has at most QUEUE_RECORD_MAX bytes and is often empty. */
void queue_record_split(const struct queue_record *record, struct queue_record_fixed *out_fixed,
                        struct buf *tail);
void queue_record_join(const struct queue_record_fixed *fixed, struct str tail,
                       size_t recipient_count, struct buf *out);
/* Was the sender told of the delay? */
bool queue_record_delay_told(const struct queue_record_fixed *fixed);
bool queue_record_read(const struct queue_record_fixed *fixed, struct str tail,
                       size_t recipient_count, struct arena *arena, struct queue_record *out);
bool queue_record_decode(struct str bytes, size_t recipient_count, struct arena *arena,
                         struct queue_record *out);
