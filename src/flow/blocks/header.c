/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/header.c - adds and removes fields of the header section.
 */
#include "flow/blocks.h"

#include "base/buf.h"
#include "mail/header.h"

enum { FIELD_MAX = 998, NAME_MAX_LEN = 76, HEAD_MAX = 4 * 1024 * 1024 };

struct parameters {
    struct option_texts add;
    struct option_texts remove;
};

static const struct option options[] = {
    {.name = "add",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, add),
     .text = "fields to put on top, as in \"X-Checked: yes\""},
    {.name = "remove",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, remove),
     .text = "names of fields to take out, all of that name"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "header",
    .text = "Adds and removes header fields.",
    .options = options,
    .shorthand = "add",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    {.name = "done", .action = ACTION_NEXT, .text = "always"},
    {.name = NULL},
};

/* ---- checks at load ---- */

static bool name_is_good(struct str name)
{
    bool good = name.len > 0 && name.len <= NAME_MAX_LEN;
    for (size_t i = 0; i < name.len; i++)
        good = good && name.ptr[i] > ' ' && name.ptr[i] < 127 && name.ptr[i] != ':';
    return good;
}

static bool field_is_good(struct str field)
{
    ptrdiff_t colon = str_find(field, ':');
    bool good =
        colon > 0 && field.len <= FIELD_MAX && name_is_good(str_slice(field, 0, (size_t)colon));
    for (size_t i = 0; i < field.len; i++)
        good = good && ((field.ptr[i] >= ' ' && field.ptr[i] < 127) || field.ptr[i] == '\t');
    return good && str_trim(str_from(field, (size_t)colon + 1)).len > 0;
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct config_problem *problem;
    (void)node;
    for (size_t i = 0; i < parameters->add.count; i++) {
        if (field_is_good(parameters->add.items[i]))
            continue;
        problem = flow_problem(compiling, CONFIG_ERROR, "bad-header", parameters->add.places[i],
                               "\"%.*s\" is no header field",
                               STR_ARG(str_slice(parameters->add.items[i], 0, 60)));
        problem->fix = STR("\"Name: value\", ASCII only, at most 998 characters");
    }
    for (size_t i = 0; i < parameters->remove.count; i++) {
        struct str name = parameters->remove.items[i];
        if (!name_is_good(name))
            flow_problem(compiling, CONFIG_ERROR, "bad-header", parameters->remove.places[i],
                         "\"%.*s\" is no name of a header field", STR_ARG(str_slice(name, 0, 60)));
        else if (str_equal_nocase(name, STR("Received")))
            flow_problem(compiling, CONFIG_ERROR, "bad-header", parameters->remove.places[i],
                         "Received stays: loops are found by it");
    }
    if (!parameters->add.count && !parameters->remove.count) {
        problem = flow_problem(compiling, CONFIG_ERROR, "missing-key", step->place,
                               "header has neither add nor remove");
        problem->fix = STR("as in header: { add: \"X-Checked: yes\" }");
    }
}

/* ---- running ---- */

static bool is_removed(const struct parameters *parameters, struct str name)
{
    for (size_t i = 0; i < parameters->remove.count; i++)
        if (str_equal_nocase(parameters->remove.items[i], name))
            return true;
    return false;
}

static enum result run(struct flow_running *running, const struct flow_step *step,
                       unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    struct str own;
    *out_outcome = 0;
    if (step->observe)
        return OK;
    struct str trace = flow_head_split(running, &own);
    struct buf head BUF_CLEANUP;
    buf_init(&head, HEAD_MAX);
    buf_append(&head, trace);
    for (size_t i = 0; i < parameters->add.count; i++) {
        buf_append(&head, parameters->add.items[i]);
        buf_append(&head, STR("\r\n"));
    }
    struct str rest = own;
    struct mail_field field;
    while (mail_header_next(&rest, &field))
        if (!field.name.len || !is_removed(parameters, field.name))
            buf_append(&head, field.raw);
    buf_append(&head, rest); /* the empty line */
    if (head.overflow)
        return fail(err, ERROR_LIMIT, "the header section is over %d bytes", HEAD_MAX);
    flow_head_replace(running, buf_str(&head), trace.len, own.len);
    return OK;
}

static bool changes_field(const struct flow_step *step, struct str name)
{
    const struct parameters *parameters = step->parameters;
    for (size_t i = 0; i < parameters->add.count; i++) {
        struct str field = parameters->add.items[i];
        ptrdiff_t colon = str_find(field, ':');
        if (colon > 0 && str_equal_nocase(str_slice(field, 0, (size_t)colon), name))
            return true;
    }
    return is_removed(parameters, name);
}

const struct flow_block flow_block_header = {
    .name = "header",
    .text = "adds and removes header fields",
    .flows = FLOW_IN_CONTENT,
    .built = true,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = changes_field,
};
