/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/buf.h"
#include "smtp/data_writer.h"

#include <string.h>

static const struct {
    const char *name;
    struct str content;
    struct str with_dots;
    struct str without;
    uint64_t mended;
} cases[] = {
    {"empty", {"", 0}, {".\r\n", 3}, {"", 0}, 0},
    {"lines", {"a\r\nb\r\n", 6}, {"a\r\nb\r\n.\r\n", 9}, {"a\r\nb\r\n", 6}, 0},
    {"no last line end", {"a\r\nb", 4}, {"a\r\nb\r\n.\r\n", 9}, {"a\r\nb\r\n", 6}, 0},
    {"dots",
     {".\r\n..\r\na.b\r\n.c\r\n", 16},
     {"..\r\n...\r\na.b\r\n..c\r\n.\r\n", 22},
     {".\r\n..\r\na.b\r\n.c\r\n", 16},
     0},
    {"dot alone", {".", 1}, {"..\r\n.\r\n", 7}, {".\r\n", 3}, 0},
    {"empty lines", {"\r\n\r\n.\r\n", 7}, {"\r\n\r\n..\r\n.\r\n", 11}, {"\r\n\r\n.\r\n", 7}, 0},
    {"bare LF", {"a\nb\r\n", 5}, {"a b\r\n.\r\n", 8}, {"a b\r\n", 5}, 1},
    {"bare CR", {"a\rb\r\n", 5}, {"a b\r\n.\r\n", 8}, {"a b\r\n", 5}, 1},
    {"two CR", {"a\r\r\n", 4}, {"a \r\n.\r\n", 7}, {"a \r\n", 4}, 1},
    {"LF CR", {"a\n\r", 3}, {"a  \r\n.\r\n", 8}, {"a  \r\n", 5}, 2},
    {"smuggled end",
     {"a\n.\r\nMAIL\r\n", 11},
     {"a .\r\nMAIL\r\n.\r\n", 14},
     {"a .\r\nMAIL\r\n", 11},
     1},
    {"smuggled end, bare CR",
     {"a\r.\r\nb\r\n", 8},
     {"a .\r\nb\r\n.\r\n", 11},
     {"a .\r\nb\r\n", 8},
     1},
    {"LF dot LF", {"a\r\n\n.\n", 6}, {"a\r\n . \r\n.\r\n", 11}, {"a\r\n . \r\n", 8}, 2},
    {"NUL", {"a\0b\0\r\n", 6}, {"a b \r\n.\r\n", 9}, {"a b \r\n", 6}, 2},
    {"CR at the end", {"a\r", 2}, {"a \r\n.\r\n", 7}, {"a \r\n", 4}, 1},
    {"CR NUL LF", {"a\r\0\n", 4}, {"a   \r\n.\r\n", 9}, {"a   \r\n", 6}, 3},
};

static void write_pieces(struct smtp_data_writer *writer, struct str input, struct buf *out)
{
    struct str piece;
    while (smtp_data_writer_next(writer, &input, &piece))
        buf_append(out, piece);
    assert_int_equal(input.len, 0);
}

static void check_case(size_t i, bool dots, size_t first, size_t second)
{
    struct smtp_data_writer writer;
    struct buf out;
    struct str content = cases[i].content;
    struct str expected = dots ? cases[i].with_dots : cases[i].without;
    buf_init(&out, 1 << 16);
    smtp_data_writer_init(&writer, dots);
    write_pieces(&writer, str_slice(content, 0, first), &out);
    write_pieces(&writer, str_slice(content, first, second), &out);
    write_pieces(&writer, str_from(content, second), &out);
    buf_append(&out, smtp_data_writer_end(&writer));
    if (!str_equal(buf_str(&out), expected))
        fail_msg("%s, %s, cut at %zu and %zu: %.*s", cases[i].name, dots ? "DATA" : "BDAT", first,
                 second, STR_ARG(buf_str(&out)));
    assert_int_equal(writer.mend_count, cases[i].mended);
    buf_done(&out);
}

static void writes_true_line_ends_cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t length = cases[i].content.len;
        for (size_t first = 0; first <= length; first++) {
            for (size_t second = first; second <= length; second++) {
                check_case(i, true, first, second);
                check_case(i, false, first, second);
            }
        }
    }
}

/* Every string of six over a small alphabet, against the rules said plainly. */
static void keeps_the_rules_for_every_short_content(void **state)
{
    (void)state;
    static const char alphabet[] = {'a', '.', '\r', '\n', '\0'};
    for (unsigned number = 0; number < 5 * 5 * 5 * 5 * 5 * 5; number++) {
        char content[6];
        unsigned rest = number;
        for (size_t i = 0; i < sizeof content; i++, rest /= 5)
            content[i] = alphabet[rest % 5];
        struct smtp_data_writer writer;
        struct buf out;
        buf_init(&out, 1 << 10);
        smtp_data_writer_init(&writer, true);
        write_pieces(&writer, str_of(content, sizeof content), &out);
        buf_append(&out, smtp_data_writer_end(&writer));
        struct str wire = buf_str(&out);
        assert_true(str_ends(wire, STR("\r\n.\r\n")));
        /* the end of data is at the end and nowhere before */
        assert_int_equal(str_find_str(wire, STR("\r\n.\r\n")), (ptrdiff_t)wire.len - 5);
        assert_false(str_starts(wire, STR(".\r\n")));
        for (size_t i = 0; i < wire.len; i++) {
            assert_true(wire.ptr[i] != '\0');
            if (wire.ptr[i] == '\n')
                assert_true(i > 0 && wire.ptr[i - 1] == '\r');
            if (wire.ptr[i] == '\r')
                assert_true(i + 1 < wire.len && wire.ptr[i + 1] == '\n');
        }
        buf_done(&out);
    }
}

static void write_whole_or_bytewise(struct str content, bool dots, bool bytewise, struct buf *out)
{
    struct smtp_data_writer writer;
    buf_init(out, 1 << 16);
    smtp_data_writer_init(&writer, dots);
    if (bytewise) {
        for (size_t i = 0; i < content.len; i++)
            write_pieces(&writer, str_slice(content, i, i + 1), out);
    } else {
        write_pieces(&writer, content, out);
    }
    buf_append(out, smtp_data_writer_end(&writer));
}

/* Long contents are looked at many bytes at once: what comes out must not depend on it, wherever
 * between clean lines of whatever length something odd stands. */
static void writes_long_contents_as_byte_by_byte(void **state)
{
    (void)state;
    static const struct str odd[] = {
        {"", 0},          {".", 1},       {"..\r\n", 4}, {"\r", 1},     {"\n", 1},     {"\0", 1},
        {"\r\n.\r\n", 5}, {"\n.\r\n", 4}, {"\r.\n", 3},  {"\r\r\n", 3}, {"\r\n\n", 3},
    };
    char content[512];
    for (size_t k = 0; k < sizeof odd / sizeof odd[0]; k++) {
        for (size_t i = 0; i < 256; i++) {
            size_t width = 3 + i % 83;
            for (size_t at = 0; at < 400; at++)
                content[at] = at % width == width - 2 ? '\r' : at % width == width - 1 ? '\n' : 'x';
            memcpy(content + i, odd[k].ptr, odd[k].len);
            for (int dots = 0; dots < 2; dots++) {
                struct buf whole, bytewise;
                write_whole_or_bytewise(str_of(content, 400), dots, false, &whole);
                write_whole_or_bytewise(str_of(content, 400), dots, true, &bytewise);
                if (!str_equal(buf_str(&whole), buf_str(&bytewise)))
                    fail_msg("odd %zu at %zu, lines of %zu", k, i, width);
                buf_done(&whole);
                buf_done(&bytewise);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_long_contents_as_byte_by_byte),
        cmocka_unit_test(writes_true_line_ends_cut_anywhere),
        cmocka_unit_test(keeps_the_rules_for_every_short_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
