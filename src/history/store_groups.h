/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/store_groups.h - which events make one story, while they wait to be written.
 *
 * An event that names a message belongs to the message's story; what its session said before is put
 * in front. One that names only a session belongs to the session's story, which is kept when
 * something in it was refused. What names neither belongs to the gateway's. Private to the store,
 * for its thread.
 */
#pragma once

#include "history/store_pack.h"
#include "base/list.h"
#include "base/map.h"

/* An event of a session that stands in front of many messages. */
struct told {
    struct base *base;
    enum event_type type;
    int64_t wall_ns;
    uint64_t seq;
};

struct story {
    struct list in_list; /* in no list: a session with nothing to write */
    struct mail_id id;
    char name[MAIL_ID_LEN]; /* the id, as events write it */
    int64_t born_ns;        /* monotonic, of the oldest event to be written */
    int64_t touched_ns;
    bool is_session;
    bool closed;               /* no more is expected: write it now */
    bool refused;              /* a session's: worth keeping */
    struct pack *pack;         /* NULL: a session's of which nothing was ever written */
    struct buf said;           /* a session's: records of its events */
    size_t written;            /* bytes of `said` that were taken */
    struct mail_id introduced; /* a session's: the message it stands in front of */
    unsigned introductions;    /* how many messages it stands in front of */
    struct told *told;         /* from the second on: its first events; NULL: not yet */
    unsigned told_count;
    size_t told_end; /* bytes of `said` that are in `told` */
    uint64_t *words;
    size_t word_count, word_cap;
    struct base *bases[STORE_STORY_BASES]; /* that its pack refers to */
    unsigned base_count;
};

enum { GROUPS_RECENT = 128 };

struct groups {
    struct map messages, sessions;       /* by the id's bytes: struct story */
    struct story *recent[GROUPS_RECENT]; /* found there lately, by their names; or NULL */
    struct list ready;                   /* to be written now, */
    struct list waiting;                 /* or when it has waited; the oldest first */
    struct story *gateway;               /* NULL: nothing to write */
    struct list spare;                   /* emptied, with their memory */
    size_t spare_count, spare_least;     /* the least there were since groups_settle() */
    struct event_slots streams;          /* struct base_stream */
    uint64_t turn;
    uint64_t dictionary;
};

void groups_init(struct groups *groups, uint64_t dictionary);
void groups_done(struct groups *groups);
/* What comes now is written together. */
void groups_begin_turn(struct groups *groups);
/* False: there is no room, it is dropped. */
bool groups_add(struct groups *groups, const struct event *event, struct str revision,
                int64_t now_ns);

/* The next story to write at `now_ns`, or whatever waits when `all`; NULL without. Its events are
 * in its pack then. */
struct story *groups_next(struct groups *groups, int64_t now_ns, bool all);
/* Every second or so: memory that was not needed since the last call goes back. */
void groups_settle(struct groups *groups);
/* It is written (or lost): forget it, but for what later events of a session need. */
void groups_written(struct groups *groups, struct story *story);
