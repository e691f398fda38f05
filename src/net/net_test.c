/* SPDX-License-Identifier: Apache-2.0 */
#include "net/net_test.h"

#include "base/check.h"
#include "base/test.h"
#include "net/tls.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;

struct loop *test_loop_open(void)
{
    struct error err;
    check(loop_new(NULL, &loop, &err) == OK);
    return loop;
}

void test_loop_close(void)
{
    loop_free(loop);
    loop = NULL;
}

static unsigned running;

struct job {
    void (*run)(void *arg);
    void *arg;
};

static NO_YIELD_CHECK void run_job(void *arg)
{
    struct job *job = arg;
    job->run(job->arg);
    if (--running == 0)
        loop_stop(loop);
}

void run_fibers(void (*first)(void *arg), void (*second)(void *arg), void *arg)
{
    struct scope scope;
    struct error err;
    struct job jobs[2] = {{first, arg}, {second, arg}};
    bool own_loop = !loop;
    if (own_loop)
        test_loop_open();
    scope_init_root(&scope, loop);
    running = second ? 2 : 1;
    for (unsigned i = 0, count = running; i < count; i++)
        check(fiber_spawn(&scope, "test", run_job, &jobs[i], &err) == OK);
    loop_run(loop);
    check(scope_is_empty(&scope));
    if (own_loop)
        test_loop_close();
}

/* ---- files ---- */

static char folder[64];

static void remove_folder(void)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    if (dir)
        closedir(dir);
    rmdir(folder);
}

const char *test_folder(void)
{
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "/tmp/postern-net-XXXXXX");
        check(mkdtemp(folder) != NULL);
        atexit(remove_folder);
    }
    return folder;
}

/* ---- certificates ---- */

static void add_extension(X509 *x509, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, x509, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    check(extension && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static X509 *sign(EVP_PKEY *key, const char *names, int days)
{
    X509 *x509 = X509_new();
    static int serial = 1;
    X509_set_version(x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x509), -86400L * 30);
    X509_gmtime_adj(X509_getm_notAfter(x509), 86400L * days + 60);
    X509_set_pubkey(x509, key);
    X509_NAME *subject = X509_get_subject_name(x509);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1,
                               0);
    X509_set_issuer_name(x509, subject);
    add_extension(x509, NID_basic_constraints, "CA:TRUE");
    if (names)
        add_extension(x509, NID_subject_alt_name, names);
    check(X509_sign(x509, key, EVP_sha256()) > 0);
    return x509;
}

void make_certificate(const char *base_name, const char *names, enum test_key kind, int days,
                      struct test_certificate *out)
{
    EVP_PKEY *key = kind == TEST_KEY_RSA ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    check(key != NULL);
    X509 *x509 = sign(key, names, days);
    snprintf(out->cert_path, sizeof out->cert_path, "%s/%s.pem", test_folder(), base_name);
    snprintf(out->key_path, sizeof out->key_path, "%s/%s.key", test_folder(), base_name);
    /* new files, so that the inode changes as with an atomic replacement */
    unlink(out->cert_path);
    unlink(out->key_path);
    FILE *file = fopen(out->cert_path, "w");
    check(file && PEM_write_X509(file, x509) == 1 && fclose(file) == 0);
    file = fopen(out->key_path, "w");
    check(file && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 &&
          fclose(file) == 0);
    X509_free(x509);
    EVP_PKEY_free(key);
}

struct tls_context *new_tls_server(const struct test_certificate *const *files, size_t count)
{
    struct tls_certificate_files certificates[4];
    struct tls_context *context;
    struct error err;
    for (size_t i = 0; i < count; i++)
        certificates[i] = (struct tls_certificate_files){STR("test"), str_c(files[i]->cert_path),
                                                         str_c(files[i]->key_path)};
    struct tls_server_settings settings = {certificates, count, 12, STR_EMPTY};
    if (tls_server_new(&settings, &context, &err) == FAILED)
        fail_msg("%s", err.text);
    return context;
}

struct tls_context *new_tls_client(bool verify, const char *ca_path)
{
    struct tls_client_settings settings = {
        .verify = verify, .ca_path = str_c(ca_path), .min_version = 12};
    struct tls_context *context;
    struct error err;
    if (tls_client_new(&settings, &context, &err) == FAILED)
        fail_msg("%s", err.text);
    return context;
}

void open_socket_pair(int fds[2])
{
    int on = 1;
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    check(ioctl(fds[0], FIONBIO, &on) == 0);
}
