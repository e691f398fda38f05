/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/pattern.h"

#include "base/check.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    PATTERN_MAX = 4096,
    SUBJECT_MAX = 16384,
    MATCH_LIMIT = 20000, /* at most about 3 ms: nothing else runs on the worker meanwhile */
    DEPTH_LIMIT = 2000,
    HEAP_LIMIT_KIB = 2048,
};

struct pattern {
    pcre2_code *code;
};

static void pattern_release(void *object)
{
    struct pattern *pattern = object;
    pcre2_code_free(pattern->code);
}

enum result pattern_new(struct arena *arena, struct str text, const struct pattern **out_pattern,
                        size_t *out_offset, struct error *err)
{
    *out_offset = 0;
    if (text.len > PATTERN_MAX)
        return fail(err, ERROR_LIMIT, "the pattern is longer than %d bytes", PATTERN_MAX);
    int number = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)text.ptr, text.len, PCRE2_NEVER_UTF | PCRE2_NEVER_BACKSLASH_C,
                      &number, &offset, NULL);
    if (!code) {
        PCRE2_UCHAR message[128] = "";
        pcre2_get_error_message(number, message, sizeof message);
        *out_offset = offset;
        return fail(err, ERROR_PERMANENT, "%s", (const char *)message);
    }
    struct pattern *pattern = ARENA_NEW(arena, struct pattern);
    pattern->code = code;
    arena_hook(arena, pattern_release, pattern);
    *out_pattern = pattern;
    return OK;
}

enum result pattern_match(const struct pattern *pattern, struct str subject, bool *out_matches,
                          struct error *err)
{
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    check(context && data);
    pcre2_set_match_limit(context, MATCH_LIMIT);
    pcre2_set_depth_limit(context, DEPTH_LIMIT);
    pcre2_set_heap_limit(context, HEAP_LIMIT_KIB);
    subject = str_slice(subject, 0, SUBJECT_MAX);
    int found =
        pcre2_match(pattern->code, (PCRE2_SPTR)subject.ptr, subject.len, 0, 0, data, context);
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        return fail(err, ERROR_LIMIT, "the pattern needs too much work for this text");
    *out_matches = found >= 0;
    return OK;
}
