/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool/segment.h - the head of a segment file, and the walk over the records behind it. Pure.
 */
#pragma once

#include "spool/record.h"

enum spool_segment_kind {
    SPOOL_SEGMENT_MAIN = 1, /* batches, in the order of their units */
    SPOOL_SEGMENT_COLD = 2, /* copies of what lives long */
    SPOOL_SEGMENT_BULK = 3, /* one large body */
};

enum { SPOOL_SEGMENT_HEADER = 64 };
/* The index names places in 32 bits, in units of 8 bytes. */
#define SPOOL_SEGMENT_MAX (UINT64_C(16) << 30)

struct spool_segment_header {
    enum spool_segment_kind kind;
    uint64_t id;
    int64_t created_wall_ns;
    bool was_used; /* the file was another segment before: bytes of that one lie behind the end */
};
void spool_segment_header_encode(const struct spool_segment_header *header,
                                 unsigned char out[SPOOL_SEGMENT_HEADER]);
bool spool_segment_header_decode(const unsigned char in[SPOOL_SEGMENT_HEADER],
                                 struct spool_segment_header *out);

/* A head as those, but of a version that this program does not know: whatever it holds is mail. */
bool spool_segment_is_newer(const unsigned char in[SPOOL_SEGMENT_HEADER], uint32_t *out_version);

/* ---- the walk ---- */

struct spool_found_record {
    uint64_t offset;
    struct spool_record record;
    bool intact; /* the payload verifies */
};
struct spool_gap {
    uint64_t begin;
    uint64_t end;
    uint64_t known; /* recovery: bytes that broken units beside it lack, at most */
};
/* Records and the bytes between them that are none, both by offset. */
struct spool_scan {
    struct spool_found_record *records;
    size_t record_count;
    size_t record_cap;
    struct spool_gap *gaps;
    size_t gap_count;
    size_t gap_cap;
    uint64_t written; /* the end of all that is known to have been written: records, batches */
};

enum {
    SPOOL_SCAN_BEYOND = 1536 * 1024
}; /* further than any record reaches: an ENTRY with a header
      section of 256K and the largest meta */
/*
 * Walk `bytes`, a segment from its first byte on (the header is skipped, not looked at). After
 * bytes that are no record the walk resumes at the next that are one. It looks for that one as far
 * as something is known to have been written, by `written` or by a batch that was met, and
 * SPOOL_SCAN_BEYOND further: what lies behind was left there by an older segment. The last gap ends
 * at the end of the bytes. UINT64_MAX: look everywhere.
 */
void spool_segment_scan(struct str bytes, uint64_t segment, uint64_t written,
                        struct spool_scan *out);
void spool_scan_done(struct spool_scan *scan);

static inline uint64_t spool_found_record_end(const struct spool_found_record *found)
{
    return found->offset + spool_record_size(found->record.length);
}
static inline struct str spool_found_record_payload(struct str bytes,
                                                    const struct spool_found_record *found)
{
    size_t begin = (size_t)found->offset + SPOOL_RECORD_HEADER;
    return str_slice(bytes, begin, begin + found->record.length);
}
