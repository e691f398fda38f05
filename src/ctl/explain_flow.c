/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/explain.h"

#include <stdio.h>
#include <string.h>

json_t *explain_text(struct str text)
{
    json_t *value = json_stringn(text.ptr ? text.ptr : "", text.len);
    return value ? value : json_string("(not UTF-8)");
}

json_t *explain_flow(const struct flow *flow, const struct flow_facts *facts, unsigned given,
                     struct arena *arena, unsigned *out_verdicts)
{
    struct flow_explanation explanation;
    json_t *object = json_object();
    json_t *rows = json_array();
    json_t *may = json_array();
    flow_explain(flow, facts, given, arena, &explanation);
    for (size_t i = 0; i < explanation.count; i++) {
        const struct flow_explained *one = &explanation.rows[i];
        json_t *row =
            json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:b}", "depth", (int)one->depth, "block",
                      one->block, "condition", one->condition, "outcome", one->outcome, "text",
                      one->text, "action", one->action, "observed", one->observed);
        json_object_set_new(row, "step", explain_text(one->step));
        json_object_set_new(row, "reply", explain_text(one->reply));
        json_array_append_new(rows, row);
    }
    for (int kind = FLOW_ACCEPT; kind <= FLOW_DISCARD; kind++) {
        if (explanation.verdicts & (1u << kind))
            json_array_append_new(may,
                                  json_string(flow_verdict_name((enum flow_verdict_kind)kind)));
    }
    json_object_set_new(object, "flow", explain_text(flow_name(flow)));
    json_object_set_new(object, "rows", rows);
    json_object_set_new(object, "may", may);
    *out_verdicts = explanation.verdicts;
    return object;
}

static void print_outcome(json_t *row)
{
    printf("-> %s", ctl_text(row, "action"));
    if (ctl_text(row, "reply")[0]) {
        printf("  ");
        ctl_print_text(ctl_text(row, "reply"));
    }
    if (json_is_true(json_object_get(row, "observed")))
        printf("  (observed only: goes on)");
    printf("\n");
}

/* The step is named before its first outcome only. */
static void print_row(json_t *row, const char *previous)
{
    const char *step = ctl_text(row, "step");
    const char *condition = ctl_text(row, "condition");
    int indent = 2 + 2 * (int)ctl_number(row, "depth");
    if (!step[0]) {
        printf("%*s%s ", indent, "", ctl_text(row, "text"));
        print_outcome(row);
        return;
    }
    if (strcmp(condition, "false") == 0) {
        printf("%*s%-18s skipped: its condition is false\n", indent, "", step);
        return;
    }
    if (strcmp(step, previous) != 0 && strcmp(condition, "open") == 0)
        printf("%*s%-18s if its condition holds, else goes on:\n", indent, "", step);
    bool name_it = strcmp(step, previous) != 0 && strcmp(condition, "open") != 0;
    printf("%*s%-18s %-10s ", indent, "", name_it ? step : "", ctl_text(row, "outcome"));
    print_outcome(row);
}

void explain_print_flow(const char *title, json_t *flow)
{
    const char *previous = "";
    size_t i;
    json_t *row;
    printf("%s flow %s\n", title, ctl_text(flow, "flow"));
    json_array_foreach(json_object_get(flow, "rows"), i, row)
    {
        print_row(row, previous);
        previous = ctl_text(row, "step");
    }
}
