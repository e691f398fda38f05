/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/explanation.h - what would become of a message, by the configuration alone, as JSON.
 *
 * Nobody is asked and nothing is sent. Where the answer of a backend or a fact that was not given
 * decides, all that can come of it is told.
 */
#pragma once

#include "flow/flow.h"
#include "gateway/settings.h"

#include <jansson.h>

struct explanation_question {
    struct str address;
    bool has_from;
    struct str from;     /* "" for <> */
    struct str client;   /* empty: not given */
    struct str user;     /* empty: nobody logs in */
    struct str listener; /* empty: the one that fits */
    bool tls;
    bool dns; /* ask for MX, on a loop of this thread's own; blocks */
};

/* NULL: the question cannot be understood, which `err` says. */
json_t *explanation_make(const struct settings *settings,
                         const struct explanation_question *question, struct arena *arena,
                         struct error *err);
/* The way out of a domain: { name, method, next_hop, tls, retries, … }. */
json_t *explanation_transport(const struct settings *settings, const struct transport *transport,
                              struct str domain, bool dns, struct arena *arena);
