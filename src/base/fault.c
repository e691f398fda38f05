/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#include "base/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

enum { FAULTS_MAX = 8 };

struct fault {
    const char *point;
    unsigned first;
    unsigned count;
    int number;
    unsigned seen;
    bool has_place;
    uint64_t place;
};

/* of the process, as the calls that fail are */
static struct fault faults[FAULTS_MAX];
static atomic_uint armed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void arm(struct fault fault)
{
    pthread_mutex_lock(&lock);
    unsigned used = atomic_load(&armed);
    check(used < FAULTS_MAX);
    faults[used] = fault;
    atomic_store(&armed, used + 1);
    pthread_mutex_unlock(&lock);
}

void fault_arm(const char *point, unsigned first, unsigned count, int number)
{
    arm((struct fault){.point = point, .first = first, .count = count, .number = number});
}

void fault_arm_place(const char *point, uint64_t place, int number)
{
    arm((struct fault){.point = point, .number = number, .has_place = true, .place = place});
}

void fault_disarm_all(void)
{
    pthread_mutex_lock(&lock);
    atomic_store(&armed, 0);
    pthread_mutex_unlock(&lock);
}

/* Does this call of the point fail? */
static bool is_hit(struct fault *fault, uint64_t begin, uint64_t end)
{
    if (fault->has_place)
        return begin <= fault->place && fault->place < end;
    fault->seen++;
    return fault->seen >= fault->first && fault->seen - fault->first < fault->count;
}

int fault_hit(const char *point)
{
    return fault_hit_place(point, 0, 0);
}

int fault_hit_place(const char *point, uint64_t begin, uint64_t end)
{
    if (atomic_load_explicit(&armed, memory_order_relaxed) == 0)
        return 0;
    int number = 0;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < atomic_load(&armed); i++) {
        struct fault *fault = &faults[i];
        if (strcmp(fault->point, point) == 0 && is_hit(fault, begin, end))
            number = fault->number;
    }
    pthread_mutex_unlock(&lock);
    return number;
}
