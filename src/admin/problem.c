/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/problem.c - what went wrong, as RFC 9457 says it.
 *
 * Each title has a page of its own, which the `type` of the problem leads to: what it means, and
 * what to do. What the answer says in `detail` is of the one request.
 */
#include "admin/http.h"
#include "admin/page.h"
#include "admin/routes.h"
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#define PAGES "/api/v1/problems/"

/* clang-format off */
static const struct kind {
    const char *title;
    const char *text;
} kinds[] = {
    {"Bad request", "The request cannot be understood, and nothing was done. errors names each part of the body (pointer) or of the query (parameter) that is wrong."},
    {"Bad id", "This is no id or ref: they are of letters and digits, 26 or 8 of them."},
    {"Ambiguous id", "Several ids begin like this one; give more of its letters. Nothing was done."},
    {"Bad selector", "A selector has a value that it cannot have; nothing was done."},
    {"Bad expression", "The expression of a search cannot be read; the detail says where, and what there is."},
    {"Bad question", "What would become of such a message cannot be said; the detail tells which part of the question is odd."},
    {"Who are you?", "Over TCP a token says who asks: Authorization: Bearer pst_… (postern token create). The one that came is none, was revoked, or is over."},
    {"Not allowed", "The scope of the token or of the user is too small for this. Scopes: read, operate, admin."},
    {"Not found", "There is no such path, or nothing of that name or id."},
    {"Method not allowed", "The path exists and cannot be asked so; the field Allow says how."},
    {"Too large", "A request may have only so many bytes; the detail says how many."},
    {"Not now", "The gateway cannot answer at the moment. The same request may be sent again, after the time in Retry-After where it is given."},
    {"Too busy", "Bodies of requests take as much memory as they may have together. The same request may be sent again after the time in Retry-After."},
    {"Not what you expected", "Another number of messages than in expect is selected; nothing was done. Look again, and say what you find."},
    {"Exists", "There is one of that name already; nothing was changed."},
    {"Too many", "There are as many as there may be; remove one first."},
    {"Not ours", "The gateway may not write this file: it changes users files under the folder of the spool only."},
    {"Not open", "It was closed already."},
    {"Not done", "It could not be done; the detail says why."},
    {"Not as things are", "What was asked for does not fit what is in force now; nothing was done."},
    {"Changed meanwhile", "Somebody was faster: what If-Match named is not what there is. expected and current are both versions. Read again, and decide again."},
    {"Not a usable configuration", "The configuration has errors; they stand in errors, with their places. What was in force stays."},
    {"Not to be tried", "This path cannot be tried with dry_run; nothing was done."},
    {"Key used before", "The Idempotency-Key came before with another request. A key stands for one request: make a new one."},
    {"Still being done", "The first request with this Idempotency-Key is still at work. Send it again later, to have its answer."},
    {"Outcome not known", "The gateway ended while it worked on the first request with this Idempotency-Key, and cannot say whether it was done. The detail says where to look; to do it once more, use a new key."},
};
/* clang-format on */

/* "Not found": "not-found" */
static void write_slug(const char *title, struct buf *out)
{
    bool gap = false;
    for (; *title; title++) {
        bool letter = ascii_is_alpha(*title);
        if (letter && gap && out->len)
            buf_append_byte(out, '-');
        if (letter)
            buf_append_byte(out, ascii_lower(*title));
        gap = !letter;
    }
}

static const struct kind *find_kind(const char *title)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (str_equal(str_c(kinds[i].title), str_c(title)))
            return &kinds[i];
    return NULL;
}

static json_t *type_json(const char *title)
{
    struct buf type BUF_CLEANUP;
    buf_init(&type, 128);
    if (!find_kind(title))
        return json_string("about:blank");
    buf_append(&type, STR(PAGES));
    write_slug(title, &type);
    return admin_json(buf_str(&type));
}

void admin_problem(struct admin_answer *answer, unsigned status, const char *title,
                   const char *format, ...)
{
    char detail[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    json_decref(answer->json);
    answer->status = status;
    answer->json = json_pack("{s:o, s:s, s:i, s:o}", "type", type_json(title), "title", title,
                             "status", (int)status, "detail", admin_json(str_c(detail)));
}

static void add_error(struct admin_answer *answer, json_t *error)
{
    json_t *errors = json_object_get(answer->json, "errors");
    if (!errors) {
        errors = json_array();
        json_object_set_new(answer->json, "errors", errors);
    }
    json_array_append_new(errors, error);
}

void admin_problem_parameter(struct admin_answer *answer, const char *name, const char *why)
{
    add_error(answer, json_pack("{s:s, s:s}", "parameter", name, "detail", why));
}

void admin_problem_pointer(struct admin_answer *answer, struct str pointer, const char *why)
{
    add_error(answer, json_pack("{s:o, s:s}", "pointer", admin_json(pointer), "detail", why));
}

/* ---- their pages ---- */

static json_t *kind_json(const struct kind *kind)
{
    struct buf slug BUF_CLEANUP;
    buf_init(&slug, 128);
    write_slug(kind->title, &slug);
    return json_pack("{s:o, s:s, s:s}", "problem", admin_json(buf_str(&slug)), "title", kind->title,
                     "text", kind->text);
}

void admin_api_problem_list(struct admin_request *request, struct admin_answer *answer)
{
    enum { COUNT = sizeof kinds / sizeof *kinds };
    struct admin_row rows[COUNT];
    struct admin_page page;
    size_t at;
    if (!admin_page_read(request, "problems", ADMIN_PAGE_MAX, NULL, &page, answer))
        return;
    for (size_t i = 0; i < COUNT; i++)
        rows[i] = (struct admin_row){str_c(kinds[i].title), &kinds[i]};
    size_t count = admin_page_rows(&page, rows, COUNT, &at);
    json_t *items = json_array();
    for (size_t i = at; i < at + count; i++)
        json_array_append_new(items, kind_json(rows[i].item));
    answer->json = admin_page_json(&page, items);
}

void admin_api_problem_show(struct admin_request *request, struct admin_answer *answer)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct buf slug BUF_CLEANUP;
        buf_init(&slug, 128);
        write_slug(kinds[i].title, &slug);
        if (str_equal(buf_str(&slug), request->parameter)) {
            answer->json = kind_json(&kinds[i]);
            return;
        }
    }
    admin_problem(answer, 404, "Not found", "there is no kind of problem %.*s",
                  STR_ARG(str_slice(request->parameter, 0, 100)));
}
