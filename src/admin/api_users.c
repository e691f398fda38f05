/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_users.c - users of the users files: list, add, new password, remove. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/page.h"
#include "base/memory.h"
#include "gateway/users.h"

static json_t *user_json(const struct gateway_user *user)
{
    return json_pack("{s:o, s:o, s:o}", "user", admin_json(user->login), "senders",
                     admin_json(user->senders), "file", admin_json(user->file));
}

void admin_api_user_list(struct admin_request *request, struct admin_answer *answer)
{
    struct gateway_users users;
    struct admin_page page;
    size_t at;
    if (!admin_page_read(request, "users", ADMIN_PAGE_MAX, NULL, &page, answer))
        return;
    json_t *items = json_array();
    json_t *files = json_array();
    gateway_users(request->gateway, request->arena, &users);
    struct admin_row *rows = arena_alloc_array(request->arena, users.user_count + 1, sizeof *rows);
    for (size_t i = 0; i < users.user_count; i++)
        rows[i] = (struct admin_row){arena_printf(request->arena, "%.*s\n%.*s",
                                                  STR_ARG(users.users[i].login),
                                                  STR_ARG(users.users[i].file)),
                                     &users.users[i]};
    size_t count = admin_page_rows(&page, rows, users.user_count, &at);
    for (size_t i = at; i < at + count; i++)
        json_array_append_new(items, user_json(rows[i].item));
    for (size_t i = 0; i < users.file_count; i++)
        json_array_append_new(files,
                              json_pack("{s:o, s:b, s:o}", "file", admin_json(users.files[i].path),
                                        "writable", users.files[i].writable, "problem",
                                        admin_json(users.files[i].problem)));
    answer->json = admin_page_json(&page, items);
    json_object_set_new(answer->json, "files", files);
}

struct str admin_users_version(struct admin_request *request)
{
    json_t *stamps = json_array();
    size_t count;
    struct str *files = gateway_users_stamps(request->gateway, request->arena, &count);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(stamps, admin_json(files[i]));
    struct str tag = admin_tag_of(request->arena, stamps);
    json_decref(stamps);
    return tag;
}

/* ---- changes ---- */

static struct str text_of(json_t *root, const char *name)
{
    json_t *value = json_object_get(root, name);
    return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value))
                                 : STR_EMPTY;
}

static void wipe(struct str text)
{
    if (text.len)
        memory_wipe((char *)(uintptr_t)text.ptr, text.len);
}

static void tell(const struct admin_request *request, const struct gateway_user_wish *wish,
                 enum gateway_user_answer result, struct admin_answer *answer)
{
    switch (result) {
    case GATEWAY_USER_DONE:
        answer->json = json_pack("{s:o, s:b}", "user", admin_json(wish->login), "dry_run",
                                 (int)request->dry_run);
        break;
    case GATEWAY_USER_NO_FILE:
        admin_problem(answer, 404, "Not found",
                      wish->file.len ? "no login is looked up in that file"
                                     : "there is not one users file: say which, with file");
        break;
    case GATEWAY_USER_READ_ONLY:
        admin_problem(answer, 409, "Not ours",
                      "the gateway changes users files under the folder of the spool only: use "
                      "postern user --file on its host, or let the file lie there");
        break;
    case GATEWAY_USER_EXISTS:
        admin_problem(answer, 409, "Exists", "there is a user %.*s", STR_ARG(wish->login));
        break;
    case GATEWAY_USER_UNKNOWN:
        admin_problem(answer, 404, "Not found", "there is no user %.*s", STR_ARG(wish->login));
        break;
    }
}

static void change(struct admin_request *request, const struct gateway_user_wish *wish,
                   struct admin_answer *answer)
{
    enum gateway_user_answer result;
    struct error err;
    answer->object = arena_str(request->arena, wish->login);
    if (gateway_user_change(request->gateway, wish, &result, &err) == OK)
        tell(request, wish, result, answer);
    else if (err.kind == ERROR_PERMANENT)
        admin_problem(answer, 400, "Bad request", "%s", err.text);
    else
        admin_problem(answer, 503, "Not now", "%s", err.text);
}

/* A user of the body, with a password; the body is overwritten. */
static void set(struct admin_request *request, struct str login, bool create,
                struct admin_answer *answer)
{
    json_t *root = request->json;
    struct gateway_user_wish wish = {.file = text_of(root, "file"),
                                     .login = create ? text_of(root, "user") : login,
                                     .senders = text_of(root, "senders"),
                                     .password = text_of(root, "password"),
                                     .create = create,
                                     .dry_run = request->dry_run};
    if (wish.login.len && wish.password.len)
        change(request, &wish, answer);
    else
        admin_problem(answer, 400, "Bad request", "a user has a name and a password");
    wipe(wish.password);
    wipe(request->body);
}

/* {"user": "anna", "password": "…", "senders": "anna@example.org"} */
void admin_api_user_create(struct admin_request *request, struct admin_answer *answer)
{
    set(request, STR_EMPTY, /* create= */ true, answer);
}

void admin_api_user_password(struct admin_request *request, struct admin_answer *answer)
{
    set(request, request->parameter, /* create= */ false, answer);
}

void admin_api_user_remove(struct admin_request *request, struct admin_answer *answer)
{
    const struct gateway_user_wish wish = {.file = admin_query(request, "file"),
                                           .login = request->parameter,
                                           .senders = STR_EMPTY,
                                           .password = STR_EMPTY,
                                           .dry_run = request->dry_run};
    change(request, &wish, answer);
}
