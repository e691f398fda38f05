/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#include "base/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { FAULTS_MAX = 8 };

struct fault {
    const char *point;
    unsigned first;
    unsigned count;
    int number;
    unsigned seen;
};

/* of the process, as the calls that fail are */
static struct fault faults[FAULTS_MAX];
static atomic_uint armed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void fault_arm(const char *point, unsigned first, unsigned count, int number)
{
    pthread_mutex_lock(&lock);
    unsigned used = atomic_load(&armed);
    check(used < FAULTS_MAX);
    faults[used] = (struct fault){point, first, count, number, 0};
    atomic_store(&armed, used + 1);
    pthread_mutex_unlock(&lock);
}

void fault_disarm_all(void)
{
    pthread_mutex_lock(&lock);
    atomic_store(&armed, 0);
    pthread_mutex_unlock(&lock);
}

int fault_hit(const char *point)
{
    if (atomic_load_explicit(&armed, memory_order_relaxed) == 0)
        return 0;
    int number = 0;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < atomic_load(&armed); i++) {
        struct fault *fault = &faults[i];
        if (strcmp(fault->point, point) != 0)
            continue;
        fault->seen++;
        if (fault->seen >= fault->first && fault->seen - fault->first < fault->count)
            number = fault->number;
    }
    pthread_mutex_unlock(&lock);
    return number;
}
