/* SPDX-License-Identifier: Apache-2.0 */
#include "config/option.h"
#include "spool/spool.h"

static const struct option options[] = {
    {.name = "path",
     .type = OPTION_PATH,
     .offset = offsetof(struct spool_settings, path),
     .text = "Folder of the queue; on a file system of its own if you can.",
     .fallback = "/var/spool/postern",
     .reload = RELOAD_RESTART},
    {.name = "segment_size",
     .type = OPTION_SIZE,
     .offset = offsetof(struct spool_settings, segment_size),
     .text = "Size of a log file; smaller by itself on a small file system.",
     .fallback = "64M",
     .min = 1024 * 1024,
     .max = INT64_C(1) << 30,
     .reload = RELOAD_RESTART},
    {.name = "free_space",
     .type = OPTION_SIZE,
     .offset = offsetof(struct spool_settings, free_bytes_floor),
     .text = "Under so much free space mail is answered 452; 0: 256M, or 5 % of a small file "
             "system.",
     .fallback = "0",
     .reload = RELOAD_RESTART},
    {.name = "free_inodes",
     .type = OPTION_INT,
     .offset = offsetof(struct spool_settings, free_inodes_floor),
     .text = "Under so many free inodes mail is answered 452.",
     .fallback = "16",
     .reload = RELOAD_RESTART},
    {.name = "state_delay",
     .type = OPTION_DURATION,
     .offset = offsetof(struct spool_settings, state_delay_ns),
     .text = "Results of deliveries are on stable storage after this long at latest.",
     .fallback = "50ms",
     .min = NS_PER_MS,
     .max = NS_PER_S * 10,
     .reload = RELOAD_RESTART},
    {.name = NULL},
};

const struct option_table spool_options = {
    .name = "spool",
    .text = "Where accepted mail is kept.",
    .options = options,
    .shorthand = "path",
    .size = sizeof(struct spool_settings),
};
