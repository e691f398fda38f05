/* SPDX-License-Identifier: Apache-2.0 */
#include "net/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void assert_text(struct str text, const char *expected)
{
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.ptr, expected, text.len);
}

static void ips_are_parsed_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected; /* NULL: refused */
    } cases[] = {
        {"192.0.2.1", "192.0.2.1"},
        {"0.0.0.0", "0.0.0.0"},
        {"255.255.255.255", "255.255.255.255"},
        {"2001:DB8::1", "2001:db8::1"},
        {"::", "::"},
        {"::1", "::1"},
        {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"::FFFF:c000:201", "192.0.2.1"},
        {"", NULL},
        {"192.0.2", NULL},
        {"192.0.2.1.", NULL},
        {"192.0.2.256", NULL},
        {"192.0.02.1", NULL},
        {"0x7f.0.0.1", NULL},
        {" 192.0.2.1", NULL},
        {"192.0.2.1 ", NULL},
        {"2130706433", NULL},
        {"1:2:3:4:5:6:7", NULL},
        {"1:2:3:4:5:6:7:8:9", NULL},
        {"1::2::3", NULL},
        {"fe80::1%eth0", NULL},
        {"[::1]", NULL},
        {"::12345", NULL},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct net_ip ip;
        char out[NET_IP_TEXT];
        bool good = net_ip_parse(str_c(cases[i].text), &ip);
        if (good != (cases[i].expected != NULL))
            fail_msg("%s", cases[i].text);
        if (good)
            assert_text(net_ip_format(&ip, out), cases[i].expected);
    }
    struct net_ip ip;
    assert_false(net_ip_parse(STR("192.0.2.1\0"), &ip));
    char none[NET_IP_TEXT];
    assert_text(net_ip_format(&(struct net_ip){0}, none), "");
}

static void addresses_have_a_port_or_a_path(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint16_t default_port;
        const char *expected;
    } cases[] = {
        {"192.0.2.1:25", 0, "192.0.2.1:25"},
        {"192.0.2.1", 53, "192.0.2.1:53"},
        {"192.0.2.1", 0, NULL},
        {"[::]:25", 0, "[::]:25"},
        {"[2001:db8::1]", 53, "[2001:db8::1]:53"},
        {"2001:db8::1", 53, "[2001:db8::1]:53"},
        {"2001:db8::1", 0, NULL},
        {"[::ffff:192.0.2.1]:25", 0, "192.0.2.1:25"},
        {"unix:/run/x", 0, "unix:/run/x"},
        {"unix:run/x", 0, NULL},
        {"unix:", 0, NULL},
        {"192.0.2.1:", 25, NULL},
        {"192.0.2.1:0", 25, NULL},
        {"192.0.2.1:025", 0, NULL},
        {"192.0.2.1:65535", 0, "192.0.2.1:65535"},
        {"192.0.2.1:65536", 0, NULL},
        {"192.0.2.1:+25", 0, NULL},
        {"192.0.2.1:25:", 0, NULL},
        {"[192.0.2.1]:25", 0, NULL},
        {"[::1:25", 0, NULL},
        {"[::1]25", 0, NULL},
        {"mail.example.net:25", 0, NULL},
        {":25", 0, NULL},
        {"", 25, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct net_address address;
        char out[NET_ADDRESS_TEXT];
        bool good = net_address_parse(str_c(cases[i].text), cases[i].default_port, &address);
        if (good != (cases[i].expected != NULL))
            fail_msg("%s", cases[i].text);
        if (good)
            assert_text(net_address_format(&address, out), cases[i].expected);
    }
    char path[120] = "unix:/";
    struct net_address address;
    memset(path + 6, 'a', 106); /* 107 bytes of path fit with the NUL */
    assert_true(net_address_parse(str_of(path, 5 + 107), 0, &address));
    path[5 + 107] = 'a';
    assert_false(net_address_parse(str_of(path, 5 + 108), 0, &address));
}

static void networks_have_no_host_bits(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int bits; /* -1: refused */
    } cases[] = {
        {"10.0.0.0/8", 8},        {"192.0.2.7", 32},          {"0.0.0.0/0", 0},
        {"10.0.0.1/8", -1},       {"10.128.0.0/8", -1},       {"10.128.0.0/9", 9},
        {"10.0.0.0/33", -1},      {"10.0.0.0/08", -1},        {"10.0.0.0/", -1},
        {"10.0.0.0/-1", -1},      {"10.0.0/8", -1},           {"2001:db8::/32", 32},
        {"2001:db8::1", 128},     {"2001:db8::1/64", -1},     {"::/0", 0},
        {"::/129", -1},           {"::ffff:10.0.0.0/104", 8}, {"::ffff:10.0.0.0/8", -1},
        {"::ffff:0.0.0.0/96", 0}, {"10.0.0.0/104", -1},       {"192.0.2.0/255.255.255.0", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct net_network network;
        bool good = net_network_parse(str_c(cases[i].text), &network);
        if (good != (cases[i].bits >= 0))
            fail_msg("%s", cases[i].text);
        if (good)
            assert_int_equal(network.bits, cases[i].bits);
    }
}

static bool has(const char *network_text, const char *ip_text)
{
    struct net_network network;
    struct net_ip ip;
    assert_true(net_network_parse(str_c(network_text), &network));
    assert_true(net_ip_parse(str_c(ip_text), &ip));
    return net_networks_have(&network, 1, &ip);
}

static void networks_have_addresses(void **state)
{
    (void)state;
    assert_true(has("10.0.0.0/8", "10.255.255.255"));
    assert_false(has("10.0.0.0/8", "11.0.0.0"));
    assert_true(has("192.0.2.128/25", "192.0.2.255"));
    assert_false(has("192.0.2.128/25", "192.0.2.127"));
    assert_true(has("0.0.0.0/0", "203.0.113.9"));
    assert_false(has("0.0.0.0/0", "2001:db8::1"));
    assert_false(has("::/0", "192.0.2.1"));
    assert_true(has("10.0.0.0/8", "::ffff:10.1.2.3"));
    assert_true(has("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(has("2001:db8::/33", "2001:db8:8000::1"));
    struct net_ip none = {0};
    assert_false(net_networks_have(NULL, 0, &none));
}

static void client_networks(void **state)
{
    (void)state;
    struct net_ip ip;
    char out[NET_IP_TEXT];
    assert_true(net_ip_parse(STR("192.0.2.77"), &ip));
    struct net_network network = net_client_network(&ip);
    assert_int_equal(network.bits, 24);
    assert_text(net_ip_format(&network.ip, out), "192.0.2.0");
    assert_true(net_ip_parse(STR("2001:db8:1:2:3:4:5:6"), &ip));
    network = net_client_network(&ip);
    assert_int_equal(network.bits, 64);
    assert_text(net_ip_format(&network.ip, out), "2001:db8:1:2::");
}

static void private_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool private;
    } cases[] = {
        {"127.0.0.1", true},
        {"10.1.2.3", true},
        {"172.16.0.1", true},
        {"172.32.0.1", false},
        {"192.168.1.1", true},
        {"169.254.1.1", true},
        {"100.64.0.1", true},
        {"100.128.0.1", false},
        {"0.0.0.0", true},
        {"224.0.0.1", true},
        {"255.255.255.255", true},
        {"192.0.2.1", true},
        {"198.18.0.1", true},
        {"9.9.9.9", false},
        {"193.0.0.1", false},
        {"::", true},
        {"::1", true},
        {"fe80::1", true},
        {"fc00::1", true},
        {"fdff::1", true},
        {"ff02::1", true},
        {"2001:db8::1", true},
        {"2620:fe::fe", false},
        {"2a00:1450::1", false},
        {"64:ff9b::a00:1", true},
        {"64:ff9b::909:909", false},
        {"2002:a00:1::", true},
        {"2002:909:909::", false},
        {"::ffff:10.0.0.1", true},
        {"::ffff:9.9.9.9", false},
        {"2001::1", true},
        {"2001:200::1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct net_ip ip;
        assert_true(net_ip_parse(str_c(cases[i].text), &ip));
        if (net_ip_is_private(&ip) != cases[i].private)
            fail_msg("%s", cases[i].text);
    }
    assert_true(net_ip_is_private(&(struct net_ip){0}));
}

static void loopback_and_equality(void **state)
{
    (void)state;
    struct net_ip a, b;
    assert_true(net_ip_parse(STR("127.9.9.9"), &a));
    assert_true(net_ip_is_loopback(&a));
    assert_true(net_ip_parse(STR("::1"), &b));
    assert_true(net_ip_is_loopback(&b));
    assert_false(net_ip_equal(&a, &b));
    assert_true(net_ip_parse(STR("::ffff:127.9.9.9"), &b));
    assert_true(net_ip_equal(&a, &b));
    assert_true(net_ip_parse(STR("::2"), &b));
    assert_false(net_ip_is_loopback(&b));
}

static void sockaddr_there_and_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"192.0.2.1:25", "[2001:db8::1]:587", "unix:/run/postern"};
    for (size_t i = 0; i < 3; i++) {
        struct net_address address, again;
        struct sockaddr_storage storage;
        socklen_t len;
        char out[NET_ADDRESS_TEXT];
        assert_true(net_address_parse(str_c(texts[i]), 0, &address));
        net_address_to_sockaddr(&address, &storage, &len);
        net_address_from_sockaddr(&storage, &again);
        assert_text(net_address_format(&again, out), texts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ips_are_parsed_strictly),
        cmocka_unit_test(addresses_have_a_port_or_a_path),
        cmocka_unit_test(networks_have_no_host_bits),
        cmocka_unit_test(networks_have_addresses),
        cmocka_unit_test(client_networks),
        cmocka_unit_test(private_addresses),
        cmocka_unit_test(loopback_and_equality),
        cmocka_unit_test(sockaddr_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
