/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/milter_packet.h - packets of the milter protocol, version 6 (2 to 5 are spoken, too).
 *
 * Pure: bytes in, struct out. A packet is a length of four bytes (big endian, with the command), a
 * command of one byte, and data; texts in it end in NUL.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

enum {
    MILTER_VERSION = 6,
    MILTER_VERSION_OLDEST = 2,
    MILTER_VERSION_DATA = 4,  /* DATA is told from here on */
    MILTER_CHUNK = 65535,     /* of a body, in one packet */
    MILTER_PACKET_MAX = 65536 /* command and data of an answer: we offer no more */
};

/* What it may do to a message (actions of the negotiation). */
enum {
    MILTER_MAY_ADD_HEADERS = 0x01,
    MILTER_MAY_CHANGE_BODY = 0x02,
    MILTER_MAY_ADD_RECIPIENTS = 0x04,
    MILTER_MAY_DELETE_RECIPIENTS = 0x08,
    MILTER_MAY_CHANGE_HEADERS = 0x10,
    MILTER_MAY_QUARANTINE = 0x20,
    MILTER_MAY_CHANGE_SENDER = 0x40,
    MILTER_MAY_ADD_RECIPIENTS_WITH_PARAMETERS = 0x80,
    MILTER_MAY_NAME_MACROS = 0x100,
    MILTER_MAY_ALL = 0x1ff,
};

/* What it does not want to be told, and what it does not answer (steps of the negotiation). */
enum {
    MILTER_NO_CONNECT = 0x01,
    MILTER_NO_HELO = 0x02,
    MILTER_NO_MAIL = 0x04,
    MILTER_NO_RECIPIENTS = 0x08,
    MILTER_NO_BODY = 0x10,
    MILTER_NO_HEADERS = 0x20,
    MILTER_NO_END_OF_HEADERS = 0x40,
    MILTER_MUTE_HEADERS = 0x80,
    MILTER_NO_UNKNOWN = 0x100,
    MILTER_NO_DATA = 0x200,
    MILTER_MAY_SKIP = 0x400,
    /* 0x800, refused recipients, is not offered: here are none */
    MILTER_MUTE_CONNECT = 0x1000,
    MILTER_MUTE_HELO = 0x2000,
    MILTER_MUTE_MAIL = 0x4000,
    MILTER_MUTE_RECIPIENTS = 0x8000,
    MILTER_MUTE_DATA = 0x10000,
    MILTER_MUTE_UNKNOWN = 0x20000,
    MILTER_MUTE_END_OF_HEADERS = 0x40000,
    MILTER_MUTE_BODY = 0x80000,
    MILTER_LEADING_SPACE = 0x100000, /* blanks before a field's value are told, and taken */
    MILTER_STEPS_OFFERED = 0x1ff7ff,
};

enum milter_stage { /* the numbers that the protocol gives them where macros are named */
                    MILTER_AT_CONNECT,
                    MILTER_AT_HELO,
                    MILTER_AT_MAIL,
                    MILTER_AT_RECIPIENT,
                    MILTER_AT_DATA,
                    MILTER_AT_END,
                    MILTER_AT_END_OF_HEADERS,
                    MILTER_STAGES
};

struct milter_terms {
    unsigned version;
    unsigned actions;
    unsigned steps;
    bool named[MILTER_STAGES];        /* it named the macros that it wants at this stage */
    struct str macros[MILTER_STAGES]; /* separated by blanks */
};

/* The data of its answer to our offer. Slices of `data`. FAILED (protocol, or permanent where we
 * do not offer what it wants): there can be no conversation. */
enum result milter_read_terms(struct str data, unsigned actions_offered, struct milter_terms *out,
                              struct error *err);

enum milter_answer_kind {
    MILTER_CONTINUE,
    MILTER_ACCEPT,
    MILTER_REJECT,
    MILTER_DEFER,
    MILTER_REPLY, /* refused or deferred with words */
    MILTER_DISCARD,
    MILTER_SKIP, /* no more of the body */
    MILTER_PROGRESS,
    /* at the end of the message, before one of those above */
    MILTER_ADD_HEADER,
    MILTER_INSERT_HEADER,
    MILTER_CHANGE_HEADER,
    MILTER_CHANGE_SENDER,
    MILTER_ADD_RECIPIENT,
    MILTER_DELETE_RECIPIENT,
    MILTER_REPLACE_BODY,
    MILTER_QUARANTINE,
};
struct milter_answer {
    enum milter_answer_kind kind;
    uint32_t index;   /* of a header field */
    struct str name;  /* of a field; an address; the words of a reply or a quarantine */
    struct str value; /* of a field; ESMTP parameters of an address; a piece of the body */
};

bool milter_answer_is_change(enum milter_answer_kind kind);
/* Slices of `data`. FAILED (protocol): it is none, or `actions` do not allow it. */
enum result milter_read_answer(char command, struct str data, unsigned actions,
                               struct milter_answer *out, struct error *err);

/* The reply of a MILTER_REPLY as one line "550 5.7.1 words" (of several, joined by a blank); words
 * that are not printable become ?. False: it is no refusal. In `arena`. */
bool milter_read_reply(struct str text, struct arena *arena, struct str *out);

/* ---- writing ---- */

/* Length and command, in front of `size` bytes of data. */
void milter_write_head(char command, size_t size, char out[5]);
void milter_write_u32(struct buf *out, uint32_t value);
/* Text with a NUL behind it; a NUL in it becomes a blank. */
void milter_write_text(struct buf *out, struct str text);
/* A field as the protocol has it: name, value with LF for CRLF. */
void milter_write_field(struct buf *out, struct str name, struct str value, bool leading_space);
