/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/ldap.h"

#include "base/memory.h"

#include <ldap.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum {
    QUESTIONS_MAX = 1000, /* on one kept connection */
    SENDERS_MAX = 100,
    SENDER_LENGTH_MAX = 1000,
};

static const int64_t IDLE_MAX_NS = 60 * NS_PER_S;
static const char SYSTEM_CA_FILE[] = "/etc/ssl/certs/ca-certificates.crt";

/* Bound as the service; in use by one thread, or kept in a backend's slot. */
struct ldap_connection {
    LDAP *ldap;
    uint64_t hash;
    int64_t last_used_ns;
    unsigned questions;
};

/* ---- time ---- */

/* What is left until the deadline, at least a millisecond (zero means "for ever" to libldap). */
static struct timeval time_left(const struct ldap_access *access)
{
    int64_t left = access->deadline_ns - clock_monotonic_ns();
    if (left < NS_PER_MS)
        left = NS_PER_MS;
    return (struct timeval){.tv_sec = left / NS_PER_S, .tv_usec = left % NS_PER_S / NS_PER_US};
}

static bool is_late(const struct ldap_access *access)
{
    return clock_monotonic_ns() >= access->deadline_ns;
}

static void set_timeouts(LDAP *ldap, const struct ldap_access *access)
{
    struct timeval left = time_left(access);
    (void)ldap_set_option(ldap, LDAP_OPT_NETWORK_TIMEOUT, &left);
    (void)ldap_set_option(ldap, LDAP_OPT_TIMEOUT, &left);
}

/* ---- faults ---- */

/* Codes that say that the connection or the server is no good, not what the question is worth. */
static bool is_fault(int code)
{
    if (code == LDAP_FILTER_ERROR || code == LDAP_PARAM_ERROR || code == LDAP_ENCODING_ERROR)
        return false; /* the library did not even ask: the pattern is wrong */
    return code < 0 || code == LDAP_BUSY || code == LDAP_UNAVAILABLE ||
           code == LDAP_TIMELIMIT_EXCEEDED;
}

/* Of the faults, those that this one question may have caused: the server hung up on it or took too
 * long. One that is busy or not available said so of itself. */
static bool may_be_the_question(int code)
{
    return code < 0 || code == LDAP_TIMELIMIT_EXCEEDED;
}

/* The share of attempt `attempt` in the time that is left: a server that takes connections but does
 * not answer must leave some for the next. */
static struct ldap_access share_of(const struct ldap_access *access, size_t attempt)
{
    struct ldap_access share = *access;
    int64_t left = access->deadline_ns - clock_monotonic_ns();
    if (left > 0)
        share.deadline_ns = clock_deadline(left / (int64_t)(access->url_count - attempt));
    return share;
}

/* ---- connections ---- */

/* The library does not say that it was the certificate: only that there is no connection. */
static const char *hint_of(LDAP *ldap, int code, const char *doing)
{
    char *url = NULL;
    bool is_down = code == LDAP_SERVER_DOWN || code == LDAP_CONNECT_ERROR;
    if (is_down && strcmp(doing, "StartTLS") == 0)
        return ": TLS fails; is its certificate of an authority that ca_file or the system knows, "
               "and for this host?";
    if (!is_down || !ldap || ldap_get_option(ldap, LDAP_OPT_URI, &url) != LDAP_OPT_SUCCESS || !url)
        return "";
    bool implicit = str_starts_nocase(str_c(url), STR("ldaps:"));
    ldap_memfree(url);
    return implicit ? ": nobody listens there, or TLS fails; is its certificate of an authority "
                      "that ca_file or the system knows, and for this host?"
                    : "";
}

static enum result ldap_failed(LDAP *ldap, int code, const char *doing, struct error *err)
{
    char *diagnostic = NULL;
    if (ldap)
        (void)ldap_get_option(ldap, LDAP_OPT_DIAGNOSTIC_MESSAGE, &diagnostic);
    bool says_nothing = !diagnostic || strcmp(diagnostic, "(unknown error code)") == 0;
    enum error_kind kind = code == LDAP_TIMEOUT ? ERROR_TIMEOUT : ERROR_TEMPORARY;
    (void)fail(err, kind, "LDAP %s: %s (%d)%s%.100s%s", doing, ldap_err2string(code), code,
               !says_nothing && *diagnostic ? ": " : "", says_nothing ? "" : diagnostic,
               hint_of(ldap, code, doing));
    if (diagnostic)
        ldap_memfree(diagnostic);
    return FAILED;
}

static int set_tls(LDAP *ldap, const struct ldap_access *access)
{
    int demand = access->verify ? LDAP_OPT_X_TLS_DEMAND : LDAP_OPT_X_TLS_NEVER;
    int as_client = 0;
    const char *ca_file = access->ca_file;
    char *from_system = NULL; /* what ldap.conf says, if there is one */
    (void)ldap_get_option(ldap, LDAP_OPT_X_TLS_CACERTFILE, &from_system);
    if (!ca_file && !from_system)
        ca_file = SYSTEM_CA_FILE;
    ldap_memfree(from_system);
    int code = ldap_set_option(ldap, LDAP_OPT_X_TLS_REQUIRE_CERT, &demand);
    if (code == LDAP_OPT_SUCCESS && ca_file)
        code = ldap_set_option(ldap, LDAP_OPT_X_TLS_CACERTFILE, ca_file);
    if (code == LDAP_OPT_SUCCESS)
        code = ldap_set_option(ldap, LDAP_OPT_X_TLS_NEWCTX, &as_client);
    return code;
}

/* A handle that is connected and may be bound; nothing is asked yet except for StartTLS. */
static enum result connect_ldap(const struct ldap_access *access, const char *url, LDAP **out_ldap,
                                struct error *err)
{
    LDAP *ldap = NULL;
    int version = LDAP_VERSION3;
    int code = ldap_initialize(&ldap, url);
    if (code != LDAP_SUCCESS)
        return ldap_failed(NULL, code, "URL", err);
    (void)ldap_set_option(ldap, LDAP_OPT_PROTOCOL_VERSION, &version);
    (void)ldap_set_option(ldap, LDAP_OPT_REFERRALS, LDAP_OPT_OFF);
    (void)ldap_set_option(ldap, LDAP_OPT_RESTART, LDAP_OPT_ON);
    set_timeouts(ldap, access);
    /* reading a bundle of authorities takes long: not for nothing */
    if (access->starttls || str_starts_nocase(str_c(url), STR("ldaps:")))
        code = set_tls(ldap, access);
    if (code != LDAP_OPT_SUCCESS) {
        (void)fail(err, ERROR_PERMANENT, "LDAP TLS settings (CA file) are of no use");
    } else {
        code = access->starttls ? ldap_start_tls_s(ldap, NULL, NULL) : ldap_connect(ldap);
        if (code != LDAP_SUCCESS)
            (void)ldap_failed(ldap, code, access->starttls ? "StartTLS" : "connection", err);
    }
    if (code != LDAP_SUCCESS) {
        (void)ldap_unbind_ext_s(ldap, NULL, NULL);
        return FAILED;
    }
    *out_ldap = ldap;
    return OK;
}

/* Result code of a simple bind. Callers have made sure that the password is not empty, unless both
 * are NULL. */
static int bind_simple(LDAP *ldap, const struct ldap_access *access, const char *dn,
                       struct str password)
{
    struct berval credentials = {.bv_len = password.len, .bv_val = (char *)password.ptr};
    set_timeouts(ldap, access);
    return ldap_sasl_bind_s(ldap, dn, LDAP_SASL_SIMPLE, &credentials, NULL, NULL, NULL);
}

void ldap_connection_free(struct ldap_connection *connection)
{
    if (!connection)
        return;
    (void)ldap_unbind_ext_s(connection->ldap, NULL, NULL);
    free(connection);
}

/* Connect and bind as the service; the result code. */
static int open_at(const struct ldap_access *access, const char *url,
                   struct ldap_connection **out_connection, struct error *err)
{
    LDAP *ldap;
    if (connect_ldap(access, url, &ldap, err) != OK)
        return LDAP_SERVER_DOWN;
    struct str password = access->bind_dn ? str_c(access->bind_password) : STR_EMPTY;
    int code = bind_simple(ldap, access, access->bind_dn, password);
    if (code != LDAP_SUCCESS) {
        (void)ldap_failed(ldap, code, "service bind", err);
        (void)ldap_unbind_ext_s(ldap, NULL, NULL);
        return code;
    }
    struct ldap_connection *connection = NEW(struct ldap_connection);
    connection->ldap = ldap;
    connection->hash = access->hash;
    *out_connection = connection;
    return code;
}

static enum result open_connection(struct directory_backend *backend,
                                   const struct ldap_access *access,
                                   struct ldap_connection **out_connection, struct error *err)
{
    if (access->bind_dn && !str_c(access->bind_password).len)
        return fail(err, ERROR_PERMANENT, "LDAP service bind: bind_dn without a password");
    (void)fail(err, ERROR_PERMANENT, "LDAP: no URL");
    unsigned first = atomic_load(&backend->preferred);
    for (size_t i = 0; i < access->url_count; i++) {
        struct ldap_access share = share_of(access, i);
        size_t index = (first + i) % access->url_count;
        int code = open_at(&share, access->urls[index], out_connection, err);
        if (code == LDAP_SUCCESS) {
            atomic_store(&backend->preferred, (unsigned)index);
            return OK;
        }
        if (!is_fault(code))
            break; /* another copy of the directory would say the same */
    }
    return FAILED;
}

static struct ldap_connection *take_kept(struct directory_backend *backend,
                                         const struct ldap_access *access)
{
    for (size_t i = 0; i < BACKEND_LDAP_CONNECTIONS; i++) {
        struct ldap_connection *connection = atomic_exchange(&backend->kept[i], NULL);
        if (connection && connection->hash == access->hash &&
            connection->questions < QUESTIONS_MAX &&
            clock_monotonic_ns() - connection->last_used_ns < IDLE_MAX_NS)
            return connection;
        ldap_connection_free(connection);
    }
    return NULL;
}

static void keep(struct directory_backend *backend, struct ldap_connection *connection)
{
    connection->last_used_ns = clock_monotonic_ns();
    connection->questions++;
    for (size_t i = 0; i < BACKEND_LDAP_CONNECTIONS; i++) {
        struct ldap_connection *none = NULL;
        if (atomic_compare_exchange_strong(&backend->kept[i], &none, connection))
            return;
    }
    ldap_connection_free(connection);
}

/* ---- what results mean ---- */

enum directory_login ldap_judge_user_bind(int code, bool direct)
{
    if (code == LDAP_SUCCESS)
        return DIRECTORY_YES;
    if (code == LDAP_INVALID_CREDENTIALS)
        return DIRECTORY_NO;
    if (code == LDAP_NO_SUCH_OBJECT && direct)
        return DIRECTORY_UNKNOWN;
    return DIRECTORY_LOGIN_ERROR;
}

enum directory_login ldap_judge_login_search(int code, int entries)
{
    if (code != LDAP_SUCCESS || entries < 0 || entries > 1)
        return DIRECTORY_LOGIN_ERROR;
    return entries == 1 ? DIRECTORY_YES : DIRECTORY_UNKNOWN;
}

enum directory_lookup ldap_judge_lookup_search(int code, int entries)
{
    if (code == LDAP_SIZELIMIT_EXCEEDED || (code == LDAP_SUCCESS && entries > 0))
        return DIRECTORY_FOUND;
    return code == LDAP_SUCCESS && entries == 0 ? DIRECTORY_MISSING : DIRECTORY_ERROR;
}

/* ---- searching ---- */

struct search {
    const char *base;
    int scope;
    const char *filter;
    const char *attribute; /* NULL: none */
    int size_limit;
};

static int run_search(LDAP *ldap, const struct ldap_access *access, const struct search *search,
                      LDAPMessage **out_result)
{
    char none[] = LDAP_NO_ATTRS;
    char *attributes[] = {search->attribute ? (char *)search->attribute : none, NULL};
    struct timeval left = time_left(access);
    set_timeouts(ldap, access);
    return ldap_search_ext_s(ldap, search->base, search->scope, search->filter, attributes,
                             /* attrsonly= */ 0, NULL, NULL, &left, search->size_limit, out_result);
}

/* Search on a kept connection or a new one; a kept one that turns out dead is replaced once.
 * `*out_code` is the result. FAILED: it could not be asked, a fault in `out`. */
static enum result search_as_service(struct directory_backend *backend,
                                     const struct ldap_access *access, const struct search *search,
                                     LDAPMessage **out_result, int *out_code,
                                     struct ldap_outcome *out)
{
    struct error *err = &out->error;
    out->fault = true;
    for (;;) {
        struct ldap_connection *connection = take_kept(backend, access);
        bool kept = connection;
        if (!kept && open_connection(backend, access, &connection, err) != OK)
            return FAILED;
        *out_result = NULL;
        /* a kept one may be dead without a word: half of the time is for its successor */
        struct ldap_access share = *access;
        if (kept)
            share.deadline_ns -= (access->deadline_ns - clock_monotonic_ns()) / 2;
        *out_code = run_search(connection->ldap, &share, search, out_result);
        if (!is_fault(*out_code)) {
            /* the text for an unwelcome result, while the handle still knows it */
            if (*out_code != LDAP_SUCCESS)
                (void)ldap_failed(connection->ldap, *out_code, "search", err);
            keep(backend, connection);
            out->fault = false;
            return OK;
        }
        /* a kept one may have been dead before */
        out->reached = !kept && may_be_the_question(*out_code);
        (void)ldap_failed(connection->ldap, *out_code, "search", err);
        ldap_connection_free(connection);
        if (*out_result)
            ldap_msgfree(*out_result);
        *out_result = NULL;
        if (!kept || is_late(access))
            return FAILED;
    }
}

static void copy_senders(LDAP *ldap, LDAPMessage *entry, const char *attribute, struct arena *arena,
                         struct ldap_outcome *out)
{
    struct berval **values = attribute ? ldap_get_values_len(ldap, entry, attribute) : NULL;
    if (!values)
        return;
    out->senders = arena_alloc_array(arena, SENDERS_MAX, sizeof(struct str));
    for (size_t i = 0; values[i] && out->sender_count < SENDERS_MAX; i++) {
        struct str sender = str_trim(str_of(values[i]->bv_val, values[i]->bv_len));
        if (str_starts_nocase(sender, STR("smtp:"))) /* proxyAddresses of Active Directory */
            sender = str_from(sender, 5);
        bool usable = sender.len && sender.len <= SENDER_LENGTH_MAX && str_find(sender, '@') >= 0;
        for (size_t k = 0; k < sender.len; k++)
            usable = usable && (unsigned char)sender.ptr[k] > 0x20 && sender.ptr[k] != 0x7F;
        if (usable)
            out->senders[out->sender_count++] = arena_str(arena, sender);
    }
    ldap_value_free_len(values);
}

/* ---- logins ---- */

/* Bind on a connection of its own: a service's connection must stay the service's. The result
 * code; on success the handle is the caller's. */
static int bind_at(const struct ldap_access *access, const char *url, const char *dn,
                   struct str password, LDAP **out_ldap, struct ldap_outcome *out)
{
    LDAP *ldap;
    out->reached = false;
    if (connect_ldap(access, url, &ldap, &out->error) != OK)
        return LDAP_SERVER_DOWN;
    int code = bind_simple(ldap, access, dn, password);
    if (code == LDAP_SUCCESS) {
        *out_ldap = ldap;
        return code;
    }
    out->reached = may_be_the_question(code);
    (void)ldap_failed(ldap, code, "bind as the user", &out->error);
    (void)ldap_unbind_ext_s(ldap, NULL, NULL);
    return code;
}

static enum directory_login bind_as_user(struct directory_backend *backend,
                                         const struct ldap_access *access, const char *dn,
                                         struct str password, bool direct, LDAP **out_ldap,
                                         struct ldap_outcome *out)
{
    int code = LDAP_SERVER_DOWN;
    if (!password.len || !*dn) {
        /* would be an "unauthenticated" or anonymous bind, which succeeds (RFC 4513 5.1) */
        (void)fail(&out->error, ERROR_PERMANENT, "LDAP bind without a name or password");
        return DIRECTORY_LOGIN_ERROR;
    }
    (void)fail(&out->error, ERROR_PERMANENT, "LDAP: no URL");
    unsigned first = atomic_load(&backend->preferred);
    for (size_t i = 0; i < access->url_count && is_fault(code); i++) {
        struct ldap_access share = share_of(access, i);
        size_t index = (first + i) % access->url_count;
        code = bind_at(&share, access->urls[index], dn, password, out_ldap, out);
        if (!is_fault(code))
            atomic_store(&backend->preferred, (unsigned)index);
    }
    out->fault = is_fault(code);
    return ldap_judge_user_bind(code, direct);
}

enum directory_login ldap_login_bind(struct directory_backend *backend,
                                     const struct ldap_access *access, const char *dn,
                                     const char *senders, struct str password, struct arena *arena,
                                     struct ldap_outcome *out)
{
    LDAP *ldap = NULL;
    enum directory_login login =
        bind_as_user(backend, access, dn, password, /* direct= */ true, &ldap, out);
    if (login != DIRECTORY_YES)
        return login;
    if (senders) {
        struct search own = {dn, LDAP_SCOPE_BASE, "(objectClass=*)", senders, 1};
        LDAPMessage *result = NULL;
        /* an entry that the user may not read gives no senders; the login stands */
        if (run_search(ldap, access, &own, &result) == LDAP_SUCCESS &&
            ldap_first_entry(ldap, result))
            copy_senders(ldap, ldap_first_entry(ldap, result), senders, arena, out);
        ldap_msgfree(result);
    }
    (void)ldap_unbind_ext_s(ldap, NULL, NULL);
    return DIRECTORY_YES;
}

enum directory_login ldap_login_search(struct directory_backend *backend,
                                       const struct ldap_access *access, const char *base,
                                       const char *filter, const char *senders, struct str password,
                                       struct arena *arena, struct ldap_outcome *out)
{
    struct search search = {base, LDAP_SCOPE_SUBTREE, filter, senders, 2};
    LDAPMessage *result;
    int code;
    if (search_as_service(backend, access, &search, &result, &code, out) != OK)
        return DIRECTORY_LOGIN_ERROR;
    /* counting and reading need a handle, any handle */
    LDAP *reader = NULL;
    LDAP *bound = NULL;
    if (ldap_create(&reader) != LDAP_SUCCESS) {
        ldap_msgfree(result);
        (void)fail(&out->error, ERROR_TEMPORARY, "LDAP: no memory");
        return DIRECTORY_LOGIN_ERROR;
    }
    int entries = result ? ldap_count_entries(reader, result) : 0;
    enum directory_login login = ldap_judge_login_search(code, entries);
    if (code == LDAP_SIZELIMIT_EXCEEDED || entries > 1)
        (void)fail(&out->error, ERROR_PERMANENT, "LDAP: more than one entry fits the login");
    if (login == DIRECTORY_YES) {
        LDAPMessage *entry = ldap_first_entry(reader, result);
        char *dn = ldap_get_dn(reader, entry);
        login =
            bind_as_user(backend, access, dn ? dn : "", password, /* direct= */ false, &bound, out);
        if (login == DIRECTORY_YES)
            copy_senders(reader, entry, senders, arena, out);
        ldap_memfree(dn);
    }
    if (bound)
        (void)ldap_unbind_ext_s(bound, NULL, NULL);
    (void)ldap_unbind_ext_s(reader, NULL, NULL);
    ldap_msgfree(result);
    return login;
}

/* ---- recipients ---- */

enum directory_lookup ldap_lookup(struct directory_backend *backend,
                                  const struct ldap_access *access, const char *base,
                                  const char *filter, struct ldap_outcome *out)
{
    struct search search = {base, LDAP_SCOPE_SUBTREE, filter, NULL, 1};
    LDAPMessage *result;
    int code;
    if (search_as_service(backend, access, &search, &result, &code, out) != OK)
        return DIRECTORY_ERROR;
    int entries = 0;
    LDAP *reader = NULL;
    if (result && ldap_create(&reader) == LDAP_SUCCESS) {
        entries = ldap_count_entries(reader, result);
        (void)ldap_unbind_ext_s(reader, NULL, NULL);
    }
    ldap_msgfree(result);
    return ldap_judge_lookup_search(code, entries);
}
