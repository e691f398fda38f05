/* SPDX-License-Identifier: Apache-2.0 */
/* Answers over HTTP, and those of web hooks. */
#include "base/test.h"

#include "content/hook.h"

#define HEAD "HTTP/1.1 200 OK\r\n"

static void test_answers(void **unused)
{
    static const struct {
        const char *text;
        enum result result;
        unsigned status;
        const char *body;
    } cases[] = {
        {HEAD "\r\nx", OK, 200, "x"},
        {"HTTP/1.0 404 Not Found\n\nx", OK, 404, "x"},
        {HEAD "Content-Length: 1\r\n\r\nxyz", OK, 200, "x"},
        {HEAD "content-length:\t3 \r\n\r\nxyz", OK, 200, "xyz"},
        {HEAD "Content-Length: 4\r\n\r\nxyz", FAILED, 0, NULL},
        {HEAD "Content-Length: -1\r\n\r\nxyz", FAILED, 0, NULL},
        {HEAD "Content-Length: 3\r\nContent-Length: 3\r\n\r\nxyz", OK, 200, "xyz"},
        {HEAD "Content-Length: 3\r\nContent-Length: 2\r\n\r\nxyz", FAILED, 0, NULL},
        {HEAD "Content-Length: 99999999999999999999\r\n\r\nxyz", FAILED, 0, NULL},
        {HEAD "Transfer-Encoding: gzip\r\n\r\nxyz", FAILED, 0, NULL},
        {HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n1;e=1\r\nz\r\n0\r\n\r\n", OK, 200,
         "xyz"},
        {HEAD "Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n", OK,
         200, "0123456789"},
        {HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n", FAILED, 0, NULL},
        {HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nxyz\r\n0\r\n\r\n", FAILED, 0, NULL},
        {HEAD "Transfer-Encoding: chunked\r\n\r\n9\r\nxy\r\n0\r\n\r\n", FAILED, 0, NULL},
        {HEAD "Transfer-Encoding: chunked\r\n\r\nfffffffff\r\nxy", FAILED, 0, NULL},
        {HEAD "Transfer-Encoding: chunked\r\n\r\n\r\nxy", FAILED, 0, NULL},
        {HEAD "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", FAILED, 0, NULL},
        {"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" HEAD "\r\nx", OK, 200, "x"},
        {"HTTP/1.1 100 Continue\r\n\r\n", FAILED, 0, NULL},
        {HEAD "X: y\r\n", FAILED, 0, NULL},
        {"HTTP/1.1 99 x\r\n\r\n", FAILED, 0, NULL},
        {"HTTP/2 200 OK\r\n\r\n", FAILED, 0, NULL},
        {"hello\r\n\r\n", FAILED, 0, NULL},
        {"", FAILED, 0, NULL},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_new(0);
        struct http_answer answer;
        struct error err;
        if (http_read_answer(str_c(cases[i].text), arena, &answer, &err) != cases[i].result)
            fail_msg("case %zu: %s", i, cases[i].text);
        if (cases[i].result == OK) {
            assert_int_equal(answer.status, cases[i].status);
            assert_str(answer.body, cases[i].body);
        }
        arena_free(arena);
    }
}

static void test_depth(void **unused)
{
    char text[200];
    struct error err;
    json_t *root;
    (void)unused;
    for (size_t depth = 1; depth < 90; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        enum result result = http_read_json(str_of(text, 2 * depth), &root, &err);
        assert_int_equal(result, depth <= HTTP_JSON_DEPTH ? OK : FAILED);
        if (result == OK)
            json_decref(root);
    }
    /* brackets in strings are none */
    struct str quoted = STR("[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[\"]");
    assert_int_equal(http_read_json(quoted, &root, &err), OK);
    json_decref(root);
}

static void test_requests(void **unused)
{
    static const struct {
        const char *url, *target, *request;
    } cases[] = {
        {"http://a.example", "", "POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"},
        {"https://a.example:8443/x/y?z", "",
         "POST /x/y?z HTTP/1.1\r\nHost: a.example:8443\r\nConnection: close\r\n"},
        {"http://[::1]:80/x", "/other",
         "POST /other HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n"},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct server_endpoint endpoint = {.url = str_c(cases[i].url)};
        struct buf out BUF_CLEANUP;
        buf_init(&out, 1000);
        http_write_request(STR("POST"), &endpoint, str_c(cases[i].target), &out);
        assert_str(buf_str(&out), cases[i].request);
    }
}

static void test_hooks(void **unused)
{
    static const struct {
        const char *text;
        enum result result;
        enum hook_outcome outcome;
        const char *reply;
    } cases[] = {
        {HEAD "\r\n{\"outcome\":\"accept\"}", OK, HOOK_ACCEPT, ""},
        {HEAD "\r\n{\"outcome\":\"reject\",\"reply\":\"550 5.7.1 a\\r\\nb\"}", OK, HOOK_REJECT,
         "550 5.7.1 a  b"},
        {HEAD "\r\n{\"outcome\":\"quarantine\",\"score\":1.5,\"unknown\":[]}", OK, HOOK_QUARANTINE,
         ""},
        {"HTTP/1.1 204 No Content\r\n\r\n", OK, HOOK_ACCEPT, ""},
        {"HTTP/1.1 201 Created\r\n\r\n{\"outcome\":\"accept\"}", FAILED, 0, NULL},
        {HEAD "\r\n{\"outcome\":\"Accept\"}", FAILED, 0, NULL},
        {HEAD "\r\n{\"outcome\":1}", FAILED, 0, NULL},
        {HEAD "\r\n{}", FAILED, 0, NULL},
        {HEAD "\r\n[]", FAILED, 0, NULL},
        {HEAD "\r\n", FAILED, 0, NULL},
        {HEAD "\r\n{\"outcome\":\"accept\",\"score\":\"1\"}", FAILED, 0, NULL},
        {HEAD "\r\n{\"outcome\":\"accept\",\"add_headers\":[{\"name\":\"A:B\",\"value\":\"x\"}]}",
         FAILED, 0, NULL},
        {HEAD "\r\n{\"outcome\":\"accept\",\"add_headers\":[\"A: b\"]}", FAILED, 0, NULL},
        {HEAD "\r\n{\"outcome\":\"accept\",\"findings\":[{\"text\":\"b\"}]}", FAILED, 0, NULL},
        {HEAD "\r\n{\"outcome\":\"accept\",\"remove_headers\":\"A\"}", FAILED, 0, NULL},
        {HEAD "\r\n{\"outcome\":\"acc\\u0000ept\"}", FAILED, 0, NULL},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_new(0);
        struct hook_answer answer;
        struct error err;
        if (hook_read_answer(str_c(cases[i].text), arena, &answer, &err) != cases[i].result)
            fail_msg("case %zu: %s", i, cases[i].text);
        if (cases[i].result == OK) {
            assert_int_equal(answer.outcome, cases[i].outcome);
            assert_str(answer.reply, cases[i].reply);
        }
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_hooks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
