/* SPDX-License-Identifier: Apache-2.0 */
/* admin/openapi.c - the description of the API (OpenAPI 3.1), made from routes.c and schemas.c. */
#include "admin/http.h"
#include "admin/routes.h"
#include "base/buf.h"

#include <string.h>

/* ---- schemas ---- */

static json_t *reference(struct str name)
{
    struct buf path BUF_CLEANUP;
    buf_init(&path, 256);
    buf_printf(&path, "#/components/schemas/%.*s", STR_ARG(name));
    return json_pack("{s:o}", "$ref", admin_json(buf_str(&path)));
}

static bool is_plain(struct str type)
{
    static const char *const plain[] = {"string", "integer", "number", "boolean", "object"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (str_equal(type, str_c(plain[i])))
            return true;
    }
    return false;
}

/* "integer", "time", "[Entry]", "any", "Entry", without the "?". */
static json_t *type_json(struct str type)
{
    if (type.len > 2 && type.ptr[0] == '[') {
        struct str item = str_slice(type, 1, type.len - 1);
        return json_pack("{s:s, s:o}", "type", "array", "items",
                         is_plain(item) ? json_pack("{s:o}", "type", admin_json(item))
                                        : reference(item));
    }
    if (str_equal(type, STR("time")))
        return json_pack("{s:s, s:s}", "type", "string", "format", "date-time");
    if (str_equal(type, STR("any")))
        return json_object();
    return is_plain(type) ? json_pack("{s:o}", "type", admin_json(type)) : reference(type);
}

static json_t *or_null(json_t *type)
{
    json_t *name = json_object_get(type, "type");
    if (!name) /* a reference to another schema */
        return json_pack("{s:[o, {s:s}]}", "anyOf", type, "type", "null");
    json_object_set_new(type, "type", json_pack("[O, s]", name, "null"));
    return type;
}

/* "name:type", "name?:type?" */
static void add_field(struct str field, json_t *properties, json_t *required)
{
    char name[64];
    ptrdiff_t colon = str_find(field, ':');
    struct str type = str_from(field, (size_t)colon + 1);
    struct str written = str_slice(field, 0, (size_t)colon);
    bool optional = str_ends(written, STR("?"));
    bool nullable = str_ends(type, STR("?"));
    if (!str_to_c(str_slice(written, 0, written.len - optional), name, sizeof name))
        return;
    json_t *schema = type_json(str_slice(type, 0, type.len - nullable));
    json_object_set_new(properties, name, nullable ? or_null(schema) : schema);
    if (!optional)
        json_array_append_new(required, json_string(name));
}

static json_t *schema_json(const struct admin_schema *schema)
{
    json_t *properties = json_object();
    json_t *required = json_array();
    struct str rest = str_c(schema->fields);
    struct str field;
    while (str_split(&rest, ' ', &field))
        add_field(field, properties, required);
    return json_pack("{s:s, s:s, s:o, s:o, s:b}", "type", "object", "description", schema->text,
                     "properties", properties, "required", required, "additionalProperties", 0);
}

/* ---- routes ---- */

static json_t *parameter_json(const char *name, const char *place, const char *type,
                              const char *text)
{
    bool in_path = strcmp(place, "path") == 0;
    return json_pack("{s:s, s:s, s:b, s:s, s:{s:s}}", "name", name, "in", place, "required",
                     (int)in_path, "description", text, "schema", "type", type);
}

static bool changes(const struct admin_route *route)
{
    return route->audit && route->method[0] != 'G';
}

static void add_change_parameters(const struct admin_route *route, json_t *list)
{
    json_array_append_new(
        list, parameter_json("reason", "query", "string", "why, for the audit; or in the body"));
    if (route->ways & ADMIN_DRY)
        json_array_append_new(list, parameter_json("dry_run", "query", "boolean",
                                                   "true: tell what would be done, do nothing"));
    if (route->method[0] == 'P')
        json_array_append_new(
            list, parameter_json("Idempotency-Key", "header", "string",
                                 "the same key and request within 24 hours: done once, and the "
                                 "first answer again"));
    if (route->version)
        json_array_append_new(list,
                              parameter_json("If-Match", "header", "string",
                                             "an ETag that was read: 412 if it is another by now"));
}

static json_t *parameters_json(const struct admin_route *route)
{
    json_t *list = json_array();
    if (strstr(route->path, "{id}"))
        json_array_append_new(list, parameter_json("id", "path", "string", "which one"));
    for (const struct admin_parameter *p = route->query; p && p->name; p++)
        json_array_append_new(list, parameter_json(p->name, "query", p->type, p->text));
    if (route->answer && strcmp(route->answer, "text/event-stream") == 0)
        json_array_append_new(
            list, parameter_json("Last-Event-ID", "header", "string", "go on behind this event"));
    if (changes(route))
        add_change_parameters(route, list);
    else if (route->answer && !strchr(route->answer, '/'))
        json_array_append_new(list, parameter_json("If-None-Match", "header", "string",
                                                   "an ETag: 304 if it is still the same"));
    return list;
}

static json_t *content_json(const char *type, json_t *schema)
{
    return json_pack("{s:{s:o}}", type, "schema", schema);
}

static json_t *answer_json(const struct admin_route *route)
{
    const char *answer = route->answer ? route->answer : "Problem";
    if (strchr(answer, '/'))
        return json_pack("{s:s, s:o}", "description", route->text, "content",
                         content_json(answer, json_pack("{s:s}", "type", "string")));
    return json_pack("{s:s, s:o}", "description", route->text, "content",
                     content_json("application/json", reference(str_c(answer))));
}

/* "get /api/v1/messages/{id}/raw" as "get_messages_id_raw" */
static json_t *operation_id(const char *method, const char *path)
{
    struct buf id BUF_CLEANUP;
    bool gap = true;
    buf_init(&id, 256);
    buf_append(&id, str_c(method));
    path += strncmp(path, "/api/v1", 7) == 0 ? 7 : 0;
    for (; *path; path++) {
        bool letter = ascii_is_alpha(*path) || ascii_is_digit(*path);
        if (letter && gap)
            buf_append_byte(&id, '_');
        if (letter)
            buf_append_byte(&id, *path);
        gap = !letter;
    }
    return admin_json(buf_str(&id));
}

static void add_route(json_t *paths, const struct admin_route *route)
{
    char method[16] = "";
    for (size_t i = 0; route->method[i] && i < sizeof method - 1; i++)
        method[i] = ascii_lower(route->method[i]);
    json_t *operation =
        json_pack("{s:o, s:s, s:s, s:o, s:{s:o, s:{s:s}}}", "operationId",
                  operation_id(method, route->path), "summary", route->text, "x-postern-scope",
                  admin_scope_name(route->scope), "parameters", parameters_json(route), "responses",
                  "200", answer_json(route), "default", "$ref", "#/components/responses/Problem");
    if (route->body)
        json_object_set_new(
            operation, "requestBody",
            json_pack("{s:b, s:o}", "required", 1, "content",
                      content_json("application/json", reference(str_c(route->body)))));
    if (route->audit)
        json_object_set_new(operation, "x-postern-audit", json_string(route->audit));
    json_t *path = json_object_get(paths, route->path);
    if (!path) {
        path = json_object();
        json_object_set_new(paths, route->path, path);
    }
    json_object_set_new(path, method, operation);
}

json_t *admin_openapi(void)
{
    json_t *paths = json_object();
    json_t *schemas = json_object();
    for (const struct admin_route *route = admin_routes; route->method; route++)
        add_route(paths, route);
    for (const struct admin_schema *schema = admin_schemas; schema->name; schema++)
        json_object_set_new(schemas, schema->name, schema_json(schema));
    json_t *problem =
        json_pack("{s:s, s:o}", "description", "A problem.", "content",
                  content_json("application/problem+json", reference(STR("Problem"))));
    json_t *components = json_pack(
        "{s:o, s:{s:o}, s:{s:{s:s, s:s, s:s}}}", "schemas", schemas, "responses", "Problem",
        problem, "securitySchemes", "token", "type", "http", "scheme", "bearer", "description",
        "A token of postern token create; the control socket needs none.");
    return json_pack("{s:s, s:{s:s, s:s, s:s}, s:[{s:[]}, {}], s:o, s:o}", "openapi", "3.1.0",
                     "info", "title", "Postern", "version", POSTERN_VERSION, "description",
                     "What the gateway tells and what it can be told.", "security", "token",
                     "paths", paths, "components", components);
}

void admin_api_openapi(struct admin_request *request, struct admin_answer *answer)
{
    (void)request;
    answer->json = admin_openapi();
}
