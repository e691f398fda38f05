/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dkim.h - DomainKeys Identified Mail: verifying and making signatures (RFC 6376, with
 * the algorithms of RFC 8301 and RFC 8463).
 *
 * The body is hashed as it is read, once a canonicalisation, whoever asks: the struct dkim_message
 * remembers the hashes, for DKIM and for ARC.
 */
#pragma once

#include "base/arena.h"
#include "mail/body.h"
#include "net/dns.h"

struct sign_key;

enum {
    DKIM_SIGNATURES_MAX = 8, /* that are looked at; further ones are counted only */
    DKIM_HASH_SIZE = 32,
};

/* ---- what is looked at ---- */

enum dkim_canon { DKIM_SIMPLE, DKIM_RELAXED, DKIM_CANON_COUNT };

struct dkim_body_hash {
    bool known;
    uint64_t size; /* octets of the body after canonicalisation */
    unsigned char hash[DKIM_HASH_SIZE];
};
struct dkim_message {
    const struct mail_content *content;
    struct str header; /* the first header.len octets of the content, with the empty line */
    struct str author; /* a domain whose signatures are asked about first, or empty */
    struct dkim_body_hash bodies[DKIM_CANON_COUNT];
};
/* Both are borrowed for as long as the message is used; flow_facts.header is such a header. */
void dkim_message_init(struct dkim_message *message, const struct mail_content *content,
                       struct str header);

/* Where keys come from. `text` answers as dns_query_txt does (FAILED: temperror); it may suspend.
 * Tests and replays give their own. */
struct dkim_dns {
    enum result (*text)(void *context, struct str name, struct arena *arena,
                        struct dns_text_answer *out, struct error *err);
    void *context;
};

/* ---- verifying ---- */

/* The results of RFC 8601 2.7.1. */
enum dkim_result {
    DKIM_NONE,    /* there is no signature */
    DKIM_PASS,    /* every octet of the body and the named fields are as they were signed */
    DKIM_FAIL,    /* body or fields were changed, or the signature was not made with this key */
    DKIM_POLICY,  /* not taken: l= leaves part of the body unsigned; or one key too many */
    DKIM_NEUTRAL, /* a key or signature that says nothing: an algorithm we do not know, expired */
    DKIM_TEMPERROR,
    DKIM_PERMERROR,
};
const char *dkim_result_name(enum dkim_result result);

struct dkim_signature {
    enum dkim_result result;
    struct str domain;    /* d=, lower case A-labels; empty if it is no host name */
    struct str selector;  /* s=; likewise */
    struct str identity;  /* i= as it stands, or "@" and the domain */
    struct str algorithm; /* a=, lower case, or empty */
    struct str start;     /* first 8 characters of b=, for header.b (RFC 6008) */
    struct str detail;    /* why, in a few words of ASCII; "" with pass and nothing to say */
    bool testing;         /* the key says t=y: the domain only tries */
};
struct dkim_answer {
    struct dkim_signature signatures[DKIM_SIGNATURES_MAX]; /* from the top of the header down */
    size_t count;
    size_t ignored;          /* further ones */
    enum dkim_result result; /* the best one: pass before temperror before the rest; or none */
};
/*
 * Check the DKIM-Signature fields. What is in the message and in DNS is an answer; FAILED only if
 * the body could not be read, or the fiber was cancelled or is out of time. Texts live in `arena`.
 */
enum result dkim_verify(struct dkim_message *message, const struct dkim_dns *dns,
                        struct arena *arena, struct dkim_answer *out, struct error *err) MAY_YIELD;

/* ---- signing ---- */

struct dkim_signer {
    struct str domain;          /* A-labels */
    struct str selector;        /* likewise */
    const struct sign_key *key; /* private */
    enum dkim_canon header, body;
    int64_t valid_s; /* x= is that much later; 0: no x= */
};
/*
 * A whole DKIM-Signature field with its final CRLF, in `arena`. Signed are the fields of RFC 6376
 * 5.4.1 that are there, and once more than they are there those that nobody may add. FAILED: as
 * with dkim_verify, or the key could not sign.
 */
enum result dkim_sign(struct dkim_message *message, const struct dkim_signer *signer,
                      struct arena *arena, struct str *out_field, struct error *err) MAY_YIELD;
