/* SPDX-License-Identifier: Apache-2.0 */
/* flow/seven_bit.c - a message as 7-bit text, before it is signed. */
#include "mail/seven_bit.h"

#include "flow/flow_internal.h"

/* The trace fields above are ASCII, and stay as they are. */
static void take_form(struct flow_running *running, const struct mail_content *form)
{
    struct mail_content *content = running->run->content;
    struct flow_effects *effects = &running->verdict->effects;
    struct str own;
    size_t trace_len = flow_head_split(running, &own).len;
    flow_body_keep(running, form->body);
    *content = *form;
    running->has_new_head = true;
    running->has_new_body = true;
    running->trace_len = trace_len;
    running->mime = NULL;
    running->facts.header = content->head;
    running->facts.size = mail_content_size(content);
    effects->seven_bit = true;
    effects->has_8bit = false;
}

enum result flow_body_make_seven_bit(struct flow_running *running, struct error *err)
{
    const struct mail_content *content = running->run->content;
    struct mail_content form = {0};
    struct error over;
    const char *why;
    bool has = false;
    if (mail_has_eight_bit(content, &has, err) != OK)
        return FAILED;
    if (!has ||
        flow_spend(running, FLOW_BUDGET_MEMORY, 4 * mail_content_size(content), &over) != OK)
        return OK;
    if (mail_to_seven_bit(running->run->arena, content, &form, &why, err) != OK)
        return FAILED;
    if (why)
        return OK;
    if (form.head.len)
        take_form(running, &form);
    else
        body_unref(form.body);
    return OK;
}
