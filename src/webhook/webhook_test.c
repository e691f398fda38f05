/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts: signature, answers, delays, the choice of events, payloads. */
#include "base/test.h"

#include "webhook/backoff.h"
#include "webhook/choice.h"
#include "webhook/payload.h"
#include "webhook/signature.h"
#include "webhook/verdict.h"

#include "base/clock.h"

#include <jansson.h>
#include <string.h>

/* ---- signature ---- */

/* The example that implementations of the specification share. */
static void test_published_vector(void **unused)
{
    struct webhook_secret secrets[2];
    struct buf out BUF_CLEANUP;
    (void)unused;
    buf_init(&out, 1000);
    assert_true(webhook_secret_parse(STR("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), &secrets[0]));
    webhook_sign(secrets, 1, STR("msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330,
                 STR("{\"test\": 2432232314}"), &out);
    assert_str(buf_str(&out), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    secrets[1] = secrets[0];
    secrets[0].bytes[0] ^= 1;
    buf_clear(&out);
    webhook_sign(secrets, 2, STR("msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330,
                 STR("{\"test\": 2432232314}"), &out);
    assert_true(str_ends(buf_str(&out), STR(" v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")));
    assert_int_equal(out.len, 2 * strlen("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=") + 1);
}

static void test_secrets(void **unused)
{
    static const struct {
        const char *text;
        bool good;
    } cases[] = {
        {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true}, /* 24 bytes */
        {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa==", false},
        {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", false}, /* no padding */
        {"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
         "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
         true}, /* 64 */
        {"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
         "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
         false}, /* 65 */
        {"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false},
        {"whsec_", false},
        {"whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false},
        {"", false},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct webhook_secret secret;
        if (webhook_secret_parse(str_c(cases[i].text), &secret) != cases[i].good)
            fail_msg("%s", cases[i].text);
    }
}

/* ---- answers ---- */

static void test_answers(void **unused)
{
    enum { NOW = 784111777 }; /* Sun, 06 Nov 1994 08:49:37 GMT */
    static const struct {
        unsigned status;
        const char *retry_after;
        enum webhook_outcome outcome;
        bool is_busy;
        int64_t seconds;
    } cases[] = {
        {200, "", WEBHOOK_DELIVERED, false, 0},
        {204, "10", WEBHOOK_DELIVERED, false, 0},
        {299, "", WEBHOOK_DELIVERED, false, 0},
        {301, "", WEBHOOK_FAILED, false, 0},
        {400, "", WEBHOOK_FAILED, false, 0},
        {404, "", WEBHOOK_FAILED, false, 0},
        {410, "", WEBHOOK_GONE, false, 0},
        {429, "", WEBHOOK_FAILED, true, 0},
        {429, "120", WEBHOOK_FAILED, true, 120},
        {500, "", WEBHOOK_FAILED, false, 0},
        {500, "5", WEBHOOK_FAILED, true, 5},
        {502, "", WEBHOOK_FAILED, true, 0},
        {503, " 7 ", WEBHOOK_FAILED, true, 7},
        {504, "", WEBHOOK_FAILED, true, 0},
        {0, "", WEBHOOK_FAILED, true, 0},
        {503, "99999999", WEBHOOK_FAILED, true, 86400},
        {503, "99999999999999999999", WEBHOOK_FAILED, true, 0},
        {503, "-5", WEBHOOK_FAILED, true, 0},
        {503, "Sun, 06 Nov 1994 08:50:37 GMT", WEBHOOK_FAILED, true, 60},
        {503, "Sun, 06 Nov 1994 08:48:37 GMT", WEBHOOK_FAILED, true, 0},
        {503, "Sun, 06 Nov 2094 08:49:37 GMT", WEBHOOK_FAILED, true, 86400},
        {503, "Sun, 06 ovD 1994 08:50:37 GMT", WEBHOOK_FAILED, true, 0},
        {503, "Sun, 66 Nov 1994 08:50:37 GMT", WEBHOOK_FAILED, true, 0},
        {503, "Sunday, 06-Nov-94 08:50:37 GMT", WEBHOOK_FAILED, true, 0},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct webhook_verdict verdict =
            webhook_judge(cases[i].status, str_c(cases[i].retry_after), NOW * INT64_C(1000));
        if (verdict.outcome != cases[i].outcome || verdict.is_busy != cases[i].is_busy ||
            verdict.retry_after_ms != cases[i].seconds * 1000)
            fail_msg("%u %s: %d, %d, %lld", cases[i].status, cases[i].retry_after, verdict.outcome,
                     verdict.is_busy, (long long)verdict.retry_after_ms);
    }
}

/* ---- delays ---- */

static void test_delays(void **unused)
{
    static const int64_t delays_s[] = {5,     300,   1800,  7200,  18000,
                                       36000, 50400, 72000, 86400, 86400};
    static const int64_t holds_s[] = {5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900};
    bool differs = false;
    (void)unused;
    for (unsigned i = 0; i < 10; i++) {
        int64_t ms = webhook_delay_ms(i + 1), other = webhook_delay_ms(i + 1);
        assert_in_range(ms, delays_s[i] * 1000, delays_s[i] * 1100);
        differs = differs || ms != other;
    }
    for (unsigned i = 0; i < 11; i++)
        assert_in_range(webhook_hold_ms(i + 1), holds_s[i] * 1000, holds_s[i] * 1100);
    assert_in_range(webhook_delay_ms(0), 5000, 5500);
    assert_in_range(webhook_hold_ms(1000000), 900000, 990000);
    assert_true(differs); /* ten pairs, of thousands of values each */
}

/* ---- the choice ---- */

static void test_words(void **unused)
{
    static const struct {
        const char *word;
        enum webhook_word answer;
        const char *chosen, *other;
    } cases[] = {
        {"message.rejected", WEBHOOK_WORD_TAKEN, "message.rejected", "message.accepted"},
        {"delivery.*", WEBHOOK_WORD_TAKEN, "delivery.failed", "dsn.sent"},
        {"*", WEBHOOK_WORD_TAKEN, "delivery.failed", "flow.step"},
        {"flow.step", WEBHOOK_WORD_TAKEN, "flow.step", "flow.restarted"},
        {"*", WEBHOOK_WORD_TAKEN, "events.dropped", "webhook.failed"},
        {"webhook.failed", WEBHOOK_WORD_OF_OWN, NULL, "webhook.failed"},
        {"webhook.*", WEBHOOK_WORD_OF_OWN, NULL, "webhook.failed"},
        {"delivery", WEBHOOK_WORD_UNKNOWN, NULL, "delivery.failed"},
        {"deliver*", WEBHOOK_WORD_UNKNOWN, NULL, "delivery.failed"},
        {".*", WEBHOOK_WORD_UNKNOWN, NULL, "delivery.failed"},
        {"", WEBHOOK_WORD_UNKNOWN, NULL, "delivery.failed"},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct webhook_choice choice = {0};
        if (webhook_choice_add(&choice, str_c(cases[i].word)) != cases[i].answer)
            fail_msg("%s", cases[i].word);
        for (int type = 0; type < EVENT_TYPE_COUNT; type++) {
            struct str name = str_c(event_name((enum event_type)type));
            if (cases[i].chosen && str_equal(name, str_c(cases[i].chosen)))
                assert_true(choice.wants[type]);
            if (str_equal(name, str_c(cases[i].other)))
                assert_false(choice.wants[type]);
        }
    }
}

static void test_expressions(void **unused)
{
    struct arena *arena = arena_new(0);
    struct error err;
    struct webhook_choice choice = {0}, steps = {0}, bad = {0};
    struct event event = {
        .type = EVENT_RECIPIENT_REJECT, .count = 1, .fields = {F_C(TO, "anna@example.org")}};
    (void)unused;
    assert_int_equal(webhook_choice_filter(&choice, STR("to:@example.org severity:notice"),
                                           /* alone= */ true, arena, &err),
                     OK);
    assert_true(webhook_choice_fits(&choice, &event));
    assert_false(choice.wants[EVENT_MESSAGE_ACCEPTED]); /* info */
    assert_false(choice.wants[EVENT_WEBHOOK_FAILED]);
    event.fields[0] = F_C(TO, "anna@example.net");
    assert_false(webhook_choice_fits(&choice, &event));
    assert_int_equal(webhook_choice_filter(&steps, STR("event:flow.step"), true, arena, &err), OK);
    assert_true(steps.wants[EVENT_FLOW_STEP]);
    assert_false(steps.wants[EVENT_RECIPIENT_REJECT]);
    static const char *const wrong[] = {"", "since:1h", "today", "nonsense:1", "event:nothing"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(webhook_choice_filter(&bad, str_c(wrong[i]), true, arena, &err), FAILED);
    arena_free(arena);
}

/* That webhooks lost events is not sent: it would be the next to be lost. */
static void test_own_losses(void **unused)
{
    struct webhook_choice choice = {0};
    struct event event = {.type = EVENT_TRACE_LOST, .count = 1, .fields = {F_C(SINK, "webhooks")}};
    (void)unused;
    assert_int_equal(webhook_choice_add(&choice, STR("events.dropped")), WEBHOOK_WORD_TAKEN);
    assert_false(webhook_choice_fits(&choice, &event));
    event.count = 0;
    assert_true(webhook_choice_fits(&choice, &event));
}

/* ---- payloads ---- */

static json_t *payload_of(enum webhook_payload form, const struct event *event)
{
    struct buf out BUF_CLEANUP;
    buf_init(&out, 16 * WEBHOOK_PAYLOAD_MAX);
    webhook_payload_write(form, event, STR("mx1"), STR("r7"), &out);
    assert_false(out.overflow);
    assert_in_range(out.len, 2, WEBHOOK_PAYLOAD_MAX);
    json_t *json = json_loadb(out.ptr, out.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    return json;
}

static void test_payloads(void **unused)
{
    const struct event event = {.type = EVENT_DELIVERY_FAILED,
                                .wall_ns = INT64_C(1764270000123) * NS_PER_MS,
                                .seq = 5,
                                .count = 4,
                                .fields = {F_C(MESSAGE, "01JD8Y2T9V6W3Q0M4K7P5N1R8S"),
                                           F_C(TO, "anna@example.org"), F_C(REPLY, "550 \"no\"\n"),
                                           F_INT(CODE, 550)}};
    (void)unused;
    for (int form = WEBHOOK_THIN; form <= WEBHOOK_FULL; form++) {
        json_t *json = payload_of((enum webhook_payload)form, &event);
        json_t *data = json_object_get(json, "data");
        assert_string_equal(json_string_value(json_object_get(json, "type")), "delivery.failed");
        assert_string_equal(json_string_value(json_object_get(json, "timestamp")),
                            "2025-11-27T19:00:00.123Z");
        assert_int_equal(json_integer_value(json_object_get(data, "code")), 550);
        assert_int_equal(json_integer_value(json_object_get(data, "seq")), 5);
        assert_string_equal(json_string_value(json_object_get(data, "rev")), "r7");
        assert_non_null(json_object_get(data, "message"));
        assert_int_equal(json_object_get(data, "to") != NULL, form == WEBHOOK_FULL);
        assert_int_equal(json_object_get(data, "reply") != NULL, form == WEBHOOK_FULL);
        json_decref(json);
    }
}

/* As many fields as there can be, as long as they can be, of bytes that must be escaped. */
static void test_large_payloads(void **unused)
{
    static char text[1024];
    struct event event = {.type = EVENT_MESSAGE_REJECTED, .count = 0};
    (void)unused;
    memset(text, 1, sizeof text);
    for (int key = 0; key < EVENT_KEY_COUNT && event.count < 32; key++)
        event.fields[event.count++] = (struct event_field){
            .key = (enum event_key)key, .kind = EVENT_VALUE_STR, .text = str_of(text, sizeof text)};
    for (int form = WEBHOOK_THIN; form <= WEBHOOK_FULL; form++) {
        json_t *json = payload_of((enum webhook_payload)form, &event);
        assert_int_equal(json_is_true(json_object_get(json, "truncated")), form == WEBHOOK_FULL);
        json_decref(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_vector),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_delays),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_own_losses),
        cmocka_unit_test(test_payloads),
        cmocka_unit_test(test_large_payloads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
