/* SPDX-License-Identifier: Apache-2.0 */
/* Authentication-Results and Received-SPF. */
#include "content/auth_results.h"

#include "base/test.h"

#include <stdio.h>
#include <string.h>

/* The results written in one line: "id|method=result reason=R type.name=value|…". */
static void show(const struct auth_results *results, struct buf *out)
{
    buf_append(out, results->authserv_id);
    for (size_t i = 0; i < results->count; i++) {
        const struct auth_result *result = &results->results[i];
        buf_printf(out, "|%.*s=%.*s", STR_ARG(result->method), STR_ARG(result->result));
        if (result->reason.len)
            buf_printf(out, " reason=%.*s", STR_ARG(result->reason));
        for (size_t k = 0; k < result->property_count; k++)
            buf_printf(out, " %.*s.%.*s=%.*s", STR_ARG(result->properties[k].type),
                       STR_ARG(result->properties[k].name), STR_ARG(result->properties[k].value));
    }
}

struct parse_case {
    const char *value;
    const char *expected; /* NULL: broken */
};

/* the first ones are the examples of RFC 8601 appendix B */
static const struct parse_case parse_cases[] = {
    {" example.org 1; none", "example.org"},
    {" example.com;\r\n\tspf=pass smtp.mailfrom=example.net",
     "example.com|spf=pass smtp.mailfrom=example.net"},
    {" example.com;\r\n auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n"
     " spf=pass smtp.mailfrom=example.net",
     "example.com|auth=pass smtp.auth=sender@example.net|spf=pass smtp.mailfrom=example.net"},
    {" foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) = (wait for "
     "it) fail"
     "\r\n policy (A dot can go here) . (like that) expired\r\n (this surprised me) = (as I wasn't "
     "expecting it) 1362471462",
     "foo.example.net|dkim=fail policy.expired=1362471462"},
    {" example.com; dkim=pass reason=\"good \\\"signature\\\"\" header.i=@mail-router.example.net",
     "example.com|dkim=pass reason=good \"signature\" header.i=@mail-router.example.net"},
    {" a; dkim=pass header.b=\"a/b\" header.s=x;", "a|dkim=pass header.b=a/b header.s=x"},
    {" a; dkim=pass header.b=a/b+==", "a|dkim=pass header.b=a/b+=="},
    {" a; iprev=pass policy.iprev=2001:db8::1", "a|iprev=pass policy.iprev=2001:db8::1"},
    {" a; spf=pass smtp.mailfrom=\"x y\"@example.net", "a|spf=pass smtp.mailfrom=x y@example.net"},
    {" a", "a"},
    {"", NULL},
    {" ;spf=pass", NULL},
    {" a; spf", NULL},
    {" a; spf=", NULL},
    {" a; =pass", NULL},
    {" a; spf=pass x", NULL},
    {" a; spf=pass x.y", NULL},
    {" a; spf=pass x.y=", NULL},
    {" a; spf=pass (open", NULL},
    {" a; spf=pass reason=\"open", NULL},
    {" a b; spf=pass", NULL},
    {" a; none; spf=pass", NULL},
};

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof parse_cases / sizeof *parse_cases; i++) {
        struct arena *arena = arena_new(0);
        struct buf got BUF_CLEANUP = {0};
        struct auth_results results;
        buf_init(&got, 4096);
        if (auth_results_parse(str_c(parse_cases[i].value), arena, &results))
            show(&results, &got);
        const char *expected = parse_cases[i].expected ? parse_cases[i].expected : "";
        if (!str_equal(buf_str(&got), str_c(expected)))
            fail_msg("\"%s\": %.*s", parse_cases[i].value, (int)got.len, got.ptr ? got.ptr : "");
        arena_free(arena);
    }
}

static const struct {
    const char *value;
    bool ours;
} forgeries[] = {
    {" mx.example.org; spf=pass", true},
    {" MX.Example.ORG 1; none", true},
    {"\r\n\tmx.example.org;\r\n\tspf=pass", true},
    {" (hidden) mx.example.org; spf=pass", true},
    {" \"mx.example.org\"; spf=pass", true},
    {" \"mx.ex\\ample.org\"; spf=pass", true},
    {" mx.example.org.; spf=pass", true},
    {" mx.example.org/1; spf=pass", true},
    {" x (mx.example.org; spf=pass", true}, /* cannot be read, and has our name */
    {" other.example; spf=pass smtp.mailfrom=mx.example.org", false},
    {" other.example; spf", false},
    {" xmx.example.org; spf=pass", false},
    {" mx.example.org.evil.example; spf=pass", false},
    {"", false},
};

static void test_forgeries(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++)
        if (auth_results_is_ours(str_c(forgeries[i].value), STR("mx.example.org")) !=
            forgeries[i].ours)
            fail_msg("\"%s\"", forgeries[i].value);
}

static void test_write(void **state)
{
    struct buf out BUF_CLEANUP = {0};
    struct auth_results results = {.authserv_id = STR("mx.example.org"), .count = 2};
    (void)state;
    buf_init(&out, 4096);
    results.results[0] = (struct auth_result){.method = STR("spf"), .result = STR("pass")};
    auth_result_add(&results.results[0], "smtp", "mailfrom", STR("ann@example.net"));
    results.results[1] = (struct auth_result){.method = STR("dmarc"),
                                              .result = STR("fail"),
                                              .comment = STR("p=reject (x"),
                                              .reason = STR("a \"b\"\r\n\xc3\xbc")};
    auth_result_add(&results.results[1], "header", "from", STR("a;b=c d"));
    auth_result_add(&results.results[1], "policy", "empty", STR_EMPTY);
    auth_results_write(&out, &results);
    assert_str(
        buf_str(&out),
        "Authentication-Results: mx.example.org;\r\n"
        "\tspf=pass smtp.mailfrom=ann@example.net;\r\n"
        "\tdmarc=fail (p=reject \\(x) reason=\"a \\\"b\\\"????\" header.from=\"a;b=c d\"\r\n");
    buf_clear(&out);
    results.count = 0;
    auth_results_write(&out, &results);
    assert_str(buf_str(&out), "Authentication-Results: mx.example.org; none\r\n");
}

/* What is written is read back, whatever the values are. */
static void test_there_and_back(void **state)
{
    static const char *const values[] = {"plain",           "a b", "\"",   "\\", "(", "x;y",
                                         "ann@example.net", "a=b", "[::1]"};
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct arena *arena = arena_new(0);
        struct buf out BUF_CLEANUP = {0};
        struct auth_results results = {.authserv_id = str_c(values[i]), .count = 1}, again;
        buf_init(&out, 4096);
        results.results[0] = (struct auth_result){
            .method = STR("dkim"), .result = STR("pass"), .reason = str_c(values[i])};
        auth_result_add(&results.results[0], "header", "d", str_c(values[i]));
        auth_results_write(&out, &results);
        struct str value = str_slice(str_from(buf_str(&out), 23), 0, out.len - 25);
        assert_true(auth_results_parse(value, arena, &again));
        assert_str(again.authserv_id, values[i]);
        assert_str(again.results[0].reason, values[i]);
        assert_str(again.results[0].properties[0].value, values[i]);
        arena_free(arena);
    }
}

static void test_folding(void **state)
{
    struct buf out BUF_CLEANUP = {0};
    struct auth_results results = {.authserv_id = STR("mx.example.org"), .count = 1};
    (void)state;
    buf_init(&out, 4096);
    results.results[0] = (struct auth_result){.method = STR("dkim"), .result = STR("pass")};
    auth_result_add(&results.results[0], "header", "d", STR("a-rather-long-name.example.net"));
    auth_result_add(&results.results[0], "header", "s", STR("a-rather-long-selector-20261127"));
    auth_results_write(&out, &results);
    assert_str(buf_str(&out), "Authentication-Results: mx.example.org;\r\n"
                              "\tdkim=pass header.d=a-rather-long-name.example.net\r\n"
                              "\theader.s=a-rather-long-selector-20261127\r\n");
}

static void test_received_spf(void **state)
{
    struct buf out BUF_CLEANUP = {0};
    struct spf_outcome outcome = {
        .result = SPF_FAIL, .domain = STR("example.net"), .mechanism = STR("-all")};
    struct spf_request request = {.helo = STR("h.example.net"),
                                  .sender = STR("a b@example.net"),
                                  .receiver = STR("mx.example.org")};
    (void)state;
    buf_init(&out, 4096);
    assert_true(net_ip_parse(STR("2001:db8::1"), &request.client));
    auth_results_write_received_spf(&out, &outcome, &request);
    assert_str(buf_str(&out),
               "Received-SPF: fail receiver=mx.example.org; client-ip=\"2001:db8::1\";\r\n"
               "\tenvelope-from=\"a b@example.net\"; helo=h.example.net; mechanism=-all;\r\n"
               "\tidentity=mailfrom\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),   cmocka_unit_test(test_forgeries),
        cmocka_unit_test(test_write),   cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_folding), cmocka_unit_test(test_received_spf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
