/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes from disk: the first byte chooses the decoder; what is decoded is encoded the same way. */
#include "queue/entry.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* In parts and together again it is the same. */
static void try_split(const struct queue_meta *meta, struct str bytes, struct arena *arena)
{
    struct buf common, own, whole;
    struct str domain;
    struct queue_meta again;
    buf_init(&common, QUEUE_META_MAX);
    buf_init(&own, QUEUE_META_MAX);
    buf_init(&whole, QUEUE_META_MAX);
    queue_meta_split(meta, &common, &domain, &own);
    check(!common.overflow && !own.overflow);
    check(queue_meta_read(meta->message, buf_str(&common), domain, buf_str(&own), arena, &again));
    again.accepted_wall_ns = meta->accepted_wall_ns;
    queue_meta_encode(&again, &whole);
    check(whole.overflow || str_equal(buf_str(&whole), bytes));
    buf_done(&common);
    buf_done(&own);
    buf_done(&whole);
}

static void try_meta(struct str bytes, struct arena *arena)
{
    struct queue_meta meta;
    struct buf buf;
    if (!queue_meta_decode(bytes, arena, &meta))
        return;
    buf_init(&buf, QUEUE_META_MAX);
    queue_meta_encode(&meta, &buf);
    check(buf.overflow || str_equal(buf_str(&buf), bytes));
    try_split(&meta, bytes, arena);
    buf_done(&buf);
}

static void try_record(struct str bytes, size_t count, struct arena *arena)
{
    struct queue_record record, again;
    struct buf buf;
    if (!queue_record_decode(bytes, count, arena, &record))
        return;
    buf_init(&buf, QUEUE_RECORD_MAX);
    queue_record_encode(&record, &buf);
    check(!buf.overflow && queue_record_decode(buf_str(&buf), count, arena, &again));
    check(queue_record_pending(&record) == queue_record_pending(&again));
    buf_done(&buf);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size == 0 || size > QUEUE_META_MAX)
        return 0;
    struct arena *arena = arena_new(0);
    struct str bytes = str_of((const char *)data + 1, size - 1);
    if (data[0] == 0)
        try_meta(bytes, arena);
    else
        try_record(bytes, data[0] % QUEUE_RECIPIENTS_MAX, arena);
    arena_free(arena);
    return 0;
}
