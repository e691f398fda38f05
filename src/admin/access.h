/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/access.h - who may ask the API for what: tokens, and what each may do.
 *
 * A token is 160 random bits behind "pst_", shown once when it is made; tokens.json in the spool's
 * folder keeps its SHA-256 only. Functions may be called from any thread.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <jansson.h>

/* Who may do the first may do all; a route that says nothing is for the first only. */
enum admin_scope {
    ADMIN_SCOPE_ADMIN,   /* also: the text of mail, sending, tokens */
    ADMIN_SCOPE_OPERATE, /* also: steer queue and transports */
    ADMIN_SCOPE_READ,    /* look at numbers, queue and history */
    ADMIN_SCOPE_NONE,    /* may ask nothing; as a route's: everybody */
};
const char *admin_scope_name(enum admin_scope scope);
/* False for a word that is no scope. */
bool admin_scope_parse(struct str word, enum admin_scope *out_scope);

struct admin_access;

/* Reads tokens.json in `folder`; a file that is not there is no token. FAILED: it cannot be read or
 * is none of ours, and then nobody should be let in or out of it. */
enum result admin_access_open(struct str folder, struct admin_access **out_access,
                              struct error *err);
/* NULL is allowed. */
void admin_access_close(struct admin_access *access);

struct admin_token_wish {
    struct str name; /* letters, digits, "-", "_", ".": at most 64 */
    enum admin_scope scope;
    int64_t expires_wall_ns; /* TIME_NEVER: never */
    struct str by;           /* who makes it */
};
enum admin_token_result { ADMIN_TOKEN_MADE, ADMIN_TOKEN_EXISTS, ADMIN_TOKEN_TOO_MANY };
/* On disk when it returns. *out_token in `arena`: the only time that it can be seen. FAILED: it
 * could not be written, and does not exist. */
enum result admin_token_create(struct admin_access *access, const struct admin_token_wish *wish,
                               struct arena *arena, enum admin_token_result *out_result,
                               struct str *out_token, struct error *err);
/* FAILED: it could not be written; the token is refused all the same until the next start. */
enum result admin_token_revoke(struct admin_access *access, struct str name, bool *out_found,
                               struct error *err);
/* [{"name", "scope", "created", "expires", "by", "last_used"}], without anything secret. */
json_t *admin_token_list(struct admin_access *access);

/* The value of the field Authorization, "Bearer pst_…": the token's name (in `arena`) and scope. */
bool admin_access_check(struct admin_access *access, struct str authorization, struct arena *arena,
                        struct str *out_name, enum admin_scope *out_scope);
/*
 * Count a refusal. False when there were more than 10 in this minute: nobody is told of it any more
 * (the bits of a token cannot be guessed; what is bounded is the noise). A right token is always
 * let in, so nobody can lock others out.
 */
bool admin_access_refusal(struct admin_access *access);
