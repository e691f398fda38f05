/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/domain_watch.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/memory.h"
#include "base/random.h"
#include "event/event.h"
#include "fiber/loop.h"
#include "gateway/operations.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_NS (60 * NS_PER_S) /* after the start, at least */
#define PAUSE_NS (2 * NS_PER_S)  /* between two domains, at most */
#define IDLE_NS  (60 * NS_PER_S) /* to see a changed configuration */
enum { TEXT_MAX = 2000 };

struct state { /* of a domain */
    int64_t due_ns;
    int64_t looked_wall_ns;
    uint64_t seen; /* the round in which the configuration had it last */
    struct {
        enum domain_health health;
        char *text, *record;
    } parts[DOMAIN_WATCHED];
};

struct domain_watch {
    struct gateway *gateway;
    pthread_t thread;
    struct loop *loop;
    struct scope scope; /* of the one fiber */
    struct post stop;
    pthread_barrier_t ready;
    struct error start_error;
    bool failed;
    int64_t first_ns; /* nothing is looked at before */
    uint64_t round;
    pthread_mutex_t mutex; /* the thread's changes of states, and whoever reads them */
    struct map states;
};

const char *const domain_health_names[] = {
    [DOMAIN_UNKNOWN] = "unknown", [DOMAIN_HEALTHY] = "healthy", [DOMAIN_UNHEALTHY] = "unhealthy"};

/* ---- states ---- */

static void state_free(struct state *state)
{
    for (size_t i = 0; i < DOMAIN_WATCHED; i++) {
        free(state->parts[i].text);
        free(state->parts[i].record);
    }
    free(state);
}

static char *keep(struct str text)
{
    char *kept = memory_alloc(TEXT_MAX + 1);
    str_to_c(str_slice(text, 0, TEXT_MAX), kept, TEXT_MAX + 1);
    return kept;
}

static int64_t jittered(int64_t ns)
{
    return ns - ns / 10 + (int64_t)random_below(1000) * (ns / 5000);
}

static void forget_gone(struct domain_watch *watch)
{
    size_t cursor = 0;
    struct str name;
    void *value;
    while (map_next(&watch->states, &cursor, &name, &value)) {
        struct state *state = value;
        if (state->seen == watch->round)
            continue;
        map_remove(&watch->states, name);
        state_free(state);
    }
}

/* The domain that is due, or the time until one is. */
static const struct settings_domain *choose(struct domain_watch *watch,
                                            const struct settings *settings, int64_t *out_wait_ns)
{
    const struct settings_domain *chosen = NULL;
    int64_t now_ns = clock_monotonic_ns(), first_ns = now_ns + IDLE_NS;
    pthread_mutex_lock(&watch->mutex);
    watch->round++;
    for (size_t i = 0; settings->domain_checks.every_ns && i < settings->domain_count; i++) {
        const struct settings_domain *domain = &settings->domains[i];
        if (domain->is_any)
            continue;
        struct state *state = map_get(&watch->states, domain->name);
        if (!state) {
            state = NEW(struct state);
            state->due_ns = watch->first_ns;
            map_put(&watch->states, domain->name, state);
        }
        state->seen = watch->round;
        if (state->due_ns < first_ns) {
            first_ns = state->due_ns;
            chosen = domain;
        }
    }
    forget_gone(watch);
    pthread_mutex_unlock(&watch->mutex);
    *out_wait_ns = first_ns - now_ns;
    return first_ns <= now_ns ? chosen : NULL;
}

/* ---- a look ---- */

/* The first that is wrong; else the first, NULL without any. *out_answered: nothing is open. */
static const struct finding *worst_of(const struct domain_check *check, enum domain_part part,
                                      bool *out_answered)
{
    const struct finding *found = NULL;
    *out_answered = true;
    for (size_t i = 0; i < check->count; i++) {
        const struct finding *finding = &check->findings[i];
        if (finding->part != part)
            continue;
        *out_answered = *out_answered && finding->state != FINDING_NO_ANSWER;
        if (!found || (found->state != FINDING_FAIL && finding->state == FINDING_FAIL))
            found = finding;
    }
    return found;
}

static void tell(const struct domain_check *check, enum domain_part part, enum domain_health health,
                 const struct finding *finding)
{
    struct str name = arena_lower(check->arena, str_c(domain_part_names[part]));
    if (health == DOMAIN_UNHEALTHY)
        event_emit(EVENT_DOMAIN_UNHEALTHY, F_STR(DOMAIN, check->domain), F_STR(CHECK, name),
                   F_STR(DETAIL, finding->text), F_STR(EXPECTED, finding->record));
    else
        event_emit(EVENT_DOMAIN_HEALTHY, F_STR(DOMAIN, check->domain), F_STR(CHECK, name));
}

static void judge(struct state *state, const struct domain_check *check, enum domain_part part)
{
    bool answered;
    const struct finding *finding = worst_of(check, part, &answered);
    enum domain_health before = state->parts[part].health, now = before;
    if (!finding)
        now = DOMAIN_UNKNOWN; /* nobody wants to know any more */
    else if (finding->state == FINDING_FAIL)
        now = DOMAIN_UNHEALTHY;
    else if (answered)
        now = DOMAIN_HEALTHY;
    else
        return;
    free(state->parts[part].text);
    free(state->parts[part].record);
    state->parts[part].text = now == DOMAIN_UNHEALTHY ? keep(finding->text) : NULL;
    state->parts[part].record = now == DOMAIN_UNHEALTHY ? keep(finding->record) : NULL;
    state->parts[part].health = now;
    if (now != before &&
        (now == DOMAIN_UNHEALTHY || (now == DOMAIN_HEALTHY && before == DOMAIN_UNHEALTHY)))
        tell(check, part, now, finding);
}

/* What is not to be looked at (any more) is not known, and not wrong. */
static void note(struct domain_watch *watch, const struct domain_check *check, int64_t every_ns)
{
    pthread_mutex_lock(&watch->mutex);
    struct state *state = map_get(&watch->states, check->domain);
    for (unsigned part = 0; state && part < DOMAIN_WATCHED; part++)
        judge(state, check, (enum domain_part)part);
    if (state) {
        state->looked_wall_ns = clock_wall_ns();
        state->due_ns = clock_monotonic_ns() + jittered(every_ns);
    }
    pthread_mutex_unlock(&watch->mutex);
}

static MAY_YIELD void look(struct domain_watch *watch, const struct settings *settings,
                           const struct settings_domain *domain)
{
    struct error err;
    struct arena *arena = arena_new(0);
    struct domain_check *check = ARENA_NEW(arena, struct domain_check);
    check->arena = arena;
    check->settings = settings;
    check->domain = domain->name;
    /* without a resolver all stays as it was, until the next time */
    if (dns_new(watch->loop, &settings->dns, &check->dns, &err) == OK) {
        domain_check_addresses(check, STR_EMPTY);
        domain_check_run(check, settings->domain_checks.parts);
        dns_free(check->dns);
        if (fiber_check(&err) == OK)
            note(watch, check, settings->domain_checks.every_ns);
    } else {
        for (unsigned part = 0; part < DOMAIN_WATCHED; part++)
            domain_found(check, FINDING_NO_ANSWER, (enum domain_part)part, STR_EMPTY, "%s",
                         err.text);
        note(watch, check, settings->domain_checks.every_ns);
    }
    arena_free(arena);
}

/* ---- the thread ---- */

static MAY_YIELD void run(void *arg)
{
    struct domain_watch *watch = arg;
    struct error err;
    int64_t wait_ns;
    do {
        struct settings *settings = gateway_settings_ref(watch->gateway);
        int64_t every_ns = settings->domain_checks.every_ns;
        const struct settings_domain *domain = choose(watch, settings, &wait_ns);
        if (domain) {
            look(watch, settings, domain);
            wait_ns = PAUSE_NS < every_ns / 2 ? PAUSE_NS : every_ns / 2;
        }
        settings_unref(settings);
    } while (fiber_sleep(wait_ns < NS_PER_MS ? NS_PER_MS : wait_ns, &err) == OK);
    loop_stop(watch->loop);
}

static void take_stop(struct post *post)
{
    struct domain_watch *watch = CONTAINER(post, struct domain_watch, stop);
    scope_cancel(&watch->scope);
}

static void *thread_main(void *arg)
{
    struct domain_watch *watch = arg;
    pthread_setname_np(pthread_self(), "domains");
    watch->failed = loop_new(NULL, &watch->loop, &watch->start_error) != OK;
    if (!watch->failed) {
        scope_init_root(&watch->scope, watch->loop);
        watch->failed =
            fiber_spawn(&watch->scope, "domains", run, watch, &watch->start_error) != OK;
    }
    bool failed = watch->failed;
    pthread_barrier_wait(&watch->ready);
    if (!failed)
        loop_run(watch->loop);
    loop_free(watch->loop);
    return NULL;
}

static void destroy(struct domain_watch *watch)
{
    watch->round++;
    forget_gone(watch);
    map_done(&watch->states);
    pthread_barrier_destroy(&watch->ready);
    pthread_mutex_destroy(&watch->mutex);
    free(watch);
}

enum result domain_watch_start(struct gateway *gateway, struct domain_watch **out_watch,
                               struct error *err)
{
    struct domain_watch *watch = NEW(struct domain_watch);
    struct settings *settings = gateway_settings_ref(gateway);
    int64_t every_ns = settings->domain_checks.every_ns;
    settings_unref(settings);
    watch->gateway = gateway;
    watch->stop.run = take_stop;
    watch->first_ns =
        clock_monotonic_ns() +
        (every_ns && every_ns < FIRST_NS ? every_ns / 2 : FIRST_NS + random_below(60) * NS_PER_S);
    map_init(&watch->states);
    pthread_mutex_init(&watch->mutex, NULL);
    pthread_barrier_init(&watch->ready, NULL, 2);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&watch->thread, NULL, thread_main, watch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code == 0)
        pthread_barrier_wait(&watch->ready);
    if (code == 0 && !watch->failed) {
        *out_watch = watch;
        return OK;
    }
    enum result result = code ? fail_errno(err, code, "cannot start the thread of the domains")
                              : fail(err, watch->start_error.kind, "%s", watch->start_error.text);
    if (code == 0)
        pthread_join(watch->thread, NULL);
    destroy(watch);
    return result;
}

void domain_watch_stop(struct domain_watch *watch)
{
    if (!watch)
        return;
    loop_post(watch->loop, &watch->stop);
    pthread_join(watch->thread, NULL);
    destroy(watch);
}

/* ---- for others ---- */

static int by_name(const void *a, const void *b)
{
    const struct domain_watched *one = a, *other = b;
    return str_compare(one->domain, other->domain);
}

static struct str copy(struct arena *arena, const char *text)
{
    return text ? arena_str(arena, str_c(text)) : STR_EMPTY;
}

void domain_watch_list(struct domain_watch *watch, struct arena *arena, struct domain_watched **out,
                       size_t *out_count)
{
    size_t cursor = 0;
    struct str name;
    void *value;
    pthread_mutex_lock(&watch->mutex);
    *out = arena_alloc_array(arena, watch->states.count + 1, sizeof **out);
    for (*out_count = 0; map_next(&watch->states, &cursor, &name, &value); ++*out_count) {
        const struct state *state = value;
        struct domain_watched *item = &(*out)[*out_count];
        item->domain = arena_str(arena, name);
        item->looked_wall_ns = state->looked_wall_ns;
        for (size_t i = 0; i < DOMAIN_WATCHED; i++) {
            item->parts[i].health = state->parts[i].health;
            item->parts[i].text = copy(arena, state->parts[i].text);
            item->parts[i].record = copy(arena, state->parts[i].record);
        }
    }
    pthread_mutex_unlock(&watch->mutex);
    qsort(*out, *out_count, sizeof **out, by_name);
}

void domain_watch_numbers(struct domain_watch *watch, struct domain_watch_numbers *out)
{
    size_t cursor = 0;
    struct str name;
    void *value;
    *out = (struct domain_watch_numbers){0};
    pthread_mutex_lock(&watch->mutex);
    while (map_next(&watch->states, &cursor, &name, &value)) {
        const struct state *state = value;
        bool any = false;
        for (size_t i = 0; i < DOMAIN_WATCHED; i++) {
            bool wrong = state->parts[i].health == DOMAIN_UNHEALTHY;
            out->unhealthy[i] += wrong;
            any = any || wrong;
        }
        out->any += any;
    }
    pthread_mutex_unlock(&watch->mutex);
}
