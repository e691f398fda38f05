/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/internal.h - what the files of this module share: a file in memory, and its reading.
 */
#pragma once

#include "base/error.h"
#include "config/report.h"

struct config_file {
    struct str name;   /* as it is shown */
    struct str folder; /* what relative paths start from; empty: the working directory */
    struct str text;
    unsigned order; /* of reading, so that problems can be sorted */
};

enum {
    CONFIG_TEXT_MAX = 8 * 1024 * 1024, /* of one file */
    CONFIG_NODES_MAX = 400 * 1000,     /* of one file */
    CONFIG_DEPTH_MAX = 48,
};

/* on, off, yes or no, in any case, without quotes: YAML 1.1 took them for true and false. */
bool config_is_bare_yes_no(struct str text);
/* The source line `line` (from 1) of a file, without its end. */
struct str config_source_line(const struct config_file *file, unsigned line);
bool config_is_secret_key(struct str key);

/*
 * Read one file's text. Whatever is wrong goes to the report; the tree holds what could be read,
 * and is an empty map after an error of syntax. FAILED if there was an error. (config/yaml.c)
 */
enum result config_yaml_read(const struct config_file *file, struct arena *arena,
                             struct config_report *report, struct config_node *out_root);
