/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/option_unit.c - durations, sizes and rates: read strictly, and when a person wrote
 * "15 minutes", say that "15m" was meant.
 */
#include "config/option_internal.h"

#include "base/buf.h"
#include "base/clock.h"

#include <inttypes.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit duration_units[] = {
    {"ms", 1000000},
    {"s", 1000000000},
    {"m", UINT64_C(60) * 1000000000},
    {"h", UINT64_C(3600) * 1000000000},
    {"d", UINT64_C(86400) * 1000000000},
    {NULL, 0},
};
static const struct unit size_units[] = {
    {"", 1},
    {"K", UINT64_C(1) << 10},
    {"M", UINT64_C(1) << 20},
    {"G", UINT64_C(1) << 30},
    {"T", UINT64_C(1) << 40},
    {NULL, 0},
};

/* Digits at the front of `text`; `*out_rest` what follows. */
static bool split_number(struct str text, uint64_t *out_number, struct str *out_rest)
{
    size_t digits = 0;
    while (digits < text.len && ascii_is_digit(text.ptr[digits]))
        digits++;
    if (digits == 0 || !str_to_uint(str_slice(text, 0, digits), UINT64_C(1) << 50, out_number))
        return false;
    *out_rest = str_from(text, digits);
    return true;
}

static bool parse_with(const struct unit *units, struct str text, uint64_t *out)
{
    uint64_t number;
    struct str rest;
    if (!split_number(text, &number, &rest))
        return false;
    for (const struct unit *unit = units; unit->name; unit++) {
        if (str_equal(rest, str_c(unit->name)))
            return !__builtin_mul_overflow(number, unit->factor, out) && *out <= INT64_MAX;
    }
    return false;
}

bool option_parse_duration(struct str text, int64_t *out_ns)
{
    uint64_t value;
    if (!parse_with(duration_units, text, &value))
        return false;
    *out_ns = (int64_t)value;
    return true;
}

bool option_parse_size(struct str text, uint64_t *out_bytes)
{
    return parse_with(size_units, text, out_bytes);
}

bool option_parse_rate(struct str text, struct option_rate *out)
{
    ptrdiff_t slash = str_find(text, '/');
    struct option_rate rate;
    if (slash < 0 || !str_to_uint(str_slice(text, 0, (size_t)slash), UINT32_MAX, &rate.count) ||
        !option_parse_duration(str_from(text, (size_t)slash + 1), &rate.period_ns) ||
        rate.period_ns == 0 || rate.count == 0)
        return false;
    *out = rate;
    return true;
}

/* ---- suggestions ---- */

struct spelling {
    const char *written; /* lower case, without a plural s */
    const char *unit;
    unsigned times;
};

static const struct spelling duration_spellings[] = {
    {"ms", "ms", 1},  {"msec", "ms", 1},  {"millisecond", "ms", 1},
    {"s", "s", 1},    {"sec", "s", 1},    {"second", "s", 1},
    {"m", "m", 1},    {"min", "m", 1},    {"minute", "m", 1},
    {"h", "h", 1},    {"hr", "h", 1},     {"hour", "h", 1},
    {"d", "d", 1},    {"day", "d", 1},    {"w", "d", 7},
    {"week", "d", 7}, {"month", "d", 30}, {"year", "d", 365},
    {NULL, NULL, 0},
};
static const struct spelling size_spellings[] = {
    {"b", "", 1},         {"byte", "", 1},      {"k", "K", 1},   {"kb", "K", 1},
    {"kib", "K", 1},      {"m", "M", 1},        {"mb", "M", 1},  {"mib", "M", 1},
    {"g", "G", 1},        {"gb", "G", 1},       {"gib", "G", 1}, {"kilobyte", "K", 1},
    {"megabyte", "M", 1}, {"gigabyte", "G", 1}, {NULL, NULL, 0},
};

static const struct spelling *find_spelling(const struct spelling *spellings, struct str written)
{
    struct str singular = written.len > 2 && str_ends_nocase(written, STR("s"))
                              ? str_slice(written, 0, written.len - 1)
                              : written;
    for (const struct spelling *at = spellings; at->written; at++) {
        if (str_equal_nocase(str_c(at->written), written) ||
            str_equal_nocase(str_c(at->written), singular))
            return at;
    }
    return NULL;
}

struct str option_suggest_duration(struct arena *arena, struct str text)
{
    uint64_t number;
    struct str rest;
    if (split_number(text, &number, &rest)) {
        if (rest.len == 0 && number == 0)
            return STR("write 0s");
        if (rest.len == 0)
            return arena_printf(arena, "write %" PRIu64 "s for seconds, %" PRIu64 "m for minutes",
                                number, number);
        const struct spelling *meant = find_spelling(duration_spellings, str_trim(rest));
        if (meant)
            return arena_printf(arena, "write %" PRIu64 "%s", number * meant->times, meant->unit);
    }
    return STR("write one number with ms, s, m, h or d, as in 500ms, 15s, 15m, 2h, 30d");
}

struct str option_suggest_size(struct arena *arena, struct str text)
{
    uint64_t number;
    struct str rest;
    if (split_number(text, &number, &rest)) {
        const struct spelling *meant = find_spelling(size_spellings, str_trim(rest));
        if (meant)
            return arena_printf(arena, "write %" PRIu64 "%s", number, meant->unit);
    }
    return STR("write bytes, or a number with K, M or G, as in 64K, 25M, 1G");
}

struct str option_suggest_rate(struct arena *arena, struct str text)
{
    uint64_t number;
    struct str rest;
    if (split_number(text, &number, &rest)) {
        rest = str_trim(rest);
        if (str_starts(rest, STR("/")))
            rest = str_trim(str_from(rest, 1));
        else if (str_starts_nocase(rest, STR("per ")))
            rest = str_trim(str_from(rest, 4));
        const struct spelling *meant = find_spelling(duration_spellings, rest);
        if (meant)
            return arena_printf(arena, "write %" PRIu64 "/%u%s", number, meant->times, meant->unit);
    }
    return STR("write a count and a time, as in 500/1h");
}

/* ---- printing ---- */

static void print_with(const struct unit *units, uint64_t value, struct buf *out)
{
    const struct unit *best = &units[0];
    for (const struct unit *unit = units; unit->name && value; unit++) {
        if (value % unit->factor == 0)
            best = unit;
    }
    buf_printf(out, "%" PRIu64 "%s", value / best->factor, best->name);
}

void option_print_duration(int64_t duration_ns, struct buf *out)
{
    if (duration_ns == 0)
        buf_append(out, STR("0s"));
    else
        print_with(duration_units, (uint64_t)duration_ns, out);
}

void option_print_size(uint64_t bytes, struct buf *out)
{
    print_with(size_units, bytes, out);
}
