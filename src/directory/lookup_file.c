/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/lookup_file.c - does this recipient exist, by a file of addresses.
 */
#include "directory/addresses.h"
#include "directory/directory_internal.h"
#include "directory/watched_file.h"
#include "directory/stated.h"

static const struct watched_kind addresses_kind = {.name = "addresses", .parse = addresses_parse};

void directory_lookup_file(struct directory *directory, struct str path, struct str address,
                           struct arena *arena, struct directory_answer *out)
{
    if (directory->stated) {
        directory_stated_lookup(directory->stated, path, /* is_file= */ true, address, arena, out);
        return;
    }
    struct watched_table *table;
    struct error error;
    bool found;
    *out = (struct directory_answer){.reply = {.text = STR_EMPTY}, .detail = STR_EMPTY};
    if (watched_file_get(directory, &addresses_kind, path, &table, &error) != OK) {
        directory_answer_lookup(out, DIRECTORY_ERROR, arena, "%s", error.text);
        return;
    }
    if (addresses_have(table, address, &found, &error) != OK)
        directory_answer_lookup(out, DIRECTORY_ERROR, arena, "%s", error.text);
    else if (found)
        directory_answer_lookup(out, DIRECTORY_FOUND, arena, "the address is in the file");
    else
        directory_answer_lookup(out, DIRECTORY_MISSING, arena, "the address is not in the file");
    watched_table_unref(table);
}
