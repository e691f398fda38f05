/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/store_base.h - events in full that those of many stories refer to.
 *
 * What a gateway says of one message it says of the next, but for an id and some numbers: the
 * second event of a kind in a turn is kept as a base, and those behind it, whatever story they
 * belong to, are written as what they do not share with it. A row has the bases of its stories.
 * Private to the store, for its thread.
 */
#pragma once

#include "event/event.h"

enum { STORE_STORY_BASES = 16, BASE_WORDS = 16 };

struct base {
    unsigned uses;
    unsigned count;
    struct event_field fields[32]; /* texts point into `bytes` */
    struct str revision;
    struct str bytes;                /* as they stand in a row */
    uint64_t words[BASE_WORDS];      /* of the index, */
    uint8_t word_fields[BASE_WORDS]; /* and of which field */
    unsigned word_count;
    bool is_indexed; /* the words are known */
    uint64_t bundle; /* the last one it was put into, */
    unsigned place;  /* and where */
};

/* One use is the caller's. */
struct base *base_new(const struct event *event, struct str revision);
struct base *base_keep(struct base *base);
/* NULL is allowed. */
void base_drop(struct base *base);

/* ---- where a stream is ---- */

/* For events of one number of fields: what says it of a message has others than what says it of a
 * recipient. */
struct base_slot {
    struct base *base;   /* NULL: none yet */
    uint64_t turn;       /* of the last event */
    uint32_t may_differ; /* fields that changed since the base */
    bool fits;           /* the last event had the base's fields */
};
enum { BASE_SLOTS = 4 };
struct base_stream {
    struct base_slot slots[BASE_SLOTS];
    uint32_t number;           /* of the last event */
    unsigned message, session; /* which of its fields tell whom it is about, from 1; 0: none */
};

/* The next live event of the stream: the base that it can be told by, and the fields that it does
 * not share with it; NULL: it is to be told in full. */
struct base *base_follow(struct base_stream *stream, const struct event *event, struct str revision,
                         uint64_t turn, uint32_t *out_fields);
void base_stream_end(struct base_stream *stream);
