/* SPDX-License-Identifier: Apache-2.0 */
/* Upkeep makes segments ahead of need, watches the space, removes what is dead. */
#include "base/clock.h"
#include "event/event.h"
#include "spool/internal.h"

#include <stdlib.h>
#include <time.h>

enum { READY_WANTED = SPOOL_RESERVE + 1 };

void spool_wake_upkeep(struct spool *spool)
{
    pthread_mutex_lock(&spool->lock);
    spool->upkeep_asked = true;
    pthread_cond_signal(&spool->upkeep_wake);
    pthread_mutex_unlock(&spool->lock);
}

/* Under the floor only the reserve is kept up. */
static void make_ready(struct spool *spool)
{
    for (;;) {
        spool_files_look_at_space(spool); /* each one takes some */
        unsigned wanted = atomic_load(&spool->has_space) ? READY_WANTED : SPOOL_RESERVE;
        pthread_mutex_lock(&spool->lock);
        bool enough = spool->ready_count >= wanted;
        bool ending = spool->phase == SPOOL_WRITER_ENDED;
        if (enough || ending) {
            spool->making_failed = spool->ready_count < READY_WANTED;
            pthread_cond_broadcast(&spool->changed);
        }
        pthread_mutex_unlock(&spool->lock);
        if (enough || ending)
            return;
        struct spool_segment *segment;
        struct error err;
        enum result result = OK;
        if (!spool_pool_make_segment(spool, &segment))
            result = spool_files_new_segment(spool, SPOOL_SEGMENT_MAIN, spool->segment_size,
                                             &segment, &err);
        pthread_mutex_lock(&spool->lock);
        if (result == OK) {
            list_append(&spool->ready, &segment->link);
            spool->ready_count++;
        } else {
            spool->making_failed = true;
        }
        pthread_cond_broadcast(&spool->changed);
        pthread_mutex_unlock(&spool->lock);
        if (result != OK)
            return;
    }
}

/* Returns false when it is time to end. */
static bool wait_for_work(struct spool *spool, bool at_once)
{
    int64_t now_ns = spool_real_ns();
    int64_t until_ns = now_ns + NS_PER_S;
    if (spool->reclaim_after_ns > now_ns && spool->reclaim_after_ns < until_ns)
        until_ns = spool->reclaim_after_ns;
    struct timespec until = {until_ns / NS_PER_S, until_ns % NS_PER_S};
    pthread_mutex_lock(&spool->lock);
    int timed_out = at_once;
    while (!spool->upkeep_asked && spool->phase != SPOOL_WRITER_ENDED && !timed_out)
        timed_out = pthread_cond_timedwait(&spool->upkeep_wake, &spool->lock, &until);
    spool->upkeep_asked = false;
    bool goes_on = spool->phase != SPOOL_WRITER_ENDED;
    pthread_mutex_unlock(&spool->lock);
    return goes_on;
}

void *spool_upkeep_main(void *arg)
{
    struct spool *spool = arg;
    int64_t looked_ns = 0;
    bool more = false;
    pthread_setname_np(pthread_self(), "spool-upkeep");
    while (wait_for_work(spool, more)) {
        int64_t now_ns = spool_real_ns();
        if (now_ns - looked_ns >= NS_PER_S * 9 / 10) {
            spool_files_look_at_space(spool);
            spool_bodies_give_back(spool, /* all= */ false);
            looked_ns = now_ns;
        }
        make_ready(spool);
        spool_bodies_remove_dead(spool, /* keeps= */ true);
        more = spool_let_go_piece(spool);
        more |= spool_reclaim_step(spool);
    }
    spool_bodies_remove_dead(spool, /* keeps= */ false);
    spool_bodies_give_back(spool, /* all= */ true);
    spool_let_go(spool);
    spool_reclaim_seal(spool);
    return NULL;
}
