/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_config.c - the configuration in force, its revisions, and changing it. */
#include "admin/routes.h"

#include "admin/change.h"
#include "admin/http.h"
#include "admin/page.h"
#include "admin/revisions.h"
#include "admin/queue_selector.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>

enum { FILES_MAX = 1001, CONFIRM_S_MAX = 7 * 24 * 3600 };

static struct str text_of(json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return str_of(json_string_value(value) ? json_string_value(value) : "",
                  json_string_length(value));
}

static json_t *name_json(unsigned number)
{
    char text[16];
    snprintf(text, sizeof text, "r%u", number);
    return number ? json_string(text) : json_null();
}

static bool has_revisions(struct admin_request *request, struct admin_answer *answer)
{
    if (request->revisions)
        return true;
    admin_problem(answer, 503, "Not now", "the folder of the revisions cannot be used");
    return false;
}

/* False: the answer says that there is none. */
static bool read_revision(struct admin_request *request, struct str name, struct revision *out,
                          struct admin_answer *answer)
{
    unsigned number;
    struct error err = {0};
    if (!revision_parse(name, &number))
        admin_problem(answer, 400, "Bad request", "a revision is r1, r2, …, not \"%.*s\"",
                      STR_ARG(name));
    else if (revisions_read(request->revisions, number, request->arena, out, &err) != OK)
        admin_problem(answer, err.kind == ERROR_PERMANENT ? 404 : 503,
                      err.kind == ERROR_PERMANENT ? "Not found" : "Not now", "%s", err.text);
    else
        return true;
    return false;
}

/* What all, or all but a share of, the sessions get. */
static unsigned in_force(const struct revisions_state *state)
{
    return state->pending && !state->share ? state->pending : state->current;
}

/* ---- what is in force ---- */

static json_t *pending_json(const struct revisions_state *state)
{
    if (!state->pending)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:i}", "revision", name_json(state->pending), "former",
                     name_json(state->current), "confirm_by", admin_time_json(state->confirm_by_ns),
                     "share", (int)state->share);
}

/* Is the file on disk what is in force? */
static const char *compare_file(struct admin_request *request, unsigned number)
{
    char hash[REVISION_HASH_SIZE];
    struct config_report report;
    struct config_texts texts;
    struct revision revision;
    struct error err;
    config_report_init(&report, request->arena);
    if (revisions_read(request->revisions, number, request->arena, &revision, &err) != OK ||
        config_read_texts(arena_c(request->arena, request->config_path), request->arena, &report,
                          &texts) != OK)
        return "unreadable";
    revisions_hash(&texts, hash);
    return strcmp(hash, revision.hash) == 0 ? "same" : "differs";
}

void admin_config_add(struct admin_request *request, json_t *status)
{
    if (!request->revisions)
        return;
    struct revisions_state state = revisions_state(request->revisions);
    json_object_set_new(status, "config_file",
                        json_string(compare_file(request, in_force(&state))));
    json_object_set_new(status, "config_pending", pending_json(&state));
}

bool admin_config_is_unconfirmed(struct admin_request *request, int64_t *out_confirm_by_ns)
{
    if (!request->revisions)
        return false;
    struct revisions_state state = revisions_state(request->revisions);
    *out_confirm_by_ns = state.confirm_by_ns;
    return state.pending != 0;
}

void admin_api_config_show(struct admin_request *request, struct admin_answer *answer)
{
    if (!has_revisions(request, answer))
        return;
    struct revisions_state state = revisions_state(request->revisions);
    answer->json = json_pack(
        "{s:o, s:o, s:o, s:s, s:o}", "revision", name_json(in_force(&state)), "applied",
        admin_time_json(state.applied_ns), "file", admin_json(request->config_path), "file_state",
        compare_file(request, in_force(&state)), "pending", pending_json(&state));
}

struct str admin_config_version(struct admin_request *request)
{
    if (!request->revisions)
        return STR_EMPTY;
    struct revisions_state state = revisions_state(request->revisions);
    return arena_printf(request->arena, "r%u", in_force(&state));
}

/* ---- revisions ---- */

static const char *state_name(const struct revisions_state *state, const struct revision *revision)
{
    if (revision->number == state->pending)
        return state->share ? "share" : "unconfirmed";
    if (revision->number == state->current)
        return state->pending && !state->share ? "former" : "in force";
    return "";
}

static json_t *revision_json(const struct revisions_state *state, const struct revision *revision)
{
    const char *name = state_name(state, revision);
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "revision", name_json(revision->number), "time",
                     admin_time_json(revision->made_ns), "actor", admin_json(revision->actor),
                     "reason", admin_json(revision->reason), "state",
                     name[0] ? json_string(name) : admin_json(revision->fate));
}

void admin_api_config_history(struct admin_request *request, struct admin_answer *answer)
{
    if (!has_revisions(request, answer))
        return;
    struct revisions_state state = revisions_state(request->revisions);
    struct admin_page page;
    size_t count, at;
    if (!admin_page_read(request, "revisions", ADMIN_PAGE_MAX, NULL, &page, answer))
        return;
    const unsigned *numbers = revisions_numbers(request->revisions, request->arena, &count);
    struct admin_row *rows = arena_alloc_array(request->arena, count + 1, sizeof *rows);
    for (size_t i = 0; i < count; i++)
        rows[i] = (struct admin_row){admin_page_falling(request->arena, numbers[i]), &numbers[i]};
    count = admin_page_rows(&page, rows, count, &at);
    json_t *items = json_array();
    for (size_t i = at; i < at + count; i++) {
        struct revision revision;
        struct error err;
        struct arena *arena = arena_new(0);
        if (revisions_read(request->revisions, *(const unsigned *)rows[i].item, arena, &revision,
                           &err) == OK)
            json_array_append_new(items, revision_json(&state, &revision));
        arena_free(arena);
    }
    answer->json = admin_page_json(&page, items);
}

void admin_api_config_revision(struct admin_request *request, struct admin_answer *answer)
{
    struct revision revision;
    if (!has_revisions(request, answer) ||
        !read_revision(request, request->parameter, &revision, answer))
        return;
    struct revisions_state state = revisions_state(request->revisions);
    json_t *files = json_array();
    for (size_t i = 0; i < revision.texts.count; i++)
        json_array_append_new(files, json_pack("{s:o, s:o}", "name",
                                               admin_json(revision.texts.items[i].name), "text",
                                               admin_json(revision.texts.items[i].text)));
    answer->json = revision_json(&state, &revision);
    json_object_set_new(answer->json, "files", files);
}

/* ---- wishes ---- */

static bool read_files(json_t *files, struct change *change, struct admin_answer *answer)
{
    size_t count = json_array_size(files);
    change->texts.items = arena_alloc_array(change->arena, count + 1, sizeof(struct config_text));
    change->texts.count = count;
    for (size_t i = 0; i < count; i++) {
        json_t *file = json_array_get(files, i);
        change->texts.items[i] =
            (struct config_text){.name = arena_str(change->arena, text_of(file, "name")),
                                 .text = arena_str(change->arena, text_of(file, "text"))};
        if (change->texts.items[i].name.len == 0)
            count = 0;
    }
    if (count > 0 && count <= FILES_MAX)
        return true;
    admin_problem(answer, 400, "Bad request",
                  "files: a list of {name, text}, postern.yaml first, at most %d", FILES_MAX);
    return false;
}

static bool read_number(json_t *root, const char *name, json_int_t max, json_int_t *out,
                        struct admin_answer *answer)
{
    json_t *value = json_object_get(root, name);
    *out = json_integer_value(value);
    if (!value || (json_is_integer(value) && *out >= 0 && *out <= max))
        return true;
    admin_problem(answer, 400, "Bad request", "%s: a number from 0 to %lld", name, (long long)max);
    return false;
}

static bool read_change(json_t *root, struct change *change, struct admin_answer *answer)
{
    json_int_t confirm_s;
    json_int_t share;
    struct str revision = text_of(root, "revision");
    if (!json_is_object(root))
        admin_problem(answer, 400, "Bad request", "the body is no JSON object");
    else if (revision.len && !revision_parse(revision, &change->number))
        admin_problem(answer, 400, "Bad request", "revision: r1, r2, …");
    else if (read_number(root, "confirm_seconds", CONFIRM_S_MAX, &confirm_s, answer) &&
             read_number(root, "share", 99, &share, answer) &&
             (change->kind != CHANGE_APPLY ||
              read_files(json_object_get(root, "files"), change, answer))) {
        change->confirm_ns = confirm_s * NS_PER_S;
        change->share = (unsigned)share;
        return true;
    }
    return false;
}

static json_t *problems_json(struct str lines)
{
    json_t *list = json_array();
    struct str line;
    while (lines.len && str_split(&lines, '\n', &line)) {
        json_t *problem = line.len ? json_loadb(line.ptr, line.len, 0, NULL) : NULL;
        if (problem)
            json_array_append_new(list, problem);
    }
    return list;
}

static json_t *done_json(struct admin_request *request, const struct change *change)
{
    struct revisions_state state = revisions_state(request->revisions);
    json_t *restart = json_array();
    for (size_t i = 0; i < change->restart_count; i++)
        json_array_append_new(restart, json_string(change->restart[i]));
    return json_pack("{s:o, s:o, s:b, s:o, s:o, s:o, s:s, s:o, s:b}", "revision",
                     name_json(change->revision), "former", name_json(change->former), "unchanged",
                     (int)change->unchanged, "pending", pending_json(&state), "after_restart",
                     restart, "problems", problems_json(change->problems), "file_state",
                     compare_file(request, in_force(&state)), "warning",
                     admin_json(change->warning), "dry_run", (int)change->dry_run);
}

static void ask(struct admin_request *request, enum change_kind kind, struct admin_answer *answer)
{
    json_t *root = request->json;
    struct change change = {.kind = kind,
                            .arena = request->arena,
                            .actor = request->actor,
                            .warning = STR_EMPTY,
                            .reason = request->reason,
                            .dry_run = request->dry_run};
    if (request->if_match.len) /* the door has compared it; a deadline may be faster all the same */
        revision_parse(request->version, &change.base);
    if (read_change(root, &change, answer)) {
        change_ask(request->desk, &change);
        if (change.status == 412) {
            admin_say_changed(answer, request->version, admin_config_version(request));
        } else if (change.status == 200) {
            answer->json = done_json(request, &change);
        } else {
            admin_problem(answer, change.status,
                          change.status == 422   ? "Not a usable configuration"
                          : change.status == 409 ? "Not as things are"
                          : change.status == 404 ? "Not found"
                                                 : "Not now",
                          "%.*s", STR_ARG(change.detail));
            json_object_set_new(answer->json, "errors", problems_json(change.problems));
        }
    }
}

/* {"files": [{"name": "/etc/postern/postern.yaml", "text": "…"}], "reason": "…",
 *  "confirm_seconds": 600, "share": 10} */
void admin_api_config_apply(struct admin_request *request, struct admin_answer *answer)
{
    ask(request, CHANGE_APPLY, answer);
}

/* {"revision": "r42"} */
void admin_api_config_confirm(struct admin_request *request, struct admin_answer *answer)
{
    ask(request, CHANGE_CONFIRM, answer);
}

/* {"revision": "r41", "reason": "…", "confirm_seconds": 600} */
void admin_api_config_rollback(struct admin_request *request, struct admin_answer *answer)
{
    ask(request, CHANGE_ROLLBACK, answer);
}
