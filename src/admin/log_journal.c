/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/log_journal.h"

#include "base/buf.h"
#include "crypto/sha256.h"

#include <stdio.h>
#include <syslog.h>

const char *log_journal_id(enum event_type type, char out[static EVENT_ID_SIZE])
{
    unsigned char hash[SHA256_SIZE];
    char name[128];
    int length = snprintf(name, sizeof name, "postern event %s", event_name(type));
    struct sha256 sha;
    sha256_open(&sha);
    sha256_add(&sha, str_of(name, (size_t)length));
    sha256_finish(&sha, hash);
    sha256_close(&sha);
    hash[6] = (unsigned char)((hash[6] & 0x0F) | 0x80); /* a UUID of version 8 (RFC 9562) */
    hash[8] = (unsigned char)((hash[8] & 0x3F) | 0x80);
    for (size_t i = 0; i < (EVENT_ID_SIZE - 1) / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
    return out;
}

static int priority_of(enum event_type type)
{
    static const int priorities[] = {LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING, LOG_ERR};
    return priorities[event_severity(type)];
}

/* With its length before it: it may have line ends. */
static void put_text(struct buf *out, struct str text)
{
    buf_append_byte(out, '\n');
    for (unsigned i = 0; i < 64; i += 8)
        buf_append_byte(out, (char)((uint64_t)text.len >> i));
    buf_append(out, text);
    buf_append_byte(out, '\n');
}

static void put_name(struct buf *out, const char *name)
{
    buf_append(out, STR("POSTERN_"));
    for (; *name; name++)
        buf_append_byte(out, *name >= 'a' && *name <= 'z' ? (char)(*name - 'a' + 'A') : *name);
}

static void put_field(struct buf *out, const struct event_field *field)
{
    if (field->kind == EVENT_VALUE_STR && !field->text.len)
        return;
    put_name(out, event_key_name(field->key));
    if (field->kind == EVENT_VALUE_STR)
        put_text(out, field->text);
    else if (field->kind == EVENT_VALUE_INT)
        buf_printf(out, "=%lld\n", (long long)field->number);
    else
        buf_printf(out, "=%s\n", field->number ? "true" : "false");
}

void log_journal_entry(const struct event *event, const char *id, struct str node,
                       struct str revision, struct buf *out)
{
    enum { LINE_MAX_BYTES = 64 * 1024 };
    struct buf line BUF_CLEANUP;
    buf_init(&line, LINE_MAX_BYTES);
    event_format_words(event, &line);
    buf_append(out, STR("MESSAGE"));
    put_text(out, buf_str(&line));
    buf_printf(out,
               "MESSAGE_ID=%s\nPRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=postern\n"
               "POSTERN_EVENT=%s\nPOSTERN_SEQ=%llu\nPOSTERN_TIME_US=%lld\n",
               id, priority_of(event->type), LOG_MAIL >> 3, event_name(event->type),
               (unsigned long long)event->seq, (long long)(event->wall_ns / 1000));
    if (node.len)
        buf_printf(out, "POSTERN_NODE=%.*s\n", STR_ARG(node));
    if (revision.len)
        buf_printf(out, "POSTERN_REV=%.*s\n", STR_ARG(revision));
    for (unsigned i = 0; i < event->count; i++)
        put_field(out, &event->fields[i]);
}
