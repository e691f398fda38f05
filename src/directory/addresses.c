/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/addresses.h"

#include "base/memory.h"
#include "directory/watched_file.h"
#include "mail/address.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum {
    PATTERNS_MAX = 1000,
    PATTERN_LENGTH_MAX = 1000,
    MATCH_STEPS_MAX = 20000, /* about a millisecond */
    MATCH_HEAP_KIB = 1024,
    ADDRESS_MAX = 1024,
};

struct addresses {
    struct watched_table base;
    struct map map; /* lower case, domains as A-labels; "@domain" for all of a domain */
    pcre2_code **patterns;
    size_t pattern_count;
};

static void release(struct watched_table *table)
{
    struct addresses *addresses = CONTAINER(table, struct addresses, base);
    for (size_t i = 0; i < addresses->pattern_count; i++)
        pcre2_code_free(addresses->patterns[i]);
    free(addresses->patterns);
    map_done(&addresses->map);
    free(addresses);
}

static const char *take_pattern(struct addresses *addresses, struct str pattern)
{
    int code;
    PCRE2_SIZE offset;
    if (!pattern.len || pattern.len > PATTERN_LENGTH_MAX)
        return "the regular expression is empty or too long";
    if (addresses->pattern_count == PATTERNS_MAX)
        return "too many regular expressions";
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len,
                      PCRE2_CASELESS | PCRE2_NEVER_BACKSLASH_C, &code, &offset, NULL);
    if (!compiled)
        return "not a valid regular expression";
    addresses->patterns = memory_resize_array(addresses->patterns, addresses->pattern_count + 1,
                                              sizeof(pcre2_code *));
    addresses->patterns[addresses->pattern_count++] = compiled;
    return NULL;
}

static const char *take_address(struct addresses *addresses, struct arena *arena, struct str text)
{
    struct str local, domain, normal;
    directory_split_address(text, &local, &domain);
    if (str_find(text, '@') < 0 || text.len > ADDRESS_MAX)
        return "neither an address nor @domain nor a /regular expression/";
    if (domain.len && domain.ptr[0] == '[')
        normal = arena_lower(arena, domain);
    else if (!mail_domain_normalize(arena, domain, &normal))
        return "the domain is not valid";
    struct str lower = arena_lower(arena, local);
    struct str key = arena_printf(arena, "%.*s@%.*s", STR_ARG(lower), STR_ARG(normal));
    map_put(&addresses->map, key, addresses);
    return NULL;
}

struct watched_table *addresses_parse(struct str path, struct str content)
{
    struct addresses *addresses = NEW(struct addresses);
    struct arena *scratch = arena_new(0);
    addresses->base.release = release;
    map_init(&addresses->map);
    size_t number = 0;
    size_t bad_lines = 0;
    struct str line;
    while (str_split(&content, '\n', &line)) {
        const char *why;
        number++;
        line = str_trim(line);
        if (!line.len || line.ptr[0] == '#')
            continue;
        if (line.len >= 2 && line.ptr[0] == '/' && str_ends(line, STR("/")))
            why = take_pattern(addresses, str_slice(line, 1, line.len - 1));
        else
            why = take_address(addresses, scratch, line);
        if (why)
            watched_bad_line(path, number, why, &bad_lines);
        arena_clear(scratch);
    }
    arena_free(scratch);
    return &addresses->base;
}

/* ---- asking ---- */

struct matching {
    const struct addresses *addresses;
    struct str address;
    int result; /* of the last pcre2_match */
};

static void match_patterns(void *arg)
{
    struct matching *matching = arg;
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    matching->result = PCRE2_ERROR_NOMEMORY;
    if (limits && data) {
        pcre2_set_match_limit(limits, MATCH_STEPS_MAX);
        pcre2_set_depth_limit(limits, MATCH_STEPS_MAX);
        pcre2_set_heap_limit(limits, MATCH_HEAP_KIB);
        matching->result = PCRE2_ERROR_NOMATCH;
    }
    int worst = matching->result;
    for (size_t i = 0; limits && data && i < matching->addresses->pattern_count; i++) {
        int result =
            pcre2_match(matching->addresses->patterns[i], (PCRE2_SPTR)matching->address.ptr,
                        matching->address.len, 0, 0, data, limits);
        if (result >= 0) {
            worst = result;
            break;
        }
        if (result != PCRE2_ERROR_NOMATCH)
            worst = result;
    }
    matching->result = worst;
    pcre2_match_data_free(data);
    pcre2_match_context_free(limits);
}

enum result addresses_have(const struct watched_table *table, struct str address, bool *out_found,
                           struct error *err)
{
    const struct addresses *addresses = CONTAINER(table, const struct addresses, base);
    char lower[ADDRESS_MAX];
    *out_found = false;
    if (address.len > sizeof lower)
        return OK; /* no line can be that long */
    for (size_t i = 0; i < address.len; i++)
        lower[i] = ascii_lower(address.ptr[i]);
    struct str key = str_of(lower, address.len);
    ptrdiff_t at = str_find_last(key, '@');
    if (map_get(&addresses->map, key) ||
        (at >= 0 && map_get(&addresses->map, str_from(key, (size_t)at)))) {
        *out_found = true;
        return OK;
    }
    if (!addresses->pattern_count)
        return OK;
    struct matching matching = {.addresses = addresses, .address = key};
    if (fiber_current())
        fiber_on_loop_stack(match_patterns, &matching);
    else
        match_patterns(&matching);
    if (matching.result < 0 && matching.result != PCRE2_ERROR_NOMATCH)
        return fail(err, ERROR_LIMIT, "a regular expression needs too much time for this address");
    *out_found = matching.result >= 0;
    return OK;
}
