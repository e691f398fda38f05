/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "admin/log_journal.h"

#include "base/buf.h"

#include <string.h>

/* The value of a field in an entry, read as journald does; NULL-pointer text: it is not there. */
static struct str value_of(struct str entry, const char *wanted)
{
    while (entry.len) {
        ptrdiff_t line_end = str_find(entry, '\n');
        assert_true(line_end > 0);
        struct str line = str_slice(entry, 0, (size_t)line_end), value;
        ptrdiff_t equal = str_find(line, '=');
        entry = str_from(entry, (size_t)line_end + 1);
        struct str name = str_slice(line, 0, equal < 0 ? line.len : (size_t)equal);
        if (equal >= 0) {
            value = str_from(line, (size_t)equal + 1);
        } else {
            uint64_t length = 0;
            assert_true(entry.len >= 8);
            for (unsigned i = 0; i < 8; i++)
                length |= (uint64_t)(unsigned char)entry.ptr[i] << (8 * i);
            assert_true(entry.len - 8 > length);
            value = str_slice(entry, 8, 8 + (size_t)length);
            assert_int_equal(entry.ptr[8 + length], '\n');
            entry = str_from(entry, 8 + (size_t)length + 1);
        }
        for (size_t i = 0; i < name.len; i++) /* what journald takes */
            assert_true((name.ptr[i] >= 'A' && name.ptr[i] <= 'Z') || name.ptr[i] == '_' ||
                        (i && name.ptr[i] >= '0' && name.ptr[i] <= '9'));
        if (str_equal(name, str_c(wanted)))
            return value;
    }
    return (struct str){NULL, 0};
}

static void assert_value(struct str entry, const char *name, const char *want)
{
    struct str value = value_of(entry, name);
    if (!value.ptr || !str_equal(value, str_c(want)))
        fail_msg("%s is \"%.*s\", not \"%s\"", name, STR_ARG(value), want);
}

static void test_fields_stand_beside_the_line(void **unused)
{
    struct event event = {.type = EVENT_RECIPIENT_REJECT,
                          .wall_ns = INT64_C(1795807371950686000),
                          .seq = 42,
                          .count = 4,
                          .fields = {F_C(REF, "7KQ2M9XD"), F_INT(CODE, 550), F_C(USER, ""),
                                     F_C(DETAIL, "a\nMESSAGE_ID=forged\nb")}};
    struct buf out BUF_CLEANUP;
    (void)unused;
    buf_init(&out, 65536);
    log_journal_entry(&event, "0123", STR("gw1"), STR("r7"), &out);
    struct str entry = buf_str(&out);
    assert_value(entry, "MESSAGE",
                 "recipient.reject ref=7KQ2M9XD code=550 user=\"\" "
                 "detail=\"a\\nMESSAGE_ID=forged\\nb\"");
    assert_value(entry, "MESSAGE_ID", "0123");
    assert_value(entry, "PRIORITY", "5");
    assert_value(entry, "SYSLOG_IDENTIFIER", "postern");
    assert_value(entry, "POSTERN_EVENT", "recipient.reject");
    assert_value(entry, "POSTERN_SEQ", "42");
    assert_value(entry, "POSTERN_TIME_US", "1795807371950686");
    assert_value(entry, "POSTERN_NODE", "gw1");
    assert_value(entry, "POSTERN_REV", "r7");
    assert_value(entry, "POSTERN_REF", "7KQ2M9XD");
    assert_value(entry, "POSTERN_CODE", "550");
    assert_value(entry, "POSTERN_DETAIL", "a\nMESSAGE_ID=forged\nb");
    assert_null(value_of(entry, "POSTERN_USER").ptr);
}

/* Anybody may have saved a search by it. */
static void test_ids_stay(void **unused)
{
    char id[EVENT_ID_SIZE], other[EVENT_ID_SIZE];
    (void)unused;
    assert_string_equal(log_journal_id(EVENT_RECIPIENT_REJECT, id),
                        "ba8caa9facde8e39b181faadb94cd83e");
    for (int i = 0; i < EVENT_TYPE_COUNT; i++) {
        log_journal_id((enum event_type)i, id);
        assert_int_equal(strlen(id), 32);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(id, log_journal_id((enum event_type)k, other));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_stand_beside_the_line),
        cmocka_unit_test(test_ids_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
