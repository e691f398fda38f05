/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls_session.h"

#include "base/check.h"
#include "base/memory.h"
#include "net/tls_internal.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_SIZE = 253, LABEL_MAX = 63 };

struct tls_session {
    struct tls_context *context;
    SSL *ssl;
    struct tls_carrier carrier;
    struct stream_tls_info info;
    int carrier_errno;
    bool name_given; /* there was a name to check the peer by */
    bool ready;      /* the handshake is done */
    bool said_goodbye;
    bool ended;
    bool broken;
    struct error why_broken;
};

/* ---- the carrier as a BIO: no signal on a closed peer, and memory streams work too ---- */

static int carrier_read(BIO *bio, char *out, int size)
{
    struct tls_session *session = BIO_get_data(bio);
    ssize_t got;
    BIO_clear_retry_flags(bio);
    do
        got = session->carrier.read(session->carrier.object, out, (size_t)size);
    while (got < 0 && errno == EINTR);
    if (got == 0) {
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    } else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        BIO_set_retry_read(bio);
    } else if (got < 0) {
        session->carrier_errno = errno;
    }
    return (int)got;
}

static int carrier_write(BIO *bio, const char *data, int size)
{
    struct tls_session *session = BIO_get_data(bio);
    ssize_t taken;
    BIO_clear_retry_flags(bio);
    do
        taken = session->carrier.write(session->carrier.object, data, (size_t)size);
    while (taken < 0 && errno == EINTR);
    if (taken < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        BIO_set_retry_write(bio);
    else if (taken < 0)
        session->carrier_errno = errno;
    return (int)taken;
}

static long carrier_control(BIO *bio, int command, long number, void *ptr)
{
    (void)number, (void)ptr;
    switch (command) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default:
        return 0;
    }
}

BIO_METHOD *tls_carrier_method_new(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");
    check(method != NULL);
    BIO_meth_set_read(method, carrier_read);
    BIO_meth_set_write(method, carrier_write);
    BIO_meth_set_ctrl(method, carrier_control);
    return method;
}

/* ---- what the client asks for ---- */

/* A host name as it may stand in SNI (RFC 6066): labels, dots, nothing else. */
static bool is_host_name(struct str name)
{
    size_t label = 0;
    if (name.len == 0 || name.len > NAME_MAX_SIZE)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c == '.') {
            if (label == 0)
                return false;
            label = 0;
            continue;
        }
        if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '_')
            return false;
        if (++label > LABEL_MAX)
            return false;
    }
    return label > 0;
}

int tls_on_server_name(SSL *ssl, int *alert, void *context)
{
    (void)alert, (void)context;
    struct tls_session *session = SSL_get_app_data(ssl);
    /* OpenSSL refuses names with NUL in them, so this one is as long as it looks */
    struct str name = str_c(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
    if (!is_host_name(name))
        return SSL_TLSEXT_ERR_NOACK; /* as if none had been sent */
    for (size_t i = 0; i < name.len; i++)
        session->info.server_name[i] = ascii_lower(name.ptr[i]);
    session->info.server_name[name.len] = 0;
    return SSL_TLSEXT_ERR_OK;
}

int tls_on_certificate(SSL *ssl, void *context)
{
    struct tls_session *session = SSL_get_app_data(ssl);
    struct tls_certificates *certificates = tls_context_certificates(context);
    bool chosen = tls_certificates_choose(certificates, str_c(session->info.server_name), ssl);
    tls_certificates_unref(certificates);
    return chosen;
}

int tls_on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                  EVP_MAC_CTX *mac, int encrypt)
{
    struct tls_session *session = SSL_get_app_data(ssl);
    return tls_ticket_use_key(session->context, name, iv, cipher, mac, encrypt);
}

/* A client that wants another protocol was led here by an attacker (ALPACA). */
int tls_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                const unsigned char *in, unsigned in_len, void *context)
{
    (void)ssl, (void)context;
    for (unsigned at = 0; at < in_len; at += 1u + in[at]) {
        struct str name = {(const char *)in + at + 1, in[at]};
        if (name.len > in_len - at - 1)
            break;
        if (str_equal(name, STR("smtp"))) {
            *out = in + at + 1;
            *out_len = in[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- life cycle ---- */

/* SNI, and the name or address that the certificate must be for. */
static enum result set_peer_name(struct tls_session *session, struct str name, struct error *err)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(session->ssl);
    char text[NAME_MAX_SIZE + 1];
    struct net_ip ip;
    if (str_ends(name, STR(".")))
        name.len--;
    if (name.len == 0 && !session->context->verify)
        return OK;
    if (!str_to_c(name, text, sizeof text) || name.len == 0)
        return fail(err, ERROR_PERMANENT, "no valid name to check the server's certificate by");
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    int done;
    if (net_ip_parse(name, &ip))
        done = X509_VERIFY_PARAM_set1_ip(param, ip.bytes, ip.family == 4 ? 4 : 16);
    else if (is_host_name(name))
        done = X509_VERIFY_PARAM_set1_host(param, text, name.len) == 1 &&
               SSL_set_tlsext_host_name(session->ssl, text) == 1;
    else if (session->context->verify)
        done = 0;
    else
        return OK;
    session->name_given = done;
    return done ? OK : fail(err, ERROR_PERMANENT, "the server's name is not a host name");
}

enum result tls_session_new(struct tls_context *context, const struct tls_carrier *carrier,
                            bool as_server, struct str server_name,
                            struct tls_session **out_session, struct error *err)
{
    check(as_server == context->is_server);
    struct tls_session *session = NEW(struct tls_session);
    session->context = tls_context_ref(context);
    session->carrier = *carrier;
    session->info.version = session->info.cipher = STR_EMPTY;
    ERR_clear_error();
    session->ssl = SSL_new(context->ssl);
    BIO *bio = BIO_new(context->carrier_method);
    check(session->ssl && bio);
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->ssl, bio, bio);
    SSL_set_app_data(session->ssl, session);
    if (as_server) {
        SSL_set_accept_state(session->ssl);
    } else {
        SSL_set_connect_state(session->ssl);
        if (set_peer_name(session, server_name, err) == FAILED) {
            tls_session_free(session);
            return FAILED;
        }
    }
    *out_session = session;
    return OK;
}

void tls_session_free(struct tls_session *session)
{
    if (!session)
        return;
    SSL_free(session->ssl);
    ERR_clear_error();
    tls_context_unref(session->context);
    free(session);
}

/* ---- input and output ---- */

static enum tls_io break_off(struct tls_session *session, struct error *err)
{
    session->broken = true;
    if (err)
        *err = session->why_broken;
    return TLS_IO_BROKEN;
}

static void explain(struct tls_session *session)
{
    struct error *why = &session->why_broken;
    long verified = SSL_get_verify_result(session->ssl);
    unsigned long code = ERR_peek_error();
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        (void)fail(why, ERROR_PROTOCOL, "the server's certificate is not valid: %s",
                   X509_verify_cert_error_string(verified));
    else
        (void)tls_fail(why, ERROR_PROTOCOL, "TLS");
}

/* What a call of OpenSSL that did not succeed came to. */
static enum tls_io judge(struct tls_session *session, int returned, struct error *err)
{
    switch (SSL_get_error(session->ssl, returned)) {
    case SSL_ERROR_WANT_READ:
        return TLS_IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        session->ended = true;
        return TLS_IO_END;
    case SSL_ERROR_SYSCALL:
        if (!session->carrier_errno) {
            session->ended = true;
            return TLS_IO_END;
        }
        (void)fail_errno(&session->why_broken, session->carrier_errno, "the TLS connection broke");
        break;
    default:
        /* SMTP marks its own ends, so a connection cut short deceives nobody */
        if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
            session->ended = true;
            return TLS_IO_END;
        }
        explain(session);
        break;
    }
    return break_off(session, err);
}

/* Before each call: errors left by others on this thread must not be taken for ours. */
static bool may_go_on(const struct tls_session *session)
{
    ERR_clear_error();
    errno = 0;
    return !session->broken;
}

static void learn_info(struct tls_session *session)
{
    struct stream_tls_info *info = &session->info;
    info->active = true;
    info->version = str_c(SSL_get_version(session->ssl));
    info->cipher = str_c(SSL_get_cipher_name(session->ssl));
    info->peer_verified = session->name_given && SSL_get0_peer_certificate(session->ssl) &&
                          SSL_get_verify_result(session->ssl) == X509_V_OK;
}

enum tls_io tls_session_handshake(struct tls_session *session, struct error *err)
{
    if (!may_go_on(session))
        return break_off(session, err);
    int returned = SSL_do_handshake(session->ssl);
    enum tls_io io = TLS_IO_DONE;
    if (returned == 1) {
        session->ready = true;
        learn_info(session);
    } else {
        io = judge(session, returned, err);
    }
    ERR_clear_error();
    return io;
}

enum tls_io tls_session_read(struct tls_session *session, void *out, size_t size, size_t *out_got,
                             struct error *err)
{
    if (!may_go_on(session))
        return break_off(session, err);
    if (session->ended)
        return TLS_IO_END;
    int returned = SSL_read_ex(session->ssl, out, size, out_got);
    enum tls_io io = returned == 1 ? TLS_IO_DONE : judge(session, returned, err);
    ERR_clear_error();
    return io;
}

enum tls_io tls_session_write(struct tls_session *session, const void *data, size_t size,
                              size_t *out_taken, struct error *err)
{
    if (!may_go_on(session))
        return break_off(session, err);
    int returned = SSL_write_ex(session->ssl, data, size, out_taken);
    enum tls_io io = returned == 1 ? TLS_IO_DONE : judge(session, returned, err);
    ERR_clear_error();
    return io;
}

bool tls_session_has_pending(const struct tls_session *session)
{
    return !session->ended && !session->broken && SSL_has_pending(session->ssl);
}

void tls_session_rest(struct tls_session *session)
{
    (void)SSL_free_buffers(session->ssl);
}

void tls_session_say_goodbye(struct tls_session *session)
{
    if (session->ready && !session->said_goodbye && may_go_on(session))
        (void)SSL_shutdown(session->ssl);
    session->said_goodbye = true;
    ERR_clear_error();
}

const struct stream_tls_info *tls_session_info(const struct tls_session *session)
{
    return &session->info;
}
