/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/signing_key.h - the section `dkim_keys`: private keys by name, each of a domain and a
 * selector. DKIM signatures and ARC seals are made with them.
 *
 * They are read with the configuration and live as long as it does.
 */
#pragma once

#include "config/option.h"
#include "crypto/sign.h"

struct signing_key {
    struct str name;
    struct str domain;   /* lower-case A-labels */
    struct str selector; /* likewise */
    struct str path;
    bool active;          /* false: it is published and not used, before and after its time */
    struct sign_key *key; /* NULL: a problem was reported */
    struct config_place place;
    const struct config_node *node;
};
struct signing_keys {
    struct signing_key *items;
    size_t count;
};

extern const struct option_table signing_key_options;

/* Bind the section (a map, or NULL) and read the files; problems go to the report. */
void signing_keys_bind(const struct config_node *section, const struct option_context *context,
                       struct signing_keys *out);
/* Read one key's file: blocks. FAILED with a text that a person can use. */
enum result signing_key_read(const char *path, struct sign_key **out_key, bool *out_exposed,
                             struct error *err);

/* The domain whose keys sign for `domain`: itself, or the nearest one above that has active keys;
 * empty if there is none. */
struct str signing_keys_domain(const struct signing_keys *keys, struct str domain);
/* The active key at or behind `*cursor` (start with 0) of exactly that domain; NULL at the end. */
const struct signing_key *signing_keys_next(const struct signing_keys *keys, struct str domain,
                                            size_t *cursor);
