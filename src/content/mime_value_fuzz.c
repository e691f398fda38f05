/* SPDX-License-Identifier: Apache-2.0 */
/* content/mime_value_fuzz.c - any bytes as a value with parameters, as encoded words, as text of
 * any charset, and as text to be written. */
#include "content/mime.h"
#include "content/mime_write.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const charsets[] = {"utf-8",   "iso-8859-1", "utf-16", "iso-2022-jp",
                                       "gb18030", "shift_jis",  "unheard"};

/* Lines of quoted-printable have at most 76 characters, all of them plain. */
static void check_quoted(struct str text)
{
    size_t line = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        line = c == '\n' ? 0 : line + (c != '\r');
        check(line <= 76 && c < 0x7f && (c >= ' ' || c == '\r' || c == '\n' || c == '\t'));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_of((const char *)data, size), found[4];
    struct arena *arena = arena_new(0);
    struct buf out BUF_CLEANUP;
    bool cut;
    buf_init(&out, 64 << 20);
    size_t count = mime_parameters(text, "name", arena, found, 4, &cut);
    check(count <= 4 && (cut || size <= 4096));
    struct str one = mime_parameter(text, "name", arena);
    check(!one.len || count > 0);
    check(mime_decode_words(text, arena).len <= 4 * size + 16);
    for (size_t i = 0; i < sizeof charsets / sizeof *charsets; i++) {
        buf_clear(&out);
        mime_to_utf8(str_c(charsets[i]), text, &out);
        check(out.len <= 4 * size + 16);
        struct buf again BUF_CLEANUP;
        buf_init(&again, 64 << 20);
        check(mime_to_utf8(STR("utf-8"), buf_str(&out), &again)); /* it is UTF-8 */
    }
    buf_clear(&out);
    mime_quote(text, &out);
    check_quoted(buf_str(&out));
    arena_free(arena);
    return 0;
}
