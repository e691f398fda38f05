/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every row of the tables of outcomes, asked of servers on the loopback that follow a script.
 */
#include "base/test.h"

#include "base/check.h"
#include "base/memory.h"
#include "directory/callout.h"
#include "directory/directory.h"
#include "event/event.h"
#include "fiber/loop.h"
#include "net/dns.h"
#include "net/net_test.h"
#include "net/tls.h"
#include "smtp/script_test.h"

#include <errno.h>
#include <stdlib.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4, STEPS_MAX = 32 };

/* ---- a server: one script for each connection, in order ---- */

struct site {
    int fd;
    uint16_t port;
    size_t accepted;
    struct scope scope;
    struct script scripts[CONNECTIONS_MAX];
    char problem[256];
};

static void site_listen(struct site *site, const char *const *scripts[CONNECTIONS_MAX],
                        struct tls_context *tls)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    *site = (struct site){0};
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        site->scripts[i] = (struct script){.steps = scripts[i], .tls = tls};
    site->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(site->fd >= 0);
    check(bind(site->fd, (struct sockaddr *)&address, sizeof address) == 0);
    check(listen(site->fd, 16) == 0);
    check(getsockname(site->fd, (struct sockaddr *)&address, &length) == 0);
    site->port = ntohs(address.sin_port);
}

static MAY_YIELD void site_run(void *arg)
{
    struct site *site = arg;
    struct watch watch;
    struct error err;
    check(watch_open(&watch, site->fd, &err) == OK);
    for (;;) {
        int fd = accept4(site->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == EAGAIN) {
            if (watch_wait_readable(&watch, &err) != OK)
                break;
            continue;
        }
        check(fd >= 0);
        struct script *script = &site->scripts[site->accepted];
        if (site->accepted == CONNECTIONS_MAX || !script->steps) {
            snprintf(site->problem, sizeof site->problem, "connection %zu was not expected",
                     site->accepted + 1);
            close(fd);
            continue;
        }
        site->accepted++;
        check(stream_open_fd(fd, &script->stream, &err) == OK);
        check(fiber_spawn(fiber_scope(), "script", script_run, script, &err) == OK);
    }
    watch_close(&watch);
    close(site->fd);
}

static bool is_busy(const struct site *site)
{
    for (size_t i = 0; i < site->accepted; i++) {
        if (site->scripts[i].stream)
            return true;
    }
    return false;
}

static const char *site_problem(struct site *site)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (site->scripts[i].problem[0])
            return site->scripts[i].problem;
    }
    return site->problem[0] ? site->problem : NULL;
}

/* ---- questions ---- */

struct answer {
    int outcome;
    struct mail_reply reply;
};

struct run {
    struct site *site;
    struct server server;
    struct arena *arena;
    bool is_login;
    bool second_endpoint; /* the first one refuses connections */
    bool by_name;         /* mail.test, which DNS knows */
    size_t questions;
    struct answer answers[4];
    size_t connections;
    char detail[256];
};

static MAY_YIELD void ask(struct run *run, struct directory *directory)
{
    for (size_t i = 0; i < run->questions; i++) {
        struct directory_answer answer;
        if (run->is_login)
            directory_login_smtp(directory, &run->server, STR("user"), STR("secret"), run->arena,
                                 &answer);
        else
            directory_lookup_smtp(directory, &run->server, STR("b@example.net"), false, run->arena,
                                  &answer);
        run->answers[i].outcome = run->is_login ? (int)answer.login : (int)answer.lookup;
        run->answers[i].reply = answer.reply;
        snprintf(run->detail, sizeof run->detail, "%.*s", STR_ARG(answer.detail));
    }
}

static MAY_YIELD void run_questions(void *arg)
{
    struct run *run = arg;
    struct error err;
    struct scope scope;
    struct server_endpoint endpoints[2] = {
        {.host = STR("127.0.0.1"), .port = 1},
        {.host = STR("127.0.0.1"), .port = run->site->port},
    };
    struct str value = STR("127.0.0.1");
    struct dns_static known = {.name = STR("mail.test"), .values = &value, .count = 1};
    struct dns_settings settings = {.statics = &known, .static_count = 1};
    struct dns *dns = NULL;
    if (run->by_name) {
        check(dns_new(loop_current(), &settings, &dns, &err) == OK);
        endpoints[1].host = STR("mail.test");
    }
    struct directory_shared *shared = directory_shared_new();
    struct directory *directory = directory_new(shared, dns, STR("gw.example"));
    run->server.name = STR("mail");
    run->server.kind = SERVER_SMTP;
    run->server.endpoints = run->second_endpoint ? endpoints : endpoints + 1;
    run->server.endpoint_count = run->second_endpoint ? 2 : 1;
    run->server.timeout_ns = 3 * NS_PER_S;
    scope_open(&scope, TIME_NEVER);
    check(fiber_spawn(&scope, "site", site_run, run->site, &err) == OK);
    ask(run, directory);
    directory_free(directory);
    /* scripts read to their end; then the site has nothing left to do */
    while (run->site->accepted && is_busy(run->site))
        fiber_yield();
    scope_cancel(&scope);
    scope_close(&scope);
    directory_shared_free(shared);
    dns_free(dns);
}

/* `name` is for messages. Fills run->answers. */
static void ask_site(const char *name, struct run *run, const char *const *scripts[CONNECTIONS_MAX],
                     struct tls_context *tls)
{
    struct site site;
    run->site = &site;
    (void)test_loop_open();
    site_listen(&site, scripts, tls);
    run_fibers(run_questions, NULL, run);
    test_loop_close();
    run->connections = site.accepted;
    const char *problem = site_problem(&site);
    if (problem)
        fail_msg("%s: %s (%s)", name, problem, run->detail);
}

/* ---- logins ---- */

#define HELLO(extensions) "S: 220 mx", "C: EHLO gw.example", "S: 250-mx", "S: 250 " extensions
#define AUTH              HELLO("AUTH PLAIN"), "C: AUTH PLAIN AHVzZXIAc2VjcmV0"

static void judges_logins(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *steps[STEPS_MAX];
        enum directory_login expected;
    } cases[] = {
        {"235", {AUTH, "S: 235 2.7.0 ok", "C: QUIT"}, DIRECTORY_YES},
        {"250", {AUTH, "S: 250 ok", "C: QUIT"}, DIRECTORY_LOGIN_ERROR},
        {"535", {AUTH, "S: 535 5.7.8 no", "C: QUIT"}, DIRECTORY_NO},
        {"535 as Exchange says it", {AUTH, "S: 535 5.7.3 no", "C: QUIT"}, DIRECTORY_NO},
        {"535 without a code", {AUTH, "S: 535 no", "C: QUIT"}, DIRECTORY_NO},
        {"525", {AUTH, "S: 525 5.7.13 disabled", "C: QUIT"}, DIRECTORY_NO},
        {"5xx 5.7.8", {AUTH, "S: 550 5.7.8 no", "C: QUIT"}, DIRECTORY_NO},
        {"5xx 5.7.13", {AUTH, "S: 554 5.7.13 no", "C: QUIT"}, DIRECTORY_NO},
        {"454", {AUTH, "S: 454 4.7.0 later", "C: QUIT"}, DIRECTORY_LOGIN_ERROR},
        {"534", {AUTH, "S: 534 5.7.9 too weak", "C: QUIT"}, DIRECTORY_LOGIN_ERROR},
        {"538", {AUTH, "S: 538 5.7.11 TLS please", "C: QUIT"}, DIRECTORY_LOGIN_ERROR},
        {"504", {AUTH, "S: 504 5.5.4 no PLAIN", "C: QUIT"}, DIRECTORY_LOGIN_ERROR},
        {"503", {AUTH, "S: 503 5.5.1 order", "C: QUIT"}, DIRECTORY_LOGIN_ERROR},
        {"554", {AUTH, "S: 554 5.7.1 access denied", "C: QUIT"}, DIRECTORY_LOGIN_ERROR},
        {"421", {AUTH, "S: 421 busy", "X"}, DIRECTORY_LOGIN_ERROR},
        {"closed", {AUTH, "X"}, DIRECTORY_LOGIN_ERROR},
        {"nonsense", {AUTH, "S: yes"}, DIRECTORY_LOGIN_ERROR},
        {"no mechanism", {HELLO("AUTH CRAM-MD5"), "C: QUIT"}, DIRECTORY_LOGIN_ERROR},
        {"no AUTH", {HELLO("SIZE"), "C: QUIT"}, DIRECTORY_LOGIN_ERROR},
        {"535 as the greeting", {"S: 535 5.7.8 go away", "C: QUIT"}, DIRECTORY_LOGIN_ERROR},
        {"535 to EHLO",
         {"S: 220 mx", "C: EHLO gw.example", "S: 535 5.7.8 no", "C: HELO gw.example",
          "S: 535 5.7.8 no", "C: QUIT"},
         DIRECTORY_LOGIN_ERROR},
        {"closed at once", {"X"}, DIRECTORY_LOGIN_ERROR},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const *scripts[CONNECTIONS_MAX] = {cases[i].steps};
        struct run run = {.is_login = true, .questions = 1, .arena = arena_new(0)};
        run.server.tls = SERVER_TLS_NONE;
        run.server.tls_given = true;
        ask_site(cases[i].name, &run, scripts, NULL);
        if (run.answers[0].outcome != (int)cases[i].expected)
            fail_msg("%s: %d, %s", cases[i].name, run.answers[0].outcome, run.detail);
        arena_free(run.arena);
    }
}

static void passwords_go_over_tls_only(void **state)
{
    (void)state;
    static const char *const none_offered[] = {HELLO("AUTH PLAIN"), "C: QUIT", NULL};
    static const char *const starttls_refused[] = {"S: 220 mx",
                                                   "C: EHLO gw.example",
                                                   "S: 250-mx",
                                                   "S: 250-AUTH PLAIN",
                                                   "S: 250 STARTTLS",
                                                   "C: STARTTLS",
                                                   "S: 454 not now",
                                                   "C: QUIT",
                                                   NULL};
    static const char *const injected[] = {"S: 220 mx",
                                           "C: EHLO gw.example",
                                           "S: 250-mx",
                                           "S: 250-AUTH PLAIN",
                                           "S: 250 STARTTLS",
                                           "C: STARTTLS",
                                           "S: 220 go\r\n250 AUTH PLAIN",
                                           "X",
                                           NULL};
    static const struct {
        const char *name;
        enum server_tls tls;
        bool given;
        const char *const *steps;
    } cases[] = {
        {"opportunistic by default, none offered", SERVER_TLS_OPPORTUNISTIC, false, none_offered},
        {"opportunistic, none offered", SERVER_TLS_OPPORTUNISTIC, true, none_offered},
        {"none, but not written out", SERVER_TLS_NONE, false, none_offered},
        {"required, none offered", SERVER_TLS_REQUIRED, true, none_offered},
        {"verified, none offered", SERVER_TLS_VERIFIED, true, none_offered},
        {"opportunistic, refused", SERVER_TLS_OPPORTUNISTIC, false, starttls_refused},
        {"required, refused", SERVER_TLS_REQUIRED, true, starttls_refused},
        {"opportunistic, injected", SERVER_TLS_OPPORTUNISTIC, false, injected},
    };
    struct tls_client_settings settings = {.min_version = 12};
    struct tls_context *context;
    struct error err;
    check(tls_client_new(&settings, &context, &err) == OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const *scripts[CONNECTIONS_MAX] = {cases[i].steps};
        struct run run = {.is_login = true, .questions = 1, .arena = arena_new(0)};
        run.server.tls = (int)cases[i].tls;
        run.server.tls_given = cases[i].given;
        run.server.tls_context = cases[i].tls == SERVER_TLS_NONE ? NULL : context;
        ask_site(cases[i].name, &run, scripts, NULL);
        if (run.answers[0].outcome != DIRECTORY_LOGIN_ERROR)
            fail_msg("%s: %d, %s", cases[i].name, run.answers[0].outcome, run.detail);
        arena_free(run.arena);
    }
    tls_context_unref(context);
}

static void logs_in_under_tls(void **state)
{
    (void)state;
    static const char *const steps[] = {"S: 220 mx",
                                        "C: EHLO gw.example",
                                        "S: 250-mx",
                                        "S: 250-AUTH CRAM-MD5",
                                        "S: 250 STARTTLS",
                                        "C: STARTTLS",
                                        "S: 220 go",
                                        "T",
                                        "C: EHLO gw.example",
                                        "S: 250-mx",
                                        "S: 250 AUTH PLAIN",
                                        "C: AUTH PLAIN AHVzZXIAc2VjcmV0",
                                        "S: 235 ok",
                                        "C: QUIT",
                                        NULL};
    static const struct {
        const char *name;
        const char *names; /* of the certificate */
        enum server_tls tls;
        enum directory_login expected;
    } cases[] = {
        {"opportunistic", "DNS:other.test", SERVER_TLS_OPPORTUNISTIC, DIRECTORY_YES},
        {"required", "DNS:other.test", SERVER_TLS_REQUIRED, DIRECTORY_YES},
        {"verified", "IP:127.0.0.1", SERVER_TLS_VERIFIED, DIRECTORY_YES},
        {"verified, another name", "DNS:other.test", SERVER_TLS_VERIFIED, DIRECTORY_LOGIN_ERROR},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct test_certificate files;
        struct error err;
        struct tls_context *client, *server;
        const char *const *scripts[CONNECTIONS_MAX] = {steps};
        make_certificate("mx", cases[i].names, TEST_KEY_EC, 30, &files);
        struct tls_certificate_files certificate = {STR("mx"), str_c(files.cert_path),
                                                    str_c(files.key_path)};
        struct tls_server_settings server_settings = {&certificate, 1, 12, STR_EMPTY};
        struct tls_client_settings client_settings = {
            .verify = cases[i].tls == SERVER_TLS_VERIFIED,
            .ca_path = str_c(files.cert_path),
            .min_version = 12,
        };
        check(tls_server_new(&server_settings, &server, &err) == OK);
        check(tls_client_new(&client_settings, &client, &err) == OK);
        struct run run = {.is_login = true, .questions = 1, .arena = arena_new(0)};
        struct site site;
        run.server.tls = (int)cases[i].tls;
        run.server.tls_context = client;
        run.site = &site;
        test_loop_open();
        site_listen(&site, scripts, server);
        run_fibers(run_questions, NULL, &run);
        test_loop_close();
        if (run.answers[0].outcome != (int)cases[i].expected)
            fail_msg("%s: %d, %s", cases[i].name, run.answers[0].outcome, run.detail);
        if (cases[i].expected == DIRECTORY_YES && site_problem(&site))
            fail_msg("%s: %s", cases[i].name, site_problem(&site));
        tls_context_unref(client);
        tls_context_unref(server);
        arena_free(run.arena);
    }
}

static void tries_the_next_endpoint_before_auth_only(void **state)
{
    (void)state;
    static const char *const yes[] = {AUTH, "S: 235 ok", "C: QUIT", NULL};
    static const char *const *scripts[CONNECTIONS_MAX] = {yes};
    struct run run = {
        .is_login = true, .questions = 1, .second_endpoint = true, .arena = arena_new(0)};
    run.server.tls_given = true;
    ask_site("first endpoint down", &run, scripts, NULL);
    assert_int_equal(run.answers[0].outcome, DIRECTORY_YES);
    arena_free(run.arena);
}

/* ---- lookups ---- */

#define MX            HELLO("PIPELINING")
#define QUESTION      "C: MAIL FROM:<>", "C: RCPT TO:<b@example.net>", "C: RSET"
#define REPLIES(rcpt) "S: 250 ok", "S: " rcpt, "S: 250 reset"

static void judges_lookups(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *steps[STEPS_MAX];
        enum directory_lookup expected;
    } cases[] = {
        {"250", {MX, QUESTION, REPLIES("250 ok"), "C: QUIT"}, DIRECTORY_FOUND},
        {"251", {MX, QUESTION, REPLIES("251 forward"), "C: QUIT"}, DIRECTORY_FOUND},
        {"252", {MX, QUESTION, REPLIES("252 perhaps"), "C: QUIT"}, DIRECTORY_FOUND},
        {"550 5.1.1", {MX, QUESTION, REPLIES("550 5.1.1 no"), "C: QUIT"}, DIRECTORY_MISSING},
        {"550 5.1.10", {MX, QUESTION, REPLIES("550 5.1.10 no"), "C: QUIT"}, DIRECTORY_MISSING},
        {"554 5.1.1", {MX, QUESTION, REPLIES("554 5.1.1 no"), "C: QUIT"}, DIRECTORY_MISSING},
        {"550 5.4.1", {MX, QUESTION, REPLIES("550 5.4.1 no"), "C: QUIT"}, DIRECTORY_MISSING},
        {"550", {MX, QUESTION, REPLIES("550 no"), "C: QUIT"}, DIRECTORY_MISSING},
        {"551", {MX, QUESTION, REPLIES("551 moved"), "C: QUIT"}, DIRECTORY_MISSING},
        {"553", {MX, QUESTION, REPLIES("553 name"), "C: QUIT"}, DIRECTORY_MISSING},
        {"550 5.7.1", {MX, QUESTION, REPLIES("550 5.7.1 relaying"), "C: QUIT"}, DIRECTORY_DENIED},
        {"550 5.2.1", {MX, QUESTION, REPLIES("550 5.2.1 disabled"), "C: QUIT"}, DIRECTORY_DENIED},
        {"554", {MX, QUESTION, REPLIES("554 access"), "C: QUIT"}, DIRECTORY_DENIED},
        {"554 5.7.1", {MX, QUESTION, REPLIES("554 5.7.1 access"), "C: QUIT"}, DIRECTORY_DENIED},
        {"530", {MX, QUESTION, REPLIES("530 5.7.0 login"), "C: QUIT"}, DIRECTORY_DENIED},
        {"503", {MX, QUESTION, REPLIES("503 5.5.1 order"), "C: QUIT"}, DIRECTORY_DENIED},
        {"521", {MX, QUESTION, REPLIES("521 no mail"), "C: QUIT"}, DIRECTORY_DENIED},
        {"501", {MX, QUESTION, REPLIES("501 syntax"), "C: QUIT"}, DIRECTORY_DENIED},
        {"552", {MX, QUESTION, REPLIES("552 5.2.2 full"), "C: QUIT"}, DIRECTORY_ERROR},
        {"450", {MX, QUESTION, REPLIES("450 4.2.0 grey"), "C: QUIT"}, DIRECTORY_ERROR},
        {"451 4.1.1", {MX, QUESTION, REPLIES("451 4.1.1 later"), "C: QUIT"}, DIRECTORY_ERROR},
        {"MAIL refused",
         {MX, QUESTION, "S: 550 5.1.1 no", "S: 503 MAIL first", "S: 250 reset", "C: QUIT"},
         DIRECTORY_ERROR},
        {"MAIL refused for now",
         {MX, QUESTION, "S: 451 later", "S: 503 MAIL first", "S: 250 reset", "C: QUIT"},
         DIRECTORY_ERROR},
        {"5xx as the greeting", {"S: 554 5.1.1 no mail here", "C: QUIT"}, DIRECTORY_ERROR},
        {"5xx to EHLO and HELO",
         {"S: 220 mx", "C: EHLO gw.example", "S: 550 5.1.1 no", "C: HELO gw.example",
          "S: 550 5.1.1 no", "C: QUIT"},
         DIRECTORY_ERROR},
        {"one by one",
         {HELLO("SIZE"), "C: MAIL FROM:<>", "S: 250 ok", "C: RCPT TO:<b@example.net>",
          "S: 550 5.1.1 no", "C: RSET", "S: 250 reset", "C: QUIT"},
         DIRECTORY_MISSING},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const *scripts[CONNECTIONS_MAX] = {cases[i].steps};
        struct run run = {.questions = 1, .arena = arena_new(0)};
        ask_site(cases[i].name, &run, scripts, NULL);
        if (run.answers[0].outcome != (int)cases[i].expected)
            fail_msg("%s: %d, %s", cases[i].name, run.answers[0].outcome, run.detail);
        arena_free(run.arena);
    }
}

static void keeps_and_replaces_connections(void **state)
{
    (void)state;
    static const char *const three[] = {
        MX,       QUESTION,          REPLIES("250 ok"), QUESTION, REPLIES("550 no"),
        QUESTION, REPLIES("250 ok"), "C: QUIT",         NULL};
    static const char *const one_then_closed[] = {MX, QUESTION, REPLIES("250 ok"), "X", NULL};
    static const char *const one_then_421[] = {
        MX, QUESTION, REPLIES("250 ok"), QUESTION, "S: 421 idle too long", "X", NULL};
    static const char *const one_then_no_mail[] = {
        MX,          QUESTION,       REPLIES("250 ok"), QUESTION, "S: 452 too many mails",
        "S: 503 no", "S: 250 reset", "C: QUIT",         NULL};
    static const char *const two[] = {
        MX, QUESTION, REPLIES("250 ok"), QUESTION, REPLIES("250 ok"), "C: QUIT", NULL};
    static const char *const always_421[] = {MX, QUESTION, "S: 421 busy", "X", NULL};
    static const struct {
        const char *name;
        const char *const *scripts[CONNECTIONS_MAX];
        size_t questions;
        int expected[4];
        size_t connections;
    } cases[] = {
        {"kept", {three}, 3, {DIRECTORY_FOUND, DIRECTORY_MISSING, DIRECTORY_FOUND}, 1},
        {"closed meanwhile",
         {one_then_closed, two},
         3,
         {DIRECTORY_FOUND, DIRECTORY_FOUND, DIRECTORY_FOUND},
         2},
        {"421 on the kept one",
         {one_then_421, two},
         3,
         {DIRECTORY_FOUND, DIRECTORY_FOUND, DIRECTORY_FOUND},
         2},
        {"MAIL refused on the kept one",
         {one_then_no_mail, two},
         3,
         {DIRECTORY_FOUND, DIRECTORY_FOUND, DIRECTORY_FOUND},
         2},
        {"421 twice", {always_421, always_421}, 1, {DIRECTORY_ERROR}, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run run = {.questions = cases[i].questions, .arena = arena_new(0)};
        const char *const *scripts[CONNECTIONS_MAX];
        memcpy(scripts, cases[i].scripts, sizeof scripts);
        ask_site(cases[i].name, &run, scripts, NULL);
        for (size_t k = 0; k < cases[i].questions; k++) {
            if (run.answers[k].outcome != cases[i].expected[k])
                fail_msg("%s, question %zu: %d, %s", cases[i].name, k + 1, run.answers[k].outcome,
                         run.detail);
        }
        assert_int_equal(run.connections, cases[i].connections);
        arena_free(run.arena);
    }
}

static void finds_servers_by_name(void **state)
{
    (void)state;
    static const char *const steps[] = {MX, QUESTION, REPLIES("250 ok"), "C: QUIT", NULL};
    const char *const *scripts[CONNECTIONS_MAX] = {steps};
    struct run run = {.questions = 1, .by_name = true, .arena = arena_new(0)};
    ask_site("by name", &run, scripts, NULL);
    assert_int_equal(run.answers[0].outcome, DIRECTORY_FOUND);
    arena_free(run.arena);
}

/* ---- events ---- */

static size_t seen[EVENT_TYPE_COUNT];

static void count_event(const struct event *event, void *arg)
{
    (void)arg;
    seen[event->type]++;
}

static void tells_who_is_down_and_who_denies(void **state)
{
    (void)state;
    static const char *const denies[] = {MX,
                                         QUESTION,
                                         REPLIES("554 5.7.1 access denied"),
                                         QUESTION,
                                         REPLIES("554 5.7.1 access denied"),
                                         "C: QUIT",
                                         NULL};
    static const char *const fails[] = {"X", NULL};
    static const char *const works[] = {MX, QUESTION, REPLIES("250 ok"), "C: QUIT", NULL};
    const char *const *denying[CONNECTIONS_MAX] = {denies};
    const char *const *recovering[CONNECTIONS_MAX] = {fails, fails, works};
    struct run run = {.questions = 2, .arena = arena_new(0)};
    (void)event_drain(count_event, NULL);
    memset(seen, 0, sizeof seen);
    ask_site("denies", &run, denying, NULL);
    (void)event_drain(count_event, NULL);
    assert_int_equal(seen[EVENT_BACKEND_DENIED], 1); /* not one for every address asked */
    assert_int_equal(seen[EVENT_BACKEND_DOWN], 0);
    run.questions = 3;
    ask_site("recovers", &run, recovering, NULL);
    (void)event_drain(count_event, NULL);
    assert_int_equal(seen[EVENT_BACKEND_DOWN], 1);
    assert_int_equal(seen[EVENT_BACKEND_UP], 1);
    arena_free(run.arena);
}

static void passes_the_servers_words_on(void **state)
{
    (void)state;
    static const char *const steps[] = {
        MX, QUESTION, REPLIES("550-5.1.1 No such\r\n550 5.1.1 user"), "C: QUIT", NULL};
    const char *const *scripts[CONNECTIONS_MAX] = {steps};
    struct run run = {.questions = 1, .arena = arena_new(0)};
    ask_site("text", &run, scripts, NULL);
    assert_int_equal(run.answers[0].reply.code, 550);
    assert_int_equal(run.answers[0].reply.enhanced.subject, 1);
    assert_str(run.answers[0].reply.text, "No such\nuser");
    arena_free(run.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges_logins),
        cmocka_unit_test(passwords_go_over_tls_only),
        cmocka_unit_test(logs_in_under_tls),
        cmocka_unit_test(tries_the_next_endpoint_before_auth_only),
        cmocka_unit_test(judges_lookups),
        cmocka_unit_test(keeps_and_replaces_connections),
        cmocka_unit_test(finds_servers_by_name),
        cmocka_unit_test(tells_who_is_down_and_who_denies),
        cmocka_unit_test(passes_the_servers_words_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
