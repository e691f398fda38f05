/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls.h"

#include "base/arena.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/memory.h"
#include "event/event.h"
#include "net/tls_internal.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Forward secrecy and authenticated encryption only; TLS 1.3 has its own list. */
static const char server_ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20";

/* ---- life cycle ---- */

static struct tls_context *context_new(bool is_server)
{
    struct tls_context *context = NEW(struct tls_context);
    atomic_init(&context->references, 1);
    context->is_server = is_server;
    check(pthread_mutex_init(&context->lock, NULL) == 0);
    check(pthread_mutex_init(&context->refresh_lock, NULL) == 0);
    context->carrier_method = tls_carrier_method_new();
    context->ssl = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    check(context->ssl && context->carrier_method);
    return context;
}

static void context_free(struct tls_context *context)
{
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->carrier_method);
    tls_certificates_unref(context->certificates);
    for (size_t i = 0; i < context->slot_count; i++) {
        free((char *)context->slots[i].name.ptr);
        free(context->slots[i].cert_path);
        free(context->slots[i].key_path);
    }
    free(context->slots);
    memory_wipe(context->ticket_keys, sizeof context->ticket_keys);
    pthread_mutex_destroy(&context->lock);
    pthread_mutex_destroy(&context->refresh_lock);
    free(context);
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    atomic_fetch_add(&context->references, 1);
    return context;
}

void tls_context_unref(struct tls_context *context)
{
    if (context && atomic_fetch_sub(&context->references, 1) == 1)
        context_free(context);
}

struct tls_certificates *tls_context_certificates(struct tls_context *context)
{
    pthread_mutex_lock(&context->lock);
    struct tls_certificates *certificates = context->certificates;
    atomic_fetch_add(&certificates->references, 1);
    pthread_mutex_unlock(&context->lock);
    return certificates;
}

/* ---- what servers and clients share ---- */

static int version_number(int version)
{
    switch (version) {
    case 10:
        return TLS1_VERSION;
    case 11:
        return TLS1_1_VERSION;
    case 13:
        return TLS1_3_VERSION;
    default:
        return TLS1_2_VERSION;
    }
}

static void set_common(SSL_CTX *ssl, int min_version)
{
    /* buffers are kept while a conversation goes on (see tls_session_rest), passwords in them not
     */
    SSL_CTX_set_options(ssl,
                        SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CLEANSE_PLAINTEXT);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ssl, 1); /* one system call a record instead of two */
    SSL_CTX_set_min_proto_version(ssl, version_number(min_version));
}

static char *copy_text(struct str text)
{
    char *copy = memory_alloc(text.len + 1);
    memcpy(copy, text.ptr, text.len);
    return copy;
}

/* ---- servers ---- */

static enum result set_ciphers(SSL_CTX *ssl, struct str ciphers, struct error *err)
{
    char *list = copy_text(ciphers.len ? ciphers : str_c(server_ciphers));
    ERR_clear_error();
    int done = SSL_CTX_set_cipher_list(ssl, list);
    free(list);
    return done == 1 ? OK : tls_fail(err, ERROR_PERMANENT, "list of ciphers");
}

static enum result set_up_server(struct tls_context *context,
                                 const struct tls_server_settings *settings, struct error *err)
{
    SSL_CTX *ssl = context->ssl;
    set_common(ssl, settings->min_version);
    SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_dh_auto(ssl, 1);
    /* tickets only: a store of sessions would be a lock between workers */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl, 1);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl, tls_on_ticket);
    SSL_CTX_set_tlsext_servername_callback(ssl, tls_on_server_name);
    SSL_CTX_set_cert_cb(ssl, tls_on_certificate, context);
    SSL_CTX_set_alpn_select_cb(ssl, tls_on_alpn, context);
    return set_ciphers(ssl, settings->ciphers, err);
}

static void report(const struct tls_slot *slot, const struct error *err)
{
    if (err)
        event_emit(EVENT_CERTIFICATE_FAILED, F_STR(OBJECT, slot->name), F_C(FILE, slot->cert_path),
                   F_C(ERROR, err->text));
    else
        event_emit(EVENT_CERTIFICATE_LOADED, F_STR(OBJECT, slot->name), F_C(FILE, slot->cert_path));
}

static void stamp(struct tls_slot *slot)
{
    slot->stamps[0] = tls_file_stamp(slot->cert_path);
    slot->stamps[1] = tls_file_stamp(slot->key_path);
}

static struct tls_certificates *certificates_new(size_t count)
{
    struct tls_certificates *set =
        memory_alloc(sizeof(struct tls_certificates) + count * sizeof(struct tls_certificate *));
    atomic_init(&set->references, 1);
    set->count = count;
    return set;
}

static enum result load_all(struct tls_context *context, const struct tls_server_settings *settings,
                            struct error *err)
{
    context->slots = memory_alloc_array(settings->count, sizeof context->slots[0]);
    context->slot_count = settings->count;
    context->certificates = certificates_new(settings->count);
    for (size_t i = 0; i < settings->count; i++) {
        const struct tls_certificate_files *files = &settings->certificates[i];
        struct tls_slot *slot = &context->slots[i];
        slot->name = (struct str){copy_text(files->name), files->name.len};
        slot->cert_path = copy_text(files->cert_path);
        slot->key_path = copy_text(files->key_path);
        /* before reading: a file that changes meanwhile is read again */
        stamp(slot);
        if (tls_certificate_load(context->ssl, slot->cert_path, slot->key_path,
                                 &context->certificates->items[i], err) == FAILED)
            return fail_context(err, "certificate %.*s", STR_ARG(slot->name));
    }
    return OK;
}

enum result tls_server_new(const struct tls_server_settings *settings,
                           struct tls_context **out_context, struct error *err)
{
    if (settings->count == 0)
        return fail(err, ERROR_PERMANENT, "a TLS server needs a certificate");
    struct tls_context *context = context_new(/* is_server= */ true);
    if (set_up_server(context, settings, err) == FAILED ||
        load_all(context, settings, err) == FAILED) {
        tls_context_unref(context);
        return FAILED;
    }
    *out_context = context;
    return OK;
}

static bool has_changed(const struct tls_slot *slot)
{
    struct tls_slot now = *slot;
    stamp(&now);
    return !tls_file_stamp_equal(&now.stamps[0], &slot->stamps[0]) ||
           !tls_file_stamp_equal(&now.stamps[1], &slot->stamps[1]);
}

/* The certificate of a slot for the next set: read again if its files changed. */
static struct tls_certificate *renew(struct tls_context *context, size_t index)
{
    struct tls_slot *slot = &context->slots[index];
    struct tls_certificate *current = context->certificates->items[index], *fresh = NULL;
    struct error err;
    if (!has_changed(slot))
        return tls_certificate_ref(current);
    stamp(slot); /* a bad file is reported once, until it changes again */
    if (tls_certificate_load(context->ssl, slot->cert_path, slot->key_path, &fresh, &err) ==
        FAILED) {
        report(slot, &err);
        return tls_certificate_ref(current);
    }
    report(slot, NULL);
    return fresh;
}

void tls_context_refresh(struct tls_context *context)
{
    if (!context->is_server)
        return;
    pthread_mutex_lock(&context->refresh_lock);
    struct tls_certificates *next = certificates_new(context->slot_count);
    bool changed = false;
    for (size_t i = 0; i < context->slot_count; i++) {
        next->items[i] = renew(context, i);
        changed |= next->items[i] != context->certificates->items[i];
    }
    if (changed) {
        pthread_mutex_lock(&context->lock);
        struct tls_certificates *old = context->certificates;
        context->certificates = next;
        next = old;
        pthread_mutex_unlock(&context->lock);
    }
    tls_certificates_unref(next);
    pthread_mutex_unlock(&context->refresh_lock);
}

bool tls_context_has_name(const struct tls_context *context, struct str name)
{
    bool has = false;
    if (!context->is_server)
        return false;
    struct tls_certificates *set = tls_context_certificates((struct tls_context *)context);
    for (size_t i = 0; i < set->count; i++)
        has = has || tls_certificate_serves(set->items[i], name);
    tls_certificates_unref(set);
    return has;
}

size_t tls_context_ends(const struct tls_context *context, struct arena *arena,
                        struct tls_certificate_end **out)
{
    *out = NULL;
    if (!context->is_server)
        return 0;
    struct tls_certificates *set = tls_context_certificates((struct tls_context *)context);
    *out = arena_alloc_array(arena, set->count, sizeof **out);
    for (size_t i = 0; i < set->count; i++) /* names and paths of the slots never change */
        (*out)[i] = (struct tls_certificate_end){
            .name = arena_str(arena, context->slots[i].name),
            .file = arena_str(arena, str_c(context->slots[i].cert_path)),
            .ends_at_s = set->items[i]->ends_at_s,
        };
    size_t count = set->count;
    tls_certificates_unref(set);
    return count;
}

int tls_context_days_left(const struct tls_context *context)
{
    if (!context->is_server)
        return INT_MAX;
    /* the lock and the count are no part of what the caller sees as constant */
    struct tls_certificates *set = tls_context_certificates((struct tls_context *)context);
    int64_t earliest = INT64_MAX;
    for (size_t i = 0; i < set->count; i++)
        if (set->items[i]->ends_at_s < earliest)
            earliest = set->items[i]->ends_at_s;
    tls_certificates_unref(set);
    int64_t seconds = earliest - clock_wall_ns() / NS_PER_S;
    int64_t days = seconds / 86400 - (seconds < 0 && seconds % 86400 ? 1 : 0);
    return days > INT_MAX ? INT_MAX : (int)days;
}

bool tls_context_is_early(const struct tls_context *context)
{
    bool is_early = false;
    if (!context->is_server)
        return false;
    struct tls_certificates *set = tls_context_certificates((struct tls_context *)context);
    for (size_t i = 0; i < set->count; i++)
        is_early = is_early || set->items[i]->begins_at_s > clock_wall_ns() / NS_PER_S;
    tls_certificates_unref(set);
    return is_early;
}

/* ---- clients ---- */

/*
 * The system's store, read now: once the process is confined, files cannot be opened any more. The
 * folder of OpenSSL, which is searched at each handshake, is the last resort.
 */
static enum result load_trust(SSL_CTX *ssl, struct str ca_path, struct error *err)
{
    static const char debian_bundle[] = "/etc/ssl/certs/ca-certificates.crt";
    ERR_clear_error();
    if (ca_path.len) {
        char *path = copy_text(ca_path);
        int done = SSL_CTX_load_verify_file(ssl, path);
        if (done != 1) {
            (void)tls_fail(err, ERROR_PERMANENT, "cannot read certificates");
            (void)fail_context(err, "%s", path);
        }
        free(path);
        return done == 1 ? OK : FAILED;
    }
    const char *given = secure_getenv(X509_get_default_cert_file_env());
    const char *bundle = given ? given : debian_bundle;
    if (access(bundle, R_OK) != 0 || SSL_CTX_load_verify_file(ssl, bundle) != 1)
        (void)SSL_CTX_set_default_verify_paths(ssl);
    ERR_clear_error();
    return OK;
}

/*
 * Where certificates are not checked, the choice is not between good and weak encryption but
 * between weak and none.
 */
static void relax(SSL_CTX *ssl, int min_version)
{
    SSL_CTX_set_security_level(ssl, min_version < 12 ? 0 : 1);
    SSL_CTX_set_options(ssl, SSL_OP_LEGACY_SERVER_CONNECT);
}

enum result tls_client_new(const struct tls_client_settings *settings,
                           struct tls_context **out_context, struct error *err)
{
    struct tls_context *context = context_new(/* is_server= */ false);
    set_common(context->ssl, settings->min_version);
    context->verify = settings->verify;
    if (settings->verify)
        SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER, NULL);
    else
        relax(context->ssl, settings->min_version);
    if (settings->trust_of) {
        SSL_CTX_set1_cert_store(context->ssl, SSL_CTX_get_cert_store(settings->trust_of->ssl));
    } else if (load_trust(context->ssl, settings->ca_path, err) == FAILED) {
        tls_context_unref(context);
        return FAILED;
    }
    *out_context = context;
    return OK;
}
