/* SPDX-License-Identifier: Apache-2.0 */
#include "event/names.h"

struct type_row {
    const char *name;
    enum event_severity severity;
    const char *text;
};

static const struct type_row types[EVENT_TYPE_COUNT] = {
#define EVENT(id, name, severity, text) [EVENT_##id] = {name, EVENT_##severity, text},
#include "event/table.h"
#undef EVENT
};

static const char *const advice[EVENT_TYPE_COUNT] = {
#define EVENT_ADVICE(id, text) [EVENT_##id] = text,
#include "event/advice.h"
#undef EVENT_ADVICE
};

static const char *const keys[EVENT_KEY_COUNT] = {
#define EVENT_KEY(id, name) [KEY_##id] = name,
#include "event/keys.h"
#undef EVENT_KEY
};

/* As they stand in JSON, so that a line is put together from pieces of known length. */
#define PIECE(literal)                                                                             \
    {                                                                                              \
        "" literal, sizeof(literal) - 1                                                            \
    }

static const struct str type_pieces[EVENT_TYPE_COUNT] = {
#define EVENT(id, name, severity, text)                                                            \
    [EVENT_##id] = PIECE(",\"event\":\"" name "\",\"severity\":\""),
#include "event/table.h"
#undef EVENT
};

static const struct str key_pieces[EVENT_KEY_COUNT] = {
#define EVENT_KEY(id, name) [KEY_##id] = PIECE(",\"" name "\":"),
#include "event/keys.h"
#undef EVENT_KEY
};

struct str event_type_piece(enum event_type type)
{
    return type_pieces[type];
}

struct str event_key_piece(enum event_key key)
{
    return key_pieces[key];
}

const char *event_name(enum event_type type)
{
    return types[type].name;
}

enum event_severity event_severity(enum event_type type)
{
    return types[type].severity;
}

const char *event_text(enum event_type type)
{
    return types[type].text;
}

const char *event_advice(enum event_type type)
{
    return advice[type] ? advice[type] : "";
}

const char *event_key_name(enum event_key key)
{
    return keys[key];
}

const char *event_severity_name(enum event_severity severity)
{
    static const char *const names[] = {
        [EVENT_DEBUG] = "debug", [EVENT_INFO] = "info",   [EVENT_NOTICE] = "notice",
        [EVENT_WARN] = "warn",   [EVENT_ERROR] = "error",
    };
    return names[severity];
}
