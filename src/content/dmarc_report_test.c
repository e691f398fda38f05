/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "content/dmarc_report.h"

static struct arena *arena;

static int set_up(void **unused)
{
    (void)unused;
    arena = arena_new(0);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    arena_free(arena);
    return 0;
}

static void test_what_is_written_is_read(void **unused)
{
    struct dmarc_report_row rows[] = {
        {.source_ip = STR("192.0.2.7"),
         .count = 12,
         .disposition = STR("reject"),
         .dkim = STR("fail"),
         .spf = STR("pass"),
         .reason = STR("local_policy"),
         .comment = STR("a < b & c"),
         .header_from = STR("example.net"),
         .envelope_from = STR("bounce.example.net"),
         .auths = {{.is_spf = true,
                    .domain = STR("bounce.example.net"),
                    .scope = STR("mfrom"),
                    .result = STR("pass"),
                    .selector = STR_EMPTY},
                   {.domain = STR("example.net"),
                    .selector = STR("s1"),
                    .result = STR("fail"),
                    .scope = STR_EMPTY}},
         .auth_count = 2},
    };
    struct dmarc_report report = {.organization = STR("Example & Co"),
                                  .email = STR("d@example.org"),
                                  .contact = STR_EMPTY,
                                  .id = STR("1"),
                                  .begin_s = 86400,
                                  .end_s = 172799,
                                  .domain = STR("example.net"),
                                  .p = STR("reject"),
                                  .sp = STR_EMPTY,
                                  .np = STR_EMPTY,
                                  .adkim = STR("r"),
                                  .aspf = STR("s"),
                                  .testing = STR_EMPTY,
                                  .rows = rows,
                                  .row_count = 1};
    struct dmarc_report again;
    struct error err;
    struct buf xml BUF_CLEANUP;
    (void)unused;
    buf_init(&xml, 65536);
    dmarc_report_write(&report, &xml);
    assert_int_equal(dmarc_report_read(buf_str(&xml), arena, &again, &err), OK);
    assert_str(again.organization, "Example & Co");
    assert_str(again.domain, "example.net");
    assert_str(again.aspf, "s");
    assert_int_equal(again.begin_s, 86400);
    assert_int_equal(again.end_s, 172799);
    assert_int_equal(again.row_count, 1);
    assert_int_equal(again.rows[0].count, 12);
    assert_str(again.rows[0].comment, "a < b & c");
    assert_int_equal(again.rows[0].auth_count, 2);
    assert_false(again.rows[0].auths[0].is_spf); /* DKIM stands first */
    assert_str(again.rows[0].auths[0].selector, "s1");
    assert_str(again.rows[0].auths[1].scope, "mfrom");
}

#define HEAD "<feedback><policy_published><domain>example.net</domain></policy_published>"

static void test_what_others_write(void **unused)
{
    static const struct {
        const char *xml;
        enum result result;
        size_t rows;
    } cases[] = {
        {HEAD "</feedback>", OK, 0},
        {HEAD "<record><row><count>3</count></row></record><record/></feedback>", OK, 2},
        {"<d:feedback xmlns:d=\"urn:x\"><d:policy_published><d:domain>a.b</d:domain>"
         "</d:policy_published></d:feedback>",
         OK, 0},
        {HEAD "<new><deep><er/></deep></new></feedback>", OK, 0},
        {HEAD "<record><row><count>many</count></row></record></feedback>", OK, 1},
        {"<feedback></feedback>", FAILED, 0},
        {"<html><body/></html>", FAILED, 0},
        {HEAD, FAILED, 0},
        {"", FAILED, 0},
        {"<!DOCTYPE x [<!ENTITY a \"b\">]>" HEAD "</feedback>", FAILED, 0},
        {HEAD "<a><b><c><d><e><f><g><h><i/></h></g></f></e></d></c></b></a></feedback>", FAILED, 0},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dmarc_report report;
        struct error err;
        if (dmarc_report_read(str_c(cases[i].xml), arena, &report, &err) != cases[i].result)
            fail_msg("%s", cases[i].xml);
        if (cases[i].result == OK)
            assert_int_equal(report.row_count, cases[i].rows);
    }
}

static void test_hostile_values_stay_values(void **unused)
{
    struct dmarc_report_row row = {.source_ip = STR("</source_ip><evil/>\x01\xff&amp;"),
                                   .disposition = STR("none"),
                                   .dkim = STR("fail"),
                                   .spf = STR("fail"),
                                   .reason = STR_EMPTY,
                                   .comment = STR_EMPTY,
                                   .header_from = STR("x"),
                                   .envelope_from = STR_EMPTY};
    struct dmarc_report report = {.domain = STR("a.b"),
                                  .organization = STR_EMPTY,
                                  .email = STR_EMPTY,
                                  .contact = STR_EMPTY,
                                  .id = STR_EMPTY,
                                  .p = STR_EMPTY,
                                  .sp = STR_EMPTY,
                                  .np = STR_EMPTY,
                                  .adkim = STR_EMPTY,
                                  .aspf = STR_EMPTY,
                                  .testing = STR_EMPTY,
                                  .rows = &row,
                                  .row_count = 1};
    struct dmarc_report again;
    struct error err;
    struct buf xml BUF_CLEANUP;
    (void)unused;
    buf_init(&xml, 65536);
    dmarc_report_write(&report, &xml);
    assert_int_equal(dmarc_report_read(buf_str(&xml), arena, &again, &err), OK);
    assert_str(again.rows[0].source_ip, "</source_ip><evil/>??&amp;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_written_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_others_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_values_stay_values, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
