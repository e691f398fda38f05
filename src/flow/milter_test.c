/* SPDX-License-Identifier: Apache-2.0 */
/* flow/milter_test.c - fields changed by place, and what becomes of what a milter wants. */
#include "flow/run_bench.h"

#include "flow/milter_changes.h"

/* ---- a running flow with a message ---- */

struct scene {
    struct bench bench;
    struct flow_verdict verdict;
    struct flow_running running;
};

#define TRACE "Authentication-Results: us; none\r\nReceived: by us\r\n"
#define OWN   "Received: from far\r\nSubject: one\r\nTo: x\r\nSubject: two\r\n\r\n"

static bool is_taken(const void *context, struct str domain)
{
    (void)context;
    return !str_equal(domain, STR("nowhere.example"));
}

static bool is_listed(const void *context, struct str domain)
{
    (void)context;
    return str_equal(domain, STR("example.org"));
}

static bool read_recipient(struct str text, struct arena *arena, struct mail_recipient *out)
{
    (void)arena;
    out->notify = MAIL_NOTIFY_NEVER;
    return str_equal(text, STR("NOTIFY=NEVER"));
}

static const struct flow_ways ways = {
    .is_taken = is_taken, .is_listed = is_listed, .read_recipient_parameters = read_recipient};
static const struct mail_recipient two[2] = {
    {.address = {"Ann@example.org", 15}, .domain = {"example.org", 11}},
    {.address = {"bob@example.com", 15}, .domain = {"example.com", 11}},
};

static NO_YIELD_CHECK void open_scene(struct scene *scene, const char *trace, const char *own)
{
    struct error err;
    bench_open(&scene->bench, FLOW_CONTENT, "[ deliver ]");
    struct body *body = body_memory_new(10000);
    check(body_append(body, str_c(own), &err) == OK &&
          body_append(body, STR("text\r\n"), &err) == OK);
    check(body_seal(body, &err) == OK);
    scene->bench.content = (struct mail_content){.head = str_c(trace), .body = body};
    scene->bench.facts.header = arena_printf(scene->bench.arena, "%s%s", trace, own);
    scene->bench.facts.recipients = two;
    scene->bench.facts.recipient_count = 2;
    scene->bench.run.ways = &ways;
    scene->running = (struct flow_running){.flow = scene->bench.flow,
                                           .run = &scene->bench.run,
                                           .facts = scene->bench.facts,
                                           .verdict = &scene->verdict};
    scene->verdict = (struct flow_verdict){0};
}

static void close_scene(struct scene *scene)
{
    struct body *body = scene->bench.content.body;
    bench_close(&scene->bench);
    body_unref(body);
}

/* ---- fields ---- */

struct edit_case {
    const char *name;
    char deed; /* i, a, m, r: insert, add, change, remove */
    uint32_t place;
    const char *field, *value;
    bool has_blank;
    const char *head; /* NULL: refused */
};

static const struct edit_case edits[] = {
    {"on top", 'i', 0, "X", "1", false, TRACE "X: 1\r\n" OWN},
    {"before the first", 'i', 1, "X", "1", false, TRACE "X: 1\r\n" OWN},
    {"not above the trace", 'i', 2, "X", "1", false, TRACE "X: 1\r\n" OWN},
    {"before the third that is shown", 'i', 3, "X", "1", false,
     TRACE "Received: from far\r\nX: 1\r\nSubject: one\r\nTo: x\r\nSubject: two\r\n\r\n"},
    {"far down", 'i', 99, "X", "1", false,
     TRACE "Received: from far\r\nSubject: one\r\nTo: x\r\nSubject: two\r\nX: 1\r\n\r\n"},
    {"at the end", 'a', 0, "X", "1", false,
     TRACE "Received: from far\r\nSubject: one\r\nTo: x\r\nSubject: two\r\nX: 1\r\n\r\n"},
    {"the second of a name", 'm', 2, "SUBJECT", "new", false,
     TRACE "Received: from far\r\nSubject: one\r\nTo: x\r\nSUBJECT: new\r\n\r\n"},
    {"0 is the first", 'm', 0, "Subject", "new", true,
     TRACE "Received: from far\r\nSubject:new\r\nTo: x\r\nSubject: two\r\n\r\n"},
    {"taken out", 'm', 1, "Subject", "", false,
     TRACE "Received: from far\r\nTo: x\r\nSubject: two\r\n\r\n"},
    {"our own Received does not count", 'm', 1, "Received", "", false,
     TRACE "Subject: one\r\nTo: x\r\nSubject: two\r\n\r\n"},
    {"not there, to be taken out", 'm', 3, "Subject", "", false, TRACE OWN},
    {"not there, to be changed", 'm', 3, "Subject", "new", false,
     TRACE "Received: from far\r\nSubject: one\r\nTo: x\r\nSubject: two\r\nSubject: new\r\n\r\n"},
    {"a trace field of ours that is shown", 'm', 1, "Authentication-Results", "", false,
     "Received: by us\r\n" OWN},
    {"all of a name", 'r', 0, "subject", "", false, TRACE "Received: from far\r\nTo: x\r\n\r\n"},
    {"all of a name but in the trace", 'r', 0, "received", "", false,
     TRACE "Subject: one\r\nTo: x\r\nSubject: two\r\n\r\n"},
    {"folds", 'i', 0, "X", "a\n\tb\r\n c\nBcc: d\n\n \n\r\n", false,
     TRACE "X: a\r\n\tb\r\n c\r\n Bcc: d\r\n" OWN},
    {"control characters", 'i', 0, "X",
     "a\rb\x01"
     "c\x7f",
     false, TRACE "X: a?b?c?\r\n" OWN},
    {"with its blank", 'i', 0, "X", "  a", true, TRACE "X:  a\r\n" OWN},
    {"nothing", 'i', 0, "X", "", false, TRACE "X:\r\n" OWN},
};

static void test_edits(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        const struct edit_case *one = &edits[i];
        struct scene scene;
        struct header_edit edit;
        struct error err;
        open_scene(&scene, TRACE, OWN);
        header_edit_begin(&edit, &scene.running);
        struct str name = str_c(one->field), value = str_c(one->value);
        enum result result = OK;
        if (one->deed == 'i')
            result = header_edit_insert(&edit, one->place, name, value, one->has_blank, &err);
        else if (one->deed == 'a')
            result = header_edit_add(&edit, name, value, one->has_blank, &err);
        else if (one->deed == 'm')
            result = header_edit_change(&edit, one->place, name, value, one->has_blank, &err);
        else
            header_edit_remove(&edit, name);
        assert_int_equal(result, OK);
        assert_int_equal(header_edit_commit(&edit, &scene.running, &err), OK);
        if (!str_equal(scene.running.facts.header, str_c(one->head)))
            fail_msg("%s: %.*s", one->name, STR_ARG(scene.running.facts.header));
        assert_str(scene.bench.content.head, one->head);
        assert_int_equal(scene.bench.content.body_start, sizeof OWN - 1);
        close_scene(&scene);
    }
}

/* Places are those of the fields as they were shown, however many have gone. */
static void test_places_stay(void **unused)
{
    struct scene scene;
    struct header_edit edit;
    struct mail_field *shown;
    struct error err;
    size_t count;
    (void)unused;
    open_scene(&scene, TRACE, "A: 1\r\nA: 2\r\nno field\r\nA: 3\r\n\r\n");
    header_edit_begin(&edit, &scene.running);
    header_edit_shown(&edit, &shown, &count);
    assert_int_equal(count, 4);
    assert_str(shown[0].name, "Authentication-Results");
    assert_str(shown[3].value, " 3");
    assert_int_equal(header_edit_change(&edit, 1, STR("A"), STR_EMPTY, false, &err), OK);
    assert_int_equal(header_edit_change(&edit, 2, STR("A"), STR("two"), false, &err), OK);
    assert_int_equal(header_edit_change(&edit, 3, STR("A"), STR_EMPTY, false, &err), OK);
    assert_int_equal(header_edit_commit(&edit, &scene.running, &err), OK);
    assert_str(scene.running.facts.header, TRACE "A: two\r\nno field\r\n\r\n");
    /* and once more, on what came out of it */
    header_edit_begin(&edit, &scene.running);
    assert_int_equal(header_edit_insert(&edit, 1, STR("B"), STR("0"), false, &err), OK);
    assert_int_equal(header_edit_commit(&edit, &scene.running, &err), OK);
    assert_str(scene.running.facts.header, TRACE "B: 0\r\nA: two\r\nno field\r\n\r\n");
    close_scene(&scene);
}

static void test_long_lines(void **unused)
{
    struct scene scene;
    struct header_edit edit;
    struct error err;
    char line[1200];
    (void)unused;
    memset(line, 'x', sizeof line);
    open_scene(&scene, TRACE, OWN);
    header_edit_begin(&edit, &scene.running);
    assert_int_equal(header_edit_add(&edit, STR("X"), str_of(line, 995), false, &err), OK);
    assert_int_equal(header_edit_add(&edit, STR("X"), str_of(line, 996), false, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    close_scene(&scene);
}

/* ---- what a milter wants ---- */

static const struct change_case {
    const char *name;
    struct milter_answer changes[3];
    size_t count;
    enum milter_recipients allowed;
    enum result result;
    const char *recipients, *sender, *words;
} change_cases[] = {
    {"added",
     {{MILTER_ADD_RECIPIENT, 0, {"<c@example.org>", 15}, {"NOTIFY=NEVER", 12}}},
     1,
     MILTER_RECIPIENTS_LISTED,
     OK,
     "Ann@example.org bob@example.com c@example.org",
     NULL,
     "1 recipient added"},
    {"added twice",
     {{MILTER_ADD_RECIPIENT, 0, {"ANN@EXAMPLE.ORG", 15}, {"", 0}}},
     1,
     MILTER_RECIPIENTS_LISTED,
     OK,
     "Ann@example.org bob@example.com",
     NULL,
     ""},
    {"not listed",
     {{MILTER_ADD_RECIPIENT, 0, {"c@example.com", 13}, {"", 0}}},
     1,
     MILTER_RECIPIENTS_LISTED,
     FAILED,
     NULL,
     NULL,
     NULL},
    {"any",
     {{MILTER_ADD_RECIPIENT, 0, {"c@example.com", 13}, {"", 0}}},
     1,
     MILTER_RECIPIENTS_ANY,
     OK,
     "Ann@example.org bob@example.com c@example.com",
     NULL,
     "1 recipient added"},
    {"to nowhere",
     {{MILTER_ADD_RECIPIENT, 0, {"c@nowhere.example", 17}, {"", 0}}},
     1,
     MILTER_RECIPIENTS_ANY,
     FAILED,
     NULL,
     NULL,
     NULL},
    {"no address",
     {{MILTER_ADD_RECIPIENT, 0, {"c", 1}, {"", 0}}},
     1,
     MILTER_RECIPIENTS_ANY,
     FAILED,
     NULL,
     NULL,
     NULL},
    {"odd parameters",
     {{MILTER_ADD_RECIPIENT, 0, {"c@example.org", 13}, {"X=Y", 3}}},
     1,
     MILTER_RECIPIENTS_ANY,
     FAILED,
     NULL,
     NULL,
     NULL},
    {"taken off",
     {{MILTER_DELETE_RECIPIENT, 0, {"<ann@example.org>", 17}, {"", 0}}},
     1,
     MILTER_RECIPIENTS_LISTED,
     OK,
     "bob@example.com",
     NULL,
     "1 taken off"},
    {"who is not there",
     {{MILTER_DELETE_RECIPIENT, 0, {"z@example.org", 13}, {"", 0}}},
     1,
     MILTER_RECIPIENTS_LISTED,
     OK,
     "Ann@example.org bob@example.com",
     NULL,
     ""},
    {"a sender",
     {{MILTER_CHANGE_SENDER, 0, {"<s@example.net>", 15}, {"", 0}}},
     1,
     MILTER_RECIPIENTS_LISTED,
     OK,
     NULL,
     "s@example.net",
     "sender <s@example.net>"},
    {"no sender",
     {{MILTER_CHANGE_SENDER, 0, {"<>", 2}, {"", 0}}},
     1,
     MILTER_RECIPIENTS_LISTED,
     OK,
     NULL,
     "",
     "sender <>"},
    {"a bad sender",
     {{MILTER_CHANGE_SENDER, 0, {"<s@>", 4}, {"", 0}}},
     1,
     MILTER_RECIPIENTS_LISTED,
     FAILED,
     NULL,
     NULL,
     NULL},
    {"parameters that nobody reads",
     {{MILTER_CHANGE_SENDER, 0, {"<>", 2}, {"RET=FULL", 8}}},
     1,
     MILTER_RECIPIENTS_LISTED,
     FAILED,
     NULL,
     NULL,
     NULL},
};

static void test_changes(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof change_cases / sizeof *change_cases; i++) {
        const struct change_case *one = &change_cases[i];
        struct scene scene;
        struct milter_changes changes = {.sender = STR_EMPTY};
        struct error err;
        struct milter_answer list[3];
        memcpy(list, one->changes, sizeof list);
        struct milter_opinion opinion = {.changes = list, .change_count = one->count};
        open_scene(&scene, TRACE, OWN);
        header_edit_begin(&changes.edit, &scene.running);
        if (milter_changes_read(&changes, &scene.running, &opinion, one->allowed, &err) !=
            one->result)
            fail_msg("%s", one->name);
        const struct flow_effects *effects = &scene.verdict.effects;
        assert_false(effects->sender_changed || effects->came_as);
        if (one->result == OK) {
            assert_str(milter_changes_words(&changes, &opinion, scene.bench.arena), one->words);
            assert_int_equal(milter_changes_apply(&changes, &scene.running, &opinion, &err), OK);
        }
        struct buf all BUF_CLEANUP;
        buf_init(&all, 1000);
        for (size_t k = 0; k < effects->recipient_count; k++)
            buf_printf(&all, "%s%.*s", k ? " " : "", STR_ARG(effects->recipients[k].address));
        assert_str(buf_str(&all), one->recipients ? one->recipients : "");
        assert_int_equal(effects->sender_changed, one->sender != NULL);
        if (one->sender)
            assert_str(effects->sender, one->sender);
        close_scene(&scene);
    }
}

/* ---- outcomes, by what is stated ---- */

static void test_stated(void **unused)
{
    static const struct {
        enum directory_stated_verdict verdict;
        enum flow_verdict_kind kind;
    } cases[] = {
        {DIRECTORY_STATED_ACCEPT, FLOW_DELIVER},  {DIRECTORY_STATED_REJECT, FLOW_REJECT},
        {DIRECTORY_STATED_DEFER, FLOW_DEFER},     {DIRECTORY_STATED_HOLD, FLOW_HOLD},
        {DIRECTORY_STATED_QUARANTINE, FLOW_HOLD}, {DIRECTORY_STATED_DISCARD, FLOW_DISCARD},
    };
    static const char *const steps[] = {"[ milter: { server: filter }, deliver ]",
                                        "[ http: { server: hook }, deliver ]"};
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t k = 0; k < 2; k++) {
            struct bench bench;
            bench_open(&bench, FLOW_CONTENT, steps[k]);
            fake.scanner.verdict = cases[i].verdict;
            scan(&bench);
            assert_int_equal(bench.verdict.kind, cases[i].kind);
            fake.scanner_down = true;
            scan(&bench);
            assert_int_equal(bench.verdict.kind, FLOW_DEFER);
            bench_close(&bench);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edits),      cmocka_unit_test(test_places_stay),
        cmocka_unit_test(test_long_lines), cmocka_unit_test(test_changes),
        cmocka_unit_test(test_stated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
