/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/ldap_lane.c - questions to LDAP directories from fibers: a lane of two threads a
 * server, with a bound on what waits and a circuit breaker.
 */
#include "base/memory.h"
#include "directory/directory_internal.h"
#include "directory/ldap.h"
#include "directory/ldap_template.h"
#include "directory/stated.h"

#include <stdlib.h>
#include <string.h>

enum { EXPANDED_MAX = 16 * 1024, JOB_ARENA_MAX = 1024 * 1024 };

/* No client waits longer for an answer to AUTH or RCPT, whatever the server's timeout is. */
static const int64_t PATIENCE_NS = 8 * NS_PER_S;

/* Everything of it lives in its arena, so that a waiter may give up. */
struct ldap_job {
    struct lane_job job;
    struct arena *arena;
    struct directory_backend *backend;
    struct ldap_access access;
    const char *base;
    const char *filter;
    const char *dn; /* direct bind */
    const char *senders;
    char *password;
    size_t password_length;
    bool is_login;
    bool not_asked; /* its time was over before its turn came */
    enum directory_login login;
    enum directory_lookup lookup;
    struct ldap_outcome outcome;
};

static void wipe(char *text)
{
    if (text)
        memory_wipe(text, strlen(text));
}

static void job_free(struct ldap_job *job)
{
    if (job->password)
        memory_wipe(job->password, job->password_length);
    wipe((char *)job->access.bind_password);
    arena_free(job->arena);
    free(job);
}

static void job_release(struct lane_job *lane_job)
{
    job_free(CONTAINER(lane_job, struct ldap_job, job));
}

static void job_work(struct lane_job *lane_job)
{
    struct ldap_job *job = CONTAINER(lane_job, struct ldap_job, job);
    struct str password = str_of(job->password, job->password_length);
    if (clock_monotonic_ns() >= job->access.deadline_ns) {
        (void)fail(&job->outcome.error, ERROR_TIMEOUT, "LDAP: waited too long for its turn");
        job->not_asked = true;
        job->login = DIRECTORY_LOGIN_ERROR;
        job->lookup = DIRECTORY_ERROR;
    } else if (!job->is_login) {
        job->lookup =
            ldap_lookup(job->backend, &job->access, job->base, job->filter, &job->outcome);
    } else if (job->dn) {
        job->login = ldap_login_bind(job->backend, &job->access, job->dn, job->senders, password,
                                     job->arena, &job->outcome);
    } else {
        job->login = ldap_login_search(job->backend, &job->access, job->base, job->filter,
                                       job->senders, password, job->arena, &job->outcome);
    }
}

/* ---- making a job ---- */

static const char *text_or_null(struct arena *arena, struct str text)
{
    return text.len ? arena_c(arena, text) : NULL;
}

static void fill_access(struct ldap_job *job, const struct server *server)
{
    struct ldap_access *access = &job->access;
    const char **urls = arena_alloc_array(job->arena, server->endpoint_count, sizeof *urls);
    uint64_t hash = 0;
    for (size_t i = 0; i < server->endpoint_count; i++) {
        urls[i] = arena_c(job->arena, server->endpoints[i].url);
        hash = hash * 31 + hash_bytes(server->endpoints[i].url);
    }
    access->urls = urls;
    access->url_count = server->endpoint_count;
    access->ca_file = text_or_null(job->arena, server->ca_file);
    access->bind_dn = text_or_null(job->arena, server->bind_dn);
    access->bind_password = text_or_null(job->arena, server->bind_password);
    access->starttls = server->starttls;
    /* verified, unless less was written out */
    access->verify = !(server->tls_given && (server->tls == SERVER_TLS_REQUIRED ||
                                             server->tls == SERVER_TLS_OPPORTUNISTIC));
    access->hash = hash + 3 * hash_bytes(server->ca_file) + 5 * hash_bytes(server->bind_dn) +
                   7 * hash_bytes(server->bind_password) + access->starttls * 11U +
                   access->verify * 13U;
    int64_t patience =
        server->timeout_ns && server->timeout_ns < PATIENCE_NS ? server->timeout_ns : PATIENCE_NS;
    access->deadline_ns = clock_deadline(patience);
}

static enum result expand(struct ldap_job *job, enum ldap_place place, struct str pattern,
                          const struct ldap_values *values, const char **out_text,
                          struct error *err)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, EXPANDED_MAX);
    if (ldap_expand(place, pattern, values, &text, err) != OK)
        return fail_context(err, place == LDAP_IN_DN ? "bind_dn" : "filter");
    if (str_has_nul(buf_str(&text)))
        return fail(err, ERROR_PERMANENT, "a NUL in the LDAP filter");
    *out_text = arena_c(job->arena, buf_str(&text));
    return OK;
}

static enum result job_new(const struct directory_ldap_query *query, struct str login,
                           struct str address, struct ldap_job **out_job, struct error *err)
{
    struct ldap_job *job = NEW(struct ldap_job);
    struct ldap_values values = {.user = login, .address = address};
    struct str default_filter = login.len ? STR("(uid={user})") : STR("(mail={address})");
    struct str filter = query->filter.len ? query->filter : default_filter;
    struct str base = query->base_dn.len ? query->base_dn : query->server->base_dn;
    directory_split_address(address, &values.local, &values.domain);
    if (!login.len)
        values.user = values.local;
    job->job = (struct lane_job){.work = job_work, .release = job_release};
    job->arena = arena_new(JOB_ARENA_MAX);
    job->is_login = login.len;
    fill_access(job, query->server);
    job->base = arena_c(job->arena, base);
    job->senders = text_or_null(job->arena, query->senders);
    enum result result = job->is_login && query->bind_dn.len
                             ? expand(job, LDAP_IN_DN, query->bind_dn, &values, &job->dn, err)
                             : expand(job, LDAP_IN_FILTER, filter, &values, &job->filter, err);
    if (result != OK) {
        job_free(job);
        return FAILED;
    }
    *out_job = job;
    return OK;
}

/* ---- asking ---- */

/* The same for the same login or recipient, whatever the password. */
static uint64_t about(const struct ldap_job *job)
{
    return hash_bytes(str_c(job->dn ? job->dn : job->filter)) | 1;
}

/* What the job says of the server's health. One that found no turn says nothing: those before it
 * do. */
static void settle(struct breaker *breaker, int64_t begun_ns, const struct ldap_job *job)
{
    const struct ldap_outcome *outcome = &job->outcome;
    if (job->not_asked)
        breaker_abandoned(breaker);
    else
        breaker_settle(breaker, begun_ns, outcome->reached ? about(job) : 0,
                       outcome->fault ? &outcome->error : NULL);
}

/* OK: the job is done and the caller's. FAILED: it is gone. */
static enum result run(struct directory *directory, const struct server *server,
                       struct ldap_job *job, struct error *err) MAY_YIELD
{
    struct directory_backend *backend =
        directory_backend(directory->shared, server->name, /* ldap= */ true);
    if (!backend->lane) {
        job_free(job);
        return fail(err, ERROR_PERMANENT, "%s is not an LDAP server", backend->lookups.name);
    }
    struct breaker *breaker = job->is_login ? &backend->logins : &backend->lookups;
    if (breaker_admit(breaker, err) != OK) {
        job_free(job);
        return FAILED;
    }
    job->backend = backend;
    struct scope scope;
    /* a little more than the job's own time, so that its words arrive and not only our clock's */
    scope_open(&scope, job->access.deadline_ns + NS_PER_S);
    struct error error;
    int64_t begun_ns = clock_monotonic_ns();
    enum result result = lane_run(backend->lane, &job->job, &error);
    scope_close(&scope);
    if (result != OK) {
        if (error.kind == ERROR_TIMEOUT)
            breaker_settle(breaker, begun_ns, /* about= */ 0, &error);
        else
            breaker_abandoned(breaker);
        *err = error;
        return fail_context(err, "LDAP");
    }
    settle(breaker, begun_ns, job);
    return OK;
}

static void answer_login(const struct ldap_job *job, struct arena *arena,
                         struct directory_answer *out)
{
    const struct ldap_outcome *outcome = &job->outcome;
    switch (job->login) {
    case DIRECTORY_YES:
        directory_answer_login(out, DIRECTORY_YES, arena, "LDAP: bound as the user");
        break;
    case DIRECTORY_UNKNOWN:
        directory_answer_login(out, DIRECTORY_UNKNOWN, arena, "LDAP: no such entry");
        break;
    default:
        directory_answer_login(out, job->login, arena, "%s", outcome->error.text);
        break;
    }
    if (job->login != DIRECTORY_YES || !outcome->sender_count)
        return;
    out->senders = arena_alloc_array(arena, outcome->sender_count, sizeof(struct str));
    for (size_t i = 0; i < outcome->sender_count; i++)
        out->senders[i] = arena_str(arena, outcome->senders[i]);
    out->sender_count = outcome->sender_count;
}

void directory_login_ldap(struct directory *directory, const struct directory_ldap_query *query,
                          struct str login, struct str password, struct arena *arena,
                          struct directory_answer *out)
{
    if (directory->stated) {
        directory_stated_login(directory->stated, query->server->name, /* is_file= */ false, login,
                               password, arena, out);
        return;
    }
    struct ldap_job *job;
    struct error error;
    *out = (struct directory_answer){.reply = {.text = STR_EMPTY}, .detail = STR_EMPTY};
    if (!password.len || !login.len) {
        directory_answer_login(out, DIRECTORY_NO, arena, "empty login or password");
        return;
    }
    if (job_new(query, login, login, &job, &error) != OK) {
        directory_answer_login(out, DIRECTORY_LOGIN_ERROR, arena, "%s", error.text);
        return;
    }
    job->password = arena_alloc(job->arena, password.len + 1);
    memcpy(job->password, password.ptr, password.len);
    job->password_length = password.len;
    if (run(directory, query->server, job, &error) != OK) {
        directory_answer_login(out, DIRECTORY_LOGIN_ERROR, arena, "%s", error.text);
        return;
    }
    answer_login(job, arena, out);
    job_free(job);
}

void directory_lookup_ldap(struct directory *directory, const struct directory_ldap_query *query,
                           struct str address, struct arena *arena, struct directory_answer *out)
{
    if (directory->stated) {
        directory_stated_lookup(directory->stated, query->server->name, /* is_file= */ false,
                                address, arena, out);
        return;
    }
    struct ldap_job *job;
    struct error error;
    *out = (struct directory_answer){.reply = {.text = STR_EMPTY}, .detail = STR_EMPTY};
    if (job_new(query, STR_EMPTY, address, &job, &error) != OK ||
        run(directory, query->server, job, &error) != OK) {
        directory_answer_lookup(out, DIRECTORY_ERROR, arena, "%s", error.text);
        return;
    }
    if (job->lookup == DIRECTORY_FOUND)
        directory_answer_lookup(out, DIRECTORY_FOUND, arena, "LDAP: an entry fits");
    else if (job->lookup == DIRECTORY_MISSING)
        directory_answer_lookup(out, DIRECTORY_MISSING, arena, "LDAP: no entry fits");
    else
        directory_answer_lookup(out, DIRECTORY_ERROR, arena, "%s", job->outcome.error.text);
    job_free(job);
}
