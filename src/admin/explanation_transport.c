/* SPDX-License-Identifier: Apache-2.0 */
/* admin/explanation_transport.c - the way out, in words; MX records only where DNS is wanted. */
#include "admin/explanation.h"

#include "admin/http.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"
#include "fiber/loop.h"
#include "net/dns.h"

enum { WORDS_MAX = 4096, DELAYS_SHOWN = 8 };

static const char *tls_words(int tls)
{
    switch ((enum server_tls)tls) {
    case SERVER_TLS_NONE:
        return "never";
    case SERVER_TLS_OPPORTUNISTIC:
        return "when the server offers it, whatever its certificate";
    case SERVER_TLS_REQUIRED:
        return "required, whatever its certificate";
    case SERVER_TLS_VERIFIED:
        return "required, with a certificate that fits its name";
    }
    return "";
}

/* ---- retries ---- */

/* "2d 3h 50m", "5m 30s"; milliseconds stand alone. */
static void print_span(int64_t span_ns, struct buf *out)
{
    static const struct {
        const char *unit;
        int64_t seconds;
    } units[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}};
    int64_t rest = span_ns / NS_PER_S;
    if (rest == 0 || span_ns % NS_PER_S) {
        option_print_duration(span_ns, out);
        return;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (rest / units[i].seconds)
            buf_printf(out, "%lld%s ", (long long)(rest / units[i].seconds), units[i].unit);
        rest %= units[i].seconds;
    }
    out->len--;
}

static void add_retries(json_t *object, const struct transport *transport)
{
    struct buf words BUF_CLEANUP;
    int64_t delay_ns;
    int64_t sum_ns = 0;
    unsigned count = 0;
    buf_init(&words, WORDS_MAX);
    while ((delay_ns = transport_retry_delay(transport, count + 1)) >= 0 &&
           sum_ns <= transport->expire_ns) {
        count++;
        sum_ns += delay_ns;
        if (count > DELAYS_SHOWN)
            continue;
        buf_printf(&words, "%s", count > 1 ? ", " : "after ");
        option_print_duration(delay_ns, &words);
    }
    if (count > DELAYS_SHOWN)
        buf_printf(&words, ", and so on: %u retries", count);
    json_object_set_new(object, "retries", json_integer(count));
    json_object_set_new(object, "retry", admin_json(count ? buf_str(&words) : STR("none")));
    int64_t give_up_ns = sum_ns < transport->expire_ns ? sum_ns : transport->expire_ns;
    json_object_set_new(object, "give_up_after_s", json_integer(give_up_ns / NS_PER_S));
    buf_clear(&words);
    print_span(give_up_ns, &words);
    json_object_set_new(object, "give_up_after", admin_json(buf_str(&words)));
}

/* ---- MX ---- */

struct question {
    const struct settings *settings;
    const struct transport *transport;
    struct str domain;
    struct arena *arena;
    json_t *hosts;
    struct error err;
    const char *fault; /* or NULL */
    struct loop *loop;
    struct scope root;
    struct loop_hook stop_when_empty;
};

static void add_host(struct question *question, struct dns *dns, unsigned preference,
                     struct str host) MAY_YIELD
{
    struct dns_address_answer answer = {0};
    json_t *addresses = json_array();
    json_t *object = json_object();
    if (dns_query_addresses(dns, host, question->arena, &answer, &question->err) != OK)
        json_object_set_new(object, "error", json_string(question->err.text));
    for (size_t i = 0; i < answer.count; i++) {
        char text[NET_IP_TEXT];
        json_array_append_new(addresses, admin_json(net_ip_format(&answer.ips[i], text)));
    }
    json_object_set_new(object, "preference", json_integer(preference));
    json_object_set_new(object, "host", admin_json(host));
    json_object_set_new(object, "addresses", addresses);
    json_array_append_new(question->hosts, object);
}

static void ask_mx(struct question *question, struct dns *dns) MAY_YIELD
{
    struct dns_mx_answer answer;
    if (dns_query_mx(dns, question->domain, question->arena, &answer, &question->err) != OK)
        question->fault = question->err.text;
    else if (answer.status == DNS_NO_NAME)
        question->fault = "there is no such domain";
    else if (answer.status == DNS_NO_DATA) /* its own addresses stand in (RFC 5321 5.1) */
        add_host(question, dns, 0, question->domain);
    else if (answer.count == 1 && answer.hosts[0].host.len == 0)
        question->fault = "the domain says that it takes no mail (null MX, RFC 7505)";
    else
        for (size_t i = 0; i < answer.count; i++)
            add_host(question, dns, answer.hosts[i].preference, answer.hosts[i].host);
}

static MAY_YIELD void ask(void *arg)
{
    struct question *question = arg;
    struct dns *dns;
    if (dns_new(question->loop, &question->settings->dns, &dns, &question->err) != OK) {
        question->fault = question->err.text;
        return;
    }
    ask_mx(question, dns);
    dns_free(dns);
}

static void end_turn(struct loop_hook *hook)
{
    struct question *question = CONTAINER(hook, struct question, stop_when_empty);
    if (scope_is_empty(&question->root))
        loop_stop(question->loop);
}

static void add_mx(json_t *object, struct question *question)
{
    question->hosts = json_array();
    if (loop_new(NULL, &question->loop, &question->err) != OK) {
        question->fault = question->err.text;
    } else {
        scope_init_root(&question->root, question->loop);
        question->stop_when_empty = (struct loop_hook){.run = end_turn};
        if (fiber_spawn(&question->root, "explain", ask, question, &question->err) != OK)
            question->fault = question->err.text;
        loop_hook_add(question->loop, &question->stop_when_empty);
        loop_run(question->loop);
        loop_hook_remove(&question->stop_when_empty);
        loop_free(question->loop);
    }
    json_object_set_new(object, "hosts", question->hosts);
    if (question->fault)
        json_object_set_new(object, "error", json_string(question->fault));
}

/* ---- the whole ---- */

static void add_server(json_t *object, const struct transport *transport)
{
    const struct server *server = transport->server;
    struct buf words BUF_CLEANUP;
    buf_init(&words, WORDS_MAX);
    for (size_t i = 0; server && i < server->endpoint_count; i++) {
        const struct server_endpoint *endpoint = &server->endpoints[i];
        buf_printf(&words, "%s", i ? ", then " : "");
        if (endpoint->unix_path.len)
            buf_printf(&words, "unix:%.*s", STR_ARG(endpoint->unix_path));
        else
            buf_printf(&words, "%.*s:%u", STR_ARG(endpoint->host), endpoint->port);
    }
    json_object_set_new(object, "server", admin_json(transport->server_name));
    json_object_set_new(object, "next_hop", admin_json(buf_str(&words)));
    if (server)
        json_object_set_new(object, "tls", json_string(tls_words(server->tls)));
}

json_t *explanation_transport(const struct settings *settings, const struct transport *transport,
                              struct str domain, bool dns, struct arena *arena)
{
    static const char *const methods[] = {[TRANSPORT_SERVER] = "server",
                                          [TRANSPORT_LOOKUP_MX] = "lookup-mx",
                                          [TRANSPORT_LMTP] = "lmtp",
                                          [TRANSPORT_DISCARD] = "discard"};
    json_t *object = json_pack("{s:s}", "method", methods[transport->method]);
    json_object_set_new(object, "name", admin_json(transport->name));
    if (transport->method == TRANSPORT_DISCARD) {
        json_object_set_new(object, "next_hop", json_string("nowhere: it is thrown away"));
        return object;
    }
    if (transport->method == TRANSPORT_LOOKUP_MX) {
        struct str words = arena_printf(arena, "the MX hosts of %.*s, port %lld", STR_ARG(domain),
                                        (long long)transport->port);
        json_object_set_new(object, "next_hop", admin_json(words));
        json_object_set_new(object, "tls", json_string(tls_words(transport->tls)));
        struct question question = {
            .settings = settings, .transport = transport, .domain = domain, .arena = arena};
        if (dns)
            add_mx(object, &question);
    } else {
        add_server(object, transport);
    }
    add_retries(object, transport);
    return object;
}
