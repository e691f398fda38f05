/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/mime.c - the parts and the text of the message of a run, within its limits.
 */
#include "content/mime.h"

#include "flow/flow_internal.h"

#include <string.h>

enum { WINDOW = 16 * 1024, OVERLAP = 1024 };

enum result flow_mime(struct flow_running *running, const struct mime_message **out,
                      struct error *err)
{
    const struct flow_limits *limits = flow_limits_of(running);
    struct arena *arena = running->run->arena;
    struct mime_source source = {running->run->content, running->facts.header};
    if (!running->mime) {
        struct mime_message *message = ARENA_NEW(arena, struct mime_message);
        struct mime_limits bounds = {
            .parts = (size_t)limits->parts,
            .depth = (unsigned)limits->depth,
            .memory = (size_t)limits->memory,
        };
        size_t before = arena_used(arena);
        if (mime_read(&source, &bounds, arena, message, err) != OK)
            return FAILED;
        if (flow_spend(running, FLOW_BUDGET_PARTS, message->count, err) != OK ||
            flow_spend(running, FLOW_BUDGET_MEMORY, arena_used(arena) - before, err) != OK)
            return FAILED;
        running->mime = message;
    }
    /* steps may have changed the header meanwhile, which moves the body */
    running->mime->source = source;
    *out = running->mime;
    return OK;
}

struct windowing {
    struct flow_running *running;
    flow_window window;
    void *context;
    char *text;
    size_t len;
    bool done;
};

static enum result show(struct windowing *windowing, struct error *err)
{
    if (windowing->done || !windowing->len)
        return OK;
    return windowing->window(windowing->context, str_of(windowing->text, windowing->len),
                             &windowing->done, err);
}

static enum result take_text(void *context, struct str data, struct error *err)
{
    struct windowing *windowing = context;
    if (flow_spend(windowing->running, FLOW_BUDGET_DECODED, data.len, err) != OK)
        return FAILED;
    while (data.len && !windowing->done) {
        size_t room = WINDOW - windowing->len;
        size_t now = data.len < room ? data.len : room;
        memcpy(windowing->text + windowing->len, data.ptr, now);
        windowing->len += now;
        data = str_from(data, now);
        if (windowing->len < WINDOW)
            continue;
        if (show(windowing, err) != OK)
            return FAILED;
        memmove(windowing->text, windowing->text + WINDOW - OVERLAP, OVERLAP);
        windowing->len = OVERLAP;
    }
    return OK;
}

enum result flow_body_windows(struct flow_running *running, flow_window window, void *context,
                              struct error *err)
{
    const struct mime_message *message;
    struct windowing windowing = {.running = running, .window = window, .context = context};
    if (flow_mime(running, &message, err) != OK)
        return FAILED;
    windowing.text = arena_alloc(running->run->arena, WINDOW);
    for (size_t i = 0; i < message->count && !windowing.done; i++) {
        const struct mime_part *part = &message->parts[i];
        if (!mime_is_text(part))
            continue;
        windowing.len = 0;
        if (mime_decode_text(message, part, /* strip_html= */ true, take_text, &windowing, NULL,
                             err) != OK ||
            show(&windowing, err) != OK)
            return FAILED;
    }
    return OK;
}
