/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery of logs made by hand: what the spool writes only when disks fail, or people forge. */
#include "spool/test_image.h"
#include "spool/test_tools.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Behind a failed sync whole and verifying units are void, if the next segment says so. */
static void test_void_tail(void **state)
{
    (void)state;
    struct hand_made made = {.count = 2};
    image_init(&made.images[0], 1, SPOOL_SEGMENT_MAIN);
    image_entry(&made.images[0], 1, 1, 0);
    uint64_t durable = made.images[0].bytes.len;
    image_entry(&made.images[0], 2, 2, 0);
    image_remove(&made.images[0], 3, 1);
    image_init(&made.images[1], 2, SPOOL_SEGMENT_MAIN);
    image_previous(&made.images[1], 4,
                   (struct spool_previous){1, durable, durable, SPOOL_PREVIOUS_SYNC_FAILED});
    image_entry(&made.images[1], 5, 3, 0);
    hand_recover(&made);
    assert_non_null(spool_index_find(&made.index, test_id(1)));
    assert_null(spool_index_find(&made.index, test_id(2)));
    assert_non_null(spool_index_find(&made.index, test_id(3)));
    assert_int_equal(made.result.damage_count, 0);
    assert_int_equal(made.result.next_unit, 6);
    /* the segment that says so must outlive the other */
    assert_int_equal(made.sources[1].segment->cuts_from, 1);
    hand_done(&made);
    /* red control: without that record the void units come to life */
    made = (struct hand_made){.count = 1};
    image_init(&made.images[0], 1, SPOOL_SEGMENT_MAIN);
    image_entry(&made.images[0], 1, 1, 0);
    image_entry(&made.images[0], 2, 2, 0);
    hand_recover(&made);
    assert_non_null(spool_index_find(&made.index, test_id(2)));
    hand_done(&made);
}

/* A copy with a higher segment id than its tombstone stays dead, and the tombstone is needed. */
static void test_tombstone_before_copy(void **state)
{
    (void)state;
    struct hand_made made = {.count = 3};
    image_init(&made.images[0], 1, SPOOL_SEGMENT_MAIN);
    image_entry(&made.images[0], 1, 1, 0);
    image_init(&made.images[1], 2, SPOOL_SEGMENT_MAIN);
    image_remove(&made.images[1], 2, 1);
    image_init(&made.images[2], 3, SPOOL_SEGMENT_COLD);
    image_entry(&made.images[2], 1, 1, 1);
    hand_recover(&made);
    assert_null(spool_index_find(&made.index, test_id(1)));
    struct spool_segment *tomb = spool_index_segment(&made.index, 2);
    assert_int_equal(tomb->tombs_needed, 2);
    spool_index_drop_segment(&made.index, spool_index_segment(&made.index, 1));
    assert_int_equal(tomb->tombs_needed, 1);
    spool_index_drop_segment(&made.index, spool_index_segment(&made.index, 3));
    assert_int_equal(tomb->tombs_needed, 0);
    hand_done(&made);
}

/* States win by their sequence, wherever they lie. */
static void test_newest_state_wins(void **state)
{
    (void)state;
    struct hand_made made = {.count = 3};
    image_init(&made.images[0], 1, SPOOL_SEGMENT_MAIN);
    image_entry(&made.images[0], 1, 1, 0);
    image_state(&made.images[0], 2, 1, 0, "older");
    image_init(&made.images[1], 2, SPOOL_SEGMENT_MAIN);
    image_state(&made.images[1], 7, 1, 0, "the newest");
    image_init(&made.images[2], 3, SPOOL_SEGMENT_MAIN);
    image_state(&made.images[2], 9, 1, 2, "older"); /* a copy of the state of unit 2 */
    hand_recover(&made);
    struct spool_entry *entry = spool_index_find(&made.index, test_id(1));
    assert_non_null(entry);
    assert_int_equal(entry->state_len, strlen("the newest"));
    assert_int_equal(spool_entry_state_home(&made.index, entry)->id, 2);
    assert_int_equal(spool_entry_state_home(&made.index, entry)->live_states, 1);
    hand_done(&made);
}

/* A durable place said by a newer segment holds for the older one. */
static void test_durable_said_elsewhere(void **state)
{
    (void)state;
    struct hand_made made = {.count = 2};
    image_init(&made.images[0], 1, SPOOL_SEGMENT_MAIN);
    image_entry(&made.images[0], 1, 1, 0);
    image_entry(&made.images[0], 2, 2, 0);
    uint64_t end = made.images[0].bytes.len;
    made.images[0].bytes.ptr[end - 8] ^= 1; /* in the meta of entry 2 */
    image_init(&made.images[1], 2, SPOOL_SEGMENT_MAIN);
    image_batch(&made.images[1], 3, 1, end);
    hand_recover(&made);
    assert_non_null(spool_index_find(&made.index, test_id(1)));
    assert_null(spool_index_find(&made.index, test_id(2)));
    assert_int_equal(made.result.damage_count, 1);
    assert_true(made.result.damages[0].named);
    assert_int_equal(made.result.damages[0].entry.low, 2);
    hand_done(&made);
}

/* A whole unit is gone between two that are broken: these tell of themselves, and the gap is told.
 */
static void test_gone_between_broken(void **state)
{
    (void)state;
    struct hand_made made = {.count = 2};
    uint64_t at[5];
    image_init(&made.images[0], 1, SPOOL_SEGMENT_MAIN);
    for (uint64_t i = 1; i <= 4; i++) {
        at[i] = made.images[0].bytes.len;
        image_entry(&made.images[0], i, i, 0);
    }
    uint64_t end = made.images[0].bytes.len;
    made.images[0].bytes.ptr[at[3] - 8] ^= 1; /* in the meta of entry 2 */
    memset(made.images[0].bytes.ptr + at[3], 0, 64);
    image_init(&made.images[1], 2, SPOOL_SEGMENT_MAIN);
    image_batch(&made.images[1], 5, 1, end);
    hand_recover(&made);
    bool told = false;
    for (size_t i = 0; i < made.result.damage_count; i++) {
        const struct spool_damage *damage = &made.result.damages[i];
        told |= (!damage->named || damage->entry.low == 3) && damage->begin <= at[3] &&
                at[3] < damage->end;
    }
    assert_true(told);
    hand_done(&made);
}

/* What lies where the ids should: text, and the ids of another message that is whole. */
static void test_wrong_names(void **state)
{
    (void)state;
    struct hand_made made = {.count = 2};
    image_init(&made.images[0], 1, SPOOL_SEGMENT_MAIN);
    uint64_t first = made.images[0].bytes.len + SPOOL_RECORD_HEADER;
    image_entry(&made.images[0], 1, 1, 0);
    uint64_t second = made.images[0].bytes.len + SPOOL_RECORD_HEADER;
    image_entry(&made.images[0], 2, 2, 0);
    uint64_t third = made.images[0].bytes.len + SPOOL_RECORD_HEADER;
    image_entry(&made.images[0], 3, 3, 0);
    uint64_t end = made.images[0].bytes.len;
    char *bytes = made.images[0].bytes.ptr;
    memcpy(bytes + second, "and so I said to him that he would not", 38);
    memcpy(bytes + third, bytes + first, 32);
    image_init(&made.images[1], 2, SPOOL_SEGMENT_MAIN);
    image_batch(&made.images[1], 4, 1, end);
    hand_recover(&made);
    assert_non_null(spool_index_find(&made.index, test_id(1)));
    assert_int_equal(made.result.damage_count, 2);
    assert_false(made.result.damages[0].named);
    assert_false(made.result.damages[1].named);
    hand_done(&made);
}

/* In a file that was used before, what somebody forged for the right id counts no further than a
 * record reaches behind the end; in another one there are zeros behind the end, and whatever comes
 * behind damage of any size is what we wrote. */
static void test_far_behind(void **state)
{
    (void)state;
    for (int each = 0; each < 4; each++) {
        bool far = each & 1, was_used = each & 2;
        struct hand_made made = {.count = 1};
        image_init(&made.images[0], 1, SPOOL_SEGMENT_MAIN);
        buf_done(&made.images[0].bytes);
        buf_init(&made.images[0].bytes, 4 * SPOOL_SCAN_BEYOND);
        unsigned char bytes[SPOOL_SEGMENT_HEADER];
        struct spool_segment_header header = {
            .kind = SPOOL_SEGMENT_MAIN, .id = 1, .was_used = was_used};
        spool_segment_header_encode(&header, bytes);
        buf_append(&made.images[0].bytes, str_of((const char *)bytes, sizeof bytes));
        image_batch(&made.images[0], 1, 1, 64);
        size_t gap = far ? SPOOL_SCAN_BEYOND + 64 : SPOOL_SCAN_BEYOND - 64;
        for (size_t i = 0; i < gap; i++)
            buf_append_byte(&made.images[0].bytes, '.');
        image_entry(&made.images[0], 2, 1, 0);
        hand_recover(&made);
        assert_int_equal(made.index.count, far && was_used ? 0 : 1);
        hand_done(&made);
    }
}

/* A spool in use: a file went into the pool while it was read. */
static void test_gone_while_read(void **state)
{
    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        struct hand_made made = {.count = 2};
        image_init(&made.images[0], 1, SPOOL_SEGMENT_MAIN);
        image_entry(&made.images[0], 1, 1, 0);
        uint64_t end = made.images[0].bytes.len;
        image_init(&made.images[1], 2, SPOOL_SEGMENT_MAIN);
        image_batch(&made.images[1], 2, 1, end);
        buf_clear(&made.images[0].bytes);
        made.sources[0].is_gone = gone;
        hand_recover(&made);
        assert_int_equal(made.result.damage_count, 1 - gone);
        hand_done(&made);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_void_tail),           cmocka_unit_test(test_tombstone_before_copy),
        cmocka_unit_test(test_newest_state_wins),   cmocka_unit_test(test_durable_said_elsewhere),
        cmocka_unit_test(test_gone_between_broken), cmocka_unit_test(test_wrong_names),
        cmocka_unit_test(test_far_behind),          cmocka_unit_test(test_gone_while_read),
    };
    return cmocka_run_group_tests_name("recover-made", tests, NULL, NULL);
}
