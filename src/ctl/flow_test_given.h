/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/flow_test_given.h - the answers that a file of flow tests states. */
#pragma once

#include "config/option.h"
#include "directory/stated.h"
#include "gateway/settings.h"

/* Read `node` (NULL: nothing) on top of `base` (may be NULL). False: problems were reported. */
bool flow_test_given(const struct config_node *node, const struct settings *settings,
                     const struct option_context *context, const struct directory_stated *base,
                     struct directory_stated *out);
/* The `given` of a file of flow tests, for all of its tests. */
bool flow_test_given_file(const char *path, const struct settings *settings,
                          const struct option_context *context, struct directory_stated *out);
/* "there is no WHAT "name"", with the nearest of the names. */
void flow_test_unknown(const struct option_context *context, const char *what, struct str name,
                       struct config_place place, const struct str *names, size_t count);
/* The text of a file; false: reported. */
bool flow_test_slurp(const char *path, const struct option_context *context, struct str *out);
