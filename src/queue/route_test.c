/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/route.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* 192.0.2.0/24 is a documentation network and counts as private here or not; so real-looking
 * public addresses are used, which nobody connects to. */
struct route_case {
    const char *name;
    const char *hosts[6]; /* "10 name ip ip" or "10 name ?" */
    bool allow_private;
    const char *expected; /* "ip ip", "fail 5.4.6", "retry 4.4.3" */
};

static const struct route_case cases[] = {
    {"in order", {"10 a 8.8.8.8", "20 b 9.9.9.9"}, false, "8.8.8.8 9.9.9.9"},
    {"own address ends the list",
     {"10 a 8.8.8.8", "20 b 1.1.1.1", "20 c 9.9.9.9", "30 d 9.9.9.10"},
     false,
     "8.8.8.8"},
    {"own address at the same preference first",
     {"10 a 8.8.8.8", "10 b 1.1.1.1"},
     false,
     "fail 5.4.6"},
    {"own name without address", {"10 a 8.8.8.8", "20 gw.example"}, false, "8.8.8.8"},
    {"own name alone", {"10 gw.example"}, false, "fail 5.4.6"},
    {"private left out", {"10 a 10.0.0.1 8.8.8.8"}, false, "8.8.8.8"},
    {"private only", {"10 a 127.0.0.1", "20 b 192.168.1.1"}, false, "fail 5.4.4"},
    {"private allowed", {"10 a 10.0.0.1"}, true, "10.0.0.1"},
    {"unknown now", {"10 a ?"}, false, "retry 4.4.3"},
    {"unknown, a worse one known", {"10 a ?", "20 b 8.8.8.8"}, false, "8.8.8.8"},
    {"unknown, and we are next", {"10 a ?", "20 b 1.1.1.1"}, false, "retry 4.4.3"},
    {"no address at all", {"10 a", "20 b"}, false, "fail 5.4.4"},
    {"at most four a host",
     {"10 a 8.8.8.1 8.8.8.2 8.8.8.3 8.8.8.4 8.8.8.5"},
     false,
     "8.8.8.1 8.8.8.2 8.8.8.3 8.8.8.4"},
};

static bool is_own(const void *context, const struct net_address *address)
{
    static const unsigned char own[] = {1, 1, 1, 1};
    (void)context;
    return address->port == 25 && address->ip.family == 4 && memcmp(address->ip.bytes, own, 4) == 0;
}

static struct queue_route_host parse_host(struct arena *arena, const char *text)
{
    struct queue_route_host host = {0};
    struct str rest = str_c(text), word;
    struct net_ip *ips = arena_alloc_array(arena, 8, sizeof *ips);
    uint64_t preference = 0;
    (void)str_split(&rest, ' ', &word);
    assert_true(str_to_uint(word, 100, &preference));
    host.preference = (unsigned)preference;
    (void)str_split(&rest, ' ', &host.name);
    while (str_split(&rest, ' ', &word)) {
        if (str_equal(word, STR("?")))
            host.unknown = true;
        else
            assert_true(net_ip_parse(word, &ips[host.ip_count++]));
    }
    host.ips = ips;
    return host;
}

static struct str describe(struct arena *arena, const struct queue_route *route)
{
    struct str text = STR_EMPTY;
    if (route->status != QUEUE_ROUTE_FOUND)
        return arena_printf(arena, "%s %u.%u.%u",
                            route->status == QUEUE_ROUTE_FAILED ? "fail" : "retry",
                            route->reply.enhanced.class, route->reply.enhanced.subject,
                            route->reply.enhanced.detail);
    for (size_t i = 0; i < route->count; i++) {
        char ip[NET_IP_TEXT];
        struct str one = net_ip_format(&route->targets[i].address.ip, ip);
        text = arena_printf(arena, "%.*s%s%.*s", STR_ARG(text), i > 0 ? " " : "", STR_ARG(one));
    }
    return text;
}

static void test_select(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena *arena = arena_new(0);
        struct queue_route_host hosts[6];
        struct queue_route route;
        size_t count = 0;
        for (; count < 6 && cases[i].hosts[count] != NULL; count++)
            hosts[count] = parse_host(arena, cases[i].hosts[count]);
        struct queue_route_rules rules = {.port = 25,
                                          .allow_private = cases[i].allow_private,
                                          .hostname = STR("gw.example"),
                                          .is_own = is_own,
                                          .own_port = true};
        queue_route_select(hosts, count, &rules, arena, &route);
        struct str got = describe(arena, &route);
        if (!str_equal(got, str_c(cases[i].expected)))
            fail_msg("%s: \"%.*s\" instead of \"%s\"", cases[i].name, STR_ARG(got),
                     cases[i].expected);
        arena_free(arena);
    }
}

/* Our name as MX is us only if one of our listeners has the port. */
static void test_own_name(void **state)
{
    struct arena *arena = arena_new(0);
    struct queue_route_host host = parse_host(arena, "10 GW.example 8.8.8.8");
    struct queue_route_rules rules = {
        .port = 26, .hostname = STR("gw.example"), .is_own = is_own, .own_port = false};
    struct queue_route route;
    (void)state;
    queue_route_select(&host, 1, &rules, arena, &route);
    assert_int_equal(route.status, QUEUE_ROUTE_FOUND);
    rules.own_port = true;
    queue_route_select(&host, 1, &rules, arena, &route);
    assert_int_equal(route.status, QUEUE_ROUTE_FAILED);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_select),
                                       cmocka_unit_test(test_own_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
