/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/record.c - what a content flow's conditions saw of the header section, for the history: a
 * replay judges other conditions on the same fields by it.
 */
#include "event/event.h"
#include "flow/expression_internal.h"
#include "flow/flow_internal.h"
#include "mail/header.h"

/* ---- when it is compiled: the fields that conditions name ---- */

static void add_field(struct flow *flow, struct arena *arena, struct str name)
{
    for (size_t i = 0; i < flow->field_count; i++)
        if (str_equal_nocase(flow->fields[i], name))
            return;
    if (flow->field_count == FLOW_FIELDS_MAX)
        return;
    if (!flow->fields)
        flow->fields = arena_alloc_array(arena, FLOW_FIELDS_MAX, sizeof *flow->fields);
    flow->fields[flow->field_count++] = name;
}

static void collect(struct flow *flow, struct arena *arena, const struct expression *node)
{
    if (!node)
        return;
    if (node->op == EXPRESSION_OP_NAME && node->name == NAME_HEADER)
        add_field(flow, arena, node->text);
    collect(flow, arena, node->left);
    collect(flow, arena, node->right);
}

static void collect_steps(struct flow *flow, struct arena *arena, const struct flow_steps *steps)
{
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        bool truth;
        collect(flow, arena, step->when);
        for (unsigned k = 0; k < step->outcome_count; k++) {
            if (step->block->condition)
                collect(flow, arena, step->block->condition(step, k, &truth));
            collect_steps(flow, arena, &step->actions[k].branch);
        }
    }
}

void flow_collect_fields(struct flow *flow, struct arena *arena)
{
    if (flow->type == FLOW_CONTENT)
        collect_steps(flow, arena, &flow->steps);
}

/* ---- when it runs ---- */

/* A value that cannot be told as it is, is not told in part: a condition would be misjudged. */
static void tell(const struct flow_running *running, struct str name)
{
    enum { VALUE_MAX = 900 };
    const struct flow_run *run = running->run;
    struct mail_field field;
    struct str value = STR_EMPTY;
    if (mail_header_find(running->facts.header, name, &field))
        value = mail_field_text(run->arena, &field);
    bool whole = value.len <= VALUE_MAX && str_is_utf8(value) && !str_has_nul(value) &&
                 !(run->hides_subject && str_equal_nocase(name, STR("Subject")));
    event_emit(EVENT_MESSAGE_HEADER, F_STR(FLOW, running->flow->name), F_STR(FIELD, name),
               F_STR(VALUE, whole ? value : STR_EMPTY), F_BOOL(COMPLETE, whole));
}

static bool has_field(const struct flow *flow, struct str name)
{
    for (size_t i = 0; i < flow->field_count; i++)
        if (str_equal_nocase(flow->fields[i], name))
            return true;
    return false;
}

void flow_record_fields(const struct flow_running *running)
{
    const struct flow *flow = running->flow;
    const struct flow_run *run = running->run;
    for (size_t i = 0; i < flow->field_count; i++)
        tell(running, flow->fields[i]);
    for (size_t i = 0; i < run->record_field_count && i < FLOW_FIELDS_MAX; i++)
        if (!has_field(flow, run->record_fields[i]))
            tell(running, run->record_fields[i]);
}
