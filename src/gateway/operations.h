/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/operations.h - what administration may ask of the running gateway.
 *
 * Every call comes from a thread that is no worker, and blocks until the workers have answered.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "mail/id.h"
#include "mail/reply.h"
#include "smtp/server.h"

struct gateway;
struct queue;

struct gateway_listener_status {
    struct str name;
    struct str *addresses;
    size_t address_count;
    uint64_t sessions; /* now */
};

struct gateway_status {
    bool draining;
    bool delivery_paused;
    bool has_room; /* the spool takes mail */
    struct str hostname;
    struct str revision; /* of the configuration: "r41" */
    struct str config_path;
    int64_t started_wall_ns;
    int64_t applied_wall_ns; /* the configuration in force */
    size_t workers;
    uint64_t sessions_now;
    uint64_t sessions_total;
    uint64_t messages_accepted;
    uint64_t protected_mailboxes;
    uint64_t incidents_open; /* accounts that are contained */
    uint64_t events_dropped;
    struct gateway_listener_status *listeners;
    size_t listener_count;
    int certificate_days_left; /* of the earliest to end; INT_MAX without certificates */
};
/* Texts in `arena`. */
void gateway_status(struct gateway *gateway, struct arena *arena, struct gateway_status *out);

struct gateway_certificate {
    struct str name, file;
    int64_t ends_at_s; /* since 1970 */
};
/* Of the listeners, each once; in `arena`. */
struct gateway_certificate *gateway_certificates(struct gateway *gateway, struct arena *arena,
                                                 size_t *out_count);

struct gateway_spool_numbers {
    bool has_room;
    uint64_t units, syncs, bytes_written, segments, live_bytes, disk_bytes;
};
void gateway_spool_numbers(struct gateway *gateway, struct gateway_spool_numbers *out);

/* Replies to clients of sessions that have ended, by what they answer and their first digit less 2.
 */
struct gateway_replies {
    struct str listener;
    uint64_t counts[SMTP_ANSWERED_COUNT][SMTP_REPLY_CLASSES];
};
/* One a listener that had sessions; in `arena`. */
struct gateway_replies *gateway_replies(struct gateway *gateway, struct arena *arena,
                                        size_t *out_count);

struct gateway_worker_numbers {
    uint64_t fibers, turns;
    int64_t longest_turn_ns;
};
/* One a worker; in `arena`. Does not wait for the workers. */
struct gateway_worker_numbers *gateway_worker_numbers(struct gateway *gateway, struct arena *arena,
                                                      size_t *out_count);

/* The configuration in force; the caller unrefs it. */
struct settings *gateway_settings_ref(struct gateway *gateway);

/* Of all workers. */
struct dns_numbers;
void gateway_dns_numbers(struct gateway *gateway, struct dns_numbers *out);

struct queue *gateway_queue(struct gateway *gateway);

struct gateway_transport {
    struct str name, method, server, direction;
    int64_t limit_connections;
    uint64_t limit_count; /* messages to a destination; 0: no limit */
    int64_t limit_period_ns;
};
/* Of the configuration in force; in `arena`. */
struct gateway_transport *gateway_transports(struct gateway *gateway, struct arena *arena,
                                             size_t *out_count);

/* The record of DMARC of a domain, and who may be sent reports about it; in `arena`. FAILED: no
 * answer from DNS now. Without a record there are no addresses. */
struct gateway_report_address {
    struct str address;
    uint64_t max_bytes; /* 0: no limit */
};
struct gateway_report_policy {
    struct str p, sp, np; /* or empty */
    bool strict_dkim, strict_spf, testing;
    struct gateway_report_address addresses[5];
    size_t address_count;
};
enum result gateway_report_policy(struct gateway *gateway, struct str domain,
                                  struct str organization, struct arena *arena,
                                  struct gateway_report_policy *out, struct error *err);

/* ---- quarantines ---- */

struct spool_vault;
/* The keys that mail in quarantine is encrypted with. */
struct spool_vault *gateway_vault(struct gateway *gateway);

struct gateway_quarantine {
    struct str name;
    int64_t keep_ns;
    uint64_t size;
    bool defers;       /* when it is full; else the oldest goes */
    bool by_recipient; /* recipients may release */
    bool daily;        /* digests */
    int64_t digest_at_ns;
    struct str from, link, hostname;
};
/* Of the configuration in force; in `arena`. */
struct gateway_quarantine *gateway_quarantines(struct gateway *gateway, struct arena *arena,
                                               size_t *out_count);
/* Is it at a domain that the configuration lists? Nobody else is sent a digest. */
bool gateway_is_own_recipient(struct gateway *gateway, struct str address);
/*
 * Send a message of our own (canonical, with its header, from <>) past all flows, signed as others
 * of its author. In the queue when OK; ERROR_PERMANENT: nobody takes mail for that address.
 */
enum result gateway_notify(struct gateway *gateway, struct str to, struct str data,
                           struct arena *arena, struct mail_id *out_message, struct error *err);

/*
 * Put a message in as if a user of ours had sent it: domain choice, content flow, spool. Recipient
 * flows are skipped (the operator decides). `data` is made canonical (CRLF). *out_reply is what a
 * client would have heard. *message: the id that it is to bear, or zero, and then its id.
 */
enum result gateway_inject(struct gateway *gateway, struct str sender, const struct str *recipients,
                           size_t recipient_count, struct str data, struct mail_id *message,
                           struct arena *arena, struct mail_reply *out_reply, struct error *err);
