/* SPDX-License-Identifier: Apache-2.0 */
#include "history/store_base.h"

#include "history/store_pack.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

struct base *base_new(const struct event *event, struct str revision)
{
    struct base *base = NEW(struct base);
    base->uses = 1;
    base->count = event->count;
    memcpy(base->fields, event->fields, event->count * sizeof *event->fields);
    base->revision = revision;
    base->bytes = pack_base(base->fields, base->count, &base->revision);
    return base;
}

struct base *base_keep(struct base *base)
{
    base->uses++;
    return base;
}

void base_drop(struct base *base)
{
    if (!base || --base->uses > 0)
        return;
    free((char *)base->bytes.ptr);
    free(base);
}

static bool is_same(const struct event_field *a, const struct event_field *b)
{
    return a->kind == EVENT_VALUE_STR ? a->text.len == b->text.len && str_equal(a->text, b->text)
                                      : a->number == b->number;
}

/* Of the fields in `may_differ`, those with another value than the base has. */
static uint32_t difference(const struct base *base, const struct event *event, uint32_t may_differ)
{
    uint32_t fields = 0;
    for (; may_differ; may_differ &= may_differ - 1) {
        unsigned i = (unsigned)__builtin_ctz(may_differ);
        if (!is_same(&base->fields[i], &event->fields[i]))
            fields |= UINT32_C(1) << i;
    }
    return fields;
}

static bool has_its_fields(const struct base *base, const struct event *event)
{
    if (base->count != event->count)
        return false;
    for (unsigned i = 0; i < base->count; i++) {
        if (base->fields[i].key != event->fields[i].key ||
            base->fields[i].kind != event->fields[i].kind)
            return false;
    }
    return true;
}

static void begin(struct base_slot *slot, struct base *base)
{
    base_drop(slot->base);
    slot->base = base;
    slot->may_differ = 0;
    slot->fits = base != NULL;
}

struct base *base_follow(struct base_stream *stream, const struct event *event, struct str revision,
                         uint64_t turn, uint32_t *out_fields)
{
    struct base_slot *slot = &stream->slots[event->count % BASE_SLOTS];
    bool follows = event->changed != EVENT_ALL_CHANGED && stream->number + 1 == event->number;
    bool is_first = slot->turn != turn; /* one in a turn needs no base */
    stream->number = event->number;
    slot->turn = turn;
    if (is_first || (slot->base && !str_equal(slot->base->revision, revision)))
        begin(slot, NULL);
    else if (!slot->base)
        begin(slot, base_new(event, revision));
    else if (follows)
        slot->may_differ |= event->changed;
    else {
        slot->fits = has_its_fields(slot->base, event);
        slot->may_differ = EVENT_ALL_CHANGED;
    }
    if (!slot->fits)
        return NULL;
    uint32_t all = slot->base->count ? UINT32_MAX >> (32 - slot->base->count) : 0;
    *out_fields = difference(slot->base, event, slot->may_differ & all);
    return slot->base;
}

void base_stream_end(struct base_stream *stream)
{
    for (unsigned i = 0; i < BASE_SLOTS; i++)
        base_drop(stream->slots[i].base);
}
