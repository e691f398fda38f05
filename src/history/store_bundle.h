/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/store_bundle.h - stories of about the same time in one row: a row each is what writing
 * costs most. Private to the store.
 *
 * A bundle is: its format (a byte), how many stories and bases (4 bytes each, as all numbers here,
 * the highest first); for each story, in the order of ids, its id and where its bytes end; where
 * the bytes of each base end; the bases; the stories. Of a story the bytes are a number of bases,
 * which these are (a byte each), and what store_pack.h makes of it.
 */
#pragma once

#include "history/store_base.h"
#include "base/buf.h"
#include "mail/id.h"

enum {
    BUNDLE_SPAN_MS = 256,     /* between the first id and the last: where to look for an id */
    BUNDLE_BYTES = 16 * 1024, /* of its stories, about: who wants one reads all */
};

/* ---- writing ---- */

struct bundled {
    struct mail_id id;
    uint32_t offset, size;           /* of the bytes */
    uint32_t first_base, base_count; /* among all bases */
};

/* Stories that wait for their bundles. */
struct bundler {
    struct buf bytes;
    struct bundled *stories;
    size_t count, cap;
    size_t taken;        /* by bundler_next() */
    struct base **bases; /* one use of each is ours */
    size_t base_count, base_cap;
    uint64_t bundles;  /* made so far */
    struct buf bundle; /* the last one */
};

void bundler_init(struct bundler *bundler, size_t max);
void bundler_done(struct bundler *bundler);
void bundler_clear(struct bundler *bundler);
/* The same, and memory goes back that was not needed lately: as buf_settle(). */
void bundler_settle(struct bundler *bundler, size_t *needed);
/* False: there is no room. */
bool bundler_add(struct bundler *bundler, struct mail_id id, struct str bytes,
                 struct base *const *bases, size_t base_count);

struct bundle {
    struct mail_id first, last;
    size_t count;
    struct str bytes; /* of one without bases: as it was added; borrowed until the next */
};
/* After all was added: the next piece, in the order of ids; false at the end. */
bool bundler_next(struct bundler *bundler, struct bundle *out);

/* ---- reading: nothing is believed ---- */

/* Number of stories; 0 if these are no bytes of ours. */
size_t bundle_count(struct str bytes);
struct bundle_story {
    struct mail_id id;
    struct str bytes;
    struct str bases[STORE_STORY_BASES];
    size_t base_count;
};
/* `index` is below the count. */
struct mail_id bundle_id(struct str bytes, size_t index);
/* False where the bytes make no sense. */
bool bundle_story(struct str bytes, size_t index, struct bundle_story *out);
/* The first with that id, or where it would be: as many as there are ids before it. */
size_t bundle_find(struct str bytes, struct mail_id id);
