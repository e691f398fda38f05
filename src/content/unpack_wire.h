/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/unpack_wire.h - what the gateway and the process that unpacks say to each other.
 *
 * Frames: a byte that says what it is, four of length (big endian), as many bytes. A file goes
 * over as BEGIN, DATA …, END; back come MEMBER …, DONE. Each side reads the other's as a
 * stranger's: who unpacks may have been taken over.
 */
#pragma once

#include "base/buf.h"
#include "content/unpack.h"

enum unpack_frame_kind {
    UNPACK_FRAME_BEGIN = 'B', /* a file follows: its limits */
    UNPACK_FRAME_DATA = 'D',
    UNPACK_FRAME_END = 'E',
    UNPACK_FRAME_MEMBER = 'M',
    UNPACK_FRAME_DONE = 'F', /* all of the file was seen */
    UNPACK_FRAME_DIED = 'X', /* who read it was ended by a signal */
};
enum {
    UNPACK_FRAME_HEAD = 5,
    UNPACK_FRAME_MAX = 32 * 1024, /* bytes behind the head */
    UNPACK_INPUT_MAX = 64 * 1024 * 1024,
    UNPACK_MEMBER_MIN = 7, /* bytes of a MEMBER without its texts */
};

struct unpack_frame {
    enum unpack_frame_kind kind;
    struct str payload;
};

/* The frame at the front of *rest, which is moved behind it; *out_whole false: more must be read.
 * ERROR_PROTOCOL: it is none. */
enum result unpack_frame_take(struct str *rest, struct unpack_frame *out, bool *out_whole,
                              struct error *err);
/* The payload has at most UNPACK_FRAME_MAX bytes. */
void unpack_frame_append(struct buf *out, enum unpack_frame_kind kind, struct str payload);

void unpack_begin_append(struct buf *out, const struct unpack_limits *limits);
void unpack_member_append(struct buf *out, const struct unpack_member *member);
void unpack_done_append(struct buf *out, const struct unpack_spent *spent);
void unpack_died_append(struct buf *out, unsigned signal_number);

/* Of payloads; ERROR_PROTOCOL: too short, too long, or values that cannot be. */
enum result unpack_begin_read(struct str payload, struct unpack_limits *out, struct error *err);
enum result unpack_member_read(struct str payload, struct unpack_member *out, struct error *err);
enum result unpack_done_read(struct str payload, struct unpack_spent *out, struct error *err);
enum result unpack_died_read(struct str payload, unsigned *out_signal, struct error *err);
