/* SPDX-License-Identifier: Apache-2.0 */
/* flow/script_http_test.c - scripts that ask a web service: by URL and by server, one that is down,
 * and questions that end early. */
#include "flow/script_bench.h"

#include "fiber/lane.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

struct web {
    int listener;
    uint16_t port;
    pthread_t thread;
    const char *answer;   /* NULL: say nothing */
    size_t more;          /* so many bytes behind it */
    struct lane *stopped; /* when it was asked; or NULL */
    char heard[4096];
};

/* One connection. */
static void *serve(void *arg)
{
    static char filler[65536];
    struct web *web = arg;
    int fd = accept(web->listener, NULL, NULL);
    ssize_t got = read(fd, web->heard, sizeof web->heard - 1);
    check(got >= 0);
    if (web->stopped)
        lane_stop(web->stopped);
    if (web->answer)
        check(write(fd, web->answer, strlen(web->answer)) > 0);
    else
        check(read(fd, filler, sizeof filler) >= 0); /* until the client gives up */
    for (size_t sent = 0; sent < web->more; sent += sizeof filler)
        if (send(fd, filler, sizeof filler, MSG_NOSIGNAL) < 0)
            break;
    close(fd);
    return NULL;
}

static void open_web(struct web *web, const char *answer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    *web = (struct web){.listener = socket(AF_INET, SOCK_STREAM, 0), .answer = answer};
    check(bind(web->listener, (struct sockaddr *)&address, len) == 0);
    check(listen(web->listener, 5) == 0);
    check(getsockname(web->listener, (struct sockaddr *)&address, &len) == 0);
    web->port = ntohs(address.sin_port);
    check(pthread_create(&web->thread, NULL, serve, web) == 0);
}

static void close_web(struct web *web)
{
    pthread_join(web->thread, NULL);
    close(web->listener);
}

static const struct {
    const char *name, *call; /* %s: the URL */
    const char *answer;
    size_t more;
    const char *heard;
    const char *expected;
} requests[] = {
    {"get", "postern.http('%s')", "HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nhello", 0,
     "GET /x HTTP/1.1\r\n", "200 hello b"},
    {"post", "postern.http({url='%s', body='hi', headers={['X-H']='v'}})",
     "HTTP/1.0 404 No\r\nX-A: b\r\n\r\n", 0, "POST /x HTTP/1.1\r\n", "404  b"},
    {"a redirect", "postern.http('%s')",
     "HTTP/1.0 302 Go\r\nX-A: c\r\nLocation: file:///etc/passwd\r\n\r\n", 0, "GET", "302  c"},
    {"too much", "postern.http('%s')", "HTTP/1.0 200 OK\r\n\r\n", 4 << 20, "GET",
     "nil the answer is larger than 1 MiB"},
    {"no http", "postern.http('%s')", "what?\r\n\r\n", 0, "GET", "nil *"},
    {"nothing", "postern.http({url='%s', timeout='50ms'})", NULL, 0, "GET", "nil *"},
    {"a server, with its path", "postern.http({server='hook'})",
     "HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nhello", 0, "GET /x?y HTTP/1.1\r\nHost: 192.0.2.9\r\n",
     "200 hello b"},
    {"a server, with a path, chunks",
     "postern.http({server='hook', path='/z', body='hi', headers={['X-H']='v', Host='w'}})",
     "HTTP/1.1 500 No\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 0,
     "POST /z HTTP/1.1\r\nHost: 192.0.2.9\r\nConnection: close\r\n"
     "User-Agent: postern/" POSTERN_VERSION "\r\nAuthorization: Bearer secret\r\nX-H: v\r\n"
     "Content-Length: 2\r\n\r\n",
     "500 ab b"},
    {"a server, too much", "postern.http({server='hook'})", "HTTP/1.0 200 OK\r\n\r\n", 4 << 20,
     "GET", "nil *"},
    {"a server, nothing", "postern.http({server='hook', timeout='50ms'})", NULL, 0, "GET", "nil *"},
};

/* The server `hook` is at two addresses: nobody is at the first. */
static void place_hook(struct bench *bench, const struct web *web)
{
    struct server *hook = &bench->fixture.servers[4];
    struct server_endpoint *endpoints = &bench->fixture.endpoints[1];
    for (size_t i = 0; i < 2; i++)
        endpoints[i] = (struct server_endpoint){.host = STR("127.0.0.1"),
                                                .port = i ? web->port : 1,
                                                .url = STR("http://192.0.2.9/x?y")};
    hook->endpoints = endpoints;
    hook->endpoint_count = 2;
    hook->timeout_ns = 20 * NS_PER_S;
    hook->password = STR("secret");
}

static void web_services_are_asked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct bench bench;
        struct web web;
        char script[2000], call[500], url[100];
        open_web(&web, requests[i].answer);
        web.more = requests[i].more;
        snprintf(url, sizeof url, "http://127.0.0.1:%u/x", web.port);
        struct str form = str_c(requests[i].call);
        ptrdiff_t at = str_find_str(form, STR("%s"));
        if (at < 0)
            snprintf(call, sizeof call, "%s", requests[i].call);
        else
            snprintf(call, sizeof call, "%.*s%s%.*s", (int)at, form.ptr, url,
                     STR_ARG(str_from(form, (size_t)at + 2)));
        snprintf(script, sizeof script,
                 "function content(mail) local a, why = %s if not a then return 'hold', 'nil ' .. "
                 "why end return 'hold', a.status .. ' ' .. a.body .. ' ' .. a.headers['x-a'] end",
                 call);
        open_script(&bench, FLOW_CONTENT, "", "", script);
        place_hook(&bench, &web);
        clock_set_fake(-1, -1);
        struct lane *lane = lane_new("web", 1, 10);
        bench.run.http = lane;
        test_in_fiber(run_it, &bench);
        lane_free(lane);
        close_web(&web);
        if (!fits(bench.verdict.detail, str_c(requests[i].expected)) ||
            !str_starts(str_c(web.heard), str_c(requests[i].heard)))
            fail_msg("%s: \"%.*s\", heard \"%s\"", requests[i].name, STR_ARG(bench.verdict.detail),
                     web.heard);
        close_script(&bench);
    }
}

static void a_web_service_that_fails_is_left_alone(void **state)
{
    struct bench bench;
    (void)state;
    open_script(&bench, FLOW_CONTENT, "", "",
                "function content(mail) local said = '' for i = 1, 5 do "
                "local a, why = postern.http('http://127.0.0.1:1/' .. i) "
                "said = said .. (why:find('not asked for now') and '-' or 'a') end "
                "local a, why = postern.http('http://127.0.0.1:2/') "
                "return 'hold', said .. (why:find('not asked for now') and '-' or 'a') end");
    clock_set_fake(-1, -1);
    struct lane *lane = lane_new("web", 1, 10);
    bench.run.http = lane;
    test_in_fiber(run_it, &bench);
    lane_free(lane);
    assert_str(bench.verdict.detail, "aaa--a");
    close_script(&bench);
}

static void a_stop_ends_the_question(void **state)
{
    struct bench bench;
    struct web web;
    char script[500];
    (void)state;
    struct lane *lane = lane_new("web", 1, 10);
    open_web(&web, NULL);
    snprintf(script, sizeof script,
             "function content(mail) local a, why = postern.http({url='http://127.0.0.1:%u/', "
             "timeout='30s'}) return 'hold', why end",
             web.port);
    open_script(&bench, FLOW_CONTENT, ", time: 60s", "", script);
    clock_set_fake(-1, -1);
    web.stopped = lane;
    bench.run.http = lane;
    test_in_fiber(run_it, &bench);
    assert_str(bench.verdict.detail, "the gateway is stopping");
    lane_free(lane);
    close_web(&web);
    close_script(&bench);
}

/* The script's time ends the question, and the question's thread with it. */
static void the_time_of_a_script_ends_its_question(void **state)
{
    struct bench bench;
    struct web web;
    char script[500];
    (void)state;
    open_web(&web, NULL);
    snprintf(script, sizeof script,
             "function content(mail) postern.http({url='http://127.0.0.1:%u/', timeout='30s'}) end",
             web.port);
    open_script(&bench, FLOW_CONTENT, ", time: 50ms", "", script);
    clock_set_fake(-1, -1);
    struct lane *lane = lane_new("web", 1, 10);
    bench.run.http = lane;
    test_in_fiber(run_it, &bench);
    assert_int_equal(bench.verdict.kind, FLOW_DEFER);
    assert_true(fits(bench.verdict.detail, STR("*the script took longer than it may*")));
    lane_free(lane);
    close_web(&web);
    close_script(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(web_services_are_asked),
        cmocka_unit_test(a_web_service_that_fails_is_left_alone),
        cmocka_unit_test(a_stop_ends_the_question),
        cmocka_unit_test(the_time_of_a_script_ends_its_question),
    };
    return cmocka_run_group_tests_name("flow-script-http", tests, make_folder, remove_folder);
}
