/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/sender.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/memory.h"
#include "fiber/fiber.h"
#include "net/dns.h"
#include "net/http.h"
#include "webhook/settings.h"

#include <stdlib.h>

enum { ADDRESSES_MAX = 4, HEAD_MAX = 8192, ANSWER_MAX = 4096 };

struct http_sender {
    struct webhook_sender sender;
    struct dns *dns;
};

/* ---- where ---- */

static MAY_YIELD enum result resolve(struct http_sender *self,
                                     const struct server_endpoint *endpoint, struct arena *arena,
                                     struct net_ip ips[static ADDRESSES_MAX], size_t *out_count,
                                     struct error *err)
{
    struct dns_address_answer answer = {0};
    *out_count = 1;
    if (net_ip_parse(endpoint->host, &ips[0]))
        return OK;
    if (dns_query_addresses(self->dns, endpoint->host, arena, &answer, err) != OK)
        return FAILED;
    for (*out_count = 0; *out_count < answer.count && *out_count < ADDRESSES_MAX; ++*out_count)
        ips[*out_count] = answer.ips[*out_count];
    return *out_count ? OK : fail(err, ERROR_TEMPORARY, "the name has no address");
}

static MAY_YIELD enum result open_one(const struct webhook_settings *webhook,
                                      const struct net_ip *ip, struct stream **out_stream,
                                      struct error *err)
{
    const struct net_address address = {.ip = *ip, .port = webhook->endpoint.port};
    if (stream_connect(&address, NULL, out_stream, err) != OK)
        return FAILED;
    if (!webhook->tls ||
        stream_tls_connect(*out_stream, webhook->tls, webhook->endpoint.host, err) == OK)
        return OK;
    stream_close(*out_stream);
    return fail_context(err, "TLS");
}

/* One address after the other; one that does not answer leaves time for the next. */
static MAY_YIELD enum result open_stream(struct http_sender *self,
                                         const struct webhook_settings *webhook,
                                         struct arena *arena, struct stream **out_stream,
                                         struct error *err)
{
    struct net_ip ips[ADDRESSES_MAX];
    size_t count;
    if (resolve(self, &webhook->endpoint, arena, ips, &count, err) != OK)
        return FAILED;
    enum result result = FAILED;
    for (size_t i = 0; i < count && result != OK && fiber_check(NULL) == OK; i++) {
        struct scope scope;
        scope_open(&scope, i + 1 < count ? clock_deadline(webhook->timeout_ns / 4) : TIME_NEVER);
        result = open_one(webhook, &ips[i], out_stream, err);
        scope_close(&scope);
    }
    return result;
}

/* ---- what ---- */

static void write_head(const struct webhook_request *request, struct buf *out)
{
    http_write_request(STR("POST"), &request->webhook->endpoint, STR_EMPTY, out);
    http_write_field(out, "User-Agent", STR("postern/" POSTERN_VERSION));
    http_write_field(out, "Content-Type", STR("application/json"));
    http_write_field(out, "webhook-id", request->id);
    buf_printf(out, "webhook-timestamp: %lld\r\n", (long long)request->seconds);
    http_write_field(out, "webhook-signature", request->signature);
    buf_printf(out, "Content-Length: %zu\r\n\r\n", request->body.len);
}

static MAY_YIELD enum result talk(struct stream *stream, const struct webhook_request *request,
                                  struct arena *arena, struct http_answer *out, struct error *err)
{
    struct buf head BUF_CLEANUP;
    buf_init(&head, HEAD_MAX);
    write_head(request, &head);
    if (head.overflow)
        return fail(err, ERROR_PERMANENT, "the head of the request is over %d bytes", HEAD_MAX);
    if (stream_write(stream, buf_str(&head), err) != OK ||
        stream_write(stream, request->body, err) != OK || stream_flush(stream, err) != OK)
        return FAILED;
    return http_receive_beginning(stream, ANSWER_MAX, arena, out, err);
}

static enum result send_request(struct webhook_sender *sender,
                                const struct webhook_request *request, struct arena *arena,
                                struct webhook_reply *out, struct error *err) MAY_YIELD
{
    struct http_sender *self = CONTAINER(sender, struct http_sender, sender);
    struct stream *stream = NULL;
    struct http_answer answer;
    if (open_stream(self, request->webhook, arena, &stream, err) != OK)
        return FAILED;
    enum result result = talk(stream, request, arena, &answer, err);
    stream_close(stream);
    if (result != OK)
        return FAILED;
    *out = (struct webhook_reply){.status = answer.status,
                                  .retry_after = http_field(&answer, "Retry-After"),
                                  .answer = str_slice(answer.body, 0, ANSWER_MAX)};
    return OK;
}

static void free_sender(struct webhook_sender *sender)
{
    struct http_sender *self = CONTAINER(sender, struct http_sender, sender);
    dns_free(self->dns);
    free(self);
}

enum result webhook_sender_http(struct loop *loop, const struct dns_settings *dns,
                                struct webhook_sender **out_sender, struct error *err)
{
    struct http_sender *self = NEW(struct http_sender);
    self->sender = (struct webhook_sender){.send = send_request, .free = free_sender};
    if (dns_new(loop, dns, &self->dns, err) != OK) {
        free(self);
        return FAILED;
    }
    *out_sender = &self->sender;
    return OK;
}
