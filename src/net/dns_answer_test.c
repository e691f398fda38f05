/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_answer.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- packets made by hand ---- */

static struct buf packet;

static void put16(unsigned value)
{
    buf_append_byte(&packet, (char)(value >> 8));
    buf_append_byte(&packet, (char)value);
}

static void put_name(const char *name)
{
    unsigned char wire[255];
    size_t size = dns_name_to_wire(str_c(name), wire);
    assert_true(size > 0);
    buf_append(&packet, str_of((const char *)wire, size));
}

static void begin(unsigned flags, const char *name, enum dns_type type)
{
    buf_clear(&packet);
    put16(4711);
    put16(0x8000 | flags);
    put16(1);
    put16(0);
    put16(0);
    put16(0);
    put_name(name);
    put16(type);
    put16(1);
}

static void count_record(void)
{
    const unsigned char *bytes = (const unsigned char *)packet.ptr;
    unsigned count = (unsigned)bytes[6] << 8 | bytes[7];
    count++;
    packet.ptr[6] = (char)(count >> 8);
    packet.ptr[7] = (char)count;
}

static void head(const char *owner, unsigned type, size_t size)
{
    put_name(owner);
    put16(type);
    put16(1);
    put16(0);
    put16(60);
    put16((unsigned)size);
    count_record();
}

static void record(const char *owner, unsigned type, const char *data, size_t size)
{
    head(owner, type, size);
    buf_append(&packet, str_of(data, size));
}

static void name_record(const char *owner, unsigned type, const char *target)
{
    unsigned char wire[255];
    size_t size = dns_name_to_wire(str_c(target), wire);
    record(owner, type, (const char *)wire, size);
}

static void mx_record(const char *owner, unsigned preference, const char *host)
{
    unsigned char wire[255];
    size_t size = dns_name_to_wire(str_c(host), wire);
    head(owner, DNS_MX, size + 2);
    put16(preference);
    buf_append(&packet, str_of((const char *)wire, size));
}

static struct arena *arena;
static struct dns_answer answer;
static struct error err;

/* An exact copy, so that AddressSanitizer sees a byte too many. */
static enum result parse(const char *name, enum dns_type type)
{
    struct arena *copy_arena = arena_new(0);
    char *copy = arena_alloc(copy_arena, packet.len);
    memcpy(copy, packet.ptr, packet.len);
    enum result result =
        dns_answer_parse(str_of(copy, packet.len), str_c(name), type, arena, &answer, &err);
    arena_free(copy_arena);
    return result;
}

static void assert_record(size_t index, const char *text)
{
    struct str got = answer.records[index].text;
    assert_int_equal(got.len, strlen(text));
    assert_memory_equal(got.ptr, text, got.len);
}

static int set_up(void **state)
{
    (void)state;
    buf_init(&packet, 1 << 20);
    arena = arena_new(0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_done(&packet);
    arena_free(arena);
    return 0;
}

/* ---- tests ---- */

static void addresses(void **state)
{
    (void)state;
    char text[NET_IP_TEXT];
    begin(0, "mail.example.net", DNS_A);
    record("mail.example.net", DNS_A, "\xc0\0\2\1", 4);
    record("MAIL.Example.net", DNS_A, "\xc0\0\2\2", 4);
    record("other.example.net", DNS_A, "\xc0\0\2\3", 4);
    assert_int_equal(parse("Mail.example.NET.", DNS_A), OK);
    assert_int_equal(answer.status, DNS_FOUND);
    assert_int_equal(answer.count, 2);
    assert_string_equal(net_ip_format(&answer.records[1].ip, text).ptr, "192.0.2.2");

    begin(0, "mail.example.net", DNS_AAAA);
    record("mail.example.net", DNS_AAAA, "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    assert_int_equal(parse("mail.example.net", DNS_AAAA), OK);
    assert_string_equal(net_ip_format(&answer.records[0].ip, text).ptr, "2001:db8::1");
}

static void a_wrong_length_drops_that_record(void **state)
{
    (void)state;
    begin(0, "a.test", DNS_A);
    record("a.test", DNS_A, "\xc0\0\2", 3);
    record("a.test", DNS_A, "\xc0\0\2\2", 4);
    assert_int_equal(parse("a.test", DNS_A), OK);
    assert_int_equal(answer.count, 1);
    begin(0, "a.test", DNS_A);
    record("a.test", DNS_A, "\xc0\0\2\2\2", 5);
    assert_int_equal(parse("a.test", DNS_A), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
}

static void mx_hosts(void **state)
{
    (void)state;
    begin(0, "example.net", DNS_MX);
    mx_record("example.net", 20, "b.example.net");
    mx_record("example.net", 10, "A.Example.NET");
    mx_record("example.net", 0, ".");
    mx_record("example.net", 30, "odd\\032host\\.\\000x.example.net");
    mx_record("example.net", 40, "192.0.2.1");
    assert_int_equal(parse("example.net", DNS_MX), OK);
    assert_int_equal(answer.count, 5);
    assert_int_equal(answer.records[0].preference, 20);
    assert_record(0, "b.example.net");
    assert_record(1, "a.example.net");
    assert_record(2, "");
    assert_record(3, "odd\\032host\\046\\000x.example.net");
    assert_record(4, "192.0.2.1");
}

static void mx_data_must_fit_exactly(void **state)
{
    (void)state;
    begin(0, "example.net", DNS_MX);
    record("example.net", DNS_MX, "\0\1\1a\0x", 6);
    assert_int_equal(parse("example.net", DNS_MX), FAILED);
    begin(0, "example.net", DNS_MX);
    record("example.net", DNS_MX, "\0", 1);
    assert_int_equal(parse("example.net", DNS_MX), FAILED);
    begin(0, "example.net", DNS_MX);
    record("example.net", DNS_MX, "\0\1\5a", 4); /* the name would run into the next record */
    record("example.net", DNS_MX, "\0\1\1a\0", 5);
    assert_int_equal(parse("example.net", DNS_MX), OK);
    assert_int_equal(answer.count, 1);
}

static void thousand_mx(void **state)
{
    (void)state;
    begin(0, "many.test", DNS_MX);
    for (unsigned i = 0; i < 1000; i++)
        mx_record("many.test", i, "mx.many.test");
    assert_int_equal(parse("many.test", DNS_MX), OK);
    assert_int_equal(answer.count, 1000);
    assert_int_equal(answer.records[999].preference, 999);
}

static void compressed_names(void **state)
{
    (void)state;
    begin(0, "example.net", DNS_MX); /* the question's name is at offset 12 */
    buf_append(&packet, STR("\xc0\x0c\0\x0f\0\1\0\0\0\x3c\0\x07\0\x05\2mx\xc0\x0c"));
    count_record();
    assert_int_equal(parse("example.net", DNS_MX), OK);
    assert_record(0, "mx.example.net");
}

static void pointers_must_go_back(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct str bytes; /* instead of the owner of a record, at offset 29 */
    } cases[] = {
        {"to itself", STR("\xc0\x1d")},
        {"forward", STR("\xc0\x1f\1a\0")},
        {"beyond the end", STR("\xff\xff")},
        {"half a pointer", STR("\xc0")},
        {"label and back", STR("\1a\xc0\x1d")},
        {"reserved label type", STR("\x80"
                                    "abc\0")},
        {"reserved label type 2", STR("\x40"
                                      "abc\0")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(0, "example.net", DNS_A);
        assert_int_equal(packet.len, 29);
        buf_append(&packet, cases[i].bytes);
        count_record();
        if (parse("example.net", DNS_A) == OK)
            fail_msg("%s", cases[i].name);
    }
}

static void long_chain_of_pointers(void **state)
{
    (void)state;
    begin(0, "example.net", DNS_A);
    record("example.net", 99, "\xc0\x0c", 2);
    for (int i = 0; i < 40; i++) { /* each points to the data of the one before */
        size_t before = packet.len - 2;
        char pointer[2] = {(char)(0xc0 | before >> 8), (char)before};
        record("example.net", 99, pointer, 2);
    }
    size_t last = packet.len - 2;
    char owner[2] = {(char)(0xc0 | last >> 8), (char)last};
    buf_append(&packet, str_of(owner, 2));
    buf_append(&packet, STR("\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"));
    count_record();
    assert_int_equal(parse("example.net", DNS_A), FAILED);
}

static void names_are_bounded(void **state)
{
    (void)state;
    /* labels of 63 bytes, and a pointer to them: over 255 in all */
    begin(0, "example.net", DNS_A);
    for (int i = 0; i < 4; i++) {
        buf_append_byte(&packet, 63);
        for (int k = 0; k < 63; k++)
            buf_append_byte(&packet, 'a');
    }
    buf_append(&packet, STR("\xc0\x0c"));
    count_record();
    assert_int_equal(parse("example.net", DNS_A), FAILED);
}

static void aliases_are_followed(void **state)
{
    (void)state;
    begin(0, "www.test", DNS_A);
    record("target.test", DNS_A, "\xc0\0\2\1", 4); /* out of order */
    name_record("www.test", DNS_CNAME, "middle.test");
    name_record("middle.test", DNS_CNAME, "target.test");
    assert_int_equal(parse("www.test", DNS_A), OK);
    assert_int_equal(answer.count, 1);

    begin(0, "www.test", DNS_A);
    name_record("www.test", DNS_CNAME, "target.test");
    assert_int_equal(parse("www.test", DNS_A), OK);
    assert_int_equal(answer.status, DNS_NO_DATA);

    begin(3, "www.test", DNS_A);
    name_record("www.test", DNS_CNAME, "target.test");
    assert_int_equal(parse("www.test", DNS_A), OK);
    assert_int_equal(answer.status, DNS_NO_NAME);
}

static void chain_of(unsigned steps)
{
    char from[32], to[32];
    begin(0, "n0.test", DNS_A);
    for (unsigned i = 0; i < steps; i++) {
        snprintf(from, sizeof from, "n%u.test", i);
        snprintf(to, sizeof to, "n%u.test", i + 1);
        name_record(from, DNS_CNAME, to);
    }
    snprintf(from, sizeof from, "n%u.test", steps);
    record(from, DNS_A, "\xc0\0\2\1", 4);
}

static void alias_loops_end(void **state)
{
    (void)state;
    begin(0, "a.test", DNS_A);
    name_record("a.test", DNS_CNAME, "b.test");
    name_record("b.test", DNS_CNAME, "a.test");
    assert_int_equal(parse("a.test", DNS_A), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
    chain_of(10);
    assert_int_equal(parse("n0.test", DNS_A), OK);
    assert_int_equal(answer.count, 1);
    chain_of(11);
    assert_int_equal(parse("n0.test", DNS_A), FAILED);
}

static void texts_are_joined(void **state)
{
    (void)state;
    begin(0, "t.test", DNS_TXT);
    record("t.test", DNS_TXT, "\6v=spf1\5 -all", 13);
    record("t.test", DNS_TXT, "\0", 1);
    record("t.test", DNS_TXT, "\5abc", 4); /* longer than its record */
    record("t.test", DNS_TXT, "\3a\0b", 4);
    assert_int_equal(parse("t.test", DNS_TXT), OK);
    assert_int_equal(answer.count, 3);
    assert_record(0, "v=spf1 -all");
    assert_record(1, "");
    assert_int_equal(answer.records[2].text.len, 3);
    assert_memory_equal(answer.records[2].text.ptr, "a\0b", 3);
}

static void put_long_text(size_t strings)
{
    head("t.test", DNS_TXT, strings * 256);
    for (size_t i = 0; i < strings; i++) {
        buf_append_byte(&packet, (char)255);
        for (int k = 0; k < 255; k++)
            buf_append_byte(&packet, 'x');
    }
}

static void texts_have_a_ceiling(void **state)
{
    (void)state;
    begin(0, "t.test", DNS_TXT);
    put_long_text(64);
    put_long_text(65);
    assert_int_equal(parse("t.test", DNS_TXT), OK);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.records[0].text.len, 64 * 255);
}

static void response_codes(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 16; code++) {
        begin(code, "a.test", DNS_A);
        enum result result = parse("a.test", DNS_A);
        assert_int_equal(result, code == 0 || code == 3 ? OK : FAILED);
        if (result == OK)
            assert_int_equal(answer.status, code == 0 ? DNS_NO_DATA : DNS_NO_NAME);
        else
            assert_int_equal(err.kind, ERROR_TEMPORARY);
    }
    begin(2, "a.test", DNS_A);
    assert_int_equal(parse("a.test", DNS_A), FAILED);
    assert_string_equal(err.text, "the DNS server answered SERVFAIL");
}

static void flags_and_question(void **state)
{
    (void)state;
    begin(0x0020, "a.test", DNS_A);
    assert_int_equal(parse("a.test", DNS_A), OK);
    assert_true(answer.authentic);
    begin(0x0200, "a.test", DNS_A); /* truncated */
    assert_int_equal(parse("a.test", DNS_A), FAILED);
    begin(0, "a.test", DNS_A);
    assert_int_equal(parse("b.test", DNS_A), FAILED);
    assert_int_equal(parse("a.test", DNS_MX), FAILED);
    packet.ptr[2] = 0; /* no response */
    assert_int_equal(parse("a.test", DNS_A), FAILED);
    begin(0, "a.test", DNS_A);
    packet.ptr[5] = 2; /* two questions */
    assert_int_equal(parse("a.test", DNS_A), FAILED);
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    begin(0, "example.net", DNS_MX);
    mx_record("example.net", 10, "mx.example.net");
    size_t whole = packet.len;
    for (size_t len = 0; len < whole; len++) {
        packet.len = len;
        if (parse("example.net", DNS_MX) == OK)
            fail_msg("cut at %zu", len);
    }
}

static void names_to_wire(void **state)
{
    (void)state;
    static const char label63[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const struct {
        const char *text;
        size_t size;
    } cases[] = {
        {"a", 3},   {"a.", 3},    {"a.b", 5},   {".", 1},     {"", 0},
        {"..", 0},  {".a", 0},    {"a..b", 0},  {"a\\.b", 5}, {"a\\046b.c", 7},
        {"a\\", 0}, {"a\\25", 0}, {"\\256", 0}, {"\\255", 3}, {label63, 65},
    };
    unsigned char wire[255];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (dns_name_to_wire(str_c(cases[i].text), wire) != cases[i].size)
            fail_msg("%s", cases[i].text);
    char text[400];
    snprintf(text, sizeof text, "%sa", label63);
    assert_int_equal(dns_name_to_wire(str_c(text), wire), 0);
    snprintf(text, sizeof text, "%s.%s.%s.%.61s", label63, label63, label63, label63);
    assert_int_equal(dns_name_to_wire(str_c(text), wire), 255);
    snprintf(text, sizeof text, "%s.%s.%s.%.61s.", label63, label63, label63, label63);
    assert_int_equal(dns_name_to_wire(str_c(text), wire), 255);
    snprintf(text, sizeof text, "%s.%s.%s.%.62s", label63, label63, label63, label63);
    assert_int_equal(dns_name_to_wire(str_c(text), wire), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(addresses),
        TEST(a_wrong_length_drops_that_record),
        TEST(mx_hosts),
        TEST(mx_data_must_fit_exactly),
        TEST(thousand_mx),
        TEST(compressed_names),
        TEST(pointers_must_go_back),
        TEST(long_chain_of_pointers),
        TEST(names_are_bounded),
        TEST(aliases_are_followed),
        TEST(alias_loops_end),
        TEST(texts_are_joined),
        TEST(texts_have_a_ceiling),
        TEST(response_codes),
        TEST(flags_and_question),
        TEST(every_cut_is_refused),
        TEST(names_to_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
