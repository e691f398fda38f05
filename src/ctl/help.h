/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/help.h - what the command line can be, and what a wrong one probably meant. */
#pragma once

#include "ctl/ctl.h"

#include <stdio.h>

/* One command: its usage, its text, the selectors if it takes them. */
void help_command(const struct ctl_command *command, FILE *out);
/* What begins with these words: the verbs of a noun, or everything. On standard output and yes if
 * it was asked for, else on standard error and CTL_USAGE. */
int help_noun(int argc, char **argv, bool asked);
/* No command begins so: what is near, or what there is. CTL_USAGE. */
int help_unknown(int argc, char **argv);
/* One line about an option that the command does not know, with the nearest one that it does. */
void help_unknown_option(const struct ctl_command *command, const char *option);
