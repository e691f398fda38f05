/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery of arbitrary bytes: the input is cut into up to three segments (the first two bytes say
 * where). Records are bound to their place by CRCs that a fuzzer cannot guess, so each record
 * whose magic stands in the input gets right CRCs before recovery sees it, unless the input's
 * third byte is odd. Bit 2 of that byte makes them files that were used before.
 */
#include "spool/recover.h"

#include "base/check.h"
#include "spool/bytes.h"
#include "spool/crc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair_record(unsigned char *at, size_t left, uint64_t segment, uint64_t offset)
{
    uint32_t length = spool_get32(at + 24);
    if (length > left - SPOOL_RECORD_HEADER)
        return;
    struct spool_record record = {.type = (enum spool_record_type)spool_get16(at + 8),
                                  .index = spool_get16(at + 10),
                                  .count = spool_get16(at + 12),
                                  .unit = spool_get64(at + 16),
                                  .length = length,
                                  .payload_crc = spool_crc(0, at + SPOOL_RECORD_HEADER, length)};
    spool_record_encode(&record, segment, offset, at);
}

static void repair(unsigned char *bytes, size_t size, uint64_t segment)
{
    for (size_t at = SPOOL_SEGMENT_HEADER; at + SPOOL_RECORD_HEADER <= size; at += 8) {
        if (memcmp(bytes + at, "PREC", 4) == 0)
            repair_record(bytes + at, size - at, segment, at);
    }
}

/* As a file that was another segment before, so that what is no record may be of that one. */
static void make_used(unsigned char *bytes, size_t size, uint64_t segment,
                      enum spool_segment_kind kind)
{
    struct spool_segment_header header = {.kind = kind, .id = segment, .was_used = true};
    if (size >= SPOOL_SEGMENT_HEADER)
        spool_segment_header_encode(&header, bytes);
}

static void look_at(const struct spool_index *index, const struct spool_recover_segment *segments,
                    size_t count)
{
    for (struct spool_entry *entry = spool_index_next(index, NULL); entry;
         entry = spool_index_next(index, entry)) {
        check(entry->home && entry->state_home && !entry->removed);
        check(spool_entry_offset(entry) + SPOOL_RECORD_HEADER + entry->length <=
              segments[spool_entry_home(index, entry)->id - 1].bytes.len);
    }
    /* accounts come out even: taking all away leaves nothing */
    for (size_t i = 0; i < count; i++)
        check(segments[i].segment->live_entries <= index->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    unsigned char *copy = malloc(size - 3 + 1);
    check(copy != NULL);
    memcpy(copy, data + 3, size - 3);
    size_t left = size - 3;
    size_t first = left * data[0] / 255;
    size_t second = first + (left - first) * data[1] / 255;
    size_t cuts[] = {0, first, second, left};
    struct spool_recover_segment segments[3];
    for (size_t i = 0; i < 3; i++) {
        size_t length = cuts[i + 1] - cuts[i];
        if (data[2] % 2 == 0)
            repair(copy + cuts[i], length, i + 1);
        enum spool_segment_kind kind =
            i == 1 && data[2] & 2 ? SPOOL_SEGMENT_COLD : SPOOL_SEGMENT_MAIN;
        if (data[2] & 4)
            make_used(copy + cuts[i], length, i + 1, kind);
        segments[i] = (struct spool_recover_segment){
            .id = i + 1, .kind = kind, .bytes = str_of((const char *)copy + cuts[i], length)};
    }
    struct spool_index index;
    struct spool_recovered recovered;
    spool_index_init(&index);
    spool_recover(segments, 3, NULL, NULL, &index, &recovered);
    look_at(&index, segments, 3);
    spool_recovered_done(&recovered);
    spool_index_done(&index);
    free(copy);
    return 0;
}
