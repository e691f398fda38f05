/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to a mail server as they come in numbers: many at once over few connections, at a
 * server that is down, and such that make it hang up.
 */
#include "base/test.h"

#include "base/check.h"
#include "base/memory.h"
#include "directory/directory.h"
#include "fiber/loop.h"
#include "net/net_test.h"
#include "smtp/script_test.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ASKERS = 40 };

/* A server that knows addresses with an even number in front, for any number of connections. It
 * hangs up at every password, and at addresses that begin with x. */
struct crowd {
    int fd;
    uint16_t port;
    size_t open, most_open, accepted;
    struct directory *directory;
    struct server server;
    struct arena *arena;
    size_t answered;
    size_t wrong;
    const char *const *questions; /* NULL at the end; or NULL: crowd_ask()'s, many at once */
    char told[16];
};

struct crowd_connection {
    struct crowd *crowd;
    struct stream *stream;
};

static MAY_YIELD void crowd_serve(void *arg)
{
    struct crowd_connection *connection = arg;
    struct crowd *crowd = connection->crowd;
    struct stream *stream = connection->stream;
    struct error err;
    char space[2048];
    struct str line = STR("HELLO");
    do {
        struct str reply = STR("250 ok\r\n");
        if (str_starts(line, STR("HELLO")))
            reply = STR("220 mx\r\n");
        else if (str_starts(line, STR("EHLO")))
            reply = STR("250-mx\r\n250-AUTH PLAIN\r\n250 PIPELINING\r\n");
        else if (str_starts(line, STR("AUTH")) || str_starts(line, STR("RCPT TO:<x")))
            break;
        else if (str_starts(line, STR("RCPT")) && (line.ptr[9] - '0') % 2)
            reply = STR("550 5.1.1 odd\r\n");
        if (stream_write(stream, reply, &err) != OK || stream_flush(stream, &err) != OK)
            break;
    } while (script_read_line(stream, space, &line) && !str_equal(line, STR("QUIT")));
    stream_close(stream);
    crowd->open--;
    free(connection);
}

static MAY_YIELD void crowd_listen(void *arg)
{
    struct crowd *crowd = arg;
    struct watch watch;
    struct error err;
    check(watch_open(&watch, crowd->fd, &err) == OK);
    for (;;) {
        int fd = accept4(crowd->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && watch_wait_readable(&watch, &err) != OK)
            break;
        if (fd < 0)
            continue;
        struct crowd_connection *connection = NEW(struct crowd_connection);
        connection->crowd = crowd;
        check(stream_open_fd(fd, &connection->stream, &err) == OK);
        crowd->accepted++;
        crowd->open++;
        if (crowd->open > crowd->most_open)
            crowd->most_open = crowd->open;
        check(fiber_spawn(fiber_scope(), "serve", crowd_serve, connection, &err) == OK);
    }
    watch_close(&watch);
    close(crowd->fd);
}

static MAY_YIELD void crowd_ask(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < 5; i++) {
        struct directory_answer answer;
        char address[32];
        unsigned digit = (unsigned)(crowd->answered + (size_t)i) % 10;
        snprintf(address, sizeof address, "%u@example.net", digit);
        directory_lookup_smtp(crowd->directory, &crowd->server, str_c(address), false, crowd->arena,
                              &answer);
        crowd->answered++;
        if (answer.lookup != (digit % 2 ? DIRECTORY_MISSING : DIRECTORY_FOUND))
            crowd->wrong++;
    }
}

static MAY_YIELD void crowd_ask_at_once(struct crowd *crowd)
{
    struct scope askers;
    struct error err;
    scope_open(&askers, TIME_NEVER);
    for (int i = 0; i < ASKERS; i++)
        check(fiber_spawn(&askers, "ask", crowd_ask, crowd, &err) == OK);
    scope_close(&askers);
}

/* One after the other; in `crowd->told` what became of each. */
static MAY_YIELD void crowd_ask_in_order(struct crowd *crowd)
{
    for (size_t i = 0; crowd->questions[i]; i++) {
        struct str who = str_c(crowd->questions[i]);
        struct directory_answer answer;
        bool is_login = str_find(who, '@') < 0;
        if (is_login)
            directory_login_smtp(crowd->directory, &crowd->server, who, STR("secret"), crowd->arena,
                                 &answer);
        else
            directory_lookup_smtp(crowd->directory, &crowd->server, who, false, crowd->arena,
                                  &answer);
        bool asked = str_find_str(answer.detail, STR("not asked for now")) < 0;
        bool error =
            is_login ? answer.login == DIRECTORY_LOGIN_ERROR : answer.lookup == DIRECTORY_ERROR;
        crowd->told[i] = !asked ? '-' : error ? 'e' : 'y';
    }
}

static MAY_YIELD void crowd_run(void *arg)
{
    struct crowd *crowd = arg;
    struct scope site;
    struct error err;
    struct server_endpoint endpoint = {.host = STR("127.0.0.1"), .port = crowd->port};
    struct directory_shared *shared = directory_shared_new();
    crowd->directory = directory_new(shared, NULL, STR("gw.example"));
    crowd->arena = arena_new(0);
    crowd->server = (struct server){.name = STR("mail"),
                                    .endpoints = &endpoint,
                                    .endpoint_count = 1,
                                    .tls = SERVER_TLS_NONE,
                                    .tls_given = true,
                                    .timeout_ns = 10 * NS_PER_S};
    scope_open(&site, TIME_NEVER);
    check(fiber_spawn(&site, "listen", crowd_listen, crowd, &err) == OK);
    if (crowd->questions)
        crowd_ask_in_order(crowd);
    else
        crowd_ask_at_once(crowd);
    directory_free(crowd->directory);
    scope_cancel(&site);
    scope_close(&site);
    directory_shared_free(shared);
    arena_free(crowd->arena);
}

static void ask_crowd(struct crowd *crowd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    test_loop_open();
    crowd->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(crowd->fd >= 0);
    check(bind(crowd->fd, (struct sockaddr *)&address, sizeof address) == 0);
    check(listen(crowd->fd, 64) == 0);
    check(getsockname(crowd->fd, (struct sockaddr *)&address, &length) == 0);
    crowd->port = ntohs(address.sin_port);
    run_fibers(crowd_run, NULL, crowd);
    test_loop_close();
}

static void hang_ups_cost_others_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *questions[8];
        const char *told;
    } cases[] = {
        {"a password stops no mail", {"anna", "bert", "carl", "dora", "2@example.net"}, "eee-y"},
        {"a login again and again stops no other", {"anna", "anna", "anna", "anna"}, "eeee"},
        {"nor two of them in turn, asked twice", {"anna", "anna", "bert", "bert", "bert"}, "eeeee"},
        {"an address again and again stops no other",
         {"x@example.net", "x@example.net", "x@example.net", "2@example.net"},
         "eeey"},
        {"three addresses are the server",
         {"x@example.net", "x1@example.net", "x2@example.net", "2@example.net", "anna"},
         "eee-e"},
        {"an answer between",
         {"x@example.net", "x1@example.net", "2@example.net", "x@example.net", "x1@example.net",
          "2@example.net"},
         "eeyeey"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct crowd crowd = {.questions = cases[i].questions};
        ask_crowd(&crowd);
        if (strcmp(crowd.told, cases[i].told) != 0)
            fail_msg("%s: %s, not %s", cases[i].name, crowd.told, cases[i].told);
    }
}

static void shares_few_connections(void **state)
{
    (void)state;
    struct crowd crowd = {0};
    ask_crowd(&crowd);
    assert_int_equal(crowd.answered, ASKERS * 5);
    assert_int_equal(crowd.wrong, 0);
    assert_in_range(crowd.most_open, 1, 5); /* four, and one that is just closing */
    /* a connection is left after nine refusals, so some were replaced */
    assert_in_range(crowd.accepted, 8, 40);
}

/* ---- a server that is down ---- */

static MAY_YIELD void ask_the_dead(void *arg)
{
    char *told = arg;
    struct server_endpoint endpoint = {.host = STR("127.0.0.1"), .port = 1};
    struct arena *arena = arena_new(0);
    struct directory_shared *shared = directory_shared_new();
    struct directory *directory = directory_new(shared, NULL, STR("gw.example"));
    int64_t now = clock_monotonic_ns();
    int64_t wall = clock_wall_ns();
    struct server server = {
        .name = STR("mail"), .endpoints = &endpoint, .endpoint_count = 1, .timeout_ns = NS_PER_S};
    for (int i = 0; i < 6; i++) {
        struct directory_answer answer;
        clock_set_fake(i < 5 ? now : now + 6 * NS_PER_S, wall);
        directory_lookup_smtp(directory, &server, STR("b@example.net"), false, arena, &answer);
        bool asked = str_find_str(answer.detail, STR("not asked for now")) < 0;
        told[i] = answer.lookup != DIRECTORY_ERROR ? '!' : asked ? 'a' : '-';
    }
    clock_set_fake(-1, -1);
    arena_free(arena);
    directory_free(directory);
    directory_shared_free(shared);
}

static void spares_a_server_that_is_down(void **state)
{
    (void)state;
    char told[8] = "";
    test_loop_open();
    run_fibers(ask_the_dead, NULL, told);
    test_loop_close();
    assert_string_equal(told, "aaa--a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_few_connections),
        cmocka_unit_test(spares_a_server_that_is_down),
        cmocka_unit_test(hang_ups_cost_others_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
