/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/expression_fuzz.c - any text as an expression: parsed, judged and evaluated.
 *
 * The first byte chooses the type of flow.
 */
#include "flow/expression.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mail_recipient recipient = {.address = {"ann@example.org", 15},
                                          .domain = {"example.org", 11}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_report report;
    struct net_network network;
    struct str text = STR("@example.com");
    if (size == 0)
        return 0;
    struct arena *arena = arena_new(0);
    config_report_init(&report, arena);
    check(net_network_parse(STR("192.0.2.0/24"), &network));
    struct flow_list list = {.name = STR("office"),
                             .networks = &network,
                             .network_count = 1,
                             .texts = &text,
                             .text_count = 1};
    struct flow_compile_context context = {
        .option = {.arena = arena, .report = &report}, .lists = &list, .list_count = 1};
    struct config_node node = {.kind = CONFIG_SCALAR,
                               .place = {.line = 1, .column = 1, .length = 1},
                               .text = str_of((const char *)data + 1, size - 1)};
    const struct expression *expression =
        expression_parse(&node, (enum flow_type)(data[0] % 3), &context);
    check((expression != NULL) == (report.errors == 0));
    if (expression) {
        struct flow_facts facts = {.helo = STR("host.example.com"),
                                   .sender = STR("friend@example.net"),
                                   .user = STR_EMPTY,
                                   .recipients = &recipient,
                                   .recipient_count = 1,
                                   .header = STR("Subject: a\r\n b\r\n\r\n")};
        struct expression_knowledge known = {.stranger = true, .listener = STR("inbound")};
        struct error err;
        bool value;
        enum expression_truth truth = expression_judge(expression, &known);
        facts.listener = known.listener;
        /* what is proven for every stranger holds for this one */
        if (expression_eval(expression, &facts, arena, &value, &err) == OK &&
            truth != EXPRESSION_UNDECIDED)
            check(value == (truth == EXPRESSION_TRUE));
    }
    arena_free(arena);
    return 0;
}
