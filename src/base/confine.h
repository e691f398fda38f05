/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/confine.h - a process that reads what anybody wrote gives up all that it does not need.
 *
 * For a process of one thread that has its descriptors open already: afterwards it can read, write
 * and compute, and nothing else. What serves mail needs more: daemon/sandbox.h.
 */
#pragma once

#include "base/error.h"

#include <stddef.h>

struct confine_limits {
    size_t memory;       /* bytes of address space; 0: no limit. Not under AddressSanitizer */
    unsigned seconds;    /* of CPU; SIGXCPU ends it then */
    int keep_descriptor; /* the only one that stays open besides 0, 1 and 2; -1: all stay */
};

/* No file, no socket, no other program, no other process; a bounded amount of memory and CPU.
 * There is no way back. FAILED: the kernel refuses; the caller must end then. */
enum result confine(const struct confine_limits *limits, struct error *err);
