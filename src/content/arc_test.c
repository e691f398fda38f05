/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/arc_test.c - chains: the suite of others (found by tests/suites/run),
 * and what we seal ourselves.
 */
#include "content/dkim_test.h"

#include "base/buf.h"
#include "base/clock.h"
#include "content/arc.h"
#include "content/suite_text_test.h"

#include <stdio.h>
#include <stdlib.h>

enum { FIELDS_MAX = 9, KEYS_MAX = 8, LINE_SIZE = 64 * 1024, VALIDATIONS = 171, SEALS = 17 };

/* ---- lines of the suite ---- */

struct suite {
    struct arena *arena;
    struct test_key_record keys[KEYS_MAX];
    size_t key_count;
    struct arc_sealer sealer;
    struct sign_key *key;
    unsigned validations, seals, failures;
};

/* Where a field is folded is not compared. */
static struct str without_blanks(struct arena *arena, struct str text)
{
    char *out = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++)
        if (!strchr(" \t\r\n", text.ptr[i]))
            out[len++] = text.ptr[i];
    return str_of(out, len);
}

static NO_YIELD_CHECK void verify_chain(struct test_message *test, struct test_zone *zone,
                                        struct arc_answer *out)
{
    struct dkim_dns dns = {.text = test_zone_text, .context = zone};
    struct error err = {0};
    if (arc_verify(&test->message, &dns, test->arena, out, &err) != OK)
        fail_msg("%s", err.text);
}

static void run_validation(struct suite *suite, const struct str fields[FIELDS_MAX])
{
    struct test_zone zone = {.records = suite->keys, .count = suite->key_count};
    struct test_message test;
    struct arc_answer answer;
    struct arena *arena = arena_new(0);
    test_message_open(&test, suite_unescape(arena, fields[3]));
    verify_chain(&test, &zone, &answer);
    const char *result = arc_result_name(answer.result);
    suite->validations++;
    if (!str_equal(fields[2], str_c(result))) {
        suite->failures++;
        print_error("%.*s: %s, not %.*s (%.*s)\n", STR_ARG(fields[1]), result, STR_ARG(fields[2]),
                    STR_ARG(answer.detail));
    }
    test_message_close(&test);
    arena_free(arena);
}

static size_t split_names(struct str list, struct str names[16])
{
    size_t count = 0;
    while (count < 16 && str_split(&list, ':', &names[count]))
        count++;
    return count;
}

static bool same_field(struct test_message *test, struct str fields, const char *name,
                       struct str expected)
{
    struct mail_field field;
    if (!mail_header_find(fields, str_c(name), &field))
        return expected.len == 0;
    bool same =
        str_equal(without_blanks(test->arena, field.value), without_blanks(test->arena, expected));
    if (!same)
        print_error("%s:%.*s\n", name, STR_ARG(field.value));
    return same;
}

static NO_YIELD_CHECK void run_seal(struct suite *suite, const struct str fields[FIELDS_MAX])
{
    struct test_zone zone = {.records = suite->keys, .count = suite->key_count};
    struct test_message test;
    struct arc_answer chain;
    struct arena *arena = arena_new(0);
    struct str names[16];
    struct str set;
    struct error err = {0};
    uint64_t now = 0;
    check(str_to_uint(fields[2], INT32_MAX, &now));
    clock_set_fake(1, (int64_t)now * NS_PER_S);
    test_message_open(&test, suite_unescape(arena, fields[8]));
    suite->sealer.name_count = split_names(fields[3], names);
    suite->sealer.names = names;
    suite->sealer.authserv_id = fields[4];
    verify_chain(&test, &zone, &chain);
    if (arc_seal(&test.message, &suite->sealer, &chain, test.arena, &set, &err) != OK)
        fail_msg("%s", err.text);
    suite->seals++;
    if (!same_field(&test, set, "ARC-Authentication-Results", fields[5]) ||
        !same_field(&test, set, "ARC-Message-Signature", fields[6]) ||
        !same_field(&test, set, "ARC-Seal", fields[7])) {
        suite->failures++;
        print_error("%.*s: another set\n", STR_ARG(fields[1]));
    }
    clock_set_fake(-1, -1);
    test_message_close(&test);
    arena_free(arena);
}

static void take_key(struct suite *suite, const struct str fields[FIELDS_MAX])
{
    if (fields[1].len == 0) {
        suite->key_count = 0;
        return;
    }
    assert_true(suite->key_count < KEYS_MAX);
    suite->keys[suite->key_count++] =
        (struct test_key_record){arena_c(suite->arena, fields[1]),
                                 arena_c(suite->arena, suite_unescape(suite->arena, fields[2]))};
}

static void take_sealer(struct suite *suite, const struct str fields[FIELDS_MAX])
{
    struct error err;
    sign_key_free(suite->key);
    assert_int_equal(sign_key_private(suite_unescape(suite->arena, fields[3]), &suite->key, &err),
                     OK);
    suite->sealer = (struct arc_sealer){.domain = arena_str(suite->arena, fields[1]),
                                        .selector = arena_str(suite->arena, fields[2]),
                                        .key = suite->key};
}

static void run_line(struct suite *suite, struct str line)
{
    struct str fields[FIELDS_MAX] = {0};
    for (size_t i = 0; i < FIELDS_MAX && str_split(&line, '\t', &fields[i]); i++)
        ;
    switch (fields[0].ptr[0]) {
    case 'K':
        take_key(suite, fields);
        break;
    case 'P':
        take_sealer(suite, fields);
        break;
    case 'V':
        run_validation(suite, fields);
        break;
    default:
        run_seal(suite, fields);
    }
}

static void the_suite(void **state)
{
    static char line[LINE_SIZE];
    const char *path = getenv("POSTERN_ARC_SUITE");
    (void)state;
    if (!path) { /* its data is not part of the project: tests/suites/run arc */
        print_message("skipped: POSTERN_ARC_SUITE names no file\n");
        skip();
    }
    struct suite suite = {.arena = arena_new(0)};
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        run_line(&suite, str_slice(str_c(line), 0, strlen(line) - 1));
    fclose(file);
    sign_key_free(suite.key);
    arena_free(suite.arena);
    print_message("%u failures of %u validations and %u seals\n", suite.failures, suite.validations,
                  suite.seals);
    assert_int_equal(suite.validations, VALIDATIONS);
    assert_int_equal(suite.seals, SEALS);
    assert_int_equal(suite.failures, 0);
}

/* ---- chains of our own ---- */

#define RESULTS "Authentication-Results: mx.example.org; dkim=pass header.d=example.net\r\n"

static const struct test_key_record own_keys[] = {
    {"ed._domainkey.example.org", "v=DKIM1; k=ed25519; p=" TEST_ED25519_PUBLIC},
};

/* Seal `*message` `times` times, as that many gateways would. */
static NO_YIELD_CHECK void seal_again(struct arena *arena, struct str *message, unsigned times)
{
    struct test_zone zone = {.records = own_keys, .count = 1};
    struct error err = {0};
    struct sign_key *key;
    check(sign_key_private(STR(TEST_ED25519_PRIVATE), &key, &err) == OK);
    struct arc_sealer sealer = {.domain = STR("example.org"),
                                .selector = STR("ed"),
                                .key = key,
                                .authserv_id = STR("mx.example.org")};
    for (unsigned i = 0; i < times; i++) {
        struct test_message test;
        struct arc_answer chain;
        struct str set;
        test_message_open(&test, *message);
        verify_chain(&test, &zone, &chain);
        check(arc_seal(&test.message, &sealer, &chain, test.arena, &set, &err) == OK);
        *message = arena_printf(arena, "%.*s%.*s", STR_ARG(set), STR_ARG(*message));
        test_message_close(&test);
    }
    sign_key_free(key);
}

static void own_chain(struct arena *arena, struct str message, struct arc_answer *out,
                      unsigned *out_asked)
{
    struct test_zone zone = {.records = own_keys, .count = 1};
    struct test_message test;
    test_message_open(&test, message);
    verify_chain(&test, &zone, out);
    *out_asked = zone.asked;
    out->detail = arena_str(arena, out->detail);
    for (size_t i = 0; i < ARC_SETS_MAX; i++) {
        out->sets[i].domain = arena_str(arena, out->sets[i].domain);
        out->sets[i].results = arena_str(arena, out->sets[i].results);
    }
    test_message_close(&test);
}

static void long_chains(void **state)
{
    (void)state;
    struct arena *arena = arena_new(0);
    struct str message = STR(RESULTS TEST_HEADER "\r\n" TEST_BODY);
    struct arc_answer answer;
    unsigned asked;
    for (unsigned i = 1; i <= ARC_SETS_MAX; i++) {
        seal_again(arena, &message, 1);
        own_chain(arena, message, &answer, &asked);
        assert_int_equal(answer.result, ARC_PASS);
        assert_int_equal(answer.count, i);
        assert_str(answer.sets[i - 1].domain, "example.org");
        assert_str(answer.sets[i - 1].results,
                   "mx.example.org;\r\n dkim=pass header.d=example.net");
        assert_true(asked <= ARC_SETS_MAX + 1);
    }
    /* one more: it fails, is sealed as such, and then nobody seals it any more */
    seal_again(arena, &message, 1);
    own_chain(arena, message, &answer, &asked);
    assert_int_equal(answer.result, ARC_FAIL);
    assert_str(answer.detail, "the chain is too long");
    assert_int_equal(answer.count, ARC_SETS_MAX + 1);
    arena_free(arena);
}

static void changed_on_the_way(void **state)
{
    (void)state;
    struct arena *arena = arena_new(0);
    struct str sealed = STR(RESULTS TEST_HEADER "\r\n" TEST_BODY);
    struct arc_answer answer;
    unsigned asked;
    seal_again(arena, &sealed, 2);
    struct str longer = arena_printf(arena, "%.*sadded\r\n", STR_ARG(sealed));
    own_chain(arena, longer, &answer, &asked);
    assert_int_equal(answer.result, ARC_FAIL);
    assert_str(answer.detail, "i=2: the body was changed");
    assert_false(answer.ended);
    assert_true(answer.known);
    struct str spoofed = arena_printf(arena, "From: eve@example.net\r\n%.*s", STR_ARG(sealed));
    own_chain(arena, spoofed, &answer, &asked);
    assert_int_equal(answer.result, ARC_FAIL);
    assert_str(answer.detail, "i=2: the signature does not fit the header");
    /* a failed chain is sealed once more, with cv=fail, and that is its end */
    seal_again(arena, &longer, 1);
    own_chain(arena, longer, &answer, &asked);
    assert_int_equal(answer.result, ARC_FAIL);
    assert_true(answer.ended);
    struct str before = longer;
    seal_again(arena, &longer, 1);
    assert_true(str_equal(before, longer));
    arena_free(arena);
}

static void nothing_to_seal(void **state)
{
    (void)state;
    struct arena *arena = arena_new(0);
    struct str message = STR("Authentication-Results: other.example.org; dkim=pass\r\n"
                             "Authentication-Results: mx.example.org\r\n" TEST_HEADER "\r\n");
    struct str before = message;
    seal_again(arena, &message, 1);
    assert_true(str_equal(before, message));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_suite),
        cmocka_unit_test(long_chains),
        cmocka_unit_test(changed_on_the_way),
        cmocka_unit_test(nothing_to_seal),
    };
    return cmocka_run_group_tests_name("content-arc", tests, NULL, NULL);
}
