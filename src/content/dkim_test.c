/* SPDX-License-Identifier: Apache-2.0 */
/* content/dkim_test.c - verifying: the vectors of RFC 8463, what was changed, hostile keys. */
#include "content/dkim_test.h"

#include "base/buf.h"
#include "base/clock.h"

static const struct test_key_record vector_keys[] = {
    {TEST_ED25519_NAME, "v=DKIM1; k=ed25519; p=" TEST_ED25519_PUBLIC},
    {TEST_RSA_NAME, "v=DKIM1; k=rsa; p=" TEST_RSA_PUBLIC},
};
static struct test_zone vector_zone(void)
{
    return (struct test_zone){.records = vector_keys, .count = 2};
}

static void vectors(void **state)
{
    (void)state;
    struct test_zone zone = vector_zone();
    struct test_message test;
    test_message_open(&test, STR(TEST_MESSAGE));
    struct dkim_answer answer = test_verify(&test, &zone);
    assert_int_equal(answer.result, DKIM_PASS);
    assert_int_equal(answer.count, 2);
    assert_int_equal(zone.asked, 2);
    assert_int_equal(answer.signatures[0].result, DKIM_PASS);
    assert_str(answer.signatures[0].domain, "football.example.com");
    assert_str(answer.signatures[0].selector, "brisbane");
    assert_str(answer.signatures[0].identity, "@football.example.com");
    assert_str(answer.signatures[0].algorithm, "ed25519-sha256");
    assert_str(answer.signatures[0].start, "/gCrinpc");
    assert_str(answer.signatures[0].detail, "");
    assert_int_equal(answer.signatures[1].result, DKIM_PASS);
    assert_str(answer.signatures[1].algorithm, "rsa-sha256");
    test_message_close(&test);
}

/* The text with the first `what` replaced. */
static struct str replace(struct arena *arena, const char *text, const char *what, const char *by)
{
    struct str whole = str_c(text);
    ptrdiff_t at = str_find_str(whole, str_c(what));
    check(at >= 0);
    return arena_printf(arena, "%.*s%s%s", (int)at, text, by, text + (size_t)at + strlen(what));
}

struct change_case {
    const char *what, *by;
    enum dkim_result result;
    const char *detail;
};

/* Changes of the message with the Ed25519 signature alone. */
static const struct change_case changes[] = {
    /* of the message */
    {"hungry", "HUNGRY", DKIM_FAIL, "the body was changed"},
    {"dinner", "lunch", DKIM_FAIL, "the signature does not fit the header"},
    {"Subject: Is", "SUBJECT:   Is", DKIM_PASS, ""},
    {"game.  Are", "game. \t Are", DKIM_PASS, ""},
    {"Joe.\r\n\r\n", "Joe.  \r\n\r\n\r\n\r\n", DKIM_PASS, ""},
    {"Joe.\r\n\r\n", "Joe.", DKIM_PASS, ""},
    {"From: Joe", "From: Mallory <m@example.org>\r\nFrom: Joe", DKIM_FAIL,
     "the signature does not fit the header"},
    {"Subject: Is", "Subject: Hello\r\nSubject: Is", DKIM_FAIL,
     "the signature does not fit the header"},
    {"From: Joe", "X-Trace: hello\r\nFrom: Joe", DKIM_PASS, ""},
    {"To: Suzie", "To: another\r\nTo: Suzie", DKIM_PASS, ""}, /* on top, and To is not guarded */
    {"From: Joe SixPack <joe@football.example.com>\r\n", "", DKIM_FAIL,
     "the signature does not fit the header"},
    /* of the signature */
    {"v=1;", "v=2;", DKIM_PERMERROR, "v= is not 1"},
    {"v=1;", "", DKIM_PERMERROR, "v= is not 1"},
    {"a=ed25519-sha256", "a=rsa-sha256", DKIM_PERMERROR,
     "the key is of another kind than the signature"},
    {"a=ed25519-sha256", "a=rsa-sha1", DKIM_PERMERROR, "rsa-sha1 proves nothing any more"},
    {"a=ed25519-sha256", "a=ed448-sha512", DKIM_NEUTRAL, "the algorithm is not known"},
    {"a=ed25519-sha256;", "", DKIM_PERMERROR, "a= is missing"},
    {"c=relaxed/relaxed", "c=relaxed/strange", DKIM_PERMERROR, "c= is unknown"},
    {"c=relaxed/relaxed", "c=simple/relaxed", DKIM_FAIL, "the signature does not fit the header"},
    {"d=football.example.com", "d=example.com", DKIM_PERMERROR, "there is no key"},
    {"d=football.example.com", "d=football'example.com", DKIM_PERMERROR, "d= is no host name"},
    {"d=football.example.com", "d=football.example.com(.attack.example", DKIM_PERMERROR,
     "d= is no host name"},
    {"d=football.example.com", "d=", DKIM_PERMERROR, "d= is no host name"},
    {"s=brisbane", "s=bris bane", DKIM_PERMERROR, "s= is no host name"},
    {"s=brisbane", "s=..", DKIM_PERMERROR, "s= is no host name"},
    {"s=brisbane;", "", DKIM_PERMERROR, "s= is no host name"},
    {"i=@football.example.com", "i=@example.com", DKIM_PERMERROR, "i= is not of d="},
    {"i=@football.example.com", "i=@notfootball.example.com", DKIM_PERMERROR, "i= is not of d="},
    {"i=@football.example.com", "i=joe", DKIM_PERMERROR, "i= is no identity"},
    {"q=dns/txt", "q=finger", DKIM_PERMERROR, "q= is not dns/txt"},
    {"t=1528637909", "t=soon", DKIM_PERMERROR, "t= or x= is no time"},
    {"t=1528637909", "t=1528637909; x=1528637909", DKIM_PERMERROR, "x= is not after t="},
    {"t=1528637909", "t=1528637909; x=1528637910", DKIM_NEUTRAL, "the signature has expired"},
    {"t=1528637909", "t=1528637909; x=99999999999", DKIM_FAIL,
     "the signature does not fit the header"},
    {"h=from", "h=sender", DKIM_FAIL, "the signature does not fit the header"},
    {"bh=2jUS", "bh=2jUT", DKIM_FAIL, "the body was changed"},
    {"bh=2jUS", "bh=2jU", DKIM_PERMERROR, "bh= is no hash in base64"},
    {"b=/gCr", "b=/gCs", DKIM_FAIL, "the signature does not fit the header"},
    {"b=/gCr", "b=/gC", DKIM_PERMERROR, "b= is no signature in base64"},
    {"b=/gCr", "b=/ g C\r\n\tr", DKIM_PASS, ""},
    {" bh=", " l=20; bh=", DKIM_POLICY, "l= leaves part of the body unsigned"},
    {" bh=", " l=2000; bh=", DKIM_PERMERROR, "l= is more than the body has"},
    {" bh=", " l=-1; bh=", DKIM_PERMERROR, "l= is no length"},
    {" bh=", " t=1; bh=", DKIM_PERMERROR, "a tag stands there twice"},
    {" bh=", " =; bh=", DKIM_PERMERROR, "a tag without a name"},
    {" bh=", " x\x01=; bh=", DKIM_PERMERROR, "a tag without a name"},
    {" bh=", " x=\x01; bh=", DKIM_PERMERROR, "an octet that no tag may hold"},
};

static void changed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct test_zone zone = vector_zone();
        struct test_message test;
        struct arena *arena = arena_new(0);
        test_message_open(&test, replace(arena, TEST_ED25519_SIGNATURE TEST_HEADER "\r\n" TEST_BODY,
                                         changes[i].what, changes[i].by));
        struct dkim_answer answer = test_verify(&test, &zone);
        assert_int_equal(answer.count, 1);
        if (answer.result != changes[i].result ||
            !str_equal(answer.signatures[0].detail, str_c(changes[i].detail)))
            fail_msg("%s -> %s: %s, %.*s", changes[i].what, changes[i].by,
                     dkim_result_name(answer.result), STR_ARG(answer.signatures[0].detail));
        test_message_close(&test);
        arena_free(arena);
    }
}

static const char signature_with_nul[] =
    "DKIM-Signature: v=1; a=ed25519-sha256; d=a\0.example.com; s=b; h=from;\r\n bh=; b=\r\n"
    "From: a\r\n\r\n";

static void nul_octets(void **state)
{
    (void)state;
    struct test_zone zone = vector_zone();
    struct test_message test;
    test_message_open(&test, str_of(signature_with_nul, sizeof signature_with_nul - 1));
    struct dkim_answer answer = test_verify(&test, &zone);
    assert_int_equal(answer.result, DKIM_PERMERROR);
    assert_str(answer.signatures[0].detail, "an octet that no tag may hold");
    assert_int_equal(zone.asked, 0);
    test_message_close(&test);
}

static void no_signature(void **state)
{
    (void)state;
    struct test_zone zone = vector_zone();
    struct test_message test;
    test_message_open(&test, STR("From: a\r\n\r\nhello\r\n"));
    struct dkim_answer answer = test_verify(&test, &zone);
    assert_int_equal(answer.result, DKIM_NONE);
    assert_int_equal(answer.count, 0);
    test_message_close(&test);
}

static void too_many(void **state)
{
    (void)state;
    struct test_zone zone = vector_zone();
    struct test_message test;
    struct buf text BUF_CLEANUP;
    buf_init(&text, 1 << 20);
    for (int i = 0; i < 20; i++)
        buf_append(&text, STR(TEST_ED25519_SIGNATURE));
    buf_append(&text, STR(TEST_HEADER "\r\n" TEST_BODY));
    test_message_open(&test, buf_str(&text));
    struct dkim_answer answer = test_verify(&test, &zone);
    assert_int_equal(answer.count, DKIM_SIGNATURES_MAX);
    assert_int_equal(answer.ignored, 20 - DKIM_SIGNATURES_MAX);
    assert_int_equal(answer.result, DKIM_PASS);
    assert_int_equal(zone.asked, DKIM_SIGNATURES_MAX);
    test_message_close(&test);
}

/* A signature that passes counts, whatever stands above it. */
static void best_one(void **state)
{
    (void)state;
    struct test_zone zone = vector_zone();
    struct test_message test;
    test_message_open(&test, STR("DKIM-Signature: nonsense\r\n" TEST_MESSAGE));
    struct dkim_answer answer = test_verify(&test, &zone);
    assert_int_equal(answer.count, 3);
    assert_int_equal(answer.signatures[0].result, DKIM_PERMERROR);
    assert_int_equal(answer.result, DKIM_PASS);
    test_message_close(&test);
}

#define KEY_512                                                                                    \
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKtj9BQUsXMWCc6STu7lQUUZ9LkUM5n9d4QLtrdqnKMW6MLtxK0dFvVljKk"  \
    "9zPdmw2H0ZLWjo3m9V5+Wr2xcMlsCAwEAAQ=="

struct key_case {
    const char *record; /* for the Ed25519 signature, unless `rsa` */
    bool rsa;
    enum dkim_result result;
    const char *detail;
    bool testing;
};
static const struct key_case keys[] = {
    {"p=" TEST_ED25519_PUBLIC "; k=ed25519", false, DKIM_PASS, "", false},
    {"v=DKIM1; k=ed25519; t=y; p=" TEST_ED25519_PUBLIC, false, DKIM_PASS, "", true},
    {"v=DKIM1; k=ed25519; t=s:y; p=" TEST_ED25519_PUBLIC, false, DKIM_PASS, "", true},
    {"v=DKIM1; k=ed25519; h=sha1:sha256; s=*; n=hello; p=" TEST_ED25519_PUBLIC, false, DKIM_PASS,
     "", false},
    {"v=DKIM1; k=ed25519; s=tlsrpt:email; p=" TEST_ED25519_PUBLIC ";", false, DKIM_PASS, "", false},
    {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHO g7hcvPapiMlrwIaaPcHURo=", false, DKIM_PASS, "",
     false},
    {"v=DKIM1; p=" TEST_RSA_PUBLIC, true, DKIM_PASS, "", false},
    {"p=" TEST_RSA_PUBLIC, true, DKIM_PASS, "", false},
    {"v=DKIM2; k=ed25519; p=" TEST_ED25519_PUBLIC, false, DKIM_PERMERROR,
     "the key record is of another version", false},
    {"k=ed25519; v=DKIM1; p=" TEST_ED25519_PUBLIC, false, DKIM_PERMERROR,
     "the key record is of another version", false},
    {"v=DKIM1; k=ed25519; p=", false, DKIM_PERMERROR, "the key was revoked", false},
    {"v=DKIM1; k=ed25519", false, DKIM_PERMERROR, "the key record has no key", false},
    {"v=DKIM1; k=ed25519; p=!", false, DKIM_PERMERROR, "the key is not base64", false},
    {"v=DKIM1; k=ed25519; p=AAAA", false, DKIM_PERMERROR, "the key cannot be read", false},
    {"v=DKIM1; k=ed25519; p=" TEST_ED25519_PUBLIC "; p=", false, DKIM_PERMERROR,
     "the key record is malformed", false},
    {"v=DKIM1; k=ed25519; h=sha1; p=" TEST_ED25519_PUBLIC, false, DKIM_PERMERROR,
     "the key does not allow SHA-256", false},
    {"v=DKIM1; k=ed25519; s=tlsrpt; p=" TEST_ED25519_PUBLIC, false, DKIM_PERMERROR,
     "the key is not for mail", false},
    {"v=DKIM1; p=" TEST_ED25519_PUBLIC, false, DKIM_PERMERROR,
     "the key is of another kind than the signature", false},
    {"v=DKIM1; k=ed25519; p=" TEST_ED25519_PUBLIC, true, DKIM_PERMERROR,
     "the key is of another kind than the signature", false},
    {"v=DKIM1; p=" TEST_ED25519_PUBLIC, true, DKIM_PERMERROR, "the key cannot be read", false},
    {"v=DKIM1; p=" KEY_512, true, DKIM_PERMERROR, "the key is too small or too large", false},
    {"hello", false, DKIM_PERMERROR, "the key record is malformed", false},
    {"", false, DKIM_PERMERROR, "the key record is malformed", false},
    {NULL, false, DKIM_TEMPERROR, "DNS gave no answer", false},
};

static void key_records(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct test_key_record record = {keys[i].rsa ? TEST_RSA_NAME : TEST_ED25519_NAME,
                                         keys[i].record};
        struct test_zone zone = {.records = &record, .count = 1};
        struct test_message test;
        test_message_open(&test, keys[i].rsa
                                     ? STR(TEST_RSA_SIGNATURE TEST_HEADER "\r\n" TEST_BODY)
                                     : STR(TEST_ED25519_SIGNATURE TEST_HEADER "\r\n" TEST_BODY));
        struct dkim_answer answer = test_verify(&test, &zone);
        if (answer.result != keys[i].result ||
            !str_equal(answer.signatures[0].detail, str_c(keys[i].detail)))
            fail_msg("%s: %s, %.*s", keys[i].record ? keys[i].record : "no answer",
                     dkim_result_name(answer.result), STR_ARG(answer.signatures[0].detail));
        assert_int_equal(answer.signatures[0].testing, keys[i].testing);
        test_message_close(&test);
    }
}

/* What else may stand at the name of a key does not hide it. */
static void other_records(void **state)
{
    (void)state;
    static const struct test_key_record records[] = {
        {TEST_ED25519_NAME, "v=spf1 -all"},
        {TEST_ED25519_NAME, "v=DKIM1; k=ed25519; p=" TEST_ED25519_PUBLIC},
    };
    struct test_zone zone = {.records = records, .count = 2};
    struct test_message test;
    test_message_open(&test, STR(TEST_ED25519_SIGNATURE TEST_HEADER "\r\n" TEST_BODY));
    assert_int_equal(test_verify(&test, &zone).result, DKIM_PASS);
    test_message_close(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),     cmocka_unit_test(changed),
        cmocka_unit_test(nul_octets),  cmocka_unit_test(no_signature),
        cmocka_unit_test(too_many),    cmocka_unit_test(best_one),
        cmocka_unit_test(key_records), cmocka_unit_test(other_records),
    };
    return cmocka_run_group_tests_name("content-dkim", tests, NULL, NULL);
}
