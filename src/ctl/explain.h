/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/explain.h - the parts of `postern explain`, as JSON that is also what is printed. */
#pragma once

#include "ctl/ctl.h"
#include "flow/flow.h"
#include "gateway/settings.h"

/* A flow's rows in one case: { flow, rows: […], may: […] }. */
json_t *explain_flow(const struct flow *flow, const struct flow_facts *facts, unsigned given,
                     struct arena *arena, unsigned *out_verdicts);
void explain_print_flow(const char *title, json_t *flow);

/* The way out of a domain: { name, method, next_hop, tls, retries, … }. `dns`: ask for MX. */
json_t *explain_transport(const struct settings *settings, const struct transport *transport,
                          struct str domain, bool dns, struct arena *arena);
void explain_print_transport(json_t *transport);

json_t *explain_text(struct str text);
