/* SPDX-License-Identifier: Apache-2.0 */
/* content/mime_fuzz.c - any bytes as a message: its parts lie in it, and can be read. */
#include "content/mime.h"

#include "base/check.h"
#include "mail/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum result count(void *context, struct str data, struct error *err)
{
    (void)err;
    *(size_t *)context += data.len;
    return OK;
}

NO_YIELD_CHECK int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_of((const char *)data, size);
    struct error err;
    struct mime_message message;
    struct arena *arena = arena_new(0);
    struct body *body = body_memory_new(1 << 26);
    check(body_append(body, text, &err) == OK && body_seal(body, &err) == OK);
    struct mail_content content = {.body = body};
    size_t header = mail_header_length(text);
    struct mime_source source = {&content, str_slice(text, 0, header ? header : size)};
    struct mime_limits limits = {.parts = 200, .depth = 20, .memory = 1 << 20};
    if (mime_read(&source, &limits, arena, &message, &err) == OK) {
        for (size_t i = 0; i < message.count; i++) {
            const struct mime_part *part = &message.parts[i];
            size_t bytes = 0;
            size_t characters = 0;
            check(part->body_begin <= part->body_end && part->body_end <= size);
            check(part->parent < (long)i);
            if (part->is_multipart || part->is_message)
                continue;
            check(mime_decode(&message, part, count, &bytes, &err) == OK);
            check(bytes <= part->body_end - part->body_begin);
            check(mime_decode_text(&message, part, true, count, &characters, NULL, &err) == OK);
        }
    }
    body_unref(body);
    arena_free(arena);
    return 0;
}
