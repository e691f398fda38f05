/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/describe.c - the blocks for people and editors: Markdown of the manual, JSON Schema.
 *
 * All of it comes from the rows of blocks and actions.
 */
#include "flow/flow_internal.h"

#include "base/buf.h"

enum { TYPES = FLOW_CONTENT + 1 };

bool flow_block_about(size_t index, struct flow_block_about *out)
{
    const struct flow_block *block = flow_blocks[index];
    if (!block)
        return false;
    *out = (struct flow_block_about){block->name, block->text, block->flows};
    return true;
}

/* ---- manual ---- */

static void describe_parameters(const struct option *options, struct buf *out)
{
    if (options->name)
        buf_append(out, STR("Parameters:\n\n"));
    for (const struct option *option = options; option->name; option++) {
        buf_printf(out, "- `%s`: ", option->name);
        option_print_prose(str_c(option->text), out);
        if (option->fallback)
            buf_printf(out, " (default `%s`)", option->fallback);
        buf_append(out, option->required ? STR(" (required)\n") : STR("\n"));
    }
    if (options->name)
        buf_append_byte(out, '\n');
}

static void describe_outcomes(const struct flow_outcome *outcomes, struct buf *out)
{
    buf_append(out, STR("Outcomes:\n\n"));
    for (const struct flow_outcome *outcome = outcomes; outcome->name; outcome++) {
        buf_printf(out, "- `%s` → `%s`: ", outcome->name, flow_actions[outcome->action].word);
        option_print_prose(str_c(outcome->text), out);
        if (outcome->key)
            buf_printf(out, "; another action with the key `%s`", outcome->key);
        buf_append_byte(out, '\n');
    }
    buf_append_byte(out, '\n');
}

static void describe(const struct flow_block *block, struct buf *out)
{
    buf_printf(out, "## `%s`\n\n", block->name);
    option_print_prose(str_c(block->text), out);
    buf_append(out, STR(". In flows of type"));
    for (int type = FLOW_AUTHENTICATION; type < TYPES; type++)
        if (block->flows & (1u << type))
            buf_printf(out, " %s", flow_type_name((enum flow_type)type));
    if (block->options->shorthand)
        buf_printf(out, ". A value alone stands for `%s`", block->options->shorthand);
    buf_append(out, STR(".\n\n"));
    describe_parameters(block->options->options, out);
    describe_outcomes(block->outcomes, out);
}

bool flow_describe_block(struct str name, struct buf *out)
{
    const struct flow_block *block = flow_block_find(name);
    if (block)
        describe(block, out);
    return block != NULL;
}

void flow_describe_blocks(struct buf *out)
{
    for (size_t i = 0; flow_blocks[i]; i++)
        describe(flow_blocks[i], out);
    buf_append(out, STR("## Names in expressions\n\n"));
    expression_describe(out);
}

/* ---- JSON Schema ---- */

/* Keys that every step may carry, beside its parameters or among them. */
static const char common_properties[] =
    "\"id\":{\"type\":\"string\"},\"when\":{\"type\":[\"string\",\"boolean\"]},"
    "\"observe\":{\"type\":\"boolean\"},\"note\":{\"type\":[\"string\",\"number\"]}";

/* A word, a verdict with parameters, or a branch. */
static void schema_action(enum flow_type type, struct buf *out)
{
    buf_append(out, STR("{\"anyOf\":[{\"enum\":["));
    bool first = true;
    for (int kind = 0; kind < ACTION_COUNT; kind++) {
        if (!flow_actions[kind].word || !(flow_actions[kind].flows & (1u << type)))
            continue;
        buf_printf(out, "%s\"%s\"", first ? "" : ",", flow_actions[kind].word);
        first = false;
    }
    buf_append(out, STR("]},{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"));
    first = true;
    for (int kind = 0; kind < ACTION_COUNT; kind++) {
        if (!flow_actions[kind].word || !(flow_actions[kind].flows & (1u << type)))
            continue;
        buf_printf(out, "%s\"%s\":{}", first ? "" : ",", flow_actions[kind].word);
        first = false;
    }
    buf_printf(out, "}},{\"$ref\":\"#/$defs/%s-steps\"}]}", flow_type_name(type));
}

/* The parameters of a block: rows, outcomes, what every step may carry. */
static void schema_parameters(const struct flow_block *block, enum flow_type type, struct buf *out)
{
    struct buf rows BUF_CLEANUP;
    buf_init(&rows, 1 << 20);
    option_schema_rows(block->options, &rows);
    buf_append(out, STR("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"));
    buf_append(out, str_c(common_properties));
    buf_append(out, rows.len ? STR(",") : STR(""));
    buf_append(out, buf_str(&rows));
    for (const struct flow_outcome *outcome = block->outcomes; outcome->name; outcome++) {
        if (!outcome->key)
            continue;
        buf_printf(out, ",\"%s\":", outcome->key);
        schema_action(type, out);
    }
    buf_append_byte(out, '}');
    option_schema_required(block->options, out);
    buf_append_byte(out, '}');
}

static void schema_block(const struct flow_block *block, enum flow_type type, struct buf *out)
{
    buf_printf(out, ",\"%s\":{\"description\":\"%s\"", block->name, block->text);
    buf_append(out, STR(",\"anyOf\":[{\"type\":\"null\"},"));
    if (option_schema_shorthand(block->options, out))
        buf_append_byte(out, ',');
    schema_parameters(block, type, out);
    buf_append_byte(out, ']');
    buf_append_byte(out, '}');
}

static void schema_steps(enum flow_type type, struct buf *out)
{
    buf_printf(out, "\"%s-steps\":{\"type\":\"array\",\"items\":{\"anyOf\":[{\"enum\":[",
               flow_type_name(type));
    bool first = true;
    for (size_t i = 0; flow_blocks[i]; i++) {
        if (!(flow_blocks[i]->flows & (1u << type)))
            continue;
        buf_printf(out, "%s\"%s\"", first ? "" : ",", flow_blocks[i]->name);
        first = false;
    }
    buf_append(out, STR("]},{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"));
    buf_append(out, str_c(common_properties));
    for (size_t i = 0; flow_blocks[i]; i++)
        if (flow_blocks[i]->flows & (1u << type))
            schema_block(flow_blocks[i], type, out);
    buf_append(out, STR("}}]}}"));
}

void flow_schema_steps(struct buf *out)
{
    for (int type = FLOW_AUTHENTICATION; type < TYPES; type++) {
        if (type)
            buf_append_byte(out, ',');
        schema_steps((enum flow_type)type, out);
    }
}

/* A flow: its steps, or a preset with what that takes. */
void flow_schema_flow(enum flow_type type, struct buf *out)
{
    buf_printf(out,
               "{\"$ref\":\"#/$defs/%s-steps\"},"
               "{\"type\":\"object\",\"required\":[\"preset\"],\"properties\":{\"preset\":",
               flow_type_name(type));
    flow_schema_presets(type, out);
    buf_append(out, STR("}}"));
}

void flow_schema(struct buf *out)
{
    buf_append(out, STR("{\"type\":[\"object\",\"null\"],\"additionalProperties\":false,"
                        "\"properties\":{"));
    for (int type = FLOW_AUTHENTICATION; type < TYPES; type++) {
        buf_printf(out,
                   "%s\"%s\":{\"type\":[\"object\",\"null\"],\"additionalProperties\":"
                   "{\"anyOf\":[",
                   type ? "," : "", flow_type_name((enum flow_type)type));
        flow_schema_flow((enum flow_type)type, out);
        buf_append(out, STR("]}}"));
    }
    buf_append(out, STR("}}"));
}
