/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event/event.h - the one stream of what happens: log, history, trace and counters come from it.
 *
 * Events and their fields are closed tables (event/table.h). Emitting copies the event into a ring
 * of the calling thread (1 MiB) and never blocks; when a ring is full the event is dropped and
 * counted, debug events when it is seven eighths full. One reader (event_drain) takes them out. No
 * secret is ever a field.
 */
#pragma once

#include "base/str.h"

enum event_severity { EVENT_DEBUG, EVENT_INFO, EVENT_NOTICE, EVENT_WARN, EVENT_ERROR };

enum event_type {
#define EVENT(id, name, severity, text) EVENT_##id,
#include "event/table.h"
#undef EVENT
    EVENT_TYPE_COUNT
};

/* Names of fields; the same in log, API, CLI and trace. */
enum event_key {
#define EVENT_KEY(id, name) KEY_##id,
#include "event/keys.h"
#undef EVENT_KEY
    EVENT_KEY_COUNT
};

enum event_value_kind { EVENT_VALUE_STR, EVENT_VALUE_INT, EVENT_VALUE_BOOL };

struct event_field {
    enum event_key key;
    enum event_value_kind kind;
    union {
        struct str text;
        int64_t number;
    };
};

/* Constructors of fields, used inside event_emit(). */
#define F_STR(key_, value)                                                                         \
    ((struct event_field){.key = KEY_##key_, .kind = EVENT_VALUE_STR, .text = (value)})
#define F_C(key_, value) F_STR(key_, str_c(value))
#define F_INT(key_, value)                                                                         \
    ((struct event_field){.key = KEY_##key_, .kind = EVENT_VALUE_INT, .number = (int64_t)(value)})
#define F_BOOL(key_, value)                                                                        \
    ((struct event_field){.key = KEY_##key_, .kind = EVENT_VALUE_BOOL, .number = (value)})

/* What is known about the current session or message; rides on the fiber (fiber_set_context) and is
 * added to each event emitted there. Empty strs are left out. Contexts nest through `outer`. */
struct event_context {
    const struct event_context *outer;
    struct event_field fields[6];
    unsigned count;
};

/* How the event module asks for the context of the running fiber; set once by the daemon. */
extern const struct event_context *(*event_context_source)(void);

/*
 * event_emit(EVENT_AUTH_FAIL, F_STR(FLOW, name), F_INT(DURATION_US, n)): any number of fields up to
 * 24. Text longer than 1,024 bytes is cut (not inside a character). A key is told once: the first
 * field with it wins, then the innermost context. Safe from every thread, never suspends.
 */
#define event_emit(type, ...)                                                                      \
    event_emit_fields((type), (const struct event_field[]){__VA_ARGS__},                           \
                      sizeof((const struct event_field[]){__VA_ARGS__}) /                          \
                          sizeof(struct event_field))
void event_emit_fields(enum event_type type, const struct event_field *fields, size_t count);
/* The same once for each of `value_count` texts, which takes the place of the value of `key`, one
 * of the fields: what is told of a message for each of its recipients. */
void event_emit_each(enum event_type type, const struct event_field *fields, size_t count,
                     enum event_key key, const struct str *values, size_t value_count);

/* ---- the reader ---- */

struct event {
    enum event_type type;
    int64_t wall_ns;
    uint64_t seq;
    struct str revision; /* that a session began with; an event about a configuration has it among
                            its fields; may be empty */
    unsigned count;
    struct event_field fields[32]; /* texts borrowed until the callback returns */
    struct str packed; /* whole: type, time and fields in few bytes; borrowed likewise */

    /* Events of one type and one thread are a stream, and follow each other in it. */
    unsigned source;   /* the thread, a small number; used again when the thread has ended */
    uint32_t number;   /* in its stream */
    uint32_t changed;  /* bit i: field i is not what it was in the event before; the others are, and
                          so is the revision */
    struct str record; /* as it came: whole, or what changed; for event_decode */
};
/* Nothing is as before, and there may be other fields. */
#define EVENT_ALL_CHANGED UINT32_MAX

/* Take every event that is there out of the rings, the oldest of all first, and number them: one
 * that was dropped has a number that is missing. What
 * is emitted meanwhile waits for the next call. One thread only. Returns how many there were. */
size_t event_drain(void (*take_event)(const struct event *event, void *arg), void *arg);
/* What a copy of `packed` holds; `seq` is not in it. Texts are borrowed from `packed`. */
void event_unpack(struct str packed, struct event *out);

/* A second reader of records, in another thread say: of each stream it gets every record in its
 * order, or a whole one (`packed`) after some were left out. The event is borrowed until the next
 * one of its stream, and what is too long to be kept from `record`. */
struct event_decoder *event_decoder_new(void);
void event_decoder_free(struct event_decoder *decoder);
const struct event *event_decode(struct event_decoder *decoder, unsigned source, struct str record,
                                 uint64_t seq);

/* What a reader keeps of each stream: a pointer, NULL at first. */
struct event_slots {
    void ***of;
    unsigned count;
};
void **event_slot(struct event_slots *slots, unsigned source, enum event_type type);
void event_slots_done(struct event_slots *slots, void (*free_one)(void *pointer));

/* Wait until there may be events, at most `timeout_ms`, and then some 20 ms more for others, unless
 * a ring fills. Reader's thread only. */
void event_wait(int timeout_ms);
/* End the reader's wait, this one or the next, for somebody waits for what it has to take. Any
 * thread. */
void event_hurry(void);
uint64_t event_dropped(void);

const char *event_name(enum event_type type);
const char *event_key_name(enum event_key key);
enum event_severity event_severity(enum event_type type);
const char *event_severity_name(enum event_severity severity);
/* One line for the manual: what it means. */
const char *event_text(enum event_type type);
/* What to do about it; empty: nothing. */
const char *event_advice(enum event_type type);

struct buf;
/* Append one JSON object and a newline; everything outside printable ASCII is escaped. Bytes that
 * are no UTF-8 become \u0080 … \u00ff. `node` and `revision` are left out when empty. */
void event_format_json(const struct event *event, struct str node, struct str revision,
                       struct buf *out);
/* The same for a log, which gets every event of each stream in its order, of the severities that it
 * takes. */
struct event_lines *event_lines_new(struct str node);
void event_lines_free(struct event_lines *lines);
void event_lines_json(struct event_lines *lines, const struct event *event, struct str revision,
                      struct buf *out);
/* One line for a person at a terminal, equally escaped; a value with blanks, '=' or escapes in it
 * stands in quotes, so it cannot pass for another field. */
void event_format_human(const struct event *event, struct buf *out);
/* The same without time, severity and line end. */
void event_format_words(const struct event *event, struct buf *out);
