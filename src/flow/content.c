/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/content.c - what blocks of content flows do to a message.
 */
#include "flow/flow_internal.h"

#include <string.h>

static struct str join(struct arena *arena, struct str a, struct str b)
{
    char *text = arena_alloc(arena, a.len + b.len + 1);
    memcpy(text, a.ptr, a.len);
    memcpy(text + a.len, b.ptr, b.len);
    return str_of(text, a.len + b.len);
}

void flow_put_on_top(struct flow_running *running, struct str fields)
{
    struct arena *arena = running->run->arena;
    struct mail_content *content = running->run->content;
    bool head_is_header = running->has_new_head || content->body_start > 0;
    content->head = join(arena, fields, content->head);
    running->facts.header =
        head_is_header ? content->head : join(arena, fields, running->facts.header);
    running->facts.size += fields.len;
    if (running->has_new_head)
        running->trace_len += fields.len;
}
