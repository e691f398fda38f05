/* SPDX-License-Identifier: Apache-2.0 */
#include "content/fields.h"

enum { NAME_MAX_LEN = 128 };

struct fields_group {
    int last; /* index of the lowest field */
    int count;
    int next;      /* to be taken in this turn */
    unsigned turn; /* that `next` belongs to */
};

/* Lower case in `space`; empty for a name that is longer than any that is signed. */
static struct str key_of(struct str name, char space[NAME_MAX_LEN])
{
    if (name.len > NAME_MAX_LEN)
        return STR_EMPTY;
    for (size_t i = 0; i < name.len; i++)
        space[i] = ascii_lower(name.ptr[i]);
    return str_of(space, name.len);
}

static void add(struct fields *fields, const struct mail_field *field)
{
    char space[NAME_MAX_LEN];
    struct str key = key_of(field->name, space);
    if (key.len == 0)
        return;
    struct fields_group *group = map_get(&fields->groups, key);
    if (!group) {
        group = ARENA_NEW(fields->arena, struct fields_group);
        group->last = FIELDS_NONE;
        map_put(&fields->groups, key, group);
    }
    fields->entries[fields->count] = (struct fields_entry){.field = *field, .above = group->last};
    group->last = fields->count++;
    group->count++;
}

void fields_init(struct fields *fields, struct arena *arena, struct str header)
{
    struct mail_field field;
    struct str rest = header;
    size_t total = 0;
    while (mail_header_next(&rest, &field))
        total++;
    *fields = (struct fields){.arena = arena, .turn = 1};
    fields->entries = arena_alloc_array(arena, total, sizeof *fields->entries);
    map_init(&fields->groups);
    rest = header;
    while (mail_header_next(&rest, &field))
        if (field.name.len)
            add(fields, &field);
}

void fields_done(struct fields *fields)
{
    map_done(&fields->groups);
}

void fields_restart(struct fields *fields)
{
    fields->turn++;
}

const struct mail_field *fields_take(struct fields *fields, struct str name)
{
    char space[NAME_MAX_LEN];
    struct fields_group *group = map_get(&fields->groups, key_of(name, space));
    if (!group)
        return NULL;
    if (group->turn != fields->turn) {
        group->turn = fields->turn;
        group->next = group->last;
    }
    if (group->next == FIELDS_NONE)
        return NULL;
    const struct fields_entry *entry = &fields->entries[group->next];
    group->next = entry->above;
    return &entry->field;
}

int fields_count(const struct fields *fields, struct str name)
{
    char space[NAME_MAX_LEN];
    const struct fields_group *group = map_get(&fields->groups, key_of(name, space));
    return group ? group->count : 0;
}
