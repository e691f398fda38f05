/* SPDX-License-Identifier: Apache-2.0 */
/* content/unpack_test.c - archives of every kind, nested, secret, broken and made to cost. */
#include "content/unpack.h"

#include "base/buf.h"
#include "base/test.h"
#include "content/unpack_test.h"

#include <locale.h>
#include <stdio.h>

static const struct unpack_limits usual = {
    .depth = 5, .ratio = 100, .members = 1000, .bytes = 200 << 20};
#define PROGRAM STR("MZ\x90\0\x03\0\0\0\x04\0\0\0")

static const char *const flag_letters = "EMUO";

/* "depth name type flags|": type by its last word, flags by letters. */
static enum result note(void *context, const struct unpack_member *member, struct error *err)
{
    (void)err;
    const char *type = strrchr(filetype_name(member->type), '/');
    buf_printf(context, "%u %.*s %s", member->depth, STR_ARG(member->name), type ? type + 1 : "-");
    if (member->flags)
        buf_append_byte(context, ' ');
    for (unsigned i = 0; i < 4; i++)
        if (member->flags & 1u << i)
            buf_append_byte(context, flag_letters[i]);
    buf_append_byte(context, '|');
    return OK;
}

struct looked {
    struct buf out;
    struct unpack_spent spent;
};

static void look(struct looked *looked, struct str data, const struct unpack_limits *limits)
{
    struct error err;
    buf_init(&looked->out, 1 << 20);
    assert_int_equal(unpack_look(data, limits, note, &looked->out, &looked->spent, &err), OK);
}

static void expect(const char *name, struct str data, const char *expected)
{
    struct looked looked;
    look(&looked, data, &usual);
    if (!str_equal(buf_str(&looked.out), str_c(expected)))
        fail_msg("%s: \"%.*s\"", name, STR_ARG(buf_str(&looked.out)));
    buf_done(&looked.out);
}

/* ---- kinds ---- */

struct kind_case {
    const char *name;
    enum test_format format;
    const char *told;
};

static const struct kind_case kinds[] = {
    {"zip", TEST_ZIP, "1 a/b.exe vnd.microsoft.portable-executable|0  zip|"},
    {"secret zip", TEST_SECRET_ZIP, "1 a/b.exe - E|0  zip E|"},
    {"tar", TEST_TAR, "1 a/b.exe vnd.microsoft.portable-executable|0  x-tar|"},
    {"tar.gz", TEST_TAR_GZ, "1 a/b.exe vnd.microsoft.portable-executable|0  gzip|"},
    {"7z", TEST_SEVEN_ZIP, "1 a/b.exe vnd.microsoft.portable-executable|0  x-7z-compressed|"},
    {"iso", TEST_ISO, "1 a/b.exe vnd.microsoft.portable-executable|0  x-iso9660-image|"},
    {"cpio", TEST_CPIO, "1 a/b.exe vnd.microsoft.portable-executable|0  x-cpio|"},
    {"gz", TEST_GZ, "1  vnd.microsoft.portable-executable|0  gzip|"},
    {"xz", TEST_XZ, "1  vnd.microsoft.portable-executable|0  x-xz|"},
    {"zstd", TEST_ZSTD, "1  vnd.microsoft.portable-executable|0  zstd|"},
    {"bz2", TEST_BZ2, "1  vnd.microsoft.portable-executable|0  x-bzip2|"},
};

static void test_kinds(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct str made = test_archive_of(kinds[i].format, "a/b.exe", PROGRAM);
        expect(kinds[i].name, made, kinds[i].told);
        free((char *)made.ptr);
    }
    expect("nothing", STR(""), "0  - U|");
    expect("a text", STR("hello\r\n"), "0  - U|");
    expect("ace", STR("1234567**ACE**56789"), "0  x-ace-compressed U|");
}

/* Each in the one before. */
static struct str nest(enum test_format format, const char *name, struct str content, int depth)
{
    struct str made = test_archive_of(format, name, content);
    for (int i = 1; i < depth; i++) {
        struct str more = test_archive_of(format, "in.zip", made);
        free((char *)made.ptr);
        made = more;
    }
    return made;
}

static void test_nested(void **unused)
{
    (void)unused;
    struct str made = nest(TEST_ZIP, "x.exe", PROGRAM, 3);
    expect("three", made,
           "3 x.exe vnd.microsoft.portable-executable|2 in.zip zip|1 in.zip zip|0  zip|");
    free((char *)made.ptr);
    made = nest(TEST_ZIP, "x.exe", PROGRAM, 5);
    struct looked looked;
    look(&looked, made, &usual);
    assert_true(str_starts(buf_str(&looked.out), STR("5 x.exe vnd.")));
    assert_true(str_find(buf_str(&looked.out), 'O') < 0);
    buf_done(&looked.out);
    free((char *)made.ptr);
    made = nest(TEST_ZIP, "x.exe", PROGRAM, 20);
    expect("twenty", made, "4 in.zip zip O|3 in.zip zip O|2 in.zip zip O|1 in.zip zip O|0  zip O|");
    free((char *)made.ptr);
    struct str inner = test_archive_of(TEST_ISO, "x.exe", PROGRAM);
    made = test_archive_of(TEST_TAR_GZ, "in.iso", inner);
    expect("mixed", made,
           "2 x.exe vnd.microsoft.portable-executable|1 in.iso x-iso9660-image|0  gzip|");
    free((char *)made.ptr);
    free((char *)inner.ptr);
}

/* ---- Office ---- */

/* A compound document with one entry of this type and name, and a class at its root. */
static void compound(char out[1024], char type, const char *name, const char *class)
{
    memset(out, 0, 1024);
    memcpy(out, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 8);
    for (size_t i = 0; name[i]; i++)
        out[512 + 2 * i] = name[i];
    out[512 + 64] = (char)(2 * strlen(name) + 2);
    out[512 + 66] = type;
    memcpy(out + 512 + 80, class, 16);
}

static void test_compound(void **unused)
{
    (void)unused;
    static const char none[16];
    static const struct {
        char type;
        const char *name, *class, *told;
    } cases[] = {
        {1, "VBA", none, "0  x-ole-storage M|"},
        {1, "vba", none, "0  x-ole-storage M|"},
        {2, "VBA", none, "0  x-ole-storage|"},
        {1, "Macros", none, "0  x-ole-storage M|"},
        {2, "_VBA_PROJECT", none, "0  x-ole-storage M|"},
        {2, "EncryptedPackage", none, "0  x-ole-storage E|"},
        {2, "WordDocument", none, "0  x-ole-storage|"},
        {5, "Root Entry", none, "0  x-ole-storage|"},
        {5, "Root Entry", "\x84\x10\x0c\0\0\0\0\0\xc0\0\0\0\0\0\0\x46", "0  x-msi|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char file[1024];
        compound(file, cases[i].type, cases[i].name, cases[i].class);
        expect(cases[i].name, str_of(file, sizeof file), cases[i].told);
    }
    static const struct {
        const char *name;
        struct str record;
        bool macros;
    } records[] = {
        {"a sheet of macros", {"\x85\0\x0e\0\x34\x12\0\0\2\1\6\0Macro1", 18}, true},
        {"in UTF-16", {"\x85\0\x0a\0\x34\x12\0\0\0\1\1\1M\0", 14}, true},
        {"a sheet of numbers", {"\x85\0\x0e\0\x34\x12\0\0\0\0\6\0Sheet1", 18}, false},
        {"no such record", {"\x85\0\x0f\0\x34\x12\0\0\0\1\6\0Sheet1", 18}, false},
        {"slides with macros", {"\2\0\0\4\x0c\0\0\0\7\0\0\0\1\0\0\0\2\0\0\0", 20}, true},
        {"without", {"\2\0\0\4\x0c\0\0\0\7\0\0\0\0\0\0\0\2\0\0\0", 20}, false},
    };
    for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
        char book[1024];
        compound(book, 2, "Workbook", none);
        memcpy(book + 700, records[i].record.ptr, records[i].record.len);
        expect(records[i].name, str_of(book, sizeof book),
               records[i].macros ? "0  x-ole-storage M|" : "0  x-ole-storage|");
    }
    char file[1024];
    compound(file, 1, "VBA", none);
    struct looked cut; /* at every length: no byte beyond the end is looked at */
    for (size_t len = 0; len < sizeof file; len++) {
        char *copy = memory_alloc(len);
        memcpy(copy, file, len);
        look(&cut, str_of(copy, len), &usual);
        buf_done(&cut.out);
        free(copy);
    }
}

static void test_office(void **unused)
{
    (void)unused;
    static const struct {
        const char *member, *content, *told;
    } cases[] = {
        {"word/document.xml", "<?xml ?>",
         "1 [Content_Types].xml xml|1 word/document.xml xml|0  vnd.openxmlformats-officedocument|"},
        {"word/vbaProject.bin", "x",
         "1 [Content_Types].xml xml|1 word/vbaProject.bin -|0  vnd.openxmlformats-officedocument "
         "M|"},
        {"xl/macrosheets/sheet1.xml", "x",
         "1 [Content_Types].xml xml|1 xl/macrosheets/sheet1.xml -|0  "
         "vnd.openxmlformats-officedocument M|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_archive made;
        test_archive_open(&made, TEST_ZIP);
        test_archive_add(&made, "[Content_Types].xml", STR("<?xml version=\"1.0\"?><Types/>"));
        test_archive_add(&made, cases[i].member, str_c(cases[i].content));
        struct str file = test_archive_close(&made);
        expect(cases[i].member, file, cases[i].told);
        free((char *)file.ptr);
    }
    struct str file = test_archive_of(TEST_ZIP, "[Content_Types].xml",
                                      STR("<?xml?>x=\"application/vnd.ms-office.vbaProject\""));
    expect("macros under another name", file,
           "1 [Content_Types].xml xml|0  vnd.openxmlformats-officedocument M|");
    free((char *)file.ptr);
    file = test_archive_of(TEST_ZIP, "META-INF/MANIFEST.MF", STR("Manifest-Version: 1.0\r\n"));
    expect("jar", file, "1 META-INF/MANIFEST.MF -|0  java-archive|");
    free((char *)file.ptr);
    file = test_archive_of(TEST_ZIP, "mimetype", STR("application/vnd.oasis.opendocument.text"));
    expect("odf", file, "1 mimetype -|0  vnd.oasis.opendocument|");
    free((char *)file.ptr);
}

/* ---- winmail.dat ---- */

static void attribute(struct buf *out, int level, unsigned id, struct str value)
{
    char head[9] = {(char)level, (char)(id & 0xff), (char)(id >> 8)};
    for (int i = 0; i < 4; i++)
        head[5 + i] = (char)(value.len >> (8 * i) & 0xff);
    buf_append(out, str_of(head, sizeof head));
    buf_append(out, value);
    buf_append(out, STR("\0\0"));
}

static void test_tnef(void **unused)
{
    (void)unused;
    struct buf out BUF_CLEANUP;
    struct str zip = test_archive_of(TEST_ZIP, "x.js", STR("x"));
    buf_init(&out, 1 << 20);
    buf_append(&out, STR("\x78\x9f\x3e\x22\1\0"));
    expect("winmail.dat with nothing in it", buf_str(&out), "0  ms-tnef|");
    attribute(&out, 1, 0x8004, STR("a subject"));
    attribute(&out, 2, 0x9002, STR("0123456789abcd"));
    attribute(&out, 2, 0x8010, STR("REPORT~1.EXE\0"));
    attribute(&out, 2, 0x800f, PROGRAM);
    attribute(&out, 2, 0x9005, STR("xx\x1e\0\x07\x37\1\0\0\0\x0c\0\0\0report 1.exe"));
    attribute(&out, 2, 0x9002, STR("0123456789abcd"));
    attribute(&out, 2, 0x8010, STR("a.zip\0"));
    attribute(&out, 2, 0x800f, zip);
    attribute(&out, 2, 0x9005, STR("\x1f\0\x07\x37\1\0\0\0\x0e\0\0\0\xe4\0b\0\x20\x20.\0z\0\0\0"));
    expect("two attachments", buf_str(&out),
           "1 REPORT~1.EXE vnd.microsoft.portable-executable|1 report 1.exe "
           "vnd.microsoft.portable-executable|1 a.zip zip|2 x.js -|1 \xe4"
           "b?.z zip|0  ms-tnef|");
    out.len -= 5;
    expect("cut off", buf_str(&out),
           "1 REPORT~1.EXE vnd.microsoft.portable-executable|1 report 1.exe "
           "vnd.microsoft.portable-executable|2 x.js -|1 a.zip zip|0  ms-tnef U|");
    for (size_t len = out.len; len > 0; len--) {
        struct looked looked;
        char *copy = memory_alloc(len);
        memcpy(copy, out.ptr, len);
        look(&looked, str_of(copy, len), &usual);
        buf_done(&looked.out);
        free(copy);
    }
    free((char *)zip.ptr);
}

/* ---- hostile ---- */

/* Zeros, packed: how much of it is unpacked is the limit's business, not the sender's. */
static void test_bomb(void **unused)
{
    (void)unused;
    char *zeros = memory_alloc(30 << 20);
    struct str made = test_archive_of(TEST_GZ, "x", str_of(zeros, 30 << 20));
    struct looked looked;
    look(&looked, made, &usual);
    assert_str(buf_str(&looked.out), "1  -|0  gzip O|");
    assert_in_range(looked.spent.bytes, UNPACK_RATIO_FROM, UNPACK_RATIO_FROM + (1 << 20));
    buf_done(&looked.out);
    struct unpack_limits limits = usual;
    limits.ratio = 0;
    look(&looked, made, &limits);
    assert_str(buf_str(&looked.out), "1  -|0  gzip|");
    assert_int_equal(looked.spent.bytes, 30 << 20);
    buf_done(&looked.out);
    limits.bytes = 1 << 20;
    look(&looked, made, &limits);
    assert_str(buf_str(&looked.out), "1  -|0  gzip O|");
    assert_in_range(looked.spent.bytes, 1 << 20, (1 << 20) + 65536);
    buf_done(&looked.out);
    free((char *)made.ptr);
    free(zeros);
}

static struct str many(int count)
{
    struct test_archive made;
    test_archive_open(&made, TEST_ZIP);
    for (int i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d.txt", i);
        test_archive_add(&made, name, STR("hello"));
    }
    return test_archive_close(&made);
}

/* Twice the members cost twice as much; over the limit they cost no more. */
static void test_members(void **unused)
{
    (void)unused;
    static const int counts[] = {400, 800, 1000, 1001, 20000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct looked looked;
        struct str made = many(counts[i]);
        look(&looked, made, &usual);
        bool over = counts[i] > 1000;
        assert_int_equal(looked.spent.members, over ? 1001 : counts[i]);
        assert_int_equal(looked.spent.bytes, (over ? 1000 : counts[i]) * 5);
        assert_int_equal(str_ends(buf_str(&looked.out), STR("0  zip O|")), over);
        buf_done(&looked.out);
        free((char *)made.ptr);
    }
}

static void test_names(void **unused)
{
    (void)unused;
    static const char *const hostile[] = {"../../etc/passwd", "/etc/passwd", "a`touch /tmp/x`.txt",
                                          "$(reboot).txt",    "a\nb.txt",    "-rf",
                                          "..\\..\\x.exe",    "\xc3\xa9.txt"};
    struct test_archive made;
    struct buf told BUF_CLEANUP;
    buf_init(&told, 4096);
    test_archive_open(&made, TEST_ZIP);
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        test_archive_add(&made, hostile[i], STR("x"));
        /* libarchive reads Windows' separators as its own */
        buf_printf(&told, "1 %s -|", hostile[i][2] == '\\' ? "../../x.exe" : hostile[i]);
    }
    buf_append(&told, STR("1 ..\\..\\x.exe -|0  zip|")); /* as the directory has it */
    buf_append_byte(&told, '\0');
    struct str file = test_archive_close(&made);
    expect("hostile names", file, told.ptr);
    free((char *)file.ptr);
    char name[1000];
    memset(name, 'a', sizeof name);
    memcpy(name + sizeof name - 5, ".exe", 5);
    file = test_archive_of(TEST_ZIP, name, STR("x"));
    struct looked looked;
    look(&looked, file, &usual);
    assert_int_equal(looked.out.len, 2 + UNPACK_NAME_MAX + 3 + strlen("0  zip|"));
    assert_true(str_find_str(buf_str(&looked.out), STR(".exe -|")) > 0);
    buf_done(&looked.out);
    free((char *)file.ptr);
}

/* In front of the file stands another name than in the directory, by which Windows opens it. */
static void test_directory(void **unused)
{
    (void)unused;
    struct str made = test_archive_of(TEST_ZIP, "x.js", STR("hello"));
    char *local = memmem(made.ptr, made.len, "x.js", 4);
    memcpy(local, "xtxt", 4);
    expect("another name in the directory", made, "1 xtxt -|1 x.js -|0  zip|");
    memcpy((char *)made.ptr, "PK\x03\x09", 4); /* and nobody finds the file itself */
    struct looked looked;
    look(&looked, made, &usual);
    assert_true(str_find_str(buf_str(&looked.out), STR("1 x.js -|")) >= 0);
    buf_done(&looked.out);
    memcpy((char *)made.ptr, "PK\x03\x04", 4);
    char *entry = memmem(made.ptr, made.len, "PK\x01\x02", 4);
    entry[8] |= 1;
    look(&looked, made, &usual);
    assert_true(str_find_str(buf_str(&looked.out), STR("1 x.js - E|")) >= 0);
    buf_done(&looked.out);
    free((char *)made.ptr);
}

/* Cut at every place it is told as damaged, or what is left is told; never more than that. */
static void test_cut(void **unused)
{
    (void)unused;
    static const enum test_format formats[] = {TEST_ZIP, TEST_TAR_GZ, TEST_SEVEN_ZIP, TEST_XZ};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct str made = test_archive_of(formats[i], "x.txt", STR("hello hello hello hello"));
        size_t damaged = 0;
        for (size_t len = 1; len < made.len; len++) {
            struct looked looked;
            char *copy = memory_alloc(len);
            memcpy(copy, made.ptr, len);
            look(&looked, str_of(copy, len), &usual);
            damaged += str_ends(buf_str(&looked.out), STR("U|"));
            buf_done(&looked.out);
            free(copy);
        }
        if (damaged * 10 < made.len * 4)
            fail_msg("format %d: %zu of %zu", (int)formats[i], damaged, made.len);
        free((char *)made.ptr);
    }
}

static enum result refuse(void *context, const struct unpack_member *member, struct error *err)
{
    (void)context, (void)member;
    return fail(err, ERROR_LIMIT, "enough");
}

static void test_refused(void **unused)
{
    (void)unused;
    struct error err;
    struct unpack_spent spent;
    struct str made = nest(TEST_ZIP, "x", STR("x"), 3);
    assert_int_equal(unpack_look(made, &usual, refuse, NULL, &spent, &err), FAILED);
    assert_string_equal(err.text, "enough");
    free((char *)made.ptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),    cmocka_unit_test(test_nested),
        cmocka_unit_test(test_compound), cmocka_unit_test(test_office),
        cmocka_unit_test(test_bomb),     cmocka_unit_test(test_members),
        cmocka_unit_test(test_names),    cmocka_unit_test(test_cut),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_directory),
        cmocka_unit_test(test_tnef),
    };
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
