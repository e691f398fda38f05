/* SPDX-License-Identifier: Apache-2.0 */
/* content/filename_test.c - names as senders hide them. */
#include "content/filename.h"

#include "base/buf.h"
#include "base/test.h"

#include <stdlib.h>

struct collect_case {
    const char *name;
    const char *header;
    const char *names; /* "a|b|", and "+" where something was cut */
};
#define D "Content-Disposition: attachment; "

static const struct collect_case collected[] = {
    {"none", "Subject: filename=x\r\n\r\n", ""},
    {"one", D "filename=a.txt\r\n\r\n", "a.txt|"},
    {"in quotes", D "filename=\"a b.txt\"\r\n\r\n", "a b.txt|"},
    {"two that differ", D "filename=a.txt\r\nContent-Type: image/png; name=\"b.exe\"\r\n\r\n",
     "a.txt|b.exe|"},
    {"one given twice", D "filename=a.txt; name=a.txt\r\n\r\n", "a.txt|"},
    {"one parameter twice", D "filename=a.txt; filename=b.exe\r\n\r\n", "a.txt|b.exe|"},
    {"two fields", D "filename=a.txt\r\n" D "filename=b.exe\r\n\r\n", "a.txt|b.exe|"},
    {"a field that only careless programs see", "Content-Disposition : x; filename=b.exe\r\n\r\n",
     "b.exe|"},
    {"percent signs", D "filename*=utf-8''b%2e%65xe\r\n\r\n", "b.exe|"},
    {"plain and by RFC 2231", D "filename=a.txt; filename*=utf-8''b.exe\r\n\r\n", "a.txt|b.exe|"},
    {"in pieces", D "filename*1*=%65xe; filename*0=\"b.\"\r\n\r\n", "b.exe|"},
    {"folded", D "filename*0=b;\r\n\tfilename*1=.exe\r\n\r\n", "b.exe|"},
    {"encoded words", D "filename=\"=?utf-8?b?Yi5leGU=?=\"\r\n\r\n", "b.exe|"},
    {"encoded words in two", D "filename=\"=?utf-8?q?b=2E?= =?utf-8?q?exe?=\"\r\n\r\n", "b.exe|"},
    {"another charset", D "filename*=utf-16be''%00b%00.%00e%00x%00e\r\n\r\n", "b.exe|"},
    {"more than are kept",
     D "name=1; name=2; name=3; name=4; name=5; name=6; name=7; name=8; name=9\r\n\r\n",
     "1|2|3|4|5|6|7|8|+"},
};

static void test_collect(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof collected / sizeof *collected; i++) {
        struct arena *arena = arena_new(0);
        struct filename_list list;
        struct buf got BUF_CLEANUP;
        buf_init(&got, 4096);
        filename_collect(str_c(collected[i].header), arena, &list);
        for (size_t k = 0; k < list.count; k++)
            buf_printf(&got, "%.*s|", STR_ARG(list.items[k]));
        if (list.cut)
            buf_append(&got, STR("+"));
        if (!str_equal(buf_str(&got), str_c(collected[i].names)))
            fail_msg("%s: \"%.*s\"", collected[i].name, STR_ARG(buf_str(&got)));
        arena_free(arena);
    }
}

/* Pieces to the last: an extension behind many of them is seen, or said to be missing. */
static void test_many_pieces(void **unused)
{
    (void)unused;
    for (int pieces = 5; pieces < 3000; pieces *= 2) {
        struct arena *arena = arena_new(0);
        struct filename_list list;
        struct buf header BUF_CLEANUP;
        buf_init(&header, 1 << 20);
        buf_append(&header, STR(D "filename*0=a"));
        for (int i = 1; i < pieces; i++)
            buf_printf(&header, ";\r\n filename*%d=a", i);
        buf_printf(&header, "; filename*%d=.exe\r\n\r\n", pieces);
        filename_collect(buf_str(&header), arena, &list);
        bool seen = list.count == 1 && str_ends(list.items[0], STR(".exe"));
        if (seen == list.cut || seen != (pieces <= 160))
            fail_msg("%d pieces", pieces);
        arena_free(arena);
    }
}

struct read_case {
    const char *name;
    struct str text;
    const char *read, *extension;
    bool trick;
};
#define T(literal)                                                                                 \
    {                                                                                              \
        "" literal, sizeof(literal) - 1                                                            \
    }

static const struct read_case names[] = {
    {"plain", T("Report.PDF"), "report.pdf", "pdf", false},
    {"no extension", T("README"), "readme", "", false},
    {"nothing", T(""), "", "", false},
    {"only dots", T("..."), "", "", false},
    {"dots and blanks at its end", T("a.exe. . "), "a.exe", "exe", false},
    {"a path", T("..\\..\\windows/a.exe"), "a.exe", "exe", false},
    {"a stream", T("a.exe::$DATA"), "a.exe", "exe", false},
    {"a stream of a harmless name", T("a.exe:b.txt"), "a.exe", "exe", false},
    {"turned",
     T("fac\xe2\x80\xae"
       "fdp.exe"),
     "facfdp.exe", "exe", true},
    {"isolated", T("a\xe2\x81\xa6.exe"), "a.exe", "exe", true},
    {"nothing to see", T("a.e\xe2\x80\x8bxe"), "a.exe", "exe", false},
    {"a byte order mark",
     T("\xef\xbb\xbf"
       "a.exe"),
     "a.exe", "exe", false},
    {"NUL", T("a.exe\0.txt"), "a.exe.txt", "txt", true},
    {"a line end", T("a\r\n.txt"), "a.txt", "txt", true},
    {"two extensions", T("invoice.pdf.exe"), "invoice.pdf.exe", "exe", true},
    {"with blanks between", T("invoice.pdf   .exe"), "invoice.pdf   .exe", "exe", true},
    {"two that belong together", T("site.min.js"), "site.min.js", "js", false},
    {"archives", T("a.tar.gz"), "a.tar.gz", "gz", false},
    {"many blanks", T("a.pdf          x.zip"), "a.pdf          x.zip", "zip", true},
    {"a class of the shell", T("a.{3050F4D8-98B5-11CF-BB82-00AA00BDCE0B}"),
     "a.{3050f4d8-98b5-11cf-bb82-00aa00bdce0b}", "{3050f4d8-98b5-11cf-bb82-00aa00bdce0b}", false},
    {"bytes of no charset", T("\xff\xfe.exe"), "\xff\xfe.exe", "exe", false},
};

static void test_read(void **unused)
{
    (void)unused;
    struct arena *arena = arena_new(0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct filename got;
        filename_read(names[i].text, arena, &got);
        if (!str_equal(got.text, str_c(names[i].read)) ||
            !str_equal(got.extension, str_c(names[i].extension)) ||
            (got.trick != NULL) != names[i].trick)
            fail_msg("%s: \"%.*s\" \"%.*s\" %s", names[i].name, STR_ARG(got.text),
                     STR_ARG(got.extension), got.trick ? got.trick : "no trick");
    }
    arena_free(arena);
}

static void test_long(void **unused)
{
    (void)unused;
    struct arena *arena = arena_new(0);
    struct filename got;
    char *text = arena_alloc(arena, 5000);
    for (int i = 0; i < 4996; i++)
        text[i] = 'a';
    text[4996] = '.', text[4997] = 'e', text[4998] = 'x', text[4999] = 'e';
    filename_read(str_of(text, 5000), arena, &got);
    assert_str(got.extension, "exe");
    assert_non_null(got.trick);
    struct str shown = filename_printable(str_of(text, 5000), arena);
    assert_true(shown.len < 200 && str_ends(shown, STR(".exe")));
    arena_free(arena);
}

static void test_dangerous(void **unused)
{
    (void)unused;
    static const char *const yes[] = {"exe", "js", "lnk", "ade", "zsh", "settingcontent-ms", "{x}"};
    static const char *const no[] = {"", "pdf", "docx", "ex e", "e", "xe", "zip", "txt", "a b"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        if (!filename_is_dangerous(str_c(yes[i])))
            fail_msg("%s", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (filename_is_dangerous(str_c(no[i])))
            fail_msg("%s", no[i]);
}

static void test_patterns(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *pattern;
        bool fits;
    } cases[] = {
        {"a.exe", "*.exe", true},
        {"a.exe", "*.ex", false},
        {"a.exe", "a.exe", true},
        {"a.exe", "?.exe", true},
        {"ab.exe", "?.exe", false},
        {"", "*", true},
        {"", "", true},
        {"a", "", false},
        {"invoice-12.zip", "*invoice*.zip", true},
        {"a.b.c.d", "*.*.*.*", true},
        {"a.b.c", "*.*.*.*", false},
        {"aaaa", "a*a*a", true},
        {"[a]", "[a]", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (filename_matches(str_c(cases[i].name), str_c(cases[i].pattern)) != cases[i].fits)
            fail_msg("%s %s", cases[i].name, cases[i].pattern);
}

static void test_printable(void **unused)
{
    (void)unused;
    struct arena *arena = arena_new(0);
    assert_str(filename_printable(STR("a\r\n\x1b[1m\xe2\x80\xae\xff\xc3\xa9`rm`"), arena),
               "a???[1m?\xef\xbf\xbd\xc3\xa9`rm`");
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_collect),   cmocka_unit_test(test_many_pieces),
        cmocka_unit_test(test_read),      cmocka_unit_test(test_long),
        cmocka_unit_test(test_dangerous), cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
