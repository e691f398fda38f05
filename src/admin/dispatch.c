/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/dispatch.c - what every path has in common: who may ask, what a request may say, a dry run,
 * a key for once, versions, and the audit. Knows nothing of connections.
 */
#include "admin/body.h"
#include "admin/http.h"
#include "admin/once.h"
#include "admin/routes.h"
#include "base/buf.h"
#include "base/clock.h"
#include "crypto/sha256.h"
#include "event/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REASON_MAX = 1000, TAG_BYTES = 12 };

/* ---- which row ---- */

/* Does `path` fit `pattern`, in which {id} stands for one part? */
static bool path_fits(struct str pattern, struct str path, struct str *out_parameter)
{
    struct str want;
    struct str have;
    *out_parameter = STR_EMPTY;
    while (str_split(&pattern, '/', &want)) {
        if (!str_split(&path, '/', &have))
            return false;
        if (str_equal(want, STR("{id}")) && have.len)
            *out_parameter = have;
        else if (!str_equal(want, have))
            return false;
    }
    return path.ptr == NULL;
}

static const char *allowed(struct str path)
{
    static const struct {
        bool get, post, remove;
        const char *text;
    } rows[] = {
        {true, false, false, "GET, HEAD"},
        {true, true, false, "GET, HEAD, POST"},
        {false, true, false, "POST"},
        {true, false, true, "GET, HEAD, DELETE"},
        {false, false, true, "DELETE"},
        {false, true, true, "POST, DELETE"},
        {true, true, true, "GET, HEAD, POST, DELETE"},
    };
    bool get = false, post = false, remove = false;
    struct str parameter;
    for (const struct admin_route *route = admin_routes; route->method; route++) {
        if (!path_fits(str_c(route->path), path, &parameter))
            continue;
        get = get || route->method[0] == 'G';
        post = post || route->method[0] == 'P';
        remove = remove || route->method[0] == 'D';
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].get == get && rows[i].post == post && rows[i].remove == remove)
            return rows[i].text;
    return NULL;
}

const struct admin_route *admin_find_route(enum admin_scope scope, struct str actor,
                                           struct str method, struct str path,
                                           struct str *out_parameter, struct admin_answer *answer)
{
    if (str_equal(method, STR("HEAD")))
        method = STR("GET");
    for (const struct admin_route *route = admin_routes; route->method; route++) {
        if (!path_fits(str_c(route->path), path, out_parameter) ||
            !str_equal(method, str_c(route->method)))
            continue;
        if (scope <= route->scope)
            return route;
        admin_problem(answer, 403, "Not allowed", "this needs the scope %s, and %.*s has %s",
                      admin_scope_name(route->scope), STR_ARG(actor), admin_scope_name(scope));
        return NULL;
    }
    answer->allow = allowed(path);
    if (answer->allow)
        admin_problem(answer, 405, "Method not allowed", "this path has no %.*s, but %s",
                      STR_ARG(str_slice(method, 0, 20)), answer->allow);
    else
        admin_problem(answer, 404, "Not found", "there is no such path");
    return NULL;
}

/* ---- what the request says ---- */

struct query_check {
    const struct admin_route *route;
    struct admin_answer *answer;
    bool good;
};

static bool is_known_parameter(const struct admin_route *route, const char *name)
{
    for (const struct admin_parameter *p = route->query; p && p->name; p++)
        if (strcmp(p->name, name) == 0)
            return true;
    return route->audit && (strcmp(name, "dry_run") == 0 || strcmp(name, "reason") == 0);
}

/* One that is misspelt would be a wish that nobody hears. */
static void check_parameter(void *context, const char *name)
{
    struct query_check *check = context;
    if (is_known_parameter(check->route, name))
        return;
    if (check->good)
        admin_problem(check->answer, 400, "Bad request", "this path has no parameter %.100s", name);
    check->good = false;
    char known[101];
    snprintf(known, sizeof known, "%.100s", name);
    admin_problem_parameter(check->answer, known, "is not known here");
}

static bool check_query(const struct admin_route *route, const struct admin_request *request,
                        struct admin_answer *answer)
{
    struct query_check check = {.route = route, .answer = answer, .good = true};
    if (str_starts(request->path, STR("/api/")))
        admin_query_each(request, check_parameter, &check);
    return check.good;
}

static bool read_body(const struct admin_route *route, struct admin_request *request,
                      struct admin_answer *answer)
{
    json_error_t where;
    struct str text = str_trim(request->body);
    if (!route->body)
        return true;
    request->json =
        text.len ? json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &where) : json_object();
    if (request->json)
        return admin_body_fits(request->json, route->body, request->arena, answer);
    admin_problem(answer, 400, "Bad request", "the body is no JSON: line %d, column %d: %s",
                  where.line, where.column, where.text);
    return false;
}

static struct str text_of(json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value))
                                 : STR_EMPTY;
}

static bool read_wishes(const struct admin_route *route, struct admin_request *request,
                        struct admin_answer *answer)
{
    struct str dry = admin_query(request, "dry_run");
    struct str reason = admin_query(request, "reason");
    if (dry.len && !str_equal(dry, STR("true")) && !str_equal(dry, STR("false"))) {
        admin_problem(answer, 400, "Bad request", "dry_run: true or false");
        admin_problem_parameter(answer, "dry_run", "true or false");
        return false;
    }
    request->dry_run =
        str_equal(dry, STR("true")) || json_is_true(json_object_get(request->json, "dry_run"));
    if (!reason.len)
        reason = text_of(request->json, "reason");
    request->reason = arena_str(request->arena, str_slice(reason, 0, REASON_MAX));
    if (!request->dry_run || route->ways & ADMIN_DRY)
        return true;
    admin_problem(answer, 400, "Not to be tried", "what %s does cannot be tried", route->path);
    return false;
}

/* ---- versions ---- */

/* Is `tag` among "a", "b", or all of them? A weak one is none for If-Match (RFC 9110 13.1.1). */
static bool names_tag(struct str list, struct str tag, bool weak_too)
{
    struct str one;
    while (list.ptr && str_split(&list, ',', &one)) {
        one = str_trim(one);
        if (str_equal(one, STR("*")))
            return tag.len > 0;
        if (weak_too && str_starts(one, STR("W/")))
            one = str_from(one, 2);
        bool quoted = one.len >= 2 && str_starts(one, STR("\"")) && str_ends(one, STR("\""));
        if (str_equal(quoted ? str_slice(one, 1, one.len - 1) : one, tag))
            return true;
    }
    return false;
}

static struct str hash_tag(struct arena *arena, struct str text)
{
    unsigned char digest[SHA256_SIZE];
    char hex[2 * TAG_BYTES + 1];
    struct sha256 sha;
    sha256_open(&sha);
    sha256_add(&sha, text);
    sha256_finish(&sha, digest);
    sha256_close(&sha);
    for (size_t i = 0; i < TAG_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return arena_str(arena, str_c(hex));
}

struct str admin_tag_of(struct arena *arena, json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    struct str tag = text ? hash_tag(arena, str_c(text)) : STR_EMPTY;
    free(text);
    return tag;
}

/* Also for a change that found out by itself. */
void admin_say_changed(struct admin_answer *answer, struct str expected, struct str current)
{
    expected = str_slice(expected, 0, 200);
    if (expected.len > 2 && expected.ptr[0] == '"' && str_find(expected, ',') < 0)
        expected = str_slice(expected, 1, expected.len - 1);
    admin_problem(answer, 412, "Changed meanwhile",
                  "%.*s is in force by now, not %.*s: look at what it is, then decide again",
                  STR_ARG(current), STR_ARG(expected));
    json_object_set_new(answer->json, "expected", admin_json(expected));
    json_object_set_new(answer->json, "current", admin_json(current));
}

static bool is_as_expected(const struct admin_route *route, struct admin_request *request,
                           struct str version, struct admin_answer *answer)
{
    if (!request->if_match.len || names_tag(request->if_match, version, /* weak_too= */ false))
        return true;
    if (!route->version) {
        admin_problem(answer, 400, "Bad request", "%s has no versions: If-Match says nothing here",
                      route->path);
        return false;
    }
    admin_say_changed(answer, request->if_match, version);
    return false;
}

/* ---- looking ---- */

static bool is_known_text(struct admin_request *request, struct admin_answer *answer)
{
    char *text = json_dumps(answer->json, JSON_COMPACT);
    if (!text)
        return false;
    answer->text = arena_str(request->arena, str_c(text));
    answer->type = "application/json";
    free(text);
    json_decref(answer->json);
    answer->json = NULL;
    answer->etag = hash_tag(request->arena, answer->text);
    return true;
}

static void look(const struct admin_route *route, struct admin_request *request,
                 struct admin_answer *answer)
{
    route->handle(request, answer);
    if (answer->status != 200 || answer->tail || !answer->json)
        return;
    bool whole = true;
    if (route->version) {
        answer->etag = route->version(request);
        whole = (route->ways & ADMIN_WHOLE) != 0;
    } else if (!is_known_text(request, answer)) {
        return;
    }
    if (!whole || !names_tag(request->if_none_match, answer->etag, /* weak_too= */ true))
        return;
    json_decref(answer->json);
    answer->json = NULL;
    answer->text = STR_EMPTY;
    answer->type = NULL;
    answer->status = 304;
}

/* ---- changing ---- */

static void tell(const struct admin_route *route, const struct admin_request *request,
                 const struct admin_answer *answer, struct str before, struct str after)
{
    event_emit(EVENT_ADMIN_ACTION, F_STR(ACTOR, request->actor), F_C(VERB, route->audit),
               F_STR(OBJECT, answer->object.len ? answer->object : request->parameter),
               F_STR(WHY, request->reason), F_STR(CLIENT, request->client), F_STR(BEFORE, before),
               F_STR(AFTER, after));
}

/* One at a time where there are versions, so that none comes between the look and the change. */
static void change(const struct admin_route *route, struct admin_request *request,
                   struct admin_answer *answer)
{
    struct str before = STR_EMPTY, after = STR_EMPTY;
    if (route->version) {
        pthread_mutex_lock(request->changing);
        before = route->version(request);
        request->version = before;
    }
    if (is_as_expected(route, request, before, answer))
        route->handle(request, answer);
    if (route->version) {
        after = route->version(request);
        pthread_mutex_unlock(request->changing);
    }
    if (answer->status < 400 && !request->dry_run && after.len)
        answer->etag = after;
    if (answer->status < 400 && !request->dry_run && route->audit)
        tell(route, request, answer, before, after);
}

/* ---- once ---- */

static bool is_key(struct str key)
{
    for (size_t i = 0; i < key.len; i++)
        if (key.ptr[i] <= ' ' || key.ptr[i] > '~')
            return false;
    return key.len <= ONCE_KEY_MAX;
}

static void say_unknown(struct admin_request *request, const struct once_request *once,
                        const struct once_answer *found, struct admin_answer *answer)
{
    if (admin_message_recover(request, found->id, answer)) {
        char *text = json_dumps(answer->json, JSON_COMPACT);
        once_done(request->once, once, 200, str_c(text ? text : "{}"));
        free(text);
        answer->replayed = true;
        return;
    }
    admin_problem(answer, 409, "Outcome not known",
                  "the gateway ended while it worked on this; a message would bear the id %s "
                  "(postern trace), and other changes are events admin.action",
                  mail_id_text(found->id).chars);
}

/* False: the answer is there. */
static bool is_first(struct admin_request *request, const struct once_request *once,
                     struct admin_answer *answer)
{
    struct once_answer found;
    once_begin(request->once, once, request->arena, &found);
    switch (found.state) {
    case ONCE_NEW:
        request->new_id = found.id;
        return true;
    case ONCE_DONE:
        answer->status = found.status;
        answer->text = found.text;
        answer->type = "application/json";
        answer->replayed = true;
        break;
    case ONCE_RUNNING:
        admin_problem(answer, 409, "Still being done", "the first request is not answered yet");
        answer->retry_after_s = 1;
        break;
    case ONCE_OTHER:
        admin_problem(answer, 422, "Key used before",
                      "the key came before with another path, query or body");
        break;
    case ONCE_UNKNOWN:
        say_unknown(request, once, &found, answer);
        break;
    case ONCE_FULL:
        admin_problem(answer, 503, "Not now",
                      "no more keys can be kept; without one, the request is worked on");
        answer->retry_after_s = 60;
        break;
    }
    return false;
}

static void change_once(const struct admin_route *route, struct admin_request *request,
                        struct admin_answer *answer)
{
    const struct once_request once = {
        .actor = request->actor,
        .key = request->idempotency_key,
        .what = arena_printf(request->arena, "%s %.*s %.*s", route->method, STR_ARG(request->path),
                             STR_ARG(admin_query(request, "reason"))),
        .body = request->body,
        .secret = (route->ways & ADMIN_SECRET) != 0,
        .now_ms = clock_wall_ns() / NS_PER_MS,
    };
    if (!is_key(once.key)) {
        admin_problem(answer, 400, "Bad request",
                      "Idempotency-Key: up to %d characters without blanks", ONCE_KEY_MAX);
        return;
    }
    if (!request->once) {
        admin_problem(answer, 503, "Not now", "the file of keys could not be read at the start");
        return;
    }
    if (!is_first(request, &once, answer))
        return;
    change(route, request, answer);
    if (answer->status >= 400 || answer->undone) {
        once_forget(request->once, &once);
        return;
    }
    char *text = json_dumps(answer->json, JSON_COMPACT);
    once_done(request->once, &once, answer->status, str_c(text ? text : "{}"));
    free(text);
}

void admin_run_route(const struct admin_route *route, struct admin_request *request,
                     struct admin_answer *answer)
{
    bool changes = route->audit && route->method[0] != 'G';
    bool once = changes && route->method[0] == 'P' && request->idempotency_key.len;
    if (!check_query(route, request, answer) || !read_body(route, request, answer) ||
        !read_wishes(route, request, answer))
        return;
    if (once && !request->dry_run)
        change_once(route, request, answer);
    else if (changes)
        change(route, request, answer);
    else
        look(route, request, answer);
    if (!changes && route->audit && answer->status < 400)
        tell(route, request, answer, STR_EMPTY, STR_EMPTY);
}
