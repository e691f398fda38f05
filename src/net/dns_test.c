/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to a name server that a thread of the test plays on loopback: it misbehaves as the name
 * asked for says.
 */
#include "net/dns.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/map.h"
#include "base/memory.h"
#include "net/dns_answer.h"
#include "net/net_test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the server ---- */

static int udp_fd, tcp_fd, stop_pipe[2];
static uint16_t server_port;
static pthread_t server_thread;
static atomic_uint queries_seen; /* of the name "counted.test" */

struct query {
    char name[300]; /* lower case, without final dot */
    unsigned type;
    const unsigned char *packet;
    size_t question_end;
    bool tcp;
};

struct response {
    struct buf packet;
    unsigned answers;
};

static void put16(struct buf *out, unsigned value)
{
    buf_append_byte(out, (char)(value >> 8));
    buf_append_byte(out, (char)value);
}

static void begin_response(struct response *response, const struct query *query, unsigned flags)
{
    buf_init(&response->packet, 65535);
    response->answers = 0;
    buf_append(&response->packet, str_of((const char *)query->packet, 2));
    put16(&response->packet, 0x8180 | flags);
    put16(&response->packet, 1);
    put16(&response->packet, 0);
    put16(&response->packet, 0);
    put16(&response->packet, 0);
    /* the question as it came, so that the case of its letters is kept */
    buf_append(&response->packet,
               str_of((const char *)query->packet + 12, query->question_end - 12));
}

/* Of a name that stands at `owner` in the packet. */
static void add_record_of(struct response *response, size_t owner, unsigned type, struct str data)
{
    put16(&response->packet, (unsigned)(0xc000 | owner));
    put16(&response->packet, type);
    put16(&response->packet, 1);
    put16(&response->packet, 0);
    put16(&response->packet, 300);
    put16(&response->packet, (unsigned)data.len);
    buf_append(&response->packet, data);
    response->answers++;
    response->packet.ptr[6] = (char)(response->answers >> 8);
    response->packet.ptr[7] = (char)response->answers;
}

/* Of the name that was asked for. */
static void add_record(struct response *response, unsigned type, struct str data)
{
    add_record_of(response, 12, type, data);
}

static void add_name(struct response *response, unsigned type, const char *target)
{
    unsigned char wire[255];
    size_t size = dns_name_to_wire(str_c(target), wire);
    add_record(response, type, str_of((const char *)wire, size));
}

static void add_mx(struct response *response, unsigned preference, const char *host)
{
    unsigned char data[260];
    data[0] = (unsigned char)(preference >> 8);
    data[1] = (unsigned char)preference;
    size_t size = dns_name_to_wire(str_c(host), data + 2);
    add_record(response, DNS_MX, str_of((const char *)data, size + 2));
}

static void add_ip(struct response *response, const char *text)
{
    struct net_ip ip;
    check(net_ip_parse(str_c(text), &ip));
    add_record(response, ip.family == 4 ? DNS_A : DNS_AAAA,
               str_of((const char *)ip.bytes, ip.family == 4 ? 4 : 16));
}

static bool asks(const struct query *query, const char *name, unsigned type)
{
    return strcmp(query->name, name) == 0 && query->type == type;
}

static void answer_bulk(struct response *response, const struct query *query)
{
    char host[64];
    if (asks(query, "many.test", DNS_MX)) {
        for (unsigned i = 0; i < 1000; i++) {
            snprintf(host, sizeof host, "mx%u.many.test", 1000 - i);
            add_mx(response, 1000 - i, host);
        }
    } else if (asks(query, "many.test", DNS_A)) {
        for (unsigned i = 0; i < 1000; i++) {
            snprintf(host, sizeof host, "10.1.%u.%u", i / 256, i % 256);
            add_ip(response, host);
        }
    } else if (asks(query, "big.test", DNS_TXT)) {
        char *text = memory_alloc(60 * 256);
        for (unsigned i = 0; i < 60; i++) {
            text[i * 256] = (char)255;
            memset(text + i * 256 + 1, 'x', 255);
        }
        add_record(response, DNS_TXT, str_of(text, 60 * 256));
        free(text);
    }
}

static void answer_aliases(struct response *response, const struct query *query)
{
    size_t target_at = response->packet.len + 12;
    if (strcmp(query->name, "loop0.test") == 0) {
        add_name(response, DNS_CNAME, "loop1.test");
        add_record_of(response, target_at, DNS_CNAME, STR("\xc0\x0c"));
    } else if (strcmp(query->name, "loop1.test") == 0) {
        add_name(response, DNS_CNAME, "loop0.test");
        add_record_of(response, target_at, DNS_CNAME, STR("\xc0\x0c"));
    } else if (strcmp(query->name, "alias.test") == 0) {
        add_name(response, DNS_CNAME, "target.test");
        if (query->type == DNS_A)
            add_record_of(response, target_at, DNS_A, STR("\xc0\0\2\x05"));
    } else if (asks(query, "target.test", DNS_A)) {
        add_ip(response, "192.0.2.5");
    }
}

static void answer_normal(struct response *response, const struct query *query)
{
    if (asks(query, "example.test", DNS_MX)) {
        add_mx(response, 20, "c.example.test");
        add_mx(response, 10, "A.example.test");
        add_mx(response, 10, "b.example.test");
    } else if (asks(query, "nullmx.test", DNS_MX)) {
        add_mx(response, 0, ".");
    } else if (asks(query, "both.test", DNS_A) || asks(query, "halfdead.test", DNS_A)) {
        add_ip(response, "192.0.2.1");
        add_ip(response, "192.0.2.2");
    } else if (asks(query, "both.test", DNS_AAAA)) {
        add_ip(response, "2001:db8::1");
    } else if (asks(query, "counted.test", DNS_TXT)) {
        add_record(response, DNS_TXT, STR("\6v=spf1\5 -all"));
        add_record(response, DNS_TXT, STR("\3abc"));
    } else if (asks(query, "1.2.0.192.in-addr.arpa", DNS_PTR)) {
        add_name(response, DNS_PTR, "liar.test");
        add_name(response, DNS_PTR, "both.test");
    } else if (asks(query, "9.2.0.192.in-addr.arpa", DNS_PTR)) {
        add_name(response, DNS_PTR, "both.test");
    } else if (asks(query, "8.2.0.192.in-addr.arpa", DNS_PTR)) {
        add_name(response, DNS_PTR, "servfail.test");
    } else if (asks(query,
                    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
                    DNS_PTR)) {
        add_name(response, DNS_PTR, "both.test");
    }
    answer_aliases(response, query);
    answer_bulk(response, query);
}

static bool begins(const struct query *query, const char *prefix)
{
    return strncmp(query->name, prefix, strlen(prefix)) == 0;
}

/* False: say nothing at all. */
static bool respond(const struct query *query, struct response *response)
{
    if (strcmp(query->name, "counted.test") == 0)
        atomic_fetch_add(&queries_seen, 1);
    if (begins(query, "silent"))
        return false;
    if (begins(query, "slow"))
        poll(NULL, 0, 50);
    if (asks(query, "halfdead.test", DNS_AAAA))
        return false;
    bool no_name = begins(query, "nx") || begins(query, "mx") || begins(query, "liar");
    unsigned rcode = begins(query, "servfail") ? 2 : begins(query, "refused") ? 5 : no_name ? 3 : 0;
    begin_response(response, query, rcode);
    answer_normal(response, query);
    if (begins(query, "signed"))
        response->packet.ptr[3] |= 0x20; /* authentic data */
    if (begins(query, "wrongid"))
        response->packet.ptr[0] ^= 0x55;
    if (begins(query, "wrongquestion"))
        response->packet.ptr[13] ^= 0x3;
    if (begins(query, "garbage"))
        memset(response->packet.ptr + 12, 0xff, response->packet.len - 12);
    /* what does not fit into a datagram is asked for again over TCP */
    bool cut = response->packet.len > 1200 || begins(query, "cut");
    if (cut && !query->tcp) {
        response->packet.len = query->question_end;
        response->packet.ptr[2] |= 0x02;
        response->packet.ptr[6] = response->packet.ptr[7] = 0;
    }
    return !(query->tcp && begins(query, "cut")); /* there TCP does not answer either */
}

static bool parse_query(const unsigned char *packet, size_t size, struct query *out)
{
    size_t at = 12, len = 0;
    *out = (struct query){.packet = packet};
    while (at < size && packet[at] && packet[at] < 64 && len + packet[at] + 2 < sizeof out->name) {
        if (len)
            out->name[len++] = '.';
        for (size_t i = 1; i <= packet[at] && at + i < size; i++)
            out->name[len++] = ascii_lower((char)packet[at + i]);
        at += 1u + packet[at];
    }
    if (at + 5 > size)
        return false;
    out->type = (unsigned)packet[at + 1] << 8 | packet[at + 2];
    out->question_end = at + 5;
    return true;
}

static void serve_udp(void)
{
    unsigned char packet[4096];
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    ssize_t got = recvfrom(udp_fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &len);
    struct query query;
    struct response response = {0};
    if (got < 12 || !parse_query(packet, (size_t)got, &query))
        return;
    if (respond(&query, &response))
        sendto(udp_fd, response.packet.ptr, response.packet.len, 0, (struct sockaddr *)&from, len);
    buf_done(&response.packet);
}

static void serve_tcp(void)
{
    unsigned char packet[4096];
    int fd = accept(tcp_fd, NULL, NULL);
    ssize_t got = recv(fd, packet, sizeof packet, 0);
    struct query query;
    struct response response = {0};
    if (got > 14 && parse_query(packet + 2, (size_t)got - 2, &query)) {
        query.tcp = true;
        if (respond(&query, &response)) {
            unsigned char size[2] = {(unsigned char)(response.packet.len >> 8),
                                     (unsigned char)response.packet.len};
            send(fd, size, 2, MSG_NOSIGNAL | MSG_MORE);
            send(fd, response.packet.ptr, response.packet.len, MSG_NOSIGNAL);
        }
        buf_done(&response.packet);
    }
    close(fd);
}

static void *serve(void *arg)
{
    (void)arg;
    struct pollfd fds[3] = {{.fd = udp_fd, .events = POLLIN},
                            {.fd = tcp_fd, .events = POLLIN},
                            {.fd = stop_pipe[0], .events = POLLIN}};
    while (poll(fds, 3, -1) > 0 && !fds[2].revents) {
        if (fds[0].revents)
            serve_udp();
        if (fds[1].revents)
            serve_tcp();
    }
    return NULL;
}

/* One number for both: what is free for UDP may be taken for TCP, by whoever else runs here. */
static bool bind_both(struct sockaddr_in *address)
{
    socklen_t len = sizeof *address;
    address->sin_port = 0;
    udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(bind(udp_fd, (struct sockaddr *)address, len) == 0);
    check(getsockname(udp_fd, (struct sockaddr *)address, &len) == 0);
    if (bind(tcp_fd, (struct sockaddr *)address, len) == 0 && listen(tcp_fd, 50) == 0)
        return true;
    close(udp_fd);
    close(tcp_fd);
    return false;
}

static int start_server(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int turns = 0;
    while (!bind_both(&address))
        check(++turns < 100);
    server_port = ntohs(address.sin_port);
    check(pipe(stop_pipe) == 0);
    check(pthread_create(&server_thread, NULL, serve, NULL) == 0);
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    check(write(stop_pipe[1], "x", 1) == 1);
    pthread_join(server_thread, NULL);
    close(udp_fd);
    close(tcp_fd);
    close(stop_pipe[0]);
    close(stop_pipe[1]);
    return 0;
}

/* ---- the asking side ---- */

static struct dns *dns;
static struct arena *arena;

static struct dns_settings settings_for_server(int64_t timeout_ns)
{
    static struct net_address server;
    server = (struct net_address){.ip = {.family = 4, .bytes = {127, 0, 0, 1}}};
    server.port = server_port;
    return (struct dns_settings){.servers = &server, .server_count = 1, .timeout_ns = timeout_ns};
}

static void run_with_either(const struct dns_settings *settings, void (*fiber)(void *arg))
{
    struct error err;
    struct loop *loop = test_loop_open();
    if (dns_new(loop, settings, &dns, &err) == FAILED)
        fail_msg("%s", err.text);
    arena = arena_new(0);
    run_fibers(fiber, NULL, NULL);
    arena_free(arena);
    dns_free(dns);
    test_loop_close();
}

/* With libunbound, and straight to the server. */
static void run_with(const struct dns_settings *settings, void (*fiber)(void *arg))
{
    struct dns_settings direct = *settings;
    direct.dnssec = DNS_DNSSEC_TRUST_AD;
    run_with_either(settings, fiber);
    run_with_either(&direct, fiber);
}

static void assert_str(struct str got, const char *text)
{
    assert_int_equal(got.len, strlen(text));
    assert_memory_equal(got.ptr, text, got.len);
}

static NO_YIELD_CHECK void ask_mx(void *arg)
{
    (void)arg;
    struct error err;
    struct dns_mx_answer mx;
    bool a_first = false, b_first = false;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(dns_query_mx(dns, STR("Example.test"), arena, &mx, &err), OK);
        assert_int_equal(mx.status, DNS_FOUND);
        assert_int_equal(mx.count, 3);
        assert_str(mx.hosts[2].host, "c.example.test");
        assert_int_equal(mx.hosts[2].preference, 20);
        assert_int_equal(mx.hosts[0].preference, 10);
        a_first |= str_equal(mx.hosts[0].host, STR("a.example.test"));
        b_first |= str_equal(mx.hosts[0].host, STR("b.example.test"));
    }
    assert_true(a_first && b_first);
    assert_int_equal(dns_query_mx(dns, STR("nullmx.test."), arena, &mx, &err), OK);
    assert_int_equal(mx.count, 1);
    assert_str(mx.hosts[0].host, "");
    assert_int_equal(dns_query_mx(dns, STR("nxdomain.test"), arena, &mx, &err), OK);
    assert_int_equal(mx.status, DNS_NO_NAME);
    assert_int_equal(dns_query_mx(dns, STR("nodata.test"), arena, &mx, &err), OK);
    assert_int_equal(mx.status, DNS_NO_DATA);
    assert_int_equal(mx.count, 0);
    /* over TCP, and with a ceiling that keeps the best ones */
    assert_int_equal(dns_query_mx(dns, STR("many.test"), arena, &mx, &err), OK);
    assert_int_equal(mx.count, 100);
    assert_str(mx.hosts[0].host, "mx1.many.test");
    assert_str(mx.hosts[99].host, "mx100.many.test");
}

static void mx(void **state)
{
    (void)state;
    struct dns_settings settings = settings_for_server(0);
    run_with(&settings, ask_mx);
}

static NO_YIELD_CHECK void ask_addresses(void *arg)
{
    (void)arg;
    struct error err;
    struct dns_address_answer answer;
    bool one_first = false, two_first = false;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(dns_query_addresses(dns, STR("both.test"), arena, &answer, &err), OK);
        assert_int_equal(answer.status, DNS_FOUND);
        assert_int_equal(answer.count, 3);
        assert_int_equal(answer.ips[0].family, 6);
        assert_int_equal(answer.ips[1].family, 4);
        one_first |= answer.ips[1].bytes[3] == 1;
        two_first |= answer.ips[1].bytes[3] == 2;
    }
    assert_true(one_first && two_first);
    assert_int_equal(dns_query_addresses(dns, STR("alias.test"), arena, &answer, &err), OK);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.ips[0].bytes[3], 5);
    assert_int_equal(dns_query_addresses(dns, STR("nx.test"), arena, &answer, &err), OK);
    assert_int_equal(answer.status, DNS_NO_NAME);
    assert_int_equal(dns_query_addresses(dns, STR("nodata.test"), arena, &answer, &err), OK);
    assert_int_equal(answer.status, DNS_NO_DATA);
    assert_int_equal(dns_query_addresses(dns, STR("many.test"), arena, &answer, &err), OK);
    assert_true(answer.count <= 100 && answer.count > 0);
}

static void addresses(void **state)
{
    (void)state;
    struct dns_settings settings = settings_for_server(0);
    run_with(&settings, ask_addresses);
}

static NO_YIELD_CHECK void ask_families(void *arg)
{
    (void)arg;
    struct error err;
    struct dns_address_answer answer;
    struct dns_text_answer names;
    assert_int_equal(dns_query_family(dns, STR("both.test"), 4, arena, &answer, &err), OK);
    assert_int_equal(answer.count, 2);
    assert_int_equal(answer.ips[0].family, 4);
    assert_int_equal(dns_query_family(dns, STR("both.test"), 6, arena, &answer, &err), OK);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.ips[0].family, 6);
    assert_int_equal(dns_query_family(dns, STR("target.test"), 6, arena, &answer, &err), OK);
    assert_int_equal(answer.status, DNS_NO_DATA);
    assert_int_equal(dns_query_family(dns, STR("nx.test"), 4, arena, &answer, &err), OK);
    assert_int_equal(answer.status, DNS_NO_NAME);
    assert_int_equal(dns_query_family(dns, STR("servfail.test"), 4, arena, &answer, &err), FAILED);
    assert_int_equal(dns_query_ptr(dns, STR("1.2.0.192.in-addr.arpa"), arena, &names, &err), OK);
    assert_int_equal(names.count, 2);
}

static void families(void **state)
{
    (void)state;
    struct dns_settings settings = settings_for_server(0);
    run_with(&settings, ask_families);
}

static NO_YIELD_CHECK void ask_impossible_names(void *arg)
{
    (void)arg;
    static const char *const names[] = {
        "",
        "..",
        "a..b",
        ".a",
        "a\\",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.test"};
    struct error err;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct dns_address_answer answer;
        struct dns_mx_answer mx;
        struct dns_text_answer text;
        struct str name = str_c(names[i]);
        assert_int_equal(dns_query_addresses(dns, name, arena, &answer, &err), OK);
        assert_int_equal(answer.status, DNS_NO_NAME);
        assert_int_equal(dns_query_mx(dns, name, arena, &mx, &err), OK);
        assert_int_equal(mx.status, DNS_NO_NAME);
        assert_int_equal(dns_query_txt(dns, name, arena, &text, &err), OK);
        assert_int_equal(text.status, DNS_NO_NAME);
    }
    struct dns_text_answer text;
    assert_int_equal(dns_query_txt(dns, STR("a\0b.test"), arena, &text, &err), OK);
    assert_int_equal(text.status, DNS_NO_NAME);
}

static void impossible_names(void **state)
{
    (void)state;
    struct dns_settings settings = settings_for_server(0);
    run_with(&settings, ask_impossible_names);
}

static NO_YIELD_CHECK void ask_texts(void *arg)
{
    (void)arg;
    struct error err;
    struct dns_text_answer answer;
    unsigned before = atomic_load(&queries_seen);
    for (int i = 0; i < 10; i++) { /* the second one comes from the cache, without suspending */
        assert_int_equal(dns_query_txt(dns, STR("counted.test"), arena, &answer, &err), OK);
        assert_int_equal(answer.count, 2);
        bool first = str_equal(answer.texts[0], STR("v=spf1 -all"));
        assert_str(answer.texts[first ? 1 : 0], "abc");
    }
    assert_int_equal(atomic_load(&queries_seen), before + 1);
    assert_int_equal(dns_query_txt(dns, STR("big.test"), arena, &answer, &err), OK);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.texts[0].len, 60 * 255);
}

static void texts_and_the_cache(void **state)
{
    (void)state;
    struct dns_settings settings = settings_for_server(0);
    run_with_either(&settings, ask_texts);
}

static NO_YIELD_CHECK void ask_failing(void *arg)
{
    (void)arg;
    static const char *const names[] = {"servfail.test", "refused.test", "loop0.test", "cut.test"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct error err = {0};
        struct dns_address_answer answer;
        struct dns_text_answer text;
        if (dns_query_addresses(dns, str_c(names[i]), arena, &answer, &err) != FAILED)
            fail_msg("%s: status %d", names[i], answer.status);
        assert_true(err.kind == ERROR_TEMPORARY || err.kind == ERROR_TIMEOUT);
        assert_non_null(strstr(err.text, names[i]));
        assert_int_equal(dns_query_txt(dns, str_c(names[i]), arena, &text, &err), FAILED);
    }
}

static void failures_are_temporary(void **state)
{
    (void)state;
    struct dns_settings settings = settings_for_server(3 * NS_PER_S);
    run_with(&settings, ask_failing);
}

static NO_YIELD_CHECK void ask_in_vain(void *arg)
{
    (void)arg;
    static const char *const names[] = {"silent.test", "wrongid.test", "wrongquestion.test",
                                        "garbage.test"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct error err = {0};
        struct dns_text_answer text;
        if (dns_query_txt(dns, str_c(names[i]), arena, &text, &err) != FAILED)
            fail_msg("%s: status %d", names[i], text.status);
    }
    /* one family without an answer does not hide the other one */
    struct error err = {0};
    struct dns_address_answer answer;
    assert_int_equal(dns_query_addresses(dns, STR("halfdead.test"), arena, &answer, &err), OK);
    assert_int_equal(answer.count, 2);
}

static void silence_and_forged_answers_time_out(void **state)
{
    (void)state;
    struct dns_settings settings = settings_for_server(100 * NS_PER_MS);
    run_with(&settings, ask_in_vain);
}

static NO_YIELD_CHECK void ask_and_give_up(void *arg)
{
    (void)arg;
    struct error err = {0};
    struct dns_mx_answer mx;
    struct dns_address_answer addresses;
    struct scope scope;
    scope_open(&scope, clock_deadline(10 * NS_PER_MS));
    assert_int_equal(dns_query_mx(dns, STR("silent.test"), arena, &mx, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    scope_close(&scope);
    scope_open(&scope, TIME_NEVER);
    scope_cancel(&scope);
    assert_int_equal(dns_query_addresses(dns, STR("silent2.test"), arena, &addresses, &err),
                     FAILED);
    assert_int_equal(err.kind, ERROR_CANCELLED);
    scope_close(&scope);
    /* the answer comes after its first waiter is gone, and in time for the second one */
    scope_open(&scope, clock_deadline(5 * NS_PER_MS));
    assert_int_equal(dns_query_mx(dns, STR("slow.test"), arena, &mx, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    scope_close(&scope);
    assert_int_equal(dns_query_mx(dns, STR("slow.test"), arena, &mx, &err), OK);
    assert_int_equal(mx.status, DNS_NO_DATA);
    assert_int_equal(dns_query_mx(dns, STR("example.test"), arena, &mx, &err), OK);
    assert_int_equal(mx.count, 3);
}

/* dns_free comes while questions are under way. */
static void waiters_that_gave_up(void **state)
{
    (void)state;
    struct dns_settings settings = settings_for_server(0);
    run_with(&settings, ask_and_give_up);
}

static MAY_YIELD enum dns_status client_name(const char *ip_text, struct str *out_name)
{
    struct net_ip ip;
    struct error err;
    enum dns_status status = DNS_NO_DATA;
    assert_true(net_ip_parse(str_c(ip_text), &ip));
    if (dns_query_client_name(dns, &ip, arena, &status, out_name, &err) == FAILED)
        fail_msg("%s: %s", ip_text, err.text);
    return status;
}

static NO_YIELD_CHECK void ask_client_names(void *arg)
{
    (void)arg;
    struct str name;
    assert_int_equal(client_name("192.0.2.1", &name), DNS_FOUND);
    assert_str(name, "both.test"); /* liar.test does not confirm */
    assert_int_equal(client_name("192.0.2.9", &name), DNS_NO_NAME);
    assert_int_equal(client_name("192.0.2.77", &name), DNS_NO_NAME);
    assert_int_equal(client_name("2001:db8::1", &name), DNS_FOUND);
    assert_str(name, "both.test");
    struct net_ip ip;
    struct error err;
    enum dns_status status;
    assert_true(net_ip_parse(STR("192.0.2.8"), &ip));
    assert_int_equal(dns_query_client_name(dns, &ip, arena, &status, &name, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
}

static void client_names(void **state)
{
    (void)state;
    struct dns_settings settings = settings_for_server(0);
    run_with(&settings, ask_client_names);
}

/* ---- DNSSEC ---- */

static NO_YIELD_CHECK void probe_and_see_the_bit(void *arg)
{
    (void)arg;
    struct error err;
    struct dns_text_answer text;
    assert_int_equal(dns_probe_dnssec(dns, STR("signed.test"), &err), OK);
    assert_int_equal(dns_probe_dnssec(dns, STR("unsigned.test"), &err), FAILED);
    assert_int_equal(err.kind, ERROR_PERMANENT);
    assert_int_equal(dns_probe_dnssec(dns, STR("servfail.test"), &err), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
    assert_int_equal(dns_query_txt(dns, STR("signed.test"), arena, &text, &err), OK);
    assert_true(text.secure);
    assert_int_equal(dns_query_txt(dns, STR("big.test"), arena, &text, &err), OK); /* over TCP */
    assert_int_equal(text.texts[0].len, 60 * 255);
    assert_false(text.secure);
}

static NO_YIELD_CHECK void probe_nothing(void *arg)
{
    (void)arg;
    struct error err;
    struct dns_text_answer text;
    assert_int_equal(dns_probe_dnssec(dns, STR_EMPTY, &err), OK);
    /* the bit of a server that nobody said to trust */
    assert_int_equal(dns_query_txt(dns, STR("signed.test"), arena, &text, &err), OK);
    assert_false(text.secure);
}

/* The server has no signatures: nothing may be taken for true that should be signed. */
static NO_YIELD_CHECK void probe_in_vain(void *arg)
{
    (void)arg;
    struct error err;
    assert_int_equal(dns_probe_dnssec(dns, STR_EMPTY, &err), FAILED);
    struct dns_text_answer text;
    assert_int_equal(dns_query_txt(dns, STR("signed.example"), arena, &text, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
}

static void dnssec(void **state)
{
    (void)state;
    struct dns_settings settings = settings_for_server(2 * NS_PER_S);
    run_with_either(&settings, probe_nothing);
    settings.dnssec = DNS_DNSSEC_TRUST_AD;
    run_with_either(&settings, probe_and_see_the_bit);
    settings.dnssec = DNS_DNSSEC_VALIDATE;
    run_with_either(&settings, probe_in_vain);
    settings.trust_anchor_file = STR("/nonexistent/root.key");
    struct error err;
    struct loop *loop = test_loop_open();
    assert_int_equal(dns_new(loop, &settings, &dns, &err), FAILED);
    assert_non_null(strstr(err.text, "/nonexistent/root.key"));
    test_loop_close();
}

/* ---- static names ---- */

static NO_YIELD_CHECK void ask_statics(void *arg)
{
    (void)arg;
    struct error err;
    struct dns_mx_answer mx;
    struct dns_address_answer addresses;
    struct str name;
    assert_int_equal(dns_query_addresses(dns, STR("MAIL.local."), arena, &addresses, &err), OK);
    assert_int_equal(addresses.count, 2);
    assert_int_equal(dns_query_family(dns, STR("mail.local"), 4, arena, &addresses, &err), OK);
    assert_int_equal(addresses.count, 1);
    assert_int_equal(addresses.ips[0].family, 4);
    assert_int_equal(dns_query_mx(dns, STR("mail.local"), arena, &mx, &err), OK);
    assert_int_equal(mx.status, DNS_NO_DATA);
    assert_int_equal(dns_query_mx(dns, STR("Example.test"), arena, &mx, &err), OK);
    assert_int_equal(mx.count, 2);
    assert_str(mx.hosts[0].host, "mail.local");
    assert_int_equal(mx.hosts[1].preference, 20);
    assert_int_equal(dns_query_mx(dns, STR("nomail.test"), arena, &mx, &err), OK);
    assert_int_equal(mx.count, 1);
    assert_str(mx.hosts[0].host, "");
    assert_int_equal(client_name("127.0.0.7", &name), DNS_FOUND);
    assert_str(name, "mail.local");
    /* what is not listed is asked as ever */
    assert_int_equal(dns_query_addresses(dns, STR("both.test"), arena, &addresses, &err), OK);
    assert_int_equal(addresses.count, 3);
}

static void static_names(void **state)
{
    (void)state;
    struct str ips[] = {STR("127.0.0.7"), STR("::1")};
    struct str hosts[] = {STR("20 other.local"), STR("10 Mail.local.")};
    struct str null_mx[] = {STR("0 .")};
    struct dns_static statics[] = {{STR("Mail.local"), ips, 2},
                                   {STR("mx:example.test"), hosts, 2},
                                   {STR("mx:nomail.test"), null_mx, 1}};
    struct dns_settings settings = settings_for_server(0);
    settings.statics = statics;
    settings.static_count = 3;
    run_with(&settings, ask_statics);
}

static void bad_static_names(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"mail.local", "not an address"}, {"mail.local", "10 mail.local"},
        {"mx:a.test", "127.0.0.1"},       {"mx:a.test", "10"},
        {"mx:a.test", "65536 mail"},      {"mx:a.test", "ten mail"},
        {"mx:a.test", "10 a..b"},
    };
    struct loop *loop = test_loop_open();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err;
        struct str value = str_c(cases[i][1]);
        struct dns_static entry = {str_c(cases[i][0]), &value, 1};
        struct dns_settings settings = {.statics = &entry, .static_count = 1};
        struct dns *none;
        if (dns_new(loop, &settings, &none, &err) != FAILED)
            fail_msg("%s", cases[i][1]);
        assert_int_equal(err.kind, ERROR_PERMANENT);
        assert_non_null(strstr(err.text, cases[i][0]));
    }
    test_loop_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mx),
        cmocka_unit_test(addresses),
        cmocka_unit_test(families),
        cmocka_unit_test(impossible_names),
        cmocka_unit_test(texts_and_the_cache),
        cmocka_unit_test(failures_are_temporary),
        cmocka_unit_test(silence_and_forged_answers_time_out),
        cmocka_unit_test(waiters_that_gave_up),
        cmocka_unit_test(client_names),
        cmocka_unit_test(dnssec),
        cmocka_unit_test(static_names),
        cmocka_unit_test(bad_static_names),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
