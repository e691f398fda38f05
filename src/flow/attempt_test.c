/* SPDX-License-Identifier: Apache-2.0 */
/* flow/attempt_test.c - scripts around an attempt: what they see, and what they may say. */
#include "flow/run_bench.h"

#include "flow/attempt.h"

#include <unistd.h>

static char folder[] = "/tmp/flow-attempt-XXXXXX";

static const struct flow_attempt_recipient recipients[2] = {
    {.address = {"ann@example.org", 15},
     .reply = {.code = 550, .enhanced = {5, 2, 2}, .text = {"mailbox full", 12}},
     .host = {"mx.example.org", 14},
     .outcome = "failed"},
    {.address = {"bob@example.org", 15},
     .reply = {.text = {"", 0}},
     .host = {"", 0},
     .outcome = "delivered"},
};

static struct str write_script(struct arena *arena, const char *body)
{
    struct str path = arena_printf(arena, "%s/s.lua", folder);
    FILE *file = fopen(path.ptr, "w");
    check(file && fprintf(file, "function f(mail)\n%s\nend\n", body) > 0);
    fclose(file);
    return path;
}

static const struct flow_attempt_script *compile(struct bench *bench, const char *body,
                                                 struct str *server)
{
    static struct config_place place;
    struct flow_attempt_options options = {
        .transport = STR("out"),
        .file = write_script(bench->fixture.arena, body),
        .before = STR("f"),
        .after = STR("f"),
        .servers = {.items = server, .places = &place, .count = 1},
        .memory = 8 << 20,
        .work = 100000,
        .time_ns = NS_PER_S,
    };
    return flow_attempt_compile(&bench->fixture.context, &options);
}

static const struct attempt_case {
    const char *name;
    bool after;
    const char *body;
    const char *expected; /* "kind|reply|delay in s|server|detail" */
} cases[] = {
    {"nothing", false, "", "next||0||"},
    {"next with a delay", true, "return 'next', { delay = '30m' }", "next||1800||"},
    {"defer", false, "return 'defer'", "defer||0||"},
    {"defer in words", false, "return 'defer', 'Later'", "defer|451 4.7.1 Later|0||Later"},
    {"defer with a reply", false, "return 'defer', { reply = '450 4.3.2 No', delay = '1h' }",
     "defer|450 4.3.2 No|3600||"},
    {"reject", true, "return 'reject', '550 5.1.1 No'", "reject|550 5.1.1 No|0||550 5.1.1 No"},
    {"hold", true, "return 'hold', 'why'", "hold||0||why"},
    {"route", false, "return 'route', 'mail'", "route||0|mail|mail"},
    {"route in a table", false, "return 'route', { server = 'mail' }", "route||0|mail|"},
    {"route elsewhere", false, "return 'route', 'plain'",
     "fault|/F: \"plain\" is not among the script's servers"},
    {"route nowhere", false, "return 'route'", "fault|/F: \"\" is not among the script's servers"},
    {"route after", true, "return 'route', 'mail'",
     "fault|/F: the function returned \"route\", and not one of next, defer, reject, hold"},
    {"another word", false, "return 'accept'",
     "fault|/F: the function returned \"accept\", and not one of next, defer, reject, hold, route"},
    {"a number", false, "return 1",
     "fault|/F: the function returned \"no text\", and not one of next, defer, reject, hold, "
     "route"},
    {"a wrong reply", false, "return 'defer', '550 No'",
     "fault|/F: \"550 No\" is no reply that defer can give"},
    {"a wrong delay", false, "return 'defer', { delay = 'soon' }",
     "fault|/F: delay: a time such as \"30m\", of 1s to 30d"},
    {"a delay too long", false, "return 'defer', { delay = '31d' }",
     "fault|/F: delay: a time such as \"30m\", of 1s to 30d"},
    {"an error", false, "error('oops', 0)", "fault|oops; called: s.lua:2: in function 'f'"},
    {"facts", false,
     "return 'hold', mail.transport .. ' ' .. mail.destination .. ' ' .. mail.attempt .. ' ' .. "
     "mail.age .. ' ' .. mail.size .. ' ' .. mail.sender .. ' ' .. mail.sender_domain .. ' ' .. "
     "table.concat(mail.recipients, '+')",
     "hold||0||out example.org 3 90 1000 a@example.net example.net "
     "ann@example.org+bob@example.org"},
    {"replies", true,
     "local r = mail.replies return 'hold', #r .. r[1].recipient .. r[1].outcome .. r[1].code .. "
     "r[1].text .. r[1].host .. r[2].outcome .. mail.host",
     "hold||0||2ann@example.orgfailed550550 5.2.2 mailbox fullmx.example.orgdeliveredlast"},
    {"what is not here", false, "return mail.user", "fault|s.lua:2: mail.user does not exist here"},
    {"nor this", false, "return mail.host", "fault|s.lua:2: mail.host does not exist here"},
    {"no changes", false, "mail:add_header('a', 'b')",
     "fault|s.lua:2: mail.add_header does not exist here"},
    {"questions", false,
     "return 'hold', postern.lookup('mail', 'x@example.org') .. tostring(postern.count('k', 1, "
     "'1h'))",
     "hold||0||foundtrue"},
};

static struct str in_words(struct arena *arena, const struct flow_attempt_said *said)
{
    static const char *const kinds[] = {"next", "defer", "reject", "hold", "route"};
    ptrdiff_t at = str_find_str(said->detail, str_c(folder));
    struct str detail =
        at < 0 ? said->detail
               : arena_printf(arena, "/F%.*s",
                              STR_ARG(str_from(said->detail, (size_t)at + strlen(folder) + 6)));
    if (said->fault)
        return arena_printf(arena, "fault|%.*s", STR_ARG(detail));
    struct str reply = said->reply.code ? mail_reply_text(arena, &said->reply) : STR_EMPTY;
    struct str server = said->server ? said->server->name : STR_EMPTY;
    return arena_printf(arena, "%s|%.*s|%lld|%.*s|%.*s", kinds[said->kind], STR_ARG(reply),
                        (long long)(said->delay_ns / NS_PER_S), STR_ARG(server), STR_ARG(detail));
}

NO_YIELD_CHECK static void attempts_are_as_said(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct attempt_case *one = &cases[i];
        struct bench bench;
        struct str server = STR("mail");
        bench_open(&bench, FLOW_CONTENT, "[ deliver ]");
        const struct flow_attempt_script *script = compile(&bench, one->body, &server);
        if (!script) {
            flow_fixture_print(&bench.fixture);
            fail_msg("%s", one->name);
        }
        struct flow_attempt attempt = {
            .after = one->after,
            .sender = STR("a@example.net"),
            .recipients = recipients,
            .recipient_count = 2,
            .transport = STR("out"),
            .destination = STR("example.org"),
            .host = STR("last"),
            .number = 3,
            .age_ns = 90 * NS_PER_S,
            .size = 1000,
        };
        struct flow_attempt_said said;
        flow_attempt_run(script, &bench.run, &attempt, &said);
        struct str got = in_words(bench.arena, &said);
        if (!str_starts(got, str_c(one->expected)) ||
            (!said.fault && !str_equal(got, str_c(one->expected))))
            fail_msg("%s: \"%.*s\"", one->name, STR_ARG(got));
        bench_close(&bench);
    }
}

/* A server of another kind, and functions that are not there. */
static void wrong_ones_are_told(void **state)
{
    struct bench bench;
    struct str server = STR("directory");
    (void)state;
    bench_open(&bench, FLOW_CONTENT, "[ deliver ]");
    (void)compile(&bench, "", &server);
    assert_int_equal(bench.fixture.report.errors, 1);
    assert_str(bench.fixture.report.problems[0].code, "wrong-server");
    (void)compile(&bench, "end function g()", &server);
    assert_int_equal(bench.fixture.report.errors, 2);
    bench_close(&bench);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[200];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attempts_are_as_said),
        cmocka_unit_test(wrong_ones_are_told),
    };
    return cmocka_run_group_tests_name("flow-attempt", tests, make_folder, remove_folder);
}
