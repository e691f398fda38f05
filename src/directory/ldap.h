/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/ldap.h - one question to an LDAP directory, with blocking calls: the door to libldap.
 *
 * Runs on the threads of a lane. Knows LDAP results and what they mean for logins and recipients;
 * knows nothing of fibers, configuration or flows.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "directory/directory_internal.h"

/* Where and as whom; all texts end in NUL and belong to the job. */
struct ldap_access {
    const char *const *urls; /* tried in order, the one that answered last first */
    size_t url_count;
    const char *ca_file;       /* or NULL */
    const char *bind_dn;       /* of the service; NULL: anonymous */
    const char *bind_password; /* or NULL */
    bool starttls;
    bool verify;         /* the certificate */
    uint64_t hash;       /* of all the above: a kept connection must have the same */
    int64_t deadline_ns; /* monotonic */
};

/* What came of it. `fault`: the directory could not be asked (not: it said something unwelcome).
 * `reached`: the fault came when it had taken us in and looked at this very question. */
struct ldap_outcome {
    bool fault;
    bool reached;
    struct error error; /* when the answer is the outcome `error` */
    struct str *senders;
    size_t sender_count;
};

/* Search, then bind as the one entry found. `senders`: attribute, or NULL. */
enum directory_login ldap_login_search(struct directory_backend *backend,
                                       const struct ldap_access *access, const char *base,
                                       const char *filter, const char *senders, struct str password,
                                       struct arena *arena, struct ldap_outcome *out);
/* Bind as `dn`. */
enum directory_login ldap_login_bind(struct directory_backend *backend,
                                     const struct ldap_access *access, const char *dn,
                                     const char *senders, struct str password, struct arena *arena,
                                     struct ldap_outcome *out);
enum directory_lookup ldap_lookup(struct directory_backend *backend,
                                  const struct ldap_access *access, const char *base,
                                  const char *filter, struct ldap_outcome *out);

/* The meaning of result codes, as pure functions. `direct`: bound without a search before. */
enum directory_login ldap_judge_user_bind(int code, bool direct);
enum directory_login ldap_judge_login_search(int code, int entries); /* YES: exactly one */
enum directory_lookup ldap_judge_lookup_search(int code, int entries);
