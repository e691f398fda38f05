/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/option.h - settings as rows: name, type, default, bounds, unit and one line of text.
 *
 * Each module keeps the table of its own settings beside the struct that it binds to. Validation,
 * `config show --effective`, JSON Schema and the manual come from the same rows.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "config/node.h"
#include "config/report.h"

enum option_type {
    OPTION_BOOL,       /* bool */
    OPTION_INT,        /* int64_t, within min … max */
    OPTION_DECIMAL,    /* double: 7, 7.5, -0.25; within min … max */
    OPTION_DURATION,   /* int64_t nanoseconds: 500ms 15s 15m 2h 30d */
    OPTION_SIZE,       /* uint64_t bytes: 64K 25M 1G (powers of 1,024) or plain */
    OPTION_RATE,       /* struct option_rate: 500/1h */
    OPTION_TEXT,       /* struct str */
    OPTION_PATH,       /* struct str, made absolute relative to the file it stands in */
    OPTION_WORD,       /* int: value of one of `words` */
    OPTION_WORDS,      /* unsigned: set of 1 << value of `words`; a list */
    OPTION_REFERENCE,  /* struct str: name of an entry of section `refers_to`; the binder checks */
    OPTION_TEXTS,      /* struct option_texts: a list, or one text */
    OPTION_REFERENCES, /* struct option_texts, each checked */
    OPTION_DURATIONS,  /* struct option_durations: a list, or one */
    OPTION_GROUP,      /* a struct bound by `group`, embedded at the offset */
    OPTION_NODE,       /* const struct config_node *: the module reads it itself; NULL if absent */
};

struct option_rate {
    uint64_t count; /* 0: no limit given */
    int64_t period_ns;
};
struct option_texts {
    struct str *items;
    struct config_place *places;
    size_t count;
};
struct option_durations {
    int64_t *items;
    size_t count;
};
struct option_word {
    const char *word;
    int value;
};

enum option_reload { RELOAD_LIVE, RELOAD_RESTART };

struct option {
    const char *name;
    enum option_type type;
    size_t offset;
    const char *text;     /* one line for the manual */
    const char *fallback; /* default, as it would stand in the file; NULL: zero/empty/absent */
    bool required;
    int64_t min, max; /* INT, DURATION, SIZE; both 0: any value that is not negative */
    const struct option_word *words;  /* ends with a NULL word */
    const char *refers_to;            /* REFERENCE(S): "servers", "flows.content", … */
    const struct option_table *group; /* GROUP */
    enum option_reload reload;
    const char *not_built; /* set: the key is known, but using it is the error `not-built` */
};

struct option_table {
    const char *name; /* "listeners.*": the path in the file, for manual and schema */
    const char *text;
    const struct option *options; /* ends with a NULL name */
    const char *shorthand;        /* option that a bare scalar or list stands for, or NULL */
    size_t size;                  /* of the struct */
};

/* The files and folders that a configuration names. */
struct option_paths {
    struct str *items; /* in the context's arena */
    size_t count;
    size_t cap;
};
/* `paths` NULL: nobody asks. */
void option_paths_add(struct option_paths *paths, struct arena *arena, struct str path);

/* What binding needs besides the node: where texts go, where problems go, which names exist. */
struct option_context {
    struct arena *arena;
    struct config_report *report;
    const struct config_node *root; /* whole file, for references; NULL: references unchecked */
    struct option_paths *paths;     /* gets each path that is read; NULL: nobody asks */
};

/*
 * Fill `target` (of table->size, zeroed) with defaults and what `node` (a map; NULL: nothing)
 * says. Problems go to the report: unknown keys with "did you mean", wrong types and units, values
 * out of bounds, dangling names. Keys listed in `also_allowed` (NULL-terminated, may be NULL) are
 * skipped. FAILED if at least one error was found; the target is then filled as far as possible.
 */
enum result option_bind(const struct option_table *table, const struct config_node *node,
                        const char *const *also_allowed, const struct option_context *context,
                        void *target);

/* ---- single values, for modules that read nodes themselves; false: a problem was reported ---- */
bool option_read_text(const struct config_node *node, const struct option_context *context,
                      struct str *out);
/* Made absolute relative to the file it stands in; "credential:NAME" is systemd's credential. */
bool option_read_path(const struct config_node *node, const struct option_context *context,
                      struct str *out);
bool option_read_bool(const struct config_node *node, const struct option_context *context,
                      bool *out);
bool option_read_int(const struct config_node *node, const struct option_context *context,
                     int64_t min, int64_t max, int64_t *out);
/* A list, or one. */
bool option_read_texts(const struct config_node *node, const struct option_context *context,
                       struct option_texts *out);
/* Text that is the name of an entry of section `refers_to`. */
bool option_read_reference(const struct config_node *node, const struct option_context *context,
                           const char *refers_to, struct str *out);
bool option_read_size(const struct config_node *node, const struct option_context *context,
                      uint64_t *out_bytes);
bool option_read_duration(const struct config_node *node, const struct option_context *context,
                          int64_t *out_ns);
/* "15m", "2h30m" is none; false: not in this form. */
bool option_parse_duration(struct str text, int64_t *out_ns);
/* "100/1m" */
bool option_parse_rate(struct str text, struct option_rate *out);
bool option_read_rate(const struct config_node *node, const struct option_context *context,
                      struct option_rate *out);

/* The problem `unknown-key` with "did you mean" among `known`, for maps without a table. */
void option_unknown_key(const struct config_pair *pair, const struct option_context *context,
                        const struct str *known, size_t known_count);

/* "15m", "64K", "500/1h": values as they would stand in a file. */
struct buf;
void option_print_duration(int64_t duration_ns, struct buf *out);
void option_print_size(uint64_t bytes, struct buf *out);
/* Text as a YAML scalar, in quotes where needed. */
void option_print_text(struct str text, struct buf *out);
/* A node as YAML on one line, secrets masked; and, behind a value, where it was written (a comment
 * to the end of the line, NULL: a default). */
void option_print_node(const struct config_node *node, struct buf *out);
void option_print_origin(const struct config_node *written, struct buf *out);
/* Text as a JSON string. */
void option_print_json(struct str text, struct buf *out);
/* Words of a row as Markdown: what would mean something there is escaped, but for `code`. */
void option_print_prose(struct str text, struct buf *out);

/* ---- the same rows, for people ---- */
/* Append the table as one JSON Schema (an object, or the shorthand) / as Markdown / as effective
 * YAML of `target`, a line a row, with the place where it was written; rows that `node` does not
 * give are marked as defaults, and left out when they have none. */
void option_schema(const struct option_table *table, struct buf *out);
/* Parts of that, for a module that adds keys of its own: the members of `properties` (may be
 * none), `,"required":[…]` or nothing, and the schema of the shorthand (false: there is none). */
void option_schema_rows(const struct option_table *table, struct buf *out);
void option_schema_required(const struct option_table *table, struct buf *out);
bool option_schema_shorthand(const struct option_table *table, struct buf *out);
void option_manual(const struct option_table *table, struct buf *out);
void option_effective(const struct option_table *table, const void *target,
                      const struct config_node *node, unsigned indent, struct buf *out);
