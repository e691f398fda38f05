/* SPDX-License-Identifier: Apache-2.0 */
#include "content/arc_set.h"

static const struct str names[ARC_FIELD_COUNT] = {
    [ARC_FIELD_RESULTS] = {"ARC-Authentication-Results", 26},
    [ARC_FIELD_MESSAGE] = {"ARC-Message-Signature", 21},
    [ARC_FIELD_SEAL] = {"ARC-Seal", 8},
};

/* ARC_FIELD_COUNT: none of these. */
static enum arc_field field_of(struct str name)
{
    int field = 0;
    while (field < ARC_FIELD_COUNT && !str_equal_nocase(name, names[field]))
        field++;
    return (enum arc_field)field;
}

bool arc_chain_is_there(struct str header)
{
    struct mail_field field;
    while (mail_header_next(&header, &field))
        if (field_of(field.name) != ARC_FIELD_COUNT)
            return true;
    return false;
}

static bool read_number(struct str text, unsigned *out)
{
    uint64_t number = 0;
    if (text.len > 2 || !str_to_uint(text, ARC_INSTANCE_MAX, &number) || number == 0)
        return false;
    *out = (unsigned)number;
    return true;
}

/* "i=N;" stands before all else. */
static bool read_prefix(struct str value, unsigned *out, struct str *out_rest)
{
    struct str number;
    struct str rest = str_trim(value);
    if (!str_starts(rest, STR("i")))
        return false;
    rest = str_trim(str_from(rest, 1));
    if (!str_starts(rest, STR("=")))
        return false;
    rest = str_from(rest, 1);
    if (!str_split(&rest, ';', &number) || !rest.ptr)
        return false;
    *out_rest = rest;
    return read_number(str_trim(number), out);
}

struct str arc_results_of(const struct mail_field *field)
{
    unsigned instance;
    struct str rest = STR_EMPTY;
    return read_prefix(field->value, &instance, &rest) ? str_trim(rest) : STR_EMPTY;
}

static bool read_instance(const struct mail_field *field, enum arc_field kind, unsigned *out,
                          const char **out_detail)
{
    struct tags tags;
    struct str rest;
    *out_detail = "i= is no number of a set";
    if (kind == ARC_FIELD_RESULTS)
        return read_prefix(field->value, out, &rest);
    return tags_parse(field->value, &tags, out_detail) &&
           read_number(tags_value(&tags, STR("i")), out);
}

static bool take_field(struct arc_chain *chain, const struct mail_field *field, enum arc_field kind,
                       unsigned *count, const char **out_detail)
{
    unsigned instance;
    if (!read_instance(field, kind, &instance, out_detail))
        return false;
    if (instance > *count)
        *count = instance;
    *out_detail = "the chain is too long";
    if (instance > ARC_SETS_MAX)
        return false;
    *out_detail = "a field stands there twice";
    if (chain->has[instance - 1][kind])
        return false;
    chain->has[instance - 1][kind] = true;
    chain->fields[instance - 1][kind] = *field;
    return true;
}

bool arc_chain_collect(struct str header, struct arena *arena, struct arc_chain *out,
                       unsigned *out_count, const char **out_detail)
{
    struct mail_field field;
    const char *detail = NULL;
    bool good = true;
    *out = (struct arc_chain){0};
    *out_count = 0;
    while (mail_header_next(&header, &field)) {
        enum arc_field kind = field_of(field.name);
        if (kind != ARC_FIELD_COUNT && !take_field(out, &field, kind, out_count, &detail)) {
            *out_detail = detail; /* go on, for the highest instance */
            good = false;
        }
    }
    for (unsigned i = 0; good && i < *out_count; i++)
        for (int kind = 0; kind < ARC_FIELD_COUNT; kind++)
            if (!out->has[i][kind]) {
                *out_detail = "a set is not whole";
                good = false;
            }
    out->seals = arena_alloc_array(arena, *out_count + 1, sizeof *out->seals);
    return good;
}
