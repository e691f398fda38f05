/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/store_pack.h - events of one story in few bytes. Private to the store.
 *
 * A value that a field had before in the same story takes two bytes. An event that follows one of
 * its type in its stream (event/event.h) and in the story is written as what changed: of fifty
 * recipients each takes its address. Another may be written as what it does not share with a base.
 */
#pragma once

#include "history/store.h"
#include "history/store_base.h"
#include "base/buf.h"

struct pack_value {
    uint32_t offset; /* of the text in the buffer; 0: there is none */
    uint32_t length;
};

struct pack_address { /* of a recipient: told at RCPT, when accepted, and when delivered */
    struct pack_value text;
    uint32_t number; /* among all texts of the row */
};

struct pack_kind { /* the last event of a type in the row */
    bool known;
    enum event_type type;
    unsigned source; /* its place in its stream */
    uint32_t number;
};
enum { PACK_KINDS = 8 }; /* more types are remembered in turn */

struct pack {
    struct buf bytes;
    struct pack_kind kinds[PACK_KINDS];
    unsigned next_kind;
    struct pack_address *addresses;
    uint32_t address_count, address_cap;
    uint32_t address;    /* the last one told */
    uint32_t text_count; /* told in full */
    int64_t last_us;
    uint64_t last_seq;
    const struct base *revision; /* whose revision the last event had; NULL: it was told */
    uint64_t count;              /* events */
    struct pack_value values[EVENT_KEY_COUNT + 1]; /* the last is the revision's */
};

void pack_init(struct pack *pack, uint64_t dictionary);
/* Empty it; memory is kept. */
void pack_clear(struct pack *pack, uint64_t dictionary);
void pack_done(struct pack *pack);
/* What an event may be written by: `base` is the story's with that number, from 0. */
struct pack_reference {
    const struct base *base; /* NULL: there is none */
    unsigned number;
    uint32_t fields; /* that it does not share with the base */
};
/* How it was written, and which fields are texts and new to the story. */
struct pack_added {
    bool by_reference; /* the others have what the base has */
    uint32_t fresh;
};
/* Append; false if it is full. */
bool pack_add(struct pack *pack, const struct event *event, struct str revision,
              struct pack_reference reference, struct pack_added *out);
/* A base's bytes, to be freed; texts of its fields and its revision are those in them then. */
struct str pack_base(struct event_field *io_fields, unsigned count, struct str *io_revision);

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
/* Unpack; `bases` are those that the story refers to. False at bytes that make no sense, after the
 * events before them. */
bool pack_read(struct str bytes, const struct str *bases, size_t base_count,
               const struct dictionary *dictionary, store_take_event *take, void *arg);
