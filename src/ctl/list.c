/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/list.c - lists of the API, page after page, and what --json and --plain make of things.
 *
 * --json: an item a line with the API's names. --plain: an item a line too, its fields in the order
 * of the API's schema between tabs; of a single thing, a line a field, its name before a tab. Both
 * only grow: what is new comes last.
 */
#include "ctl/list.h"

#include "admin/http.h"

#include <stdio.h>
#include <string.h>

enum { PAGE = 1000 };

/* ---- --plain ---- */

/* Without what would end the field or the line. */
static void print_plain_text(const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 32 || c == 127 || c == '\\')
            printf("\\x%02x", c);
        else
            putchar(c);
    }
}

static void print_plain(json_t *value)
{
    size_t i;
    json_t *part;
    const char *name;
    const char *gap = "";
    if (json_is_string(value))
        print_plain_text(json_string_value(value));
    else if (json_is_integer(value))
        printf("%lld", json_integer_value(value));
    else if (json_is_real(value))
        printf("%g", json_real_value(value));
    else if (json_is_boolean(value))
        printf("%s", json_is_true(value) ? "true" : "false");
    json_array_foreach(value, i, part)
    {
        printf("%s", i ? "," : "");
        print_plain(json_is_object(part) && json_object_size(part)
                        ? json_object_iter_value(json_object_iter(part))
                        : part);
    }
    json_object_foreach(value, name, part)
    {
        printf("%s%s=", gap, name);
        print_plain(part);
        gap = " ";
    }
}

static struct str fields_of(const char *schema)
{
    for (const struct admin_schema *one = admin_schemas; one->name; one++)
        if (strcmp(one->name, schema) == 0)
            return str_c(one->fields);
    return STR_EMPTY;
}

/* "name:type", "name?:type" */
static struct str name_of(struct str field)
{
    struct str name = str_slice(field, 0, (size_t)str_find(field, ':'));
    return str_slice(name, 0, name.len - str_ends(name, STR("?")));
}

/* Without a schema: as the command made it. */
static void print_members(json_t *item)
{
    const char *name;
    json_t *value;
    const char *gap = "";
    json_object_foreach(item, name, value)
    {
        printf("%s", gap);
        print_plain(value);
        gap = "\t";
    }
    printf("\n");
}

static void print_columns(json_t *item, const char *schema)
{
    struct str rest = fields_of(schema), field;
    const char *gap = "";
    while (rest.len && str_split(&rest, ' ', &field)) {
        struct str name = name_of(field);
        printf("%s", gap);
        print_plain(json_object_getn(item, name.ptr, name.len));
        gap = "\t";
    }
    printf("\n");
}

static void print_lines(json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        printf("%s\t", name);
        print_plain(value);
        printf("\n");
    }
}

void ctl_print(const struct ctl *ctl, json_t *object)
{
    if (ctl->plain)
        print_lines(object);
    else
        ctl_print_json(object);
}

void ctl_print_item(const struct ctl *ctl, json_t *item, const char *schema)
{
    if (ctl->plain && schema)
        print_columns(item, schema);
    else if (ctl->plain)
        print_members(item);
    else
        ctl_print_json(item);
}

void ctl_print_page(const struct ctl *ctl, const char *name, const char *value, struct str text)
{
    json_t *page =
        json_pack("{s:o, s:o}", name, admin_json(str_c(value)), "text", admin_json(text));
    ctl_print(ctl, page);
    json_decref(page);
}

bool ctl_print_change(const struct ctl *ctl, json_t *answer)
{
    const char *name;
    json_t *value;
    if (ctl->json) {
        ctl_print(ctl, answer);
        return true;
    }
    if (!ctl->dry_run)
        return false;
    printf("a dry run: nothing was done.  It would be:\n");
    json_object_foreach(answer, name, value)
    {
        if (strcmp(name, "dry_run") == 0)
            continue;
        printf("  %-14s ", name);
        print_plain(value);
        printf("\n");
    }
    return true;
}

/* ---- pages ---- */

static const char *page_path(struct ctl *ctl, const struct ctl_list *list, uint64_t left,
                             const char *cursor)
{
    const char *gap = strchr(list->path, '?') ? "&" : "?";
    uint64_t limit = left < PAGE ? left : PAGE;
    bool counts = list->limit && !list->uncounted && !ctl->json && !cursor;
    return arena_printf(ctl->arena, "%s%slimit=%llu%s%s%s", list->path, gap,
                        (unsigned long long)limit, counts ? "&count=exact" : "",
                        cursor ? "&cursor=" : "", cursor ? cursor : "")
        .ptr;
}

static void show_items(struct ctl *ctl, const struct ctl_list *list, json_t *items)
{
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item)
    {
        if (list->look)
            list->look(item, list->context);
        if (!list->print)
            continue;
        if (ctl->json)
            ctl_print_item(ctl, item, list->schema);
        else
            list->print(item);
    }
}

void ctl_listed_free(struct ctl_listed *listed)
{
    json_decref(listed->first);
    json_decref(listed->last);
    listed->first = listed->last = NULL;
}

static void note_page(struct ctl_listed *out, json_t *page)
{
    if (!out->first) {
        out->first = json_incref(page);
        out->total = ctl_number(page, "total");
        ctl_warn_of_loading(page);
    }
    out->shown += json_array_size(json_object_get(page, "items"));
    json_decref(out->last);
    out->last = json_incref(page);
}

int ctl_list(struct ctl *ctl, const struct ctl_list *list, struct ctl_listed *out)
{
    uint64_t limit = UINT64_MAX;
    const char *cursor = NULL;
    struct ctl_answer answer;
    *out = (struct ctl_listed){0};
    if (list->limit && (!str_to_uint(str_c(list->limit), UINT32_MAX, &limit) || limit == 0)) {
        fprintf(stderr, "postern: --limit: how many you want to see\n");
        return CTL_USAGE;
    }
    do {
        int code = ctl_request(ctl, "GET", page_path(ctl, list, limit - out->shown, cursor), NULL,
                               &answer);
        if (code) {
            ctl_listed_free(out);
            return code;
        }
        show_items(ctl, list, json_object_get(answer.json, "items"));
        note_page(out, answer.json);
        const char *next = ctl_text(answer.json, "next");
        cursor = next[0] ? arena_c(ctl->arena, str_c(next)) : NULL;
        json_decref(answer.json);
    } while (cursor && out->shown < limit && !ferror(stdout));
    out->more = cursor != NULL;
    return CTL_YES;
}

const char *ctl_list_count(struct ctl *ctl, const struct ctl_listed *listed)
{
    size_t total = (size_t)listed->total > listed->shown ? (size_t)listed->total : listed->shown;
    return arena_printf(ctl->arena, "%zu of %zu shown", listed->shown, total).ptr;
}
