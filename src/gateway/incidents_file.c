/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/incidents_file.c - incidents as lines of a file; incidents.h describes them. */
#include "base/buf.h"
#include "base/file.h"
#include "gateway/incidents_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FILE_MAX = 32 << 20, LINES_MAX = INCIDENTS_OPEN_MAX + INCIDENTS_CLOSED_MAX + 1000 };
static const char first_line[] = "postern-incidents 1";

struct member {
    const char *key;
    size_t offset;
};
#define MEMBER(name)                                                                               \
    {                                                                                              \
#name, offsetof(struct incident, name)                                                     \
    }
#define NAMED(name, member)                                                                        \
    {                                                                                              \
        name, offsetof(struct incident, member)                                                    \
    }
static const struct member texts[] = {
    MEMBER(user),
    NAMED("opened_by", opened_by),
    MEMBER(reason),
    MEMBER(flow),
    MEMBER(step),
    MEMBER(what),
    MEMBER(by),
    MEMBER(subject),
    NAMED("closed_by", closed_by),
    MEMBER(closing_reason),
};
static const struct member numbers[] = {
    MEMBER(number),
    NAMED("opened", opened_wall_ns),
    MEMBER(count),
    MEMBER(max),
    NAMED("period", period_ns),
    NAMED("since", recent_since_wall_ns),
    MEMBER(messages),
    MEMBER(recipients),
    MEMBER(unknown),
    NAMED("closed", closed_wall_ns),
    NAMED("done", done_wall_ns),
};
enum { TEXTS = sizeof texts / sizeof *texts, NUMBERS = sizeof numbers / sizeof *numbers };

static struct str *text_of(const struct incident *incident, const struct member *member)
{
    return (struct str *)((char *)incident + member->offset);
}

static int64_t *number_of(const struct incident *incident, const struct member *member)
{
    return (int64_t *)((char *)incident + member->offset);
}

/* ---- writing ---- */

static void put_text(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x20 || c == 0x7f || c == '%')
            buf_printf(out, "%%%02X", c);
        else
            buf_append_byte(out, text.ptr[i]);
    }
}

static void put_shares(struct buf *out, const char *key, const struct incident_share *shares,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "\t%s=%lld ", key, (long long)shares[i].count);
        put_text(out, shares[i].name);
    }
}

static void put_incident(struct buf *out, const struct incident *incident)
{
    buf_printf(out, "state=%s", incident_state_name(incident->state));
    for (size_t i = 0; i < NUMBERS; i++)
        if (*number_of(incident, &numbers[i]))
            buf_printf(out, "\t%s=%lld", numbers[i].key,
                       (long long)*number_of(incident, &numbers[i]));
    for (size_t i = 0; i < TEXTS; i++) {
        if (text_of(incident, &texts[i])->len == 0)
            continue;
        buf_printf(out, "\t%s=", texts[i].key);
        put_text(out, *text_of(incident, &texts[i]));
    }
    put_shares(out, "domain", incident->domains, incident->domain_count);
    put_shares(out, "client", incident->clients, incident->client_count);
    buf_append_byte(out, '\n');
}

void incident_table_print(const struct incident_table *table, struct buf *out)
{
    buf_printf(out, "%s\n", first_line);
    for (size_t i = 0; i < table->count; i++)
        put_incident(out, &table->items[i]);
}

enum result incident_table_save(const struct incident_table *table, const char *path,
                                struct error *err)
{
    BUF_CLEANUP struct buf text;
    buf_init(&text, FILE_MAX);
    incident_table_print(table, &text);
    if (text.overflow)
        return fail(err, ERROR_LIMIT, "there are too many incidents");
    return file_replace(path, 0640, buf_str(&text), err);
}

/* ---- reading ---- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_text(struct str text, struct arena *arena, struct str *out)
{
    char *space = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '%') {
            space[len++] = text.ptr[i];
            continue;
        }
        int high = i + 2 < text.len ? hex(text.ptr[i + 1]) : -1;
        int low = i + 2 < text.len ? hex(text.ptr[i + 2]) : -1;
        if (high < 0 || low < 0)
            return false;
        space[len++] = (char)(high << 4 | low);
        i += 2;
    }
    *out = str_of(space, len);
    return true;
}

static bool read_number(struct str text, int64_t *out)
{
    uint64_t value;
    if (!str_to_uint(text, INT64_MAX, &value))
        return false;
    *out = (int64_t)value;
    return true;
}

static bool read_share(struct str value, struct arena *arena, struct incident_share *shares,
                       size_t *count)
{
    struct str number;
    if (*count == INCIDENT_SHARES)
        return true;
    struct incident_share *share = &shares[*count];
    if (!str_split(&value, ' ', &number) || !read_number(number, &share->count) ||
        !read_text(value, arena, &share->name))
        return false;
    ++*count;
    return true;
}

static bool read_part(struct str part, struct arena *arena, struct incident *out)
{
    struct str key;
    if (str_find(part, '=') < 0 || !str_split(&part, '=', &key))
        return false;
    for (size_t i = 0; i < TEXTS; i++)
        if (str_equal(key, str_c(texts[i].key)))
            return read_text(part, arena, text_of(out, &texts[i]));
    for (size_t i = 0; i < NUMBERS; i++)
        if (str_equal(key, str_c(numbers[i].key)))
            return read_number(part, number_of(out, &numbers[i]));
    if (str_equal(key, STR("domain")))
        return read_share(part, arena, out->domains, &out->domain_count);
    if (str_equal(key, STR("client")))
        return read_share(part, arena, out->clients, &out->client_count);
    if (!str_equal(key, STR("state")))
        return true;
    int state = 0;
    while (state < INCIDENT_STATES &&
           !str_equal(part, str_c(incident_state_name((enum incident_state)state))))
        state++;
    out->state = (enum incident_state)state;
    return state < INCIDENT_STATES;
}

static bool read_incident(struct str line, struct arena *arena, struct incident *out)
{
    struct str part;
    *out = (struct incident){.state = INCIDENT_STATES};
    for (size_t i = 0; i < TEXTS; i++)
        *text_of(out, &texts[i]) = STR_EMPTY;
    while (str_split(&line, '\t', &part))
        if (!read_part(part, arena, out))
            return false;
    return out->state < INCIDENT_STATES && out->number > 0 && out->user.len > 0 &&
           out->user.len <= INCIDENT_USER_MAX;
}

static size_t count_lines(struct str text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++)
        count += text.ptr[i] == '\n';
    return count;
}

enum result incident_table_parse(struct str text, struct incident_table *out, struct error *err)
{
    struct str line;
    int64_t last = 0;
    size_t number = 1;
    size_t lines = count_lines(text) + 1; /* the last may have no end */
    *out = incident_table_new(lines < LINES_MAX ? lines : LINES_MAX);
    bool sound = str_split(&text, '\n', &line) && str_equal(line, str_c(first_line));
    while (sound && text.len > 0 && str_split(&text, '\n', &line)) {
        struct incident incident;
        number++;
        sound = out->count < LINES_MAX && read_incident(line, out->arena, &incident) &&
                incident.number > last;
        if (sound)
            last = incident_table_add(out, &incident)->number;
    }
    if (sound)
        return OK;
    incident_table_done(out);
    return fail(err, ERROR_PERMANENT, "line %zu is no incident", number);
}

enum result incident_table_read(const char *path, struct incident_table *out, struct error *err)
{
    BUF_CLEANUP struct buf text;
    char *space;
    ssize_t count = 0;
    buf_init(&text, FILE_MAX);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        *out = incident_table_new(0);
        return OK;
    }
    if (fd < 0)
        return fail_errno(err, errno, "cannot open %s", path);
    while ((space = buf_reserve(&text, 65536)) != NULL && (count = read(fd, space, 65536)) > 0)
        text.len += (size_t)count;
    int number = errno;
    close(fd);
    if (space == NULL)
        return fail(err, ERROR_LIMIT, "%s is too large", path);
    if (count < 0)
        return fail_errno(err, number, "cannot read %s", path);
    if (incident_table_parse(buf_str(&text), out, err) != OK)
        return fail_context(err, "%s", path);
    return OK;
}
