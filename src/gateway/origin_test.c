/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of a session with a message: written and read, also as earlier versions wrote it. */
#include "base/test.h"

#include "gateway/origin.h"

#include <string.h>

static const struct str own[2] = {{"a@example.org", 13}, {"b@example.org", 13}};

static struct flow_facts some_facts(void)
{
    struct flow_facts facts = {
        .session = mail_id_new(),
        .authenticated = true,
        .smtputf8 = true,
        .user = STR("ann"),
        .client_name = STR("c.example.net"),
        .helo = STR("c"),
        .tls = STR("TLSv1.3"),
        .cipher = STR("TLS_AES_256_GCM_SHA384"),
        .mechanism = STR("PLAIN"),
        .listener = STR("submission"),
        .sender = STR("a@example.org"),
        .sender_domain = STR("example.org"),
        .own_addresses = (struct str *)own,
        .own_address_count = 2,
    };
    assert_true(net_ip_parse(STR("2001:db8::7"), &facts.client));
    return facts;
}

static void check_same(const struct flow_facts *facts, const struct flow_facts *back,
                       unsigned version)
{
    assert_true(mail_id_equal(facts->session, back->session));
    assert_true(back->authenticated && back->smtputf8 && !back->trusted);
    assert_true(net_ip_equal(&facts->client, &back->client));
    assert_str(back->user, "ann");
    assert_str(back->client_name, "c.example.net");
    assert_str(back->tls, "TLSv1.3");
    assert_str(back->listener, "submission");
    assert_str(back->sender_domain, "example.org");
    assert_int_equal(back->own_address_count, version >= 2 ? 2 : 0);
    if (version >= 2)
        assert_str(back->own_addresses[1], "b@example.org");
    assert_int_equal(back->cipher.len, version >= 3 ? facts->cipher.len : 0);
    assert_int_equal(back->mechanism.len, version >= 3 ? facts->mechanism.len : 0);
}

/* Each version has put something behind the one before. */
static void test_versions(void **unused)
{
    enum { OWN = 2 + 2 * 15, SESSION = 2 + 22 + 2 + 5 };
    struct arena *arena = arena_new(0);
    struct flow_facts facts = some_facts();
    struct str bytes = origin_encode(arena, &facts);
    (void)unused;
    assert_int_equal(bytes.ptr[0], 3);
    for (unsigned version = 3; version >= 1; version--) {
        struct flow_facts back;
        char *copy = arena_alloc(arena, bytes.len);
        memcpy(copy, bytes.ptr, bytes.len);
        copy[0] = (char)version;
        assert_true(origin_decode(arena, str_of(copy, bytes.len), &back));
        check_same(&facts, &back, version);
        bytes.len -= version == 3 ? SESSION : version == 2 ? OWN : 0;
    }
    arena_free(arena);
}

static void test_what_is_not_whole(void **unused)
{
    struct arena *arena = arena_new(0);
    struct flow_facts facts = some_facts();
    struct flow_facts back;
    struct str bytes = origin_encode(arena, &facts);
    (void)unused;
    for (size_t len = 0; len < bytes.len; len++)
        assert_false(origin_decode(arena, str_slice(bytes, 0, len), &back));
    char *longer = arena_alloc(arena, bytes.len + 1);
    memcpy(longer, bytes.ptr, bytes.len);
    assert_false(origin_decode(arena, str_of(longer, bytes.len + 1), &back));
    longer[0] = 4;
    assert_false(origin_decode(arena, str_of(longer, bytes.len), &back));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_what_is_not_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
