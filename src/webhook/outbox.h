/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook/outbox.h - deliveries on disk, so that they outlive a restart: those that wait, and the
 * last ones that are over, as the log of deliveries. The door to SQLite here.
 *
 * One thread. What is put in outlives the end of the process at once; a power cut may lose the last
 * moments (no sync stands in the way of mail). A damaged file is set aside.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

struct webhook_outbox;

enum webhook_state { WEBHOOK_STATE_WAITING, WEBHOOK_STATE_DELIVERED, WEBHOOK_STATE_FAILED };

struct webhook_delivery {
    int64_t row;   /* ascends; 0: not in the outbox yet */
    struct str id; /* webhook-id: the same at each attempt */
    struct str webhook;
    struct str type; /* of the event */
    struct str body;
    enum webhook_state state;
    unsigned attempts;
    int64_t created_ms; /* wall clock, as all that follow */
    int64_t next_ms;    /* of those that wait */
    int64_t last_ms;    /* of the last attempt; 0: none yet */
    unsigned status;    /* of its answer; 0: none */
    int64_t took_ms;
    struct str error;  /* why it failed, or empty */
    struct str answer; /* the beginning of what the receiver said */
    bool is_held_up;   /* the receiver was at fault: goes on as soon as that recovers */
};

struct webhook_backlog { /* of one webhook: what waits */
    uint64_t count, bytes;
};

/* `*out_aside`: what was there was damaged; it was renamed, and a new file begun. */
enum result webhook_outbox_open(const char *path, struct webhook_outbox **out_outbox,
                                bool *out_aside, struct error *err);
void webhook_outbox_close(struct webhook_outbox *outbox); /* NULL is allowed */
/* Did the last failure come of a damaged file? */
bool webhook_outbox_is_damaged(const struct webhook_outbox *outbox);
/* Close it, and rename the file. */
void webhook_outbox_set_aside(struct webhook_outbox *outbox);

/* All that is put or changed between them is one transaction; after a failed begin, or with
 * `good` false, it is undone. */
enum result webhook_outbox_begin(struct webhook_outbox *outbox, struct error *err);
enum result webhook_outbox_end(struct webhook_outbox *outbox, bool good, struct error *err);

enum result webhook_outbox_put(struct webhook_outbox *outbox,
                               const struct webhook_delivery *delivery, struct error *err);
/* What became of an attempt: all but id, webhook, type, body and created_ms. *out_found false: it
 * has been dropped meanwhile. */
enum result webhook_outbox_note(struct webhook_outbox *outbox,
                                const struct webhook_delivery *delivery, bool *out_found,
                                struct error *err);

/* The first of those that wait, by the time of their next attempt: rows and times alone. */
enum result webhook_outbox_first(struct webhook_outbox *outbox, struct str webhook, size_t most,
                                 struct webhook_delivery *out, size_t *out_count,
                                 struct error *err);
/* By row, or by id if that is 0. Texts in `arena`. *out_found false: there is none. */
enum result webhook_outbox_get(struct webhook_outbox *outbox, int64_t row, struct str id,
                               struct arena *arena, struct webhook_delivery *out, bool *out_found,
                               struct error *err);
/* The newest, without their bodies; `state` -1: of any; `before` 0, or only rows below it. */
enum result webhook_outbox_list(struct webhook_outbox *outbox, struct str webhook, int state,
                                int64_t before, size_t most, struct arena *arena,
                                struct webhook_delivery *out, size_t *out_count, struct error *err);
enum result webhook_outbox_backlog(struct webhook_outbox *outbox, struct str webhook,
                                   struct webhook_backlog *out, struct error *err);
/* When the oldest of those that wait was created, in little time; 0: none waits. */
int64_t webhook_outbox_oldest_ms(struct webhook_outbox *outbox, struct str webhook);

/* The oldest `count` of those that wait go; how many bytes that were. */
enum result webhook_outbox_drop(struct webhook_outbox *outbox, struct str webhook, uint64_t count,
                                uint64_t *out_bytes, struct error *err);
/* Of the oldest 1,000: those that wait, were tried and are older than `life_ms` count as failed,
 * but for those that somebody wants tried again; how many. */
enum result webhook_outbox_expire(struct webhook_outbox *outbox, struct str webhook, int64_t now_ms,
                                  int64_t life_ms, uint64_t *out_count, struct error *err);
/* Those that were held up by the receiver go on at `now_ms`. */
enum result webhook_outbox_release(struct webhook_outbox *outbox, struct str webhook,
                                   int64_t now_ms, struct error *err);
/* Of those that are over, all but the newest `keep` go. */
enum result webhook_outbox_forget(struct webhook_outbox *outbox, struct str webhook, uint64_t keep,
                                  struct error *err);

/* ---- what is known of a webhook itself ---- */

struct webhook_mark {
    struct str webhook;
    bool is_paused, is_disabled;
    int64_t since_ms;
    struct str by;    /* who paused it */
    struct str where; /* a hash of the URL that answered 410 */
};
enum { WEBHOOK_MARKS_MAX = 256 };
/* All of them, and the names of those of which there are deliveries only. Texts in `arena`. */
enum result webhook_outbox_marks(struct webhook_outbox *outbox, struct arena *arena,
                                 struct webhook_mark out[WEBHOOK_MARKS_MAX], size_t *out_count,
                                 struct error *err);
enum result webhook_outbox_mark(struct webhook_outbox *outbox, const struct webhook_mark *mark,
                                struct error *err);
/* All that there is of it. */
enum result webhook_outbox_remove(struct webhook_outbox *outbox, struct str webhook,
                                  struct error *err);
