/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates: reading, the names they serve, and which one a client gets.
 */
#include "base/clock.h"
#include "base/memory.h"
#include "net/tls_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NAMES_MAX = 1000, CHAIN_MAX = 10, KEY_FILE_MAX = 256 * 1024 };

struct tls_file_stamp tls_file_stamp(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return (struct tls_file_stamp){0};
    return (struct tls_file_stamp){
        .mtime_ns = (int64_t)info.st_mtim.tv_sec * NS_PER_S + info.st_mtim.tv_nsec,
        .inode = info.st_ino,
        .size = (uint64_t)info.st_size,
    };
}

bool tls_file_stamp_equal(const struct tls_file_stamp *a, const struct tls_file_stamp *b)
{
    return a->mtime_ns == b->mtime_ns && a->inode == b->inode && a->size == b->size;
}

enum result tls_fail(struct error *err, enum error_kind kind, const char *doing)
{
    /* the first entry is where it went wrong; those after it are its callers */
    unsigned long code = ERR_get_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    if (code && ERR_SYSTEM_ERROR(code))
        (void)fail_errno(err, ERR_GET_REASON(code), "%s", doing);
    else
        (void)fail(err, kind, "%s: %s", doing, reason ? reason : "unknown TLS error");
    ERR_clear_error();
    return FAILED;
}

/* ---- life cycle ---- */

struct tls_certificate *tls_certificate_ref(struct tls_certificate *certificate)
{
    atomic_fetch_add(&certificate->references, 1);
    return certificate;
}

void tls_certificate_unref(struct tls_certificate *certificate)
{
    if (!certificate || atomic_fetch_sub(&certificate->references, 1) != 1)
        return;
    X509_free(certificate->leaf);
    sk_X509_pop_free(certificate->chain, X509_free);
    EVP_PKEY_free(certificate->key);
    for (size_t i = 0; i < certificate->name_count; i++)
        free((char *)certificate->names[i].ptr);
    free(certificate->names);
    free(certificate);
}

void tls_certificates_unref(struct tls_certificates *certificates)
{
    if (!certificates || atomic_fetch_sub(&certificates->references, 1) != 1)
        return;
    for (size_t i = 0; i < certificates->count; i++)
        tls_certificate_unref(certificates->items[i]);
    free(certificates);
}

/* ---- reading ---- */

/* OpenSSL would ask at the terminal. */
static int refuse_password(char *out, int size, int writing, void *arg)
{
    (void)out, (void)size, (void)writing, (void)arg;
    return -1;
}

static enum result open_file(const char *path, BIO **out, struct error *err)
{
    ERR_clear_error();
    *out = BIO_new_file(path, "r");
    if (!*out) {
        (void)tls_fail(err, ERROR_PERMANENT, "cannot open");
        return fail_context(err, "%s", path);
    }
    return OK;
}

static enum result read_chain(const char *path, struct tls_certificate *certificate,
                              struct error *err)
{
    BIO *file;
    if (open_file(path, &file, err) == FAILED)
        return FAILED;
    enum result result = OK;
    certificate->leaf = PEM_read_bio_X509_AUX(file, NULL, refuse_password, NULL);
    if (!certificate->leaf) {
        (void)tls_fail(err, ERROR_PERMANENT, "holds no certificate in PEM form");
        result = fail_context(err, "%s", path);
    }
    for (int i = 0; result == OK && i < CHAIN_MAX; i++) {
        X509 *issuer = PEM_read_bio_X509(file, NULL, refuse_password, NULL);
        if (!issuer)
            break;
        sk_X509_push(certificate->chain, issuer);
    }
    ERR_clear_error(); /* the end of the file is an error too */
    BIO_free(file);
    return result;
}

/* Not through a stream, whose buffer would keep what was read. */
static enum result read_key_text(const char *path, char text[KEY_FILE_MAX], size_t *out_len,
                                 struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = 0;
    *out_len = 0;
    while (fd >= 0 && *out_len < KEY_FILE_MAX &&
           (got = read(fd, text + *out_len, KEY_FILE_MAX - *out_len)) > 0)
        *out_len += (size_t)got;
    int code = errno;
    if (fd >= 0)
        close(fd);
    if (fd < 0 || got < 0)
        return fail_errno(err, code, "%s: cannot %s", path, fd < 0 ? "open" : "read");
    return OK;
}

static enum result read_key(const char *path, struct tls_certificate *certificate,
                            struct error *err)
{
    char *text = memory_alloc(KEY_FILE_MAX);
    size_t len = 0;
    enum result result = read_key_text(path, text, &len, err);
    if (result == OK) {
        ERR_clear_error();
        BIO *file = BIO_new_mem_buf(text, (int)len);
        certificate->key = PEM_read_bio_PrivateKey(file, NULL, refuse_password, NULL);
        BIO_free(file);
    }
    /* "BEGIN ENCRYPTED PRIVATE KEY", or "Proc-Type: 4,ENCRYPTED" behind another BEGIN */
    bool is_encrypted = result == OK && str_find_str(str_of(text, len), STR("ENCRYPTED")) >= 0;
    memory_wipe(text, KEY_FILE_MAX);
    free(text);
    if (result != OK)
        return FAILED;
    if (!certificate->key) {
        if (is_encrypted)
            (void)fail(err, ERROR_PERMANENT,
                       "the key is encrypted, and nobody is there to type its passphrase");
        else
            (void)tls_fail(err, ERROR_PERMANENT, "holds no private key in PEM form");
        return fail_context(err, "%s", path);
    }
    return OK;
}

static int64_t seconds_of(const ASN1_TIME *time)
{
    struct tm moment;
    return ASN1_TIME_to_tm(time, &moment) == 1 ? timegm(&moment) : 0;
}

static void narrow(struct tls_certificate *certificate, const X509 *x509)
{
    int64_t begin = seconds_of(X509_get0_notBefore(x509));
    int64_t end = seconds_of(X509_get0_notAfter(x509));
    if (begin > certificate->begins_at_s)
        certificate->begins_at_s = begin;
    if (end < certificate->ends_at_s)
        certificate->ends_at_s = end;
}

static void learn_times(struct tls_certificate *certificate)
{
    certificate->begins_at_s = INT64_MIN;
    certificate->ends_at_s = INT64_MAX;
    narrow(certificate, certificate->leaf);
    for (int i = 0; i < sk_X509_num(certificate->chain); i++)
        narrow(certificate, sk_X509_value(certificate->chain, i));
}

/* ---- names ---- */

static void add_name(struct tls_certificate *certificate, const ASN1_STRING *text)
{
    struct str name = {(const char *)ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text)};
    if (name.len == 0 || name.len > 253 || str_has_nul(name) ||
        certificate->name_count >= NAMES_MAX)
        return;
    char *copy = memory_alloc(name.len + 1);
    for (size_t i = 0; i < name.len; i++)
        copy[i] = ascii_lower(name.ptr[i]);
    certificate->names = memory_resize_array(certificate->names, certificate->name_count + 1,
                                             sizeof certificate->names[0]);
    certificate->names[certificate->name_count++] = (struct str){copy, name.len};
}

static void learn_names(struct tls_certificate *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate->leaf, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS)
            add_name(certificate, name->d.dNSName);
    }
    GENERAL_NAMES_free(names);
    if (certificate->name_count)
        return;
    X509_NAME *subject = X509_get_subject_name(certificate->leaf);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at >= 0)
        add_name(certificate, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

static bool name_covers(struct str pattern, struct str name)
{
    if (!str_starts(pattern, STR("*.")))
        return str_equal(pattern, name);
    ptrdiff_t dot = str_find(name, '.');
    return dot > 0 && str_equal(str_from(pattern, 1), str_from(name, (size_t)dot));
}

bool tls_certificate_serves(const struct tls_certificate *certificate, struct str name)
{
    for (size_t i = 0; i < certificate->name_count; i++)
        if (name_covers(certificate->names[i], name))
            return true;
    return false;
}

/* ---- use ---- */

static bool give(const struct tls_certificate *certificate, SSL *ssl)
{
    return SSL_use_cert_and_key(ssl, certificate->leaf, certificate->key, certificate->chain,
                                /* override= */ 1) == 1;
}

static enum result try_on(SSL_CTX *context, const struct tls_certificate *certificate,
                          struct error *err)
{
    ERR_clear_error();
    SSL *ssl = SSL_new(context);
    enum result result = OK;
    if (!ssl || !give(certificate, ssl))
        result = tls_fail(err, ERROR_PERMANENT, "certificate and key cannot be used");
    SSL_free(ssl);
    return result;
}

enum result tls_certificate_load(SSL_CTX *ssl, const char *cert_path, const char *key_path,
                                 struct tls_certificate **out, struct error *err)
{
    struct tls_certificate *certificate = NEW(struct tls_certificate);
    atomic_init(&certificate->references, 1);
    certificate->chain = sk_X509_new_null();
    if (read_chain(cert_path, certificate, err) == FAILED ||
        read_key(key_path, certificate, err) == FAILED || try_on(ssl, certificate, err) == FAILED) {
        tls_certificate_unref(certificate);
        return FAILED;
    }
    learn_times(certificate);
    learn_names(certificate);
    *out = certificate;
    return OK;
}

/* Give every certificate for `name`, the first of each kind of key. */
static bool give_matching(const struct tls_certificates *certificates, struct str name, SSL *ssl)
{
    int kinds[8];
    size_t given = 0;
    for (size_t i = 0; i < certificates->count && given < 8; i++) {
        const struct tls_certificate *certificate = certificates->items[i];
        if (!tls_certificate_serves(certificate, name))
            continue;
        int kind = EVP_PKEY_get_base_id(certificate->key);
        bool taken = false;
        for (size_t k = 0; k < given; k++)
            taken |= kinds[k] == kind;
        if (taken || !give(certificate, ssl))
            continue;
        kinds[given++] = kind;
    }
    return given > 0;
}

bool tls_certificates_choose(const struct tls_certificates *certificates, struct str name, SSL *ssl)
{
    SSL_certs_clear(ssl);
    if (name.len && give_matching(certificates, name, ssl))
        return true;
    /* the first one serves everybody else, with its siblings of other key kinds */
    const struct tls_certificate *first = certificates->items[0];
    if (first->name_count && !str_starts(first->names[0], STR("*.")) &&
        give_matching(certificates, first->names[0], ssl))
        return true;
    return give(first, ssl);
}
