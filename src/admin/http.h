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

#include <jansson.h>

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
struct quarantine_keeper;
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
    struct arena *arena;  /* lives until the answer is sent */
    struct str parameter; /* what stood for {id} in the path */
    struct str body;
    void *query; /* see admin_query */
    struct str last_event_id;
    struct str if_match; /* without its quotes; empty: none */
    struct str actor;    /* "uid 0", "token backup" */
    enum admin_scope scope;
    struct admin_access *access;
};
struct admin_answer {
    unsigned status;          /* 200 unless set */
    json_t *json;             /* taken; or */
    struct str text;          /* in the request's arena, with */
    const char *type;         /* its content type; or */
    struct tail_reader *tail; /* taken: what it gives until its end */
    struct str etag;          /* of what can be changed with If-Match; empty: none */
    struct str object;        /* what was acted on, for the audit; else the path's {id} */
};
/* Value of a query parameter, empty if absent; decoded, in the request's arena or borrowed. */
struct str admin_query(const struct admin_request *request, const char *name);
/* Answer with a problem: status, title and detail. */
void admin_problem(struct admin_answer *answer, unsigned status, const char *title,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));
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

/* The OpenAPI 3.1 document of the tables. */
json_t *admin_openapi(void);
