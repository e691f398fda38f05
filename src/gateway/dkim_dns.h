/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/dkim_dns.h - keys that sign, beside what DNS shows of them. */
#pragma once

#include "base/arena.h"
#include "fiber/fiber.h"

struct dns;
struct sign_key;
struct signing_key;

enum dkim_shown {
    DKIM_SHOWN_PUBLISHED,
    DKIM_SHOWN_MISSING,
    DKIM_SHOWN_ANOTHER,
    DKIM_SHOWN_REVOKED,
    DKIM_SHOWN_NO_ANSWER
};
extern const char *const dkim_shown_words[];
/* What DNS shows in place of the key. */
enum dkim_shown dkim_dns_look(struct dns *dns, const struct signing_key *key) MAY_YIELD;

/* The record as it stands in a zone file, `text` in strings of at most 255; in the arena. */
const char *dkim_dns_zone_line(struct arena *arena, struct str name, struct str text);
/* The text of a key's record, in the arena; NULL: failed. */
const char *dkim_dns_record(struct arena *arena, const struct sign_key *key, struct error *err);
