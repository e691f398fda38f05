/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/body.h"

#include "base/buf.h"

#include <string.h>

enum { ERRORS_MAX = 20, NAME_SIZE = 64 };

struct check {
    struct arena *arena;
    struct admin_answer *answer;
    size_t errors;
};

static void complain(struct check *check, struct str pointer, const char *why)
{
    if (check->errors++ == 0)
        admin_problem(check->answer, 400, "Bad request", "%.*s: %s",
                      STR_ARG(str_slice(pointer, 0, 200)), why);
    if (check->errors <= ERRORS_MAX)
        admin_problem_pointer(check->answer, pointer, why);
}

static const struct admin_schema *find_schema(struct str name)
{
    for (const struct admin_schema *schema = admin_schemas; schema->name; schema++)
        if (str_equal(str_c(schema->name), name))
            return schema;
    return NULL;
}

static void check_object(struct check *check, json_t *object, const struct admin_schema *schema,
                         struct str pointer);

/* Of the plain types; NULL: it fits. */
static const char *why_not_plain(json_t *value, struct str type)
{
    static const struct {
        const char *type, *why;
        int kinds[2];
    } rows[] = {
        {"string", "must be a string", {JSON_STRING, JSON_STRING}},
        {"time", "must be a string", {JSON_STRING, JSON_STRING}},
        {"integer", "must be a whole number", {JSON_INTEGER, JSON_INTEGER}},
        {"number", "must be a number", {JSON_INTEGER, JSON_REAL}},
        {"boolean", "must be true or false", {JSON_TRUE, JSON_FALSE}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!str_equal(type, str_c(rows[i].type)))
            continue;
        int kind = (int)json_typeof(value);
        return kind == rows[i].kinds[0] || kind == rows[i].kinds[1] ? NULL : rows[i].why;
    }
    return str_equal(type, STR("any")) || json_is_object(value) ? NULL : "must be an object";
}

/* Rows of schemas nest as deep as the table does, and no deeper. */
static void check_value(struct check *check, json_t *value, struct str type, struct str pointer)
{
    if (type.len && type.ptr[type.len - 1] == '?') {
        type.len--;
        if (json_is_null(value))
            return;
    }
    if (type.ptr[0] == '[') {
        struct str item = str_slice(type, 1, type.len - 1);
        if (!json_is_array(value))
            complain(check, pointer, "must be a list");
        for (size_t i = 0; i < json_array_size(value) && check->errors < ERRORS_MAX; i++)
            check_value(check, json_array_get(value, i), item,
                        arena_printf(check->arena, "%.*s/%zu", STR_ARG(pointer), i));
        return;
    }
    const char *why = why_not_plain(value, type);
    if (why)
        complain(check, pointer, why);
    else if (find_schema(type))
        check_object(check, value, find_schema(type), pointer);
}

/* "name:type", "name?:type" in its parts. */
static struct str split_field(struct str field, struct str *out_type, bool *out_optional)
{
    ptrdiff_t colon = str_find(field, ':');
    struct str name = str_slice(field, 0, (size_t)colon);
    *out_type = str_from(field, (size_t)colon + 1);
    *out_optional = str_ends(name, STR("?"));
    return str_slice(name, 0, name.len - *out_optional);
}

static bool is_known(const struct admin_schema *schema, struct str name)
{
    struct str rest = str_c(schema->fields), field, type;
    bool optional;
    while (rest.len && str_split(&rest, ' ', &field))
        if (str_equal(split_field(field, &type, &optional), name))
            return true;
    return false;
}

/* As a part of a pointer: "~" and "/" stand for something there (RFC 6901). */
static struct str escaped(struct arena *arena, struct str name)
{
    struct buf out BUF_CLEANUP;
    name = str_slice(name, 0, NAME_SIZE);
    buf_init(&out, 2 * NAME_SIZE + 1);
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '~')
            buf_append(&out, STR("~0"));
        else if (name.ptr[i] == '/')
            buf_append(&out, STR("~1"));
        else
            buf_append_byte(&out, name.ptr[i]);
    }
    return arena_str(arena, buf_str(&out));
}

static void check_object(struct check *check, json_t *object, const struct admin_schema *schema,
                         struct str pointer)
{
    struct str rest = str_c(schema->fields), field, type;
    const char *name;
    json_t *value;
    bool optional;
    while (rest.len && str_split(&rest, ' ', &field)) {
        struct str key = split_field(field, &type, &optional);
        struct str at = arena_printf(check->arena, "%.*s/%.*s", STR_ARG(pointer), STR_ARG(key));
        value = json_object_getn(object, key.ptr, key.len);
        if (value)
            check_value(check, value, type, at);
        else if (!optional)
            complain(check, at, "is missing");
    }
    json_object_foreach(object, name, value)
    {
        if (!is_known(schema, str_c(name)) && check->errors < ERRORS_MAX)
            complain(check,
                     arena_printf(check->arena, "%.*s/%.*s", STR_ARG(pointer),
                                  STR_ARG(escaped(check->arena, str_c(name)))),
                     "is not known here");
    }
}

bool admin_body_fits(json_t *body, const char *schema, struct arena *arena,
                     struct admin_answer *answer)
{
    struct check check = {.arena = arena, .answer = answer};
    if (json_is_object(body))
        check_object(&check, body, find_schema(str_c(schema)), STR("#"));
    else
        admin_problem(answer, 400, "Bad request", "the body must be a JSON object");
    return json_is_object(body) && check.errors == 0;
}
