/* SPDX-License-Identifier: Apache-2.0 */
/* content/filename_fuzz.c - any bytes as the header of a part, as a name and as a file. */
#include "content/filename.h"

#include "base/check.h"
#include "content/filetype.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_of((const char *)data, size);
    struct arena *arena = arena_new(0);
    struct filename_list list;
    struct filename name;
    filename_collect(text, arena, &list);
    list.items[list.count < FILENAME_MAX_NAMES ? list.count++ : 0] = text;
    for (size_t i = 0; i < list.count; i++) {
        filename_read(list.items[i], arena, &name);
        check(name.text.len <= FILENAME_MAX_LEN && name.extension.len <= name.text.len);
        struct str shown = filename_printable(list.items[i], arena);
        for (size_t k = 0; k < shown.len; k++)
            check((unsigned char)shown.ptr[k] >= ' ' && shown.ptr[k] != 0x7f);
        check(filename_matches(name.text, name.text) || str_find(name.text, '*') >= 0);
    }
    check(filetype_of(text) < FILETYPE_COUNT);
    arena_free(arena);
    return 0;
}
