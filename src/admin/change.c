/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/change.h"

#include "base/memory.h"

#include <pthread.h>
#include <stdlib.h>

struct change_desk {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    void (*wake)(void);
    struct change *at_desk; /* one at a time; the others wait for their turn */
    bool done;
    bool closed;
};

struct change_desk *change_desk_new(void (*wake)(void))
{
    struct change_desk *desk = NEW(struct change_desk);
    desk->wake = wake;
    pthread_mutex_init(&desk->mutex, NULL);
    pthread_cond_init(&desk->changed, NULL);
    return desk;
}

void change_desk_free(struct change_desk *desk)
{
    if (!desk)
        return;
    pthread_mutex_destroy(&desk->mutex);
    pthread_cond_destroy(&desk->changed);
    free(desk);
}

void change_desk_close(struct change_desk *desk)
{
    if (!desk)
        return;
    pthread_mutex_lock(&desk->mutex);
    desk->closed = true;
    pthread_cond_broadcast(&desk->changed);
    pthread_mutex_unlock(&desk->mutex);
}

void change_ask(struct change_desk *desk, struct change *change)
{
    pthread_mutex_lock(&desk->mutex);
    while (desk->at_desk && !desk->closed)
        pthread_cond_wait(&desk->changed, &desk->mutex);
    if (!desk->closed) {
        desk->at_desk = change;
        desk->done = false;
        desk->wake();
        while (!desk->done && !desk->closed)
            pthread_cond_wait(&desk->changed, &desk->mutex);
        if (!desk->done)
            change->status = 0;
        desk->at_desk = NULL;
        pthread_cond_broadcast(&desk->changed);
    }
    if (change->status == 0) {
        change->status = 503;
        change->detail = STR("the gateway is being stopped");
    }
    pthread_mutex_unlock(&desk->mutex);
}

struct change *change_take(struct change_desk *desk)
{
    pthread_mutex_lock(&desk->mutex);
    struct change *change = desk->done || desk->closed ? NULL : desk->at_desk;
    pthread_mutex_unlock(&desk->mutex);
    return change;
}

void change_done(struct change_desk *desk)
{
    pthread_mutex_lock(&desk->mutex);
    desk->done = true;
    pthread_cond_broadcast(&desk->changed);
    pthread_mutex_unlock(&desk->mutex);
}
