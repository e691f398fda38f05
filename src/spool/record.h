/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool/record.h - the records of the log, byte for byte as in FORMAT.md. Pure: bytes in, values
 * out.
 *
 * A record's header is bound by its CRC to the segment and the offset where it lies, so that bytes
 * that were moved, swapped or left behind by another file never pass for a record.
 */
#pragma once

#include "base/str.h"
#include "mail/id.h"

enum spool_record_type {
    SPOOL_RECORD_BATCH = 1,    /* before each write: sequence and last durable position */
    SPOOL_RECORD_PREVIOUS = 2, /* how far another segment is valid */
    SPOOL_RECORD_COUNTERS = 3, /* all totals */
    SPOOL_RECORD_BODY = 4,     /* bytes of a message */
    SPOOL_RECORD_ENTRY = 5,
    SPOOL_RECORD_STATE = 6,
    SPOOL_RECORD_REMOVE = 7, /* tombstone */
    SPOOL_RECORD_COUNT = 8,  /* a step of one total */
    SPOOL_RECORD_CHUNK = 9,  /* piece of a body in a file of its own */
    SPOOL_RECORD_FOOTER = 10,
    SPOOL_RECORD_TYPES,
};

enum {
    SPOOL_RECORD_HEADER = 32,
    SPOOL_RECORD_ALIGN = 8,
    SPOOL_BATCH_SIZE = 32,
    SPOOL_PREVIOUS_SIZE = 32,
    SPOOL_ENTRY_FIXED = 88,
    SPOOL_STATE_FIXED = 24,
    SPOOL_REMOVE_SIZE = 16,
    SPOOL_COUNT_SIZE = 16,
    SPOOL_FOOTER_SIZE = 16, /* where it lies, units of the segment */
    SPOOL_NO_BODY = 0xffff,
    SPOOL_STATE_CEILING = 0xffff, /* of what is read back; 4K are written at most */
};

struct spool_record {
    enum spool_record_type type;
    uint16_t index; /* within its unit */
    uint16_t count; /* records of the unit */
    uint64_t unit;  /* ascending over the whole log */
    uint32_t length;
    uint32_t payload_crc;
};

/* Bytes that a record with that much payload takes: header, payload, padding. */
static inline uint64_t spool_record_size(uint64_t length)
{
    return SPOOL_RECORD_HEADER +
           (length + SPOOL_RECORD_ALIGN - 1) / SPOOL_RECORD_ALIGN * SPOOL_RECORD_ALIGN;
}

void spool_record_encode(const struct spool_record *record, uint64_t segment, uint64_t offset,
                         unsigned char out[SPOOL_RECORD_HEADER]);
/* False: these bytes are no record of that place. */
bool spool_record_decode(const unsigned char in[SPOOL_RECORD_HEADER], uint64_t segment,
                         uint64_t offset, struct spool_record *out);

/* ---- payloads ---- */

struct spool_batch {
    uint64_t sequence;
    uint64_t durable_segment; /* all before this place was synced when the batch was made */
    uint64_t durable_offset;
    uint64_t bytes; /* that follow */
};
void spool_batch_encode(const struct spool_batch *batch, unsigned char out[SPOOL_BATCH_SIZE]);
bool spool_batch_decode(struct str payload, struct spool_batch *out);

struct spool_previous {
    uint64_t segment;
    uint64_t valid_end; /* what lies behind is void, even if it verifies */
    uint64_t must_end;  /* all before this was on stable storage and must verify */
    uint64_t reason;
};
enum { SPOOL_PREVIOUS_ROLL, SPOOL_PREVIOUS_SYNC_FAILED, SPOOL_PREVIOUS_RECOVERED };
void spool_previous_encode(const struct spool_previous *previous,
                           unsigned char out[SPOOL_PREVIOUS_SIZE]);
bool spool_previous_decode(struct str payload, struct spool_previous *out);

/* The fixed part of an ENTRY record; head, meta and state follow it. */
struct spool_entry_record {
    struct mail_id entry;
    struct mail_id message;
    uint64_t body_start;
    uint64_t body_size;      /* of the whole body */
    uint64_t bulk;           /* file of the body, or 0 */
    uint64_t state_sequence; /* 0: the unit's number; set in copies */
    uint32_t head_len;
    uint32_t meta_len;
    uint32_t state_len;
    uint16_t body_record; /* index within the unit, or SPOOL_NO_BODY */
    bool copy;
};
void spool_entry_encode(const struct spool_entry_record *entry,
                        unsigned char out[SPOOL_ENTRY_FIXED]);
/* `payload` may be cut to the fixed part; `length` is that of the record. */
bool spool_entry_decode(struct str payload, uint64_t length, struct spool_entry_record *out);

void spool_id_encode(struct mail_id id, unsigned char out[16]);
struct mail_id spool_id_decode(const unsigned char in[16]);

/* STATE: id, state sequence (0: the unit's number), the state's bytes. */
bool spool_state_decode(struct str payload, struct mail_id *out_entry, uint64_t *out_sequence,
                        struct str *out_state);
