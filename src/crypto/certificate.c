/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/certificate.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <unistd.h>

enum { VALID_DAYS = 825 };

static bool add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool added = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static X509 *make(EVP_PKEY *key, const char *host)
{
    char names[300];
    snprintf(names, sizeof names, "DNS:%s", host);
    X509 *certificate = X509_new();
    X509_NAME *name = X509_NAME_new();
    bool good = certificate && name && X509_set_version(certificate, 2) == 1 &&
                ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate),
                                       (int64_t)getpid() << 32 | 1) == 1 &&
                X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) &&
                X509_gmtime_adj(X509_getm_notAfter(certificate), 86400L * VALID_DAYS) &&
                X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)host,
                                           -1, -1, 0) == 1 &&
                X509_set_subject_name(certificate, name) == 1 &&
                X509_set_issuer_name(certificate, name) == 1 &&
                X509_set_pubkey(certificate, key) == 1 &&
                add_extension(certificate, NID_subject_alt_name, names) &&
                add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE") &&
                X509_sign(certificate, key, EVP_sha256()) > 0;
    X509_NAME_free(name);
    if (good)
        return certificate;
    X509_free(certificate);
    return NULL;
}

static enum result create(const char *path, mode_t mode, FILE **out_file, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    *out_file = fd >= 0 ? fdopen(fd, "w") : NULL;
    return *out_file ? OK : fail_errno(err, errno, "cannot make %s", path);
}

static enum result write_files(X509 *certificate, EVP_PKEY *key, const char *cert_path,
                               const char *key_path, struct error *err)
{
    FILE *key_file = NULL;
    FILE *cert_file = NULL;
    if (create(key_path, 0640, &key_file, err) != OK)
        return FAILED;
    bool good = PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL) == 1;
    good = fclose(key_file) == 0 && good;
    if (good && create(cert_path, 0644, &cert_file, err) != OK)
        return FAILED;
    good = good && PEM_write_X509(cert_file, certificate) == 1;
    good = cert_file && fclose(cert_file) == 0 && good;
    return good ? OK : fail(err, ERROR_TEMPORARY, "cannot write %s", cert_path);
}

enum result certificate_make(struct str host, const char *cert_path, const char *key_path,
                             struct error *err)
{
    char name[254];
    if (!str_to_c(host, name, sizeof name) || host.len == 0)
        return fail(err, ERROR_PERMANENT, "not a host name");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = key ? make(key, name) : NULL;
    enum result result = FAILED;
    if (certificate)
        result = write_files(certificate, key, cert_path, key_path, err);
    else
        result = fail(err, ERROR_PERMANENT, "cannot make a certificate for %s", name);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return result;
}
