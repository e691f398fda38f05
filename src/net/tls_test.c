/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS in both directions: our client against our server over memory and sockets, and OpenSSL's own
 * client, in a thread, where a peer must do what ours does not.
 */
#include "net/tls.h"

#include "base/check.h"
#include "base/memory.h"
#include "event/event.h"
#include "net/net_test.h"
#include "net/stream.h"

#include <limits.h>
#include <malloc.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct ends {
    struct stream *client, *server;
    int client_fd; /* a second descriptor of the client's socket, or -1 */
    struct tls_context *client_context, *server_context;
    const char *name; /* what the client connects to */
};

static struct test_certificate main_files, rsa_files, wild_files, expired_files, other_files;

static int make_certificates(void **state)
{
    (void)state;
    make_certificate("main", "DNS:mail.test,DNS:imap.test,IP:127.0.0.1", TEST_KEY_EC, 30,
                     &main_files);
    make_certificate("rsa", "DNS:mail.test", TEST_KEY_RSA, 20, &rsa_files);
    make_certificate("wild", "DNS:*.wild.test,DNS:part*.test", TEST_KEY_EC, 40, &wild_files);
    make_certificate("expired", "DNS:mail.test", TEST_KEY_EC, -3, &expired_files);
    make_certificate("other", "DNS:other.test", TEST_KEY_EC, 30, &other_files);
    return 0;
}

static struct tls_context *new_server(const struct test_certificate *const *files, size_t count)
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

static struct tls_context *new_client(bool verify, const char *ca_path)
{
    struct tls_client_settings settings = {verify, str_c(ca_path), 12};
    struct tls_context *context;
    struct error err;
    if (tls_client_new(&settings, &context, &err) == FAILED)
        fail_msg("%s", err.text);
    return context;
}

static void open_socket_pair(int fds[2])
{
    int on = 1;
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    check(ioctl(fds[0], FIONBIO, &on) == 0);
}

/* `over_memory`: else over sockets. */
static void run_ends(bool over_memory, struct ends *ends, void (*client)(void *),
                     void (*server)(void *))
{
    test_loop_open();
    ends->client_fd = -1;
    if (over_memory) {
        stream_pair(&ends->client, &ends->server);
    } else {
        int fds[2], on = 1;
        struct error err;
        open_socket_pair(fds);
        check(ioctl(fds[1], FIONBIO, &on) == 0);
        ends->client_fd = dup(fds[1]);
        check(stream_open_fd(fds[0], &ends->server, &err) == OK);
        check(stream_open_fd(fds[1], &ends->client, &err) == OK);
    }
    run_fibers(client, server, ends);
    stream_close(take(ends->client));
    stream_close(take(ends->server));
    if (ends->client_fd >= 0)
        close(ends->client_fd);
    test_loop_close();
}

static MAY_YIELD void put(struct stream *stream, const char *text)
{
    struct error err;
    assert_int_equal(stream_write(stream, str_c(text), &err), OK);
    assert_int_equal(stream_flush(stream, &err), OK);
}

static MAY_YIELD void expect(struct stream *stream, const char *text)
{
    struct error err;
    bool end = false;
    while (stream_buffered(stream).len < strlen(text)) {
        assert_int_equal(stream_fill(stream, 65536, &end, &err), OK);
        assert_false(end);
    }
    assert_memory_equal(stream_buffered(stream).ptr, text, strlen(text));
    stream_consume(stream, strlen(text));
}

/* ---- a whole STARTTLS conversation ---- */

static NO_YIELD_CHECK void starttls_client(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    put(ends->client, "STARTTLS\r\n");
    expect(ends->client, "220 go\r\n");
    assert_int_equal(
        stream_tls_connect(ends->client, ends->client_context, str_c(ends->name), &err), OK);
    put(ends->client, "EHLO secret\r\n");
    expect(ends->client, "250 hello\r\n");
    assert_true(stream_is_idle_alive(ends->client));
    stream_close(take(ends->client));
}

static NO_YIELD_CHECK void starttls_server(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    expect(ends->server, "STARTTLS\r\n");
    assert_int_equal(stream_fill_available(ends->server, 1000, &err), OK);
    assert_int_equal(stream_buffered(ends->server).len, 0);
    /* not flushed: the handshake does it */
    assert_int_equal(stream_write(ends->server, STR("220 go\r\n"), &err), OK);
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), OK);
    const struct stream_tls_info *info = stream_tls_info(ends->server);
    assert_true(info->active);
    assert_true(str_equal(info->version, STR("TLSv1.3")));
    assert_true(info->cipher.len > 0);
    assert_string_equal(info->server_name, "mail.test");
    expect(ends->server, "EHLO secret\r\n");
    put(ends->server, "250 hello\r\n");
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), OK);
    assert_true(end);
}

static void starttls(void **state)
{
    (void)state;
    const struct test_certificate *files[] = {&main_files};
    struct ends ends = {.name = "Mail.test."};
    ends.server_context = new_server(files, 1);
    ends.client_context = new_client(true, main_files.cert_path);
    run_ends(true, &ends, starttls_client, starttls_server);
    run_ends(false, &ends, starttls_client, starttls_server);
    tls_context_unref(ends.server_context);
    tls_context_unref(ends.client_context);
}

/* ---- bulk ---- */

enum { BULK = 1000000 };

static NO_YIELD_CHECK void bulk_client(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    char *data = memory_alloc(BULK);
    for (size_t i = 0; i < BULK; i++)
        data[i] = (char)(i * 7 + i / 1000);
    assert_int_equal(stream_tls_connect(ends->client, ends->client_context, STR("mail.test"), &err),
                     OK);
    for (size_t at = 0, size = 1; at < BULK; at += size, size = size * 3 % 100003 + 1) {
        if (size > BULK - at)
            size = BULK - at;
        assert_int_equal(stream_write(ends->client, str_of(data + at, size), &err), OK);
    }
    assert_int_equal(stream_flush(ends->client, &err), OK);
    free(data);
    stream_close(take(ends->client));
}

static NO_YIELD_CHECK void bulk_server(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    size_t at = 0;
    bool end = false;
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), OK);
    while (!end) {
        assert_int_equal(stream_fill(ends->server, 66000, &end, &err), OK);
        struct str got = stream_buffered(ends->server);
        size_t keep = end ? 0 : got.len % 100;
        for (size_t i = 0; i < got.len - keep; i++, at++)
            if (got.ptr[i] != (char)(at * 7 + at / 1000))
                fail_msg("byte %zu differs", at);
        stream_consume(ends->server, got.len - keep);
    }
    assert_int_equal(at, BULK);
}

static void bulk(void **state)
{
    (void)state;
    const struct test_certificate *files[] = {&main_files};
    struct ends ends = {0};
    ends.server_context = new_server(files, 1);
    ends.client_context = new_client(false, "");
    run_ends(true, &ends, bulk_client, bulk_server);
    run_ends(false, &ends, bulk_client, bulk_server);
    tls_context_unref(ends.server_context);
    tls_context_unref(ends.client_context);
}

/* ---- attacks on the connection ---- */

static NO_YIELD_CHECK void refuse_buffered_input(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end;
    put(ends->client, "STARTTLS\r\nMAIL FROM:<evil@test>\r\n");
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), OK);
    stream_consume(ends->server, 10); /* and a careless session goes on */
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), FAILED);
    assert_int_equal(err.kind, ERROR_PROTOCOL);
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), FAILED);
    assert_int_equal(stream_write(ends->server, STR("250"), &err), FAILED);
}

static NO_YIELD_CHECK void greet_after_goodbye(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    assert_int_equal(stream_tls_connect(ends->client, ends->client_context, STR("mail.test"), &err),
                     OK);
    put(ends->client, "BDAT 100\r\nabc");
    stream_close(take(ends->client)); /* close_notify in the middle of a chunk */
    assert_int_equal(write(ends->client_fd, "clear\r\n", 7), 7);
}

static NO_YIELD_CHECK void hear_no_clear_text(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), OK);
    expect(ends->server, "BDAT 100\r\nabc");
    for (int i = 0; i < 3; i++) {
        end = false;
        assert_int_equal(stream_fill(ends->server, 1000, &end, &err), OK);
        assert_true(end);
        assert_int_equal(stream_fill_available(ends->server, 1000, &err), OK);
        assert_int_equal(stream_buffered(ends->server).len, 0);
    }
    assert_false(stream_is_idle_alive(ends->server));
}

static NO_YIELD_CHECK void break_a_record(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    assert_int_equal(stream_tls_connect(ends->client, ends->client_context, STR("mail.test"), &err),
                     OK);
    put(ends->client, "NOOP\r\n");
    assert_int_equal(write(ends->client_fd, "RSET\r\n", 6), 6);
    while (!end && stream_fill(ends->client, 1000, &end, &err) == OK)
        continue;
}

static NO_YIELD_CHECK void die_of_clear_text(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), OK);
    expect(ends->server, "NOOP\r\n");
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), FAILED);
    assert_int_equal(err.kind, ERROR_PROTOCOL);
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), FAILED);
    assert_int_equal(stream_fill_available(ends->server, 1000, &err), FAILED);
    assert_int_equal(stream_write(ends->server, STR("x"), &err), FAILED);
    assert_int_equal(stream_flush(ends->server, &err), FAILED);
    assert_int_equal(stream_buffered(ends->server).len, 0);
    stream_close(take(ends->server));
}

static NO_YIELD_CHECK void send_garbage(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    put(ends->client, "GET / HTTP/1.1\r\nHost: mail.test\r\n\r\n");
    while (!end && stream_fill(ends->client, 1000, &end, &err) == OK)
        continue;
}

static NO_YIELD_CHECK void refuse_garbage(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end;
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), FAILED);
    assert_int_equal(err.kind, ERROR_PROTOCOL);
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), FAILED);
    stream_close(take(ends->server));
}

static NO_YIELD_CHECK void say_nothing(void *arg)
{
    (void)arg;
}

static NO_YIELD_CHECK void wait_in_vain_for_hello(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    struct scope scope;
    scope_open(&scope, clock_deadline(5 * NS_PER_MS));
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    scope_close(&scope);
}

static NO_YIELD_CHECK void hang_up(void *arg)
{
    struct ends *ends = arg;
    stream_close(take(ends->client));
    if (ends->client_fd >= 0)
        close(ends->client_fd);
    ends->client_fd = -1;
}

static NO_YIELD_CHECK void notice_hang_up(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
}

static void attacks(void **state)
{
    (void)state;
    const struct test_certificate *files[] = {&main_files};
    struct ends ends = {0};
    ends.server_context = new_server(files, 1);
    ends.client_context = new_client(false, "");
    run_ends(true, &ends, refuse_buffered_input, NULL);
    run_ends(false, &ends, refuse_buffered_input, NULL);
    run_ends(false, &ends, greet_after_goodbye, hear_no_clear_text);
    run_ends(false, &ends, break_a_record, die_of_clear_text);
    run_ends(true, &ends, send_garbage, refuse_garbage);
    run_ends(false, &ends, send_garbage, refuse_garbage);
    run_ends(true, &ends, say_nothing, wait_in_vain_for_hello);
    run_ends(false, &ends, say_nothing, wait_in_vain_for_hello);
    run_ends(true, &ends, hang_up, notice_hang_up);
    run_ends(false, &ends, hang_up, notice_hang_up);
    tls_context_unref(ends.server_context);
    tls_context_unref(ends.client_context);
}

/* ---- names and trust ---- */

struct trust_case {
    const char *label;
    bool verify;
    const struct test_certificate *server, *trusted; /* NULL: the system's store */
    const char *name;
    bool connects, verified;
};

static const struct trust_case *current;

static NO_YIELD_CHECK void trust_client(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    enum result result =
        stream_tls_connect(ends->client, ends->client_context, str_c(current->name), &err);
    if ((result == OK) != current->connects)
        fail_msg("%s: %s", current->label, result == OK ? "connected" : err.text);
    if (result == OK && stream_tls_info(ends->client)->peer_verified != current->verified)
        fail_msg("%s: verified is %d", current->label, !current->verified);
    if (result == FAILED && current->name[0])
        assert_int_equal(err.kind, ERROR_PROTOCOL);
    stream_close(take(ends->client));
}

static NO_YIELD_CHECK void trust_server(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    if (stream_tls_accept(ends->server, ends->server_context, &err) == OK)
        while (!end && stream_fill(ends->server, 1000, &end, &err) == OK)
            continue;
}

static void trust(void **state)
{
    (void)state;
    static const struct trust_case cases[] = {
        {"right name", true, &main_files, &main_files, "mail.test", true, true},
        {"case", true, &main_files, &main_files, "MAIL.test", true, true},
        {"final dot", true, &main_files, &main_files, "mail.test.", true, true},
        {"second name", true, &main_files, &main_files, "imap.test", true, true},
        {"wrong name", true, &main_files, &main_files, "evil.test", false, false},
        {"address", true, &main_files, &main_files, "127.0.0.1", true, true},
        {"wrong address", true, &main_files, &main_files, "127.0.0.2", false, false},
        {"common name only", true, &main_files, &main_files, "test", false, false},
        {"no name", true, &main_files, &main_files, "", false, false},
        {"untrusted", true, &main_files, &other_files, "mail.test", false, false},
        {"not in the system's store", true, &main_files, NULL, "mail.test", false, false},
        {"ended", true, &expired_files, &expired_files, "mail.test", false, false},
        {"wildcard", true, &wild_files, &wild_files, "a.wild.test", true, true},
        {"wildcard, two labels", true, &wild_files, &wild_files, "a.b.wild.test", false, false},
        {"partial wildcard", true, &wild_files, &wild_files, "partner.test", false, false},
        {"unchecked, right", false, &main_files, &main_files, "mail.test", true, true},
        {"unchecked, wrong name", false, &main_files, &main_files, "evil.test", true, false},
        {"unchecked, no name", false, &main_files, &main_files, "", true, false},
        {"unchecked, no host name", false, &main_files, &main_files, "a b", true, false},
        {"unchecked, ended", false, &expired_files, &expired_files, "mail.test", true, false},
        {"unchecked, untrusted", false, &main_files, &other_files, "mail.test", true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        current = &cases[i];
        struct ends ends = {0};
        ends.server_context = new_server(&current->server, 1);
        ends.client_context =
            new_client(current->verify, current->trusted ? current->trusted->cert_path : "");
        run_ends(true, &ends, trust_client, trust_server);
        tls_context_unref(ends.server_context);
        tls_context_unref(ends.client_context);
    }
}

/* ---- OpenSSL's own client ---- */

struct foreign {
    int fd;
    const char *sni, *alpn; /* alpn in wire form */
    size_t alpn_len;
    const char *sigalgs; /* NULL: any */
    int max_version;     /* 0: any */
    bool renegotiate;
    /* what came of it */
    bool connected, renegotiated;
    char first_name[256], chosen_alpn[32];
    int key_type;
    SSL_SESSION *resume, *session;
    bool resumed;
};

static void note_certificate(SSL *ssl, struct foreign *foreign)
{
    X509 *x509 = SSL_get0_peer_certificate(ssl);
    GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
    const ASN1_STRING *name = sk_GENERAL_NAME_value(names, 0)->d.dNSName;
    snprintf(foreign->first_name, sizeof foreign->first_name, "%s",
             (const char *)ASN1_STRING_get0_data(name));
    GENERAL_NAMES_free(names);
    foreign->key_type = EVP_PKEY_get_base_id(X509_get0_pubkey(x509));
}

static void talk(SSL *ssl, struct foreign *foreign)
{
    const unsigned char *alpn;
    unsigned alpn_len;
    char reply[64];
    foreign->connected = true;
    note_certificate(ssl, foreign);
    foreign->resumed = SSL_session_reused(ssl);
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    snprintf(foreign->chosen_alpn, sizeof foreign->chosen_alpn, "%.*s", (int)alpn_len,
             (const char *)alpn);
    if (foreign->renegotiate)
        foreign->renegotiated = SSL_renegotiate(ssl) == 1 && SSL_do_handshake(ssl) == 1;
    if (SSL_write(ssl, "QUIT\r\n", 6) == 6)
        (void)SSL_read(ssl, reply, sizeof reply);
    foreign->session = SSL_get1_session(ssl);
    SSL_shutdown(ssl);
}

static void *run_foreign(void *arg)
{
    struct foreign *foreign = arg;
    sigset_t pipe_signal; /* OpenSSL's own sockets raise it, in this thread only */
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context, foreign->max_version);
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, foreign->fd);
    if (foreign->sni)
        SSL_set_tlsext_host_name(ssl, foreign->sni);
    if (foreign->alpn)
        SSL_set_alpn_protos(ssl, (const unsigned char *)foreign->alpn, (unsigned)foreign->alpn_len);
    if (foreign->sigalgs)
        check(SSL_set1_sigalgs_list(ssl, foreign->sigalgs) == 1);
    if (foreign->resume)
        SSL_set_session(ssl, foreign->resume);
    if (SSL_connect(ssl) == 1)
        talk(ssl, foreign);
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(foreign->fd);
    return NULL;
}

struct served {
    struct stream *stream;
    struct tls_context *context;
    enum result result;
    struct stream_tls_info info;
};

static NO_YIELD_CHECK void serve(void *arg)
{
    struct served *served = arg;
    struct error err;
    bool end = false;
    served->result = stream_tls_accept(served->stream, served->context, &err);
    served->info = *stream_tls_info(served->stream);
    if (served->result == OK && stream_fill(served->stream, 1000, &end, &err) == OK && !end)
        put(served->stream, "221 bye\r\n");
    /* before the thread is waited for, so that it sees the end */
    stream_close(take(served->stream));
}

/* The foreign client against our server; whether our side succeeded too is in the result. */
static struct served meet(struct tls_context *context, struct foreign *foreign)
{
    int fds[2];
    pthread_t thread;
    struct error err;
    struct served served = {.context = context};
    open_socket_pair(fds);
    foreign->fd = fds[1];
    test_loop_open();
    check(stream_open_fd(fds[0], &served.stream, &err) == OK);
    check(pthread_create(&thread, NULL, run_foreign, foreign) == 0);
    run_fibers(serve, NULL, &served);
    pthread_join(thread, NULL);
    if (!foreign->resume)
        SSL_SESSION_free(foreign->session);
    test_loop_close();
    return served;
}

static void certificates_are_chosen_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *sni, *sigalgs, *first_name;
        int key_type;
    } cases[] = {
        {"mail.test", NULL, "mail.test", EVP_PKEY_EC},
        {"MAIL.TEST", NULL, "mail.test", EVP_PKEY_EC},
        {"mail.test", "rsa_pss_rsae_sha256", "mail.test", EVP_PKEY_RSA},
        {NULL, "rsa_pss_rsae_sha256", "mail.test", EVP_PKEY_RSA}, /* the default has a sibling */
        {"imap.test", NULL, "mail.test", EVP_PKEY_EC},
        {"x.wild.test", NULL, "*.wild.test", EVP_PKEY_EC},
        {"x.y.wild.test", NULL, "mail.test", EVP_PKEY_EC},
        {"wild.test", NULL, "mail.test", EVP_PKEY_EC},
        {"other.test", NULL, "other.test", EVP_PKEY_EC},
        {"unknown.test", NULL, "mail.test", EVP_PKEY_EC},
        {NULL, NULL, "mail.test", EVP_PKEY_EC},
    };
    const struct test_certificate *files[] = {&main_files, &rsa_files, &wild_files, &other_files};
    struct tls_context *context = new_server(files, 4);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            const char *sigalgs = cases[i].sigalgs;
            if (!sigalgs)
                sigalgs = "ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256";
            struct foreign foreign = {
                .sni = cases[i].sni, .sigalgs = sigalgs, .max_version = version};
            struct served served = meet(context, &foreign);
            if (!foreign.connected || served.result != OK)
                fail_msg("%s: no connection", cases[i].sni);
            if (strcmp(foreign.first_name, cases[i].first_name) != 0 ||
                foreign.key_type != cases[i].key_type)
                fail_msg("%s: got %s, key type %d", cases[i].sni, foreign.first_name,
                         foreign.key_type);
        }
    }
    tls_context_unref(context);
}

static void hostile_names_are_not_taken_over(void **state)
{
    (void)state;
    static const char *const names[] = {
        "../../etc/passwd", "a b",           "x\r\ny", "a..b",       "%s%n", "-\\",
        "${run}",           "\xc3\xa4.test", "a\x01",  "mail.test/", "[::1]"};
    const struct test_certificate *files[] = {&main_files, &other_files};
    struct tls_context *context = new_server(files, 2);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct foreign foreign = {.sni = names[i]};
        struct served served = meet(context, &foreign);
        assert_true(foreign.connected);
        assert_string_equal(served.info.server_name, "");
        assert_string_equal(foreign.first_name, "mail.test");
    }
    char long_name[256];
    memset(long_name, 'a', 255);
    long_name[255] = 0;
    struct foreign foreign = {.sni = long_name};
    struct served served = meet(context, &foreign);
    assert_string_equal(served.info.server_name, "");
    tls_context_unref(context);
}

static void wrong_protocols_get_an_alert(void **state)
{
    (void)state;
    static const struct {
        struct str alpn;
        bool connects;
        const char *chosen;
    } cases[] = {
        {{NULL, 0}, true, ""},
        {STR("\4smtp"), true, "smtp"},
        {STR("\2h2\10http/1.1"), false, ""},
        {STR("\2h2\4smtp"), true, "smtp"},
        {STR("\4SMTP"), false, ""},
        {STR("\5smtps"), false, ""},
    };
    const struct test_certificate *files[] = {&main_files};
    struct tls_context *context = new_server(files, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct foreign foreign = {.alpn = cases[i].alpn.ptr, .alpn_len = cases[i].alpn.len};
        struct served served = meet(context, &foreign);
        assert_int_equal(foreign.connected, cases[i].connects);
        assert_int_equal(served.result == OK, cases[i].connects);
        assert_string_equal(foreign.chosen_alpn, cases[i].chosen);
    }
    tls_context_unref(context);
}

static void old_versions_and_renegotiation_are_refused(void **state)
{
    (void)state;
    const struct test_certificate *files[] = {&main_files};
    struct tls_context *context = new_server(files, 1);
    struct foreign old = {.max_version = TLS1_1_VERSION};
    assert_int_equal(meet(context, &old).result, FAILED);
    assert_false(old.connected);
    struct foreign restless = {.max_version = TLS1_2_VERSION, .renegotiate = true};
    assert_int_equal(meet(context, &restless).result, OK);
    assert_true(restless.connected);
    assert_false(restless.renegotiated);
    tls_context_unref(context);
}

/* Does the server take up the session? The caller frees what `*out_session` gets. */
static bool resumes(struct tls_context *context, int version, SSL_SESSION *session,
                    SSL_SESSION **out_session)
{
    SSL_SESSION *none = session ? NULL : SSL_SESSION_new();
    struct foreign foreign = {
        .sni = "mail.test", .max_version = version, .resume = session ? session : none};
    struct served served = meet(context, &foreign);
    assert_true(foreign.connected);
    assert_string_equal(served.info.server_name, "mail.test");
    SSL_SESSION_free(none);
    if (out_session)
        *out_session = foreign.session;
    else
        SSL_SESSION_free(foreign.session);
    return foreign.resumed;
}

static void sessions_are_resumed_by_ticket(void **state)
{
    (void)state;
    const int64_t hour_ns = 3600 * NS_PER_S;
    const struct test_certificate *files[] = {&main_files};
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_context *context = new_server(files, 1), *other = new_server(files, 1);
        SSL_SESSION *first, *second;
        clock_set_fake(hour_ns, clock_wall_ns());
        assert_false(resumes(context, version, NULL, &first));
        assert_true(resumes(context, version, first, NULL));
        assert_false(resumes(other, version, first, NULL)); /* has keys of its own */
        clock_set_fake(14 * hour_ns, clock_wall_ns());
        assert_true(resumes(context, version, first, &second)); /* the key before the present one */
        clock_set_fake(27 * hour_ns, clock_wall_ns());
        assert_false(resumes(context, version, first, NULL));
        assert_true(resumes(context, version, second, NULL)); /* it had been given a new ticket */
        clock_set_fake(90 * hour_ns, clock_wall_ns());
        assert_false(resumes(context, version, second, NULL)); /* old keys end while nobody calls */
        clock_set_fake(-1, -1);
        SSL_SESSION_free(first);
        SSL_SESSION_free(second);
        tls_context_unref(context);
        tls_context_unref(other);
    }
}

/* ---- files ---- */

static void bad_files_are_explained(void **state)
{
    (void)state;
    char empty[160], missing[160];
    snprintf(empty, sizeof empty, "%s/empty.pem", test_folder());
    snprintf(missing, sizeof missing, "%s/missing.pem", test_folder());
    fclose(fopen(empty, "w"));
    const struct {
        const char *cert, *key, *text;
    } cases[] = {
        {missing, main_files.key_path, "missing.pem"},
        {main_files.cert_path, missing, "missing.pem"},
        {empty, main_files.key_path, "empty.pem"},
        {main_files.cert_path, empty, "empty.pem"},
        {main_files.key_path, main_files.key_path, "main.key"},
        {main_files.cert_path, other_files.key_path, "key"},
        {main_files.cert_path, rsa_files.key_path, "key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tls_certificate_files files = {STR("shop"), str_c(cases[i].cert),
                                              str_c(cases[i].key)};
        struct tls_server_settings settings = {&files, 1, 12, STR_EMPTY};
        struct tls_context *context;
        struct error err;
        if (tls_server_new(&settings, &context, &err) != FAILED)
            fail_msg("case %zu", i);
        if (!strstr(err.text, cases[i].text) || !strstr(err.text, "certificate shop"))
            fail_msg("case %zu: %s", i, err.text);
    }
    struct tls_certificate_files files = {STR("shop"), str_c(main_files.cert_path),
                                          str_c(main_files.key_path)};
    struct tls_server_settings settings = {&files, 1, 12, STR("NONSENSE")};
    struct tls_client_settings client = {true, str_c(missing), 12};
    struct tls_context *context;
    struct error err;
    assert_int_equal(tls_server_new(&settings, &context, &err), FAILED);
    settings.count = 0;
    assert_int_equal(tls_server_new(&settings, &context, &err), FAILED);
    assert_int_equal(tls_client_new(&client, &context, &err), FAILED);
    assert_non_null(strstr(err.text, "missing.pem"));
}

static unsigned loaded, failed;

static void count_event(const struct event *event, void *arg)
{
    (void)arg;
    loaded += event->type == EVENT_CERTIFICATE_LOADED;
    failed += event->type == EVENT_CERTIFICATE_FAILED;
}

static void refresh(struct tls_context *context)
{
    loaded = failed = 0;
    tls_context_refresh(context);
    event_drain(count_event, NULL);
}

static const char *name_served(struct tls_context *context)
{
    static struct foreign foreign;
    foreign = (struct foreign){.sni = NULL};
    meet(context, &foreign);
    return foreign.connected ? foreign.first_name : "nothing";
}

static void certificates_are_renewed(void **state)
{
    (void)state;
    struct test_certificate files, spare;
    const struct test_certificate *list[] = {&files, &wild_files};
    make_certificate("renewed", "DNS:old.test", TEST_KEY_EC, 10, &files);
    struct tls_context *context = new_server(list, 2);
    assert_int_equal(tls_context_days_left(context), 10);
    refresh(context);
    assert_int_equal(loaded + failed, 0);
    assert_string_equal(name_served(context), "old.test");

    /* half a renewal: the certificate is new, the key still the old one */
    make_certificate("spare", "DNS:new.test", TEST_KEY_RSA, 25, &spare);
    check(rename(spare.cert_path, files.cert_path) == 0);
    refresh(context);
    assert_int_equal(failed, 1);
    assert_int_equal(loaded, 0);
    assert_string_equal(name_served(context), "old.test");
    refresh(context);
    assert_int_equal(failed, 0); /* said once */

    check(rename(spare.key_path, files.key_path) == 0);
    refresh(context);
    assert_int_equal(loaded, 1);
    assert_int_equal(failed, 0);
    assert_string_equal(name_served(context), "new.test");
    assert_int_equal(tls_context_days_left(context), 25);

    unlink(files.cert_path);
    refresh(context);
    assert_int_equal(failed, 1);
    assert_string_equal(name_served(context), "new.test");
    tls_context_unref(context);
}

static void days_left(void **state)
{
    (void)state;
    const struct test_certificate *ended[] = {&main_files, &expired_files};
    struct tls_context *context = new_server(ended, 2);
    assert_int_equal(tls_context_days_left(context), -3);
    tls_context_unref(context);
    context = new_client(false, "");
    assert_int_equal(tls_context_days_left(context), INT_MAX);
    tls_context_refresh(context); /* nothing to do */
    tls_context_unref(tls_context_ref(context));
    tls_context_unref(context);
    tls_context_unref(NULL);
}

/* ---- memory ---- */

enum { IDLE = 100, CLEAR_MAX = 2048, TLS_MAX = 40000 };

struct crowd {
    struct ends ends[IDLE];
    size_t count;
};

static NO_YIELD_CHECK void idle_clients(void *arg)
{
    struct crowd *crowd = arg;
    struct error err;
    for (size_t i = 0; i < IDLE; i++) {
        struct ends *ends = &crowd->ends[i];
        assert_int_equal(
            stream_tls_connect(ends->client, ends->client_context, STR("mail.test"), &err), OK);
        put(ends->client, "EHLO x\r\n");
        expect(ends->client, "250 x\r\n");
        assert_true(stream_is_idle_alive(ends->client));
    }
}

static NO_YIELD_CHECK void idle_servers(void *arg)
{
    struct crowd *crowd = arg;
    struct error err;
    for (size_t i = 0; i < IDLE; i++) {
        struct ends *ends = &crowd->ends[i];
        assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), OK);
        expect(ends->server, "EHLO x\r\n");
        put(ends->server, "250 x\r\n");
        assert_true(stream_is_idle_alive(ends->server));
    }
}

static void idle_connections_are_small(void **state)
{
    (void)state;
    static struct crowd crowd;
    const struct test_certificate *files[] = {&main_files};
    struct tls_context *server = new_server(files, 1), *client = new_client(false, "");
    struct error err;
    int fds[2], on = 1;
    test_loop_open();
    size_t start = mallinfo2().uordblks;
    for (size_t i = 0; i < IDLE; i++) {
        open_socket_pair(fds);
        check(ioctl(fds[1], FIONBIO, &on) == 0);
        crowd.ends[i] = (struct ends){.client_context = client, .server_context = server};
        check(stream_open_fd(fds[0], &crowd.ends[i].server, &err) == OK);
        check(stream_open_fd(fds[1], &crowd.ends[i].client, &err) == OK);
    }
    size_t clear = mallinfo2().uordblks;
    run_fibers(idle_clients, idle_servers, &crowd);
    size_t tls = mallinfo2().uordblks;
    printf("%zu bytes a clear stream, %zu bytes a TLS stream\n", (clear - start) / (2 * IDLE),
           (tls - start) / (2 * IDLE));
    /* under AddressSanitizer both are 0 */
    assert_true((clear - start) / (2 * IDLE) < CLEAR_MAX);
    assert_true((tls - start) / (2 * IDLE) < TLS_MAX);
    for (size_t i = 0; i < IDLE; i++) {
        stream_close(crowd.ends[i].client);
        stream_close(crowd.ends[i].server);
    }
    test_loop_close();
    tls_context_unref(server);
    tls_context_unref(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starttls),
        cmocka_unit_test(bulk),
        cmocka_unit_test(attacks),
        cmocka_unit_test(trust),
        cmocka_unit_test(certificates_are_chosen_by_name),
        cmocka_unit_test(hostile_names_are_not_taken_over),
        cmocka_unit_test(wrong_protocols_get_an_alert),
        cmocka_unit_test(old_versions_and_renegotiation_are_refused),
        cmocka_unit_test(sessions_are_resumed_by_ticket),
        cmocka_unit_test(bad_files_are_explained),
        cmocka_unit_test(certificates_are_renewed),
        cmocka_unit_test(days_left),
        cmocka_unit_test(idle_connections_are_small),
    };
    return cmocka_run_group_tests(tests, make_certificates, NULL);
}
