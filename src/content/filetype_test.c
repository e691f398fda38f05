/* SPDX-License-Identifier: Apache-2.0 */
/* content/filetype_test.c - first bytes, extensions, media types. */
#include "content/filetype.h"

#include "base/test.h"

#include <string.h>

struct case_of_head {
    const char *name;
    struct str head;
    enum filetype type;
};
#define H(literal)                                                                                 \
    {                                                                                              \
        "" literal, sizeof(literal) - 1                                                            \
    }

static const struct case_of_head heads[] = {
    {"nothing", H(""), FILETYPE_UNKNOWN},
    {"a text", H("Hello\r\n"), FILETYPE_UNKNOWN},
    {"a text that begins like a program", H("MZungu is a word\r\n"), FILETYPE_UNKNOWN},
    {"a program", H("MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff"), FILETYPE_DOS},
    {"letters cut off", H("M"), FILETYPE_UNKNOWN},
    {"ELF",
     H("\x7f"
       "ELF\x02"),
     FILETYPE_ELF},
    {"a class", H("\xca\xfe\xba\xbe\0\0\0\x34"), FILETYPE_JAVA_CLASS},
    {"two programs in one", H("\xca\xfe\xba\xbe\0\0\0\x02"), FILETYPE_MACH},
    {"zip", H("PK\x03\x04xx"), FILETYPE_ZIP},
    {"an empty zip", H("PK\x05\x06"), FILETYPE_ZIP},
    {"not a zip", H("PK\x03\x05"), FILETYPE_UNKNOWN},
    {"gzip", H("\x1f\x8b\x08"), FILETYPE_GZIP},
    {"bzip2", H("BZh9"), FILETYPE_BZIP2},
    {"a text", H("BZhi there"), FILETYPE_UNKNOWN},
    {"lha", H("\x20\x20-lh5-"), FILETYPE_LHA},
    {"a command", H("ls-lh file"), FILETYPE_UNKNOWN},
    {"a picture", H("\x89PNG\r\n\x1a\n"), FILETYPE_PNG},
    {"webp", H("RIFF\0\0\0\0WEBP"), FILETYPE_WEBP},
    {"riff of another kind", H("RIFF\0\0\0\0ABCD"), FILETYPE_UNKNOWN},
    {"pdf", H("%PDF-1.4"), FILETYPE_PDF_FILE},
    {"pdf behind junk", H("junk\n%PDF-1.4"), FILETYPE_PDF_FILE},
    {"html", H("\xef\xbb\xbf\n <!DOCTYPE HTML>"), FILETYPE_HTML},
    {"xml", H("<?xml version"), FILETYPE_XML},
    {"rtf", H("{\\rtf1"), FILETYPE_RTF},
    {"ole", H("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), FILETYPE_OLE},
    {"uuencoded", H("begin 644 a.exe\n"), FILETYPE_UUENCODED},
    {"a text", H("begin of it"), FILETYPE_UNKNOWN},
    {"a script", H("#!/bin/sh\n"), FILETYPE_SHEBANG},
};

static void test_heads(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (filetype_of(heads[i].head) != heads[i].type)
            fail_msg("%s: %s", heads[i].name, filetype_name(filetype_of(heads[i].head)));
}

/* What stands far behind the beginning. */
static void test_far(void **unused)
{
    (void)unused;
    static char head[FILETYPE_HEAD_ISO];
    memset(head, 0, sizeof head);
    memcpy(head + 257, "ustar", 5);
    assert_int_equal(filetype_of(str_of(head, 262)), FILETYPE_TAR);
    assert_int_equal(filetype_of(str_of(head, 261)), FILETYPE_UNKNOWN);
    memset(head, 0, sizeof head);
    memcpy(head + 0x8001, "CD001", 5);
    assert_int_equal(filetype_of(str_of(head, sizeof head)), FILETYPE_ISO);
    assert_int_equal(filetype_of(str_of(head, 0x8005)), FILETYPE_UNKNOWN);
}

struct promise_case {
    const char *extension, *media_type;
    enum filetype type;
    bool keeps;
};

static const struct promise_case promises[] = {
    {"pdf", "", FILETYPE_PDF_FILE, true},
    {"pdf", "", FILETYPE_DOS, false},
    {"pdf", "", FILETYPE_ZIP, false},
    {"pdf", "", FILETYPE_UNKNOWN, true},
    {"doc", "", FILETYPE_RTF, true},
    {"doc", "", FILETYPE_HTML, true},
    {"xls", "", FILETYPE_ZIP, true},
    {"docx", "", FILETYPE_SHORTCUT, false},
    {"jpg", "", FILETYPE_PNG, true},
    {"jpg", "", FILETYPE_RAR, false},
    {"txt", "", FILETYPE_JPEG, false},
    {"zip", "", FILETYPE_OOXML, true},
    {"zip", "", FILETYPE_ELF, false},
    {"unheard", "", FILETYPE_ELF, true},
    {"p", "", FILETYPE_ELF, true}, /* no whole word of any list */
    {"", "image/png", FILETYPE_DOS, false},
    {"", "application/octet-stream", FILETYPE_DOS, true},
    {"", "application/pdf", FILETYPE_PDF_FILE, true},
    {"", "text/plain", FILETYPE_ELF, false},
};

static void test_promises(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof promises / sizeof *promises; i++) {
        const struct promise_case *c = &promises[i];
        bool keeps = filetype_keeps(filetype_group_of_extension(str_c(c->extension)), c->type) &&
                     filetype_keeps(filetype_group_of_media_type(str_c(c->media_type)), c->type);
        if (keeps != c->keeps)
            fail_msg("\"%s\" \"%s\" %s", c->extension, c->media_type, filetype_name(c->type));
    }
}

/* Every type has a name, and every group's word is found again. */
static void test_table(void **unused)
{
    (void)unused;
    for (int type = FILETYPE_UNKNOWN + 1; type < FILETYPE_COUNT; type++)
        if (!filetype_name((enum filetype)type) || !*filetype_name((enum filetype)type) ||
            filetype_group((enum filetype)type) == FILETYPE_NONE)
            fail_msg("type %d has no row", type);
    enum filetype_group none;
    assert_false(filetype_group_find(STR("programs"), &none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_far),
        cmocka_unit_test(test_promises),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
