/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "admin/metrics.h"

#include "base/buf.h"
#include "mail/id.h"

#include <stdio.h>
#include <string.h>

static struct metrics *metrics;
static struct buf out;

static int set_up(void **unused)
{
    (void)unused;
    metrics = metrics_new();
    buf_init(&out, 8 * 1024 * 1024);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    metrics_free(metrics);
    buf_done(&out);
    return 0;
}

#define TAKE(type_, wall_ns_, ...)                                                                 \
    do {                                                                                           \
        struct event event = {                                                                     \
            .type = (type_), .wall_ns = (wall_ns_), .changed = EVENT_ALL_CHANGED};                 \
        const struct event_field fields[] = {__VA_ARGS__};                                         \
        memcpy(event.fields, fields, sizeof fields);                                               \
        event.count = sizeof fields / sizeof *fields;                                              \
        metrics_take(metrics, &event);                                                             \
    } while (0)

static bool says(const char *line)
{
    char whole[512];
    int len = snprintf(whole, sizeof whole, "\n%s\n", line);
    buf_clear(&out);
    buf_append_byte(&out, '\n');
    metrics_print(metrics, &out);
    return str_find_str(buf_str(&out), str_of(whole, (size_t)len)) >= 0;
}

static size_t count_of(const char *text)
{
    buf_clear(&out);
    metrics_print(metrics, &out);
    size_t count = 0;
    struct str rest = buf_str(&out);
    for (ptrdiff_t at; (at = str_find_str(rest, str_c(text))) >= 0; count++)
        rest = str_from(rest, (size_t)at + 1);
    return count;
}

static void test_events_are_counted_by_their_labels(void **unused)
{
    (void)unused;
    TAKE(EVENT_RECIPIENT_REJECT, 0, F_C(LISTENER, "mx"), F_C(REASON, "relay_denied"),
         F_C(TO, "a@b"));
    TAKE(EVENT_RECIPIENT_REJECT, 0, F_C(LISTENER, "mx"), F_C(REASON, "relay_denied"));
    TAKE(EVENT_RECIPIENT_ACCEPT, 0, F_C(LISTENER, "mx"));
    assert_true(says("postern_recipients_total{listener=\"mx\",verdict=\"rejected\",reason=\"relay_"
                     "denied\"} 2"));
    assert_true(
        says("postern_recipients_total{listener=\"mx\",verdict=\"accepted\",reason=\"\"} 1"));
    assert_int_equal(count_of("# TYPE postern_recipients_total counter"), 1);
    assert_int_equal(count_of("a@b"), 0);
}

static void test_what_never_happened_is_zero(void **unused)
{
    (void)unused;
    assert_true(says("postern_spool_damaged_total 0"));
    TAKE(EVENT_SPOOL_DAMAGED, 0, F_C(DETAIL, "x"));
    assert_true(says("postern_spool_damaged_total 1"));
}

static void test_histograms_add_up(void **unused)
{
    (void)unused;
    TAKE(EVENT_MESSAGE_ACCEPTED, 0, F_C(LISTENER, "mx"), F_INT(SIZE, 1000));
    TAKE(EVENT_MESSAGE_ACCEPTED, 0, F_C(LISTENER, "mx"), F_INT(SIZE, 5000));
    TAKE(EVENT_MESSAGE_ACCEPTED, 0, F_C(LISTENER, "mx"), F_INT(SIZE, 1000000000));
    assert_true(says(
        "postern_message_size_bytes_bucket{listener=\"mx\",direction=\"none\",le=\"4096\"} 1"));
    assert_true(says(
        "postern_message_size_bytes_bucket{listener=\"mx\",direction=\"none\",le=\"16384\"} 2"));
    assert_true(says(
        "postern_message_size_bytes_bucket{listener=\"mx\",direction=\"none\",le=\"+Inf\"} 3"));
    assert_true(
        says("postern_message_size_bytes_sum{listener=\"mx\",direction=\"none\"} 1000006000"));
    assert_true(says("postern_message_size_bytes_count{listener=\"mx\",direction=\"none\"} 3"));
}

static void test_an_event_without_its_number_is_no_sample(void **unused)
{
    (void)unused;
    TAKE(EVENT_MESSAGE_ACCEPTED, 0, F_C(LISTENER, "mx"));
    assert_int_equal(count_of("postern_message_size_bytes_count"), 0);
}

static void test_latency_is_the_age_of_the_id(void **unused)
{
    (void)unused;
    struct mail_id id = mail_id_new();
    TAKE(EVENT_DELIVERY_SENT, (mail_id_time_ms(id) + 2500) * 1000000, F_C(TRANSPORT, "out"),
         F_C(MESSAGE, mail_id_text(id).chars));
    assert_true(
        says("postern_delivery_latency_seconds_sum{transport=\"out\",direction=\"none\"} 2.5"));
    assert_true(says("postern_delivery_latency_seconds_bucket{transport=\"out\",direction=\"none\","
                     "le=\"1\"} 0"));
    assert_true(says("postern_delivery_latency_seconds_bucket{transport=\"out\",direction=\"none\","
                     "le=\"5\"} 1"));
}

static void test_a_backend_is_one_gauge(void **unused)
{
    (void)unused;
    TAKE(EVENT_BACKEND_DOWN, 0, F_C(BACKEND, "ldap"));
    assert_true(says("postern_backend_up{backend=\"ldap\"} 0"));
    TAKE(EVENT_BACKEND_UP, 0, F_C(BACKEND, "ldap"));
    assert_true(says("postern_backend_up{backend=\"ldap\"} 1"));
    assert_int_equal(count_of("postern_backend_up{"), 1);
}

static void test_labels_cannot_break_out(void **unused)
{
    (void)unused;
    TAKE(EVENT_LIMIT_REACHED, 0, F_C(FLOW, "a\"} 1\npostern_evil 2\\"), F_C(STEP, "\xff"));
    assert_true(
        says("postern_limits_reached_total{flow=\"a\\\"} 1?postern_evil 2\\\\\",step=\"?\"} 1"));
}

static void test_series_are_bounded(void **unused)
{
    char name[32];
    (void)unused;
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "mx%d", i);
        TAKE(EVENT_SESSION_OPEN, 0, F_C(LISTENER, name));
    }
    assert_int_equal(count_of("postern_smtp_sessions_total{"), 1001);
    assert_true(says("postern_smtp_sessions_total{listener=\"other\"} 2000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_events_are_counted_by_their_labels, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_never_happened_is_zero, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_histograms_add_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_event_without_its_number_is_no_sample, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_latency_is_the_age_of_the_id, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_backend_is_one_gauge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_labels_cannot_break_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_series_are_bounded, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
