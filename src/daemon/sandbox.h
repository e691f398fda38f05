/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/sandbox.h - what the process that reads mail may still do, whoever comes to run code in
 * it.
 *
 * System calls (seccomp): no program is started, no process made or looked into, no memory both
 * written and executed, no socket but of IP and Unix, nothing of the kernel's administration.
 * Paths (Landlock): the system's own folders and what the configuration names can be read; only
 * the folders given as writable can be written. Neither can be undone, so a configuration that
 * names another folder later needs a restart.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"

#include <stddef.h>

struct sandbox {
    const struct str *readable; /* files or folders; a file stands for the folder it lies in, as it
                                   may be replaced there. What does not exist is left out. */
    size_t readable_count;
    const struct str *writable; /* folders */
    size_t writable_count;
};

enum sandbox_paths {
    SANDBOX_PATHS,       /* done */
    SANDBOX_NO_LANDLOCK, /* this kernel has none that serves (version 2, Linux 5.19): left out */
};

/* Confine this process for ever, before it has a second thread. FAILED: it must not go on. */
enum result sandbox_enter(const struct sandbox *wanted, enum sandbox_paths *out_paths,
                          struct error *err);
