/* SPDX-License-Identifier: Apache-2.0 */
/* What milters send: packets one behind the other, the first of them the terms. */
#include "content/milter_packet.h"

#include "base/check.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = str_of((const char *)data, size);
    struct milter_terms terms = {.actions = MILTER_MAY_ALL};
    struct arena *arena = arena_new(0);
    struct error err;
    while (rest.len >= 5) {
        const unsigned char *p = (const unsigned char *)rest.ptr;
        size_t length = (size_t)p[2] << 8 | p[3];
        struct str packet = str_slice(rest, 4, 4 + (length ? length : 1));
        struct milter_answer answer;
        struct str reply;
        rest = str_from(rest, 4 + packet.len);
        if (packet.len == 0)
            break;
        struct str body = str_from(packet, 1);
        if (packet.ptr[0] == 'O') {
            (void)!milter_read_terms(body, MILTER_MAY_ALL, &terms, &err);
            check((terms.actions & ~(unsigned)MILTER_MAY_ALL) == 0);
        } else if (milter_read_answer(packet.ptr[0], body, terms.actions, &answer, &err) == OK) {
            check(answer.name.len + answer.value.len <= body.len);
            if (answer.kind == MILTER_REPLY && milter_read_reply(answer.name, arena, &reply))
                check((reply.ptr[0] == '4' || reply.ptr[0] == '5') && str_find(reply, '\n') < 0);
        }
    }
    arena_free(arena);
    return 0;
}
