/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_answer.h"

#include <stdio.h>
#include <string.h>

enum { WIRE_NAME_MAX = 255, LABEL_MAX = 63, JUMPS_MAX = 16 };
enum { FLAG_RESPONSE = 0x8000, FLAG_TRUNCATED = 0x0200, FLAG_AUTHENTIC = 0x0020 };
enum { RCODE_OK = 0, RCODE_NO_NAME = 3, CLASS_IN = 1 };

/* A position in the packet; `bad` stays set once something was read beyond the end. */
struct reader {
    const unsigned char *bytes;
    size_t len, at;
    bool bad;
};

/* A name without compression, lower case. */
struct name {
    unsigned char bytes[WIRE_NAME_MAX];
    size_t len;
};

struct record_head {
    struct name owner;
    unsigned type, class, size;
    size_t data; /* where its data begins */
};

static unsigned read_byte(struct reader *reader)
{
    if (reader->bad || reader->at >= reader->len) {
        reader->bad = true;
        return 0;
    }
    return reader->bytes[reader->at++];
}

static unsigned read_u16(struct reader *reader)
{
    unsigned high = read_byte(reader);
    return high << 8 | read_byte(reader);
}

static void skip(struct reader *reader, size_t size)
{
    if (reader->bad || size > reader->len - reader->at)
        reader->bad = true;
    else
        reader->at += size;
}

/* ---- names ---- */

static void add_label(struct reader *from, struct name *name, unsigned size)
{
    if (name->len + 1 + size >= WIRE_NAME_MAX) { /* one more for the root */
        from->bad = true;
        return;
    }
    name->bytes[name->len++] = (unsigned char)size;
    for (unsigned i = 0; i < size; i++)
        name->bytes[name->len++] = (unsigned char)ascii_lower((char)read_byte(from));
}

/*
 * A name, compressed or not. Each pointer must point before the one it came from, so that the walk
 * ends; its length is bounded besides.
 */
static void read_name(struct reader *reader, struct name *out)
{
    struct reader walk = *reader;
    size_t lowest = reader->at;
    unsigned jumps = 0;
    out->len = 0;
    for (;;) {
        unsigned size = read_byte(&walk);
        if (size >= 0xc0) {
            size_t target = (size & 0x3f) << 8 | read_byte(&walk);
            if (jumps++ == 0)
                reader->at = walk.at;
            if (walk.bad || target >= lowest || jumps > JUMPS_MAX) {
                walk.bad = true;
                break;
            }
            lowest = walk.at = target;
            continue;
        }
        if (walk.bad || size > LABEL_MAX) {
            walk.bad = true;
            break;
        }
        if (size == 0)
            break;
        add_label(&walk, out, size);
    }
    reader->bad |= walk.bad;
    if (reader->bad)
        return;
    out->bytes[out->len++] = 0;
    if (jumps == 0)
        reader->at = walk.at;
}

static bool name_equal(const struct name *a, const struct name *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static bool is_plain(unsigned char c)
{
    return ascii_is_alpha((char)c) || ascii_is_digit((char)c) || c == '-' || c == '_';
}

static struct str name_text(const struct name *name, struct arena *arena)
{
    char text[DNS_NAME_TEXT];
    size_t len = 0;
    for (size_t at = 0; name->bytes[at]; at += 1u + name->bytes[at]) {
        if (at)
            text[len++] = '.';
        for (size_t i = 1; i <= name->bytes[at]; i++) {
            unsigned char c = name->bytes[at + i];
            if (is_plain(c))
                text[len++] = (char)c;
            else
                len += (size_t)snprintf(text + len, sizeof text - len, "\\%03u", c);
        }
    }
    return arena_str(arena, str_of(text, len));
}

/* One character of a name in text; `*at` moves on. -1 if the escape is none. */
static int read_escaped(struct str name, size_t *at)
{
    uint64_t value;
    if (name.ptr[*at] != '\\')
        return (unsigned char)name.ptr[(*at)++];
    if (name.len - *at >= 4 && str_to_uint(str_slice(name, *at + 1, *at + 4), 255, &value)) {
        *at += 4;
        return (int)value;
    }
    if (name.len - *at < 2 || ascii_is_digit(name.ptr[*at + 1]))
        return -1;
    *at += 2;
    return (unsigned char)name.ptr[*at - 1];
}

size_t dns_name_to_wire(struct str name, unsigned char out[255])
{
    size_t len = 1, label = 0; /* out[label] is the length of the label being written */
    if (name.len == 0)
        return 0;
    if (str_equal(name, STR("."))) {
        out[0] = 0;
        return 1;
    }
    for (size_t at = 0; at < name.len;) {
        bool dot = name.ptr[at] == '.';
        int c = read_escaped(name, &at);
        if (c < 0 || len >= WIRE_NAME_MAX)
            return 0;
        if (!dot) {
            out[len++] = (unsigned char)ascii_lower((char)c);
            if (len - label - 1 > LABEL_MAX)
                return 0;
            continue;
        }
        if (len == label + 1)
            return 0;
        out[label] = (unsigned char)(len - label - 1);
        label = len++;
    }
    if (len == label + 1) { /* it ended in a dot: that is the root */
        out[label] = 0;
        return len;
    }
    if (len >= WIRE_NAME_MAX)
        return 0;
    out[label] = (unsigned char)(len - label - 1);
    out[len++] = 0;
    return len;
}

/* ---- records ---- */

static void read_record(struct reader *reader, struct record_head *out)
{
    read_name(reader, &out->owner);
    out->type = read_u16(reader);
    out->class = read_u16(reader);
    skip(reader, 4); /* time to live: the resolver's business */
    out->size = read_u16(reader);
    out->data = reader->at;
    skip(reader, out->size);
}

/* The whole packet can be read for names; the data itself ends where the record ends. */
static struct reader data_of(const struct reader *packet, const struct record_head *record)
{
    return (struct reader){packet->bytes, record->data + record->size, record->data, packet->bad};
}

/* Character strings joined. False: longer than any honest one. */
static bool read_text(struct reader *data, struct arena *arena, struct str *out)
{
    char *text = arena_alloc(arena, data->len - data->at + 1);
    size_t len = 0;
    while (data->at < data->len) {
        unsigned size = read_byte(data);
        for (unsigned i = 0; i < size && !data->bad; i++)
            text[len++] = (char)read_byte(data);
    }
    *out = str_of(text, len);
    return !data->bad && len <= DNS_TEXT_MAX;
}

static bool read_ip(struct reader *data, unsigned char family, struct net_ip *out)
{
    size_t size = family == 4 ? 4 : 16;
    if (data->len - data->at != size)
        return false;
    out->family = family;
    memcpy(out->bytes, data->bytes + data->at, size);
    return true;
}

static bool read_name_data(struct reader *data, struct arena *arena, struct str *out)
{
    struct name name;
    read_name(data, &name);
    if (data->bad || data->at != data->len)
        return false;
    *out = name_text(&name, arena);
    return true;
}

/* False: the data of this record cannot be right. */
static bool read_data(const struct reader *packet, const struct record_head *record,
                      struct arena *arena, struct dns_record *out)
{
    struct reader data = data_of(packet, record);
    switch (record->type) {
    case DNS_A:
        return read_ip(&data, 4, &out->ip);
    case DNS_AAAA:
        return read_ip(&data, 6, &out->ip);
    case DNS_TXT:
        return read_text(&data, arena, &out->text);
    case DNS_MX:
        out->preference = read_u16(&data);
        return read_name_data(&data, arena, &out->text);
    case DNS_PTR:
        return read_name_data(&data, arena, &out->text);
    default:
        return true; /* it exists; nobody reads it */
    }
}

/* ---- answers ---- */

struct section {
    struct reader packet; /* at the first record */
    unsigned count;
};

/* Records of `type` that `owner` has; two walks, so that the array has the right size. */
static enum result collect(const struct section *section, const struct name *owner,
                           enum dns_type type, struct arena *arena, struct dns_answer *out,
                           struct error *err)
{
    struct record_head record;
    struct reader reader = section->packet;
    size_t count = 0;
    for (unsigned i = 0; i < section->count; i++) {
        read_record(&reader, &record);
        if (reader.bad)
            return fail(err, ERROR_TEMPORARY, "malformed DNS answer");
        count +=
            record.type == type && record.class == CLASS_IN && name_equal(&record.owner, owner);
    }
    out->records = arena_alloc_array(arena, count, sizeof out->records[0]);
    reader = section->packet;
    for (unsigned i = 0; i < section->count && out->count < count; i++) {
        read_record(&reader, &record);
        if (record.type != type || record.class != CLASS_IN || !name_equal(&record.owner, owner))
            continue;
        /* a record that cannot be right does not spoil the others */
        if (read_data(&section->packet, &record, arena, &out->records[out->count]))
            out->count++;
    }
    if (count && out->count == 0)
        return fail(err, ERROR_TEMPORARY, "malformed records in a DNS answer");
    out->status = out->count ? DNS_FOUND : DNS_NO_DATA;
    return OK;
}

/* Replace `*name` by what it is an alias of; false if it is none. */
static bool follow_alias(const struct section *section, struct name *name)
{
    struct reader reader = section->packet;
    struct record_head record;
    for (unsigned i = 0; i < section->count; i++) {
        read_record(&reader, &record);
        if (reader.bad)
            return false;
        if (record.type != DNS_CNAME || record.class != CLASS_IN ||
            !name_equal(&record.owner, name))
            continue;
        struct reader data = data_of(&section->packet, &record);
        struct name target;
        read_name(&data, &target);
        if (data.bad)
            return false;
        *name = target;
        return true;
    }
    return false;
}

static enum result find_records(const struct section *section, struct name *name,
                                enum dns_type type, struct arena *arena, struct dns_answer *out,
                                struct error *err)
{
    for (unsigned steps = 0; steps <= DNS_CNAME_STEPS; steps++) {
        if (collect(section, name, type, arena, out, err) == FAILED)
            return FAILED;
        if (out->count || !follow_alias(section, name))
            return OK;
    }
    return fail(err, ERROR_TEMPORARY, "too long a chain of DNS aliases");
}

static const char *rcode_name(unsigned rcode)
{
    static const char *const names[] = {"NOERROR",  "FORMERR", "SERVFAIL",
                                        "NXDOMAIN", "NOTIMP",  "REFUSED"};
    return rcode < sizeof names / sizeof names[0] ? names[rcode] : "an unusual response code";
}

/* Header and question; the reader is at the first record of the answer then. */
static enum result read_front(struct reader *reader, const struct name *asked, enum dns_type type,
                              unsigned *out_flags, unsigned *out_count, struct error *err)
{
    struct name question = {.len = 0};
    skip(reader, 2);
    *out_flags = read_u16(reader);
    unsigned questions = read_u16(reader);
    *out_count = read_u16(reader);
    skip(reader, 4);
    if (reader->bad || !(*out_flags & FLAG_RESPONSE) || questions != 1)
        return fail(err, ERROR_TEMPORARY, "malformed DNS answer");
    unsigned rcode = *out_flags & 0xf;
    if (rcode != RCODE_OK && rcode != RCODE_NO_NAME)
        return fail(err, ERROR_TEMPORARY, "the DNS server answered %s", rcode_name(rcode));
    if (*out_flags & FLAG_TRUNCATED)
        return fail(err, ERROR_TEMPORARY, "the DNS answer was cut short");
    read_name(reader, &question);
    unsigned question_type = read_u16(reader), question_class = read_u16(reader);
    if (reader->bad || !name_equal(&question, asked) || question_type != type ||
        question_class != CLASS_IN)
        return fail(err, ERROR_TEMPORARY, "the DNS answer is to another question");
    return OK;
}

enum result dns_answer_parse(struct str packet, struct str name, enum dns_type type,
                             struct arena *arena, struct dns_answer *out, struct error *err)
{
    struct section section = {.packet = {(const unsigned char *)packet.ptr, packet.len, 0, false}};
    struct dns_answer answer = {0};
    struct name current;
    unsigned flags = 0;
    current.len = dns_name_to_wire(name, current.bytes);
    if (current.len == 0)
        return fail(err, ERROR_TEMPORARY, "no valid DNS name");
    if (read_front(&section.packet, &current, type, &flags, &section.count, err) == FAILED ||
        find_records(&section, &current, type, arena, &answer, err) == FAILED)
        return FAILED;
    if (answer.count == 0 && (flags & 0xf) == RCODE_NO_NAME)
        answer.status = DNS_NO_NAME;
    answer.authentic = flags & FLAG_AUTHENTIC;
    *out = answer;
    return OK;
}
