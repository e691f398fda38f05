/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/http.h"

#include "admin/routes.h"
#include "admin/selections.h"
#include "admin/transport_numbers.h"
#include "history/tail.h"
#include "base/buf.h"
#include "base/memory.h"
#include "event/event.h"
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <microhttpd.h>
#include <stdatomic.h>
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
    TAG_SIZE = 80,
    PAGE_BODY_MAX = 4096, /* of what a form sends */
    LIVE_PIECE = 16384,
    METRICS_LISTENERS_MAX = 8,
    METRICS_CONNECTIONS_MAX = 8,
    METRICS_TIMEOUT_S = 10,
    API_LISTENERS_MAX = 8,
    /* All bodies together; a handler may need some times as much to work on one. What each may
     * have in any case is not counted, so that small requests go on beside large ones. */
    BODIES_MAX = BODY_MAX,
    BODY_FREE = 64 * 1024,
    BODY_SMALL = 1024 * 1024, /* where no message can be in it */
    BUSY_S = 5,
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
    _Atomic size_t bodies; /* bytes of all that are being received or worked on */
    struct selections *selections;
    pthread_mutex_t changing; /* see struct admin_request */
    int fd;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* One request while its body arrives. */
struct exchange {
    struct admin_http *http;
    struct arena *arena;
    struct buf body;
    size_t reserved; /* bytes of http->bodies that the body may grow to */
    struct str actor, client;
    enum admin_scope scope;
    const struct admin_route *route; /* NULL: see the next two */
    struct str parameter;
    struct admin_answer refusal; /* its status is 0 unless it was refused before its body came */
    bool is_page;                /* for a person with a link, who is nobody we know */
    bool is_late;                /* there is no room for its body now */
};

/* ---- helpers for routes ---- */

struct str admin_query(const struct admin_request *request, const char *name)
{
    return str_c(MHD_lookup_connection_value(request->query, MHD_GET_ARGUMENT_KIND, name));
}

struct each_query {
    void (*take_name)(void *context, const char *name);
    void *context;
};

static enum MHD_Result take_query(void *context, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    const struct each_query *each = context;
    (void)kind;
    (void)value;
    each->take_name(each->context, name);
    return MHD_YES;
}

void admin_query_each(const struct admin_request *request,
                      void (*take_name)(void *context, const char *name), void *context)
{
    struct each_query each = {take_name, context};
    MHD_get_connection_values(request->query, MHD_GET_ARGUMENT_KIND, take_query, &each);
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

/* ---- who is it ---- */

static void tell_refused(struct admin_http *http, const struct exchange *exchange,
                         struct str method, struct str path, const char *why)
{
    if (http->settings.access && !admin_access_refusal(http->settings.access))
        return;
    event_emit(EVENT_ADMIN_REFUSED, F_STR(ACTOR, exchange->actor), F_STR(VERB, method),
               F_STR(OBJECT, path), F_C(DETAIL, why));
}

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

static struct str peer_address(struct arena *arena, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char text[INET6_ADDRSTRLEN] = "";
    if (!info || !info->client_addr)
        return STR_EMPTY;
    const struct sockaddr *name = info->client_addr;
    const void *address = name->sa_family == AF_INET6
                              ? (const void *)&((const struct sockaddr_in6 *)name)->sin6_addr
                              : (const void *)&((const struct sockaddr_in *)name)->sin_addr;
    if (name->sa_family == AF_INET || name->sa_family == AF_INET6)
        inet_ntop(name->sa_family, address, text, sizeof text);
    return arena_str(arena, str_c(text));
}

static void know_token(struct admin_http *http, struct MHD_Connection *connection,
                       struct exchange *exchange)
{
    struct str name;
    struct str field = str_c(
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION));
    exchange->client = peer_address(exchange->arena, connection);
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
    if (answer->status != 304)
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
    if (answer->allow)
        MHD_add_response_header(response, "Allow", answer->allow);
    if (answer->replayed)
        MHD_add_response_header(response, "Idempotency-Replayed", "true");
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%u", answer->retry_after_s);
    if (answer->retry_after_s)
        MHD_add_response_header(response, "Retry-After", seconds);
    enum MHD_Result queued = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return queued;
}

static struct str field(struct MHD_Connection *connection, const char *name)
{
    return str_c(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name));
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
        .once = http->settings.once,
        .selections = http->selections,
        .changing = &http->changing,
        .arena = exchange->arena,
        .parameter = exchange->parameter,
        .body = buf_str(&exchange->body),
        .query = connection,
        .last_event_id = field(connection, "Last-Event-ID"),
        .if_match = field(connection, MHD_HTTP_HEADER_IF_MATCH),
        .if_none_match = field(connection, MHD_HTTP_HEADER_IF_NONE_MATCH),
        .idempotency_key = field(connection, "Idempotency-Key"),
        .actor = exchange->actor,
        .client = exchange->client,
        .scope = exchange->scope,
        .access = http->settings.access,
    };
}

/* ---- its body ---- */

static struct exchange *begin(struct admin_http *http, void **request_state)
{
    struct exchange *exchange = NEW(struct exchange);
    exchange->http = http;
    exchange->arena = arena_new(0);
    exchange->scope = ADMIN_SCOPE_NONE;
    exchange->actor = exchange->client = exchange->parameter = STR_EMPTY;
    buf_init(&exchange->body, 0);
    *request_state = exchange;
    return exchange;
}

static size_t counted(size_t bytes)
{
    return bytes > BODY_FREE ? bytes : 0;
}

/* Room for `more` bytes, in steps as the buf grows. */
static bool reserve(struct exchange *exchange, size_t more)
{
    struct admin_http *http = exchange->http;
    size_t need = exchange->body.len + more;
    size_t wish =
        2 * exchange->reserved < exchange->body.max ? 2 * exchange->reserved : exchange->body.max;
    if (need <= exchange->reserved)
        return true;
    if (wish < need)
        wish = need;
    size_t step = counted(wish) - counted(exchange->reserved);
    if (step && atomic_fetch_add(&http->bodies, step) + step > BODIES_MAX) {
        atomic_fetch_sub(&http->bodies, step);
        return false;
    }
    exchange->reserved = wish;
    return true;
}

static void take_piece(struct exchange *exchange, struct str piece)
{
    if (exchange->is_late || exchange->refusal.status || exchange->body.overflow)
        return;
    if (exchange->body.len + piece.len <= exchange->body.max && !reserve(exchange, piece.len)) {
        exchange->is_late = true;
        buf_done(&exchange->body);
        return;
    }
    buf_append(&exchange->body, piece);
}

static size_t body_max(const struct exchange *exchange)
{
    if (exchange->is_page)
        return PAGE_BODY_MAX;
    if (!exchange->route || !exchange->route->body)
        return BODY_FREE;
    return exchange->route->ways & ADMIN_LARGE ? BODY_MAX : BODY_SMALL;
}

static void say_too_large(const struct exchange *exchange, struct admin_answer *answer)
{
    admin_problem(answer, 413, "Too large", "such a request has at most %zu bytes",
                  body_max(exchange));
}

/* ---- the answer to a request ---- */

/* The path as a URI has it. */
static json_t *instance_json(struct str path)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, 1024);
    path = str_slice(path, 0, 200);
    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];
        bool plain = ascii_is_alpha(c) || ascii_is_digit(c) || memchr("/-._~@:", c, 7);
        if (plain)
            buf_append_byte(&text, c);
        else
            buf_printf(&text, "%%%02X", (unsigned)(unsigned char)c);
    }
    return json_stringn(text.ptr, text.len);
}

static enum MHD_Result answer_request(struct exchange *exchange, struct MHD_Connection *connection,
                                      struct str method, struct str path)
{
    struct admin_request request;
    struct admin_answer answer = {.status = 200, .text = STR_EMPTY, .object = STR_EMPTY};
    fill_request(exchange->http, exchange, connection, &request);
    request.path = path;
    if (exchange->refusal.status) {
        answer = exchange->refusal;
        exchange->refusal.json = NULL;
    } else if (exchange->body.overflow) {
        say_too_large(exchange, &answer);
    } else if (exchange->is_late) {
        admin_problem(&answer, 503, "Too busy", "other requests have taken all %d bytes",
                      BODIES_MAX);
        answer.retry_after_s = BUSY_S;
    } else if (exchange->is_page) {
        admin_quarantine_page(&request, method, str_from(path, sizeof PAGES - 1), &answer);
    } else {
        admin_run_route(exchange->route, &request, &answer);
        json_decref(request.json);
    }
    if (answer.status >= 400 && answer.json && !exchange->is_page)
        json_object_set_new(answer.json, "instance", instance_json(path));
    return send_answer(connection, &answer);
}

/*
 * Before its body is taken: is there such a path, and may this be asked? A refusal waits until a
 * small body is here (who closes on unread bytes may take the answer with him), and no longer.
 */
static enum MHD_Result open_request(struct exchange *exchange, struct MHD_Connection *connection,
                                    struct str method, struct str path)
{
    struct admin_answer *refusal = &exchange->refusal;
    struct str length = field(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    bool chunked = field(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING).len > 0;
    uint64_t bytes = 0;
    *refusal = (struct admin_answer){.text = STR_EMPTY, .object = STR_EMPTY, .etag = STR_EMPTY};
    if (exchange->scope == ADMIN_SCOPE_NONE && !exchange->is_page && exchange->client.len) {
        admin_problem(refusal, 401, "Who are you?",
                      "give a token, as in Authorization: Bearer pst_…");
        tell_refused(exchange->http, exchange, method, path, "no valid token");
    } else if (!exchange->is_page) {
        exchange->route = admin_find_route(exchange->scope, exchange->actor, method, path,
                                           &exchange->parameter, refusal);
        exchange->parameter = arena_str(exchange->arena, exchange->parameter);
        if (refusal->status == 403)
            tell_refused(exchange->http, exchange, method, path, "not within its scope");
    }
    buf_init(&exchange->body, body_max(exchange));
    bool known = str_to_uint(length, UINT64_MAX, &bytes);
    if (!refusal->status && known && bytes > body_max(exchange))
        say_too_large(exchange, refusal);
    if (refusal->status && (chunked || bytes > BODY_FREE))
        return answer_request(exchange, connection, method, path);
    return MHD_YES;
}

static enum MHD_Result go_on(struct exchange *exchange, struct MHD_Connection *connection,
                             const char *url, const char *method, const char *upload_data,
                             size_t *upload_size)
{
    if (!*upload_size)
        return answer_request(exchange, connection, str_c(method), str_c(url));
    take_piece(exchange, str_of(upload_data, *upload_size));
    *upload_size = 0;
    return MHD_YES;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload_data,
                              size_t *upload_size, void **request_state)
{
    (void)version;
    if (*request_state)
        return go_on(*request_state, connection, url, method, upload_data, upload_size);
    struct exchange *exchange = begin(context, request_state);
    know_peer(context, connection, exchange);
    return open_request(exchange, connection, str_c(method), str_c(url));
}

static enum MHD_Result handle_tcp(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload_data,
                                  size_t *upload_size, void **request_state)
{
    (void)version;
    if (*request_state)
        return go_on(*request_state, connection, url, method, upload_data, upload_size);
    struct exchange *exchange = begin(context, request_state);
    exchange->is_page = str_starts(str_c(url), STR(PAGES)); /* the link says who may what */
    if (exchange->is_page)
        exchange->actor = STR("a link");
    else
        know_token(context, connection, exchange);
    return open_request(exchange, connection, str_c(method), str_c(url));
}

static void completed(void *context, struct MHD_Connection *connection, void **request_state,
                      enum MHD_RequestTerminationCode code)
{
    (void)context;
    (void)connection;
    (void)code;
    struct exchange *exchange = *request_state;
    if (exchange) {
        atomic_fetch_sub(&exchange->http->bodies, counted(exchange->reserved));
        if (exchange->body.len) /* a password may be in it */
            memory_wipe(exchange->body.ptr, exchange->body.len);
        json_decref(exchange->refusal.json);
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
    selections_free(http->selections);
    pthread_mutex_destroy(&http->changing);
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
        begin(http, request_state)->actor = STR("anybody");
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
    pthread_mutex_init(&http->changing, NULL);
    http->selections = selections_new();
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
