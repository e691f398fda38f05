/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery as a function of bytes: every cut and every flipped bit of a small log that the spool
 * itself wrote, in a new file and in one that was another segment before.
 */
#include "spool/recover.h"

#include "base/check.h"
#include "base/memory.h"
#include "spool/bytes.h"
#include "spool/crc.h"
#include "spool/test_image.h"
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
    size_t misnamed;     /* damages with the name of an entry that an older segment held */
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

/* Entries of older segments. */
enum { STALE_FROM = 1000 };
static struct mail_id stale_id(uint64_t number)
{
    return (struct mail_id){.high = test_id(0).high - (1 << 24), .low = STALE_FROM + number};
}

static struct outcome recovered_as(struct str bytes, uint64_t segment)
{
    struct outcome outcome = {0};
    struct spool_index index;
    spool_index_init(&index);
    struct spool_recover_segment source = {
        .id = segment, .kind = SPOOL_SEGMENT_MAIN, .bytes = bytes};
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
        outcome.misnamed += damage->named && damage->entry.low >= STALE_FROM &&
                            damage->entry.high == stale_id(0).high;
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

static struct outcome recovered(struct str bytes)
{
    return recovered_as(bytes, 1);
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
static void flip_every_bit(struct str log, uint64_t segment, size_t size, size_t may_be_unnamed)
{
    struct outcome whole = recovered_as(log, segment);
    size_t unnamed = 0;
    char *bytes = memory_alloc(log.len);
    memcpy(bytes, log.ptr, log.len);
    for (size_t i = 0; i < size * 8; i++) {
        bytes[i / 8] = (char)(bytes[i / 8] ^ 1 << i % 8);
        struct outcome outcome = recovered_as(str_of(bytes, log.len), segment);
        bool counts = i / 8 < whole.must_end;
        bool differs = outcome.total != whole.total;
        assert_int_equal(outcome.others, 0);
        int lost = 0;
        for (int k = 0; k < ENTRIES; k++) {
            differs |= outcome.live[k] != whole.live[k] || outcome.tried[k] != whole.tried[k];
            if (whole.live[k] && !outcome.live[k]) {
                lost++;
                unnamed += counts && !outcome.named[k];
                if (unnamed > may_be_unnamed)
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
    flip_every_bit(clean_log, 1, clean_log.len, 0);
    flip_every_bit(unclean_log, 1, unclean_log.len, 0);
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

/* ---- a segment in a file that was another one before ---- */

enum { USED_ID = 7 };

/* The older segment, id 1: each unit of it is whole, and with its id each would count. */
static void make_stale(struct image *image)
{
    image_init(image, 1, SPOOL_SEGMENT_MAIN);
    for (uint64_t i = 0; image->bytes.len < 16 * 1024; i++) {
        unsigned char payload[SPOOL_ENTRY_FIXED + 3] = {0};
        struct spool_entry_record entry = {.entry = stale_id(i),
                                           .message = stale_id(i),
                                           .meta_len = 3,
                                           .body_record = SPOOL_NO_BODY};
        spool_entry_encode(&entry, payload);
        if (i % 8 == 0)
            image_batch(image, 1 + 2 * i, 1, image->bytes.len);
        image_record(image, SPOOL_RECORD_ENTRY, 2 + 2 * i, 0, 1,
                     str_of((const char *)payload, sizeof payload));
    }
}

/* The log of `log`, as segment USED_ID, over the bytes of `stale`. */
static char *make_used(struct str log, struct str stale)
{
    char *bytes = memory_alloc(stale.len);
    memcpy(bytes, stale.ptr, stale.len);
    memcpy(bytes, log.ptr, log.len);
    struct spool_segment_header header = {.kind = SPOOL_SEGMENT_MAIN,
                                          .id = USED_ID,
                                          .created_wall_ns =
                                              (int64_t)(test_id(0).high >> 16) * 1000000,
                                          .was_used = true};
    spool_segment_header_encode(&header, (unsigned char *)bytes);
    struct spool_scan scan;
    spool_segment_scan(log, 1, UINT64_MAX, &scan);
    for (size_t i = 0; i < scan.record_count; i++) {
        const struct spool_found_record *found = &scan.records[i];
        struct str payload = spool_found_record_payload(log, found);
        char moved[SPOOL_BATCH_SIZE];
        struct spool_record record = found->record;
        if (record.type == SPOOL_RECORD_BATCH) { /* it names its segment */
            memcpy(moved, payload.ptr, sizeof moved);
            spool_put64((unsigned char *)moved + 8, USED_ID);
            record.payload_crc = spool_crc(0, moved, sizeof moved);
            memcpy(bytes + found->offset + SPOOL_RECORD_HEADER, moved, sizeof moved);
        }
        spool_record_encode(&record, USED_ID, found->offset,
                            (unsigned char *)bytes + found->offset);
    }
    spool_scan_done(&scan);
    return bytes;
}

struct used {
    struct image stale;
    char *bytes;
    size_t log_len;
};

static void used_init(struct used *used)
{
    make_stale(&used->stale);
    used->log_len = unclean_log.len;
    assert_true(used->stale.bytes.len > used->log_len + 4096);
    used->bytes = make_used(unclean_log, buf_str(&used->stale.bytes));
}

static void used_done(struct used *used)
{
    buf_done(&used->stale.bytes);
    free(used->bytes);
}

static struct outcome used_recovered(const struct used *used)
{
    struct outcome outcome = recovered_as(str_of(used->bytes, used->stale.bytes.len), USED_ID);
    assert_int_equal(outcome.others, 0);
    assert_int_equal(outcome.misnamed, 0);
    return outcome;
}

/* Begun up to anywhere, and behind that what the file held before: nothing of it comes back. */
static void test_used_every_cut(void **state)
{
    (void)state;
    struct used used;
    used_init(&used);
    struct outcome whole = used_recovered(&used);
    expect_all(&whole);
    uint64_t units_after = whole.units;
    for (size_t size = used.log_len; size >= SPOOL_SEGMENT_HEADER; size--) {
        used.bytes[size] = used.stale.bytes.ptr[size];
        struct outcome outcome = used_recovered(&used);
        assert_int_equal(outcome.damages, 0);
        assert_true(outcome.units <= units_after);
        units_after = outcome.units;
    }
    assert_int_equal(units_after, 0);
    used_done(&used);
}

/* A file whose id was kept is its old self: what the test above looks for is noticed. */
static void test_kept_id_revives(void **state)
{
    (void)state;
    struct used used;
    used_init(&used);
    struct spool_segment_header header = {.kind = SPOOL_SEGMENT_MAIN, .id = 1, .was_used = true};
    memcpy(used.bytes, used.stale.bytes.ptr, used.stale.bytes.len);
    spool_segment_header_encode(&header, (unsigned char *)used.bytes);
    struct str bytes = str_of(used.bytes, used.stale.bytes.len);
    assert_true(recovered_as(bytes, 1).others > 100);
    /* the new id in the name, the header of old: no record verifies */
    struct outcome outcome = recovered_as(buf_str(&used.stale.bytes), USED_ID);
    assert_int_equal(outcome.others, 0);
    assert_int_equal(outcome.damages, 1);
    used_done(&used);
}

/* A write that never reached the disk left the older segment's bytes: told of, by no name of it. */
static void test_used_stretches(void **state)
{
    (void)state;
    struct used used;
    used_init(&used);
    uint64_t must_end = used_recovered(&used).must_end;
    for (size_t begin = 64; begin < used.log_len; begin += 8) {
        char kept[512];
        size_t size = begin + 512 < used.log_len ? 512 : used.log_len - begin;
        memcpy(kept, used.bytes + begin, size);
        memcpy(used.bytes + begin, used.stale.bytes.ptr + begin, size);
        struct outcome outcome = used_recovered(&used);
        if (begin >= must_end)
            assert_int_equal(outcome.damages, 0);
        else if (begin + size <= must_end)
            assert_true(outcome.damages > 0);
        memcpy(used.bytes + begin, kept, size);
    }
    used_done(&used);
}

static void test_used_every_flip(void **state)
{
    (void)state;
    struct used used;
    used_init(&used);
    /* a bit of its time makes an entry older than the segment */
    size_t bits = (size_t)__builtin_popcountll(test_id(0).high >> 16);
    flip_every_bit(str_of(used.bytes, used.stale.bytes.len), USED_ID, used.log_len, bits * ENTRIES);
    used_done(&used);
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
        cmocka_unit_test(test_duplicated_segment),
        cmocka_unit_test(test_used_every_cut),
        cmocka_unit_test(test_kept_id_revives),
        cmocka_unit_test(test_used_stretches),
        cmocka_unit_test(test_used_every_flip),
    };
    return cmocka_run_group_tests_name("recover", tests, make_logs, free_logs);
}
