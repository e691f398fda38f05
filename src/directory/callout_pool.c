/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/callout_pool.c - does this recipient exist, by asking a mail server; over a few kept
 * connections that a worker's sessions share.
 */
#include "base/memory.h"
#include "directory/callout.h"
#include "fiber/cond.h"
#include "directory/stated.h"

#include <stdlib.h>

enum {
    CONNECTIONS_MAX = 4,
    QUESTIONS_MAX = 1000, /* on one connection */
    /* Common servers count refused recipients as a client's errors and slow down at the tenth. */
    REFUSALS_MAX = 9,
};

static const int64_t IDLE_MAX_NS = 60 * NS_PER_S;

struct callout_pool {
    struct list idle; /* struct connection, last used first */
    unsigned open;    /* idle, in use, or being opened */
    struct cond given_back;
};

struct connection {
    struct list link;
    struct callout_pool *pool;
    struct smtp_client *client;
    uint64_t made_for; /* hash of the server entry's settings */
    int64_t last_used_ns;
    unsigned questions;
    unsigned refusals;
};

/* ---- connections ---- */

/* A reload may have changed where the name points to. */
static uint64_t hash_settings(const struct server *server)
{
    uint64_t hash = (uint64_t)server->tls * 31 + (uint64_t)server->kind;
    for (size_t i = 0; i < server->endpoint_count; i++) {
        const struct server_endpoint *endpoint = &server->endpoints[i];
        hash = hash * 31 + hash_bytes(endpoint->host) + hash_bytes(endpoint->unix_path) +
               endpoint->port;
    }
    return hash * 31 + hash_bytes(server->ca_file);
}

static struct callout_pool *find_pool(struct directory *directory, struct str name)
{
    struct callout_pool *pool = map_get(&directory->pools, name);
    if (!pool) {
        pool = NEW(struct callout_pool);
        list_init(&pool->idle);
        cond_init(&pool->given_back);
        map_put(&directory->pools, name, pool);
    }
    return pool;
}

static void drop(struct connection *connection, bool politely) MAY_YIELD
{
    struct callout_pool *pool = connection->pool;
    pool->open--;
    cond_signal(&pool->given_back);
    if (politely)
        smtp_client_quit(connection->client);
    else
        smtp_client_abort(connection->client);
    free(connection);
}

static bool is_worn(const struct connection *connection, uint64_t made_for)
{
    return connection->made_for != made_for || connection->questions >= QUESTIONS_MAX ||
           connection->refusals >= REFUSALS_MAX ||
           clock_monotonic_ns() - connection->last_used_ns > IDLE_MAX_NS;
}

static void give_back(struct connection *connection) MAY_YIELD
{
    struct callout_pool *pool = connection->pool;
    connection->last_used_ns = clock_monotonic_ns();
    if (!smtp_client_is_usable(connection->client) || is_worn(connection, connection->made_for)) {
        drop(connection, /* politely= */ true);
        return;
    }
    list_prepend(&pool->idle, &connection->link);
    cond_signal(&pool->given_back);
}

static enum result open_connection(struct directory *directory, const struct server *server,
                                   struct callout_pool *pool, struct connection **out_connection,
                                   struct error *err) MAY_YIELD
{
    struct smtp_client *client;
    pool->open++;
    if (callout_open(directory, server, /* for_login= */ false, &client, err) != OK) {
        pool->open--;
        cond_signal(&pool->given_back);
        return FAILED;
    }
    struct connection *connection = NEW(struct connection);
    list_init(&connection->link);
    connection->pool = pool;
    connection->client = client;
    connection->made_for = hash_settings(server);
    *out_connection = connection;
    return OK;
}

/* A kept connection (unless `fresh`) or a new one; waits while all are in use. */
static enum result take_connection(struct directory *directory, const struct server *server,
                                   struct callout_pool *pool, bool fresh,
                                   struct connection **out_connection, struct error *err) MAY_YIELD
{
    for (;;) {
        struct list *link = list_shift(&pool->idle);
        if (link) {
            struct connection *connection = CONTAINER(link, struct connection, link);
            bool usable = smtp_client_is_usable(connection->client);
            if (!fresh && usable && !is_worn(connection, hash_settings(server))) {
                *out_connection = connection;
                return OK;
            }
            drop(connection, /* politely= */ usable);
            continue;
        }
        if (pool->open < CONNECTIONS_MAX)
            return open_connection(directory, server, pool, out_connection, err);
        if (cond_wait(&pool->given_back, err) != OK)
            return fail_context(err, "all connections are in use");
    }
}

/* ---- the question ---- */

struct question {
    const struct server *server;
    struct str address;
    bool smtputf8;
    struct mail_reply mail; /* texts in `arena` */
    struct mail_reply rcpt;
    struct arena *arena;
    bool reached;         /* a connection was had to ask on */
    bool cannot_be_asked; /* the server is well, but this address is beyond it */
};

/* One question on one connection. `*out_again`: the failure may be the connection's age. */
static enum result ask_once(struct directory *directory, struct question *question, bool fresh,
                            bool *out_again, struct error *err) MAY_YIELD
{
    struct callout_pool *pool = find_pool(directory, question->server->name);
    struct connection *connection = NULL;
    struct mail_reply mail, rcpt;
    *out_again = false;
    question->reached = false;
    if (take_connection(directory, question->server, pool, fresh, &connection, err) != OK)
        return FAILED;
    struct smtp_client *client = connection->client;
    question->reached = true;
    if (question->smtputf8 && !(smtp_client_extensions(client) & SMTP_EXT_SMTPUTF8)) {
        question->cannot_be_asked = true;
        give_back(connection);
        return fail(err, ERROR_PERMANENT, "the server does not know SMTPUTF8");
    }
    bool used = connection->questions++ > 0;
    if (smtp_client_probe(client, STR_EMPTY, question->address, question->smtputf8, &mail, &rcpt,
                          err) != OK) {
        question->cannot_be_asked = err->kind == ERROR_PERMANENT;
        *out_again = err->kind == ERROR_TEMPORARY || err->kind == ERROR_PROTOCOL;
        drop(connection, /* politely= */ false);
        return FAILED;
    }
    question->mail = mail_reply_copy(question->arena, &mail);
    question->rcpt = mail_reply_copy(question->arena, &rcpt);
    /* some servers answer MAIL with a refusal when a connection has asked them enough */
    *out_again = used && !mail_reply_is_positive(&mail);
    if (!mail_reply_is_positive(&mail) || !mail_reply_is_positive(&rcpt))
        connection->refusals++;
    if (mail_reply_is_positive(&mail))
        give_back(connection);
    else
        drop(connection, /* politely= */ true);
    return OK;
}

static enum result ask(struct directory *directory, struct question *question,
                       struct error *err) MAY_YIELD
{
    bool again;
    enum result result = ask_once(directory, question, /* fresh= */ false, &again, err);
    if (!again || fiber_check(NULL) != OK)
        return result;
    return ask_once(directory, question, /* fresh= */ true, &again, err);
}

static void answer(struct directory_backend *backend, struct question *question,
                   struct directory_answer *out)
{
    enum directory_lookup lookup = callout_judge_lookup(&question->mail, &question->rcpt);
    bool refused_mail = !mail_reply_is_positive(&question->mail);
    out->reply = refused_mail ? question->mail : question->rcpt;
    struct str text = mail_reply_text(question->arena, &out->reply);
    directory_answer_lookup(out, lookup, question->arena, "%s: %.*s",
                            refused_mail ? "MAIL" : "RCPT", STR_ARG(text));
    if (lookup == DIRECTORY_DENIED)
        directory_backend_denied(backend, text);
}

static void lookup(struct directory *directory, const struct server *server, struct str address,
                   bool smtputf8, struct arena *arena, struct directory_answer *out) MAY_YIELD
{
    struct directory_backend *backend =
        directory_backend(directory->shared, server->name, /* ldap= */ false);
    struct question question = {
        .server = server,
        .address = address,
        .smtputf8 = smtputf8,
        .arena = arena,
    };
    struct error error;
    if (breaker_admit(&backend->lookups, &error) != OK) {
        directory_answer_lookup(out, DIRECTORY_ERROR, arena, "%s", error.text);
        return;
    }
    int64_t begun_ns = clock_monotonic_ns();
    if (ask(directory, &question, &error) == OK) {
        breaker_settle(&backend->lookups, begun_ns, /* about= */ 0, NULL);
        answer(backend, &question, out);
        return;
    }
    uint64_t about = question.reached ? hash_bytes(address) | 1 : 0;
    if (question.cannot_be_asked)
        breaker_abandoned(&backend->lookups);
    else
        breaker_settle(&backend->lookups, begun_ns, about, &error);
    directory_answer_lookup(out, DIRECTORY_ERROR, arena, "%s", error.text);
}

void directory_lookup_smtp(struct directory *directory, const struct server *server,
                           struct str address, bool smtputf8, struct arena *arena,
                           struct directory_answer *out)
{
    if (directory->stated) {
        directory_stated_lookup(directory->stated, server->name, /* is_file= */ false, address,
                                arena, out);
        return;
    }
    *out = (struct directory_answer){.reply = {.text = STR_EMPTY}, .detail = STR_EMPTY};
    struct scope scope;
    scope_open(&scope, callout_deadline(server));
    lookup(directory, server, address, smtputf8, arena, out);
    scope_close(&scope);
}

/* ---- life cycle ---- */

void callout_pools_reap(struct directory *directory)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    struct list worn;
    list_init(&worn);
    /* taken out first: closing may suspend, and the pools change meanwhile */
    while (map_next(&directory->pools, &cursor, &key, &value)) {
        struct callout_pool *pool = value;
        LIST_EACH (&pool->idle, link) {
            struct connection *connection = CONTAINER(link, struct connection, link);
            if (!is_worn(connection, connection->made_for))
                continue;
            list_remove(link);
            list_append(&worn, link);
        }
    }
    for (struct list *link; (link = list_shift(&worn));)
        drop(CONTAINER(link, struct connection, link), /* politely= */ true);
}

void callout_pools_free(struct directory *directory)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&directory->pools, &cursor, &key, &value)) {
        struct callout_pool *pool = value;
        for (struct list *link; (link = list_shift(&pool->idle));)
            drop(CONTAINER(link, struct connection, link), /* politely= */ true);
        free(pool);
    }
    map_done(&directory->pools);
}
