/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/privileges.h - from root to an unprivileged user, and what a process may no longer do.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"

#include <sys/types.h>

struct privileges {
    bool change; /* false: not started as root, or no such user was asked for */
    uid_t uid;
    gid_t gid;
};

/* Whom to become: `user`, or `postern` when that is empty, we are root and it exists. FAILED if a
 * user was named that does not exist. */
enum result privileges_find(struct str user, struct privileges *out, struct error *err);
/* Make `path` (0750) if it is missing, owned by that user; so is one with nothing in it. A folder
 * that others use (/run, that of the configuration) stays as it is. Its parent must exist. */
enum result privileges_make_folder(const struct privileges *privileges, struct str path,
                                   struct error *err);
/* The supervisor's way: become the user, keep only CAP_NET_BIND_SERVICE. */
enum result privileges_keep_binding(const struct privileges *privileges, struct error *err);
/* The child's way: become the user, keep nothing, never gain again, no core dumps with secrets. */
enum result privileges_drop(const struct privileges *privileges, struct error *err);
