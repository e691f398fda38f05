/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/flow_test.h"

#include "config/load.h"
#include "ctl/flow_test_given.h"
#include "mail/header.h"

enum { TESTS_MAX = 10000 };

/* ---- the rows of a file ---- */

struct file_rows {
    const struct config_node *given, *tests;
};
static const struct option file_options[] = {
    {.name = "given",
     .type = OPTION_NODE,
     .offset = offsetof(struct file_rows, given),
     .text = "what servers and files answer, in all tests"},
    {.name = "tests",
     .type = OPTION_NODE,
     .offset = offsetof(struct file_rows, tests),
     .required = true,
     .text = "a list of tests"},
    {.name = NULL},
};
static const struct option_table file_table = {
    .name = "(file)", .options = file_options, .size = sizeof(struct file_rows)};

struct test_rows {
    struct str name;
    const struct config_node *given, *session, *mail, *expect;
};
static const struct option test_options[] = {
    {.name = "name",
     .type = OPTION_TEXT,
     .offset = offsetof(struct test_rows, name),
     .required = true,
     .text = "what it shows, in words"},
    {.name = "given",
     .type = OPTION_NODE,
     .offset = offsetof(struct test_rows, given),
     .text = "other answers in this test; a server named here is stated anew as a whole"},
    {.name = "session",
     .type = OPTION_NODE,
     .offset = offsetof(struct test_rows, session),
     .required = true,
     .text = "the client"},
    {.name = "mail",
     .type = OPTION_NODE,
     .offset = offsetof(struct test_rows, mail),
     .text = "the message; without it the test ends with the login"},
    {.name = "expect",
     .type = OPTION_NODE,
     .offset = offsetof(struct test_rows, expect),
     .required = true,
     .text = "what must come of it"},
    {.name = NULL},
};
static const struct option_table test_table = {
    .name = "tests.*", .options = test_options, .size = sizeof(struct test_rows)};

struct session_rows {
    struct str listener, client, client_name, helo, user, password;
    bool tls;
};
static const struct option session_options[] = {
    {.name = "listener",
     .type = OPTION_TEXT,
     .offset = offsetof(struct session_rows, listener),
     .required = true,
     .text = "where the client connects"},
    {.name = "client",
     .type = OPTION_TEXT,
     .offset = offsetof(struct session_rows, client),
     .fallback = "192.0.2.1",
     .text = "its address"},
    {.name = "client_name",
     .type = OPTION_TEXT,
     .offset = offsetof(struct session_rows, client_name),
     .text = "its confirmed name"},
    {.name = "helo",
     .type = OPTION_TEXT,
     .offset = offsetof(struct session_rows, helo),
     .fallback = "client.example",
     .text = "how it calls itself"},
    {.name = "tls",
     .type = OPTION_BOOL,
     .offset = offsetof(struct session_rows, tls),
     .fallback = "false",
     .text = "TLS is active"},
    {.name = "user",
     .type = OPTION_TEXT,
     .offset = offsetof(struct session_rows, user),
     .text = "it logs in as"},
    {.name = "password",
     .type = OPTION_TEXT,
     .offset = offsetof(struct session_rows, password),
     .text = "with this password"},
    {.name = NULL},
};
static const struct option_table session_table = {
    .name = "tests.*.session", .options = session_options, .size = sizeof(struct session_rows)};

struct mail_rows {
    struct str from, to, body;
    struct option_texts header;
};
static const struct option mail_options[] = {
    {.name = "from",
     .type = OPTION_TEXT,
     .offset = offsetof(struct mail_rows, from),
     .text = "envelope sender; empty for a bounce"},
    {.name = "to",
     .type = OPTION_TEXT,
     .offset = offsetof(struct mail_rows, to),
     .required = true,
     .text = "envelope recipient"},
    {.name = "header",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct mail_rows, header),
     .text = "fields such as \"Subject: hello\"; From, To, Date and Message-ID come by themselves"},
    {.name = "body",
     .type = OPTION_TEXT,
     .offset = offsetof(struct mail_rows, body),
     .fallback = "test",
     .text = "the text"},
    {.name = NULL},
};
static const struct option_table mail_table = {
    .name = "tests.*.mail", .options = mail_options, .size = sizeof(struct mail_rows)};

struct expect_rows {
    int auth, recipient, verdict; /* 0: nothing expected */
    struct str step, domain, recipient_flow, content, content_step, transport, reply, reason, dkim;
};
static const struct option_word answers[] = {
    {"accept", 1}, {"reject", 2}, {"defer", 3}, {"refused", 4}, {NULL, 0}};
static const struct option_word verdicts[] = {{"deliver", 1}, {"reject", 2},  {"defer", 3},
                                              {"hold", 4},    {"discard", 5}, {"quarantine", 6},
                                              {NULL, 0}};
#define EXPECT_TEXT(name_, text_)                                                                  \
    {                                                                                              \
        .name = #name_, .type = OPTION_TEXT, .offset = offsetof(struct expect_rows, name_),        \
        .text = text_                                                                              \
    }
#define EXPECT_WORD(name_, words_, text_)                                                          \
    {                                                                                              \
        .name = #name_, .type = OPTION_WORD, .offset = offsetof(struct expect_rows, name_),        \
        .words = words_, .text = text_                                                             \
    }
static const struct option expect_options[] = {
    EXPECT_WORD(auth, answers, "the login; refused: it is not allowed at all"),
    EXPECT_WORD(recipient, answers, "the recipient; refused: MAIL is not allowed"),
    EXPECT_TEXT(step, "the step that decided on the recipient, by id or block"),
    EXPECT_TEXT(domain, "the entry of `domains`"),
    EXPECT_TEXT(recipient_flow, "the recipient flow"),
    EXPECT_TEXT(content, "the content flow"),
    EXPECT_WORD(verdict, verdicts, "what the content flow says"),
    EXPECT_TEXT(content_step, "the step of it that decided"),
    EXPECT_TEXT(transport, "the way out"),
    EXPECT_TEXT(reply, "the last reply, or the beginning of it: \"554 5.7.1\""),
    EXPECT_TEXT(reason, "why it was refused, as in events: relay_denied"),
    EXPECT_TEXT(dkim, "a domain that the message is signed for"),
    {.name = NULL},
};
static const struct option_table expect_table = {
    .name = "tests.*.expect", .options = expect_options, .size = sizeof(struct expect_rows)};

/* ---- one test ---- */

struct one {
    const struct option_context *context;
    const struct settings *settings;
    const struct flow_test_answers *stated_by_file;
    const struct config_node *node;
    struct test_rows rows;
    struct rehearsal_in in;
    struct flow_test_answers stated;
    struct expect_rows expect;
};

static bool read_session(struct one *test)
{
    struct session_rows rows = {0};
    const struct config_node *node = test->rows.session;
    struct config_report *report = test->context->report;
    if (option_bind(&session_table, node, NULL, test->context, &rows) != OK)
        return false;
    const struct config_node *place = config_get(node, STR("listener"));
    test->in.listener = settings_find_listener(test->settings, rows.listener);
    if (!test->in.listener) {
        struct str *names =
            arena_alloc_array(report->arena, test->settings->listener_count + 1, sizeof *names);
        for (size_t i = 0; i < test->settings->listener_count; i++)
            names[i] = test->settings->listeners[i].name;
        flow_test_unknown(test->context, "listener", rows.listener, place->place, names,
                          test->settings->listener_count);
        return false;
    }
    if (!net_ip_parse(rows.client, &test->in.client)) {
        config_problem(report, CONFIG_ERROR, "bad-address", config_get(node, STR("client"))->place,
                       "\"%.*s\" is no IP address", STR_ARG(rows.client));
        return false;
    }
    test->in.client_name = rows.client_name.len ? rows.client_name : STR_EMPTY;
    test->in.helo = rows.helo;
    test->in.tls = rows.tls || test->in.listener->smtp.tls == SMTP_TLS_IMPLICIT;
    test->in.user = rows.user;
    test->in.password = rows.password;
    return true;
}

static void add_field(struct buf *out, struct str given, const char *name, struct str value)
{
    struct mail_field field;
    if (!mail_header_find(given, str_c(name), &field))
        buf_printf(out, "%s: %.*s\r\n", name, STR_ARG(value));
}

static bool read_mail(struct one *test)
{
    struct mail_rows rows = {0};
    struct arena *arena = test->context->arena;
    if (!test->rows.mail)
        return true;
    if (option_bind(&mail_table, test->rows.mail, NULL, test->context, &rows) != OK)
        return false;
    struct buf text BUF_CLEANUP;
    buf_init(&text, 1024 * 1024);
    for (size_t i = 0; i < rows.header.count; i++)
        buf_printf(&text, "%.*s\r\n", STR_ARG(rows.header.items[i]));
    struct str given = arena_str(arena, buf_str(&text));
    add_field(&text, given, "From", rows.from.len ? rows.from : STR("MAILER-DAEMON@test.example"));
    add_field(&text, given, "To", rows.to);
    add_field(&text, given, "Subject", STR("test"));
    add_field(&text, given, "Date", STR("Thu, 1 Jan 2026 12:00:00 +0000"));
    add_field(&text, given, "Message-ID", STR("<test@test.example>"));
    buf_printf(&text, "\r\n");
    for (size_t i = 0; i < rows.body.len; i++) {
        if (rows.body.ptr[i] == '\n')
            buf_append_byte(&text, '\r');
        buf_append_byte(&text, rows.body.ptr[i]);
    }
    buf_printf(&text, "\r\n");
    test->in.has_mail = true;
    test->in.from = rows.from;
    test->in.to = rows.to;
    test->in.text = arena_str(arena, buf_str(&text));
    return true;
}

static bool read_expect(struct one *test)
{
    const struct config_node *node = test->rows.expect;
    struct str names[MAIL_REASON_COUNT];
    if (option_bind(&expect_table, node, NULL, test->context, &test->expect) != OK)
        return false;
    if (node->count == 0) {
        config_problem(test->context->report, CONFIG_ERROR, "nothing-expected", node->place,
                       "this test expects nothing, so it cannot fail");
        return false;
    }
    bool known = test->expect.reason.len == 0;
    for (size_t i = 0; i < MAIL_REASON_COUNT; i++) {
        names[i] = str_c(mail_reason_name((enum mail_reason)i));
        known = known || str_equal(names[i], test->expect.reason);
    }
    if (!known)
        flow_test_unknown(test->context, "reason", test->expect.reason,
                          config_get(node, STR("reason"))->place, names, MAIL_REASON_COUNT);
    return known;
}

/* All parts, so that all that is wrong is told at once. */
static bool read_test(struct one *test)
{
    const struct test_rows *rows = &test->rows;
    bool good = option_bind(&test_table, test->node, NULL, test->context, &test->rows) == OK;
    good = flow_test_given(rows->given, test->settings, test->context, test->stated_by_file,
                           &test->stated) &&
           good;
    good = (!rows->session || read_session(test)) && good;
    good = read_mail(test) && good;
    return (!rows->expect || read_expect(test)) && good;
}

/* ---- comparing ---- */

static void differ(struct one *test, struct flow_test_result *result, const char *key,
                   struct str expected, struct str got)
{
    if (result->difference_count == FLOW_TEST_EXPECT_MAX)
        return;
    result->differences[result->difference_count++] = (struct flow_test_difference){
        .key = key,
        .place = config_get(test->rows.expect, str_c(key))->place,
        .expected = expected,
        .got = got,
    };
}

static void compare_word(struct one *test, struct flow_test_result *result, const char *key,
                         const struct option_word *words, int expected, const char *got)
{
    if (!expected)
        return;
    while (words->word && words->value != expected)
        words++;
    if (!str_equal(str_c(words->word), str_c(got)))
        differ(test, result, key, str_c(words->word), str_c(got));
}

static void compare(struct one *test, struct flow_test_result *result, const char *key,
                    struct str expected, struct str got)
{
    if (expected.len && !str_equal(expected, got))
        differ(test, result, key, expected, got);
}

/* "2-lookup-smtp" is also "lookup-smtp". */
static void compare_step(struct one *test, struct flow_test_result *result, const char *key,
                         struct str expected, struct str got)
{
    size_t at = 0;
    while (at < got.len && got.ptr[at] != '-')
        at++;
    if (!str_equal(expected, str_from(got, at < got.len ? at + 1 : at)))
        compare(test, result, key, expected, got);
}

/* The expected words end where a word of the reply ends: 5.7.1 is not the beginning of 5.7.10. */
static void compare_reply(struct one *test, struct flow_test_result *result,
                          const struct mail_reply *reply)
{
    struct str expected = test->expect.reply;
    struct str got = reply->code ? mail_reply_text(test->in.arena, reply) : STR_EMPTY;
    bool begins =
        str_starts(got, expected) && (got.len == expected.len || got.ptr[expected.len] == ' ');
    if (expected.len && !begins)
        differ(test, result, "reply", expected, got);
}

static void compare_dkim(struct one *test, struct flow_test_result *result, struct str head)
{
    struct mail_field field;
    struct str expected = test->expect.dkim;
    struct str tag = arena_printf(test->in.arena, "d=%.*s;", STR_ARG(expected));
    struct str value = STR_EMPTY;
    bool found = expected.len == 0;
    while (!found && mail_header_next(&head, &field)) {
        if (!str_equal_nocase(field.name, STR("DKIM-Signature")))
            continue;
        value = mail_field_text(test->in.arena, &field);
        found = str_find_str(value, tag) >= 0;
    }
    if (!found)
        differ(test, result, "dkim", expected, value.len ? value : STR("no signature"));
}

static void compare_all(struct one *test, struct flow_test_result *result)
{
    const struct expect_rows *expect = &test->expect;
    const struct rehearsal *got = &result->rehearsal;
    struct str reason = got->reason ? str_c(mail_reason_name(got->reason)) : STR_EMPTY;
    compare_word(test, result, "auth", answers, expect->auth, got->auth);
    compare_word(test, result, "recipient", answers, expect->recipient, got->recipient);
    compare_step(test, result, "step", expect->step, got->step);
    compare(test, result, "domain", expect->domain, got->domain);
    compare(test, result, "recipient_flow", expect->recipient_flow, got->recipient_flow);
    compare(test, result, "content", expect->content, got->content);
    compare_word(test, result, "verdict", verdicts, expect->verdict, got->content_action);
    compare_step(test, result, "content_step", expect->content_step, got->content_step);
    compare(test, result, "transport", expect->transport, got->transport);
    compare_reply(test, result, &got->reply);
    compare(test, result, "reason", expect->reason, reason);
    compare_dkim(test, result, got->head);
}

static void run_test(struct one *test, struct flow_test_result *result)
{
    result->name = test->rows.name;
    result->place = test->node->place;
    test->in.settings = test->settings;
    test->in.arena = test->context->arena;
    test->in.directory = directory_stated_new(&test->stated.directory);
    const struct resolver resolver = flow_test_resolver(&test->stated);
    test->in.resolver = &resolver;
    rehearsal_run(&test->in, &result->rehearsal);
    directory_stated_free(test->in.directory);
    compare_all(test, result);
}

/* ---- a file ---- */

static bool read_file(const char *path, const struct settings *settings,
                      const struct option_context *context, struct config_node *root,
                      struct flow_test_answers *stated, struct file_rows *rows)
{
    struct str text;
    if (!flow_test_slurp(path, context, &text) ||
        config_load_text(str_c(path), text, context->arena, context->report, root) != OK ||
        option_bind(&file_table, root, NULL, context, rows) != OK)
        return false;
    if (rows->tests->kind != CONFIG_LIST || rows->tests->count > TESTS_MAX) {
        config_problem(context->report, CONFIG_ERROR, "wrong-type", rows->tests->place,
                       "expected a list of at most %d tests", TESTS_MAX);
        return false;
    }
    return flow_test_given(rows->given, settings, context, NULL, stated);
}

enum result flow_test_run_file(const char *path, const struct settings *settings,
                               struct config_report *report, struct flow_test_result **out_results,
                               size_t *out_count, struct error *err)
{
    struct option_context context = {.arena = report->arena, .report = report};
    struct config_node *root = ARENA_NEW(report->arena, struct config_node);
    struct flow_test_answers *stated = ARENA_NEW(report->arena, struct flow_test_answers);
    struct file_rows rows = {0};
    *out_count = 0;
    if (!read_file(path, settings, &context, root, stated, &rows))
        return fail(err, ERROR_PERMANENT, "%s cannot be used", path);
    struct one *tests = arena_alloc_array(report->arena, rows.tests->count + 1, sizeof *tests);
    bool good = true;
    for (size_t i = 0; i < rows.tests->count; i++) {
        tests[i] = (struct one){.context = &context,
                                .settings = settings,
                                .stated_by_file = stated,
                                .node = &rows.tests->items[i]};
        good = read_test(&tests[i]) && good;
    }
    if (!good)
        return fail(err, ERROR_PERMANENT, "%s cannot be used", path);
    *out_results =
        arena_alloc_array(report->arena, rows.tests->count + 1, sizeof(struct flow_test_result));
    for (size_t i = 0; i < rows.tests->count; i++)
        run_test(&tests[i], &(*out_results)[i]);
    *out_count = rows.tests->count;
    return OK;
}
