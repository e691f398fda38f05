/* SPDX-License-Identifier: Apache-2.0 */
/* content/spamd.c - SpamAssassin's SPAMC protocol 1.5: SYMBOLS, whose answer is score and names. */
#include "net/http.h"
#include "content/spam_internal.h"

void spamd_write_head(const struct spam_question *question, uint64_t size, struct buf *out)
{
    buf_printf(out, "SYMBOLS SPAMC/1.5\r\nContent-length: %llu\r\n", (unsigned long long)size);
    http_write_field(out, "User", question->user);
    buf_append(out, STR("\r\n"));
}

/* "Spam: True ; 15.0 / 5.0" */
static bool read_score(struct str value, struct spam_answer *out)
{
    ptrdiff_t semicolon = str_find(value, ';');
    ptrdiff_t slash = str_find(value, '/');
    return semicolon >= 0 && slash > semicolon &&
           spam_read_number(str_slice(value, (size_t)semicolon + 1, (size_t)slash), &out->score) &&
           spam_read_number(str_from(value, (size_t)slash + 1), &out->required);
}

enum result spamd_read_answer(struct str text, struct arena *arena, struct spam_answer *out,
                              struct error *err)
{
    struct str line;
    bool scored = false;
    *out = (struct spam_answer){.symbols = STR_EMPTY};
    if (!spam_next_line(&text, &line) || !str_starts(line, STR("SPAMD/")))
        return fail(err, ERROR_PROTOCOL, "the answer is not of spamd");
    ptrdiff_t blank = str_find(line, ' ');
    struct str code = blank >= 0 ? str_from(line, (size_t)blank + 1) : STR_EMPTY;
    if (!str_starts(code, STR("0 ")))
        return fail(err, ERROR_TEMPORARY, "spamd said \"%.*s\"", STR_ARG(str_slice(code, 0, 100)));
    while (spam_next_line(&text, &line) && line.len)
        if (str_starts_nocase(line, STR("Spam:")))
            scored = read_score(str_from(line, 5), out);
    if (!scored)
        return fail(err, ERROR_PROTOCOL, "the answer has no score");
    out->action = out->score >= out->required ? SPAM_TAG : SPAM_NO_ACTION;
    struct str names = str_slice(str_trim(text), 0, 1000);
    char *copy = arena_alloc(arena, names.len + 1);
    for (size_t i = 0; i < names.len; i++) /* "A,B\r\n,C" */
        copy[i] =
            names.ptr[i] > ' ' && names.ptr[i] < 127 && names.ptr[i] != ',' ? names.ptr[i] : ' ';
    out->symbols = str_of(copy, names.len);
    return OK;
}
