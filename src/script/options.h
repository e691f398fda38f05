/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/options.h - the rows of what a run may have and do, for whoever lets an administrator name
 * a script; in the struct `type_`, members memory (uint64_t), work (int64_t) and time_ns.
 */
#pragma once

#include "base/clock.h"

#include <stddef.h>

/* clang-format off */
#define SCRIPT_LIMIT_ROWS(type_)                                                                   \
    {.name = "memory", .type = OPTION_SIZE, .offset = offsetof(type_, memory), .fallback = "8M",   \
     .min = 256 * 1024, .max = 64 * 1024 * 1024, .text = "what a run may have"},                   \
    {.name = "work", .type = OPTION_INT, .offset = offsetof(type_, work), .fallback = "2000000",   \
     .min = 1000, .max = 100 * 1000 * 1000,                                                        \
     .text = "how much a run may do, in instructions of Lua; long texts count more"},              \
    {.name = "time", .type = OPTION_DURATION, .offset = offsetof(type_, time_ns),                  \
     .fallback = "10s", .min = NS_PER_MS, .max = 600 * NS_PER_S,                                   \
     .text = "how long a run may take, with all that it waits for"}
/* clang-format on */
