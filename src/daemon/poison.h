/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/poison.h - which queue entries were being worked on when a child died.
 *
 * The child notes ids in shared memory (queue/queue.h); an id found there after a crash is a
 * suspect, and one that was suspect twice is held by the next child instead of tried.
 */
#pragma once

#include "mail/id.h"

struct queue_poison_page;

enum { POISON_MAX = 4096 };

struct poison {
    struct queue_poison_page *page; /* shared with the child */
    struct mail_id once[POISON_MAX];
    size_t once_count;
    struct mail_id twice[POISON_MAX];
    size_t twice_count;
};

/* Map the page; aborts without memory. */
struct poison *poison_new(void);
void poison_free(struct poison *poison); /* unmaps the page too */
/* After a crash: move what stands in the page to the lists, and clear it. */
void poison_collect(struct poison *poison);
