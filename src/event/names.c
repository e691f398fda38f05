/* SPDX-License-Identifier: Apache-2.0 */
#include "event/event.h"

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

static const char *const keys[EVENT_KEY_COUNT] = {
#define EVENT_KEY(id, name) [KEY_##id] = name,
#include "event/keys.h"
#undef EVENT_KEY
};

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
