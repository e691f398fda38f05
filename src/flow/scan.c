/* SPDX-License-Identifier: Apache-2.0 */
/* flow/scan.c - what blocks that show a message to a scanner have in common. */
#include "flow/flow_internal.h"

struct scanner flow_scanner(const struct flow_running *running, const struct server *server)
{
    return (struct scanner){
        .server = server, .state = running->run->state, .resolver = running->run->resolver};
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
