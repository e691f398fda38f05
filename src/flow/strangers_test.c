/* SPDX-License-Identifier: Apache-2.0 */
/* flow/strangers_test.c - blocks that judge strangers: block lists and greylisting. */
#include "flow/run_bench.h"

#include "content/suite_zone_test.h"
#include "flow/checks.h"

static struct zone_record records[] = {
    ZONE_ROW("9.7.6.5.one.example", "A", "127.0.0.2"),
    ZONE_ROW("9.7.6.5.one.example", "TXT", "see https://one.example/9"),
    ZONE_ROW("9.7.6.5.two.example", "A", "127.0.0.11"),
    ZONE_ROW("9.7.6.5.odd.example", "A", "192.0.2.1"),
    ZONE_ROW("9.7.6.5.full.example", "A", "127.255.255.254"),
    ZONE_ROW("9.7.6.5.test.example", "A", "127.0.0.1"),
    ZONE_ROW("9.7.6.5.slow.example", "TIMEOUT", ""),
    ZONE_ROW("9.7.6.5.bad.example", "A", "127.0.0.2"),
    ZONE_ROW("9.7.6.5.bad.example", "TXT", "x\r\n250 ok"),
    ZONE_ROW("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.a.2.one.example", "A",
             "127.0.0.3"),
    ZONE_ROW("example.net.dom.example", "A", "127.0.1.2"),
    ZONE_ROW("helo.example.dom.example", "A", "127.0.1.2"),
};

struct scene {
    struct bench bench;
    struct zone zone;
    struct resolver resolver;
    struct flow_checks checks;
};

static void open_scene(struct scene *scene, const char *steps, const char *client)
{
    *scene = (struct scene){.zone = {records, sizeof records / sizeof *records, 0}};
    scene->resolver = zone_resolver(&scene->zone);
    bench_open(&scene->bench, FLOW_RECIPIENT, steps);
    scene->bench.run.resolver = &scene->resolver;
    scene->bench.facts.checks = &scene->checks;
    scene->bench.facts.helo = STR("helo.example");
    check(net_ip_parse(str_c(client), &scene->bench.facts.client));
}

/* ---- block lists ---- */

struct list_case {
    const char *name;
    const char *step; /* dnsbl: … */
    const char *client;
    const char *recipient;
    const char *outcome;
    const char *reply;
};

static const struct list_case lists[] = {
    {"listed, with its words", "one.example", "5.6.7.9", "", "listed",
     "554 5.7.1 5.6.7.9 is listed by one.example; see https://one.example/9"},
    {"listed, without words", "two.example", "5.6.7.9", "", "listed",
     "554 5.7.1 5.6.7.9 is listed by two.example"},
    {"words that could end the reply", "bad.example", "5.6.7.9", "", "listed",
     "554 5.7.1 5.6.7.9 is listed by bad.example"},
    {"IPv6", "one.example", "2a01:db8::1", "", "listed",
     "554 5.7.1 2a01:db8::1 is listed by one.example"},
    {"another client", "one.example", "5.6.7.10", "", "clean", ""},
    {"no loopback address", "odd.example", "5.6.7.9", "", "clean", ""},
    {"the list says that it does not answer", "full.example", "5.6.7.9", "", "clean", ""},
    {"127.0.0.1", "test.example", "5.6.7.9", "", "clean", ""},
    {"a code that does not count", "\"two.example=2,4-10\"", "5.6.7.9", "", "clean", ""},
    {"a code that counts", "\"two.example=2,4-11\"", "5.6.7.9", "", "listed",
     "554 5.7.1 5.6.7.9 is listed by two.example"},
    {"private", "one.example", "10.0.0.1", "", "clean", ""},
    {"postmaster", "one.example", "5.6.7.9", "postmaster@example.org", "clean", ""},
    {"one of two", "{ lists: [ one.example, none.example ], at_least: 2 }", "5.6.7.9", "", "clean",
     ""},
    {"two of three", "{ lists: [ none.example, two.example, one.example ], at_least: 2 }",
     "5.6.7.9", "", "listed", "554 5.7.1 5.6.7.9 is listed by two.example"},
    {"no answer", "slow.example", "5.6.7.9", "", "error", ""},
    {"no answer, but enough", "[ slow.example, two.example ]", "5.6.7.9", "", "listed",
     "554 5.7.1 5.6.7.9 is listed by two.example"},
    {"no answer that could be enough", "{ lists: [ slow.example, none.example ], at_least: 2 }",
     "5.6.7.9", "", "clean", ""},
    {"the sender's domain", "{ lists: dom.example, about: sender }", "5.6.7.9", "", "listed",
     "554 5.7.1 example.net is listed by dom.example"},
    {"the HELO name", "{ lists: dom.example, about: helo }", "5.6.7.9", "", "listed",
     "554 5.7.1 helo.example is listed by dom.example"},
    {"a client without a name", "{ lists: dom.example, about: client-name }", "5.6.7.9", "",
     "clean", ""},
};

static void test_lists(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const struct list_case *one = &lists[i];
        struct scene scene;
        char steps[300];
        bool map = one->step[0] == '{';
        snprintf(steps, sizeof steps,
                 "[ dnsbl: { %s%.*s%s, error: { defer: \"451 4.7.1 no answer\" } "
                 "}, accept ]",
                 map ? "" : "lists: ", (int)strlen(one->step) - (map ? 2 : 0), one->step + map, "");
        open_scene(&scene, steps, one->client);
        if (one->recipient[0])
            scene.bench.facts.recipient = str_c(one->recipient);
        look_up(&scene.bench);
        const struct flow_verdict *verdict = &scene.bench.verdict;
        const char *outcome = verdict->kind == FLOW_REJECT  ? "listed"
                              : verdict->kind == FLOW_DEFER ? "error"
                                                            : "clean";
        struct str reply = verdict->kind == FLOW_REJECT
                               ? mail_reply_text(scene.bench.arena, &verdict->reply)
                               : STR_EMPTY;
        if (strcmp(outcome, one->outcome) != 0 || !str_equal(reply, str_c(one->reply)))
            fail_msg("%s: %s, \"%.*s\"", one->name, outcome, STR_ARG(reply));
        if (verdict->kind == FLOW_REJECT)
            assert_int_equal(verdict->reason, MAIL_REASON_DNSBL);
        bench_close(&scene.bench);
    }
}

/* ---- greylisting ---- */

#define GREY "[ greylist: { delay: 5m, retry: 4h, keep: 10d, trust_after: 2 }, accept ]"

static enum flow_verdict_kind come(struct scene *scene, const char *client, const char *recipient)
{
    check(net_ip_parse(str_c(client), &scene->bench.facts.client));
    scene->bench.facts.recipient = str_c(recipient);
    look_up(&scene->bench);
    return scene->bench.verdict.kind;
}

static void test_greylist(void **unused)
{
    (void)unused;
    struct scene scene;
    open_scene(&scene, GREY, "5.6.7.9");
    struct bench *bench = &scene.bench;
    assert_int_equal(come(&scene, "5.6.7.9", "ann@example.org"), FLOW_DEFER);
    assert_int_equal(bench->verdict.reason, MAIL_REASON_GREYLIST);
    bench_wait(bench, 60);
    assert_int_equal(come(&scene, "5.6.7.9", "ann@example.org"), FLOW_DEFER); /* too soon */
    bench_wait(bench, 300);
    assert_int_equal(come(&scene, "5.6.8.9", "ann@example.org"), FLOW_DEFER);   /* another net */
    assert_int_equal(come(&scene, "5.6.7.77", "ann@example.org"), FLOW_ACCEPT); /* same net */
    assert_int_equal(come(&scene, "5.6.7.9", "ann@example.org"), FLOW_ACCEPT);
    assert_int_equal(come(&scene, "5.6.7.9", "bob@example.org"), FLOW_DEFER);
    bench_wait(bench, 301);
    assert_int_equal(come(&scene, "5.6.7.9", "bob@example.org"), FLOW_ACCEPT);
    /* came back twice: known for everybody */
    assert_int_equal(come(&scene, "5.6.7.9", "carl@example.org"), FLOW_ACCEPT);
    bench_wait(bench, 11 * 86400);
    assert_int_equal(come(&scene, "5.6.7.9", "ann@example.org"), FLOW_DEFER); /* forgotten */
    bench_wait(bench, 5 * 3600);
    assert_int_equal(come(&scene, "5.6.7.9", "ann@example.org"), FLOW_DEFER); /* too late */
    bench_close(bench);
}

static void test_greylist_knows_its_own(void **unused)
{
    (void)unused;
    struct scene scene;
    open_scene(&scene, GREY, "5.6.7.9");
    assert_int_equal(come(&scene, "5.6.7.9", "postmaster@example.org"), FLOW_ACCEPT);
    scene.bench.facts.trusted = true;
    assert_int_equal(come(&scene, "5.6.7.9", "ann@example.org"), FLOW_ACCEPT);
    scene.bench.facts.trusted = false;
    scene.bench.facts.authenticated = true;
    assert_int_equal(come(&scene, "5.6.7.9", "ann@example.org"), FLOW_ACCEPT);
    bench_close(&scene.bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_greylist),
        cmocka_unit_test(test_greylist_knows_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
