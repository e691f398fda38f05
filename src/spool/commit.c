/* SPDX-License-Identifier: Apache-2.0 */
/* Commit units from the callers' side. */
#include "base/check.h"
#include "base/memory.h"
#include "spool/internal.h"

#include <stdlib.h>
#include <string.h>

bool spool_has_room(const struct spool *spool)
{
    return atomic_load(&spool->has_space) && !atomic_load(&spool->broken);
}

static enum result check_room(const struct spool *spool, const struct spool_change *changes,
                              size_t count, struct error *err)
{
    if (spool_has_room(spool))
        return OK;
    for (size_t i = 0; i < count; i++) {
        if (changes[i].kind == SPOOL_ADD)
            return atomic_load(&spool->broken)
                       ? fail(err, ERROR_TEMPORARY, "the spool's disk fails")
                       : fail(err, ERROR_LIMIT, "no space in the spool");
    }
    return OK;
}

/* ---- bodies that lie in memory, or in the log of an older version, and are large ---- */

/* Changes of which some have other contents. */
struct moved {
    struct spool_change *changes;
    struct mail_content *contents;
    size_t count;
};

static bool is_large_elsewhere(const struct spool_change *change)
{
    const struct body *body = change->kind == SPOOL_ADD ? change->content->body : NULL;
    return body && body->size > SPOOL_INLINE_MAX && !spool_body_bulk(body);
}

static enum result copy_to_file(struct spool *spool, struct body *from, struct body **out_body,
                                struct error *err) MAY_YIELD
{
    char *space = memory_resize_array(NULL, SPOOL_CHUNK, 1);
    enum result result = spool_body_new(spool, out_body, err);
    bool made = result == OK;
    for (uint64_t done = 0; result == OK && done < from->size;) {
        struct str data = STR_EMPTY;
        result = body_read(from, done, SPOOL_CHUNK, space, &data, err);
        if (result == OK)
            result = data.len ? body_append(*out_body, data, err)
                              : fail(err, ERROR_TEMPORARY, "body ended early");
        done += data.len;
    }
    free(space);
    if (result == OK)
        result = body_seal(*out_body, err);
    if (result != OK && made)
        body_unref(*out_body);
    return result;
}

/* The file of a body that an earlier change brought, or a new one; a reference. */
static enum result file_of(struct spool *spool, const struct spool_change *changes,
                           const struct moved *moved, size_t at, struct body **out_body,
                           struct error *err) MAY_YIELD
{
    struct body *from = changes[at].content->body;
    for (size_t i = 0; i < at; i++) {
        if (changes[i].kind == SPOOL_ADD && changes[i].content->body == from) {
            *out_body = body_ref(moved->contents[i].body);
            return OK;
        }
    }
    return copy_to_file(spool, from, out_body, err);
}

static void free_moved(struct moved *moved)
{
    for (size_t i = 0; i < moved->count; i++)
        body_unref(moved->contents[i].body);
    free(moved->changes);
    free(moved->contents);
}

/*
 * Whatever is large has a file of its own, wherever it comes from (a flow that changed it, mostly):
 * a record of the log is never larger than what recovery looks beyond, and no small message waits
 * for it. `out` is empty if there is nothing to do; it is to be freed in any case.
 */
static enum result move_large(struct spool *spool, const struct spool_change *changes, size_t count,
                              struct moved *out, struct error *err) MAY_YIELD
{
    size_t large = 0;
    *out = (struct moved){0};
    for (size_t i = 0; i < count; i++)
        large += is_large_elsewhere(&changes[i]);
    if (!large)
        return OK;
    out->changes = memory_alloc_array(count, sizeof *out->changes);
    out->contents = memory_alloc_array(count, sizeof *out->contents);
    memcpy(out->changes, changes, count * sizeof *changes);
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        if (!is_large_elsewhere(&changes[i]))
            continue;
        struct body *file;
        if (file_of(spool, changes, out, i, &file, err) != OK)
            return FAILED;
        out->contents[i] = *changes[i].content;
        out->contents[i].body = file;
        out->changes[i].content = &out->contents[i];
    }
    return OK;
}

/* Large bodies first: their bytes are on stable storage before the record that speaks of them is
 * even written. */
static enum result sync_bodies(const struct spool_change *changes, size_t count,
                               struct error *err) MAY_YIELD
{
    for (size_t i = 0; i < count; i++) {
        if (changes[i].kind != SPOOL_ADD || !changes[i].content->body)
            continue;
        if (spool_body_sync(changes[i].content->body, err) != OK)
            return FAILED;
    }
    return OK;
}

static bool has_small_mail(const struct spool_change *changes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct body *body = changes[i].kind == SPOOL_ADD ? changes[i].content->body : NULL;
        if (body && !spool_body_bulk(body))
            return true;
    }
    return false;
}

/* One more that waits, or one less. */
static void note_small(struct spool *spool, int change)
{
    if (!change)
        return;
    atomic_store_explicit(&spool->small_ns, spool_real_ns(), memory_order_relaxed);
    atomic_fetch_add(&spool->small_commits, (unsigned)change);
}

static enum result commit_moved(struct spool *spool, const struct spool_change *changes,
                                size_t count, struct error *err) MAY_YIELD
{
    struct spool_unit *unit;
    if (sync_bodies(changes, count, err) != OK ||
        spool_unit_new(changes, count, spool_body_bulk, &unit, err) != OK)
        return FAILED;
    bool is_small = has_small_mail(changes, count);
    note_small(spool, is_small ? 1 : 0);
    unit->loop = loop_current();
    unit->fiber = fiber_current();
    spool_submit(spool, unit);
    while (!unit->done)
        (void)fiber_suspend(NULL);
    note_small(spool, is_small ? -1 : 0);
    enum result result = unit->result;
    if (result != OK)
        result = fail(err, unit->error.kind, "%s", unit->error.text);
    spool_unit_free(unit);
    return result;
}

static enum result commit_shielded(struct spool *spool, const struct spool_change *changes,
                                   size_t count, struct error *err) MAY_YIELD
{
    struct moved moved;
    enum result result = move_large(spool, changes, count, &moved, err);
    if (result == OK)
        result = commit_moved(spool, moved.changes ? moved.changes : changes, count, err);
    free_moved(&moved);
    return result;
}

enum result spool_commit(struct spool *spool, const struct spool_change *changes, size_t count,
                         struct error *err)
{
    check(count > 0);
    if (check_room(spool, changes, count, err) != OK)
        return FAILED;
    struct scope scope;
    scope_open_shielded(&scope, TIME_NEVER - 1);
    enum result result = commit_shielded(spool, changes, count, err);
    scope_close(&scope);
    return result;
}

void spool_write(struct spool *spool, const struct spool_change *changes, size_t count)
{
    if (count)
        spool_submit(spool, spool_unit_lazy(changes, count));
}
