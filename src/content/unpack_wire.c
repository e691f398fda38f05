/* SPDX-License-Identifier: Apache-2.0 */
#include "content/unpack_wire.h"

#include "base/check.h"

static void put(struct buf *out, uint64_t number, unsigned bytes)
{
    while (bytes-- > 0)
        buf_append_byte(out, (char)(number >> (8 * bytes) & 0xff));
}

/* `bytes` off the front; the caller has checked that they are there. */
static uint64_t get(struct str *rest, unsigned bytes)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < bytes; i++)
        number = number << 8 | (unsigned char)rest->ptr[i];
    *rest = str_from(*rest, bytes);
    return number;
}

static enum result bad(struct error *err, const char *what)
{
    return fail(err, ERROR_PROTOCOL, "the process that unpacks: %s", what);
}

/* ---- frames ---- */

enum result unpack_frame_take(struct str *rest, struct unpack_frame *out, bool *out_whole,
                              struct error *err)
{
    static const char kinds[] = {UNPACK_FRAME_BEGIN,  UNPACK_FRAME_DATA, UNPACK_FRAME_END,
                                 UNPACK_FRAME_MEMBER, UNPACK_FRAME_DONE, UNPACK_FRAME_DIED};
    struct str text = *rest;
    *out_whole = false;
    if (text.len && str_find(str_of(kinds, sizeof kinds), text.ptr[0]) < 0)
        return bad(err, "an unknown kind of frame");
    if (text.len < UNPACK_FRAME_HEAD)
        return OK;
    enum unpack_frame_kind kind = (enum unpack_frame_kind)get(&text, 1);
    uint64_t len = get(&text, 4);
    if (len > UNPACK_FRAME_MAX)
        return bad(err, "a frame that is too long");
    if (text.len < len)
        return OK;
    *out = (struct unpack_frame){.kind = kind, .payload = str_slice(text, 0, (size_t)len)};
    *rest = str_from(text, (size_t)len);
    *out_whole = true;
    return OK;
}

void unpack_frame_append(struct buf *out, enum unpack_frame_kind kind, struct str payload)
{
    check(payload.len <= UNPACK_FRAME_MAX);
    put(out, (uint64_t)kind, 1);
    put(out, payload.len, 4);
    buf_append(out, payload);
}

/* ---- payloads ---- */

void unpack_begin_append(struct buf *out, const struct unpack_limits *limits)
{
    put(out, UNPACK_FRAME_BEGIN, 1);
    put(out, 28, 4);
    put(out, limits->depth, 4);
    put(out, limits->ratio, 8);
    put(out, limits->members, 8);
    put(out, limits->bytes, 8);
}

enum result unpack_begin_read(struct str payload, struct unpack_limits *out, struct error *err)
{
    if (payload.len != 28)
        return bad(err, "BEGIN of a wrong length");
    uint64_t depth = get(&payload, 4);
    if (depth < 1 || depth > UNPACK_DEPTH_MAX)
        return bad(err, "BEGIN with an impossible depth");
    out->depth = (unsigned)depth;
    out->ratio = get(&payload, 8);
    out->members = get(&payload, 8);
    out->bytes = get(&payload, 8);
    return OK;
}

void unpack_member_append(struct buf *out, const struct unpack_member *member)
{
    struct str name = str_slice(member->name, 0, UNPACK_NAME_MAX);
    struct str why = str_slice(member->why, 0, UNPACK_WHY_MAX);
    put(out, UNPACK_FRAME_MEMBER, 1);
    put(out, UNPACK_MEMBER_MIN + name.len + why.len, 4);
    put(out, member->depth, 1);
    put(out, (uint64_t)member->type, 1);
    put(out, member->flags, 1);
    put(out, name.len, 2);
    put(out, why.len, 2);
    buf_append(out, name);
    buf_append(out, why);
}

enum result unpack_member_read(struct str payload, struct unpack_member *out, struct error *err)
{
    if (payload.len < UNPACK_MEMBER_MIN)
        return bad(err, "MEMBER of a wrong length");
    uint64_t depth = get(&payload, 1), type = get(&payload, 1), flags = get(&payload, 1);
    uint64_t name = get(&payload, 2), why = get(&payload, 2);
    if (depth > UNPACK_DEPTH_MAX || type >= FILETYPE_COUNT || flags >= 2 * UNPACK_OVER ||
        name > UNPACK_NAME_MAX || why > UNPACK_WHY_MAX || name + why != payload.len)
        return bad(err, "MEMBER with impossible values");
    *out = (struct unpack_member){
        .depth = (unsigned)depth,
        .type = (enum filetype)type,
        .flags = (unsigned)flags,
        .name = str_slice(payload, 0, (size_t)name),
        .why = str_from(payload, (size_t)name),
    };
    return OK;
}

void unpack_done_append(struct buf *out, const struct unpack_spent *spent)
{
    put(out, UNPACK_FRAME_DONE, 1);
    put(out, 16, 4);
    put(out, spent->members, 8);
    put(out, spent->bytes, 8);
}

enum result unpack_done_read(struct str payload, struct unpack_spent *out, struct error *err)
{
    if (payload.len != 16)
        return bad(err, "DONE of a wrong length");
    out->members = get(&payload, 8);
    out->bytes = get(&payload, 8);
    return OK;
}

void unpack_died_append(struct buf *out, unsigned signal_number)
{
    put(out, UNPACK_FRAME_DIED, 1);
    put(out, 4, 4);
    put(out, signal_number, 4);
}

enum result unpack_died_read(struct str payload, unsigned *out_signal, struct error *err)
{
    if (payload.len != 4)
        return bad(err, "DIED of a wrong length");
    *out_signal = (unsigned)get(&payload, 4);
    return OK;
}
