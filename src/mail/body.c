/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/body.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

NO_YIELD_CHECK enum result body_append(struct body *body, struct str data, struct error *err)
{
    return body->ops->append(body, data, err);
}

NO_YIELD_CHECK enum result body_seal(struct body *body, struct error *err)
{
    return body->ops->seal(body, err);
}

NO_YIELD_CHECK enum result body_read(struct body *body, uint64_t offset, size_t size, char *space,
                                     struct str *out_data, struct error *err)
{
    return body->ops->read(body, offset, size, space, out_data, err);
}

struct body *body_ref(struct body *body)
{
    atomic_fetch_add_explicit(&body->references, 1, memory_order_relaxed);
    return body;
}

void body_unref(struct body *body)
{
    if (body && atomic_fetch_sub_explicit(&body->references, 1, memory_order_acq_rel) == 1)
        body->ops->release(body);
}

/* ---- in memory ---- */

enum { FIRST_CHUNK = 8 * 1024, LARGEST_CHUNK = 1024 * 1024 };

struct memory_chunk {
    struct memory_chunk *next;
    uint64_t begin; /* offset of its first byte in the body */
    size_t used;
    size_t size;
    char bytes[];
};

struct memory_body {
    struct body body;
    struct memory_chunk *first;
    struct memory_chunk *last;
    uint64_t max_bytes;
    bool sealed;
};

static struct memory_chunk *add_chunk(struct memory_body *memory, size_t wanted)
{
    size_t size = memory->last ? memory->last->size * 2 : FIRST_CHUNK;
    if (size > LARGEST_CHUNK)
        size = LARGEST_CHUNK;
    if (size < wanted)
        size = wanted;
    struct memory_chunk *chunk = malloc(sizeof *chunk + size);
    check(chunk != NULL);
    *chunk = (struct memory_chunk){.begin = memory->body.size, .size = size};
    if (memory->last)
        memory->last->next = chunk;
    else
        memory->first = chunk;
    memory->last = chunk;
    return chunk;
}

static enum result memory_append(struct body *body, struct str data, struct error *err)
{
    struct memory_body *memory = CONTAINER(body, struct memory_body, body);
    check(!memory->sealed);
    if (data.len > memory->max_bytes - body->size)
        return fail(err, ERROR_LIMIT, "message is larger than %llu bytes",
                    (unsigned long long)memory->max_bytes);
    while (data.len) {
        struct memory_chunk *chunk = memory->last;
        if (!chunk || chunk->used == chunk->size)
            chunk = add_chunk(memory, data.len < LARGEST_CHUNK ? data.len : LARGEST_CHUNK);
        size_t room = chunk->size - chunk->used;
        size_t take_now = data.len < room ? data.len : room;
        memcpy(chunk->bytes + chunk->used, data.ptr, take_now);
        chunk->used += take_now;
        body->size += take_now;
        data = str_from(data, take_now);
    }
    return OK;
}

static enum result memory_seal(struct body *body, struct error *err)
{
    (void)err;
    CONTAINER(body, struct memory_body, body)->sealed = true;
    return OK;
}

static enum result memory_read(struct body *body, uint64_t offset, size_t size, char *space,
                               struct str *out_data, struct error *err)
{
    (void)space;
    (void)err;
    struct memory_body *memory = CONTAINER(body, struct memory_body, body);
    struct memory_chunk *chunk = memory->first;
    while (chunk && offset >= chunk->begin + chunk->used)
        chunk = chunk->next;
    if (!chunk) {
        *out_data = STR_EMPTY;
        return OK;
    }
    size_t skip = (size_t)(offset - chunk->begin);
    *out_data = str_slice(str_of(chunk->bytes, chunk->used), skip, skip + size);
    return OK;
}

static void memory_release(struct body *body)
{
    struct memory_body *memory = CONTAINER(body, struct memory_body, body);
    while (memory->first) {
        struct memory_chunk *chunk = memory->first;
        memory->first = chunk->next;
        free(chunk);
    }
    free(memory);
}

static const struct body_ops memory_ops = {
    .append = memory_append,
    .seal = memory_seal,
    .read = memory_read,
    .release = memory_release,
};

bool body_is_memory(const struct body *body)
{
    return body->ops == &memory_ops;
}

struct body *body_memory_new(uint64_t max_bytes)
{
    struct memory_body *memory = NEW(struct memory_body);
    memory->body.ops = &memory_ops;
    atomic_init(&memory->body.references, 1);
    memory->max_bytes = max_bytes;
    return &memory->body;
}

/* ---- content ---- */

uint64_t mail_content_size(const struct mail_content *content)
{
    return content->head.len + (content->body->size - content->body_start);
}

enum result mail_content_read(const struct mail_content *content, uint64_t offset, size_t size,
                              char *space, struct str *out_data, struct error *err)
{
    if (offset < content->head.len) {
        *out_data = str_slice(content->head, (size_t)offset, (size_t)offset + size);
        return OK;
    }
    return body_read(content->body, offset - content->head.len + content->body_start, size, space,
                     out_data, err);
}
