/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/alike.h"
#include "queue/entry.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct queue_meta sample(struct arena *arena, size_t recipients)
{
    struct queue_meta meta = {
        .message = {1, 2},
        .session = {3, 4},
        .accepted_wall_ns = 1234567890123456789,
        .flags = QUEUE_META_OWN_USER | QUEUE_META_HAS_8BIT,
        .sender = {.address = STR("a@example.org"),
                   .body = MAIL_BODY_8BITMIME,
                   .ret = MAIL_RET_FULL,
                   .envid = STR("id 7"),
                   .size = 99},
        .fairness_key = STR("user"),
        .origin = STR("\0\1binary"),
        .transport = STR("out"),
        .content_flow = STR("flow"),
        .recipient_count = recipients,
    };
    meta.recipients = arena_alloc_array(arena, recipients + 1, sizeof *meta.recipients);
    for (size_t i = 0; i < recipients; i++)
        meta.recipients[i] = (struct mail_recipient){
            .address = arena_printf(arena, "r%zu@Example.net", i),
            .domain = STR("example.net"),
            .orcpt = STR("rfc822;R@example.net"),
            .notify = MAIL_NOTIFY_FAILURE,
        };
    return meta;
}

static void test_meta(void **state)
{
    struct arena *arena = arena_new(0);
    struct queue_meta meta = sample(arena, 3), back;
    struct buf buf;
    (void)state;
    buf_init(&buf, QUEUE_META_MAX);
    queue_meta_encode(&meta, &buf);
    assert_true(queue_meta_decode(buf_str(&buf), arena, &back));
    assert_true(mail_id_equal(back.message, meta.message));
    assert_int_equal(back.accepted_wall_ns, meta.accepted_wall_ns);
    assert_true(str_equal(back.origin, meta.origin));
    assert_true(str_equal(back.sender.envid, STR("id 7")));
    assert_int_equal(back.sender.ret, MAIL_RET_FULL);
    assert_int_equal(back.recipient_count, 3);
    assert_true(str_equal(back.recipients[2].address, STR("r2@Example.net")));
    /* every cut and every longer one is refused */
    for (size_t len = 0; len < buf.len; len++)
        assert_false(queue_meta_decode(str_of(buf.ptr, len), arena, &back));
    buf_append_byte(&buf, 0);
    assert_false(queue_meta_decode(buf_str(&buf), arena, &back));
    buf.len--;
    buf.ptr[0] = 2; /* a version that we do not know */
    assert_false(queue_meta_decode(buf_str(&buf), arena, &back));
    buf_done(&buf);
    arena_free(arena);
}

/* What a quarantine keeps; and version 2, which had no label, is read as before. */
static void test_kept(void **state)
{
    struct arena *arena = arena_new(0);
    struct queue_meta meta = sample(arena, 2), back;
    struct buf buf, old;
    static const char label[] = "\5\0\0\0LABEL";
    (void)state;
    meta.kept = (struct queue_kept){.step = STR("2-antispam"),
                                    .quarantine = STR("spam"),
                                    .why = STR("why"),
                                    .findings = STR("2-antispam BAYES_99 x\n"),
                                    .scored = true,
                                    .score = -1500,
                                    .label = STR("LABEL")};
    buf_init(&buf, QUEUE_META_MAX);
    buf_init(&old, QUEUE_META_MAX);
    queue_meta_encode(&meta, &buf);
    assert_true(queue_meta_decode(buf_str(&buf), arena, &back));
    assert_true(str_equal(back.kept.label, STR("LABEL")));
    assert_int_equal(back.kept.score, -1500);
    ptrdiff_t at = str_find_str(buf_str(&buf), str_of(label, 9));
    assert_true(at > 0);
    buf_append(&old, STR("\2"));
    buf_append(&old, str_slice(buf_str(&buf), 1, (size_t)at));
    buf_append(&old, str_from(buf_str(&buf), (size_t)at + 9));
    assert_true(queue_meta_decode(buf_str(&old), arena, &back));
    assert_int_equal(back.kept.label.len, 0);
    assert_true(back.kept.scored && str_equal(back.kept.quarantine, STR("spam")));
    assert_true(str_equal(back.kept.step, STR("2-antispam")));
    assert_true(str_equal(back.recipients[1].address, STR("r1@Example.net")));
    buf_done(&buf);
    buf_done(&old);
    arena_free(arena);
}

struct parts_case {
    const char *name;
    struct str address, domain, orcpt, envid;
    size_t recipients;
    bool is_short;
};

/* What does not stand in the case differs from one to the next. */
static struct queue_meta meta_of_case(struct arena *arena, const struct parts_case *it, size_t at)
{
    static const unsigned sessions[] = {0, 1, 65536, 65537}; /* 1 + ms before the message */
    struct queue_meta meta = sample(arena, it->recipients);
    meta.sender.envid = it->envid;
    meta.message.high = (uint64_t)100000 << 16 | 7; /* ms */
    meta.session.high = (uint64_t)(100001 - sessions[at % 4]) << 16 | 9;
    meta.sender.address = at % 3 == 0   ? STR_EMPTY
                          : at % 3 == 1 ? STR("no-at")
                                        : STR("\"s@t\"@u.example");
    meta.sender.size = (uint64_t)1 << (4 * at); /* of every length */
    for (size_t k = 0; k < it->recipients; k++)
        meta.recipients[k] =
            (struct mail_recipient){.address = it->address,
                                    .domain = it->domain,
                                    .orcpt = it->orcpt,
                                    .notify = at % 2 == 0 ? 0 : MAIL_NOTIFY_FAILURE};
    return meta;
}

static void try_parts(const struct queue_meta *meta, bool is_short, struct arena *arena,
                      const char *name)
{
    struct queue_meta back;
    struct buf before, after, common, own;
    struct str domain;
    buf_init(&before, QUEUE_META_MAX);
    buf_init(&after, QUEUE_META_MAX);
    buf_init(&common, QUEUE_META_MAX);
    buf_init(&own, QUEUE_META_MAX);
    queue_meta_split(meta, &common, &domain, &own);
    assert_int_equal(domain.len > 0, is_short);
    if (!queue_meta_read(meta->message, buf_str(&common), domain, buf_str(&own), arena, &back))
        fail_msg("%s", name);
    assert_true(mail_id_equal(back.message, meta->message));
    back.accepted_wall_ns = meta->accepted_wall_ns;
    queue_meta_encode(meta, &before);
    queue_meta_encode(&back, &after);
    if (!str_equal(buf_str(&before), buf_str(&after)))
        fail_msg("%s", name);
    buf_done(&before);
    buf_done(&after);
    buf_done(&common);
    buf_done(&own);
}

/* What is kept in memory, in parts, is what was given: byte for byte. */
static void test_parts(void **state)
{
    static const struct parts_case cases[] = {
        {"plain", STR("r@example.net"), STR("example.net"), STR(""), STR(""), 1, true},
        {"envid", STR("r@example.net"), STR("example.net"), STR(""), STR("id"), 1, true},
        {"zero byte", STR("r\0s@example.net"), STR("example.net"), STR(""), STR(""), 1, true},
        {"two ats", STR("\"a@b\"@example.net"), STR("example.net"), STR(""), STR(""), 1, true},
        {"case", STR("r@Example.net"), STR("example.net"), STR(""), STR(""), 1, false},
        {"routed", STR("r@example.net"), STR("elsewhere.net"), STR(""), STR(""), 1, false},
        {"suffix", STR("r@an.example.net"), STR("example.net"), STR(""), STR(""), 1, false},
        {"no local part", STR("@example.net"), STR("example.net"), STR(""), STR(""), 1, false},
        {"no domain", STR("postmaster"), STR(""), STR(""), STR(""), 1, false},
        {"orcpt", STR("r@example.net"), STR("example.net"), STR("rfc822;q"), STR(""), 1, false},
        {"orcpt of its own", STR("r@example.net"), STR("example.net"), STR("rfc822;r@example.net"),
         STR(""), 1, true},
        {"orcpt, utf-8", STR("r@example.net"), STR("example.net"), STR("utf-8;r@example.net"),
         STR(""), 1, false},
        {"two", STR("r@example.net"), STR("example.net"), STR(""), STR(""), 2, false},
        {"none", STR(""), STR(""), STR(""), STR(""), 0, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_new(0);
        struct queue_meta meta = meta_of_case(arena, &cases[i], i);
        try_parts(&meta, cases[i].is_short, arena, cases[i].name);
        arena_free(arena);
    }
}

static struct queue_record sample_record(struct arena *arena, size_t count)
{
    struct queue_record record;
    queue_record_init(&record, count, arena);
    record.held = true;
    record.reason = MAIL_REASON_SPAM;
    record.delay_told = true;
    record.attempts = 7;
    record.due_wall_ns = 11;
    record.last_try_wall_ns = 22;
    record.held_since_wall_ns = 33;
    record.held_total_ns = 44;
    return record;
}

static void test_record(void **state)
{
    struct arena *arena = arena_new(0);
    struct queue_record record = sample_record(arena, 4), back;
    struct queue_said said = {.reply = mail_reply_of(451, 4, 7, 1, STR("later")),
                              .mta = STR("mx.example")};
    struct buf buf;
    (void)state;
    record.status[1] = QUEUE_STATUS_DONE;
    record.said[2] = record.said[3] = &said;
    buf_init(&buf, QUEUE_RECORD_MAX);
    queue_record_encode(&record, &buf);
    assert_true(queue_record_decode(buf_str(&buf), 4, arena, &back));
    assert_true(back.held && back.delay_told);
    assert_int_equal(back.reason, MAIL_REASON_SPAM);
    assert_int_equal(back.attempts, 7);
    assert_int_equal(back.held_total_ns, 44);
    assert_int_equal(queue_record_pending(&back), 3);
    assert_null(back.said[0]);
    assert_int_equal(back.said[3]->reply.code, 451);
    assert_true(str_equal(back.said[3]->mta, STR("mx.example")));
    assert_false(queue_record_decode(buf_str(&buf), 5, arena, &back));
    for (size_t len = 0; len < buf.len; len++)
        assert_false(queue_record_decode(str_of(buf.ptr, len), 4, arena, &back));
    buf_done(&buf);
    arena_free(arena);
}

/* A hundred recipients with a hundred long answers still fit. */
static void test_record_is_bounded(void **state)
{
    struct arena *arena = arena_new(0);
    struct queue_record record = sample_record(arena, QUEUE_RECIPIENTS_MAX), back;
    struct queue_said said[QUEUE_RECIPIENTS_MAX];
    char text[2000];
    struct buf buf;
    (void)state;
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < QUEUE_RECIPIENTS_MAX; i++) {
        text[0] = (char)('A' + i % 26);
        said[i] =
            (struct queue_said){.reply = mail_reply_of(450 + (unsigned)i % 50, 4, 0, (unsigned)i,
                                                       arena_str(arena, str_of(text, sizeof text))),
                                .mta = arena_str(arena, str_of(text, 500))};
        record.said[i] = &said[i];
    }
    buf_init(&buf, QUEUE_RECORD_MAX);
    queue_record_encode(&record, &buf);
    assert_false(buf.overflow);
    assert_true(queue_record_decode(buf_str(&buf), QUEUE_RECIPIENTS_MAX, arena, &back));
    assert_int_equal(queue_record_pending(&back), QUEUE_RECIPIENTS_MAX);
    buf_done(&buf);
    arena_free(arena);
}

/* Before a content run an entry may have thousands, all untouched. */
static void test_record_of_thousands(void **state)
{
    struct arena *arena = arena_new(0);
    struct queue_record record = sample_record(arena, 50000), back;
    struct buf buf;
    (void)state;
    buf_init(&buf, QUEUE_RECORD_MAX);
    queue_record_encode(&record, &buf);
    assert_false(buf.overflow);
    assert_true(queue_record_decode(buf_str(&buf), 50000, arena, &back));
    assert_int_equal(queue_record_pending(&back), 50000);
    buf_done(&buf);
    arena_free(arena);
}

/* Of a million that are held each has times of its own: the rest of what is kept of them is one. */
static void test_held_are_alike(void **state)
{
    (void)state;
    struct arena *arena = arena_new(0);
    struct queue_said said = {.reply = {.code = 451, .text = STR("come back later")},
                              .mta = STR("mx.example.net")};
    struct queue_record_fixed fixed;
    struct queue_record record;
    struct buf tails[2], differs, back;
    buf_init(&differs, QUEUE_RECORD_MAX);
    buf_init(&back, QUEUE_RECORD_MAX);
    queue_record_init(&record, 1, arena);
    record.held = true;
    record.said[0] = &said;
    for (int i = 0; i < 2; i++) {
        record.held_since_wall_ns = INT64_C(1795000000123456789) + i * INT64_C(987654321);
        record.held_total_ns = i * INT64_C(60000000000);
        buf_init(&tails[i], QUEUE_RECORD_MAX);
        queue_record_split(&record, &fixed, &tails[i]);
    }
    assert_true(queue_alike_pack(buf_str(&tails[0]), buf_str(&tails[1]), &differs));
    assert_true(differs.len <= 40);
    queue_alike_unpack(buf_str(&tails[0]), buf_str(&differs), &back);
    struct queue_record found;
    assert_true(queue_record_read(&fixed, buf_str(&back), 1, arena, &found));
    assert_int_equal(found.held_since_wall_ns, record.held_since_wall_ns);
    assert_int_equal(found.held_total_ns, record.held_total_ns);
    assert_true(str_equal(found.said[0]->reply.text, said.reply.text));
    for (int i = 0; i < 2; i++)
        buf_done(&tails[i]);
    buf_done(&differs);
    buf_done(&back);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meta),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_record_is_bounded),
        cmocka_unit_test(test_record_of_thousands),
        cmocka_unit_test(test_held_are_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
