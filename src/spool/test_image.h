/* SPDX-License-Identifier: Apache-2.0 */
/* spool/test_image.h - segments made by hand, record by record, and what recovery makes of them. */
#pragma once

#include "base/buf.h"
#include "spool/recover.h"

struct image {
    uint64_t id;
    enum spool_segment_kind kind;
    struct buf bytes;
};

void image_init(struct image *image, uint64_t id, enum spool_segment_kind kind);
void image_record(struct image *image, enum spool_record_type type, uint64_t unit, uint16_t index,
                  uint16_t count, struct str payload);
void image_batch(struct image *image, uint64_t unit, uint64_t segment, uint64_t durable);
void image_entry(struct image *image, uint64_t unit, uint64_t number, uint64_t sequence);
void image_remove(struct image *image, uint64_t unit, uint64_t number);
void image_state(struct image *image, uint64_t unit, uint64_t number, uint64_t sequence,
                 const char *text);
void image_previous(struct image *image, uint64_t unit, struct spool_previous previous);

struct hand_made {
    struct image images[3];
    size_t count;
    struct spool_recover_segment sources[3];
    struct spool_index index;
    struct spool_recovered result;
};

void hand_recover(struct hand_made *made);
void hand_done(struct hand_made *made);
