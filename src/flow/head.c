/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/head.c - changes of a message's header section.
 *
 * The body is shared and never written to: the content gets a whole new header section as its head,
 * and its body begins behind the old one. Trace fields that stand in the head are kept above.
 */
#include "flow/flow_internal.h"

#include <string.h>

struct str flow_head_split(const struct flow_running *running, struct str *out_own)
{
    const struct mail_content *content = running->run->content;
    struct str header = running->facts.header;
    size_t trace_len = 0;
    if (running->has_new_head)
        trace_len = running->trace_len;
    else if (content->body_start == 0 && str_starts(header, content->head))
        trace_len = content->head.len;
    *out_own = str_from(header, trace_len);
    return str_slice(header, 0, trace_len);
}

void flow_head_replace(struct flow_running *running, struct str head, size_t trace_len,
                       size_t own_len)
{
    struct mail_content *content = running->run->content;
    if (content->body_start == 0 && !running->has_new_body)
        content->body_start = own_len;
    content->head = arena_str(running->run->arena, head);
    running->has_new_head = true;
    running->trace_len = trace_len;
    running->facts.header = content->head;
    running->facts.size = mail_content_size(content);
}

/* Header sections may hold any octet, NUL too. */
static struct str join(struct arena *arena, struct str a, struct str b)
{
    char *text = arena_alloc(arena, a.len + b.len + 1);
    memcpy(text, a.ptr, a.len);
    memcpy(text + a.len, b.ptr, b.len);
    return str_of(text, a.len + b.len);
}

void flow_head_prepend(struct flow_running *running, struct str fields)
{
    struct mail_content *content = running->run->content;
    struct arena *arena = running->run->arena;
    bool whole = running->has_new_head || content->body_start > 0;
    content->head = join(arena, fields, content->head);
    running->facts.header = whole ? content->head : join(arena, fields, running->facts.header);
    if (running->has_new_head)
        running->trace_len += fields.len;
    running->facts.size = mail_content_size(content);
}

void flow_head_set_own(struct flow_running *running, struct str own)
{
    struct str old;
    struct str trace = flow_head_split(running, &old);
    flow_head_replace(running, join(running->run->arena, trace, own), trace.len, old.len);
}
