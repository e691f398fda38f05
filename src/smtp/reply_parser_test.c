/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "smtp/reply_parser.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *input;
    unsigned code; /* 0: not a reply */
    unsigned enhanced[3];
    const char *text;
} replies[] = {
    {"one line", "250 OK\r\n", 250, {0}, "OK"},
    {"code alone", "250\r\n", 250, {0}, ""},
    {"code and blank", "250 \r\n", 250, {0}, ""},
    {"bare LF is taken", "250 OK\n", 250, {0}, "OK"},
    {"lines", "250-a\r\n250-b\r\n250 c\r\n", 250, {0}, "a\nb\nc"},
    {"empty lines", "250-\r\n250\r\n", 250, {0}, "\n"},
    {"enhanced", "550 5.1.1 No such user\r\n", 550, {5, 1, 1}, "No such user"},
    {"enhanced alone", "250 2.0.0\r\n", 250, {2, 0, 0}, ""},
    {"enhanced, large", "550 5.7.509 x\r\n", 550, {5, 7, 509}, "x"},
    {"enhanced on each line", "550-5.1.1 a\r\n550 5.1.1 b\r\n", 550, {5, 1, 1}, "a\nb"},
    {"enhanced differs", "550-5.1.1 a\r\n550 5.7.1 b\r\n", 550, {5, 1, 1}, "a\n5.7.1 b"},
    {"enhanced only later", "550-a\r\n550 5.7.1 b\r\n", 550, {0}, "a\n5.7.1 b"},
    {"enhanced of another class", "550 4.1.1 x\r\n", 550, {0}, "4.1.1 x"},
    {"an address is not enhanced", "550 5.1.1.1 listed\r\n", 550, {0}, "5.1.1.1 listed"},
    {"leading zero", "550 5.01.1 x\r\n", 550, {0}, "5.01.1 x"},
    {"four digits", "550 5.1000.1 x\r\n", 550, {0}, "5.1000.1 x"},
    {"354 has none", "354 3.0.0 go\r\n", 354, {0}, "3.0.0 go"},
    {"control characters", "250 a\001b\033[1mc\177\r\n", 250, {0}, "a?b?[1mc?"},
    {"bare CR inside", "250 a\rb\r\n", 250, {0}, "a?b"},
    {"tab", "250 a\tb\r\n", 250, {0}, "a b"},
    {"UTF-8 stays",
     "250 gr\303\274\303\237 \342\202\254 \360\237\230\200\r\n",
     250,
     {0},
     "gr\303\274\303\237 \342\202\254 \360\237\230\200"},
    {"not UTF-8", "250 a\374b\303\r\n", 250, {0}, "a?b?"},
    {"overlong UTF-8", "250 \300\257 \340\200\257\r\n", 250, {0}, "?? ???"},
    {"surrogate", "250 \355\240\200\r\n", 250, {0}, "???"},
    {"C1 control", "250 \302\233m\r\n", 250, {0}, "??m"},
    {"codes differ", "250-a\r\n550 b\r\n", 0, {0}, NULL},
    {"not a number", "hello\r\n", 0, {0}, NULL},
    {"two digits", "25 OK\r\n", 0, {0}, NULL},
    {"1yz", "150 x\r\n", 0, {0}, NULL},
    {"6yz", "650 x\r\n", 0, {0}, NULL},
    {"other separator", "250+x\r\n", 0, {0}, NULL},
    {"empty line", "\r\n", 0, {0}, NULL},
    {"HTTP", "HTTP/1.1 400 Bad Request\r\n", 0, {0}, NULL},
};

/* Feed `input` in two pieces, cut at `cut`. */
static enum result feed(struct smtp_reply_parser *parser, struct str input, size_t cut,
                        struct mail_reply *out_reply, bool *out_complete)
{
    struct error err;
    enum smtp_reply_progress progress = SMTP_REPLY_MORE;
    size_t used = 0;
    if (smtp_reply_feed(parser, str_slice(input, 0, cut), &used, &progress, out_reply, &err) != OK)
        return FAILED;
    if (progress == SMTP_REPLY_MORE) {
        assert_true(used <= cut);
        struct str rest = str_from(input, used);
        if (smtp_reply_feed(parser, rest, &used, &progress, out_reply, &err) != OK) {
            assert_int_equal(err.kind, ERROR_PROTOCOL);
            return FAILED;
        }
    }
    *out_complete = progress == SMTP_REPLY_COMPLETE;
    return OK;
}

static void reads_replies_cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        struct str input = str_c(replies[i].input);
        for (size_t cut = 0; cut <= input.len; cut++) {
            struct smtp_reply_parser parser;
            struct mail_reply reply = {0};
            bool complete = false;
            smtp_reply_parser_init(&parser);
            enum result result = feed(&parser, input, cut, &reply, &complete);
            if ((result == OK) != (replies[i].code != 0))
                fail_msg("%s, cut at %zu: %s", replies[i].name, cut,
                         result == OK ? "was taken" : "was refused");
            if (result == OK) {
                assert_true(complete);
                assert_int_equal(reply.code, replies[i].code);
                assert_int_equal(reply.enhanced.class, replies[i].enhanced[0]);
                assert_int_equal(reply.enhanced.subject, replies[i].enhanced[1]);
                assert_int_equal(reply.enhanced.detail, replies[i].enhanced[2]);
                if (!str_equal(reply.text, str_c(replies[i].text)))
                    fail_msg("%s: %.*s", replies[i].name, STR_ARG(reply.text));
            }
            smtp_reply_parser_done(&parser);
        }
    }
}

static void leaves_the_next_reply_alone(void **state)
{
    (void)state;
    struct smtp_reply_parser parser;
    struct mail_reply reply;
    struct error err;
    enum smtp_reply_progress progress;
    size_t used;
    struct str input = STR("250-a\r\n250 b\r\n550 5.1.1 c\r\n25");
    smtp_reply_parser_init(&parser);
    assert_int_equal(smtp_reply_feed(&parser, input, &used, &progress, &reply, &err), OK);
    assert_int_equal(progress, SMTP_REPLY_COMPLETE);
    assert_str(reply.text, "a\nb");
    input = str_from(input, used);
    assert_int_equal(smtp_reply_feed(&parser, input, &used, &progress, &reply, &err), OK);
    assert_int_equal(progress, SMTP_REPLY_COMPLETE);
    assert_int_equal(reply.code, 550);
    assert_str(reply.text, "c");
    input = str_from(input, used);
    assert_int_equal(smtp_reply_feed(&parser, input, &used, &progress, &reply, &err), OK);
    assert_int_equal(progress, SMTP_REPLY_MORE);
    assert_int_equal(used, 0);
    smtp_reply_parser_done(&parser);
}

static void has_ceilings(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t line_length;
        size_t lines;
        bool ends;
        bool taken;
    } cases[] = {
        {"longest line", SMTP_REPLY_MAX_LINE, 1, true, true},
        {"line too long", SMTP_REPLY_MAX_LINE + 1, 1, true, false},
        {"line without an end", SMTP_REPLY_MAX_LINE + 2, 1, false, false},
        {"most lines", 10, SMTP_REPLY_MAX_LINES, true, true},
        {"too many lines", 10, SMTP_REPLY_MAX_LINES + 1, true, false},
        {"too many bytes", 1000, 40, true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct smtp_reply_parser parser;
        struct mail_reply reply;
        struct buf input;
        bool complete;
        buf_init(&input, 1 << 20);
        smtp_reply_parser_init(&parser);
        for (size_t line = 1; line <= cases[i].lines; line++) {
            buf_printf(&input, "250%c", line == cases[i].lines ? ' ' : '-');
            for (size_t k = 4; k < cases[i].line_length; k++)
                buf_append_byte(&input, 'x');
            if (cases[i].ends)
                buf_append(&input, STR("\r\n"));
        }
        enum result result = feed(&parser, buf_str(&input), 0, &reply, &complete);
        if ((result == OK) != cases[i].taken)
            fail_msg("%s", cases[i].name);
        smtp_reply_parser_done(&parser);
        buf_done(&input);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_replies_cut_anywhere),
        cmocka_unit_test(leaves_the_next_reply_alone),
        cmocka_unit_test(has_ceilings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
