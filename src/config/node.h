/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/node.h - a configuration file as a tree of nodes, each with its place.
 *
 * Made by config/yaml.c, read by the binder (config/option.h) and by modules whose settings are
 * more than rows, such as flows. Immutable once read; lives in the arena it was read into.
 */
#pragma once

#include "base/str.h"

struct config_file; /* name and text, for carets */

struct config_place {
    const struct config_file *file;
    unsigned line;   /* from 1; 0: no place (a default) */
    unsigned column; /* from 1, in characters */
    unsigned length; /* characters to underline, at least 1 */
};

enum config_kind { CONFIG_SCALAR, CONFIG_LIST, CONFIG_MAP };

struct config_node {
    enum config_kind kind;
    bool quoted;               /* a scalar in quotes is text, whatever it looks like */
    bool is_null;              /* absent value: `key:` with nothing behind it, null or ~ */
    struct config_place place; /* of the value */
    struct str text;           /* scalar: its characters */
    struct config_pair *pairs; /* map: in file order */
    struct config_node *items; /* list */
    size_t count;              /* of pairs or items */
};

struct config_pair {
    struct str key;
    struct config_place place; /* of the key */
    struct config_node value;
};

/* The value at `key` of a map, or NULL; NULL too for a node that is no map. */
const struct config_node *config_get(const struct config_node *map, struct str key);
/* The same with the place of the key. */
const struct config_pair *config_get_pair(const struct config_node *map, struct str key);

struct arena;
/* "postern.yaml:12:5", or the file's name alone; in `arena`. */
struct str config_place_text(struct arena *arena, struct config_place place);
/* A text that is no configuration but belongs to one, for places in it; kept as it is. */
const struct config_file *config_file_new(struct arena *arena, struct str name, struct str text);
/* The name of the file as it was given; empty for NULL (a default has no file). */
struct str config_file_name(const struct config_file *file);
