/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event/record.h - the bytes of an event, and of what it does not share with the one before.
 *
 * Private to event/. Events of one thread and one type follow each other in a stream, and most of
 * their fields stay: fifty recipients of a message differ in an address. A record is whole, or it
 * holds only the fields that changed since the record before it in its stream; both sides keep the
 * last event as an image of its whole record. What is larger than an image is always whole, and so
 * is what follows it.
 */
#pragma once

#include "event/event.h"

enum {
    EVENT_FIELDS = 32, /* own and of the context */
    EVENT_TEXT = 1024,
    RECORD_ALIGNMENT = 8,
    RECORD_SKIP = 0xFFFF, /* as a type: nothing more before the end of the ring */
    RECORD_LIKE = 0x8000, /* in `count`: a mask and the changed fields follow */
    IMAGE_MAX = 1024,
};

struct record {
    uint32_t size; /* with this header, a multiple of RECORD_ALIGNMENT */
    uint16_t type;
    uint16_t count; /* of the event's fields */
    int64_t wall_ns;
};

struct record_field {
    uint8_t key;
    uint8_t kind;
    uint16_t length; /* of the bytes that follow */
};

/* The last event of a stream as a whole record; size 0: it is not known. */
struct image {
    uint32_t size; /* without padding */
    char bytes[IMAGE_MAX];
};

/* How an event is to be written. */
struct record_plan {
    bool is_like;
    bool keeps_lengths; /* no field that changed is longer or shorter */
    uint32_t changed;
    size_t size;       /* of the record */
    size_t whole_size; /* of the fields with a header, without padding */
};

/* Only the fields in `may_differ` are compared; the others are as in the image. */
struct record_plan record_plan(const struct image *image, const struct event_field *const *fields,
                               unsigned count, uint32_t may_differ);
void record_write(char *to, const struct record_plan *plan, enum event_type type, int64_t wall_ns,
                  const struct event_field *const *fields, unsigned count);
/* The event was written: it is the last one now. */
void record_note(struct image *image, const struct record_plan *plan,
                 const struct event_field *const *fields, unsigned count);
/* Of bytes that are there; no more than what a header has. */
struct record record_head(const char *bytes);
