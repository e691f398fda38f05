/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/script_http.c - a script asks a web service; the door to libcurl.
 *
 * libcurl blocks, so it runs on a lane. The name is looked up before, by the worker's DNS as all
 * others are, and libcurl is told the addresses. No redirects, no proxy, no cookies; http and https
 * only; what comes back is bounded in size and time. Each service has a breaker: one that hangs
 * does not take all threads of the lane. A server of the configuration needs no lane.
 */
#include "base/buf.h"
#include "base/check.h"
#include "base/memory.h"
#include "fiber/lane.h"
#include "flow/script.h"
#include "state/breaker.h"

#include <curl/curl.h>
#include <stdlib.h>

enum {
    URL_MAX = 4096,
    SENT_MAX = 1024 * 1024,
    GOT_MAX = 1024 * 1024,
    HEADERS_MAX = 64 * 1024,
    FIELDS_MAX = 50,
    TIME_DEFAULT_S = 5,
    TIME_MAX_S = 30,
    ADDRESSES_MAX = 8,
};

struct request { /* the lane's while it runs: heap memory of its own */
    struct lane_job job;
    const struct server *server; /* of the configuration; NULL: the URL says who */
    char url[URL_MAX];           /* or, with `server`, the path */
    char method[16];
    char scheme[16];
    char host[256];
    char port[8];
    struct buf sent;
    struct curl_slist *headers, *resolve;
    long timeout_ms;
    /* out */
    long status;
    struct buf got, got_headers;
    CURLcode code;
    bool reached; /* the service could be told the question */
    char error[CURL_ERROR_SIZE];
};

static void release(struct lane_job *job)
{
    struct request *request = CONTAINER(job, struct request, job);
    curl_slist_free_all(request->headers);
    curl_slist_free_all(request->resolve);
    buf_done(&request->sent);
    buf_done(&request->got);
    buf_done(&request->got_headers);
    free(request);
}

/* ---- on the lane ---- */

static size_t receive(char *data, size_t size, size_t count, void *context)
{
    struct buf *out = context;
    buf_append(out, str_of(data, size * count));
    return out->overflow ? 0 : size * count;
}

/* Asked by libcurl about once a second: a run that is over frees its thread. */
static int go_on(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return lane_job_is_abandoned(context); /* not 0: stop */
}

static void work(struct lane_job *job)
{
    struct request *request = CONTAINER(job, struct request, job);
    CURL *curl = curl_easy_init();
    check(curl);
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, request->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "postern/" POSTERN_VERSION);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    if (request->sent.len || str_equal(str_c(request->method), STR("POST"))) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->sent.len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->sent.len ? request->sent.ptr : "");
    } else if (str_equal(str_c(request->method), STR("HEAD"))) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, request->headers);
    curl_easy_setopt(curl, CURLOPT_RESOLVE, request->resolve);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &request->got);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, receive);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &request->got_headers);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, go_on);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, job);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, request->error);
    request->code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &request->status);
    curl_off_t connected_us = 0;
    curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
    request->reached = connected_us > 0;
    curl_easy_cleanup(curl);
}

/* ---- what is asked ---- */

static bool is_clean(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 127)
            return false;
    return true;
}

static enum result take_url_part(CURLU *url, CURLUPart part, char *out, size_t size)
{
    char *text = NULL;
    bool good = curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                str_to_c(str_c(text), out, size);
    curl_free(text);
    return good ? OK : FAILED;
}

/* The URL as libcurl understands it: what is looked up is what it will ask for. */
static enum result take_url(struct request *request, struct str text, struct error *err)
{
    if (!is_clean(text) || !str_to_c(text, request->url, sizeof request->url))
        return fail(err, ERROR_PERMANENT, "this is no URL");
    CURLU *url = curl_url();
    check(url);
    bool good =
        curl_url_set(url, CURLUPART_URL, request->url, 0) == CURLUE_OK &&
        take_url_part(url, CURLUPART_SCHEME, request->scheme, sizeof request->scheme) == OK &&
        take_url_part(url, CURLUPART_HOST, request->host, sizeof request->host) == OK &&
        take_url_part(url, CURLUPART_PORT, request->port, sizeof request->port) == OK;
    curl_url_cleanup(url);
    struct str scheme = str_c(request->scheme);
    bool known = str_equal(scheme, STR("http")) || str_equal(scheme, STR("https"));
    if (!good || !known)
        return fail(err, ERROR_PERMANENT, "the URL must begin with http:// or https://");
    return OK;
}

/* A server of the configuration, and maybe the path there. */
static enum result take_server(struct request *request, const struct flow_script *script,
                               struct str name, struct str path, struct error *err)
{
    request->server = server_find(script->servers, script->server_count, name);
    if (!request->server || request->server->kind != SERVER_HTTP)
        return fail(err, ERROR_PERMANENT,
                    "there is no server \"%.*s\" with http:", STR_ARG(str_slice(name, 0, 100)));
    bool good = !path.len || (str_starts(path, STR("/")) && str_find(path, ' ') < 0);
    if (!good || !is_clean(path) || !str_to_c(path, request->url, sizeof request->url))
        return fail(err, ERROR_PERMANENT, "path: this is no path, which begins with /");
    return OK;
}

static enum result take_headers(struct request *request, struct arena *arena,
                                const struct script_value *headers, struct error *err)
{
    for (size_t i = 0; headers && i < headers->count; i++) {
        if (headers->kind != SCRIPT_MAP || headers->items[i].kind != SCRIPT_TEXT ||
            headers->count > FIELDS_MAX)
            return fail(err, ERROR_PERMANENT, "headers: expected { [\"Name\"] = \"value\" }");
        struct str line = arena_printf(arena, "%.*s: %.*s", STR_ARG(headers->keys[i]),
                                       STR_ARG(headers->items[i].text));
        if (!is_clean(line) || str_find(headers->keys[i], ':') >= 0)
            return fail(err, ERROR_PERMANENT, "headers: this is no header field");
        request->headers = curl_slist_append(request->headers, line.ptr);
    }
    return OK;
}

static enum result take_text_of(const struct script_value *options, const char *key,
                                struct str fallback, struct str *out, struct error *err)
{
    const struct script_value *value = script_value_get(options, key);
    *out = fallback;
    if (value && value->kind != SCRIPT_TEXT)
        return fail(err, ERROR_PERMANENT, "%s must be a text", key);
    if (value)
        *out = value->text;
    return OK;
}

static enum result take_options(struct request *request, struct script_call *call,
                                struct error *err)
{
    static const struct str methods[] = {{"GET", 3}, {"HEAD", 4},   {"POST", 4},
                                         {"PUT", 3}, {"DELETE", 6}, {"PATCH", 5}};
    const struct script_value *options = &call->arguments[0];
    const struct flow_scripting *scripting = call->context;
    struct str url, server, path, method, body, timeout;
    int64_t timeout_ns = TIME_DEFAULT_S * NS_PER_S;
    if (options->kind != SCRIPT_TEXT && options->kind != SCRIPT_MAP)
        return fail(err, ERROR_PERMANENT, "argument 1: expected a URL, or { url = … }");
    if (take_text_of(options, "url", options->text, &url, err) != OK ||
        take_text_of(options, "server", STR_EMPTY, &server, err) != OK ||
        take_text_of(options, "path", STR_EMPTY, &path, err) != OK ||
        take_text_of(options, "body", STR_EMPTY, &body, err) != OK ||
        take_text_of(options, "method", body.len ? STR("POST") : STR("GET"), &method, err) != OK ||
        take_text_of(options, "timeout", STR_EMPTY, &timeout, err) != OK ||
        (server.len ? take_server(request, scripting->script, server, path, err)
                    : take_url(request, url, err)) != OK ||
        take_headers(request, call->arena, script_value_get(options, "headers"), err) != OK)
        return FAILED;
    bool known = false;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        known |= str_equal(method, methods[i]);
    if (!known)
        return fail(err, ERROR_PERMANENT, "method: GET, HEAD, POST, PUT, PATCH or DELETE");
    if (server.len && str_equal(method, STR("HEAD")))
        return fail(err, ERROR_PERMANENT, "method: not HEAD to a server");
    (void)str_to_c(method, request->method, sizeof request->method);
    buf_append(&request->sent, body);
    if (request->sent.overflow)
        return fail(err, ERROR_LIMIT, "body: at most %d bytes", SENT_MAX);
    if (timeout.len && (!option_parse_duration(timeout, &timeout_ns) || timeout_ns <= 0 ||
                        timeout_ns > TIME_MAX_S * NS_PER_S))
        return fail(err, ERROR_PERMANENT, "timeout: a time such as \"5s\", at most %ds",
                    TIME_MAX_S);
    if (server.len && !timeout.len) /* the server's own, within the script's */
        timeout_ns = TIME_MAX_S * NS_PER_S;
    request->timeout_ms = (long)(timeout_ns / NS_PER_MS) + 1;
    return OK;
}

/* ---- where it is ---- */

static void add_addresses(struct buf *line, const struct resolver_answer *answer, size_t *count)
{
    for (size_t i = 0; i < answer->count && *count < ADDRESSES_MAX; i++) {
        char text[NET_IP_TEXT];
        struct str ip = net_ip_format(&answer->ips[i], text);
        bool is_v6 = answer->ips[i].family == 6;
        buf_printf(line, "%s%s%.*s%s", (*count)++ ? "," : "", is_v6 ? "[" : "", STR_ARG(ip),
                   is_v6 ? "]" : "");
    }
}

/* FAILED: no answer now, or no address. */
static MAY_YIELD enum result resolve(struct request *request, struct flow_scripting *scripting,
                                     struct arena *arena, struct error *why)
{
    struct net_ip ip;
    struct str host = str_c(request->host);
    struct resolver_answer v4 = {0}, v6 = {0};
    size_t count = 0;
    struct buf line BUF_CLEANUP;
    buf_init(&line, 2048);
    if (str_starts(host, STR("[")))
        return OK; /* an address */
    if (net_ip_parse(host, &ip))
        return OK;
    if (!scripting->resolver.ask)
        return fail(why, ERROR_TEMPORARY, "there is no DNS here");
    if (resolver_ask(&scripting->resolver, RESOLVER_A, host, arena, &v4, why) != OK)
        return FAILED;
    struct error other;
    if (resolver_ask(&scripting->resolver, RESOLVER_AAAA, host, arena, &v6, &other) != OK)
        v6.count = 0;
    buf_printf(&line, "%s:%s:", request->host, request->port);
    add_addresses(&line, &v4, &count);
    add_addresses(&line, &v6, &count);
    if (!count)
        return fail(why, ERROR_PERMANENT, "%s has no address", request->host);
    request->resolve = curl_slist_append(NULL, arena_c(arena, buf_str(&line)));
    return OK;
}

/* ---- what comes back ---- */

static void give_headers(struct script_call *call, struct str text, struct script_value *out)
{
    enum { FIELDS_SHOWN = 200 };
    struct str line;
    out->kind = SCRIPT_MAP;
    out->keys = arena_alloc_array(call->arena, FIELDS_SHOWN, sizeof *out->keys);
    out->items = arena_alloc_array(call->arena, FIELDS_SHOWN, sizeof *out->items);
    while (text.ptr && out->count < FIELDS_SHOWN && str_split(&text, '\n', &line)) {
        ptrdiff_t colon = str_find(line, ':');
        if (colon <= 0)
            continue;
        out->keys[out->count] = arena_lower(call->arena, str_slice(line, 0, (size_t)colon));
        out->items[out->count++] =
            script_text(arena_str(call->arena, str_trim(str_from(line, (size_t)colon + 1))));
    }
}

static void give_answer(struct script_call *call, const struct http_answer *answer)
{
    struct script_value *items = script_return_list(call, 3);
    struct script_value *map = &call->results[0];
    map->kind = SCRIPT_MAP;
    map->keys = arena_alloc_array(call->arena, 3, sizeof *map->keys);
    map->keys[0] = STR("status");
    map->keys[1] = STR("body");
    map->keys[2] = STR("headers");
    items[0] = (struct script_value){.kind = SCRIPT_INTEGER, .integer = answer->status};
    items[1] = script_text(arena_str(call->arena, answer->body));
    items[2] = (struct script_value){.text = STR_EMPTY};
    give_headers(call, answer->fields, &items[2]);
}

static void give_failure(struct script_call *call, struct str why)
{
    script_return_nil(call);
    script_return_text(call, arena_str(call->arena, why));
}

/* ---- asking ---- */

static enum result judge(const struct request *request, struct error *why)
{
    if (request->got.overflow || request->got_headers.overflow)
        return fail(why, ERROR_LIMIT, "the answer is larger than 1 MiB");
    if (request->code == CURLE_ABORTED_BY_CALLBACK)
        return fail(why, ERROR_CANCELLED, "the gateway is stopping");
    if (request->code != CURLE_OK)
        return fail(why, ERROR_TEMPORARY, "%s",
                    request->error[0] ? request->error : curl_easy_strerror(request->code));
    return OK;
}

/* `*out_lost`: the lane has the request, and releases it. */
static MAY_YIELD enum result ask_url(struct flow_scripting *scripting, struct request *request,
                                     struct arena *arena, bool *out_lost, struct error *why)
{
    struct lane *lane = scripting->running->run->http;
    if (resolve(request, scripting, arena, why) != OK)
        return FAILED;
    struct str name =
        arena_printf(arena, "%s://%s:%s", request->scheme, request->host, request->port);
    struct breaker *breaker = state_breaker_if_few(scripting->running->run->state, name);
    if (breaker && breaker_admit(breaker, why) != OK)
        return FAILED;
    int64_t begun_ns = clock_monotonic_ns();
    enum result result = lane_run(lane, &request->job, why);
    *out_lost = result != OK;
    if (result == OK)
        result = judge(request, why);
    if (!breaker)
        return result;
    if (result != OK && why->kind == ERROR_LIMIT && *out_lost)
        breaker_abandoned(breaker); /* not asked: too many wait for the lane */
    else
        breaker_settle(
            breaker, begun_ns,
            result != OK && !*out_lost && request->reached ? flow_about(scripting->running) : 0,
            result == OK || why->kind == ERROR_LIMIT ? NULL : why);
    return result;
}

/* What says where the request goes and where it ends is not the script's. */
static bool is_ours(const char *line)
{
    static const char *const names[] = {
        "Host:", "Connection:", "Content-Length:", "Transfer-Encoding:"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_starts_nocase(str_c(line), str_c(names[i])))
            return true;
    return false;
}

static MAY_YIELD enum result ask_server(struct script_call *call, const struct request *request,
                                        struct http_answer *out, struct error *why)
{
    struct buf fields BUF_CLEANUP;
    buf_init(&fields, HEADERS_MAX);
    for (const struct curl_slist *line = request->headers; line; line = line->next)
        if (!is_ours(line->data))
            buf_printf(&fields, "%s\r\n", line->data);
    if (fields.overflow)
        return fail(why, ERROR_PERMANENT, "headers: at most %d bytes", HEADERS_MAX);
    const struct flow_script_request question = {
        .server = request->server,
        .method = str_c(request->method),
        .path = str_c(request->url),
        .fields = buf_str(&fields),
        .body = buf_str(&request->sent),
        .timeout_ns = request->timeout_ms * NS_PER_MS,
        .answer_max = GOT_MAX,
    };
    return flow_script_ask_server(call, &question, out, why);
}

static MAY_YIELD void ask(struct script_call *call, struct request *request)
{
    struct flow_scripting *scripting = call->context;
    struct http_answer answer = {0};
    struct error why = {0};
    bool lost = false;
    enum result result;
    if (!scripting->running->run->http || !fiber_current()) {
        result = fail(&why, ERROR_PERMANENT, "no web service is asked here");
    } else if (request->server) {
        result = ask_server(call, request, &answer, &why);
    } else {
        result = ask_url(scripting, request, call->arena, &lost, &why);
        if (result == OK)
            answer = (struct http_answer){.status = (unsigned)request->status,
                                          .body = buf_str(&request->got),
                                          .fields = buf_str(&request->got_headers)};
    }
    if (result == OK)
        give_answer(call, &answer);
    else
        give_failure(call, str_c(why.text));
    if (!lost)
        release(&request->job);
}

enum result flow_script_http(struct script_call *call, struct error *err)
{
    struct flow_scripting *scripting = call->context;
    if (scripting->requests++ >= FLOW_SCRIPT_REQUESTS)
        return fail(err, ERROR_LIMIT, "more than %d requests", FLOW_SCRIPT_REQUESTS);
    struct request *request = NEW(struct request);
    request->job = (struct lane_job){.work = work, .release = release};
    buf_init(&request->sent, SENT_MAX);
    buf_init(&request->got, GOT_MAX);
    buf_init(&request->got_headers, HEADERS_MAX);
    if (take_options(request, call, err) != OK) {
        release(&request->job);
        return FAILED;
    }
    ask(call, request);
    return OK;
}
