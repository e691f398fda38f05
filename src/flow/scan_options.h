/* SPDX-License-Identifier: Apache-2.0 */
/* flow/scan_options.h - the rows that blocks share which ask a server about a message; each in a
 * struct parameters. */
#pragma once

/* clang-format off */
#define FLOW_SCAN_SERVER_ROW(text_)                                                                \
    {.name = "server", .type = OPTION_REFERENCE, .offset = offsetof(struct parameters, server),    \
     .text = (text_), .required = true, .refers_to = "servers"}
#define FLOW_SCAN_SIZE_ROW(fallback_, text_)                                                       \
    {.name = "max_size", .type = OPTION_SIZE, .offset = offsetof(struct parameters, max_size),     \
     .text = (text_), .fallback = (fallback_), .min = 1024, .max = INT64_C(4) << 30}
/* clang-format on */
