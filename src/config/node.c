/* SPDX-License-Identifier: Apache-2.0 */
/* config/node.c - looking into a tree of configuration. */
#include "config/node.h"

#include "base/arena.h"
#include "config/internal.h"

const struct config_pair *config_get_pair(const struct config_node *map, struct str key)
{
    if (!map || map->kind != CONFIG_MAP)
        return NULL;
    for (size_t i = 0; i < map->count; i++) {
        if (str_equal(map->pairs[i].key, key))
            return &map->pairs[i];
    }
    return NULL;
}

const struct config_node *config_get(const struct config_node *map, struct str key)
{
    const struct config_pair *pair = config_get_pair(map, key);
    return pair ? &pair->value : NULL;
}

struct str config_place_text(struct arena *arena, struct config_place place)
{
    struct str name = place.file ? place.file->name : STR("(default)");
    if (!place.line)
        return name;
    return arena_printf(arena, "%.*s:%u:%u", STR_ARG(name), place.line, place.column);
}

const struct config_file *config_file_new(struct arena *arena, struct str name, struct str text)
{
    enum { BEHIND_ALL = 1000 * 1000 };
    struct config_file *file = ARENA_NEW(arena, struct config_file);
    *file =
        (struct config_file){.name = name, .folder = STR_EMPTY, .text = text, .order = BEHIND_ALL};
    return file;
}

bool config_is_bare_yes_no(struct str text)
{
    static const char *const words[] = {"on", "off", "yes", "no"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (str_equal_nocase(text, str_c(words[i])))
            return true;
    }
    return false;
}

struct str config_source_line(const struct config_file *file, unsigned line)
{
    struct str rest = file->text;
    struct str part = STR_EMPTY;
    for (unsigned i = 0; i < line; i++) {
        if (!str_split(&rest, '\n', &part))
            return STR_EMPTY;
    }
    return str_ends(part, STR("\r")) ? str_slice(part, 0, part.len - 1) : part;
}

bool config_is_secret_key(struct str key)
{
    return str_ends_nocase(key, STR("password")) || str_ends_nocase(key, STR("secret")) ||
           str_ends_nocase(key, STR("token")) || str_ends_nocase(key, STR("passwd"));
}

struct str config_file_name(const struct config_file *file)
{
    return file ? file->name : STR_EMPTY;
}
