/* SPDX-License-Identifier: Apache-2.0 */
/* content/spam.c - asks by the kind of the server. */
#include "net/http.h"
#include "content/spam_internal.h"

enum { ANSWER_MAX = 4 * 1024 * 1024 };

struct check {
    const struct spam_question *question;
    const struct mail_content *content;
    struct arena *arena;
    struct spam_answer *out;
    enum server_kind kind;
};

static enum result talk(struct stream *stream, const struct server_endpoint *endpoint, void *arg,
                        struct error *err) MAY_YIELD
{
    struct check *check = arg;
    struct str text;
    struct buf head BUF_CLEANUP;
    bool is_rspamd = check->kind == SERVER_RSPAMD;
    buf_init(&head, SPAM_HEAD_MAX);
    uint64_t size = mail_content_size(check->content);
    if (is_rspamd)
        rspamd_write_head(check->question, endpoint, size, &head);
    else
        spamd_write_head(check->question, size, &head);
    if (head.overflow)
        return fail(err, ERROR_PERMANENT, "the question is too long");
    if (stream_write(stream, buf_str(&head), err) != OK ||
        scanner_write_content(stream, check->content, NULL, err) != OK ||
        stream_flush(stream, err) != OK ||
        (is_rspamd ? http_receive(stream, ANSWER_MAX, check->arena, &text, err)
                   : scanner_read_all(stream, -1, ANSWER_MAX, check->arena, &text, err)) != OK)
        return FAILED;
    return is_rspamd ? rspamd_read_answer(text, check->arena, check->out, err)
                     : spamd_read_answer(text, check->arena, check->out, err);
}

enum result spam_check(const struct scanner *scanner, const struct spam_question *question,
                       const struct mail_content *content, struct arena *arena,
                       struct spam_answer *out, struct error *err)
{
    struct check check = {.question = question,
                          .content = content,
                          .arena = arena,
                          .out = out,
                          .kind = scanner->server->kind};
    return scanner_ask(scanner, talk, &check, err);
}

/* ---- shared ---- */

bool spam_read_number(struct str text, double *out)
{
    char space[32];
    char *end;
    text = str_trim(text);
    if (!text.len || !str_to_c(text, space, sizeof space) ||
        text.len != strspn(space, "0123456789.-"))
        return false;
    *out = strtod(space, &end);
    return *end == '\0' && *out > -1e6 && *out < 1e6;
}

bool spam_next_line(struct str *rest, struct str *out_line)
{
    if (!str_split(rest, '\n', out_line))
        return false;
    if (str_ends(*out_line, STR("\r")))
        *out_line = str_slice(*out_line, 0, out_line->len - 1);
    return true;
}
