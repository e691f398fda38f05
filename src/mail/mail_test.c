/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/clock.h"
#include "mail/address.h"
#include "mail/body.h"
#include "mail/header.h"
#include "mail/id.h"
#include "mail/login.h"
#include "mail/reply.h"

#include <string.h>

static void ids(void **state)
{
    (void)state;
    struct mail_id last = mail_id_new();
    for (int i = 0; i < 1000; i++) {
        struct mail_id id = mail_id_new();
        struct mail_id again;
        struct mail_id_text text = mail_id_text(id);
        assert_true(mail_id_parse(str_c(text.chars), &again));
        assert_true(mail_id_equal(id, again));
        assert_true(id.high > last.high || (id.high == last.high && id.low > last.low));
        last = id;
    }
    clock_set_fake(1, INT64_C(1764200000123) * NS_PER_MS);
    /* a clock that went back does not make ids go back within a thread */
    struct mail_id id = mail_id_new();
    assert_true(id.high > last.high || (id.high == last.high && id.low > last.low));
    clock_set_fake(-1, -1);
    struct mail_id unused;
    assert_false(mail_id_parse(STR("01JD8Y2T9V6W3Q0M4K7P5N1R8"), &unused));
    assert_false(mail_id_parse(STR("81JD8Y2T9V6W3Q0M4K7P5N1R8S"), &unused));
    assert_false(mail_id_parse(STR("01JD8Y2T9V6W3Q0M4K7P5N1R8U"), &unused));
    assert_true(mail_id_parse(STR("o1jd8y2t9v6w3q0m4k7p5n1r8s"), &unused));
    assert_int_equal(strlen(mail_ref_new().chars), MAIL_REF_LEN);
}

/* One account, one name: what a directory could take for another spelling is none. */
static void logins(void **state)
{
    static const struct {
        const char *login;
        bool plain;
    } cases[] = {
        {"anna", true},
        {"Anna@Example.org", true},
        {"anna+tag.x_y-z@example.org", true},
        {"Anna Smith", true},
        {"EXAMPLE\\anna", true},
        {"m\xc3\xbcller@b\xc3\xbc"
         "cher.example",
         true},
        {"stra\xc3\x9f"
         "e",
         true},
        {"\xd0\xb0\xd0\xbd\xd0\xbd\xd0\xb0", true}, /* Cyrillic */
        {"", false},
        {" ", false},
        {" anna", false},
        {"anna ", false},
        {"Anna  Smith", false},
        {"an\nna", false},
        {"an\x7fna", false},
        {"\xef\xbd\x81nna", false},  /* full width */
        {"\xe2\x93\x90nna", false},  /* circled */
        {"anna\xc2\xa0", false},     /* no-break space */
        {"a\xc2\xadnna", false},     /* soft hyphen */
        {"anna\xe2\x80\x8b", false}, /* zero width */
        {"mu\xcc\x88ller", false},   /* not composed */
        {"M\xc3\x9cller", false},    /* upper case beyond ASCII */
        {"\xe2\x84\xaa"
         "arl",
         false},             /* Kelvin sign */
        {"anna\xff", false}, /* no UTF-8 */
        {"x@\xc3\xa4\xef\xbc\x8e"
         "de",
         false}, /* full-width dot */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (mail_login_is_plain(str_c(cases[i].login)) != cases[i].plain)
            fail_msg("%s", cases[i].login);
}

static const struct address_case {
    const char *name, *text;
    bool no_domain, utf8;
    enum mail_address_fault fault;
    const char *local, *domain;
    enum mail_domain_kind kind;
    bool routed;
} address_cases[] = {
    {"plain", "user@example.org", 0, 0, MAIL_ADDRESS_OK, "user", "example.org", MAIL_DOMAIN_NAME,
     0},
    {"case of the domain", "User@EXAMPLE.Org", 0, 0, MAIL_ADDRESS_OK, "User", "example.org",
     MAIL_DOMAIN_NAME, 0},
    {"trailing dot", "user@example.org.", 0, 0, MAIL_ADDRESS_BAD_DOMAIN, 0, 0, 0, 0},
    {"empty label", "user@example..org", 0, 0, MAIL_ADDRESS_BAD_DOMAIN, 0, 0, 0, 0},
    {"leading hyphen", "user@-example.org", 0, 0, MAIL_ADDRESS_BAD_DOMAIN, 0, 0, 0, 0},
    {"no domain", "postmaster", 1, 0, MAIL_ADDRESS_OK, "postmaster", "", MAIL_DOMAIN_NONE, 0},
    {"no domain, not allowed", "postmaster", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"empty", "", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"only @", "@", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"empty local", "@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"two dots", "a..b@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"dot at the end", "a.@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"blank", "a b@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"control", "a\tb@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"quoted", "\"a b\"@example.org", 0, 0, MAIL_ADDRESS_OK, "\"a b\"", "example.org",
     MAIL_DOMAIN_NAME, 0},
    {"quoted @", "\"a@b\"@example.org", 0, 0, MAIL_ADDRESS_OK, "\"a@b\"", "example.org",
     MAIL_DOMAIN_NAME, 1},
    {"quoted without need", "\"a.b\"@example.org", 0, 0, MAIL_ADDRESS_OK, "a.b", "example.org",
     MAIL_DOMAIN_NAME, 0},
    {"escaped without need", "\"a\\.\\b\"@example.org", 0, 0, MAIL_ADDRESS_OK, "a.b", "example.org",
     MAIL_DOMAIN_NAME, 0},
    {"escaped within quotes", "\"a\\ \\\"\\\\b\"@example.org", 0, 0, MAIL_ADDRESS_OK,
     "\"a \\\"\\\\b\"", "example.org", MAIL_DOMAIN_NAME, 0},
    {"quoted percent", "\"a%b\"@example.org", 0, 0, MAIL_ADDRESS_OK, "a%b", "example.org",
     MAIL_DOMAIN_NAME, 1},
    {"quoted dots", "\"a..b\"@example.org", 0, 0, MAIL_ADDRESS_OK, "\"a..b\"", "example.org",
     MAIL_DOMAIN_NAME, 0},
    {"quoted nothing", "\"\"@example.org", 0, 0, MAIL_ADDRESS_OK, "\"\"", "example.org",
     MAIL_DOMAIN_NAME, 0},
    {"quoted utf-8", "\"j\xc3\xb6rg\"@example.org", 0, 1, MAIL_ADDRESS_OK, "j\xc3\xb6rg",
     "example.org", MAIL_DOMAIN_NAME, 0},
    {"quote open", "\"a@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"percent", "a%b@example.org", 0, 0, MAIL_ADDRESS_OK, "a%b", "example.org", MAIL_DOMAIN_NAME,
     1},
    {"bang", "b!a@example.org", 0, 0, MAIL_ADDRESS_OK, "b!a", "example.org", MAIL_DOMAIN_NAME, 1},
    {"second @", "a@b@example.org", 0, 0, MAIL_ADDRESS_OK, "a@b", "example.org", MAIL_DOMAIN_NAME,
     1},
    {"nothing before a second @", "@x.example:@b@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0,
     0},
    {"nothing behind it", "a@@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"a dot behind it", "a@.b@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"route", "@x.example,@y.example:a@example.org", 0, 0, MAIL_ADDRESS_OK, "a", "example.org",
     MAIL_DOMAIN_NAME, 0},
    {"route without colon", "@x.example,a@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"literal", "a@[192.0.2.1]", 0, 0, MAIL_ADDRESS_OK, "a", "[192.0.2.1]", MAIL_DOMAIN_LITERAL, 0},
    {"literal v6", "a@[ipv6:2001:DB8:0::1]", 0, 0, MAIL_ADDRESS_OK, "a", "[IPv6:2001:db8::1]",
     MAIL_DOMAIN_LITERAL, 0},
    {"literal, wrong", "a@[300.1.1.1]", 0, 0, MAIL_ADDRESS_BAD_DOMAIN, 0, 0, 0, 0},
    {"literal, open", "a@[192.0.2.1", 0, 0, MAIL_ADDRESS_BAD_DOMAIN, 0, 0, 0, 0},
    {"utf-8 local", "j\xc3\xb6rg@example.org", 0, 1, MAIL_ADDRESS_OK, "j\xc3\xb6rg", "example.org",
     MAIL_DOMAIN_NAME, 0},
    {"utf-8, not allowed", "j\xc3\xb6rg@example.org", 0, 0, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"utf-8 domain",
     "a@b\xc3\xbc"
     "cher.example",
     0, 1, MAIL_ADDRESS_OK, "a", "xn--bcher-kva.example", MAIL_DOMAIN_NAME, 0},
    {"broken utf-8", "\xc3@example.org", 0, 1, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"overlong utf-8", "\xc0\xaf@example.org", 0, 1, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"surrogate", "\xed\xa0\x80@example.org", 0, 1, MAIL_ADDRESS_SYNTAX, 0, 0, 0, 0},
    {"local 64", "0123456789012345678901234567890123456789012345678901234567890123@example.org", 0,
     0, MAIL_ADDRESS_OK, "0123456789012345678901234567890123456789012345678901234567890123",
     "example.org", MAIL_DOMAIN_NAME, 0},
    {"local 65", "01234567890123456789012345678901234567890123456789012345678901234@example.org", 0,
     0, MAIL_ADDRESS_TOO_LONG, 0, 0, 0, 0},
};

static void addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof address_cases / sizeof *address_cases; i++) {
        const struct address_case *c = &address_cases[i];
        struct arena *arena = arena_new(0);
        struct mail_address address;
        enum mail_address_fault fault =
            mail_address_parse(arena, str_c(c->text), c->no_domain, c->utf8, &address);
        if (fault != c->fault)
            fail_msg("%s: fault %d instead of %d", c->name, (int)fault, (int)c->fault);
        if (fault == MAIL_ADDRESS_OK) {
            assert_str(address.local, c->local);
            assert_str(address.domain, c->domain);
            if (address.kind != c->kind || address.routed != c->routed)
                fail_msg("%s: kind %d, routed %d", c->name, (int)address.kind, address.routed);
        }
        arena_free(arena);
    }
    struct arena *arena = arena_new(0);
    struct mail_address address;
    assert_int_equal(
        mail_address_parse(arena, str_of("a\0b@example.org", 15), false, true, &address),
        MAIL_ADDRESS_NUL);
    arena_free(arena);
}

static void replies(void **state)
{
    (void)state;
    struct mail_reply reply;
    assert_true(mail_reply_parse(STR("550 5.7.1 Relay access denied"), &reply));
    assert_int_equal(reply.code, 550);
    assert_int_equal(reply.enhanced.subject, 7);
    assert_str(reply.text, "Relay access denied");
    assert_true(mail_reply_parse(STR("451"), &reply));
    assert_int_equal(reply.enhanced.class, 0);
    assert_true(mail_reply_parse(STR("550 5.7 is no enhanced code"), &reply));
    assert_str(reply.text, "5.7 is no enhanced code");
    static const char *const bad[] = {
        "", "55", "350 go on", "600 x", "550-5.7.1 x", "550 4.7.1 x", "199 x", "abc", "550 a\nb"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (mail_reply_parse(str_c(bad[i]), &reply))
            fail_msg("\"%s\" was taken for a reply", bad[i]);
    }
    struct arena *arena = arena_new(0);
    reply = mail_reply_of(550, 5, 1, 1, STR("one\ntwo"));
    assert_str(mail_reply_text(arena, &reply), "550 5.1.1 one two");
    assert_string_equal(mail_reason_name(MAIL_REASON_RELAY_DENIED), "relay_denied");
    arena_free(arena);
}

static void headers(void **state)
{
    (void)state;
    struct str text =
        STR("From: a@b\r\nSubject : one\r\n two\r\n: no name\r\njunk\r\nfrom: c\r\n\r\nX: y");
    size_t length = mail_header_length(text);
    assert_int_equal(length, text.len - 4);
    struct str header = str_slice(text, 0, length);
    struct mail_field field;
    struct arena *arena = arena_new(0);
    assert_true(mail_header_find(header, STR("subject"), &field));
    assert_str(mail_field_text(arena, &field), "one two");
    assert_int_equal(mail_header_count(header, STR("From")), 2);
    assert_false(mail_header_find(header, STR("X"), &field));
    assert_int_equal(mail_header_length(STR("From: a\r\n")), 0);
    assert_int_equal(mail_header_length(STR("\r\nbody")), 2);
    size_t fields = 0;
    while (mail_header_next(&header, &field))
        fields++;
    assert_int_equal(fields, 5);
    arena_free(arena);
}

NO_YIELD_CHECK static void bodies(void **state)
{
    (void)state;
    struct error err;
    struct body *body = body_memory_new(100000);
    char piece[777];
    for (size_t i = 0; i < sizeof piece; i++)
        piece[i] = (char)('a' + i % 26);
    size_t total = 0;
    while (total + sizeof piece <= 90000) {
        assert_int_equal(body_append(body, str_of(piece, sizeof piece), &err), OK);
        total += sizeof piece;
    }
    assert_int_equal(body->size, total);
    static char large[20000];
    assert_int_equal(body_append(body, str_of(large, sizeof large), &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_int_equal(body_seal(body, &err), OK);
    struct mail_content content = {.head = STR("Received: x\r\n"), .body = body, .body_start = 5};
    assert_int_equal(mail_content_size(&content), 13 + total - 5);
    uint64_t offset = 0;
    struct str data;
    for (;;) {
        assert_int_equal(mail_content_read(&content, offset, 1000, NULL, &data, &err), OK);
        if (data.len == 0)
            break;
        for (size_t i = 0; i < data.len; i++) {
            uint64_t at = offset + i;
            char expected =
                at < 13 ? content.head.ptr[at] : (char)('a' + (at - 13 + 5) % sizeof piece % 26);
            if (data.ptr[i] != expected)
                fail_msg("wrong byte at %llu", (unsigned long long)at);
        }
        offset += data.len;
    }
    assert_int_equal(offset, mail_content_size(&content));
    body_ref(body);
    body_unref(body);
    body_unref(body);
}

static void test_domain_of_the_recipient_before(void **state)
{
    static const struct {
        const char *text;
        const char *known;
        const char *domain;
        bool shared;
    } cases[] = {
        {"a@example.org", "example.org", "example.org", true},
        {"a@Example.ORG", "example.org", "example.org", false}, /* the same, but to be lowered */
        {"a@example.com", "example.org", "example.com", false},
        {"a@example.org", "", "example.org", false},
        {"a@[192.0.2.1]", "[192.0.2.1]", "[192.0.2.1]", false},
    };
    struct arena *arena = arena_new(0);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mail_address address;
        struct str known = str_c(cases[i].known);
        assert_int_equal(
            mail_address_parse_with(arena, str_c(cases[i].text), false, false, known, &address),
            MAIL_ADDRESS_OK);
        assert_str(address.domain, cases[i].domain);
        assert_int_equal(address.domain.ptr == known.ptr, cases[i].shared);
        assert_int_equal(address.kind,
                         cases[i].domain[0] == '[' ? MAIL_DOMAIN_LITERAL : MAIL_DOMAIN_NAME);
    }
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_domain_of_the_recipient_before),
        cmocka_unit_test(ids),
        cmocka_unit_test(logins),
        cmocka_unit_test(addresses),
        cmocka_unit_test(replies),
        cmocka_unit_test(headers),
        cmocka_unit_test(bodies),
    };
    return cmocka_run_group_tests_name("mail", tests, NULL, NULL);
}
