/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/block.c - `postern block …`: what a step of a flow can be, from the blocks' own rows. */
#include "base/buf.h"
#include "config/report.h"
#include "ctl/list.h"
#include "flow/flow.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 1024 * 1024, NEAR_MAX = 128 };

static void print_block_json(const struct ctl *ctl, const struct flow_block_about *block)
{
    json_t *flows = json_array();
    for (int type = FLOW_AUTHENTICATION; type <= FLOW_CONTENT; type++)
        if (block->flows & (1u << type))
            json_array_append_new(flows, json_string(flow_type_name((enum flow_type)type)));
    json_t *one =
        json_pack("{s:s, s:o, s:s}", "block", block->name, "flows", flows, "text", block->text);
    ctl_print_item(ctl, one, NULL);
    json_decref(one);
}

int ctl_block_list(struct ctl *ctl)
{
    ctl_arguments(ctl, 0, 0);
    struct flow_block_about block;
    for (size_t i = 0; flow_block_about(i, &block); i++) {
        if (ctl->json) {
            print_block_json(ctl, &block);
            continue;
        }
        printf("%-14s %c%c%c  %s\n", block.name,
               block.flows & (1u << FLOW_AUTHENTICATION) ? 'a' : '-',
               block.flows & (1u << FLOW_RECIPIENT) ? 'r' : '-',
               block.flows & (1u << FLOW_CONTENT) ? 'c' : '-', block.text);
    }
    if (!ctl->json)
        printf("\na, r, c: in authentication, recipient, content flows. More: postern block doc "
               "NAME\n");
    return CTL_YES;
}

static int unknown_block(const char *name)
{
    struct str known[NEAR_MAX];
    struct flow_block_about block;
    size_t count = 0;
    while (count < NEAR_MAX && flow_block_about(count, &block))
        known[count++] = str_c(block.name);
    struct str near = config_nearest(str_c(name), known, count);
    fprintf(stderr, "postern: there is no block ");
    for (const char *at = name; *at; at++)
        fputc(*at >= 32 && *at < 127 ? *at : '?', stderr);
    if (near.len)
        fprintf(stderr, "; did you mean %.*s?", STR_ARG(near));
    fprintf(stderr, "\n");
    return CTL_NO;
}

int ctl_block_doc(struct ctl *ctl)
{
    ctl_arguments(ctl, 1, 1);
    struct buf text BUF_CLEANUP;
    buf_init(&text, TEXT_MAX);
    if (!flow_describe_block(str_c(ctl->argv[0]), &text))
        return unknown_block(ctl->argv[0]);
    if (ctl->json)
        ctl_print_page(ctl, "block", ctl->argv[0], buf_str(&text));
    else
        ctl_print_markdown(buf_str(&text));
    return CTL_YES;
}
