/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/match_replay.c - what a `match` would say of a message that is gone, by what other
 * steps `match` said of it: which pattern fitted, and which were looked for in vain.
 */
#include "flow/blocks/match.h"

#include "base/map.h"

enum { PATTERN_SHOWN = 60 };

/* What is known of one kind. */
struct kind {
    const struct match_patterns *wanted;
    bool fits;          /* one of the wanted ones does */
    struct map in_vain; /* patterns that fit nowhere */
};

static bool is_wanted(const struct match_patterns *wanted, struct str pattern)
{
    size_t count = 0;
    const struct str *texts = wanted->set ? pattern_set_texts(wanted->set, &count) : NULL;
    for (size_t i = 0; i < count; i++)
        if (str_equal(texts[i], pattern))
            return true;
    return false;
}

/* One of these fitted, and it is not known which. */
static bool all_are_wanted(const struct match_patterns *wanted, const struct match_patterns *former)
{
    bool all = former->given.count > 0 && !former->has_file;
    for (size_t i = 0; all && i < former->given.count; i++)
        all = is_wanted(wanted, former->given.items[i]);
    return all;
}

/* Those of a file may have been others. */
static void learn_in_vain(struct kind *kind, const struct match_patterns *former)
{
    for (size_t i = 0; i < former->given.count; i++)
        map_put(&kind->in_vain, former->given.items[i], kind);
}

static void learn(struct kind *header, struct kind *body, const struct flow_answer *answer)
{
    const struct match_prepared *former = answer->step->prepared;
    bool two = former->header.set && former->body.set;
    struct kind *last = former->body.set ? body : header; /* whose pattern the detail is */
    bool body_missed = str_equal(answer->detail, STR(MATCH_NO_BODY));
    bool header_missed = str_equal(answer->detail, STR(MATCH_NO_HEADER));
    if (answer->outcome == MATCH_MATCHED) {
        last->fits |= answer->detail.len && is_wanted(last->wanted, answer->detail);
        if (two)
            header->fits |= all_are_wanted(header->wanted, &former->header);
    } else if (answer->outcome == MATCH_UNMATCHED) {
        /* told without a detail before there was one: without a condition it was looked for */
        bool old = !answer->detail.len && !former->when && !two;
        if (header_missed || (old && former->header.set))
            learn_in_vain(header, &former->header);
        if (body_missed || (old && former->body.set))
            learn_in_vain(body, &former->body);
        if (two && body_missed)
            header->fits |= all_are_wanted(header->wanted, &former->header);
    }
}

/* *out_new: a pattern that nobody looked for. */
static enum expression_truth judge(const struct kind *kind, struct str *out_new)
{
    size_t count = 0;
    const struct str *texts =
        kind->wanted->set ? pattern_set_texts(kind->wanted->set, &count) : NULL;
    if (kind->fits || !texts)
        return EXPRESSION_TRUE;
    for (size_t i = 0; i < count; i++) {
        if (map_get(&kind->in_vain, texts[i]))
            continue;
        *out_new = texts[i];
        return EXPRESSION_UNDECIDED;
    }
    return EXPRESSION_FALSE;
}

static struct str name_missing(enum expression_truth header, struct str pattern,
                               struct arena *arena)
{
    return arena_printf(arena, "whether the %s pattern \"%.*s\"%s fits",
                        header == EXPRESSION_UNDECIDED ? "header" : "body",
                        STR_ARG(str_slice(pattern, 0, PATTERN_SHOWN)),
                        pattern.len > PATTERN_SHOWN ? "…" : "");
}

bool match_infer(const struct flow_step *step, const struct flow_answer *answers, size_t count,
                 const struct expression_knowledge *known, struct arena *arena,
                 unsigned *out_outcome, struct str *out_missing)
{
    const struct match_prepared *prepared = step->prepared;
    struct kind header = {.wanted = &prepared->header}, body = {.wanted = &prepared->body};
    struct str in_header = STR_EMPTY, in_body = STR_EMPTY;
    map_init(&header.in_vain);
    map_init(&body.in_vain);
    for (size_t i = 0; i < count; i++)
        learn(&header, &body, &answers[i]);
    enum expression_truth of_header = judge(&header, &in_header);
    enum expression_truth of_body = judge(&body, &in_body);
    enum expression_truth when =
        prepared->when ? expression_judge(prepared->when, known) : EXPRESSION_TRUE;
    map_done(&header.in_vain);
    map_done(&body.in_vain);
    bool misses = of_header == EXPRESSION_FALSE || of_body == EXPRESSION_FALSE;
    bool decided =
        misses || when == EXPRESSION_FALSE ||
        (of_header == EXPRESSION_TRUE && of_body == EXPRESSION_TRUE && when == EXPRESSION_TRUE);
    *out_outcome = misses || when == EXPRESSION_FALSE ? MATCH_UNMATCHED : MATCH_MATCHED;
    if (!decided && when == EXPRESSION_TRUE)
        *out_missing =
            name_missing(of_header, of_header == EXPRESSION_UNDECIDED ? in_header : in_body, arena);
    return decided;
}
