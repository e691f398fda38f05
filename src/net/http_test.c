/* SPDX-License-Identifier: Apache-2.0 */
/* The beginning of an answer, of which the rest does not matter; whole answers:
 * content/http_test.c. */
#include "base/test.h"

#include "net/http.h"

#include "base/clock.h"
#include "fiber/test.h"

#include <stdio.h>
#include <string.h>

#define HEAD "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n"

static const struct {
    const char *text;
    unsigned status; /* 0: it is no answer */
    const char *body;
} cases[] = {
    {HEAD "\r\nx", 503, "x"},
    {HEAD "\r\n", 503, ""},
    {HEAD "Content-Length: 2\r\n\r\nxyz", 503, "xy"},
    {HEAD "Content-Length: 900\r\n\r\nxyz", 503, "xyz"},
    {HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n1\r\nz\r\n0\r\n\r\n", 503, "xyz"},
    {HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n9\r\nz", 503, "xyz"},
    {HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nxy\r\nnonsense", 503, "xy"},
    {HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nxyz", 503, "xy"},
    {HEAD "Transfer-Encoding: chunked\r\n\r\n", 503, ""},
    {"HTTP/1.1 103 Early\r\n\r\n" HEAD "\r\nx", 503, "x"},
    {"HTTP/1.1 100 Continue\r\n\r\n", 0, NULL},
    {HEAD, 0, NULL},
    {"220 mail.example.org ESMTP\r\n", 0, NULL},
    {"", 0, NULL},
};
enum { CASES = sizeof cases / sizeof *cases };

static void test_beginnings(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < CASES; i++) {
        struct arena *arena = arena_new(0);
        struct http_answer answer = {0};
        struct error err;
        enum result result = http_read_beginning(str_c(cases[i].text), arena, &answer, &err);
        if ((result == OK) != (cases[i].status != 0))
            fail_msg("%s", cases[i].text);
        if (result == OK) {
            assert_int_equal(answer.status, cases[i].status);
            assert_str(answer.body, cases[i].body);
            assert_str(http_field(&answer, "retry-after"), "7");
            assert_str(http_field(&answer, "Retry"), "");
        }
        arena_free(arena);
    }
}

/* ---- from a stream ---- */

static const char *peer_text;
static size_t peer_more; /* bytes behind that */
static bool peer_stays;

static MAY_YIELD void speak(void *arg)
{
    struct stream *stream = arg;
    struct error err;
    enum result result = stream_write(stream, str_c(peer_text), &err);
    for (size_t i = 0; i < peer_more && result == OK; i++)
        result = stream_write(stream, STR("x"), &err);
    if (result == OK)
        result = stream_flush(stream, &err);
    while (peer_stays && result == OK)
        result = fiber_suspend(&err);
    stream_close(stream);
}

static struct http_answer heard;
static enum result heard_result;
static struct arena *heard_arena;

static MAY_YIELD void receive(void *arg)
{
    struct stream *ours, *theirs;
    struct scope scope;
    struct error err;
    (void)arg;
    stream_pair(&ours, &theirs);
    scope_open(&scope, TIME_NEVER);
    assert_int_equal(fiber_spawn(&scope, "peer", speak, theirs, &err), OK);
    heard_result = http_receive_beginning(ours, 4096, heard_arena, &heard, &err);
    stream_close(ours);
    scope_cancel(&scope);
    scope_close(&scope);
}

static void hear(const char *text, size_t more, bool stays)
{
    peer_text = text;
    peer_more = more;
    peer_stays = stays;
    heard_arena = arena_new(0);
    test_in_fiber(receive, NULL);
}

static void test_much_is_cut(void **unused)
{
    (void)unused;
    hear("HTTP/1.1 200 OK\r\n\r\n", 200000, false);
    assert_int_equal(heard_result, OK);
    assert_int_equal(heard.status, 200);
    assert_in_range(heard.body.len, 1000, 20000);
    arena_free(heard_arena);
}

/* Not the time of a whole request is waited for the rest of a body. */
static void test_a_body_that_does_not_end_is_left(void **unused)
{
    (void)unused;
    hear("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", 0, true);
    assert_int_equal(heard_result, OK);
    assert_str(heard.body, "abc");
    arena_free(heard_arena);
}

static void test_a_whole_one_is_not_waited_for(void **unused)
{
    static const char *const texts[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 204 None\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"};
    (void)unused;
    clock_set_fake(NS_PER_S, NS_PER_S); /* it stands still: no patience ends */
    for (size_t i = 0; i < 3; i++) {
        hear(texts[i], 0, true);
        assert_int_equal(heard_result, OK);
        arena_free(heard_arena);
    }
    clock_set_fake(-1, -1);
}

static void test_an_end_without_an_answer_is_none(void **unused)
{
    (void)unused;
    hear("HTTP/1.1 200 OK\r\nContent-Le", 0, false);
    assert_int_equal(heard_result, FAILED);
    arena_free(heard_arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beginnings),
        cmocka_unit_test(test_much_is_cut),
        cmocka_unit_test(test_a_body_that_does_not_end_is_left),
        cmocka_unit_test(test_a_whole_one_is_not_waited_for),
        cmocka_unit_test(test_an_end_without_an_answer_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
