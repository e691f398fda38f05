/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/poison.h"

#include "base/check.h"
#include "base/memory.h"
#include "queue/queue.h"

#include <stdlib.h>
#include <sys/mman.h>

struct poison *poison_new(void)
{
    struct poison *poison = NEW(struct poison);
    void *page = mmap(NULL, sizeof(struct queue_poison_page), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(page != MAP_FAILED);
    poison->page = page;
    return poison;
}

void poison_free(struct poison *poison)
{
    (void)munmap(poison->page, sizeof *poison->page);
    free(poison);
}

static bool contains(const struct mail_id *list, size_t count, struct mail_id id)
{
    for (size_t i = 0; i < count; i++) {
        if (mail_id_equal(list[i], id))
            return true;
    }
    return false;
}

static void suspect(struct poison *poison, struct mail_id id)
{
    if (!contains(poison->once, poison->once_count, id)) {
        if (poison->once_count < POISON_MAX)
            poison->once[poison->once_count++] = id;
    } else if (!contains(poison->twice, poison->twice_count, id) &&
               poison->twice_count < POISON_MAX) {
        poison->twice[poison->twice_count++] = id;
    }
}

void poison_collect(struct poison *poison)
{
    for (size_t i = 0; i < QUEUE_POISON_SLOTS; i++) {
        struct mail_id id = {.high = atomic_load(&poison->page->ids[i][0]),
                             .low = atomic_load(&poison->page->ids[i][1])};
        if (id.high == 0)
            continue;
        suspect(poison, id);
        atomic_store(&poison->page->ids[i][0], 0);
        atomic_store(&poison->page->ids[i][1], 0);
    }
}
