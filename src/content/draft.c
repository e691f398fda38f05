/* SPDX-License-Identifier: Apache-2.0 */
#include "content/draft.h"

#include "base/check.h"
#include "crypto/base64.h"

enum { DRAFT_MAX = 64 * 1024, LINE_MAX_LEN = 76, SIGNATURE_LINE = 72 };

void draft_open(struct draft *draft, struct str field_name)
{
    *draft = (struct draft){0};
    buf_init(&draft->before, DRAFT_MAX);
    buf_init(&draft->after, DRAFT_MAX);
    buf_append(&draft->before, field_name);
    buf_append_byte(&draft->before, ':');
    draft->column = draft->before.len;
}

void draft_close(struct draft *draft)
{
    buf_done(&draft->before);
    buf_done(&draft->after);
}

static struct buf *current(struct draft *draft)
{
    return draft->has_hole ? &draft->after : &draft->before;
}

static void put(struct draft *draft, struct str text)
{
    buf_append(current(draft), text);
    draft->column += text.len;
}

static void fold(struct draft *draft)
{
    buf_append(current(draft), STR("\r\n "));
    draft->column = 1;
}

/* End the tag before and start one for which `len` octets are wanted on one line. */
static void begin_tag(struct draft *draft, const char *name, size_t len)
{
    struct str tag = str_c(name);
    if (draft->tags++)
        put(draft, STR(";"));
    /* what follows the hole starts a line, for nobody knows yet where b= will end */
    bool follows_hole = draft->has_hole && draft->after.len == 1;
    if (follows_hole || draft->column + 1 + tag.len + 1 + len + 1 > LINE_MAX_LEN)
        fold(draft);
    else
        put(draft, STR(" "));
    put(draft, tag);
    put(draft, STR("="));
}

void draft_tag(struct draft *draft, const char *name, struct str value)
{
    begin_tag(draft, name, value.len);
    put(draft, value);
}

void draft_names(struct draft *draft, const struct str *names, size_t count)
{
    size_t total = count;
    for (size_t i = 0; i < count; i++)
        total += names[i].len;
    begin_tag(draft, "h", total);
    for (size_t i = 0; i < count; i++) {
        bool is_last = i + 1 == count;
        if (i > 0 && draft->column + names[i].len + 1 > LINE_MAX_LEN)
            fold(draft);
        put(draft, names[i]);
        if (!is_last)
            put(draft, STR(":"));
    }
}

void draft_hole(struct draft *draft)
{
    begin_tag(draft, "b", SIGNATURE_LINE - 3);
    draft->has_hole = true;
}

static void hash_itself(const struct draft *draft, enum dkim_canon canon, struct canon_sink *sink)
{
    struct mail_field field;
    struct buf text BUF_CLEANUP;
    buf_init(&text, 2 * DRAFT_MAX + 2);
    buf_append(&text, buf_str(&draft->before));
    buf_append(&text, buf_str(&draft->after));
    buf_append(&text, STR("\r\n"));
    struct str rest = buf_str(&text);
    check(mail_header_next(&rest, &field) && rest.len == 0);
    canon_signature(sink, canon, &field,
                    str_slice(buf_str(&text), draft->before.len, draft->before.len));
}

static void put_signature(const struct draft *draft, struct str signature, struct buf *out)
{
    ptrdiff_t line = str_find_last(buf_str(&draft->before), '\n');
    size_t column = draft->before.len - (size_t)(line + 1);
    size_t room = column < SIGNATURE_LINE ? SIGNATURE_LINE - column + 1 : 1;
    if (draft->one_line)
        room = signature.len; /* 684 octets at most: no line is over 998 */
    buf_append(out, buf_str(&draft->before));
    while (signature.len > room) {
        buf_append(out, str_slice(signature, 0, room));
        buf_append(out, STR("\r\n "));
        signature = str_from(signature, room);
        room = SIGNATURE_LINE;
    }
    buf_append(out, signature);
    buf_append(out, buf_str(&draft->after));
    buf_append(out, STR("\r\n"));
}

enum result draft_sign(struct draft *draft, enum dkim_canon canon, struct canon_sink *sink,
                       const struct sign_key *key, struct arena *arena, struct str *out_field,
                       struct error *err)
{
    unsigned char hash[SHA256_SIZE];
    struct buf signature BUF_CLEANUP;
    struct buf text BUF_CLEANUP;
    struct buf whole BUF_CLEANUP;
    buf_init(&signature, SIGN_BYTES_MAX);
    buf_init(&text, 2 * SIGN_BYTES_MAX);
    buf_init(&whole, 3 * DRAFT_MAX);
    if (draft->before.overflow || draft->after.overflow)
        return fail(err, ERROR_LIMIT, "a signature of over %d bytes", DRAFT_MAX);
    hash_itself(draft, canon, sink);
    canon_sink_finish(sink, hash);
    if (sign_make(key, hash, &signature, err) != OK)
        return FAILED;
    base64_encode(buf_str(&signature), &text);
    put_signature(draft, buf_str(&text), &whole);
    *out_field = arena_str(arena, buf_str(&whole));
    return OK;
}
