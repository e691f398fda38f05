/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/tls.h - TLS contexts (OpenSSL): certificates chosen by SNI, trust, versions.
 *
 * A context is immutable after it was made and may be shared by threads; certificates behind it are
 * swapped whole when their files change.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"

struct tls_context;

struct tls_certificate_files {
    struct str name;      /* as in the configuration, for events */
    struct str cert_path; /* chain, PEM */
    struct str key_path;
};

struct tls_server_settings {
    const struct tls_certificate_files *certificates; /* the first serves clients without SNI */
    size_t count;
    int min_version;    /* 12 or 13 */
    struct str ciphers; /* TLS 1.2 list, or empty for the default */
};
struct tls_client_settings {
    bool verify;
    struct str ca_path; /* empty: the system's store */
    int min_version;    /* 10, 11, 12 or 13 */
    /* One with the same ca_path, whose certificates are used by both: reading and holding those of
     * the system once a server costs 50 ms and a megabyte each. NULL: they are read. */
    const struct tls_context *trust_of;
};

enum result tls_server_new(const struct tls_server_settings *settings,
                           struct tls_context **out_context, struct error *err);
enum result tls_client_new(const struct tls_client_settings *settings,
                           struct tls_context **out_context, struct error *err);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context *context); /* NULL is allowed */
/* Read certificate files again if they changed (blocks: off the loop); emits events; a bad file
 * keeps the old certificate. */
void tls_context_refresh(struct tls_context *context);
/* Is one of the certificates for this host name? */
bool tls_context_has_name(const struct tls_context *context, struct str name);
struct arena;
struct tls_certificate_end {
    struct str name, file;
    int64_t ends_at_s; /* since 1970; the earliest of its chain */
};
/* Of each certificate of a server; in `arena`. */
size_t tls_context_ends(const struct tls_context *context, struct arena *arena,
                        struct tls_certificate_end **out);
/* Days until the earliest certificate ends. */
int tls_context_days_left(const struct tls_context *context);
/* Is there a certificate that is valid only later? */
bool tls_context_is_early(const struct tls_context *context);
