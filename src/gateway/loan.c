/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/loan.c - one place for what sessions, queued content and delivery lend to flows. */
#include "gateway/loan.h"

#include "gateway/plan.h"
#include "gateway/settings.h"
#include "gateway/worker.h"

void loan_init(struct loan *loan, const struct worker *worker, const struct settings *settings,
               struct arena *arena, const struct flow_facts *facts)
{
    const struct gateway *gateway = worker->gateway;
    loan->resolver = resolver_of_dns(worker->dns);
    loan->ways = plan_ways(settings);
    loan->run = (struct flow_run){.arena = arena,
                                  .resolver = &loan->resolver,
                                  .hostname = settings->hostname,
                                  .directory = worker->directory,
                                  .state = gateway->state,
                                  .facts = facts,
                                  .limits = &settings->content.limits,
                                  .unpacker = gateway->options.unpacker,
                                  .ways = &loan->ways,
                                  .record_fields = settings->events.headers.items,
                                  .record_field_count = settings->events.headers.count,
                                  .hides_subject = !settings->events.subjects,
                                  .http = gateway->http};
}
