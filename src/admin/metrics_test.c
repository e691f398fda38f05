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
    assert_true(says("postern_smtp_rejects_total{listener=\"mx\",stage=\"rcpt\",reason=\"relay_"
                     "denied\",code=\"5xx\"} 2"));
    assert_true(says("postern_verdicts_total{direction=\"none\",verdict=\"rejected\"} 2"));
    assert_true(says("postern_recipients_accepted_total{listener=\"mx\"} 1"));
    assert_int_equal(count_of("# TYPE postern_smtp_rejects_total counter"), 1);
    assert_int_equal(count_of("a@b"), 0);
}

/* One refusal is one, whichever of its events tells of it. */
static void test_refusals_are_counted_once(void **unused)
{
    (void)unused;
    TAKE(EVENT_AUTH_FAIL, 0, F_C(LISTENER, "in"), F_C(REASON, "policy"), F_C(REF, ""));
    TAKE(EVENT_AUTH_FAIL, 0, F_C(LISTENER, "in"), F_C(REASON, "password_wrong"),
         F_C(REF, "7KQ2M9XD"));
    TAKE(EVENT_AUTH_FAIL, 0, F_C(LISTENER, "in"),
         F_C(REASON, "protocol")); /* and then, with ref: */
    TAKE(EVENT_SESSION_PROTOCOL, 0, F_C(LISTENER, "in"), F_C(COMMAND, "AUTH"),
         F_C(REASON, "auth_failed"), F_INT(CODE, 535));
    TAKE(EVENT_SESSION_LIMIT, 0, F_C(LISTENER, "in"), F_C(LIMIT, "errors")); /* likewise */
    TAKE(EVENT_SESSION_PROTOCOL, 0, F_C(LISTENER, "in"), F_C(COMMAND, "rcpt"),
         F_C(REASON, "protocol"), F_INT(CODE, 421));
    TAKE(EVENT_SESSION_PROTOCOL, 0, F_C(LISTENER, "in"), F_C(COMMAND, "X-\"EVIL"),
         F_C(REASON, "protocol"), F_INT(CODE, 500));
    TAKE(EVENT_SESSION_LIMIT, 0, F_C(LISTENER, "in"), F_C(LIMIT, "sessions"),
         F_C(REASON, "overload"));
    TAKE(EVENT_MESSAGE_DEFERRED, 0, F_C(LISTENER, "in"), F_C(COMMAND, "MAIL"),
         F_C(REASON, "contained"), F_C(REF, "7KQ2M9XE"));
    TAKE(EVENT_MESSAGE_DEFERRED, 0, F_C(FLOW, "spam")); /* in the queue: nobody is refused */
    assert_int_equal(count_of("postern_smtp_rejects_total{"), 6);
    static const char *const want[] = {
        "stage=\"auth\",reason=\"password_wrong\",code=\"5xx\"",
        "stage=\"auth\",reason=\"auth_failed\",code=\"5xx\"",
        "stage=\"rcpt\",reason=\"protocol\",code=\"4xx\"",
        "stage=\"other\",reason=\"protocol\",code=\"5xx\"",
        "stage=\"connect\",reason=\"overload\",code=\"4xx\"",
        "stage=\"mail\",reason=\"contained\",code=\"4xx\"",
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char line[256];
        snprintf(line, sizeof line, "postern_smtp_rejects_total{listener=\"in\",%s} 1", want[i]);
        if (!says(line))
            fail_msg("%s", line);
    }
}

static void test_verdicts_are_of_recipients(void **unused)
{
    (void)unused;
    TAKE(EVENT_MESSAGE_REJECTED, 0, F_C(DIRECTION, "inbound"), F_INT(RECIPIENTS, 3));
    TAKE(EVENT_RECIPIENT_REJECT, 0, F_C(DIRECTION, "inbound"));
    TAKE(EVENT_DELIVERY_SENT, 0, F_C(DIRECTION, "outbound"));
    TAKE(EVENT_DELIVERY_FAILED, 0, F_C(DIRECTION, "outbound"));
    TAKE(EVENT_DELIVERY_EXPIRED, 0, F_C(DIRECTION, "outbound"));
    TAKE(EVENT_MESSAGE_QUARANTINED, 0, F_C(DIRECTION, "inbound"), F_INT(RECIPIENTS, 2),
         F_C(QUARANTINE, "spam"));
    assert_true(says("postern_verdicts_total{direction=\"inbound\",verdict=\"rejected\"} 4"));
    assert_true(says("postern_verdicts_total{direction=\"outbound\",verdict=\"delivered\"} 1"));
    assert_true(says("postern_verdicts_total{direction=\"outbound\",verdict=\"failed\"} 2"));
    assert_true(says("postern_verdicts_total{direction=\"inbound\",verdict=\"quarantined\"} 2"));
    assert_true(says("postern_quarantine_entered_total{quarantine=\"spam\",reason=\"none\"} 1"));
}

static void test_deliveries_by_their_tls(void **unused)
{
    static const struct {
        const char *policy, *tls, *labels;
    } rows[] = {
        {"opportunistic", "", "policy=\"opportunistic\",tls=\"none\",result=\"plain\""},
        {"opportunistic", "TLSv1.2", "policy=\"opportunistic\",tls=\"1.2\",result=\"encrypted\""},
        {"verified", "TLSv1.3", "policy=\"verified\",tls=\"1.3\",result=\"verified\""},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char line[256];
        TAKE(EVENT_DELIVERY_SENT, 0, F_C(TRANSPORT, "out"), F_C(POLICY, rows[i].policy),
             F_C(TLS, rows[i].tls));
        snprintf(line, sizeof line, "postern_delivery_tls_total{transport=\"out\",%s} 1",
                 rows[i].labels);
        if (!says(line))
            fail_msg("%s", line);
    }
}

static void test_sessions_by_their_tls(void **unused)
{
    (void)unused;
    TAKE(EVENT_SESSION_CLOSE, 0, F_C(LISTENER, "mx"), F_C(TLS, "TLSv1.3"));
    TAKE(EVENT_SESSION_CLOSE, 0, F_C(LISTENER, "mx"), F_C(TLS, ""));
    TAKE(EVENT_SESSION_CLOSE, 0, F_C(LISTENER, "mx"));
    assert_true(says("postern_smtp_sessions_total{listener=\"mx\",tls=\"1.3\"} 1"));
    assert_true(says("postern_smtp_sessions_total{listener=\"mx\",tls=\"none\"} 2"));
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
                     "le=\"2\"} 0"));
    assert_true(says("postern_delivery_latency_seconds_bucket{transport=\"out\",direction=\"none\","
                     "le=\"10\"} 1"));
}

static void test_a_backend_is_one_gauge(void **unused)
{
    (void)unused;
    TAKE(EVENT_BACKEND_ANSWER, 0, F_C(BACKEND, "ldap"), F_C(OUTCOME, "failed"));
    assert_true(says("postern_backend_up{backend=\"ldap\"} 0"));
    TAKE(EVENT_BACKEND_ANSWER, 0, F_C(BACKEND, "ldap"), F_C(OUTCOME, "answered"));
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
        TAKE(EVENT_SESSION_CLOSE, 0, F_C(LISTENER, name));
    }
    assert_int_equal(count_of("postern_smtp_sessions_total{"), 1001);
    assert_true(says("postern_smtp_sessions_total{listener=\"other\",tls=\"other\"} 2000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_events_are_counted_by_their_labels, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals_are_counted_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_verdicts_are_of_recipients, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sessions_by_their_tls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deliveries_by_their_tls, set_up, tear_down),
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
