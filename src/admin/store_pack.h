/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/store_pack.h - events of one story in few bytes: a value that a field had before in the
 * same row takes two bytes. Private to the store.
 */
#pragma once

#include "admin/store.h"
#include "base/buf.h"

struct pack_value {
    uint32_t offset; /* of the text in the buffer */
    uint32_t length;
    bool known;
};

struct pack {
    struct buf bytes;
    int64_t last_us;
    uint64_t last_seq;
    uint64_t count;                                /* events */
    struct pack_value values[EVENT_KEY_COUNT + 1]; /* the last is the revision's */
};

void pack_init(struct pack *pack, uint64_t dictionary);
/* Empty it; memory is kept. */
void pack_clear(struct pack *pack, uint64_t dictionary);
void pack_done(struct pack *pack);
/* Append; false if it is full. `fresh[i]` tells whether field i was not just the same before. */
bool pack_add(struct pack *pack, const struct event *event, struct str revision,
              bool fresh[static 32]);

/* The names that numbers stood for when a row was written: they may differ between versions. */
struct dictionary {
    uint64_t version;
    int types[256];
    int keys[256]; /* -1: unknown today */
};
/* Today's names as one text, to be stored. */
void dictionary_text(struct buf *out);
void dictionary_parse(struct str text, uint64_t version, struct dictionary *out);

/* The dictionary's version of a row; false if these are no bytes of ours. */
bool pack_version(struct str bytes, uint64_t *out_version);
/* Unpack; false at bytes that make no sense, after the events before them. */
bool pack_read(struct str bytes, const struct dictionary *dictionary, store_take_event *take,
               void *arg);
