/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From records to events. A stream's event stays where it is: a record that says what changed
 * touches only that, and the texts of the event point into the image.
 */
#include "event/event.h"

#include "base/check.h"
#include "base/memory.h"
#include "event/record.h"

#include <stdlib.h>
#include <string.h>

struct stream {
    struct event event;
    struct image image;
    uint16_t offsets[EVENT_FIELDS]; /* in the image, of the bytes behind each head */
    int revision_at;                /* the field that is the event's revision; -1: none is */
};

struct event_decoder {
    struct event_slots streams;
};

/* ---- a pointer a stream ---- */

void **event_slot(struct event_slots *slots, unsigned source, enum event_type type)
{
    if (source >= slots->count) {
        slots->of = memory_resize_array(slots->of, source + 1, sizeof *slots->of);
        for (; slots->count <= source; slots->count++)
            slots->of[slots->count] = memory_alloc_array(EVENT_TYPE_COUNT, sizeof(void *));
    }
    return &slots->of[source][type];
}

void event_slots_done(struct event_slots *slots, void (*free_one)(void *pointer))
{
    for (unsigned source = 0; source < slots->count; source++) {
        for (unsigned type = 0; type < EVENT_TYPE_COUNT; type++) {
            if (slots->of[source][type])
                free_one(slots->of[source][type]);
        }
        free(slots->of[source]);
    }
    free(slots->of);
    *slots = (struct event_slots){0};
}

/* ---- whole records ---- */

/* A session tells which revision it began with; an event about a configuration is about one. */
static bool tells_revision(enum event_type type)
{
    return !str_starts(str_c(event_name(type)), STR("config."));
}

static void get_value(const char *bytes, uint16_t length, struct event_field *field)
{
    if (field->kind == EVENT_VALUE_STR)
        field->text = (struct str){bytes, length};
    else
        memcpy(&field->number, bytes, sizeof field->number);
}

/* `offsets` gets as many as the record has fields; returns which one is the revision, or -1. */
static int unpack(struct str packed, struct event *out, uint16_t offsets[static EVENT_FIELDS])
{
    check(packed.len >= sizeof(struct record));
    struct record record = record_head(packed.ptr);
    check(record.count <= EVENT_FIELDS);
    int revision_at = -1;
    size_t at = sizeof record;
    out->packed = packed;
    out->type = (enum event_type)record.type;
    out->wall_ns = record.wall_ns;
    out->revision = STR_EMPTY;
    out->changed = EVENT_ALL_CHANGED;
    out->count = 0;
    for (unsigned i = 0; i < record.count; i++) {
        struct record_field head;
        memcpy(&head, packed.ptr + at, sizeof head);
        at += sizeof head;
        offsets[i] = (uint16_t)at;
        struct event_field field = {.key = (enum event_key)head.key,
                                    .kind = (enum event_value_kind)head.kind};
        get_value(packed.ptr + at, head.length, &field);
        at += head.length;
        if (field.key == KEY_REVISION && field.kind == EVENT_VALUE_STR && revision_at < 0 &&
            tells_revision(out->type)) {
            out->revision = field.text;
            revision_at = (int)i;
        } else {
            out->fields[out->count++] = field;
        }
    }
    return revision_at;
}

void event_unpack(struct str packed, struct event *out)
{
    uint16_t offsets[EVENT_FIELDS];
    out->source = 0;
    out->number = 0;
    unpack(packed, out, offsets);
}

static void take_whole(struct stream *stream, struct str record)
{
    stream->image.size = 0;
    if (record.len <= IMAGE_MAX) {
        memcpy(stream->image.bytes, record.ptr, record.len);
        stream->image.size = (uint32_t)record.len;
        record.ptr = stream->image.bytes;
    }
    stream->revision_at = unpack(record, &stream->event, stream->offsets);
}

/* ---- records that say what changed ---- */

struct change {
    struct record_field head;
    const char *bytes;
};

static struct change next_change(const char **at)
{
    struct change change;
    memcpy(&change.head, *at, sizeof change.head);
    change.bytes = *at + sizeof change.head;
    *at = change.bytes + change.head.length;
    return change;
}

static uint16_t length_in(const struct stream *stream, unsigned index)
{
    struct record_field head;
    memcpy(&head, stream->image.bytes + stream->offsets[index] - sizeof head, sizeof head);
    return head.length;
}

static bool keeps_lengths(const struct stream *stream, uint32_t changed, const char *at)
{
    for (; changed; changed &= changed - 1) {
        if (next_change(&at).head.length != length_in(stream, (unsigned)__builtin_ctz(changed)))
            return false;
    }
    return true;
}

/* The place of a field among those of the event, where the revision is not. */
static unsigned index_of(const struct stream *stream, unsigned index)
{
    return stream->revision_at >= 0 && index > (unsigned)stream->revision_at ? index - 1 : index;
}

static void overwrite(struct stream *stream, uint32_t changed, const char *at)
{
    for (; changed; changed &= changed - 1) {
        unsigned index = (unsigned)__builtin_ctz(changed);
        struct change change = next_change(&at);
        char *to = stream->image.bytes + stream->offsets[index];
        if (change.head.length)
            memcpy(to, change.bytes, change.head.length);
        if ((int)index != stream->revision_at)
            get_value(to, change.head.length, &stream->event.fields[index_of(stream, index)]);
    }
}

/* A field became longer or shorter: all of the image anew. */
static void rewrite(struct stream *stream, uint32_t changed, const char *at, unsigned count)
{
    struct image old = stream->image;
    size_t end = sizeof(struct record);
    for (unsigned i = 0; i < count; i++) {
        struct change field;
        if (changed & UINT32_C(1) << i) {
            field = next_change(&at);
        } else {
            const char *kept = old.bytes + stream->offsets[i] - sizeof field.head;
            field = next_change(&kept);
        }
        check(end + sizeof field.head + field.head.length <= IMAGE_MAX);
        memcpy(stream->image.bytes + end, &field.head, sizeof field.head);
        end += sizeof field.head;
        memcpy(stream->image.bytes + end, field.bytes, field.head.length);
        end += field.head.length;
    }
    stream->image.size = (uint32_t)end;
}

/* The mask, as of the fields of the event. */
static uint32_t changed_fields(const struct stream *stream, uint32_t changed)
{
    if (stream->revision_at < 0)
        return changed;
    uint32_t bit = UINT32_C(1) << stream->revision_at;
    if (changed & bit)
        return EVENT_ALL_CHANGED;
    return (changed & (bit - 1)) | (changed >> 1 & ~(bit - 1));
}

static void take_like(struct stream *stream, struct str bytes)
{
    uint32_t changed;
    struct record record = record_head(bytes.ptr);
    check(stream->image.size > 0);
    memcpy(&changed, bytes.ptr + sizeof record, sizeof changed);
    const char *at = bytes.ptr + sizeof record + sizeof changed;
    record.count &= (uint16_t)~RECORD_LIKE;
    bool kept = keeps_lengths(stream, changed, at);
    if (kept)
        overwrite(stream, changed, at);
    else
        rewrite(stream, changed, at, record.count);
    record.size = stream->image.size;
    memcpy(stream->image.bytes, &record, sizeof record);
    if (!kept)
        stream->revision_at = unpack(str_of(stream->image.bytes, stream->image.size),
                                     &stream->event, stream->offsets);
    stream->event.wall_ns = record.wall_ns;
    stream->event.changed = changed_fields(stream, changed);
}

const struct event *event_decode(struct event_decoder *decoder, unsigned source, struct str record,
                                 uint64_t seq)
{
    struct record head = record_head(record.ptr);
    struct stream **slot =
        (struct stream **)event_slot(&decoder->streams, source, (enum event_type)head.type);
    if (!*slot)
        *slot = NEW(struct stream);
    struct stream *stream = *slot;
    if (head.count & RECORD_LIKE)
        take_like(stream, record);
    else
        take_whole(stream, record);
    stream->event.source = source;
    stream->event.number++;
    stream->event.seq = seq;
    stream->event.record = record;
    return &stream->event;
}

struct event_decoder *event_decoder_new(void)
{
    return NEW(struct event_decoder);
}

void event_decoder_free(struct event_decoder *decoder)
{
    if (!decoder)
        return;
    event_slots_done(&decoder->streams, free);
    free(decoder);
}
