/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/check.h - `postern check --live`: the backends of a configuration are asked, too.
 */
#pragma once

#include "ctl/ctl.h"
#include "gateway/settings.h"

#include "content/resolver.h"

struct state;

/* Ask every backend once, print a line a question, and report what is wrong. No mail is sent.
 * FAILED: nothing could be asked. */
enum result check_live(struct ctl *ctl, const struct settings *settings,
                       struct config_report *report, struct error *err);

/* Does the server speak, in its protocol? *out_words is its greeting, or what stands for it; in
 * `arena`. FAILED: no endpoint does within the server's time. LDAP is not for this. */
enum result check_ping(const struct server *server, const struct resolver *resolver,
                       struct state *state, struct arena *arena, struct str *out_words,
                       struct error *err) MAY_YIELD;
/* Does clamd find the test virus that every scanner knows? *out_name: what it calls it. */
enum result check_test_virus(const struct server *server, const struct resolver *resolver,
                             struct state *state, struct arena *arena, bool *out_found,
                             struct str *out_name, struct error *err) MAY_YIELD;
