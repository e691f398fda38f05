/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define V2 "\r\n\r\n\0\r\nQUIT\n"

struct example {
    const char *name;
    struct str input;
    enum proxy_result result;
    size_t used;
    const char *client, *local;
};

static const struct example examples[] = {
    {"v1 IPv4", STR("PROXY TCP4 192.0.2.1 198.51.100.2 4711 25\r\nEHLO"), PROXY_CLIENT, 43,
     "192.0.2.1:4711", "198.51.100.2:25"},
    {"v1 IPv6", STR("PROXY TCP6 2001:db8::1 2001:db8::2 4711 25\r\n"), PROXY_CLIENT, 44,
     "[2001:db8::1]:4711", "[2001:db8::2]:25"},
    {"v1 mapped", STR("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 25\r\n"), PROXY_CLIENT, 51,
     "192.0.2.1:1", "192.0.2.2:25"},
    {"v1 unknown", STR("PROXY UNKNOWN\r\n"), PROXY_UNKNOWN, 15, NULL, NULL},
    {"v1 unknown with rest", STR("PROXY UNKNOWN ffff: x\r\nX"), PROXY_UNKNOWN, 23, NULL, NULL},
    {"v1 part", STR("PROXY TCP4 192.0.2.1"), PROXY_MORE, 0, NULL, NULL},
    {"nothing", STR(""), PROXY_MORE, 0, NULL, NULL},
    {"one letter", STR("P"), PROXY_MORE, 0, NULL, NULL},
    {"SMTP", STR("EHLO"), PROXY_INVALID, 0, NULL, NULL},
    {"v1 two blanks", STR("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n"), PROXY_INVALID, 0, 0, 0},
    {"v1 more fields", STR("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"), PROXY_INVALID, 0, 0, 0},
    {"v1 final blank", STR("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n"), PROXY_INVALID, 0, 0, 0},
    {"v1 port too high", STR("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n"), PROXY_INVALID, 0, 0, 0},
    {"v1 port with zero", STR("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n"), PROXY_INVALID, 0, 0, 0},
    {"v1 wrong family", STR("PROXY TCP4 ::1 ::2 1 2\r\n"), PROXY_INVALID, 0, 0, 0},
    {"v1 wrong family 6", STR("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"), PROXY_INVALID, 0, 0, 0},
    {"v1 bare LF", STR("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"), PROXY_INVALID, 0, 0, 0},
    {"v1 lower case", STR("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), PROXY_INVALID, 0, 0, 0},
    {"v1 UDP", STR("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n"), PROXY_INVALID, 0, 0, 0},
    {"v1 empty", STR("PROXY \r\n"), PROXY_INVALID, 0, 0, 0},
    {"v2 IPv4",
     STR(V2 "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\x12\x67\0\x19"
            "EHLO"),
     PROXY_CLIENT, 28, "192.0.2.1:4711", "198.51.100.2:25"},
    {"v2 IPv6",
     STR(V2 "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0"
            "\0\2\x12\x67\0\x19"),
     PROXY_CLIENT, 52, "[2001:db8::1]:4711", "[2001:db8::2]:25"},
    {"v2 with extension", STR(V2 "\x21\x11\0\x0f\xc0\0\2\1\xc6\x33\x64\2\x12\x67\0\x19\4\0\0"),
     PROXY_CLIENT, 31, "192.0.2.1:4711", "198.51.100.2:25"},
    {"v2 local", STR(V2 "\x20\0\0\0X"), PROXY_UNKNOWN, 16, NULL, NULL},
    {"v2 local with addresses", STR(V2 "\x20\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\x12\x67\0\x19"),
     PROXY_UNKNOWN, 28, NULL, NULL},
    {"v2 datagram", STR(V2 "\x21\x12\0\x0c\xc0\0\2\1\xc6\x33\x64\2\x12\x67\0\x19"), PROXY_UNKNOWN,
     28, NULL, NULL},
    {"v2 unspecified", STR(V2 "\x21\0\0\0"), PROXY_UNKNOWN, 16, NULL, NULL},
    {"v2 part of the signature", STR("\r\n\r\n\0"), PROXY_MORE, 0, NULL, NULL},
    {"v2 part of the head", STR(V2 "\x21\x11\0"), PROXY_MORE, 0, NULL, NULL},
    {"v2 part of the addresses", STR(V2 "\x21\x11\0\x0c\xc0"), PROXY_MORE, 0, NULL, NULL},
    {"v2 too short for IPv4", STR(V2 "\x21\x11\0\x0b\xc0\0\2\1\xc6\x33\x64\2\x12\x67\0"),
     PROXY_INVALID, 0, NULL, NULL},
    {"v2 too short for IPv6", STR(V2 "\x21\x21\0\x23"), PROXY_INVALID, 0, NULL, NULL},
    {"v2 version 1", STR(V2 "\x11"), PROXY_INVALID, 0, NULL, NULL},
    {"v2 command 2", STR(V2 "\x22\x11\0\x0c"), PROXY_INVALID, 0, NULL, NULL},
    {"v2 family 4", STR(V2 "\x21\x41\0\x0c"), PROXY_INVALID, 0, NULL, NULL},
    {"v2 too long", STR(V2 "\x21\x11\x08\0"), PROXY_INVALID, 0, NULL, NULL},
    {"v2 wrong signature", STR("\r\n\r\n\0\r\nQUIX"), PROXY_INVALID, 0, NULL, NULL},
};

static void check_address(const struct net_address *address, const char *expected)
{
    char out[NET_ADDRESS_TEXT];
    net_address_format(address, out);
    assert_string_equal(out, expected);
}

static void headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        const struct example *example = &examples[i];
        struct net_address client = {0}, local = {0};
        size_t used = 0;
        enum proxy_result result = proxy_parse(example->input, &used, &client, &local);
        if (result != example->result || used != example->used)
            fail_msg("%s: result %d, used %zu", example->name, result, used);
        if (result != PROXY_CLIENT)
            continue;
        check_address(&client, example->client);
        check_address(&local, example->local);
    }
}

static void every_shorter_input_asks_for_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        struct net_address client, local;
        size_t used;
        for (size_t len = 0; len < examples[i].used; len++)
            assert_int_equal(
                proxy_parse(str_slice(examples[i].input, 0, len), &used, &client, &local),
                PROXY_MORE);
    }
}

static void a_line_without_end_is_invalid(void **state)
{
    (void)state;
    char line[200] = "PROXY UNKNOWN ";
    struct net_address client, local;
    size_t used;
    memset(line + 14, 'x', sizeof line - 14);
    assert_int_equal(proxy_parse(str_of(line, 106), &used, &client, &local), PROXY_MORE);
    assert_int_equal(proxy_parse(str_of(line, 107), &used, &client, &local), PROXY_INVALID);
    memcpy(line + 105, "\r\n", 2);
    assert_int_equal(proxy_parse(str_of(line, 200), &used, &client, &local), PROXY_UNKNOWN);
    assert_int_equal(used, 107);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers),
        cmocka_unit_test(every_shorter_input_asks_for_more),
        cmocka_unit_test(a_line_without_end_is_invalid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
