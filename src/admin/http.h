/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/http.h - the HTTP API over the control socket (libmicrohttpd).
 *
 * A thread a connection, with a cap; who may connect is decided by the socket's owner, group and
 * mode. Errors are RFC 9457 problems. Routes are rows of a table (admin/routes.c).
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <jansson.h>

struct admin_http;
struct admin_log;
struct store;
struct tail;
struct tail_reader;
struct gateway;
struct net_address;
struct metrics;
struct reports;

struct admin_http_settings {
    struct str socket_path;
    struct str group; /* empty: the process's */
    unsigned mode;    /* 0660 */
    struct gateway *gateway;
    struct admin_log *log;
    struct store *store; /* NULL: no history */
    struct tail *tail;
    struct metrics *metrics;
    struct reports *reports; /* NULL: none are made */
    struct str node;         /* host name */
};

enum result admin_http_start(const struct admin_http_settings *settings,
                             struct admin_http **out_http, struct error *err);
/* The numbers alone, over TCP, to whoever connects. */
enum result admin_http_serve_metrics(struct admin_http *http, const struct net_address *address,
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
    struct reports *reports; /* NULL: none are made */
    struct str node;
    struct arena *arena;  /* lives until the answer is sent */
    struct str parameter; /* what stood for {id} in the path */
    struct str body;
    void *query;      /* see admin_query */
    struct str actor; /* "uid 0" */
};
struct admin_answer {
    unsigned status;          /* 200 unless set */
    json_t *json;             /* taken; or */
    struct str text;          /* in the request's arena, with */
    const char *type;         /* its content type; or */
    struct tail_reader *tail; /* taken: what it gives until its end */
};
/* Value of a query parameter, empty if absent; decoded, in the request's arena or borrowed. */
struct str admin_query(const struct admin_request *request, const char *name);
/* Answer with a problem: status, title and detail. */
void admin_problem(struct admin_answer *answer, unsigned status, const char *title,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));
/* JSON text of a str; bytes that are not UTF-8 become U+FFFD. */
json_t *admin_json(struct str text);

struct admin_route {
    const char *method;
    const char *path; /* "/api/v1/messages/{id}/raw" */
    void (*handle)(struct admin_request *request, struct admin_answer *answer);
    const char *text; /* one line for the API's description */
};
extern const struct admin_route admin_routes[]; /* ends with a NULL method */
