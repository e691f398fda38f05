/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/pattern.h"

#include "base/buf.h"
#include "base/check.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    PATTERN_MAX = 4096,
    MATCH_LIMIT = 20000, /* at most about 3 ms: nothing else runs on the worker meanwhile */
    DEPTH_LIMIT = 2000,
    HEAP_LIMIT_KIB = 2048,
    EXPANDED_MAX = 4096,
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

/* `data` gets as many groups as it has room for. */
static enum result match(const struct pattern *pattern, struct str subject, pcre2_match_data *data,
                         bool *out_matches, struct error *err)
{
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    check(context);
    pcre2_set_match_limit(context, MATCH_LIMIT);
    pcre2_set_depth_limit(context, DEPTH_LIMIT);
    pcre2_set_heap_limit(context, HEAP_LIMIT_KIB);
    int found =
        pcre2_match(pattern->code, (PCRE2_SPTR)subject.ptr, subject.len, 0, 0, data, context);
    pcre2_match_context_free(context);
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        return fail(err, ERROR_LIMIT, "the pattern needs too much work for this text");
    *out_matches = found >= 0;
    return OK;
}

enum result pattern_match(const struct pattern *pattern, struct str subject, bool *out_matches,
                          struct error *err)
{
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    check(data);
    enum result result =
        match(pattern, str_slice(subject, 0, PATTERN_SUBJECT_MAX), data, out_matches, err);
    pcre2_match_data_free(data);
    return result;
}

static struct str group_of(struct str subject, pcre2_match_data *data, unsigned index)
{
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(data);
    if (index >= pcre2_get_ovector_count(data) || ends[2 * index] == PCRE2_UNSET)
        return STR_EMPTY;
    return str_slice(subject, ends[2 * index], ends[2 * index + 1]);
}

static void fill_in(struct str form, struct str subject, pcre2_match_data *data, struct buf *out)
{
    for (size_t i = 0; i < form.len; i++) {
        char next = i + 1 < form.len ? form.ptr[i + 1] : '\0';
        if (form.ptr[i] == '$' && ascii_is_digit(next))
            buf_append(out, group_of(subject, data, (unsigned)(form.ptr[++i] - '0')));
        else if (form.ptr[i] == '$' && next == '$')
            buf_append_byte(out, form.ptr[i++]);
        else
            buf_append_byte(out, form.ptr[i]);
    }
}

enum result pattern_expand(const struct pattern *pattern, struct str subject, struct str form,
                           struct arena *arena, bool *out_matches, struct str *out_text,
                           struct error *err)
{
    pcre2_match_data *data = pcre2_match_data_create(10, NULL);
    struct buf text BUF_CLEANUP;
    check(data);
    buf_init(&text, EXPANDED_MAX);
    subject = str_slice(subject, 0, PATTERN_SUBJECT_MAX);
    enum result result = match(pattern, subject, data, out_matches, err);
    if (result == OK && *out_matches)
        fill_in(form, subject, data, &text);
    pcre2_match_data_free(data);
    if (result == OK && text.overflow)
        return fail(err, ERROR_LIMIT, "the text grows over %d bytes", EXPANDED_MAX);
    if (result == OK)
        *out_text = arena_str(arena, buf_str(&text));
    return result;
}
