/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/usage.h - the usage line of a command taken apart, for help and for completion. */
#pragma once

#include "ctl/ctl.h"

enum { USAGE_WORDS_MAX = 1024 };

struct usage {
    char options[USAGE_WORDS_MAX]; /* blank between them */
    char choices[USAGE_WORDS_MAX]; /* what may stand as an argument */
    char valued[USAGE_WORDS_MAX];  /* options that take a value */
    bool file;                     /* an argument is a file */
};

/* With the selectors, where it takes them. */
void usage_read(const struct ctl_command *command, struct usage *out);
/* The commands of a noun stand together: is this the first of them? */
bool usage_is_first_of_noun(const struct ctl_command *command);
