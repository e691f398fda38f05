/* SPDX-License-Identifier: Apache-2.0 */
/* content/unpack_fuzz.c - any bytes as an archive: it ends, within its limits. */
#include "content/unpack.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t members;
    bool last;
};

static enum result look(void *context, const struct unpack_member *member, struct error *err)
{
    struct seen *seen = context;
    (void)err;
    check(!seen->last); /* the file itself is told once, behind all that is in it */
    check(member->depth <= 3 && member->type < FILETYPE_COUNT);
    check(member->name.len <= UNPACK_NAME_MAX && member->why.len <= UNPACK_WHY_MAX);
    seen->members++;
    seen->last = member->depth == 0;
    return OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct unpack_limits limits = {
        .depth = 3, .ratio = 100, .members = 100, .bytes = 4 << 20};
    struct unpack_spent spent;
    struct seen seen = {0};
    struct error err;
    check(unpack_look(str_of((const char *)data, size), &limits, look, &seen, &spent, &err) == OK);
    check(seen.last && seen.members <= limits.members + 3);
    check(spent.members <= limits.members + 1 && spent.bytes <= limits.bytes + 65536);
    return 0;
}
