/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/budget.c - how much a run may work, and how long it may keep the worker for itself.
 *
 * Lua calls the hook every some hundred instructions. A run that has used up its work is stopped by
 * an error which is raised again by whatever could catch it (library.c), and by the hook itself at
 * every instruction from then on. One that still has some lets others run after a millisecond.
 */
#include "script/internal.h"

#include "base/clock.h"

#include <lauxlib.h>
#include <time.h>

enum { SLICE_MS = 1 };

static int64_t read_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Of this thread: what others on the machine do costs a script nothing. Asked seldom, for it is a
 * system call. */
static int64_t cpu_ns(void)
{
    return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

void script_slice_begin(struct script_sandbox *sandbox)
{
    sandbox->slice_ns = read_ns(CLOCK_MONOTONIC);
    sandbox->slice_cpu_ns = cpu_ns();
}

void script_slice_end(struct script_sandbox *sandbox)
{
    sandbox->cpu_left_ns -= cpu_ns() - sandbox->slice_cpu_ns;
}

static void on_count(lua_State *L, lua_Debug *debug)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    (void)debug;
    sandbox->work_left -= sandbox->interval;
    if (!sandbox->stop && sandbox->work_left < 0)
        sandbox->stop = SCRIPT_STOP_WORK;
    bool long_ago = read_ns(CLOCK_MONOTONIC) - sandbox->slice_ns > SLICE_MS * NS_PER_MS;
    if (!sandbox->stop && long_ago && cpu_ns() - sandbox->slice_cpu_ns > sandbox->cpu_left_ns)
        sandbox->stop = SCRIPT_STOP_WORK;
    script_raise_stop(L);
    if (long_ago && sandbox->may_yield && sandbox->may_wait && lua_isyieldable(L)) {
        sandbox->pending = SCRIPT_PENDING_SLICE;
        lua_yield(L, 0);
    }
}

void script_watch(lua_State *L, struct script_sandbox *sandbox)
{
    lua_sethook(L, on_count, LUA_MASKCOUNT, sandbox->interval);
}

void script_raise_stop(lua_State *L)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    if (!sandbox->stop)
        return;
    sandbox->interval = 1;
    script_watch(L, sandbox);
    lua_pushlightuserdata(L, sandbox); /* needs no memory */
    lua_error(L);
}

void script_spend(lua_State *L, uint64_t amount)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    sandbox->work_left -= amount > INT32_MAX ? INT32_MAX : (int64_t)amount;
    if (sandbox->work_left < 0 && !sandbox->stop)
        sandbox->stop = SCRIPT_STOP_WORK;
    script_raise_stop(L);
}
