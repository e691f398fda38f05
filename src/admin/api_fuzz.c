/* SPDX-License-Identifier: Apache-2.0 */
/* What a request says: bodies against each schema, and cursors. */
#include "admin/body.h"
#include "admin/page.h"
#include "base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A cursor that is made leads to its key again; one that is read is one that could be made. */
static void try_cursor(struct str input, struct arena *arena)
{
    struct admin_page page = {.list = "queue", .sort = "", .last = input, .more = true};
    struct str key;
    json_t *next = admin_page_next(&page);
    if (input.len && json_is_string(next)) {
        check(admin_cursor_read(str_c(json_string_value(next)), "queue", "", arena, &key));
        check(str_equal(key, input));
        check(!admin_cursor_read(str_c(json_string_value(next)), "users", "", arena, &key));
    }
    json_decref(next);
    if (admin_cursor_read(input, "queue", "", arena, &key))
        check(key.len > 0);
}

static void try_body(struct str input, struct arena *arena)
{
    json_t *body = json_loadb(input.ptr, input.len, JSON_REJECT_DUPLICATES, NULL);
    for (const struct admin_schema *schema = admin_schemas; body && schema->name; schema++) {
        struct admin_answer answer = {.status = 200, .text = STR_EMPTY};
        bool fits = admin_body_fits(body, schema->name, arena, &answer);
        check(fits == (answer.status == 200) && fits == (answer.json == NULL));
        json_decref(answer.json);
    }
    json_decref(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size);
    struct arena *arena = arena_new(0);
    try_cursor(input, arena);
    try_body(input, arena);
    arena_free(arena);
    return 0;
}
