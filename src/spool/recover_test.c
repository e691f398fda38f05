/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery as a function of bytes: every cut and every flipped bit of a small log that the spool
 * itself wrote, and logs made by hand for what it writes only when disks fail.
 */
#include "spool/recover.h"

#include "base/check.h"
#include "base/memory.h"
#include "spool/bytes.h"
#include "spool/crc.h"
#include "spool/test_tools.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { ENTRIES = 12 };

/* ---- a small log, written by the spool ---- */

static NO_YIELD_CHECK void write_small_log(void *arg)
{
    struct spool *spool = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < ENTRIES; i += 2) {
        /* two entries a unit: the first alone, or both on one body */
        struct body *body = test_body(i * 30, (unsigned)i);
        char meta[16];
        snprintf(meta, sizeof meta, "m%u", (unsigned)i);
        struct mail_content content = {.head = STR("H: h\r\n"), .body = body};
        struct spool_change changes[3];
        for (unsigned k = 0; k < 2; k++)
            changes[k] = (struct spool_change){.kind = SPOOL_ADD,
                                               .entry = test_id(i + k),
                                               .message = test_id(500 + i),
                                               .meta = str_c(meta),
                                               .state = STR("new"),
                                               .content = &content};
        changes[2] = (struct spool_change){.kind = SPOOL_COUNT, .counter = 1, .delta = 2};
        assert_int_equal(spool_commit(spool, changes, 3, &err), OK);
        body_unref(body);
    }
    struct spool_change tried = {.kind = SPOOL_STATE, .entry = test_id(3), .state = STR("tried")};
    assert_int_equal(spool_commit(spool, &tried, 1, &err), OK);
    struct spool_change done = {.kind = SPOOL_REMOVE, .entry = test_id(4)};
    assert_int_equal(spool_commit(spool, &done, 1, &err), OK);
}

static struct str read_file(const char *folder)
{
    char path[TEST_PATH_SIZE * 2];
    snprintf(path, sizeof path, "%s/log/0000000000000001.log", folder);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    static char space[64 * 1024];
    size_t size = fread(space, 1, sizeof space, file);
    fclose(file);
    char *bytes = memory_alloc(size);
    memcpy(bytes, space, size);
    return str_of(bytes, size);
}

/* Without the zeros behind. */
static struct str trimmed(struct str bytes)
{
    while (bytes.len && bytes.ptr[bytes.len - 1] == 0)
        bytes.len--;
    bytes.len = (bytes.len + 7) / 8 * 8;
    return bytes;
}

static struct str clean_log;   /* closed */
static struct str unclean_log; /* as a killed process leaves it */

static int make_logs(void **state)
{
    (void)state;
    char path[TEST_PATH_SIZE];
    char copy[TEST_PATH_SIZE];
    test_folder_new(path);
    struct spool_settings settings = {
        .path = str_c(path), .segment_size = 64 * 1024, .free_bytes_floor = 1};
    struct spool *spool = test_open_with(&settings, NULL);
    if (!spool)
        return -1;
    test_on_fiber(write_small_log, spool);
    test_folder_copy(path, copy);
    spool_close(spool);
    clean_log = trimmed(read_file(path));
    unclean_log = trimmed(read_file(copy));
    test_folder_remove(path);
    test_folder_remove(copy);
    return 0;
}

static int free_logs(void **state)
{
    (void)state;
    free((char *)(uintptr_t)clean_log.ptr);
    free((char *)(uintptr_t)unclean_log.ptr);
    return 0;
}

/* ---- what recovery found ---- */

struct outcome {
    bool live[ENTRIES];
    bool tried[ENTRIES]; /* its state is the second one */
    bool named[ENTRIES]; /* in a damage */
    int64_t total;
    size_t damages;
    size_t others; /* entries that nobody wrote */
    uint64_t must_end;
    uint64_t units;
};

/* Every byte of a live entry must be what was written. */
static void check_entry(const struct spool_entry *entry, struct str bytes)
{
    char meta[16];
    uint64_t number = entry->id.low / 2 * 2;
    snprintf(meta, sizeof meta, "m%u", (unsigned)number);
    struct str all = str_of("H: h\r\n", 6);
    size_t begin = spool_entry_offset(entry) + SPOOL_RECORD_HEADER;
    struct spool_entry_record record;
    assert_true(
        spool_entry_decode(str_slice(bytes, begin, begin + entry->length), entry->length, &record));
    struct str found = str_slice(bytes, begin + SPOOL_ENTRY_FIXED,
                                 begin + SPOOL_ENTRY_FIXED + record.head_len + record.meta_len);
    assert_true(str_starts(found, all));
    assert_true(str_equal(str_from(found, all.len), str_c(meta)));
    assert_int_equal(entry->body_size, number * 30);
    for (uint64_t i = 0; i < entry->body_size; i++)
        assert_true(bytes.ptr[spool_entry_body_offset(entry) + SPOOL_RECORD_HEADER + i] ==
                    test_body_byte(i, (unsigned)number));
}

static struct outcome recovered(struct str bytes)
{
    struct outcome outcome = {0};
    struct spool_index index;
    spool_index_init(&index);
    struct spool_recover_segment source = {.id = 1, .kind = SPOOL_SEGMENT_MAIN, .bytes = bytes};
    struct spool_recovered result;
    spool_recover(&source, 1, NULL, NULL, &index, &result);
    for (struct spool_entry *entry = spool_index_next(&index, NULL); entry;
         entry = spool_index_next(&index, entry)) {
        if (entry->id.high != test_id(0).high || entry->id.low >= ENTRIES) {
            outcome.others++;
            continue;
        }
        check_entry(entry, bytes);
        outcome.live[entry->id.low] = true;
        outcome.tried[entry->id.low] = entry->state_len == 5;
    }
    for (size_t i = 0; i < result.damage_count; i++) {
        const struct spool_damage *damage = &result.damages[i];
        /* a bit more or less makes the numbers here each other's: then it is not told */
        bool is_anothers =
            !damage->sure && damage->entry.low < ENTRIES && outcome.live[damage->entry.low];
        for (unsigned k = 0; (damage->named || is_anothers) && k < ENTRIES; k++) {
            /* the bit may have been in the name itself, which is then not called sure */
            int bits = __builtin_popcountll(damage->entry.low ^ k) +
                       __builtin_popcountll(damage->entry.high ^ test_id(k).high);
            if (bits == 0 || (bits == 1 && !damage->sure))
                outcome.named[k] = true;
        }
    }
    outcome.damages = result.damage_count;
    outcome.total = result.totals[1];
    outcome.must_end = source.must_end;
    outcome.units = result.units;
    spool_recovered_done(&result);
    spool_index_done(&index);
    return outcome;
}

static void expect_all(const struct outcome *outcome)
{
    for (int i = 0; i < ENTRIES; i++) {
        assert_int_equal(outcome->live[i], i != 4);
        assert_int_equal(outcome->tried[i], i == 3);
    }
    assert_int_equal(outcome->total, ENTRIES);
    assert_int_equal(outcome->damages, 0);
    assert_int_equal(outcome->others, 0);
}

static void test_whole_logs(void **state)
{
    (void)state;
    struct outcome outcome = recovered(clean_log);
    expect_all(&outcome);
    assert_true(outcome.must_end > clean_log.len - 64); /* all but the footer */
    outcome = recovered(unclean_log);
    expect_all(&outcome);
    assert_true(outcome.must_end < unclean_log.len);
}

/* Cut anywhere: whole units up to there, nothing of the next, no complaint. */
static void test_every_cut(void **state)
{
    (void)state;
    uint64_t units_before = 0;
    for (size_t size = 0; size <= unclean_log.len; size++) {
        struct outcome outcome = recovered(str_slice(unclean_log, 0, size));
        assert_int_equal(outcome.damages, 0);
        assert_int_equal(outcome.others, 0);
        assert_true(outcome.units >= units_before);
        units_before = outcome.units;
        int live = 0;
        for (int i = 0; i < ENTRIES; i++) {
            /* both entries of a unit or none, and no later unit without the earlier ones */
            if (i != 4 && i != 5)
                assert_int_equal(outcome.live[i], outcome.live[i / 2 * 2]);
            if (i >= 2 && i != 4 && i != 6)
                assert_true(!outcome.live[i] || outcome.live[i - 2]);
            live += outcome.live[i];
        }
        assert_int_equal(outcome.total, outcome.live[4] || live < 5 ? live : live + 1);
    }
    struct outcome whole = recovered(unclean_log);
    assert_int_equal(units_before, whole.units);
    expect_all(&whole);
}

/* Torn in the middle: some pages reached the disk, others are zero. What does not count is dropped
 * in silence, what counts is named. */
static void test_zeroed_stretches(void **state)
{
    (void)state;
    uint64_t must_end = recovered(unclean_log).must_end;
    for (size_t begin = 64; begin < unclean_log.len; begin += 8) {
        char *bytes = memory_alloc(unclean_log.len);
        memcpy(bytes, unclean_log.ptr, unclean_log.len);
        size_t size = begin + 512 < unclean_log.len ? 512 : unclean_log.len - begin;
        memset(bytes + begin, 0, size);
        struct outcome outcome = recovered(str_of(bytes, unclean_log.len));
        assert_int_equal(outcome.others, 0);
        if (begin >= must_end)
            assert_int_equal(outcome.damages, 0);
        else if (begin + size <= must_end)
            assert_true(outcome.damages > 0);
        free(bytes);
    }
}

/*
 * Flip every bit. The rest stays as it was; what is lost is told of, by name if mail is lost; a
 * state or a removal that is lost is told of; no changed byte ever passes (check_entry).
 */
static void flip_every_bit(struct str log)
{
    struct outcome whole = recovered(log);
    char *bytes = memory_alloc(log.len);
    memcpy(bytes, log.ptr, log.len);
    for (size_t i = 0; i < log.len * 8; i++) {
        bytes[i / 8] = (char)(bytes[i / 8] ^ 1 << i % 8);
        struct outcome outcome = recovered(str_of(bytes, log.len));
        bool counts = i / 8 < whole.must_end;
        bool differs = outcome.total != whole.total;
        assert_int_equal(outcome.others, 0);
        int lost = 0;
        for (int k = 0; k < ENTRIES; k++) {
            differs |= outcome.live[k] != whole.live[k] || outcome.tried[k] != whole.tried[k];
            if (whole.live[k] && !outcome.live[k]) {
                lost++;
                if (counts && !outcome.named[k])
                    fail_msg("bit %zu: entry %d is lost and not named", i, k);
            }
        }
        assert_true(lost <= 2); /* one unit */
        if (counts && differs)
            assert_true(outcome.damages > 0);
        bytes[i / 8] = (char)(bytes[i / 8] ^ 1 << i % 8);
    }
    free(bytes);
}

static void test_every_flip(void **state)
{
    (void)state;
    flip_every_bit(clean_log);
    flip_every_bit(unclean_log);
}

/* Exchange any two stretches of eight bytes that differ; records bound to their place notice. */
static void test_moved_bytes(void **state)
{
    (void)state;
    for (size_t from = 64; from + 400 < clean_log.len; from += 40) {
        char *bytes = memory_alloc(clean_log.len);
        memcpy(bytes, clean_log.ptr, clean_log.len);
        size_t to = 64 + (from * 7 % (clean_log.len - 464)) / 8 * 8;
        memmove(bytes + to, clean_log.ptr + from, 400);
        struct outcome outcome = recovered(str_of(bytes, clean_log.len));
        assert_int_equal(outcome.others, 0);
        if (memcmp(bytes, clean_log.ptr, clean_log.len) != 0 && to + 400 < outcome.must_end)
            assert_true(outcome.damages > 0);
        free(bytes);
    }
}

/* ---- logs made by hand ---- */

struct image {
    uint64_t id;
    enum spool_segment_kind kind;
    struct buf bytes;
};

static void image_init(struct image *image, uint64_t id, enum spool_segment_kind kind)
{
    *image = (struct image){.id = id, .kind = kind};
    buf_init(&image->bytes, 1 << 20);
    unsigned char header[SPOOL_SEGMENT_HEADER];
    spool_segment_header_encode(&(struct spool_segment_header){.kind = kind, .id = id}, header);
    buf_append(&image->bytes, str_of((const char *)header, sizeof header));
}

static void image_record(struct image *image, enum spool_record_type type, uint64_t unit,
                         uint16_t index, uint16_t count, struct str payload)
{
    unsigned char header[SPOOL_RECORD_HEADER];
    struct spool_record record = {.type = type,
                                  .index = index,
                                  .count = count,
                                  .unit = unit,
                                  .length = (uint32_t)payload.len,
                                  .payload_crc = spool_crc(0, payload.ptr, payload.len)};
    spool_record_encode(&record, image->id, image->bytes.len, header);
    buf_append(&image->bytes, str_of((const char *)header, sizeof header));
    buf_append(&image->bytes, payload);
    while (image->bytes.len % 8)
        buf_append_byte(&image->bytes, 0);
}

static void image_batch(struct image *image, uint64_t unit, uint64_t segment, uint64_t durable)
{
    unsigned char payload[SPOOL_BATCH_SIZE];
    spool_batch_encode(&(struct spool_batch){1, segment, durable, 0}, payload);
    image_record(image, SPOOL_RECORD_BATCH, unit, 0, 1,
                 str_of((const char *)payload, sizeof payload));
}

static void image_entry(struct image *image, uint64_t unit, uint64_t number, uint64_t sequence)
{
    unsigned char payload[SPOOL_ENTRY_FIXED + 3] = {0};
    struct spool_entry_record entry = {.entry = test_id(number),
                                       .message = test_id(100),
                                       .meta_len = 3,
                                       .state_sequence = sequence,
                                       .body_record = SPOOL_NO_BODY};
    spool_entry_encode(&entry, payload);
    image_record(image, SPOOL_RECORD_ENTRY, unit, 0, 1,
                 str_of((const char *)payload, sizeof payload));
}

static void image_remove(struct image *image, uint64_t unit, uint64_t number)
{
    unsigned char payload[SPOOL_REMOVE_SIZE];
    spool_id_encode(test_id(number), payload);
    image_record(image, SPOOL_RECORD_REMOVE, unit, 0, 1,
                 str_of((const char *)payload, sizeof payload));
}

static void image_state(struct image *image, uint64_t unit, uint64_t number, uint64_t sequence,
                        const char *text)
{
    unsigned char payload[SPOOL_STATE_FIXED + 64] = {0};
    spool_id_encode(test_id(number), payload);
    spool_put64(payload + 16, sequence);
    size_t size = strlen(text);
    memcpy(payload + SPOOL_STATE_FIXED, text, size);
    image_record(image, SPOOL_RECORD_STATE, unit, 0, 1,
                 str_of((const char *)payload, SPOOL_STATE_FIXED + size));
}

static void image_previous(struct image *image, uint64_t unit, struct spool_previous previous)
{
    unsigned char payload[SPOOL_PREVIOUS_SIZE];
    spool_previous_encode(&previous, payload);
    image_record(image, SPOOL_RECORD_PREVIOUS, unit, 0, 1,
                 str_of((const char *)payload, sizeof payload));
}

struct hand_made {
    struct image images[3];
    size_t count;
    struct spool_recover_segment sources[3];
    struct spool_index index;
    struct spool_recovered result;
};

static void hand_recover(struct hand_made *made)
{
    spool_index_init(&made->index);
    for (size_t i = 0; i < made->count; i++)
        made->sources[i] = (struct spool_recover_segment){.id = made->images[i].id,
                                                          .kind = made->images[i].kind,
                                                          .bytes = buf_str(&made->images[i].bytes)};
    spool_recover(made->sources, made->count, NULL, NULL, &made->index, &made->result);
}

static void hand_done(struct hand_made *made)
{
    spool_recovered_done(&made->result);
    spool_index_done(&made->index);
    for (size_t i = 0; i < made->count; i++)
        buf_done(&made->images[i].bytes);
}

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

/* A segment under another's name holds no record of its place. */
static void test_duplicated_segment(void **state)
{
    (void)state;
    struct spool_index index;
    spool_index_init(&index);
    struct spool_recover_segment sources[] = {
        {.id = 1, .kind = SPOOL_SEGMENT_MAIN, .bytes = clean_log},
        {.id = 2, .kind = SPOOL_SEGMENT_MAIN, .bytes = clean_log}};
    struct spool_recovered result;
    spool_recover(sources, 2, NULL, NULL, &index, &result);
    assert_int_equal(index.count, ENTRIES - 1);
    assert_int_equal(result.damage_count, 1); /* the header of the second */
    assert_int_equal(result.damages[0].segment, 2);
    spool_recovered_done(&result);
    spool_index_done(&index);
}

static void test_crc(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t crc;
    } cases[] = {{"", 0}, {"a", 0xc1d04330}, {"123456789", 0xe3069283}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(spool_crc(0, cases[i].text, strlen(cases[i].text)), cases[i].crc);
        assert_int_equal(spool_crc_table(0, cases[i].text, strlen(cases[i].text)), cases[i].crc);
    }
    for (size_t cut = 0; cut < 100; cut++) {
        uint32_t whole = spool_crc(0, clean_log.ptr, 100);
        uint32_t parts =
            spool_crc(spool_crc(0, clean_log.ptr, cut), clean_log.ptr + cut, 100 - cut);
        assert_int_equal(parts, whole);
        assert_int_equal(spool_crc_table(0, clean_log.ptr, 100), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        cmocka_unit_test(test_whole_logs),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_zeroed_stretches),
        cmocka_unit_test(test_every_flip),
        cmocka_unit_test(test_moved_bytes),
        cmocka_unit_test(test_void_tail),
        cmocka_unit_test(test_tombstone_before_copy),
        cmocka_unit_test(test_newest_state_wins),
        cmocka_unit_test(test_durable_said_elsewhere),
        cmocka_unit_test(test_gone_between_broken),
        cmocka_unit_test(test_wrong_names),
        cmocka_unit_test(test_duplicated_segment),
    };
    return cmocka_run_group_tests_name("recover", tests, make_logs, free_logs);
}
