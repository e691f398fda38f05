/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/record.h"

#include "spool/bytes.h"
#include "spool/crc.h"

#include <string.h>

enum { MAGIC = 0x43455250 }; /* "PREC" */

static uint32_t header_crc(const unsigned char *header, uint64_t segment, uint64_t offset)
{
    unsigned char place[16];
    spool_put64(place, segment);
    spool_put64(place + 8, offset);
    return spool_crc(spool_crc(0, place, sizeof place), header + 8, SPOOL_RECORD_HEADER - 8);
}

void spool_record_encode(const struct spool_record *record, uint64_t segment, uint64_t offset,
                         unsigned char out[SPOOL_RECORD_HEADER])
{
    spool_put32(out, MAGIC);
    spool_put16(out + 8, (uint16_t)record->type);
    spool_put16(out + 10, record->index);
    spool_put16(out + 12, record->count);
    spool_put16(out + 14, 0);
    spool_put64(out + 16, record->unit);
    spool_put32(out + 24, record->length);
    spool_put32(out + 28, record->payload_crc);
    spool_put32(out + 4, header_crc(out, segment, offset));
}

bool spool_record_decode(const unsigned char in[SPOOL_RECORD_HEADER], uint64_t segment,
                         uint64_t offset, struct spool_record *out)
{
    if (spool_get32(in) != MAGIC || spool_get32(in + 4) != header_crc(in, segment, offset))
        return false;
    unsigned type = spool_get16(in + 8);
    struct spool_record record = {
        .type = (enum spool_record_type)type,
        .index = spool_get16(in + 10),
        .count = spool_get16(in + 12),
        .unit = spool_get64(in + 16),
        .length = spool_get32(in + 24),
        .payload_crc = spool_get32(in + 28),
    };
    if (type == 0 || type >= SPOOL_RECORD_TYPES || record.index >= record.count)
        return false;
    *out = record;
    return true;
}

void spool_batch_encode(const struct spool_batch *batch, unsigned char out[SPOOL_BATCH_SIZE])
{
    spool_put64(out, batch->sequence);
    spool_put64(out + 8, batch->durable_segment);
    spool_put64(out + 16, batch->durable_offset);
    spool_put64(out + 24, batch->bytes);
}

static const unsigned char *bytes_of(struct str payload)
{
    return (const unsigned char *)payload.ptr;
}

bool spool_batch_decode(struct str payload, struct spool_batch *out)
{
    if (payload.len != SPOOL_BATCH_SIZE)
        return false;
    const unsigned char *in = bytes_of(payload);
    *out = (struct spool_batch){spool_get64(in), spool_get64(in + 8), spool_get64(in + 16),
                                spool_get64(in + 24)};
    return true;
}

void spool_previous_encode(const struct spool_previous *previous,
                           unsigned char out[SPOOL_PREVIOUS_SIZE])
{
    spool_put64(out, previous->segment);
    spool_put64(out + 8, previous->valid_end);
    spool_put64(out + 16, previous->must_end);
    spool_put64(out + 24, previous->reason);
}

bool spool_previous_decode(struct str payload, struct spool_previous *out)
{
    if (payload.len != SPOOL_PREVIOUS_SIZE)
        return false;
    const unsigned char *in = bytes_of(payload);
    *out = (struct spool_previous){spool_get64(in), spool_get64(in + 8), spool_get64(in + 16),
                                   spool_get64(in + 24)};
    return true;
}

void spool_id_encode(struct mail_id id, unsigned char out[16])
{
    spool_put64(out, id.high);
    spool_put64(out + 8, id.low);
}

struct mail_id spool_id_decode(const unsigned char in[16])
{
    return (struct mail_id){.high = spool_get64(in), .low = spool_get64(in + 8)};
}

void spool_entry_encode(const struct spool_entry_record *entry,
                        unsigned char out[SPOOL_ENTRY_FIXED])
{
    spool_id_encode(entry->entry, out);
    spool_id_encode(entry->message, out + 16);
    spool_put64(out + 32, entry->body_start);
    spool_put64(out + 40, entry->body_size);
    spool_put64(out + 48, entry->bulk);
    spool_put64(out + 56, entry->state_sequence);
    spool_put32(out + 64, entry->head_len);
    spool_put32(out + 68, entry->meta_len);
    spool_put32(out + 72, entry->state_len);
    spool_put16(out + 76, entry->body_record);
    spool_put16(out + 78, entry->copy ? 1 : 0);
    spool_put64(out + 80, 0);
}

bool spool_entry_decode(struct str payload, uint64_t length, struct spool_entry_record *out)
{
    if (payload.len < SPOOL_ENTRY_FIXED)
        return false;
    const unsigned char *in = bytes_of(payload);
    struct spool_entry_record entry = {
        .entry = spool_id_decode(in),
        .message = spool_id_decode(in + 16),
        .body_start = spool_get64(in + 32),
        .body_size = spool_get64(in + 40),
        .bulk = spool_get64(in + 48),
        .state_sequence = spool_get64(in + 56),
        .head_len = spool_get32(in + 64),
        .meta_len = spool_get32(in + 68),
        .state_len = spool_get32(in + 72),
        .body_record = spool_get16(in + 76),
        .copy = (spool_get16(in + 78) & 1) != 0,
    };
    uint64_t expected =
        (uint64_t)SPOOL_ENTRY_FIXED + entry.head_len + entry.meta_len + entry.state_len;
    if (expected != length || entry.body_start > entry.body_size ||
        entry.state_len > SPOOL_STATE_CEILING || (!entry.bulk && entry.body_size > UINT32_MAX))
        return false;
    *out = entry;
    return true;
}

bool spool_state_decode(struct str payload, struct mail_id *out_entry, uint64_t *out_sequence,
                        struct str *out_state)
{
    if (payload.len < SPOOL_STATE_FIXED || payload.len - SPOOL_STATE_FIXED > SPOOL_STATE_CEILING)
        return false;
    *out_entry = spool_id_decode(bytes_of(payload));
    *out_sequence = spool_get64(bytes_of(payload) + 16);
    *out_state = str_from(payload, SPOOL_STATE_FIXED);
    return true;
}
