/* SPDX-License-Identifier: Apache-2.0 */
/* content/spf_macro_fuzz.c - any text as a macro-string, with values from the same input. */
#include "content/spf_macro.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUTPUT_MAX = 4096 };

static void expand(struct str text, const struct spf_macro_values *values)
{
    struct buf out BUF_CLEANUP = {0};
    buf_init(&out, OUTPUT_MAX);
    spf_macro_expand(text, values, &out);
    check(out.len <= OUTPUT_MAX);
    if (str_find(text, '%') < 0 && text.len <= OUTPUT_MAX)
        check(str_equal(buf_str(&out), text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str all = str_of((const char *)data, size), text = all, value;
    ptrdiff_t line = str_find(all, '\n');
    value = line >= 0 ? str_from(all, (size_t)line + 1) : STR("a.b-c+d");
    if (line >= 0)
        text.len = (size_t)line;
    struct spf_macro_values values = {
        .sender = value,
        .local = value,
        .sender_domain = value,
        .domain = value,
        .ip_dotted = STR("192.0.2.7"),
        .ip_text = STR("192.0.2.7"),
        .client_name = value,
        .helo = value,
        .receiver = value,
        .now = UINT64_MAX,
    };
    bool is_name = spf_macro_is_valid(text, SPF_MACRO_NAME);
    bool is_text = spf_macro_is_valid(text, SPF_MACRO_TEXT);
    check(!is_name || is_text);
    check(!spf_macro_is_domain_spec(text) || is_name);
    if (is_text)
        expand(text, &values);
    if (is_name)
        check(!spf_macro_uses(text, 'c') && !spf_macro_uses(text, 'r') &&
              !spf_macro_uses(text, 't'));
    return 0;
}
