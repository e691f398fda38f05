/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our TLS server against OpenSSL's own client, in a thread, which does what our client does not;
 * and the life of certificates.
 */
#include "net/tls.h"

#include "base/check.h"
#include "base/memory.h"
#include "event/event.h"
#include "net/net_test.h"
#include "net/stream.h"

#include <limits.h>
#include <openssl/err.h>
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

static MAY_YIELD void put(struct stream *stream, const char *text)
{
    struct error err;
    assert_int_equal(stream_write(stream, str_c(text), &err), OK);
    assert_int_equal(stream_flush(stream, &err), OK);
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
    bool alerted; /* the handshake ended with an alert of the server */
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
    else
        foreign->alerted = ERR_GET_REASON(ERR_peek_last_error()) >= SSL_AD_REASON_OFFSET;
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
    struct tls_context *context = new_tls_server(files, 4);
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
    struct tls_context *context = new_tls_server(files, 2);
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
    struct tls_context *context = new_tls_server(files, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct foreign foreign = {.alpn = cases[i].alpn.ptr, .alpn_len = cases[i].alpn.len};
        struct served served = meet(context, &foreign);
        assert_int_equal(foreign.connected, cases[i].connects);
        assert_int_equal(foreign.alerted, !cases[i].connects);
        assert_int_equal(served.result == OK, cases[i].connects);
        assert_string_equal(foreign.chosen_alpn, cases[i].chosen);
    }
    tls_context_unref(context);
}

static void old_versions_and_renegotiation_are_refused(void **state)
{
    (void)state;
    const struct test_certificate *files[] = {&main_files};
    struct tls_context *context = new_tls_server(files, 1);
    struct foreign old = {.max_version = TLS1_1_VERSION};
    assert_int_equal(meet(context, &old).result, FAILED);
    assert_false(old.connected);
    assert_true(old.alerted);
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
        struct tls_context *context = new_tls_server(files, 1), *other = new_tls_server(files, 1);
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

/* ---- how much goes over the wire, and in how many pieces ---- */

/* A client over a socket that keeps the borders of what was sent, so that pieces can be counted. */
struct counting {
    int fd;
    unsigned pieces, tickets;
    bool ok; /* a reply came, and behind it a close_notify */
    char reply[64];
};

static int count_ticket(SSL *ssl, SSL_SESSION *session)
{
    (void)session;
    struct counting *counting = SSL_get_app_data(ssl);
    counting->tickets++;
    return 0;
}

static void send_all_of(BIO *out, int fd)
{
    char *data;
    long len = BIO_get_mem_data(out, &data);
    if (len > 0)
        check(send(fd, data, (size_t)len, MSG_NOSIGNAL) == len);
    (void)BIO_reset(out);
}

static bool take_piece(struct counting *counting, BIO *in)
{
    char piece[20000];
    ssize_t got = recv(counting->fd, piece, sizeof piece, 0);
    if (got <= 0)
        return false;
    counting->pieces++;
    return BIO_write(in, piece, (int)got) == got;
}

/* Handshake, one command, the reply, the end; Finished and the command leave together. */
static void *run_counting(void *arg)
{
    struct counting *counting = arg;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, count_ticket);
    SSL *ssl = SSL_new(context);
    SSL_set_app_data(ssl, counting);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    while (SSL_do_handshake(ssl) != 1) {
        send_all_of(out, counting->fd);
        if (!take_piece(counting, in))
            break;
    }
    int got = -1;
    if (SSL_is_init_finished(ssl) && SSL_write(ssl, "QUIT\r\n", 6) == 6) {
        send_all_of(out, counting->fd);
        while ((got = SSL_read(ssl, counting->reply, sizeof counting->reply - 1)) <= 0)
            if (!take_piece(counting, in))
                break;
    }
    char rest;
    counting->ok =
        got > 0 && SSL_read(ssl, &rest, 1) <= 0 && (SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN);
    while (take_piece(counting, in))
        continue;
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(counting->fd);
    return NULL;
}

static NO_YIELD_CHECK void serve_and_finish(void *arg)
{
    struct served *served = arg;
    struct error err;
    bool end = false;
    served->result = stream_tls_accept(served->stream, served->context, &err);
    if (served->result == OK)
        served->result = stream_flush(served->stream, &err); /* nothing to say yet */
    if (served->result == OK)
        served->result = stream_fill(served->stream, 1000, &end, &err);
    if (served->result == OK)
        served->result = stream_write(served->stream, STR("221 bye\r\n"), &err);
    if (served->result == OK)
        served->result = stream_finish(served->stream, &err);
    stream_close(take(served->stream));
}

static void records_of_a_turn_leave_in_one_piece(void **state)
{
    (void)state;
    const struct test_certificate *files[] = {&main_files};
    int fds[2], on = 1;
    pthread_t thread;
    struct error err;
    struct served served = {.context = new_tls_server(files, 1)};
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
    check(ioctl(fds[0], FIONBIO, &on) == 0);
    struct counting counting = {.fd = fds[1]};
    test_loop_open();
    check(stream_open_fd(fds[0], &served.stream, &err) == OK);
    check(pthread_create(&thread, NULL, run_counting, &counting) == 0);
    run_fibers(serve_and_finish, NULL, &served);
    pthread_join(thread, NULL);
    test_loop_close();
    tls_context_unref(served.context);
    assert_int_equal(served.result, OK);
    assert_true(counting.ok);
    assert_string_equal(counting.reply, "221 bye\r\n");
    assert_int_equal(counting.tickets, 1);
    /* the flight of the handshake; then ticket, reply and close_notify */
    assert_int_equal(counting.pieces, 2);
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
    struct tls_client_settings client = {
        .verify = true, .ca_path = str_c(missing), .min_version = 12};
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
    struct tls_context *context = new_tls_server(list, 2);
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
    struct tls_context *context = new_tls_server(ended, 2);
    assert_int_equal(tls_context_days_left(context), -3);
    tls_context_unref(context);
    context = new_tls_client(false, "");
    assert_int_equal(tls_context_days_left(context), INT_MAX);
    tls_context_refresh(context); /* nothing to do */
    tls_context_unref(tls_context_ref(context));
    tls_context_unref(context);
    tls_context_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_are_chosen_by_name),
        cmocka_unit_test(hostile_names_are_not_taken_over),
        cmocka_unit_test(wrong_protocols_get_an_alert),
        cmocka_unit_test(old_versions_and_renegotiation_are_refused),
        cmocka_unit_test(sessions_are_resumed_by_ticket),
        cmocka_unit_test(records_of_a_turn_leave_in_one_piece),
        cmocka_unit_test(bad_files_are_explained),
        cmocka_unit_test(certificates_are_renewed),
        cmocka_unit_test(days_left),
    };
    return cmocka_run_group_tests(tests, make_certificates, NULL);
}
