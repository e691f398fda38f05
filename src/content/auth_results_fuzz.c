/* SPDX-License-Identifier: Apache-2.0 */
/* content/auth_results_fuzz.c - any text as Authentication-Results; what is read can be written,
 * and is then read as the same. */
#include "content/auth_results.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_plain(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < ' ' || text.ptr[i] > 126)
            return false;
    return text.len <= 500;
}

static void same_value(struct str a, struct str b)
{
    if (is_plain(a))
        check(str_equal(a, b));
}

static void same(const struct auth_results *a, const struct auth_results *b)
{
    check(a->count == b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct auth_result *left = &a->results[i], *right = &b->results[i];
        check(str_equal(left->method, right->method) && str_equal(left->result, right->result));
        check(left->property_count == right->property_count);
        same_value(left->reason, right->reason);
        for (size_t k = 0; k < left->property_count; k++) {
            check(str_equal(left->properties[k].name, right->properties[k].name));
            same_value(left->properties[k].value, right->properties[k].value);
        }
    }
}

static void check_lines(struct str field)
{
    struct str rest = field, line;
    check(str_ends(field, STR("\r\n")));
    while (str_split(&rest, '\n', &line))
        for (size_t i = 0; i + 1 < line.len; i++)
            check((line.ptr[i] >= ' ' && line.ptr[i] < 127) || line.ptr[i] == '\t');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_of((const char *)data, size);
    struct arena *arena = arena_new(0);
    struct auth_results *read = ARENA_NEW(arena, struct auth_results);
    struct auth_results *again = ARENA_NEW(arena, struct auth_results);
    (void)auth_results_is_ours(text, STR("mx.example.org"));
    if (auth_results_parse(text, arena, read)) {
        struct buf out BUF_CLEANUP = {0};
        buf_init(&out, 4 * 1024 * 1024);
        auth_results_write(&out, read);
        check_lines(buf_str(&out));
        check(auth_results_parse(str_from(buf_str(&out), 23), arena, again));
        same(read, again);
    }
    arena_free(arena);
    return 0;
}
