/* SPDX-License-Identifier: Apache-2.0 */
#include "history/store_pack.h"

#include "base/clock.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Format 1 had only events that are whole. */
enum { FORMAT = 2, FORMAT_WHOLE = 1, PACK_MAX = 1024 * 1024, REVISION = 255, FIELDS_MAX = 32 };
enum tag {
    TAG_SAME,
    TAG_TEXT,
    TAG_NUMBER,
    TAG_FALSE,
    TAG_TRUE,
    TAG_EARLIER, /* the text with that number, from 0, of those told in full */
};
enum { EARLIER_MAX = 4096, LOOK_AHEAD = 16 };
/* In the place of the number of fields, which with the revision is from 1 to 33. */
enum { LIKE_THE_LAST = 0, LIKE_A_BASE = 127 };

_Static_assert((int)EVENT_KEY_COUNT < (int)REVISION && (int)EVENT_TYPE_COUNT < 256,
               "numbers fit a byte");

/* ---- writing ---- */

enum { NUMBER_MAX = 10, HEAD_MAX = 5 * NUMBER_MAX, FIELD_MAX = 2 + NUMBER_MAX };

static char *put_number(char *to, uint64_t number)
{
    for (; number > 127; number >>= 7)
        *to++ = (char)(number | 128);
    *to++ = (char)number;
    return to;
}

/* Small negative numbers are small, too. */
static uint64_t fold(int64_t number)
{
    return (uint64_t)number << 1 ^ (uint64_t)(number >> 63);
}

static int64_t unfold(uint64_t number)
{
    return (int64_t)(number >> 1) ^ -(int64_t)(number & 1);
}

void pack_init(struct pack *pack, uint64_t dictionary)
{
    *pack = (struct pack){0};
    buf_init(&pack->bytes, PACK_MAX);
    pack_clear(pack, dictionary);
}

void pack_clear(struct pack *pack, uint64_t dictionary)
{
    char head[1 + NUMBER_MAX] = {FORMAT};
    struct buf bytes = pack->bytes;
    struct pack_address *addresses = pack->addresses;
    uint32_t address_cap = pack->address_cap;
    memset(pack, 0, sizeof *pack);
    pack->bytes = bytes;
    pack->addresses = addresses;
    pack->address_cap = address_cap;
    buf_clear(&pack->bytes);
    char *end = put_number(head + 1, dictionary);
    buf_append(&pack->bytes, str_of(head, (size_t)(end - head)));
}

void pack_done(struct pack *pack)
{
    buf_done(&pack->bytes);
    free(pack->addresses);
    pack->addresses = NULL;
}

static struct str text_at(const struct pack *pack, const struct pack_value *value)
{
    return str_of(pack->bytes.ptr + value->offset, value->length);
}

static bool is_known(const struct pack *pack, const struct pack_value *value, struct str text)
{
    return value->offset && value->length == text.len && str_equal(text, text_at(pack, value));
}

/* *io_fresh gets `bit` if the text is not what the field had before. */
static char *put_text(struct pack *pack, char *to, struct pack_value *value, struct str text,
                      uint32_t bit, uint32_t *io_fresh)
{
    if (is_known(pack, value, text)) {
        *to++ = TAG_SAME;
        return to;
    }
    *to++ = TAG_TEXT;
    to = put_number(to, text.len);
    *value = (struct pack_value){(uint32_t)(to - pack->bytes.ptr), (uint32_t)text.len};
    pack->text_count++;
    if (text.len)
        memcpy(to, text.ptr, text.len);
    *io_fresh |= bit;
    return to + text.len;
}

/* An address that was told before: the last one, or one of those behind it, or the first again. */
static const struct pack_address *find_address(struct pack *pack, struct str text)
{
    for (uint32_t i = 0; i < LOOK_AHEAD && pack->address + i < pack->address_count; i++) {
        if (is_known(pack, &pack->addresses[pack->address + i].text, text)) {
            pack->address += i;
            return &pack->addresses[pack->address];
        }
    }
    if (pack->address_count == 0 || !is_known(pack, &pack->addresses[0].text, text))
        return NULL;
    pack->address = 0;
    return &pack->addresses[0];
}

static void add_address(struct pack *pack, struct pack_value text)
{
    if (pack->text_count > EARLIER_MAX)
        return;
    if (pack->address_count == pack->address_cap) {
        pack->address_cap = pack->address_cap ? pack->address_cap * 2 : 4;
        pack->addresses =
            memory_resize_array(pack->addresses, pack->address_cap, sizeof *pack->addresses);
    }
    pack->address = pack->address_count++;
    pack->addresses[pack->address] = (struct pack_address){text, pack->text_count - 1};
}

/* A recipient's. */
static char *put_address(struct pack *pack, char *to, struct pack_value *value, struct str text,
                         uint32_t bit, uint32_t *io_fresh)
{
    const struct pack_address *address =
        is_known(pack, value, text) ? NULL : find_address(pack, text);
    if (address) {
        *value = address->text;
        *to++ = TAG_EARLIER;
        return put_number(to, address->number);
    }
    uint32_t before = pack->text_count;
    to = put_text(pack, to, value, text, bit, io_fresh);
    if (pack->text_count > before)
        add_address(pack, *value);
    return to;
}

static char *put_value(struct pack *pack, char *to, const struct event_field *field, uint32_t bit,
                       uint32_t *io_fresh)
{
    struct pack_value *value = &pack->values[field->key];
    switch (field->kind) {
    case EVENT_VALUE_STR:
        return field->key == KEY_TO || field->key == KEY_RCPT
                   ? put_address(pack, to, value, field->text, bit, io_fresh)
                   : put_text(pack, to, value, field->text, bit, io_fresh);
    case EVENT_VALUE_INT:
        *to++ = TAG_NUMBER;
        return put_number(to, fold(field->number));
    case EVENT_VALUE_BOOL:
        *to++ = field->number ? TAG_TRUE : TAG_FALSE;
        break;
    }
    return to;
}

/* The last event of that type, or where it is to be noted. */
static struct pack_kind *kind_of(struct pack *pack, enum event_type type)
{
    for (unsigned i = 0; i < PACK_KINDS; i++) {
        if (pack->kinds[i].known && pack->kinds[i].type == type)
            return &pack->kinds[i];
    }
    struct pack_kind *kind = &pack->kinds[pack->next_kind++ % PACK_KINDS];
    *kind = (struct pack_kind){.type = type};
    return kind;
}

static size_t room_for(const struct event *event, struct str revision, uint32_t fields)
{
    size_t room = HEAD_MAX + FIELD_MAX + revision.len;
    if (event->count < 32)
        fields &= (UINT32_C(1) << event->count) - 1;
    for (; fields; fields &= fields - 1) {
        const struct event_field *field = &event->fields[__builtin_ctz(fields)];
        room += FIELD_MAX + (field->kind == EVENT_VALUE_STR ? field->text.len : 0);
    }
    return room;
}

static char *put_head(struct pack *pack, char *to, const struct event *event)
{
    int64_t now_us = event->wall_ns / NS_PER_US;
    to = put_number(to, (uint64_t)event->type);
    to = put_number(to, fold(now_us - pack->last_us));
    to = put_number(to, fold((int64_t)(event->seq - pack->last_seq)));
    pack->last_us = now_us;
    pack->last_seq = event->seq;
    pack->count++;
    return to;
}

/* A base's revision is in none of the story's texts. */
static bool is_revision(const struct pack *pack, struct str revision)
{
    return pack->revision ? str_equal(pack->revision->revision, revision)
                          : is_known(pack, &pack->values[EVENT_KEY_COUNT], revision);
}

static char *put_whole(struct pack *pack, char *to, const struct event *event, struct str revision,
                       uint32_t *io_fresh)
{
    uint32_t ignored = 0;
    to = put_number(to, event->count + 1);
    *to++ = (char)REVISION;
    pack->revision = NULL;
    to = put_text(pack, to, &pack->values[EVENT_KEY_COUNT], revision, 0, &ignored);
    for (unsigned i = 0; i < event->count; i++) {
        *to++ = (char)event->fields[i].key;
        to = put_value(pack, to, &event->fields[i], UINT32_C(1) << i, io_fresh);
    }
    return to;
}

static char *put_fields(struct pack *pack, char *to, const struct event *event, uint32_t fields,
                        uint32_t *io_fresh)
{
    to = put_number(to, fields);
    for (; fields; fields &= fields - 1) {
        unsigned i = (unsigned)__builtin_ctz(fields);
        to = put_value(pack, to, &event->fields[i], UINT32_C(1) << i, io_fresh);
    }
    return to;
}

bool pack_add(struct pack *pack, const struct event *event, struct str revision,
              struct pack_reference reference, struct pack_added *out)
{
    struct pack_kind *kind = kind_of(pack, event->type);
    bool is_like = kind->known && event->changed != EVENT_ALL_CHANGED &&
                   kind->source == event->source && kind->number + 1 == event->number &&
                   is_revision(pack, revision);
    *out = (struct pack_added){.by_reference = !is_like && reference.base};
    uint32_t fields = is_like          ? event->changed
                      : reference.base ? reference.fields
                                       : EVENT_ALL_CHANGED;
    char *to = buf_reserve(&pack->bytes, room_for(event, revision, fields));
    if (!to)
        return false;
    *kind = (struct pack_kind){true, event->type, event->source, event->number};
    to = put_head(pack, to, event);
    if (is_like) {
        *to++ = LIKE_THE_LAST;
        to = put_fields(pack, to, event, fields, &out->fresh);
    } else if (reference.base) {
        *to++ = LIKE_A_BASE;
        to = put_number(to, reference.number);
        to = put_fields(pack, to, event, fields, &out->fresh);
        pack->revision = reference.base;
        pack->values[EVENT_KEY_COUNT] = (struct pack_value){0};
    } else {
        to = put_whole(pack, to, event, revision, &out->fresh);
    }
    pack->bytes.len = (size_t)(to - pack->bytes.ptr);
    return true;
}

/* ---- bases: a text is told in full, and no key twice ---- */

static char *put_base_text(char *to, struct str *io_text)
{
    *to++ = TAG_TEXT;
    to = put_number(to, io_text->len);
    if (io_text->len)
        memcpy(to, io_text->ptr, io_text->len);
    *io_text = str_of(to, io_text->len);
    return to + io_text->len;
}

struct str pack_base(struct event_field *io_fields, unsigned count, struct str *io_revision)
{
    struct event event = {.count = count};
    memcpy(event.fields, io_fields, count * sizeof *io_fields);
    char *bytes = memory_alloc(room_for(&event, *io_revision, EVENT_ALL_CHANGED));
    char *to = put_base_text(bytes, io_revision);
    for (unsigned i = 0; i < count; i++) {
        *to++ = (char)io_fields[i].key;
        if (io_fields[i].kind == EVENT_VALUE_STR) {
            to = put_base_text(to, &io_fields[i].text);
        } else if (io_fields[i].kind == EVENT_VALUE_INT) {
            *to++ = TAG_NUMBER;
            to = put_number(to, fold(io_fields[i].number));
        } else {
            *to++ = io_fields[i].number ? TAG_TRUE : TAG_FALSE;
        }
    }
    return str_of(bytes, (size_t)(to - bytes));
}

/* ---- reading: the bytes come from a file, so nothing is believed ---- */

/* The fields of an event as the row has them: keys are numbers of its dictionary. */
struct raw {
    unsigned count;
    struct event_field fields[FIELDS_MAX];
};

struct reading {
    struct str rest;
    const struct str *bases;
    size_t base_count;
    const struct dictionary *dictionary;
    struct str last[256];  /* texts, by the row's number of their key */
    struct raw *raws[256]; /* the last event of each type; NULL: none yet */
    struct str *told;      /* the first EARLIER_MAX texts; NULL: none yet */
    unsigned told_count;
    struct event event;
    int64_t us;
};

static bool get_byte(struct str *rest, unsigned *out)
{
    if (rest->len == 0)
        return false;
    *out = (unsigned char)rest->ptr[0];
    *rest = str_from(*rest, 1);
    return true;
}

static bool get_number(struct str *rest, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        unsigned byte;
        if (!get_byte(rest, &byte))
            return false;
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static void note_text(struct reading *reading, struct str text)
{
    if (reading->told_count == EARLIER_MAX)
        return;
    if ((reading->told_count & (reading->told_count - 1)) == 0) /* 0, or a power of two */
        reading->told = memory_resize_array(
            reading->told, reading->told_count ? reading->told_count * 2 : 1, sizeof text);
    reading->told[reading->told_count++] = text;
}

static bool get_text(struct reading *reading, unsigned tag, struct str *last)
{
    uint64_t number; /* or length */
    if (tag == TAG_SAME)
        return last->ptr != NULL;
    if (!get_number(&reading->rest, &number))
        return false;
    if (tag == TAG_EARLIER) {
        if (number >= reading->told_count)
            return false;
        *last = reading->told[number];
        return true;
    }
    if (number > reading->rest.len)
        return false;
    *last = str_slice(reading->rest, 0, (size_t)number);
    reading->rest = str_from(reading->rest, (size_t)number);
    note_text(reading, *last);
    return true;
}

/* The value of a field whose key is set. */
static bool get_value(struct reading *reading, struct event_field *io_field)
{
    unsigned tag;
    uint64_t number;
    struct str *last = &reading->last[io_field->key];
    if (!get_byte(&reading->rest, &tag) || tag > TAG_EARLIER)
        return false;
    if (tag == TAG_SAME || tag == TAG_TEXT || tag == TAG_EARLIER) {
        io_field->kind = EVENT_VALUE_STR;
        if (!get_text(reading, tag, last))
            return false;
        io_field->text = *last;
    } else if (tag == TAG_NUMBER) {
        io_field->kind = EVENT_VALUE_INT;
        if (!get_number(&reading->rest, &number))
            return false;
        io_field->number = unfold(number);
    } else {
        io_field->kind = EVENT_VALUE_BOOL;
        io_field->number = tag == TAG_TRUE;
    }
    return true;
}

/* What comes before the fields. */
static bool get_head(struct reading *reading, uint64_t *out_type, uint64_t *out_fields)
{
    uint64_t us;
    uint64_t seq;
    if (!get_number(&reading->rest, out_type) || !get_number(&reading->rest, &us) ||
        !get_number(&reading->rest, &seq) || !get_number(&reading->rest, out_fields) ||
        *out_type > 255)
        return false;
    reading->us = (int64_t)((uint64_t)reading->us + (uint64_t)unfold(us));
    reading->event.wall_ns = (int64_t)((uint64_t)reading->us * (uint64_t)NS_PER_US);
    reading->event.seq += (uint64_t)unfold(seq);
    return true;
}

static bool get_whole(struct reading *reading, uint64_t fields, struct raw *out)
{
    out->count = 0;
    for (uint64_t i = 0; i < fields; i++) {
        unsigned key;
        struct event_field field;
        if (!get_byte(&reading->rest, &key))
            return false;
        field.key = (enum event_key)key;
        if (!get_value(reading, &field))
            return false;
        if (key != REVISION && out->count < FIELDS_MAX)
            out->fields[out->count++] = field;
    }
    return true;
}

static bool get_changes(struct reading *reading, struct raw *io_raw)
{
    uint64_t changed;
    if (!get_number(&reading->rest, &changed) || changed >> io_raw->count != 0)
        return false;
    for (; changed; changed &= changed - 1) {
        if (!get_value(reading, &io_raw->fields[__builtin_ctzll(changed)]))
            return false;
    }
    return true;
}

/* A value of a base; *rest begins at its tag. */
static bool get_base_value(struct str *rest, struct event_field *io_field)
{
    unsigned tag;
    uint64_t number = 0;
    if (!get_byte(rest, &tag) || tag < TAG_TEXT || tag > TAG_TRUE ||
        (tag <= TAG_NUMBER && !get_number(rest, &number)))
        return false;
    io_field->kind = tag == TAG_TEXT     ? EVENT_VALUE_STR
                     : tag == TAG_NUMBER ? EVENT_VALUE_INT
                                         : EVENT_VALUE_BOOL;
    if (tag != TAG_TEXT) {
        io_field->number = tag == TAG_NUMBER ? unfold(number) : tag == TAG_TRUE;
        return true;
    }
    if (number > rest->len)
        return false;
    io_field->text = str_slice(*rest, 0, (size_t)number);
    *rest = str_from(*rest, (size_t)number);
    return true;
}

static bool get_base(struct reading *reading, struct raw *out)
{
    uint64_t number;
    struct event_field field;
    if (!get_number(&reading->rest, &number) || number >= reading->base_count)
        return false;
    struct str rest = reading->bases[number];
    if (!get_base_value(&rest, &field) || field.kind != EVENT_VALUE_STR)
        return false;
    reading->last[REVISION] = field.text;
    for (out->count = 0; rest.len && out->count < FIELDS_MAX; out->count++) {
        unsigned key;
        if (!get_byte(&rest, &key) || !get_base_value(&rest, &field))
            return false;
        field.key = (enum event_key)key;
        out->fields[out->count] = field;
    }
    return rest.len == 0;
}

/* Give the event to the reader, with today's numbers; what today has no name for is left out. */
static void tell(struct reading *reading, uint64_t type, const struct raw *raw,
                 store_take_event *give, void *arg)
{
    struct str revision = reading->last[REVISION];
    struct event *event = &reading->event;
    if (reading->dictionary->types[type] < 0)
        return;
    event->type = (enum event_type)reading->dictionary->types[type];
    event->count = 0;
    for (unsigned i = 0; i < raw->count; i++) {
        int key = reading->dictionary->keys[raw->fields[i].key];
        if (key < 0)
            continue;
        event->fields[event->count] = raw->fields[i];
        event->fields[event->count++].key = (enum event_key)key;
    }
    give(event, revision.ptr ? revision : STR_EMPTY, arg);
}

static bool read_event(struct reading *reading, bool only_whole, store_take_event *give, void *arg)
{
    uint64_t type;
    uint64_t fields;
    bool good;
    if (!get_head(reading, &type, &fields))
        return false;
    struct raw **raw = &reading->raws[type];
    if (fields == LIKE_THE_LAST && !only_whole && !*raw)
        return false;
    if (!*raw)
        *raw = NEW(struct raw);
    if (fields == LIKE_THE_LAST && !only_whole)
        good = get_changes(reading, *raw);
    else if (fields == LIKE_A_BASE && !only_whole)
        good = get_base(reading, *raw) && get_changes(reading, *raw);
    else
        good = get_whole(reading, fields, *raw);
    if (good)
        tell(reading, type, *raw, give, arg);
    return good;
}

static bool is_format(unsigned format)
{
    return format == FORMAT || format == FORMAT_WHOLE;
}

bool pack_version(struct str bytes, uint64_t *out_version)
{
    unsigned format;
    return get_byte(&bytes, &format) && is_format(format) && get_number(&bytes, out_version);
}

bool pack_read(struct str bytes, const struct str *bases, size_t base_count,
               const struct dictionary *dictionary, store_take_event *give, void *arg)
{
    unsigned format;
    uint64_t version;
    struct reading reading = {.bases = bases, .base_count = base_count, .dictionary = dictionary};
    bool good = get_byte(&bytes, &format) && is_format(format) && get_number(&bytes, &version);
    reading.rest = bytes;
    reading.event.changed = EVENT_ALL_CHANGED;
    reading.event.packed = reading.event.record = reading.event.revision = STR_EMPTY;
    while (good && reading.rest.len)
        good = read_event(&reading, format == FORMAT_WHOLE, give, arg);
    for (unsigned i = 0; i < 256; i++)
        free(reading.raws[i]);
    free(reading.told);
    return good;
}

/* ---- names ---- */

void dictionary_text(struct buf *out)
{
    for (int i = 0; i < EVENT_TYPE_COUNT; i++)
        buf_printf(out, "%s ", event_name((enum event_type)i));
    buf_append_byte(out, '\n');
    for (int i = 0; i < EVENT_KEY_COUNT; i++)
        buf_printf(out, "%s ", event_key_name((enum event_key)i));
}

static int type_of(struct str name)
{
    for (int i = 0; i < EVENT_TYPE_COUNT; i++) {
        if (str_equal(name, str_c(event_name((enum event_type)i))))
            return i;
    }
    return -1;
}

static int key_of(struct str name)
{
    for (int i = 0; i < EVENT_KEY_COUNT; i++) {
        if (str_equal(name, str_c(event_key_name((enum event_key)i))))
            return i;
    }
    return -1;
}

static void parse_names(struct str names, int (*find)(struct str name), int out[256])
{
    struct str name;
    for (int i = 0; i < 256; i++)
        out[i] = -1;
    for (int i = 0; i < REVISION && str_split(&names, ' ', &name); i++)
        out[i] = find(name);
}

void dictionary_parse(struct str text, uint64_t version, struct dictionary *out)
{
    struct str types;
    str_split(&text, '\n', &types);
    out->version = version;
    parse_names(types, type_of, out->types);
    parse_names(text, key_of, out->keys);
}
