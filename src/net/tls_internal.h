/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/tls_internal.h - what contexts, certificates and sessions share: the one door to libssl.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"
#include "net/tls.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* What tells one state of a file from another. */
struct tls_file_stamp {
    int64_t mtime_ns;
    uint64_t inode, size;
};

/* A certificate as it was read; immutable. */
struct tls_certificate {
    atomic_uint references;
    X509 *leaf;
    STACK_OF(X509) * chain;
    EVP_PKEY *key;
    int64_t begins_at_s; /* the latest beginning */
    int64_t ends_at_s;   /* the earliest end in leaf and chain, seconds since 1970 */
    struct str *names;   /* lower case; "*.example.net" stands for one label */
    size_t name_count;
};

/* The certificates of a context; immutable. */
struct tls_certificates {
    atomic_uint references;
    size_t count;
    struct tls_certificate *items[];
};

struct tls_slot {
    struct str name;
    char *cert_path, *key_path;
    struct tls_file_stamp stamps[2]; /* of the files read last, good or bad */
};

struct tls_ticket_key {
    unsigned char name[16], cipher[32], mac[32];
    int64_t made_ns;
    bool usable;
};

struct tls_context {
    atomic_uint references;
    bool is_server, verify;
    SSL_CTX *ssl;
    BIO_METHOD *carrier_method;
    /*
     * The one lock in this module, held for a pointer and a count: contexts are shared by all
     * workers, and the set behind them changes while handshakes go on.
     */
    pthread_mutex_t lock;
    struct tls_certificates *certificates; /* server only */
    struct tls_ticket_key ticket_keys[2];  /* the present one and the one before */

    /* of the thread that refreshes */
    pthread_mutex_t refresh_lock;
    struct tls_slot *slots;
    size_t slot_count;
};

/* ---- certificates (tls_certificate.c) ---- */

struct tls_file_stamp tls_file_stamp(const char *path);
bool tls_file_stamp_equal(const struct tls_file_stamp *a, const struct tls_file_stamp *b);
/* Reads and tries them on `ssl`, so that a wrong key or one too weak is found here. Blocks. */
enum result tls_certificate_load(SSL_CTX *ssl, const char *cert_path, const char *key_path,
                                 struct tls_certificate **out, struct error *err);
void tls_certificate_unref(struct tls_certificate *certificate);
struct tls_certificate *tls_certificate_ref(struct tls_certificate *certificate);
/* `name` in lower case. */
bool tls_certificate_serves(const struct tls_certificate *certificate, struct str name);
void tls_certificates_unref(struct tls_certificates *certificates);
/* Give the connection what serves `name` (empty: the default), one for each kind of key. */
bool tls_certificates_choose(const struct tls_certificates *certificates, struct str name,
                             SSL *ssl);

/* The current set, with a reference. */
struct tls_certificates *tls_context_certificates(struct tls_context *context);

/* ---- errors ---- */

/* Fill `err` from OpenSSL's queue of this thread and empty that. */
enum result tls_fail(struct error *err, enum error_kind kind, const char *doing);

/* ---- tickets (tls_ticket.c) ---- */

/* As SSL_CTX_set_tlsext_ticket_key_evp_cb() asks for it. */
int tls_ticket_use_key(struct tls_context *context, unsigned char name[16], unsigned char *iv,
                       EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool encrypt);

/* ---- sessions (tls_session.c) ---- */

BIO_METHOD *tls_carrier_method_new(void);
/* Callbacks of server contexts. */
int tls_on_server_name(SSL *ssl, int *alert, void *context);
int tls_on_certificate(SSL *ssl, void *context);
int tls_on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                  EVP_MAC_CTX *mac, int encrypt);
int tls_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                const unsigned char *in, unsigned in_len, void *context);
