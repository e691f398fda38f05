/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/test_image.h"

#include "spool/bytes.h"
#include "spool/crc.h"
#include "spool/test_tools.h"

#include <string.h>

void image_init(struct image *image, uint64_t id, enum spool_segment_kind kind)
{
    *image = (struct image){.id = id, .kind = kind};
    buf_init(&image->bytes, 1 << 20);
    unsigned char header[SPOOL_SEGMENT_HEADER];
    spool_segment_header_encode(&(struct spool_segment_header){.kind = kind, .id = id}, header);
    buf_append(&image->bytes, str_of((const char *)header, sizeof header));
}

void image_record(struct image *image, enum spool_record_type type, uint64_t unit, uint16_t index,
                  uint16_t count, struct str payload)
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

void image_batch(struct image *image, uint64_t unit, uint64_t segment, uint64_t durable)
{
    unsigned char payload[SPOOL_BATCH_SIZE];
    spool_batch_encode(&(struct spool_batch){1, segment, durable, 0}, payload);
    image_record(image, SPOOL_RECORD_BATCH, unit, 0, 1,
                 str_of((const char *)payload, sizeof payload));
}

void image_entry(struct image *image, uint64_t unit, uint64_t number, uint64_t sequence)
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

void image_remove(struct image *image, uint64_t unit, uint64_t number)
{
    unsigned char payload[SPOOL_REMOVE_SIZE];
    spool_id_encode(test_id(number), payload);
    image_record(image, SPOOL_RECORD_REMOVE, unit, 0, 1,
                 str_of((const char *)payload, sizeof payload));
}

void image_state(struct image *image, uint64_t unit, uint64_t number, uint64_t sequence,
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

void image_previous(struct image *image, uint64_t unit, struct spool_previous previous)
{
    unsigned char payload[SPOOL_PREVIOUS_SIZE];
    spool_previous_encode(&previous, payload);
    image_record(image, SPOOL_RECORD_PREVIOUS, unit, 0, 1,
                 str_of((const char *)payload, sizeof payload));
}

void hand_recover(struct hand_made *made)
{
    spool_index_init(&made->index);
    for (size_t i = 0; i < made->count; i++)
        made->sources[i] = (struct spool_recover_segment){.id = made->images[i].id,
                                                          .kind = made->images[i].kind,
                                                          .bytes = buf_str(&made->images[i].bytes),
                                                          .is_gone = made->sources[i].is_gone};
    spool_recover(made->sources, made->count, NULL, NULL, &made->index, &made->result);
}

void hand_done(struct hand_made *made)
{
    spool_recovered_done(&made->result);
    spool_index_done(&made->index);
    for (size_t i = 0; i < made->count; i++)
        buf_done(&made->images[i].bytes);
}
