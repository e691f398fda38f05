/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/http.h - the HTTP API over the control socket and loopback TCP (libmicrohttpd).
 *
 * A thread a connection, with a cap. On the socket, root and the daemon's user may do everything,
 * whom else its group and mode let in may do what is configured; over TCP a token says so
 * (admin/access.h). Errors are RFC 9457 problems. Routes are rows of a table (admin/routes.c), from
 * which the description at /api/v1/openapi.json is made.
 */
#pragma once

#include "admin/access.h"
#include "base/arena.h"
#include "base/error.h"
#include "mail/id.h"

#include <jansson.h>
#include <pthread.h>

struct admin_http;
struct admin_log;
struct change_desk;
struct domain_watch;
struct revisions;
struct store;
struct tail;
struct tail_reader;
struct gateway;
struct net_address;
struct metrics;
struct once;
struct quarantine_keeper;
struct selections;
struct reports;
struct webhooks;

struct admin_http_settings {
    struct str socket_path;
    struct str group;             /* empty: the process's */
    unsigned mode;                /* 0660 */
    enum admin_scope group_scope; /* of whom the socket lets in */
    struct admin_access *access;  /* NULL: no tokens, nobody comes in over TCP */
    struct gateway *gateway;
    struct admin_log *log;
    struct store *store; /* NULL: no history */
    struct tail *tail;
    struct metrics *metrics;
    struct reports *reports; /* NULL: none are made */
    struct quarantine_keeper *quarantines;
    struct domain_watch *domains;
    struct webhooks *webhooks; /* NULL: their thread could not be started */
    struct change_desk *desk;
    struct once *once;           /* NULL: its file is damaged, no key is taken */
    struct revisions *revisions; /* NULL: none are kept */
    struct str config_path;
    struct str node; /* host name */
};

enum result admin_http_start(const struct admin_http_settings *settings,
                             struct admin_http **out_http, struct error *err);
/* The numbers alone, over TCP, to whoever connects. */
enum result admin_http_serve_metrics(struct admin_http *http, const struct net_address *address,
                                     struct error *err);
/* The API over TCP, to who has a token. */
enum result admin_http_serve_api(struct admin_http *http, const struct net_address *address,
                                 struct error *err);
/* Waits for running requests. NULL is allowed. */
void admin_http_stop(struct admin_http *http);

/* ---- for routes ---- */

struct admin_request {
    struct gateway *gateway;
    struct admin_log *log;
    struct store *store;
    struct tail *tail;
    struct metrics *metrics;
    struct transport_watch *transports;
    struct reports *reports; /* NULL: none are made */
    struct quarantine_keeper *quarantines;
    struct domain_watch *domains;
    struct webhooks *webhooks;
    struct change_desk *desk;
    struct revisions *revisions;
    struct str config_path;
    struct str node;
    struct once *once;
    struct selections *selections;
    pthread_mutex_t *changing; /* held while something with a version is changed */
    struct arena *arena;       /* lives until the answer is sent */
    struct str path;
    struct str parameter; /* what stood for {id} in the path */
    struct str body;      /* as it came; a handler reads */
    json_t *json; /* the same: an object that fits the row's schema; NULL: the row has none */
    void *query;  /* see admin_query */
    struct str last_event_id;
    struct str if_match, if_none_match; /* as they came; empty: none */
    struct str idempotency_key;
    struct str version;    /* of a change: that it was compared with */
    struct str reason;     /* why, as whoever asks says; cut to what is kept */
    bool dry_run;          /* tell what would be done, and do nothing */
    struct mail_id new_id; /* for what is made, where a key came with the request; zero: any */
    struct str actor;      /* "uid 0", "token backup" */
    struct str client;     /* its address; empty: the control socket */
    enum admin_scope scope;
    struct admin_access *access;
};
struct admin_answer {
    unsigned status;          /* 200 unless set */
    json_t *json;             /* taken; or */
    struct str text;          /* in the request's arena, with */
    const char *type;         /* its content type; or */
    struct tail_reader *tail; /* taken: what it gives until its end */
    struct str etag;          /* empty: that of the text */
    struct str object;        /* what was acted on, for the audit; else the path's {id} */
    bool undone;              /* whatever it says, nothing was done: the same may be asked again */
    bool replayed;            /* the answer to the first request of that key */
    const char *allow;        /* 405: methods */
    unsigned retry_after_s;   /* 0: no word of it */
};
/* Value of a query parameter, empty if absent; decoded, in the request's arena or borrowed. */
struct str admin_query(const struct admin_request *request, const char *name);
/* The name of every parameter, as often as it comes. */
void admin_query_each(const struct admin_request *request,
                      void (*take_name)(void *context, const char *name), void *context);
/* Answer with a problem: status, title (one of those in problem.c) and detail. */
void admin_problem(struct admin_answer *answer, unsigned status, const char *title,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Which part of the request is wrong, into the problem: of the query, or of the body ("#/to/0"). */
void admin_problem_parameter(struct admin_answer *answer, const char *name, const char *why);
void admin_problem_pointer(struct admin_answer *answer, struct str pointer, const char *why);
/* JSON text of a str; bytes that are not UTF-8 become U+FFFD. */
json_t *admin_json(struct str text);

/* ---- the table ---- */

struct admin_parameter {
    const char *name;
    const char *type; /* "string", "integer" */
    const char *text;
};
struct admin_route {
    const char *method;
    const char *path; /* "/api/v1/messages/{id}/raw" */
    void (*handle)(struct admin_request *request, struct admin_answer *answer);
    const char *text;       /* one line for the API's description */
    enum admin_scope scope; /* at least this is needed */
    const char *audit;      /* what an admin.action calls it; NULL for what only looks */
    const struct admin_parameter *query; /* ends with a NULL name; NULL: none */
    const char *body;                    /* name of its schema (admin/schemas.c), or NULL */
    const char *answer; /* name of its schema, or a content type with a "/" in it */
    unsigned ways;      /* ADMIN_… */
    /* Of what the path is about, in the request's arena: the ETag, for If-Match. Empty: there is
     * none. NULL: it has no versions. */
    struct str (*version)(struct admin_request *request);
};
enum {
    ADMIN_DRY = 1,    /* its handler knows dry_run */
    ADMIN_LARGE = 2,  /* its body may be as large as a message */
    ADMIN_SECRET = 4, /* its body or answer holds a secret */
    ADMIN_WHOLE = 8,  /* the version says all of the answer: it serves If-None-Match, too */
};
extern const struct admin_route admin_routes[]; /* ends with a NULL method */

struct admin_schema {
    const char *name;
    const char *text;
    /* "name:type …": string, integer, number, boolean, object, any, time, NAME of another, [type];
     * a "?" behind the type: or null; behind the name: may be absent */
    const char *fields;
};
extern const struct admin_schema admin_schemas[]; /* ends with a NULL name */

/* The row of a path, or NULL with a problem: there is none, not with that method, not for that
 * scope. HEAD is as GET. *out_parameter: what stands for {id}. */
const struct admin_route *admin_find_route(enum admin_scope scope, struct str actor,
                                           struct str method, struct str path,
                                           struct str *out_parameter, struct admin_answer *answer);
/* All of a request behind that: query, body, dry run, key, version, the handler, the audit. */
void admin_run_route(const struct admin_route *route, struct admin_request *request,
                     struct admin_answer *answer);

/* The OpenAPI 3.1 document of the tables. */
json_t *admin_openapi(void);
