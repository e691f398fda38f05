/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/shares.c - senders by key, and a heap by what they had: the least served is on top.
 */
#include "queue/shares.h"

#include "base/check.h"
#include "base/map.h"
#include "base/memory.h"
#include "queue/fair.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A turn is so many messages or bytes, whichever is less (fair.h). */
enum {
    MESSAGE_COST = QUEUE_FAIR_BYTES / QUEUE_FAIR_MESSAGES,
    LEAD_MAX = 64 * QUEUE_FAIR_BYTES, /* nobody pays for longer, whatever kept the others */
};

struct queue_share {
    atomic_uint_least64_t served; /* cost; changed under the mutex */
    size_t index;                 /* in the heap */
    size_t references;            /* workers */
    struct str key;               /* behind the struct */
};

struct queue_shares {
    pthread_mutex_t mutex;
    struct map table;
    struct queue_share **heap;
    size_t cap;
    atomic_size_t count;
    atomic_uint_least64_t least; /* that any of them had */
};

struct queue_shares *queue_shares_new(void)
{
    struct queue_shares *shares = NEW(struct queue_shares);
    pthread_mutex_init(&shares->mutex, NULL);
    map_init(&shares->table);
    return shares;
}

void queue_shares_free(struct queue_shares *shares)
{
    if (shares == NULL)
        return;
    check(shares->count == 0);
    map_done(&shares->table);
    pthread_mutex_destroy(&shares->mutex);
    free(shares->heap);
    free(shares);
}

/* ---- the heap; the mutex is held ---- */

static bool is_less(const struct queue_share *a, const struct queue_share *b)
{
    return a->served < b->served;
}

static void place(struct queue_shares *shares, size_t index, struct queue_share *share)
{
    shares->heap[index] = share;
    share->index = index;
}

static void sift_up(struct queue_shares *shares, struct queue_share *share)
{
    size_t at = share->index;
    for (; at > 0 && is_less(share, shares->heap[(at - 1) / 2]); at = (at - 1) / 2)
        place(shares, at, shares->heap[(at - 1) / 2]);
    place(shares, at, share);
}

static void sift_down(struct queue_shares *shares, struct queue_share *share)
{
    size_t at = share->index;
    for (size_t child = 2 * at + 1; child < shares->count; child = 2 * at + 1) {
        if (child + 1 < shares->count && is_less(shares->heap[child + 1], shares->heap[child]))
            child++;
        if (!is_less(shares->heap[child], share))
            break;
        place(shares, at, shares->heap[child]);
        at = child;
    }
    place(shares, at, share);
}

static void note_least(struct queue_shares *shares)
{
    if (shares->count > 0)
        atomic_store_explicit(&shares->least, shares->heap[0]->served, memory_order_relaxed);
}

/* ---- senders ---- */

static struct queue_share *share_new(struct queue_shares *shares, struct str key)
{
    struct queue_share *share = memory_alloc(sizeof *share + key.len);
    char *copy = (char *)(share + 1);
    memcpy(copy, key.ptr, key.len);
    share->key = str_of(copy, key.len);
    share->served = shares->least; /* of when there was one last, if there is none */
    if (shares->count == shares->cap) {
        shares->cap = shares->cap == 0 ? 8 : shares->cap * 2;
        shares->heap = memory_resize_array(shares->heap, shares->cap, sizeof *shares->heap);
    }
    place(shares, shares->count, share);
    shares->count++;
    sift_up(shares, share);
    map_put(&shares->table, share->key, share);
    return share;
}

struct queue_share *queue_shares_join(struct queue_shares *shares, struct str key)
{
    pthread_mutex_lock(&shares->mutex);
    struct queue_share *share = map_get(&shares->table, key);
    if (share == NULL)
        share = share_new(shares, key);
    share->references++;
    pthread_mutex_unlock(&shares->mutex);
    return share;
}

void queue_shares_leave(struct queue_shares *shares, struct queue_share *share)
{
    pthread_mutex_lock(&shares->mutex);
    if (--share->references == 0) {
        struct queue_share *last = shares->heap[--shares->count];
        map_remove(&shares->table, share->key);
        if (last != share) {
            place(shares, share->index, last);
            sift_up(shares, last);
            sift_down(shares, last);
        }
        note_least(shares);
        free(share);
    }
    pthread_mutex_unlock(&shares->mutex);
}

void queue_shares_charge(struct queue_shares *shares, struct queue_share *share, uint64_t size)
{
    if (atomic_load_explicit(&shares->count, memory_order_relaxed) <= 1)
        return; /* he has it all, and begins with nothing owed when another comes */
    pthread_mutex_lock(&shares->mutex);
    uint64_t served = share->served + (size > MESSAGE_COST ? size : MESSAGE_COST);
    uint64_t most = shares->least + LEAD_MAX;
    share->served = served < most ? served : most;
    sift_down(shares, share);
    note_least(shares);
    pthread_mutex_unlock(&shares->mutex);
}

bool queue_share_is_ahead(const struct queue_shares *shares, const struct queue_share *share)
{
    uint64_t served = atomic_load_explicit(&share->served, memory_order_relaxed);
    return served > atomic_load_explicit(&shares->least, memory_order_relaxed) + QUEUE_FAIR_BYTES;
}
