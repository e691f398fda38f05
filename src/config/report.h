/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/report.h - everything that is wrong with a configuration, collected in one run.
 */
#pragma once

#include "base/arena.h"
#include "config/node.h"

enum config_severity { CONFIG_ERROR, CONFIG_WARNING };

struct config_problem {
    enum config_severity severity;
    struct str code; /* "unknown-key", "open-relay", ...: stable, for `postern docs CODE` */
    struct config_place place;
    struct str text;   /* what is wrong, one line */
    struct str detail; /* further lines (a path through a flow), or empty */
    struct str fix;    /* what to do, or empty */
};

struct config_report {
    struct arena *arena;
    struct config_problem *problems;
    size_t count;
    size_t cap;
    size_t errors;
    size_t warnings;
    /* What is found may be tried with the flows: only where nobody takes their events for those of
     * mail. */
    bool may_rehearse;
};

void config_report_init(struct config_report *report, struct arena *arena);
/* The text is formatted into the report's arena; returns the problem so that detail and fix can be
 * set. At most 1,000 are kept; all are counted. Never NULL. */
struct config_problem *config_problem(struct config_report *report, enum config_severity severity,
                                      const char *code, struct config_place place,
                                      const char *format, ...)
    __attribute__((format(printf, 5, 6)));

struct buf;
/* As a person reads it: file:line:column, the source line, a caret, the fix; sorted by place. */
void config_report_print(const struct config_report *report, bool colour, struct buf *out);
/* "2 errors, 1 warning. Nothing was applied." */
void config_report_summary(const struct config_report *report, struct buf *out);
/* One JSON object a line. */
void config_report_json(const struct config_report *report, struct buf *out);

/* Nearest of `count` candidates by edit distance, for "did you mean"; empty if none is near. */
struct str config_nearest(struct str word, const struct str *candidates, size_t count);
/* The fix of a problem with a word that is none: the nearest of the candidates, else `otherwise`.
 */
void config_suggest(struct config_problem *problem, struct arena *arena, struct str word,
                    const struct str *candidates, size_t count, struct str otherwise);
/* "known here: a, b, c", as far as there is room for it on a line. */
struct str config_known(struct arena *arena, const struct str *names, size_t count);
