/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/http.h"

#include "admin/routes.h"
#include "admin/transport_numbers.h"
#include "history/tail.h"
#include "base/buf.h"
#include "base/memory.h"
#include "event/event.h"
#include "net/address.h"

#include <errno.h>
#include <grp.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 64,
    TIMEOUT_S = 60,
    BODY_MAX = 64 * 1024 * 1024,
    TAG_SIZE = 40,
    PAGE_BODY_MAX = 4096, /* of what a form sends */
    LIVE_PIECE = 16384,
    METRICS_LISTENERS_MAX = 8,
    METRICS_CONNECTIONS_MAX = 8,
    METRICS_TIMEOUT_S = 10,
    API_LISTENERS_MAX = 8,
    /* by select it would be deaf for descriptors from 1024 on: for all while there are many
       sessions */
    HOW = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL,
};

#define PAGES "/quarantine/"

struct admin_http {
    struct admin_http_settings settings;
    struct arena *arena;
    struct MHD_Daemon *daemon;
    struct transport_watch *transports;
    struct MHD_Daemon *metrics[METRICS_LISTENERS_MAX]; /* numbers over TCP */
    size_t metrics_count;
    struct MHD_Daemon *api[API_LISTENERS_MAX]; /* the API over TCP */
    size_t api_count;
    int fd;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* One request while its body arrives. */
struct exchange {
    struct arena *arena;
    struct buf body;
    struct str actor;
    enum admin_scope scope;
    bool is_page; /* for a person with a link, who is nobody we know */
};

/* ---- helpers for routes ---- */

struct str admin_query(const struct admin_request *request, const char *name)
{
    return str_c(MHD_lookup_connection_value(request->query, MHD_GET_ARGUMENT_KIND, name));
}

void admin_problem(struct admin_answer *answer, unsigned status, const char *title,
                   const char *format, ...)
{
    char detail[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    json_decref(answer->json);
    answer->status = status;
    answer->json = json_pack("{s:s, s:s, s:i, s:o}", "type", "about:blank", "title", title,
                             "status", (int)status, "detail", admin_json(str_c(detail)));
}

json_t *admin_json(struct str text)
{
    json_t *value = json_stringn(text.ptr, text.len);
    if (value)
        return value;
    /* not UTF-8: every byte over 127 becomes the replacement character */
    struct buf clean BUF_CLEANUP;
    buf_init(&clean, text.len * 3 + 1);
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] < 128)
            buf_append_byte(&clean, text.ptr[i]);
        else
            buf_append(&clean, STR("\xef\xbf\xbd"));
    }
    return json_stringn(buf_str(&clean).ptr, clean.len);
}

/* ---- routing ---- */

/* Does `path` fit `pattern`, in which {id} stands for one part? */
static bool path_fits(struct str pattern, struct str path, struct str *out_parameter)
{
    struct str want;
    struct str have;
    *out_parameter = STR_EMPTY;
    while (str_split(&pattern, '/', &want)) {
        if (!str_split(&path, '/', &have))
            return false;
        if (str_equal(want, STR("{id}")) && have.len)
            *out_parameter = have;
        else if (!str_equal(want, have))
            return false;
    }
    return path.ptr == NULL;
}

static void tell_refused(struct admin_http *http, const struct exchange *exchange,
                         struct str method, struct str path, const char *why)
{
    if (http->settings.access && !admin_access_refusal(http->settings.access))
        return;
    event_emit(EVENT_ADMIN_REFUSED, F_STR(ACTOR, exchange->actor), F_STR(VERB, method),
               F_STR(OBJECT, path), F_C(DETAIL, why));
}

static void ask_route(const struct admin_route *route, struct admin_request *request,
                      struct admin_answer *answer)
{
    route->handle(request, answer);
    if (!route->audit || answer->status >= 400)
        return;
    event_emit(EVENT_ADMIN_ACTION, F_STR(ACTOR, request->actor), F_C(VERB, route->audit),
               F_STR(OBJECT, answer->object.len ? answer->object : request->parameter));
}

/* True: the answer is the route's; false: a problem with the way to it. */
static bool dispatch(struct admin_request *request, struct str method, struct str path,
                     struct admin_answer *answer)
{
    bool path_known = false;
    for (const struct admin_route *route = admin_routes; route->method; route++) {
        if (!path_fits(str_c(route->path), path, &request->parameter))
            continue;
        path_known = true;
        if (!str_equal(method, str_c(route->method)))
            continue;
        if (request->scope <= route->scope) {
            ask_route(route, request, answer);
            return true;
        }
        admin_problem(answer, 403, "Not allowed", "this needs the scope %s, and %.*s has %s",
                      admin_scope_name(route->scope), STR_ARG(request->actor),
                      admin_scope_name(request->scope));
        return false;
    }
    if (path_known)
        admin_problem(answer, 405, "Method not allowed", "this path has no %.*s", STR_ARG(method));
    else
        admin_problem(answer, 404, "Not found", "there is no %.*s", STR_ARG(path));
    return false;
}

/* ---- who is it ---- */

static void know_peer(struct admin_http *http, struct MHD_Connection *connection,
                      struct exchange *exchange)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer;
    socklen_t length = sizeof peer;
    exchange->actor = STR("unknown");
    exchange->scope = ADMIN_SCOPE_NONE;
    if (!info || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        return;
    exchange->actor = arena_printf(exchange->arena, "uid %u", (unsigned)peer.uid);
    exchange->scope =
        peer.uid == 0 || peer.uid == geteuid() ? ADMIN_SCOPE_ADMIN : http->settings.group_scope;
}

static void know_token(struct admin_http *http, struct MHD_Connection *connection,
                       struct exchange *exchange)
{
    struct str name;
    struct str field = str_c(
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION));
    exchange->actor = STR("no token");
    exchange->scope = ADMIN_SCOPE_NONE;
    if (field.len)
        exchange->actor = STR("a wrong token");
    if (http->settings.access &&
        admin_access_check(http->settings.access, field, exchange->arena, &name, &exchange->scope))
        exchange->actor = arena_printf(exchange->arena, "token %.*s", STR_ARG(name));
}

/* ---- the answer ---- */

/* The thread is this connection's own, so it may wait. */
static ssize_t give_live(void *context, uint64_t position, char *to, size_t size)
{
    enum { SIGN_OF_LIFE_MS = 15000 };
    (void)position;
    ptrdiff_t given = tail_read(context, to, size, SIGN_OF_LIFE_MS);
    if (given < 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (given == 0) {
        memcpy(to, ":\n\n", 3);
        return 3;
    }
    return given;
}

static void end_live(void *context)
{
    tail_leave(context);
}

/* No script, nothing from elsewhere, in nobody's frame, and the link is told to nobody. */
static void guard_page(struct MHD_Response *response)
{
    MHD_add_response_header(response, "Content-Security-Policy",
                            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
                            "frame-ancestors 'none'; base-uri 'none'");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "X-Robots-Tag", "noindex");
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, struct admin_answer *answer)
{
    struct MHD_Response *response;
    const char *type = answer->type;
    if (answer->tail) {
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, LIVE_PIECE, give_live,
                                                     answer->tail, end_live);
        type = "text/event-stream";
    } else if (answer->json) {
        char *text = json_dumps(answer->json, JSON_COMPACT);
        json_decref(answer->json);
        if (!text)
            return MHD_NO;
        response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
        type = answer->status < 400 ? "application/json" : "application/problem+json";
    } else {
        response = MHD_create_response_from_buffer(answer->text.len, (void *)answer->text.ptr,
                                                   MHD_RESPMEM_MUST_COPY);
    }
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type ? type : "text/plain");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (type && str_starts(str_c(type), STR("text/html")))
        guard_page(response);
    char etag[TAG_SIZE];
    snprintf(etag, sizeof etag, "\"%.*s\"", STR_ARG(answer->etag));
    if (answer->etag.len)
        MHD_add_response_header(response, "ETag", etag);
    if (answer->status == 401)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer realm=\"postern\"");
    enum MHD_Result queued = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return queued;
}

static struct str unquoted(struct str tag)
{
    bool quoted = tag.len > 2 && str_starts(tag, STR("\"")) && str_ends(tag, STR("\""));
    return quoted ? str_slice(tag, 1, tag.len - 1) : tag;
}

static void fill_request(struct admin_http *http, const struct exchange *exchange,
                         struct MHD_Connection *connection, struct admin_request *out)
{
    *out = (struct admin_request){
        .gateway = http->settings.gateway,
        .log = http->settings.log,
        .store = http->settings.store,
        .tail = http->settings.tail,
        .metrics = http->settings.metrics,
        .transports = http->transports,
        .desk = http->settings.desk,
        .revisions = http->settings.revisions,
        .config_path = http->settings.config_path,
        .reports = http->settings.reports,
        .quarantines = http->settings.quarantines,
        .domains = http->settings.domains,
        .webhooks = http->settings.webhooks,
        .node = http->settings.node,
        .arena = exchange->arena,
        .body = buf_str(&exchange->body),
        .query = connection,
        .last_event_id =
            str_c(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Last-Event-ID")),
        .if_match =
            unquoted(str_c(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "If-Match"))),
        .actor = exchange->actor,
        .scope = exchange->scope,
        .access = http->settings.access,
    };
}

static struct exchange *begin(void **request_state)
{
    struct exchange *exchange = NEW(struct exchange);
    exchange->arena = arena_new(0);
    exchange->scope = ADMIN_SCOPE_NONE;
    buf_init(&exchange->body, BODY_MAX);
    *request_state = exchange;
    return exchange;
}

static enum MHD_Result answer_request(struct admin_http *http, const struct exchange *exchange,
                                      struct MHD_Connection *connection, struct str method,
                                      struct str path)
{
    struct admin_request request;
    struct admin_answer answer = {.status = 200, .text = STR_EMPTY, .object = STR_EMPTY};
    fill_request(http, exchange, connection, &request);
    if (exchange->body.overflow)
        admin_problem(&answer, 413, "Too large", "a request has at most %d bytes", BODY_MAX);
    else if (exchange->is_page)
        admin_quarantine_page(&request, method, str_from(path, sizeof PAGES - 1), &answer);
    else if (!dispatch(&request, method, path, &answer) && answer.status == 403)
        tell_refused(http, exchange, method, path, "not within its scope");
    return send_answer(connection, &answer);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload_data,
                              size_t *upload_size, void **request_state)
{
    (void)version;
    struct exchange *exchange = *request_state;
    if (!exchange) {
        know_peer(context, connection, begin(request_state));
        return MHD_YES;
    }
    if (*upload_size) {
        buf_append(&exchange->body, str_of(upload_data, *upload_size));
        *upload_size = 0;
        return MHD_YES;
    }
    return answer_request(context, exchange, connection, str_c(method), str_c(url));
}

/* Who has no token is told so before a body is taken. */
static enum MHD_Result handle_tcp(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload_data,
                                  size_t *upload_size, void **request_state)
{
    struct admin_http *http = context;
    if (*request_state)
        return handle(context, connection, url, method, version, upload_data, upload_size,
                      request_state);
    struct exchange *exchange = begin(request_state);
    if (str_starts(str_c(url), STR(PAGES))) { /* the link says who may what */
        exchange->is_page = true;
        exchange->actor = STR("a link");
        buf_init(&exchange->body, PAGE_BODY_MAX);
        return MHD_YES;
    }
    know_token(http, connection, exchange);
    if (exchange->scope != ADMIN_SCOPE_NONE)
        return MHD_YES;
    struct admin_answer answer = {.status = 200, .text = STR_EMPTY};
    admin_problem(&answer, 401, "Who are you?", "give a token, as in Authorization: Bearer pst_…");
    tell_refused(http, exchange, str_c(method), str_c(url), "no valid token");
    return send_answer(connection, &answer);
}

static void completed(void *context, struct MHD_Connection *connection, void **request_state,
                      enum MHD_RequestTerminationCode code)
{
    (void)context;
    (void)connection;
    (void)code;
    struct exchange *exchange = *request_state;
    if (exchange) {
        buf_done(&exchange->body);
        arena_free(exchange->arena);
        free(exchange);
        *request_state = NULL;
    }
}

/* ---- the socket ---- */

static enum result set_group(struct admin_http *http, struct error *err)
{
    char name[64];
    struct group entry;
    struct group *found = NULL;
    char space[4096];
    if (http->settings.group.len == 0)
        return OK;
    if (!str_to_c(http->settings.group, name, sizeof name))
        return fail(err, ERROR_PERMANENT, "control.group: not a group name");
    getgrnam_r(name, &entry, space, sizeof space, &found);
    if (!found)
        return fail(err, ERROR_PERMANENT, "control.group: there is no group %s", name);
    if (chown(http->path, (uid_t)-1, entry.gr_gid) != 0)
        return fail_errno(err, errno, "cannot give %s to group %s", http->path, name);
    return OK;
}

/* What stands at the path is removed when it was left by a process that did not end in order; never
 * a file that is something else, or the socket of another daemon. */
static enum result make_way(const struct admin_http *http, const struct sockaddr_un *name,
                            struct error *err)
{
    struct stat status;
    const char *path = name->sun_path;
    if (lstat(path, &status) != 0)
        return OK;
    if (!S_ISSOCK(status.st_mode))
        return fail(err, ERROR_PERMANENT, "control.socket: %s is there and is no socket", path);
    if (connect(http->fd, (const struct sockaddr *)name, sizeof *name) == 0)
        return fail(err, ERROR_PERMANENT, "control.socket: another process listens on %s", path);
    return unlink(path) == 0 || errno == ENOENT
               ? OK
               : fail_errno(err, errno, "control.socket: cannot remove the old %s", path);
}

static enum result open_socket(struct admin_http *http, struct error *err)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (!str_to_c(http->settings.socket_path, name.sun_path, sizeof name.sun_path))
        return fail(err, ERROR_PERMANENT, "control.socket: the path is longer than %zu characters",
                    sizeof name.sun_path - 1);
    http->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (http->fd < 0)
        return fail_errno(err, errno, "cannot make the control socket");
    if (make_way(http, &name, err) != OK)
        return FAILED;
    if (bind(http->fd, (struct sockaddr *)&name, sizeof name) != 0)
        return fail_errno(err, errno, "control.socket: cannot bind %s%s", name.sun_path,
                          errno == EACCES ? " (give it a folder that is the user's)" : "");
    memcpy(http->path, name.sun_path, sizeof http->path); /* from here on it is ours to remove */
    if (chmod(http->path, http->settings.mode) != 0)
        return fail_errno(err, errno, "cannot set the mode of %s", http->path);
    if (set_group(http, err) != OK)
        return FAILED;
    if (listen(http->fd, CONNECTIONS_MAX) != 0)
        return fail_errno(err, errno, "cannot listen on %s", http->path);
    return OK;
}

static void destroy(struct admin_http *http)
{
    for (size_t i = 0; i < http->metrics_count; i++)
        MHD_stop_daemon(http->metrics[i]);
    for (size_t i = 0; i < http->api_count; i++)
        MHD_stop_daemon(http->api[i]);
    if (http->daemon)
        MHD_stop_daemon(http->daemon); /* closes the socket */
    else if (http->fd >= 0)
        close(http->fd);
    if (http->path[0])
        unlink(http->path);
    transport_watch_free(http->transports);
    arena_free(http->arena);
    free(http);
}

/* ---- over TCP ---- */

static enum MHD_Result handle_metrics(void *context, struct MHD_Connection *connection,
                                      const char *url, const char *method, const char *version,
                                      const char *upload_data, size_t *upload_size,
                                      void **request_state)
{
    (void)version;
    (void)upload_data;
    struct admin_http *http = context;
    if (!*request_state) {
        begin(request_state)->actor = STR("anybody");
        return MHD_YES;
    }
    if (*upload_size) { /* nobody asked for it */
        *upload_size = 0;
        return MHD_YES;
    }
    struct admin_request request;
    fill_request(http, *request_state, connection, &request);
    struct admin_answer answer = {.status = 200, .text = STR_EMPTY};
    if (!str_equal(str_c(url), STR("/metrics")))
        admin_problem(&answer, 404, "Not found", "there is only /metrics here");
    else if (!str_equal(str_c(method), STR("GET")) && !str_equal(str_c(method), STR("HEAD")))
        admin_problem(&answer, 405, "Method not allowed", "/metrics can be read only");
    else
        admin_api_metrics(&request, &answer);
    return send_answer(connection, &answer);
}

static struct MHD_Daemon *serve_tcp(struct admin_http *http, const struct net_address *address,
                                    MHD_AccessHandlerCallback handler, unsigned connections,
                                    unsigned timeout_s)
{
    struct sockaddr_storage name;
    socklen_t length;
    net_address_to_sockaddr(address, &name, &length);
    unsigned flags = HOW;
    if (name.ss_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    errno = 0;
    return MHD_start_daemon(flags, 0, NULL, NULL, handler, http, MHD_OPTION_SOCK_ADDR, &name,
                            MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_CONNECTION_TIMEOUT,
                            timeout_s, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
                            MHD_OPTION_END);
}

/* The library keeps it to itself; the system's last word is what it met. */
static const char *why_not(void)
{
    return errno == EADDRINUSE      ? ": another process listens there"
           : errno == EADDRNOTAVAIL ? ": no interface of this host has that address"
           : errno == EACCES        ? ": a port below 1024 needs root"
                                    : "";
}

enum result admin_http_serve_metrics(struct admin_http *http, const struct net_address *address,
                                     struct error *err)
{
    char text[NET_ADDRESS_TEXT];
    struct str name = net_address_format(address, text);
    if (http->metrics_count == METRICS_LISTENERS_MAX)
        return fail(err, ERROR_PERMANENT, "metrics.listen: at most %d addresses",
                    METRICS_LISTENERS_MAX);
    struct MHD_Daemon *daemon =
        serve_tcp(http, address, handle_metrics, METRICS_CONNECTIONS_MAX, METRICS_TIMEOUT_S);
    if (!daemon)
        return fail(err, ERROR_TEMPORARY, "metrics.listen: cannot listen on %.*s%s", STR_ARG(name),
                    why_not());
    http->metrics[http->metrics_count++] = daemon;
    return OK;
}

enum result admin_http_serve_api(struct admin_http *http, const struct net_address *address,
                                 struct error *err)
{
    char text[NET_ADDRESS_TEXT];
    struct str name = net_address_format(address, text);
    if (http->api_count == API_LISTENERS_MAX)
        return fail(err, ERROR_PERMANENT, "admin.listen: at most %d addresses", API_LISTENERS_MAX);
    struct MHD_Daemon *daemon = serve_tcp(http, address, handle_tcp, CONNECTIONS_MAX, TIMEOUT_S);
    if (!daemon)
        return fail(err, ERROR_TEMPORARY, "admin.listen: cannot listen on %.*s%s", STR_ARG(name),
                    why_not());
    http->api[http->api_count++] = daemon;
    return OK;
}

enum result admin_http_start(const struct admin_http_settings *settings,
                             struct admin_http **out_http, struct error *err)
{
    struct admin_http *http = NEW(struct admin_http);
    http->settings = *settings;
    http->arena = arena_new(0);
    http->transports = transport_watch_new();
    http->settings.socket_path = arena_str(http->arena, settings->socket_path);
    http->settings.node = arena_str(http->arena, settings->node);
    http->settings.group = arena_str(http->arena, settings->group);
    http->fd = -1;
    if (open_socket(http, err) != OK) {
        destroy(http);
        return FAILED;
    }
    http->daemon = MHD_start_daemon(
        HOW, 0, NULL, NULL, handle, http, MHD_OPTION_LISTEN_SOCKET, http->fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)TIMEOUT_S, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_END);
    if (!http->daemon) {
        destroy(http);
        return fail(err, ERROR_TEMPORARY, "cannot start the HTTP server");
    }
    *out_http = http;
    return OK;
}

void admin_http_stop(struct admin_http *http)
{
    if (http)
        destroy(http);
}
