/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/dkim.h - what the verbs about keys and domains share. */
#pragma once

#include "ctl/ctl.h"
#include "fiber/fiber.h"

struct dns;
struct settings;
struct sign_key;
struct signing_key;

/* The settings of the configuration that the arguments name, or of the usual one; NULL: said why.
 * `*out_path` (may be NULL) is its path. */
struct settings *ctl_dkim_settings(struct ctl *ctl, const char **out_path);

enum ctl_dkim_shown {
    SHOWN_PUBLISHED,
    SHOWN_MISSING,
    SHOWN_ANOTHER,
    SHOWN_REVOKED,
    SHOWN_NO_ANSWER
};
extern const char *const ctl_dkim_shown_words[];
/* What DNS shows in place of the key. */
enum ctl_dkim_shown ctl_dkim_look(struct dns *dns, const struct signing_key *key) MAY_YIELD;

/* The record as it stands in a zone file, `text` in strings of at most 255; in the arena. */
const char *ctl_zone_line(struct arena *arena, struct str name, struct str text);
/* The text of a key's record; NULL: said why. */
const char *ctl_dkim_record(struct arena *arena, const struct sign_key *key);
