/* SPDX-License-Identifier: Apache-2.0 */
/* flow/lookup_options.h - the rows that the three lookup blocks share. */
#pragma once

struct flow_lookup_times {
    int64_t cache_ns;
    int64_t cache_missing_ns;
    int64_t stale_ns;
};

#define FLOW_LOOKUP_TIME_ROWS(type_, member_, found_, missing_, stale_)                            \
    {.name = "cache",                                                                              \
     .type = OPTION_DURATION,                                                                      \
     .offset = offsetof(type_, member_.cache_ns),                                                  \
     .text = "how long found is believed without asking again; 0s: never",                         \
     .fallback = (found_)},                                                                        \
        {.name = "cache_missing",                                                                  \
         .type = OPTION_DURATION,                                                                  \
         .offset = offsetof(type_, member_.cache_missing_ns),                                      \
         .text = "the same for missing; short, so that new users can be reached soon",             \
         .fallback = (missing_)},                                                                  \
    {                                                                                              \
        .name = "stale", .type = OPTION_DURATION, .offset = offsetof(type_, member_.stale_ns),     \
        .text = "how long past its time found is believed while no answer can be had",             \
        .fallback = (stale_)                                                                       \
    }
