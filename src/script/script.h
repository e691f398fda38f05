/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/script.h - Lua functions of the administrator, run in a sandbox; the door to Lua 5.4.
 *
 * A script is compiled when the configuration is loaded, immutable, and shared by all threads. Each
 * run has a Lua state of its own, so that nothing goes from one message to the next. What a script
 * sees of its host are objects: tables of rows that the host lends to the run. This module knows no
 * row by itself.
 *
 * A run is bounded in memory, work and time. What goes over a bound ends the run, whatever the
 * script does to catch it: pcall, coroutines, finalizers, __close.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "fiber/fiber.h"

/* ---- values that go between host and script ---- */

enum script_kind {
    SCRIPT_NIL,
    SCRIPT_BOOL,
    SCRIPT_INTEGER,
    SCRIPT_NUMBER,
    SCRIPT_TEXT,
    SCRIPT_LIST, /* a table with the keys 1 … count */
    SCRIPT_MAP,  /* another table, of its keys that are texts */
    SCRIPT_OTHER /* functions and the like: their kind alone, in `text` */
};

struct script_value {
    enum script_kind kind;
    bool truth;
    int64_t integer;
    double number; /* also of an integer */
    struct str text;
    struct script_value *items; /* LIST, and the values of a MAP */
    struct str *keys;           /* MAP */
    size_t count;
};

enum {
    SCRIPT_ARGUMENTS_MAX = 8,
    SCRIPT_RESULTS_MAX = 4,
    SCRIPT_ITEMS_MAX = 4096, /* of one table that goes to the host, with the tables in it */
    SCRIPT_DEPTH_MAX = 4,
};

/* Of a map; NULL: it has no such key, or is none. */
const struct script_value *script_value_get(const struct script_value *map, const char *key);

/* ---- what the host lends ---- */

struct script_row;

/* One use of a row. Arguments and `arena` are there until it returns. */
struct script_call {
    const struct script_row *row;
    void *context; /* of the run */
    struct arena *arena;
    struct script_value arguments[SCRIPT_ARGUMENTS_MAX]; /* those not given are NIL */
    size_t argument_count;
    struct script_value results[SCRIPT_RESULTS_MAX];
    size_t result_count;
};
void script_return_nil(struct script_call *call);
void script_return_bool(struct script_call *call, bool truth);
void script_return_integer(struct script_call *call, int64_t integer);
void script_return_number(struct script_call *call, double number);
void script_return_text(struct script_call *call, struct str text);
/* Room for `count` items, to be filled in. */
struct script_value *script_return_list(struct script_call *call, size_t count);
struct script_value script_text(struct str text);

/* Argument `index` from 0. FAILED: it is missing or of another kind; the words name the row. */
enum result script_take_text(const struct script_call *call, size_t index, struct str *out,
                             struct error *err);
enum result script_take_integer(const struct script_call *call, size_t index, int64_t min,
                                int64_t max, int64_t *out, struct error *err);
/* The same where it may be left out. */
enum result script_take_text_or(const struct script_call *call, size_t index, struct str fallback,
                                struct str *out, struct error *err);

struct script_row {
    const char *name;
    const char *arguments; /* of a function, for people: "name, value"; NULL: a value to be read */
    const char *text;      /* one line for the manual */
    unsigned where;        /* set of the places that have it, as the host numbers them */
    bool waits;            /* `answer` is MAY_YIELD; else it runs on the loop's stack */
    int tag;               /* for an answer that several rows share */
    /* FAILED: an error in Lua, which the script may catch. */
    enum result (*answer)(struct script_call *call, struct error *err);
    unsigned cost; /* work, beside that of what it returns */
};
/* A table of rows. Reading what is no row is an error in Lua, with the nearest name. */
struct script_object {
    const char *name;
    const struct script_row *rows; /* ends with a NULL name */
    unsigned where;                /* one bit: where this run is */
};

/* ---- loading ---- */

enum {
    SCRIPT_FILE_MAX = 1024 * 1024,
    SCRIPT_MODULES_MAX = 100,
};

struct script;

struct script_limits {
    size_t memory;   /* bytes of the state and all that it makes */
    uint64_t work;   /* about one an instruction of the machine; long strings count more */
    int64_t time_ns; /* of a run, with what it waits for */
};
extern const struct script_limits script_limits_default;

/* What is wrong with a text. */
struct script_problem {
    struct str path; /* of the file; empty: the one asked for */
    struct str source;
    unsigned line;   /* from 1; 0: none in particular */
    unsigned column; /* from 1 */
    unsigned length;
    struct str text;
};

/* Called for each file that was read: the host watches them. NULL is allowed. */
typedef void (*script_saw_file)(void *context, struct str path);

/*
 * Read and compile the file and what it requires from its own folder and those below, and run it
 * once: functions come to be, and requirements are found, at the top of a file only. `objects` are
 * names that it may mention there, but not use. Blocks. In `arena`. FAILED: *out_problem says why.
 */
struct script_loading {
    struct arena *arena;
    const struct script_limits *limits;
    const struct script_object *objects; /* globals */
    size_t object_count;
    script_saw_file saw_file;
    void *context;
};
enum result script_load_file(const struct script_loading *loading, struct str path,
                             struct script **out_script, struct script_problem *out_problem);
/* The same of a text, which can require nothing. */
enum result script_load_text(const struct script_loading *loading, struct str name, struct str text,
                             struct script **out_script, struct script_problem *out_problem);
/* Does it define a global function of that name? */
bool script_has_function(const struct script *script, struct str name);
/* Does the word stand anywhere in its text, or in that of a file that it requires? */
bool script_mentions(const struct script *script, struct str word);
/* The text of each file that it is made of; false: there are no more. */
bool script_source(const struct script *script, size_t index, struct str *out);
/* Those that it defines, in no order. */
const struct str *script_functions(const struct script *script, size_t *out_count);

/* ---- running ---- */

enum script_stop {
    SCRIPT_STOP_NONE,
    SCRIPT_STOP_MEMORY,
    SCRIPT_STOP_WORK,
    SCRIPT_STOP_TIME,
    SCRIPT_STOP_CANCELLED,
};

/* Why a run has no result. */
struct script_fault {
    enum script_stop stop; /* NONE: an error of the script */
    struct str text;       /* "recipient.lua:7: attempt to …" */
    struct str traceback;  /* lines; may be empty */
};

struct script_run {
    const struct script *script;
    struct str function;
    const struct script_limits *limits; /* NULL: the default */
    const struct script_object *globals;
    size_t global_count;
    const struct script_object *argument; /* the function's one argument */
    void *context;                        /* for the rows */
    struct arena *arena;                  /* for results and faults */
};
struct script_outcome {
    struct script_value results[SCRIPT_RESULTS_MAX];
    size_t result_count;
    struct script_fault fault; /* FAILED */
    uint64_t work;             /* used */
    size_t memory;             /* at most used at a time */
};
/* Off a fiber nothing may wait, and time is not bounded. */
enum result script_run(const struct script_run *run, struct script_outcome *out) MAY_YIELD;
