/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/child.h - the unprivileged process that does the work.
 */
#pragma once

#include "base/str.h"
#include "daemon/privileges.h"

struct poison;
struct unpacker;

struct child_options {
    const char *config_path;
    int link; /* to the supervisor */
    const struct poison *poison;
    const struct unpacker *unpacker; /* the door to the process that looks into archives */
    bool delivery_paused;
    bool unconfined; /* for debugging: all paths and system calls stay open to it */
    bool again;      /* a child ran before: what was in force goes on, whatever the file says */
    struct str spool_path; /* where the revisions are, at a start again */
    struct privileges privileges;
};

/* Exit status of the process: 0 after a drain that was asked for, 1 when it cannot start (the
 * reason is logged; starting it again is useless). */
enum { CHILD_DONE = 0, CHILD_CANNOT_START = 1 };
int child_run(const struct child_options *options);
