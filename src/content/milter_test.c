/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of milters: terms, answers, replies, and what is written to them. */
#include "base/test.h"

#include "content/milter_packet.h"

#include <string.h>

#define BYTES(literal)                                                                             \
    {                                                                                              \
        "" literal, sizeof(literal) - 1                                                            \
    }

static void test_terms(void **unused)
{
    static const struct {
        const char *name;
        struct str data;
        unsigned offered;
        enum result result;
        unsigned version;
    } cases[] = {
        {"version 6", BYTES("\0\0\0\6\0\0\1\xff\0\x1f\xf7\xff"), 0x1ff, OK, 6},
        {"version 2", BYTES("\0\0\0\2\0\0\0\1\0\0\0\0"), 0x1ff, OK, 2},
        {"version 7", BYTES("\0\0\0\7\0\0\0\1\0\0\0\0"), 0x1ff, FAILED, 0},
        {"version 1", BYTES("\0\0\0\1\0\0\0\1\0\0\0\0"), 0x1ff, FAILED, 0},
        {"an action not offered", BYTES("\0\0\0\6\0\0\0\4\0\0\0\0"), 0x1ff & ~4u, FAILED, 0},
        {"an action that is none", BYTES("\0\0\0\6\0\0\2\0\0\0\0\0"), 0x1ff, FAILED, 0},
        {"a step not offered", BYTES("\0\0\0\6\0\0\0\0\0\0\x08\0"), 0x1ff, FAILED, 0},
        {"too short", BYTES("\0\0\0\6\0\0\0\0\0\0\0"), 0x1ff, FAILED, 0},
        {"macros cut off", BYTES("\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\0i"), 0x1ff, FAILED, 0},
        {"a stage that is none", BYTES("\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\x63i\0"), 0x1ff, OK, 6},
        {"nothing", BYTES(""), 0x1ff, FAILED, 0},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct milter_terms terms;
        struct error err;
        if (milter_read_terms(cases[i].data, cases[i].offered, &terms, &err) != cases[i].result)
            fail_msg("%s", cases[i].name);
        if (cases[i].result == OK)
            assert_int_equal(terms.version, cases[i].version);
    }
}

static void test_named_macros(void **unused)
{
    static const struct str data =
        BYTES("\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\0j _\0\0\0\0\5{msg_id}\0\0\0\0\3\0");
    struct milter_terms terms;
    struct error err;
    (void)unused;
    assert_int_equal(milter_read_terms(data, 0x1ff, &terms, &err), OK);
    assert_true(terms.named[MILTER_AT_CONNECT] && terms.named[MILTER_AT_END]);
    assert_true(terms.named[MILTER_AT_RECIPIENT] && !terms.named[MILTER_AT_MAIL]);
    assert_str(terms.macros[MILTER_AT_CONNECT], "j _");
    assert_str(terms.macros[MILTER_AT_END], "{msg_id}");
    assert_str(terms.macros[MILTER_AT_RECIPIENT], "");
}

static void test_answers(void **unused)
{
    static const struct {
        char command;
        struct str data;
        unsigned actions;
        enum result result;
        enum milter_answer_kind kind;
        uint32_t index;
        const char *name, *value;
    } cases[] = {
        {'c', BYTES(""), 0, OK, MILTER_CONTINUE, 0, "", ""},
        {'c', BYTES("x"), 0, FAILED, 0, 0, NULL, NULL},
        {'4', BYTES(""), 0, OK, MILTER_DEFER, 0, "", ""},
        {'y', BYTES("550 no\0"), 0, OK, MILTER_REPLY, 0, "550 no", ""},
        {'y', BYTES("550 no"), 0, FAILED, 0, 0, NULL, NULL},
        {'h', BYTES("X-A\0b\0"), 1, OK, MILTER_ADD_HEADER, 0, "X-A", "b"},
        {'h', BYTES("X-A\0\0"), 1, OK, MILTER_ADD_HEADER, 0, "X-A", ""},
        {'h', BYTES("X-A\0b\0"), 0x1fe, FAILED, 0, 0, NULL, NULL},
        {'h', BYTES("X-A\0b\0c\0"), 1, FAILED, 0, 0, NULL, NULL},
        {'h', BYTES("X A\0b\0"), 1, FAILED, 0, 0, NULL, NULL},
        {'h', BYTES("X:A\0b\0"), 1, FAILED, 0, 0, NULL, NULL},
        {'h', BYTES("\0b\0"), 1, FAILED, 0, 0, NULL, NULL},
        {'i', BYTES("\0\0\1\2A\0b\0"), 1, OK, MILTER_INSERT_HEADER, 258, "A", "b"},
        {'m', BYTES("\0\0\0\2A\0\0"), 0x10, OK, MILTER_CHANGE_HEADER, 2, "A", ""},
        {'m', BYTES("\0\0\0"), 0x10, FAILED, 0, 0, NULL, NULL},
        {'e', BYTES("<a@b>\0"), 0x40, OK, MILTER_CHANGE_SENDER, 0, "<a@b>", ""},
        {'e', BYTES("<a@b>\0RET=FULL\0"), 0x40, OK, MILTER_CHANGE_SENDER, 0, "<a@b>", "RET=FULL"},
        {'+', BYTES("<a@b>\0"), 4, OK, MILTER_ADD_RECIPIENT, 0, "<a@b>", ""},
        {'2', BYTES("<a@b>\0NOTIFY=NEVER\0"), 0x80, OK, MILTER_ADD_RECIPIENT, 0, "<a@b>",
         "NOTIFY=NEVER"},
        {'-', BYTES("<a@b>\0"), 8, OK, MILTER_DELETE_RECIPIENT, 0, "<a@b>", ""},
        {'b', BYTES("x\0y"), 2, OK, MILTER_REPLACE_BODY, 0, "", NULL},
        {'q', BYTES("why\0"), 0x20, OK, MILTER_QUARANTINE, 0, "why", ""},
        {'O', BYTES(""), 0x1ff, FAILED, 0, 0, NULL, NULL},
        {'\0', BYTES(""), 0x1ff, FAILED, 0, 0, NULL, NULL},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct milter_answer answer;
        struct error err;
        if (milter_read_answer(cases[i].command, cases[i].data, cases[i].actions, &answer, &err) !=
            cases[i].result)
            fail_msg("case %zu: '%c'", i, cases[i].command);
        if (cases[i].result != OK)
            continue;
        assert_int_equal(answer.kind, cases[i].kind);
        assert_int_equal(answer.index, cases[i].index);
        assert_str(answer.name, cases[i].name);
        if (cases[i].value)
            assert_str(answer.value, cases[i].value);
        else
            assert_int_equal(answer.value.len, cases[i].data.len);
    }
}

static void test_replies(void **unused)
{
    static const struct {
        const char *text, *reply; /* NULL: none */
    } cases[] = {
        {"550 5.7.1 no", "550 5.7.1 no"},
        {"451", "451"},
        {"550 100%% sure%", "550 100% sure%"},
        {"550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three", "550 5.7.1 one two three"},
        {"550-one\n550 two", "550 one two"},
        {"550 5.7.1 bell\a, \xc3\xbc", "550 5.7.1 bell?, ??"},
        {"550 4.7.1 classes", NULL},
        {"550 1.2 is no code", "550 1.2 is no code"},
        {"250 fine", NULL},
        {"350 go on", NULL},
        {"600 no", NULL},
        {"55", NULL},
        {"5500 no", NULL},
        {"", NULL},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_new(0);
        struct str reply;
        if (milter_read_reply(str_c(cases[i].text), arena, &reply) != (cases[i].reply != NULL))
            fail_msg("%s", cases[i].text);
        if (cases[i].reply)
            assert_str(reply, cases[i].reply);
        arena_free(arena);
    }
}

static void test_writing(void **unused)
{
    struct buf out BUF_CLEANUP;
    char head[5];
    (void)unused;
    buf_init(&out, 1000);
    milter_write_head('B', 65535, head);
    assert_memory_equal(head, "\0\1\0\0B", 5);
    milter_write_u32(&out, 0x01020304);
    milter_write_text(&out, str_of("a\0b", 3));
    milter_write_field(&out, STR("N"), STR(" \t x\r\n\ty\rz"), false);
    milter_write_field(&out, STR("N"), STR("  x"), true);
    static const char wanted[] = "\1\2\3\4a b\0N\0x\n\ty\rz\0N\0  x";
    assert_int_equal(out.len, sizeof wanted);
    assert_memory_equal(out.ptr, wanted, sizeof wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terms),   cmocka_unit_test(test_named_macros),
        cmocka_unit_test(test_answers), cmocka_unit_test(test_replies),
        cmocka_unit_test(test_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
