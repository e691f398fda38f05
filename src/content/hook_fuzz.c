/* SPDX-License-Identifier: Apache-2.0 */
/* What web hooks answer: HTTP with JSON in it. */
#include "content/hook.h"

#include "base/check.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(0);
    struct hook_answer answer;
    struct error err;
    if (hook_read_answer(str_of((const char *)data, size), arena, &answer, &err) == OK) {
        check(answer.outcome < HOOK_OUTCOMES && answer.add_count <= HOOK_FIELDS_MAX);
        for (size_t i = 0; i < answer.add_count; i++)
            check(answer.add[i].name.len && str_find(answer.add[i].value, '\n') < 0);
    }
    arena_free(arena);
    return 0;
}
