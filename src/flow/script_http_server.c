/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/script_http_server.c - a script asks a web service that the configuration names: as the
 * block `http` does, at equal addresses, with the same breaker, and on the fiber.
 */
#include "flow/script.h"

#include "base/buf.h"

enum { HEAD_MAX = 64 * 1024 };

struct asking {
    const struct flow_script_request *request;
    struct arena *arena;
    struct http_answer *out;
};

static void write_head(const struct flow_script_request *request,
                       const struct server_endpoint *endpoint, struct buf *out)
{
    struct str password = request->server->password;
    http_write_request(request->method, endpoint, request->path, out);
    buf_append(out, STR("User-Agent: postern/" POSTERN_VERSION "\r\n"));
    if (password.len)
        buf_printf(out, "Authorization: Bearer %.*s\r\n", STR_ARG(password));
    buf_append(out, request->fields);
    buf_printf(out, "Content-Length: %zu\r\n\r\n", request->body.len);
}

static enum result talk(struct stream *stream, const struct server_endpoint *endpoint, void *arg,
                        struct error *err) MAY_YIELD
{
    struct asking *asking = arg;
    const struct flow_script_request *request = asking->request;
    struct str text;
    struct buf head BUF_CLEANUP;
    buf_init(&head, HEAD_MAX);
    write_head(request, endpoint, &head);
    if (head.overflow)
        return fail(err, ERROR_PERMANENT, "the header of the request is over %d bytes", HEAD_MAX);
    if (stream_write(stream, buf_str(&head), err) != OK ||
        stream_write(stream, request->body, err) != OK || stream_flush(stream, err) != OK ||
        http_receive(stream, request->answer_max, asking->arena, &text, err) != OK)
        return FAILED;
    return http_read_answer(text, asking->arena, asking->out, err);
}

enum result flow_script_ask_server(struct script_call *call,
                                   const struct flow_script_request *request,
                                   struct http_answer *out, struct error *err)
{
    struct flow_scripting *scripting = call->context;
    struct scanner scanner = flow_scanner(scripting->running, request->server);
    struct asking asking = {.request = request, .arena = call->arena, .out = out};
    struct scope scope;
    scope_open(&scope, clock_deadline(request->timeout_ns));
    enum result result = scanner_ask(&scanner, talk, &asking, err);
    scope_close(&scope);
    return result;
}
