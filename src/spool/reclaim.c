/* SPDX-License-Identifier: Apache-2.0 */
/* Reclaim removes segments in which nothing is needed. */
#include "spool/internal.h"

static struct spool_segment *find_dead(struct spool *spool)
{
    LIST_EACH (&spool->index.segments, link) {
        struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
        if (spool_segment_is_dead(&spool->index, segment))
            return segment;
    }
    return NULL;
}

/* unlink → folder sync → only then may the tombstones that its records needed die. */
static bool remove_one_dead(struct spool *spool)
{
    pthread_mutex_lock(&spool->index_lock);
    struct spool_segment *dead = find_dead(spool);
    pthread_mutex_unlock(&spool->index_lock);
    if (!dead)
        return false;
    spool_files_unlink(spool, dead->id, dead->kind);
    struct error err;
    if (spool_files_sync_folder(spool, spool->log_fd, &err) != OK)
        return false;
    pthread_mutex_lock(&spool->index_lock);
    spool_index_drop_segment(&spool->index, dead);
    pthread_mutex_unlock(&spool->index_lock);
    return true;
}

bool spool_reclaim_step(struct spool *spool)
{
    return remove_one_dead(spool);
}
