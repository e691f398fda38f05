/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks/subject_tag.c - puts a word before the subject. */
#include "flow/blocks.h"
#include "flow/text.h"
#include "mail/header.h"

enum { TAGGED, THERE };
enum { TAG_MAX = 200, HEAD_MAX = 4 * 1024 * 1024 };

struct parameters {
    struct str text;
};

static const struct option options[] = {
    {.name = "text",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, text),
     .text = "the word, as in \"[SPAM]\"; a blank is put behind it",
     .required = true},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "subject-tag",
    .text = "Puts a word before the subject; a message without one gets one.",
    .options = options,
    .shorthand = "text",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [TAGGED] = {.name = "tagged", .action = ACTION_NEXT, .text = "it stands there now"},
    [THERE] = {.name = "there",
               .key = "there",
               .action = ACTION_NEXT,
               .text = "the subject begins with it already"},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct arena *arena = compiling->context->option.arena;
    struct str text = str_trim(parameters->text);
    struct buf encoded BUF_CLEANUP;
    buf_init(&encoded, 4096);
    if (!text.len || text.len > TAG_MAX || !flow_text_is_clean(text, false)) {
        flow_problem(compiling, CONFIG_ERROR, "bad-header",
                     flow_place_of(node, "text", step->place), "this cannot stand in a subject")
            ->fix = STR("one line of text, at most 200 bytes");
        return;
    }
    flow_text_encode(text, &encoded);
    struct str *prepared = ARENA_NEW(arena, struct str);
    *prepared = arena_str(arena, buf_str(&encoded));
    step->prepared = prepared;
}

/* The first Subject is the one that programs show; blanks stay as they are. */
static void tag_into(struct buf *out, struct str own, struct str tag)
{
    struct str rest = own;
    struct mail_field field;
    bool done = false;
    while (mail_header_next(&rest, &field)) {
        if (done || !str_equal_nocase(field.name, STR("Subject"))) {
            buf_append(out, field.raw);
            continue;
        }
        struct str value = field.value;
        while (value.len && (value.ptr[0] == ' ' || value.ptr[0] == '\t'))
            value = str_from(value, 1);
        buf_printf(out, "Subject: %.*s ", STR_ARG(tag));
        buf_append(out, value);
        buf_append(out, STR("\r\n"));
        done = true;
    }
    if (!done)
        buf_printf(out, "Subject: %.*s\r\n", STR_ARG(tag));
    buf_append(out, rest); /* the empty line */
}

static enum result run(struct flow_running *running, const struct flow_step *step,
                       unsigned *out_outcome, struct error *err)
{
    const struct str *tag = step->prepared;
    struct mail_field field;
    struct str own;
    flow_head_split(running, &own);
    *out_outcome = THERE;
    if (mail_header_find(own, STR("Subject"), &field) && str_starts(str_trim(field.value), *tag))
        return OK;
    *out_outcome = TAGGED;
    if (step->observe)
        return OK;
    struct buf head BUF_CLEANUP;
    buf_init(&head, HEAD_MAX);
    tag_into(&head, own, *tag);
    if (head.overflow)
        return fail(err, ERROR_LIMIT, "the header section is over %d bytes", HEAD_MAX);
    flow_head_set_own(running, buf_str(&head));
    return OK;
}

static bool changes_field(const struct flow_step *step, struct str name)
{
    (void)step;
    return str_equal_nocase(name, STR("Subject"));
}

const struct flow_block flow_block_subject_tag = {
    .name = "subject-tag",
    .text = "puts a word before the subject",
    .flows = FLOW_IN_CONTENT,
    .built = true,
    .breaks_signatures = true,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = changes_field,
};
