/* SPDX-License-Identifier: Apache-2.0 */
#include "state/breaker.h"

#include "base/clock.h"
#include "base/memory.h"
#include "event/event.h"
#include "state/state_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FEW = 200 };
static const int64_t CLOSED_NS = 5 * NS_PER_S;

void breaker_init(struct breaker *breaker, struct str name)
{
    breaker->name = memory_alloc(name.len + 1);
    (void)str_to_c(name, breaker->name, name.len + 1);
}

void breaker_done(struct breaker *breaker)
{
    free(breaker->name);
}

enum result breaker_admit(struct breaker *breaker, struct error *err)
{
    int faults = atomic_load(&breaker->faults);
    if (faults < BREAKER_FAULTS)
        return OK;
    if (clock_monotonic_ns() < atomic_load(&breaker->closed_until) ||
        atomic_exchange(&breaker->probing, true))
        return fail(err, ERROR_TEMPORARY, "%s failed %d times in a row and is not asked for now",
                    breaker->name, faults);
    return OK;
}

static void answered(struct breaker *breaker)
{
    atomic_store(&breaker->faults, 0);
    for (int i = 0; i < BREAKER_FAULTS - 1; i++)
        atomic_store(&breaker->abouts[i], 0);
    atomic_store(&breaker->probing, false);
    if (!atomic_load(&breaker->down) || !atomic_exchange(&breaker->down, false))
        return;
    char since[TIME_RFC3339_SIZE];
    int64_t since_ns = atomic_load(&breaker->down_wall_ns);
    int64_t now_ns = clock_wall_ns();
    event_emit(EVENT_BACKEND_UP, F_C(BACKEND, breaker->name),
               F_STR(SINCE, clock_format_rfc3339(since_ns, since)),
               F_INT(DURATION_US, now_ns > since_ns ? (now_ns - since_ns) / NS_PER_US : 0));
}

/* Not about the backend, as far as we know: the same question failed before. */
static bool is_known(struct breaker *breaker, uint64_t about)
{
    if (!about)
        return false;
    for (int i = 0; i < BREAKER_FAULTS - 1; i++)
        if (atomic_load(&breaker->abouts[i]) == about)
            return true;
    unsigned place = atomic_fetch_add(&breaker->next_about, 1) % (BREAKER_FAULTS - 1);
    atomic_store(&breaker->abouts[place], about);
    return false;
}

static void failed_at(struct breaker *breaker, uint64_t about, struct str why)
{
    if (!is_known(breaker, about)) {
        if (atomic_load(&breaker->faults) < 1000)
            atomic_fetch_add(&breaker->faults, 1);
        atomic_store(&breaker->closed_until, clock_deadline(CLOSED_NS));
    }
    atomic_store(&breaker->probing, false);
    /* one that hung up on one question may well answer the others */
    bool is_down = !about || atomic_load(&breaker->faults) >= BREAKER_FAULTS;
    if (!is_down || atomic_load(&breaker->down))
        return;
    atomic_store(&breaker->down_wall_ns, clock_wall_ns());
    if (!atomic_exchange(&breaker->down, true))
        event_emit(EVENT_BACKEND_DOWN, F_C(BACKEND, breaker->name), F_STR(ERROR, why));
}

void breaker_abandoned(struct breaker *breaker)
{
    atomic_store(&breaker->probing, false);
}

void breaker_settle(struct breaker *breaker, int64_t begun_ns, uint64_t about,
                    const struct error *failed)
{
    if (failed && failed->kind == ERROR_CANCELLED) {
        breaker_abandoned(breaker);
        return;
    }
    if (failed)
        failed_at(breaker, about, str_c(failed->text));
    else
        answered(breaker);
    event_emit(EVENT_BACKEND_ANSWER, F_C(BACKEND, breaker->name),
               F_C(OUTCOME, failed ? "failed" : "answered"),
               F_INT(DURATION_US, (clock_monotonic_ns() - begun_ns) / NS_PER_US),
               F_C(ERROR, failed ? failed->text : ""));
}

/* ---- by name: a list that only grows, so that it needs no lock ---- */

static struct named_breaker *find(struct state *state, struct str name)
{
    struct named_breaker *item = atomic_load(&state->breakers);
    while (item && !str_equal(str_c(item->breaker.name), name))
        item = item->next;
    return item;
}

struct breaker *state_breaker(struct state *state, struct str name)
{
    struct named_breaker *item = find(state, name);
    if (item)
        return &item->breaker;
    atomic_fetch_add(&state->breaker_count, 1);
    item = NEW(struct named_breaker);
    breaker_init(&item->breaker, name);
    item->next = atomic_load(&state->breakers);
    while (!atomic_compare_exchange_weak(&state->breakers, &item->next, item)) {
        struct named_breaker *other = find(state, name);
        if (other) { /* another worker was first */
            atomic_fetch_sub(&state->breaker_count, 1);
            breaker_done(&item->breaker);
            free(item);
            return &other->breaker;
        }
    }
    return &item->breaker;
}

struct breaker *state_breaker_if_few(struct state *state, struct str name)
{
    struct named_breaker *item = find(state, name);
    if (item || atomic_load(&state->breaker_count) >= FEW)
        return item ? &item->breaker : NULL;
    return state_breaker(state, name);
}

void state_breakers_free(struct state *state)
{
    struct named_breaker *item = atomic_load(&state->breakers);
    while (item) {
        struct named_breaker *next = item->next;
        breaker_done(&item->breaker);
        free(item);
        item = next;
    }
}
