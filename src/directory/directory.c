/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/directory.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/memory.h"
#include "directory/directory_internal.h"
#include "event/event.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FILE_JOBS_MAX = 1024,
    CRYPT_THREADS_MAX = 16,
    CRYPT_JOBS_MAX = 256, /* at 50 ms each these wait longer than any client does */
    LDAP_JOBS_MAX = 256,
    DETAIL_MAX = 1000,
};

static const int64_t DENIED_EVERY_NS = 60 * NS_PER_S;
static const int64_t REAP_EVERY_NS = 15 * NS_PER_S;

/* ---- life cycle ---- */

struct directory_shared *directory_shared_new(void)
{
    struct directory_shared *shared = NEW(struct directory_shared);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    shared->files = lane_new("file", 1, FILE_JOBS_MAX);
    /* one a core: hashes may have all that the workers leave, and no more; each takes 16M */
    unsigned threads = cores < 1                   ? 1
                       : cores > CRYPT_THREADS_MAX ? CRYPT_THREADS_MAX
                                                   : (unsigned)cores;
    shared->crypts = lane_new_background("crypt", threads, CRYPT_JOBS_MAX);
    map_init(&shared->sources);
    return shared;
}

static void backend_free(struct directory_backend *backend)
{
    lane_free(backend->lane);
    for (size_t i = 0; i < BACKEND_LDAP_CONNECTIONS; i++)
        ldap_connection_free(atomic_load(&backend->kept[i]));
    breaker_done(&backend->lookups);
    breaker_done(&backend->logins);
    free(backend);
}

void directory_shared_free(struct directory_shared *shared)
{
    if (!shared)
        return;
    lane_free(shared->files);
    lane_free(shared->crypts);
    struct directory_backend *backend = atomic_load(&shared->backends);
    while (backend) {
        struct directory_backend *next = backend->next;
        backend_free(backend);
        backend = next;
    }
    watched_sources_free(shared);
    free(shared);
}

static void reap(void *arg) MAY_YIELD
{
    callout_pools_reap(arg);
}

static void start_reaper(struct loop_timer *timer)
{
    struct directory *directory = CONTAINER(timer, struct directory, reaper);
    (void)!fiber_spawn(&directory->scope, "directory-reaper", reap, directory, NULL);
    loop_timer_set(timer, clock_deadline(REAP_EVERY_NS));
}

struct directory *directory_new(struct directory_shared *shared, struct dns *dns,
                                struct str helo_name)
{
    struct directory *directory = NEW(struct directory);
    directory->shared = shared;
    directory->dns = dns;
    directory->helo_name = memory_alloc(helo_name.len + 1);
    check(str_to_c(helo_name, directory->helo_name, helo_name.len + 1));
    map_init(&directory->files);
    map_init(&directory->pools);
    scope_init_root(&directory->scope, loop_current());
    directory->reaper.fire = start_reaper;
    loop_timer_set(&directory->reaper, clock_deadline(REAP_EVERY_NS));
    return directory;
}

void directory_free(struct directory *directory)
{
    if (!directory)
        return;
    loop_timer_clear(&directory->reaper);
    scope_cancel(&directory->scope);
    while (!scope_is_empty(&directory->scope))
        fiber_yield();
    callout_pools_free(directory);
    watched_files_free(directory);
    free(directory->helo_name);
    free(directory);
}

/* ---- backends ---- */

static struct directory_backend *find_backend(struct directory_shared *shared, struct str name)
{
    struct directory_backend *backend = atomic_load(&shared->backends);
    while (backend && !str_equal(str_c(backend->lookups.name), name))
        backend = backend->next;
    return backend;
}

static void init_logins(struct breaker *breaker, struct str name)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, 1024);
    buf_printf(&text, "%.*s (logins)", STR_ARG(name));
    breaker_init(breaker, buf_str(&text));
}

struct directory_backend *directory_backend(struct directory_shared *shared, struct str name,
                                            bool ldap)
{
    struct directory_backend *backend = find_backend(shared, name);
    if (backend)
        return backend;
    backend = NEW(struct directory_backend);
    breaker_init(&backend->lookups, name);
    init_logins(&backend->logins, name);
    if (ldap)
        backend->lane = lane_new("ldap", BACKEND_LDAP_CONNECTIONS, LDAP_JOBS_MAX);
    backend->next = atomic_load(&shared->backends);
    while (!atomic_compare_exchange_weak(&shared->backends, &backend->next, backend)) {
        struct directory_backend *other = find_backend(shared, name);
        if (other) { /* another worker was first */
            backend_free(backend);
            return other;
        }
    }
    return backend;
}

void directory_backend_denied(struct directory_backend *backend, struct str reply)
{
    int64_t now = clock_monotonic_ns();
    int64_t told = atomic_load(&backend->denied_told);
    if (told && now - told < DENIED_EVERY_NS)
        return;
    if (atomic_compare_exchange_strong(&backend->denied_told, &told, now))
        event_emit(EVENT_BACKEND_DENIED, F_C(BACKEND, backend->lookups.name), F_STR(REPLY, reply));
}

/* ---- answers ---- */

static struct str detail_text(struct arena *arena, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static struct str detail_text(struct arena *arena, const char *format, va_list args)
{
    char text[DETAIL_MAX];
    int length = vsnprintf(text, sizeof text, format, args);
    size_t used = length < 0 ? 0 : (size_t)length;
    return arena_str(arena, str_of(text, used < sizeof text ? used : sizeof text - 1));
}

void directory_answer_login(struct directory_answer *out, enum directory_login login,
                            struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    out->login = login;
    out->detail = detail_text(arena, format, args);
    va_end(args);
}

void directory_answer_lookup(struct directory_answer *out, enum directory_lookup lookup,
                             struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    out->lookup = lookup;
    out->detail = detail_text(arena, format, args);
    va_end(args);
}

void directory_split_address(struct str address, struct str *out_local, struct str *out_domain)
{
    ptrdiff_t at = str_find_last(address, '@');
    *out_local = at < 0 ? address : str_slice(address, 0, (size_t)at);
    *out_domain = at < 0 ? STR_EMPTY : str_from(address, (size_t)at + 1);
}
