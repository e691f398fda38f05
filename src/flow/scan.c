/* SPDX-License-Identifier: Apache-2.0 */
/* flow/scan.c - what blocks that show a message to a scanner have in common. */
#include "flow/flow_internal.h"

#include "base/map.h"
#include "mail/header.h"

/* What a client that tries again sends again. Our own trace fields, ids and times change. */
uint64_t flow_about(const struct flow_running *running)
{
    const struct flow_facts *facts = &running->facts;
    struct mail_field id = {0};
    (void)mail_header_find(facts->header, STR("Message-ID"), &id);
    const struct str parts[] = {facts->sender, facts->recipient, running->login, id.value};
    uint64_t about = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        about = about * 31 + hash_bytes(parts[i]);
    return about | 1;
}

struct scanner flow_scanner(const struct flow_running *running, const struct server *server)
{
    return (struct scanner){.server = server,
                            .state = running->run->state,
                            .resolver = running->run->resolver,
                            .about = flow_about(running)};
}

bool flow_scan_is_stated(struct flow_running *running, const struct server *server,
                         const struct directory_stated_source **out_source)
{
    if (!directory_is_stated(running->run->directory))
        return false;
    *out_source = directory_stated_scanner(running->run->directory, server->name);
    if (!*out_source)
        running->detail = STR("the scanner gives no answer");
    return true;
}
