/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/flow_test_given.h - the answers that a file of flow tests states. */
#pragma once

#include "config/option.h"
#include "content/resolver.h"
#include "directory/stated.h"
#include "gateway/settings.h"

struct flow_test_name { /* of the stated DNS */
    struct str name;
    bool down;
    struct option_texts txt, a, mx;
    struct net_ip *ips; /* of `a` */
};
struct flow_test_answers {
    struct directory_stated directory;
    bool has_dns; /* false: DNS gives no answer at all */
    const struct flow_test_name *names;
    size_t name_count;
};

/* Read `node` (NULL: nothing) on top of `base` (may be NULL). False: problems were reported. */
bool flow_test_given(const struct config_node *node, const struct settings *settings,
                     const struct option_context *context, const struct flow_test_answers *base,
                     struct flow_test_answers *out);
/* The stated DNS; a name that is not stated does not exist. `answers` is borrowed. */
struct resolver flow_test_resolver(const struct flow_test_answers *answers);
/* The `given` of a file of flow tests, for all of its tests. */
bool flow_test_given_file(const char *path, const struct settings *settings,
                          const struct option_context *context, struct flow_test_answers *out);
/* "there is no WHAT "name"", with the nearest of the names. */
void flow_test_unknown(const struct option_context *context, const char *what, struct str name,
                       struct config_place place, const struct str *names, size_t count);
/* The text of a file; false: reported. */
bool flow_test_slurp(const char *path, const struct option_context *context, struct str *out);
