/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/record.c - what a flow's conditions saw, for the history: fields of the header section,
 * results of checks, findings. A replay judges other conditions by it.
 */
#include "base/buf.h"
#include "event/event.h"
#include "flow/effects.h"
#include "flow/expression_internal.h"
#include "flow/flow_internal.h"
#include "mail/header.h"

#include <stdlib.h>

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

/* ---- results of checks ---- */

static const unsigned any_check = 1u << NAME_SPF | 1u << NAME_DKIM | 1u << NAME_DKIM_DOMAIN |
                                  1u << NAME_DMARC | 1u << NAME_DMARC_POLICY | 1u << NAME_SCORE;

bool flow_changes_no_field(const struct flow_step *step, struct str name)
{
    (void)step;
    (void)name;
    return false;
}

bool flow_changes_any_field(const struct flow_step *step, struct str name)
{
    (void)step;
    (void)name;
    return true;
}

unsigned flow_block_results(const struct flow_block *block)
{
    return block->changes_field ? block->results : block->run ? any_check : 0;
}

/* As few digits as give the same number again. */
static struct str score_text(double score, struct arena *arena)
{
    struct str text = arena_printf(arena, "%.6g", score);
    return strtod(text.ptr, NULL) == score ? text : arena_printf(arena, "%.17g", score);
}

static struct str value_of(const struct flow_running *running, enum expression_name name)
{
    const struct flow_checks *checks = running->facts.checks;
    struct arena *arena = running->run->arena;
    if (name != NAME_SCORE)
        return expression_fact((int)name, &running->facts, arena);
    return checks->score != 0 ? score_text(checks->score, arena) : STR_EMPTY;
}

/* What the step may have changed in any case; else what has a value and was never told. */
static bool is_due(const struct flow_running *running, enum expression_name name,
                   const struct flow_step *step, struct str *out_value)
{
    unsigned bit = 1u << name;
    bool of_step = (flow_block_results(step->block) & bit) != 0;
    if (!(expression_names[name].flows & 1u << running->flow->type) ||
        (!of_step && (running->told.names & bit)))
        return false;
    *out_value = value_of(running, name);
    return (of_step || out_value->len) && str_find(*out_value, ' ') < 0;
}

struct str flow_record_values(struct flow_running *running, const struct flow_step *step)
{
    enum { VALUES_MAX = 900 };
    struct buf out BUF_CLEANUP;
    buf_init(&out, VALUES_MAX);
    for (enum expression_name name = NAME_SPF; name <= NAME_SCORE; name++) {
        struct str value;
        if (!is_due(running, name, step, &value))
            continue;
        running->told.names |= 1u << name;
        buf_printf(&out, "%s%s=%.*s", out.len ? " " : "", expression_names[name].name,
                   STR_ARG(value));
    }
    return out.overflow ? STR_EMPTY : arena_str(running->run->arena, buf_str(&out));
}

static bool recall_spf(struct str value, struct flow_checks *io_checks)
{
    io_checks->spf_known = value.len > 0;
    for (int i = 0; i <= SPF_PERMERROR; i++) {
        if (!str_equal(value, str_c(spf_result_name((enum spf_result)i))))
            continue;
        io_checks->spf.result = (enum spf_result)i;
        return true;
    }
    return value.len == 0;
}

static bool recall_one(enum expression_name name, struct str value, struct flow_checks *io_checks)
{
    char number[40];
    switch (name) {
    case NAME_SPF:
        return recall_spf(value, io_checks);
    case NAME_DKIM:
        io_checks->dkim = value;
        return true;
    case NAME_DKIM_DOMAIN:
        io_checks->dkim_domain = value;
        return true;
    case NAME_DMARC:
        io_checks->dmarc = value;
        return true;
    case NAME_DMARC_POLICY:
        io_checks->dmarc_policy = value;
        return true;
    case NAME_SCORE:
        io_checks->score =
            str_to_c(value, number, sizeof number) && value.len ? strtod(number, NULL) : 0;
        return true;
    default:
        return false;
    }
}

unsigned flow_recall_values(struct str values, struct flow_checks *io_checks)
{
    unsigned known = 0;
    struct str pair;
    while (values.len && str_split(&values, ' ', &pair)) {
        ptrdiff_t equal = str_find(pair, '=');
        for (enum expression_name name = NAME_SPF; equal > 0 && name <= NAME_SCORE; name++) {
            if (str_equal(str_slice(pair, 0, (size_t)equal), str_c(expression_names[name].name)) &&
                recall_one(name, str_from(pair, (size_t)equal + 1), io_checks))
                known |= 1u << name;
        }
    }
    return known;
}

/* ---- findings ---- */

static bool is_plain(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < ' ' || text.ptr[i] > '~')
            return false;
    return true;
}

size_t flow_record_findings(struct flow_running *running, const struct flow_step *step)
{
    enum { TEXT_SHOWN = 200 };
    const struct flow_effects *effects = &running->verdict->effects;
    size_t count = effects->finding_count - running->told.findings;
    for (size_t i = running->told.findings; i < effects->finding_count; i++) {
        const struct flow_finding *finding = &effects->findings[i];
        struct event_field fields[] = {
            F_C(FLOW_TYPE, flow_type_name(running->flow->type)),
            F_STR(FLOW, running->flow->name),
            F_STR(STEP, step->id),
            F_STR(FINDING, finding->name),
            F_STR(DETAIL, str_slice(finding->text, 0, TEXT_SHOWN)),
            F_BOOL(COMPLETE, is_plain(finding->name)),
            F_STR(RCPT, running->facts.recipient),
        };
        enum { ALL = sizeof fields / sizeof *fields };
        event_emit_fields(EVENT_FLOW_FINDING, fields,
                          running->flow->type == FLOW_RECIPIENT ? ALL : ALL - 1);
    }
    running->told.findings = effects->finding_count;
    return count;
}
