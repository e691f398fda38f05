/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/memory_limit.h - how much memory the control group of this process may use.
 */
#pragma once

#include <stdint.h>

/* The least limit of the group and those above it, version 2 or 1; UINT64_MAX: none, or unknown.
 * Reads files: not on a loop. */
uint64_t memory_limit(void);
