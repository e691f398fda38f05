/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/internal.h - the sandbox of one run, shared by the files of this module only: nobody else
 * includes lua.h.
 */
#pragma once

#include "script/script.h"

#include <lua.h>

/* ---- memory (memory.c) ---- */

enum { SCRIPT_CLASSES = 16, SCRIPT_SMALL = 256 };

/* Blocks up to SCRIPT_SMALL come from slabs that are given back at the end, all at once. */
struct script_memory {
    size_t used, peak, max;
    struct script_slab *slabs;
    char *fresh; /* unused part of the newest slab */
    size_t fresh_len;
    void *free[SCRIPT_CLASSES];
    struct script_large *large;
    bool refused; /* the last time; a second time for the same is the end */
    size_t refused_size;
};

enum script_pending { SCRIPT_PENDING_NONE, SCRIPT_PENDING_SLICE, SCRIPT_PENDING_ROW };

struct script_sandbox {
    lua_State *main; /* never runs script code */
    lua_State *thread;
    struct script_memory memory;
    /* bounds */
    int64_t work_left;
    int interval; /* of the count hook */
    int64_t cpu_left_ns;
    int64_t slice_ns, slice_cpu_ns; /* when the slice began, by both clocks */
    enum script_stop stop;
    /* what it waits for */
    bool may_yield; /* it is on a fiber */
    bool may_wait;  /* no C function without a continuation stands between here and the fiber */
    enum script_pending pending;
    const struct script_row *row;
    struct script_call call;
    struct error call_error;
    enum result call_result;
    /* lent */
    const struct script *script;
    const struct script_run *run;         /* NULL while loading */
    const struct script_loading *loading; /* NULL while running */
    struct script_loader *loader;
    const struct script_object *globals;
    size_t global_count;
    struct arena *scratch; /* of one call */
    /* what came of it */
    int status;
    struct script_outcome *outcome;
    struct script_fault fault;
};

/* A compiled file. */
struct script_chunk {
    struct str module; /* as in require("…"); of the file itself "" */
    struct str path;   /* absolute */
    struct str name;   /* in messages */
    struct str text;
    struct str code;
};
struct script {
    struct script_chunk *chunks; /* the file first */
    size_t chunk_count;
    struct str *functions;
    size_t function_count;
    unsigned uses; /* of the library, by all chunks */
};

static inline struct script_sandbox *script_sandbox_of(lua_State *L)
{
    return *(struct script_sandbox **)lua_getextraspace(L);
}

void script_memory_init(struct script_memory *memory, size_t max);
void script_memory_done(struct script_memory *memory);
/* lua_Alloc */
void *script_memory_resize(void *context, void *block, size_t old_size, size_t new_size);

/* ---- bounds (budget.c) ---- */

/* Count `amount` of work; does not return when there is none left. */
void script_spend(lua_State *L, uint64_t amount);
/* Go on with an error that nobody may catch, if there is one. */
void script_raise_stop(lua_State *L);
/* Begin to count in a thread. */
void script_watch(lua_State *L, struct script_sandbox *sandbox);
void script_slice_begin(struct script_sandbox *sandbox);
void script_slice_end(struct script_sandbox *sandbox);

/* ---- what scripts find (library.c, strings.c, matcher.c, rows.c) ---- */

/* Parts of Lua's library that a run opens only if the text names them. */
enum {
    SCRIPT_USES_TABLE = 1 << 0,
    SCRIPT_USES_MATH = 1 << 1,
    SCRIPT_USES_UTF8 = 1 << 2,
    SCRIPT_USES_COROUTINE = 1 << 3,
    SCRIPT_USES_ALL = (1 << 4) - 1,
};
/* Those that this text may use. */
unsigned script_library_uses(struct str text);
void script_open_library(lua_State *L, unsigned uses);
void script_open_strings(lua_State *L);
void script_push_object(lua_State *L, const struct script_object *object);
/* An upvalue that holds a C function: call it after counting the texts that it is given. */
int script_charged(lua_State *L);

void script_push_value(lua_State *L, const struct script_value *value);
/* In `arena`; raises an error for what is too much. */
void script_read_value(lua_State *L, int index, struct arena *arena, struct script_value *out);

/* load.c: chunk `index` of the sandbox's script as a function on the stack; raises errors. */
void script_push_chunk(lua_State *L, const struct script_chunk *chunk);
int script_require(lua_State *L);

/* run.c: a state with all that a script finds; false: not even that had room. */
bool script_sandbox_open(struct script_sandbox *sandbox, const struct script_limits *limits);
void script_sandbox_close(struct script_sandbox *sandbox);
/* Run `entry` with its continuation on the sandbox's thread, to its end; FAILED: sandbox->fault. */
enum result script_drive(struct script_sandbox *sandbox, lua_CFunction entry, struct arena *arena,
                         int64_t time_ns) MAY_YIELD;

/* ---- Lua's patterns with a bound (matcher.c) ---- */

enum { SCRIPT_CAPTURES = 32 };
enum { SCRIPT_CAPTURE_OPEN = -1, SCRIPT_CAPTURE_PLACE = -2 };

struct script_matcher {
    lua_State *L;
    const char *text, *text_end;
    const char *pattern, *pattern_end;
    uint64_t steps, steps_max, steps_counted;
    int depth;
    int level;
    struct {
        const char *begin;
        ptrdiff_t len; /* or SCRIPT_CAPTURE_… */
    } captures[SCRIPT_CAPTURES];
};
void script_matcher_init(struct script_matcher *matcher, lua_State *L, struct str text,
                         struct str pattern);
/* The end of what matches at `at`, or NULL; raises errors of the pattern and of its cost. */
const char *script_match_at(struct script_matcher *matcher, const char *at);
void script_matcher_settle(struct script_matcher *matcher);
