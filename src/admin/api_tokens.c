/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_tokens.c - tokens for the API over TCP: list, make, revoke. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/page.h"
#include "admin/queue_selector.h"
#include "base/clock.h"

enum { NAME_MAX_BYTES = 64 };

/* Without the file nobody knows which tokens there are. */
static bool has_tokens(const struct admin_request *request, struct admin_answer *answer)
{
    if (!request->access)
        admin_problem(answer, 503, "Not now", "the file of tokens could not be read at the start");
    return request->access != NULL;
}

void admin_api_token_list(struct admin_request *request, struct admin_answer *answer)
{
    struct admin_page page;
    if (has_tokens(request, answer) &&
        admin_page_read(request, "tokens", ADMIN_PAGE_MAX, NULL, &page, answer)) {
        json_t *all = admin_token_list(request->access);
        json_t *items = admin_page_objects(&page, request->arena, all, "name");
        answer->json = admin_page_json(&page, items);
        json_decref(all);
    }
}

static struct str text_of(json_t *root, const char *name)
{
    json_t *value = json_object_get(root, name);
    return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value))
                                 : STR_EMPTY;
}

static bool is_name(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '_' && c != '.')
            return false;
    }
    return text.len > 0 && text.len <= NAME_MAX_BYTES;
}

/* False: the answer is a problem. */
static bool read_wish(const struct admin_request *request, json_t *root,
                      struct admin_token_wish *out, struct admin_answer *answer)
{
    struct str scope = text_of(root, "scope");
    struct str expires = text_of(root, "expires");
    int64_t duration_ns = 0;
    *out = (struct admin_token_wish){
        .name = text_of(root, "name"),
        .scope = ADMIN_SCOPE_READ,
        .expires_wall_ns = TIME_NEVER,
        .by = request->actor,
    };
    if (!is_name(out->name)) {
        admin_problem(answer, 400, "Bad request",
                      "name: 1 to %d letters, digits, \"-\", \"_\" and \".\"", NAME_MAX_BYTES);
    } else if (scope.len && !admin_scope_parse(scope, &out->scope)) {
        admin_problem(answer, 400, "Bad request", "scope: read, operate or admin");
    } else if (expires.len && (!admin_parse_age(expires, &duration_ns) || duration_ns <= 0 ||
                               duration_ns > INT64_MAX - clock_wall_ns() - 1)) {
        admin_problem(answer, 400, "Bad request", "expires: a duration like 12h or 90d");
    } else {
        if (expires.len)
            out->expires_wall_ns = clock_wall_ns() + duration_ns;
        return true;
    }
    return false;
}

static bool is_taken(const struct admin_request *request, struct str name)
{
    json_t *all = admin_token_list(request->access);
    size_t i;
    json_t *token;
    bool taken = false;
    json_array_foreach(all, i, token) taken = taken || str_equal(text_of(token, "name"), name);
    json_decref(all);
    return taken;
}

/* Of all of them; when each was last used is no change. */
struct str admin_tokens_version(struct admin_request *request)
{
    if (!request->access)
        return STR_EMPTY;
    json_t *all = admin_token_list(request->access);
    size_t i;
    json_t *token;
    json_array_foreach(all, i, token) json_object_del(token, "last_used");
    struct str tag = admin_tag_of(request->arena, all);
    json_decref(all);
    return tag;
}

static void create(struct admin_request *request, const struct admin_token_wish *wish,
                   struct admin_answer *answer)
{
    enum admin_token_result result;
    struct str token = STR_EMPTY;
    struct error err;
    char time[TIME_RFC3339_SIZE];
    enum result made = OK;
    if (request->dry_run)
        result = is_taken(request, wish->name) ? ADMIN_TOKEN_EXISTS : ADMIN_TOKEN_MADE;
    else
        made = admin_token_create(request->access, wish, request->arena, &result, &token, &err);
    if (made != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
    } else if (result == ADMIN_TOKEN_EXISTS) {
        admin_problem(answer, 409, "Exists", "there is a token %.*s; revoke it first",
                      STR_ARG(wish->name));
    } else if (result == ADMIN_TOKEN_TOO_MANY) {
        admin_problem(answer, 409, "Too many", "revoke a token first");
    } else {
        answer->object = arena_printf(request->arena, "%.*s %s", STR_ARG(wish->name),
                                      admin_scope_name(wish->scope));
        answer->json =
            json_pack("{s:o, s:s, s:o, s:b}", "name", admin_json(wish->name), "scope",
                      admin_scope_name(wish->scope), "expires",
                      wish->expires_wall_ns == TIME_NEVER
                          ? json_null()
                          : admin_json(clock_format_rfc3339(wish->expires_wall_ns, time)),
                      "dry_run", (int)request->dry_run);
        if (!request->dry_run)
            json_object_set_new(answer->json, "token", admin_json(token));
    }
}

/* {"name": "grafana", "scope": "read", "expires": "90d"} */
void admin_api_token_create(struct admin_request *request, struct admin_answer *answer)
{
    struct admin_token_wish wish;
    if (!has_tokens(request, answer))
        return;
    json_t *root = request->json;
    if (read_wish(request, root, &wish, answer))
        create(request, &wish, answer);
}

void admin_api_token_revoke(struct admin_request *request, struct admin_answer *answer)
{
    bool found = false;
    struct error err;
    if (!has_tokens(request, answer))
        return;
    if (request->dry_run)
        found = is_taken(request, request->parameter);
    else if (admin_token_revoke(request->access, request->parameter, &found, &err) != OK)
        found = false, answer->status = 503;
    if (answer->status == 503)
        admin_problem(answer, 503, "Not now", "%s", err.text);
    else if (!found)
        admin_problem(answer, 404, "Not found", "there is no token %.*s",
                      STR_ARG(request->parameter));
    else
        answer->json =
            json_pack("{s:o, s:b, s:b}", "name", admin_json(request->parameter), "revoked",
                      (int)!request->dry_run, "dry_run", (int)request->dry_run);
}
