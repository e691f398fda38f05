/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/dkim.h - what the verbs about keys and domains share. */
#pragma once

#include "ctl/ctl.h"
#include "fiber/fiber.h"

struct settings;
struct sign_key;

/* The settings of the configuration that the arguments name, or of the usual one; NULL: said why.
 * `*out_path` (may be NULL) is its path. */
struct settings *ctl_dkim_settings(struct ctl *ctl, const char **out_path);

/* Where there are no keys at all, say so: an empty list looks like a fault. */
bool ctl_dkim_tell_none(const struct settings *settings);

/* The text of a key's record; NULL: said why. */
const char *ctl_dkim_record(struct arena *arena, const struct sign_key *key);
