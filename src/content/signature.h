/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/signature.h - what DKIM-Signature, ARC-Message-Signature and ARC-Seal have in common:
 * their tags, and the hash of header fields that they sign.
 */
#pragma once

#include "content/dkim_key.h"
#include "content/fields.h"
#include "content/tags.h"

enum signature_type { SIGNATURE_DKIM, SIGNATURE_ARC_MESSAGE, SIGNATURE_ARC_SEAL };

enum { SIGNATURE_NAMES_MAX = 512 }; /* in h= */

struct signature { /* in the arena, or slices of the field */
    enum signature_type type;
    struct mail_field field;
    struct tags tags;
    enum sign_kind kind;
    struct str algorithm, domain, selector, identity, start;
    struct str names; /* h= as it stands */
    enum dkim_canon header, body;
    bool has_length;
    uint64_t length;
    unsigned char body_hash[SHA256_SIZE];
    char bytes[SIGN_BYTES_MAX]; /* b= */
    size_t size;
};

/*
 * Read a signature's field. PASS: it can be checked; else PERMERROR or NEUTRAL and *out_detail says
 * why (domain, selector and algorithm are filled as far as they can be told). `now_s` is seconds
 * since 1970, for x=.
 */
enum dkim_result signature_parse(const struct mail_field *field, enum signature_type type,
                                 int64_t now_s, struct arena *arena, struct signature *out,
                                 const char **out_detail);
/* The hash that a DKIM-Signature or ARC-Message-Signature signs: the fields of h=, then its own. */
void signature_hash(const struct signature *signature, struct fields *fields,
                    unsigned char out_hash[SHA256_SIZE]);
/* Fetch the key and check the signature over `hash`. As dkim_key_fetch; *out_key as far as had. */
enum result signature_check(const struct signature *signature,
                            const unsigned char hash[SHA256_SIZE], const struct dkim_dns *dns,
                            struct arena *arena, struct dkim_key *out_key,
                            enum dkim_result *out_result, const char **out_detail,
                            struct error *err) MAY_YIELD;
/* Compare the body with bh=, for which its hash is known; PASS, FAIL, POLICY or PERMERROR. */
enum dkim_result signature_check_body(const struct signature *signature,
                                      const struct dkim_message *message, const char **out_detail);
