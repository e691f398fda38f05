/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dkim_test.h - for tests of signatures: a zone of keys, messages of text, the keys of RFC
 * 8463 appendix A.
 */
#pragma once

#include "base/check.h"
#include "base/test.h"
#include "content/dkim.h"
#include "crypto/sign.h"
#include "mail/header.h"

#include <string.h>

/* ---- keys in a table ---- */

struct test_key_record {
    const char *name, *text; /* text NULL: DNS gives no answer */
};
struct test_zone {
    const struct test_key_record *records;
    size_t count;
    unsigned asked;
};

static inline enum result test_zone_text(void *context, struct str name, struct arena *arena,
                                         struct dns_text_answer *out, struct error *err)
{
    struct test_zone *zone = context;
    zone->asked++;
    *out = (struct dns_text_answer){.status = DNS_NO_NAME};
    for (size_t i = 0; i < zone->count; i++) {
        if (!str_equal(name, str_c(zone->records[i].name)))
            continue;
        if (!zone->records[i].text)
            return fail(err, ERROR_TEMPORARY, "no answer");
        struct str *grown = arena_alloc_array(arena, out->count + 1, sizeof *grown);
        if (out->count)
            memcpy(grown, out->texts, out->count * sizeof *grown);
        grown[out->count++] = arena_str(arena, str_c(zone->records[i].text));
        out->texts = grown;
        out->status = DNS_FOUND;
    }
    return OK;
}

/* ---- messages ---- */

struct test_message {
    struct arena *arena;
    struct mail_content content;
    struct dkim_message message;
};

/* All of `text` is in the body, as a message is that was just received. */
static inline NO_YIELD_CHECK void test_message_open(struct test_message *test, struct str text)
{
    struct error err;
    struct body *body = body_memory_new(16 << 20);
    check(body_append(body, text, &err) == OK && body_seal(body, &err) == OK);
    *test = (struct test_message){.arena = arena_new(0)};
    test->content = (struct mail_content){.head = STR_EMPTY, .body = body};
    size_t len = mail_header_length(text);
    dkim_message_init(&test->message, &test->content, str_slice(text, 0, len ? len : text.len));
    /* the header stands apart from the body, as it does in a flow */
    test->message.header = arena_str(test->arena, test->message.header);
}

static inline void test_message_close(struct test_message *test)
{
    body_unref(test->content.body);
    arena_free(test->arena);
}

static inline NO_YIELD_CHECK struct dkim_answer test_verify(struct test_message *test,
                                                            struct test_zone *zone)
{
    struct dkim_dns dns = {.text = test_zone_text, .context = zone};
    struct dkim_answer answer;
    struct error err = {0};
    if (dkim_verify(&test->message, &dns, test->arena, &answer, &err) != OK)
        fail_msg("%s", err.text);
    return answer;
}

/* ---- RFC 8463 appendix A ---- */

#define TEST_RSA_PRIVATE                                                                           \
    "-----BEGIN RSA PRIVATE KEY-----\n"                                                            \
    "MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi\n"                           \
    "Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM\n"                           \
    "KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB\n"                           \
    "AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm\n"                           \
    "6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe\n"                           \
    "zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy\n"                           \
    "6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc\n"                           \
    "uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy\n"                           \
    "WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd\n"                           \
    "WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a\n"                           \
    "licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst\n"                           \
    "o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe\n"                           \
    "uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL\n"                                               \
    "-----END RSA PRIVATE KEY-----\n"
#define TEST_RSA_PUBLIC                                                                            \
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J"  \
    "16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBf"  \
    "O2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
#define TEST_ED25519_PRIVATE "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
#define TEST_ED25519_PUBLIC  "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

#define TEST_ED25519_SIGNATURE                                                                     \
    "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"                                \
    " d=football.example.com; i=@football.example.com;\r\n"                                        \
    " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"                                      \
    " subject : date : message-id : from : subject : date;\r\n"                                    \
    " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"                                        \
    " b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"                              \
    " Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
#define TEST_RSA_SIGNATURE                                                                         \
    "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"                                    \
    " d=football.example.com; i=@football.example.com;\r\n"                                        \
    " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"                                \
    " date : message-id : from : subject : date;\r\n"                                              \
    " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"                                        \
    " b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"                              \
    " DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"                              \
    " dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n"
#define TEST_HEADER                                                                                \
    "From: Joe SixPack <joe@football.example.com>\r\n"                                             \
    "To: Suzie Q <suzie@shopping.example.net>\r\n"                                                 \
    "Subject: Is dinner ready?\r\n"                                                                \
    "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"                                              \
    "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
#define TEST_BODY    "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n"
#define TEST_MESSAGE TEST_ED25519_SIGNATURE TEST_RSA_SIGNATURE TEST_HEADER "\r\n" TEST_BODY

#define TEST_ED25519_NAME "brisbane._domainkey.football.example.com"
#define TEST_RSA_NAME     "test._domainkey.football.example.com"
