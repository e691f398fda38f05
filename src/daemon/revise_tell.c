/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/revise_tell.h"

#include "base/clock.h"
#include "daemon/child_internal.h"
#include "gateway/settings.h"

#include <stdio.h>

struct revisions_state revise_state(const struct child *child)
{
    return child->revisions ? revisions_state(child->revisions) : (struct revisions_state){0};
}

void revise_tell(enum event_type type, unsigned number, struct str actor, struct str reason)
{
    char text[16];
    snprintf(text, sizeof text, "r%u", number);
    event_emit(type, F_C(REVISION, text), F_STR(ACTOR, actor), F_STR(WHY, reason));
}

/* When it is taken back by itself, or empty. */
static struct str guard_of(const struct child *child, char text[TIME_RFC3339_SIZE])
{
    struct revisions_state state = revise_state(child);
    return state.pending && state.confirm_by_ns ? clock_format_rfc3339(state.confirm_by_ns, text)
                                                : STR_EMPTY;
}

void revise_tell_shared(const struct child *child, struct str actor, struct str reason)
{
    char text[16], from[16], guard[TIME_RFC3339_SIZE];
    struct revisions_state state = revise_state(child);
    snprintf(text, sizeof text, "r%u", state.pending);
    snprintf(from, sizeof from, "r%u", child->settings->revision);
    event_emit(EVENT_CONFIG_SHARED, F_C(REVISION, text), F_C(FROM_REV, from), F_STR(ACTOR, actor),
               F_STR(WHY, reason), F_INT(VALUE, state.share), F_STR(GUARD, guard_of(child, guard)));
}

void revise_tell_applied(struct child *child, struct str actor, struct str reason)
{
    char text[16], from[16] = "", guard[TIME_RFC3339_SIZE];
    snprintf(text, sizeof text, "r%u", child->settings->revision);
    if (child->told_revision)
        snprintf(from, sizeof from, "r%u", child->told_revision);
    child->told_revision = child->settings->revision;
    event_emit(EVENT_CONFIG_APPLIED, F_C(REVISION, text), F_C(FROM_REV, from),
               F_C(FILE, child->options->config_path), F_STR(ACTOR, actor), F_STR(WHY, reason),
               F_STR(GUARD, guard_of(child, guard)));
}
