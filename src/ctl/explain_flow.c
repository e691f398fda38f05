/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/explain_flow.c - the rows of a flow, printed. */
#include "ctl/explain.h"

#include <stdio.h>
#include <string.h>

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
    /* what is printed below is for the address as it came */
    if (strcmp(ctl_text(row, "block"), "rewrite") == 0 &&
        strcmp(ctl_text(row, "outcome"), "rewritten") == 0)
        printf("%*s(%s: ask for the new address, too)\n", 32, "", ctl_text(row, "text"));
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
