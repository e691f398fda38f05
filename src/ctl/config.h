/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/config.h - what the commands around revisions share. */
#pragma once

#include "config/load.h"
#include "ctl/ctl.h"

/* A GET; the exit code, 0 with *out (the caller's to json_decref). */
int ctl_config_get(struct ctl *ctl, const char *path, json_t **out);
/* The texts of a revision ("r41"), names and texts in the arena. */
int ctl_config_texts(struct ctl *ctl, const char *revision, struct config_texts *out);
/* Those of files on disk; false: said why. */
bool ctl_config_read(struct ctl *ctl, const char *path, struct config_texts *out);
/* Relative paths in the texts start where the daemon takes them from: at its `file`. */
void ctl_config_place(struct ctl *ctl, struct config_texts *texts, const char *file);
/* The folder of a path without its final slash; "." for a bare name. */
struct str ctl_folder_of(struct str path);
/* Print the differences, in colours on a terminal; false: there are none. */
bool ctl_config_print_diff(struct ctl *ctl, const struct config_texts *from,
                           const struct config_texts *to, const char *from_name,
                           const char *to_name);
/* Put what is in force into the file that the daemon reads; what stood there is kept. */
int ctl_config_write_file(struct ctl *ctl);
