/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/secret.h - a password or a key in a file of its own: never in the configuration itself.
 */
#pragma once

#include "config/option.h"

/*
 * The first line of the file, in memory that is wiped when the context's arena goes. Problems
 * (unreadable, no single line, readable by every user: a warning) stand at `node`; `out` is left as
 * it was then, and so it is without a node or a path.
 */
void secret_read(struct str path, const struct config_node *node,
                 const struct option_context *context, struct str *out);
