/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/load.h - from files to one tree.
 */
#pragma once

#include "config/option.h"

/*
 * Read `path` and, beside it, conf.d/\*.yaml in order of name; sections merge, a name defined twice
 * is an error with both places. YAML 1.2 core types, strictly: duplicate keys, anchors, tags and
 * bare on/off/yes/no are errors. Blocks (reads files). FAILED if an error was reported; the tree
 * then holds what could be read (an empty map if a file has an
 * error of syntax), so that the caller can go
 * on to find the other errors. Nodes and texts live in `arena`, which
 * must live as long as the report, whose places point into it.
 */
enum result config_load(const char *path, struct arena *arena, struct config_report *report,
                        struct config_node *out_root);
/* The files of a configuration with their text: `path` first. The names are those that problems
 * show and relative paths start at, whether there is such a file or not. */
struct config_text {
    struct str name;
    struct str text;
    struct str folder; /* where relative paths start; empty: where the name says */
};
struct config_texts {
    struct config_text *items;
    size_t count;
};
/* What config_load() would read, and nothing more; in `arena`. FAILED if a file cannot be read:
 * that is in the report. */
enum result config_read_texts(const char *path, struct arena *arena, struct config_report *report,
                              struct config_texts *out);
/* config_load() of texts that were read before. */
enum result config_load_texts(const struct config_texts *texts, struct arena *arena,
                              struct config_report *report, struct config_node *out_root);
/* The same of text in memory, shown as `name`. */
enum result config_load_text(struct str name, struct str text, struct arena *arena,
                             struct config_report *report, struct config_node *out_root);
