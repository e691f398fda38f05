/* SPDX-License-Identifier: Apache-2.0 */
/* content/dkim_sign_test.c - what we sign verifies, and cannot be added to. */
#include "content/dkim_test.h"

#include "base/buf.h"
#include "base/clock.h"

#include <stdlib.h>

#define RICH_HEADER                                                                                \
    TEST_HEADER "MIME-Version: 1.0\r\n"                                                            \
                "Content-Type: text/plain;\r\n\tcharset=utf-8\r\n"                                 \
                "List-Unsubscribe: <https://example.org/u>\r\n"                                    \
                "References: <a@example.org>\r\n <b@example.org>\r\n"

static const struct test_key_record own_keys[] = {
    {"ed._domainkey.example.org", "v=DKIM1; k=ed25519; p=" TEST_ED25519_PUBLIC},
    {"rsa._domainkey.example.org", "v=DKIM1; k=rsa; p=" TEST_RSA_PUBLIC},
};

static struct sign_key *key_of(enum sign_kind kind)
{
    struct sign_key *key;
    struct error err = {0};
    struct str text = kind == SIGN_RSA ? STR(TEST_RSA_PRIVATE) : STR(TEST_ED25519_PRIVATE "\n");
    if (sign_key_private(text, &key, &err) != OK)
        fail_msg("%s", err.text);
    assert_int_equal(sign_key_kind(key), kind);
    return key;
}

static NO_YIELD_CHECK struct str sign(struct test_message *test, const struct dkim_signer *signer)
{
    struct str field;
    struct error err = {0};
    if (dkim_sign(&test->message, signer, test->arena, &field, &err) != OK)
        fail_msg("%s", err.text);
    return field;
}

/* What comes when `field` is put above `text`. */
static enum dkim_result verify_with(struct str field, struct str text)
{
    struct test_zone zone = {.records = own_keys, .count = 2};
    struct test_message test;
    struct buf whole BUF_CLEANUP;
    buf_init(&whole, 1 << 20);
    buf_append(&whole, field);
    buf_append(&whole, text);
    test_message_open(&test, buf_str(&whole));
    struct dkim_answer answer = test_verify(&test, &zone);
    enum dkim_result result = answer.result;
    test_message_close(&test);
    return result;
}

static void check_shape(struct str field)
{
    struct str rest = field;
    struct str line;
    assert_true(str_starts(field, STR("DKIM-Signature: v=1; a=")));
    assert_true(str_ends(field, STR("\r\n")));
    assert_true(str_find_str(field, STR(" l=")) < 0); /* never */
    while (str_split(&rest, '\n', &line))
        assert_true(line.len <= 79);
}

static const char *const bodies[] = {
    "", "\r\n", TEST_BODY, "no end", " \r\n \t \r\n\r\n", "a\r\n\r\n\r\nb \t c \r\n"};

static void round_trips(void **state)
{
    (void)state;
    for (int n = 0; n < 2 * 2 * 2 * (int)(sizeof bodies / sizeof *bodies); n++) {
        enum sign_kind kind = n & 1 ? SIGN_RSA : SIGN_ED25519;
        struct sign_key *key = key_of(kind);
        struct dkim_signer signer = {.domain = STR("example.org"),
                                     .selector = kind == SIGN_RSA ? STR("rsa") : STR("ed"),
                                     .key = key,
                                     .header = n & 2 ? DKIM_RELAXED : DKIM_SIMPLE,
                                     .body = n & 4 ? DKIM_RELAXED : DKIM_SIMPLE,
                                     .valid_s = n & 8 ? 86400 : 0};
        struct test_message test;
        struct arena *arena = arena_new(0);
        struct str text = arena_printf(arena, "%s\r\n%s", RICH_HEADER, bodies[n / 8]);
        test_message_open(&test, text);
        struct str field = sign(&test, &signer);
        check_shape(field);
        assert_int_equal(verify_with(field, text), DKIM_PASS);
        assert_int_equal(
            verify_with(field, arena_printf(arena, "Received: x\r\n%.*s", STR_ARG(text))),
            DKIM_PASS);
        assert_int_equal(verify_with(field, arena_printf(arena, "%.*sadded", STR_ARG(text))),
                         DKIM_FAIL);
        test_message_close(&test);
        arena_free(arena);
        sign_key_free(key);
    }
}

/* Nobody may add one of these, on top or below. */
static void oversigned(void **state)
{
    (void)state;
    static const char *const guarded[] = {
        "From",       "To",       "Cc",           "Subject",      "Date",
        "Message-ID", "Reply-To", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
        "reply-to",
    };
    struct sign_key *key = key_of(SIGN_ED25519);
    struct dkim_signer signer = {.domain = STR("example.org"),
                                 .selector = STR("ed"),
                                 .key = key,
                                 .header = DKIM_RELAXED,
                                 .body = DKIM_RELAXED};
    struct test_message test;
    test_message_open(&test, STR(RICH_HEADER "\r\n" TEST_BODY));
    struct str field = sign(&test, &signer);
    for (size_t i = 0; i < sizeof guarded / sizeof *guarded; i++) {
        struct str above =
            arena_printf(test.arena, "%s: x\r\n%s\r\n%s", guarded[i], RICH_HEADER, TEST_BODY);
        struct str below =
            arena_printf(test.arena, "%s%s: x\r\n\r\n%s", RICH_HEADER, guarded[i], TEST_BODY);
        assert_int_equal(verify_with(field, above), DKIM_FAIL);
        assert_int_equal(verify_with(field, below), DKIM_FAIL);
    }
    test_message_close(&test);
    sign_key_free(key);
}

static void two_signatures(void **state)
{
    (void)state;
    struct sign_key *ed = key_of(SIGN_ED25519);
    struct sign_key *rsa = key_of(SIGN_RSA);
    struct dkim_signer signer = {.domain = STR("example.org"),
                                 .selector = STR("ed"),
                                 .key = ed,
                                 .header = DKIM_RELAXED,
                                 .body = DKIM_RELAXED};
    struct test_zone zone = {.records = own_keys, .count = 2};
    struct test_message test, again;
    test_message_open(&test, STR(RICH_HEADER "\r\n" TEST_BODY));
    struct str first = sign(&test, &signer);
    signer.selector = STR("rsa");
    signer.key = rsa;
    struct str second = sign(&test, &signer);
    test_message_open(&again, arena_printf(test.arena, "%.*s%.*s%s\r\n%s", STR_ARG(first),
                                           STR_ARG(second), RICH_HEADER, TEST_BODY));
    struct dkim_answer answer = test_verify(&again, &zone);
    assert_int_equal(answer.count, 2);
    assert_int_equal(answer.signatures[0].result, DKIM_PASS);
    assert_int_equal(answer.signatures[1].result, DKIM_PASS);
    test_message_close(&again);
    test_message_close(&test);
    sign_key_free(ed);
    sign_key_free(rsa);
}

static NO_YIELD_CHECK void no_from(void **state)
{
    (void)state;
    struct sign_key *key = key_of(SIGN_ED25519);
    struct dkim_signer signer = {.domain = STR("example.org"), .selector = STR("ed"), .key = key};
    struct test_message test;
    struct str field;
    struct error err = {0};
    test_message_open(&test, STR("To: a\r\n\r\n"));
    assert_int_equal(dkim_sign(&test.message, &signer, test.arena, &field, &err), FAILED);
    assert_int_equal(err.kind, ERROR_PERMANENT);
    test_message_close(&test);
    sign_key_free(key);
}

/* ---- keys ---- */

static void keys_made(void **state)
{
    (void)state;
    for (int kind = SIGN_RSA; kind <= SIGN_ED25519; kind++) {
        struct error err = {0};
        struct sign_key *made, *private, *public;
        struct buf text BUF_CLEANUP;
        struct buf bytes BUF_CLEANUP;
        struct buf signature BUF_CLEANUP;
        unsigned char hash[SHA256_SIZE] = "hello";
        unsigned bits;
        buf_init(&text, 16384);
        buf_init(&bytes, 16384);
        buf_init(&signature, 16384);
        assert_int_equal(sign_key_generate((enum sign_kind)kind, 1024, &made, &err), OK);
        assert_int_equal(sign_key_private_text(made, &text, &err), OK);
        assert_int_equal(sign_key_public_bytes(made, &bytes, &err), OK);
        assert_int_equal(sign_key_private(buf_str(&text), &private, &err), OK);
        assert_int_equal(
            sign_key_public((enum sign_kind)kind, buf_str(&bytes), &public, &bits, &err), OK);
        assert_int_equal(sign_make(private, hash, &signature, &err), OK);
        assert_true(sign_check(public, hash, buf_str(&signature)));
        assert_false(sign_check(public, hash, STR("")));
        hash[0] ^= 1;
        assert_false(sign_check(public, hash, buf_str(&signature)));
        sign_key_free(made);
        sign_key_free(private);
        sign_key_free(public);
    }
}

/* ---- RSA keys as DNS gives them ---- */

enum { DER_INTEGER = 0x02, DER_BITS = 0x03, DER_SEQUENCE = 0x30 };

static void put_der(struct buf *out, unsigned char tag, struct str content)
{
    buf_append_byte(out, (char)tag);
    if (content.len >= 128) {
        buf_append_byte(out, (char)0x82);
        buf_append_byte(out, (char)(content.len >> 8));
    }
    buf_append_byte(out, (char)content.len);
    buf_append(out, content);
}

struct rsa_case {
    const char *name;
    size_t modulus_size;
    unsigned char first; /* of the modulus; what follows is 0xff */
    const char *exponent;
    size_t exponent_size;
    const char *behind; /* junk behind the key */
    enum error_kind kind;
    bool in_info; /* a SubjectPublicKeyInfo */
};
static const struct rsa_case rsa_cases[] = {
    {"bare", 129, 0, "\x01\x00\x01", 3, "", ERROR_NONE, false},
    {"in its information", 129, 0, "\x01\x00\x01", 3, "", ERROR_NONE, true},
    {"e=3", 129, 0, "\x03", 1, "", ERROR_NONE, false},
    {"4096 bits", 513, 0, "\x01\x00\x01", 3, "", ERROR_NONE, true},
    {"1016 bits", 128, 0, "\x01\x00\x01", 3, "", ERROR_LIMIT, true},
    {"4104 bits", 514, 0, "\x01\x00\x01", 3, "", ERROR_LIMIT, true},
    {"negative", 128, 0xff, "\x01\x00\x01", 3, "", ERROR_PERMANENT, true},
    {"e=1", 129, 0, "\x01", 1, "", ERROR_PERMANENT, false},
    {"e even", 129, 0, "\x01\x00", 2, "", ERROR_PERMANENT, false},
    {"e of 71 bits", 129, 0, "\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 9, "", ERROR_PERMANENT, false},
    {"no e", 129, 0, "", 0, "", ERROR_PERMANENT, false},
    {"junk behind", 129, 0, "\x01\x00\x01", 3, "x", ERROR_PERMANENT, false},
    {"junk behind the information", 129, 0, "\x01\x00\x01", 3, "x", ERROR_PERMANENT, true},
};

static void put_rsa(const struct rsa_case *c, struct buf *out)
{
    static const char algorithm[] = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    struct buf numbers BUF_CLEANUP;
    struct buf key BUF_CLEANUP;
    struct buf info BUF_CLEANUP;
    char modulus[600];
    buf_init(&numbers, 4096);
    buf_init(&key, 4096);
    buf_init(&info, 4096);
    memset(modulus, 0xff, sizeof modulus);
    modulus[0] = (char)c->first;
    put_der(&numbers, DER_INTEGER, str_of(modulus, c->modulus_size));
    put_der(&numbers, DER_INTEGER, str_of(c->exponent, c->exponent_size));
    put_der(&key, DER_SEQUENCE, buf_str(&numbers));
    if (c->in_info) {
        struct buf bits BUF_CLEANUP;
        buf_init(&bits, 4096);
        buf_append_byte(&bits, 0);
        buf_append(&bits, buf_str(&key));
        put_der(&info, DER_SEQUENCE, str_of(algorithm, sizeof algorithm - 1));
        put_der(&info, DER_BITS, buf_str(&bits));
        put_der(out, DER_SEQUENCE, buf_str(&info));
    } else {
        buf_append(out, buf_str(&key));
    }
    buf_append(out, str_c(c->behind));
}

static void rsa_of_dns(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rsa_cases / sizeof *rsa_cases; i++) {
        const struct rsa_case *c = &rsa_cases[i];
        struct error err = {0};
        struct sign_key *key = NULL;
        unsigned bits;
        struct buf der BUF_CLEANUP;
        buf_init(&der, 4096);
        put_rsa(c, &der);
        enum result result = sign_key_public(SIGN_RSA, buf_str(&der), &key, &bits, &err);
        if (result != (c->kind == ERROR_NONE ? OK : FAILED) || err.kind != c->kind)
            fail_msg("%s: %s", c->name, err.text);
        sign_key_free(key);
        /* cut anywhere, it is none, and nothing is read behind its end */
        for (size_t len = 0; c->kind == ERROR_NONE && len < der.len; len++) {
            char *cut = malloc(len + 1);
            check(cut != NULL);
            memcpy(cut, der.ptr, len);
            assert_int_equal(sign_key_public(SIGN_RSA, str_of(cut, len), &key, &bits, &err),
                             FAILED);
            free(cut);
        }
    }
}

static void keys_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "hello",
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
        TEST_ED25519_PUBLIC "=",
        "AAAA",
        "-----BEGIN PUBLIC KEY-----\n"
        "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
        "-----END PUBLIC KEY-----\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sign_key *key;
        struct error err = {0};
        assert_int_equal(sign_key_private(str_c(texts[i]), &key, &err), FAILED);
        assert_true(str_find_str(str_c(err.text), STR("key")) >= 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),    cmocka_unit_test(oversigned),
        cmocka_unit_test(two_signatures), cmocka_unit_test(no_from),
        cmocka_unit_test(keys_made),      cmocka_unit_test(keys_refused),
        cmocka_unit_test(rsa_of_dns),
    };
    return cmocka_run_group_tests_name("content-dkim-sign", tests, NULL, NULL);
}
