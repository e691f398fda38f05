/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/segment.h"

#include "base/memory.h"
#include "spool/bytes.h"
#include "spool/crc.h"

#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'P', 'O', 'S', 'T', 'S', 'E', 'G', '1'};

enum { VERSION = 1, FLAG_USED = 1 };

void spool_segment_header_encode(const struct spool_segment_header *header,
                                 unsigned char out[SPOOL_SEGMENT_HEADER])
{
    memset(out, 0, SPOOL_SEGMENT_HEADER);
    memcpy(out, magic, sizeof magic);
    spool_put32(out + 8, VERSION);
    spool_put32(out + 12, (uint32_t)header->kind);
    spool_put64(out + 16, header->id);
    spool_put64(out + 24, (uint64_t)header->created_wall_ns);
    spool_put32(out + 32, header->was_used ? FLAG_USED : 0);
    spool_put32(out + 60, spool_crc(0, out, 60));
}

bool spool_segment_header_decode(const unsigned char in[SPOOL_SEGMENT_HEADER],
                                 struct spool_segment_header *out)
{
    if (memcmp(in, magic, sizeof magic) != 0 || spool_get32(in + 8) != VERSION ||
        spool_get32(in + 60) != spool_crc(0, in, 60))
        return false;
    uint32_t kind = spool_get32(in + 12);
    if (kind < SPOOL_SEGMENT_MAIN || kind > SPOOL_SEGMENT_BULK)
        return false;
    *out = (struct spool_segment_header){
        .kind = (enum spool_segment_kind)kind,
        .id = spool_get64(in + 16),
        .created_wall_ns = (int64_t)spool_get64(in + 24),
        .was_used = (spool_get32(in + 32) & FLAG_USED) != 0,
    };
    return true;
}

bool spool_segment_is_newer(const unsigned char in[SPOOL_SEGMENT_HEADER], uint32_t *out_version)
{
    *out_version = spool_get32(in + 8);
    return memcmp(in, magic, sizeof magic) == 0 && *out_version > VERSION &&
           spool_get32(in + 60) == spool_crc(0, in, 60);
}

/* ---- the walk ---- */

static void *grown(void *items, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return items;
    *cap = *cap ? *cap * 2 : 64;
    return memory_resize_array(items, *cap, size);
}

static void add_record(struct spool_scan *scan, struct spool_found_record found)
{
    scan->records =
        grown(scan->records, scan->record_count, &scan->record_cap, sizeof *scan->records);
    scan->records[scan->record_count++] = found;
}

static void add_gap(struct spool_scan *scan, uint64_t begin, uint64_t end)
{
    scan->gaps = grown(scan->gaps, scan->gap_count, &scan->gap_cap, sizeof *scan->gaps);
    scan->gaps[scan->gap_count++] = (struct spool_gap){.begin = begin, .end = end};
}

/* Is there a record at `offset`? Fills `out` and looks at the payload's CRC. */
static bool record_at(struct str bytes, uint64_t segment, uint64_t offset,
                      struct spool_found_record *out)
{
    if (offset + SPOOL_RECORD_HEADER > bytes.len)
        return false;
    struct spool_found_record found = {.offset = offset};
    if (!spool_record_decode((const unsigned char *)bytes.ptr + offset, segment, offset,
                             &found.record))
        return false;
    if (offset + SPOOL_RECORD_HEADER + found.record.length > bytes.len) {
        /* cut in the middle of its payload: it was there, but nothing behind it can be */
        found.intact = false;
    } else {
        struct str payload = spool_found_record_payload(bytes, &found);
        found.intact = spool_crc(0, payload.ptr, payload.len) == found.record.payload_crc;
    }
    *out = found;
    return true;
}

/* The first offset from `from` on and before `limit` where a record lies, or the end of the bytes.
 */
static uint64_t next_record(struct str bytes, uint64_t segment, uint64_t from, uint64_t limit)
{
    static const char zeros[4096];
    for (uint64_t at = from; at < limit && at + SPOOL_RECORD_HEADER <= bytes.len;) {
        /* preallocated space is zero: pass over it in pages */
        if (at + sizeof zeros <= bytes.len && memcmp(bytes.ptr + at, zeros, sizeof zeros) == 0) {
            at += sizeof zeros;
            continue;
        }
        struct spool_record record;
        if (spool_record_decode((const unsigned char *)bytes.ptr + at, segment, at, &record))
            return at;
        at += SPOOL_RECORD_ALIGN;
    }
    return bytes.len;
}

/* The end of the batch that this record begins, or 0. */
static uint64_t batch_end(struct str bytes, const struct spool_found_record *found)
{
    struct spool_batch batch;
    if (found->record.type != SPOOL_RECORD_BATCH || !found->intact ||
        !spool_batch_decode(spool_found_record_payload(bytes, found), &batch) ||
        batch.bytes > SPOOL_SEGMENT_MAX)
        return 0;
    return spool_found_record_end(found) + batch.bytes;
}

void spool_segment_scan(struct str bytes, uint64_t segment, uint64_t written,
                        struct spool_scan *out)
{
    *out = (struct spool_scan){.written = written};
    uint64_t at = SPOOL_SEGMENT_HEADER;
    while (at < bytes.len) {
        struct spool_found_record found;
        if (record_at(bytes, segment, at, &found)) {
            add_record(out, found);
            at = spool_found_record_end(&found);
            uint64_t end = batch_end(bytes, &found);
            if (end < at)
                end = at;
            if (end > out->written)
                out->written = end;
            continue;
        }
        uint64_t known = out->written > at ? out->written : at;
        uint64_t limit =
            known > UINT64_MAX - SPOOL_SCAN_BEYOND ? UINT64_MAX : known + SPOOL_SCAN_BEYOND;
        uint64_t next = next_record(bytes, segment, at + SPOOL_RECORD_ALIGN, limit);
        add_gap(out, at, next);
        at = next;
    }
}

void spool_scan_done(struct spool_scan *scan)
{
    free(scan->records);
    free(scan->gaps);
    *scan = (struct spool_scan){0};
}
