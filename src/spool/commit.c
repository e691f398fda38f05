/* SPDX-License-Identifier: Apache-2.0 */
/* Commit units from the callers' side. */
#include "base/check.h"
#include "spool/internal.h"

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

static enum result commit_shielded(struct spool *spool, const struct spool_change *changes,
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
