/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/selections.h"

#include "base/clock.h"
#include "base/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct kept {
    struct mail_id name;
    int64_t expires_ns;
    struct mail_id *ids;
    size_t count;
};

struct selections {
    pthread_mutex_t mutex;            /* for all that follows */
    struct kept kept[SELECTIONS_MAX]; /* the oldest first */
    size_t count;
    size_t ids; /* of all */
};

struct selections *selections_new(void)
{
    struct selections *selections = NEW(struct selections);
    pthread_mutex_init(&selections->mutex, NULL);
    return selections;
}

static void drop_oldest(struct selections *selections)
{
    selections->ids -= selections->kept[0].count;
    free(selections->kept[0].ids);
    selections->count--;
    memmove(&selections->kept[0], &selections->kept[1],
            selections->count * sizeof selections->kept[0]);
}

void selections_free(struct selections *selections)
{
    if (!selections)
        return;
    while (selections->count)
        drop_oldest(selections);
    pthread_mutex_destroy(&selections->mutex);
    free(selections);
}

bool selections_keep(struct selections *selections, const struct mail_id *ids, size_t count,
                     struct mail_id *out_name, int64_t *out_expires_ns)
{
    int64_t now_ns = clock_wall_ns();
    if (count > SELECTION_IDS_MAX)
        return false;
    struct kept one = {.name = mail_id_new(),
                       .expires_ns = now_ns + SELECTION_MINUTES * 60 * NS_PER_S,
                       .ids = memory_alloc_array(count, sizeof *ids),
                       .count = count};
    if (count)
        memcpy(one.ids, ids, count * sizeof *ids);
    pthread_mutex_lock(&selections->mutex);
    while (selections->count &&
           (selections->count == SELECTIONS_MAX || selections->kept[0].expires_ns <= now_ns ||
            selections->ids + count > SELECTION_IDS_MAX))
        drop_oldest(selections);
    selections->kept[selections->count++] = one;
    selections->ids += count;
    pthread_mutex_unlock(&selections->mutex);
    *out_name = one.name;
    *out_expires_ns = one.expires_ns;
    return true;
}

bool selections_find(struct selections *selections, struct mail_id name, struct arena *arena,
                     struct mail_id **out_ids, size_t *out_count, int64_t *out_expires_ns)
{
    const struct kept *found = NULL;
    pthread_mutex_lock(&selections->mutex);
    for (size_t i = 0; i < selections->count; i++)
        if (mail_id_equal(selections->kept[i].name, name) &&
            selections->kept[i].expires_ns > clock_wall_ns())
            found = &selections->kept[i];
    if (found) {
        *out_ids = arena_alloc_array(arena, found->count + 1, sizeof **out_ids);
        if (found->count)
            memcpy(*out_ids, found->ids, found->count * sizeof **out_ids);
        *out_count = found->count;
        *out_expires_ns = found->expires_ns;
    }
    pthread_mutex_unlock(&selections->mutex);
    return found != NULL;
}
