/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/head.c - changes of a message's header section.
 *
 * The body is shared and never written to: the content gets a whole new header section as its head,
 * and its body begins behind the old one. Trace fields that stand in the head are kept above.
 */
#include "flow/flow_internal.h"

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
    if (content->body_start == 0)
        content->body_start = own_len;
    content->head = arena_str(running->run->arena, head);
    running->has_new_head = true;
    running->trace_len = trace_len;
    running->facts.header = content->head;
    running->facts.size = mail_content_size(content);
}

void flow_head_prepend(struct flow_running *running, struct str fields)
{
    struct mail_content *content = running->run->content;
    struct arena *arena = running->run->arena;
    bool whole = running->has_new_head || content->body_start > 0;
    content->head = arena_printf(arena, "%.*s%.*s", STR_ARG(fields), STR_ARG(content->head));
    running->facts.header =
        whole ? content->head
              : arena_printf(arena, "%.*s%.*s", STR_ARG(fields), STR_ARG(running->facts.header));
    if (running->has_new_head)
        running->trace_len += fields.len;
    running->facts.size = mail_content_size(content);
}
