/* SPDX-License-Identifier: Apache-2.0 */
/* config/option_internal.h - what the files of the binder share. */
#pragma once

#include "config/option.h"

/* Strict forms; false: not in this form. */
bool option_parse_size(struct str text, uint64_t *out_bytes);
bool option_parse_int(struct str text, int64_t *out);
bool option_parse_decimal(struct str text, double *out);
bool option_parse_bool(struct str text, bool *out);

/* What to write instead of `text`, as a sentence in `arena`. */
struct str option_suggest_duration(struct arena *arena, struct str text);
struct str option_suggest_size(struct arena *arena, struct str text);
struct str option_suggest_rate(struct arena *arena, struct str text);

/* Is the node one value (not a list, map or nothing)? If not, the problem is reported. */
bool option_is_scalar(const struct config_node *node, const struct option_context *context,
                      const char *wanted);
struct config_problem *option_problem(const struct option_context *context, const char *code,
                                      const struct config_node *node, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
