/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/store.h - the history of what happened, on disk: what trace and find read.
 *
 * One row holds what one message, or one refused session, went through in a few seconds, packed; a
 * second row follows when more happens later. A thread of its own writes them in batches. Mail
 * never waits: what cannot be kept up with, or written, is dropped and counted. A damaged file is
 * set aside and a new one begun.
 */
#pragma once

#include "base/error.h"
#include "event/event.h"
#include "mail/id.h"

struct store;

struct store_settings {
    struct str folder;  /* made if it is missing */
    int64_t keep_ns;    /* older stories are deleted */
    uint64_t size;      /* bytes in use at most; the oldest stories go first */
    uint64_t keep_free; /* bytes of the file system that belong to mail */
    /* of the index, 0: the default; tests need little to see much */
    uint64_t fresh_max;    /* entries that wait unsorted */
    uint64_t segments_max; /* sorted runs before some are merged */
};

/* Open or make events.db and start the thread. Fails when the folder cannot be made or written. */
enum result store_open(const struct store_settings *settings, struct store **out_store,
                       struct error *err);
/* Write all there is, end the thread. NULL is allowed. */
void store_close(struct store *store);

/* Copy an event in. One thread (the log's); never waits for a disk. Between hold and release (of
 * the same thread; NULL is allowed) many cost the lock once. */
void store_put(struct store *store, const struct event *event, struct str revision);
void store_hold(struct store *store);
void store_release(struct store *store);

struct store_totals {
    uint64_t events;  /* written */
    uint64_t dropped; /* not kept up with, or not written */
    uint64_t bytes;   /* of the file in use, as last looked at */
};
struct store_totals store_totals(struct store *store);

/* ---- reading; any thread, a reader each ---- */

struct store_reader;

/* What store_put() took before this call will be found. */
enum result store_reader_open(struct store *store, struct store_reader **out_reader,
                              struct error *err);
/* NULL is allowed. */
void store_reader_close(struct store_reader *reader);

typedef void store_take_event(const struct event *event, struct str revision, void *arg);
/* The events of one row's id in their order; texts are borrowed until `take` returns. Tells
 * whether there were any. */
bool store_story(struct store_reader *reader, struct mail_id id, store_take_event *take, void *arg);

/* A value that stories can be found by: the key and its text, letter case ignored. Indexed are ref,
 * from, to (and, as KEY_DOMAIN, the domains of both), client, user, session, entry, message_id,
 * reason. */
uint64_t store_word(enum event_key key, struct str text);
bool store_is_indexed(enum event_key key);
/* The same for a type of event; 0 for what nearly every story has. */
uint64_t store_event_word(enum event_type type);

struct store_range {
    int64_t since_ms; /* since 1970; of the ids */
    int64_t until_ms;
};
enum { STORE_WORDS_MAX = 64, STORE_TERMS_MAX = 16 };
/* One of these words is in a story that is wanted. */
struct store_term {
    uint64_t words[STORE_WORDS_MAX];
    size_t count;
    bool is_recent; /* words of events and reasons, which older files do not have for all stories */
};
/* Ids of the stories that may hold a word of each term (words are hashes: look at them), or of all
 * without a term, newest first, until `take` says false. */
void store_search(struct store_reader *reader, const struct store_term *terms, size_t count,
                  struct store_range range, bool (*take)(struct mail_id id, void *arg), void *arg);
/* Ids of the stories that may hold the word (it is a hash: look at them), or of all when it is 0,
 * newest first, until `take` says false. */
void store_find(struct store_reader *reader, uint64_t word, struct store_range range,
                bool (*take)(struct mail_id id, void *arg), void *arg);
/* Ids of the stories in whose bytes `text` stands, letter case ignored (look at them: where it
 * stands is not said), newest first, until `take` says false or so many bytes were looked through.
 * Returns the time up to which it came back, in ms since 1970; 0: to the end of the range. */
int64_t store_scan(struct store_reader *reader, struct str text, struct store_range range,
                   uint64_t bytes_max, bool (*take)(struct mail_id id, void *arg), void *arg);
