/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/store_pack.h"

#include "base/clock.h"

#include <string.h>

enum { FORMAT = 1, PACK_MAX = 1024 * 1024, REVISION = 255, FIELDS_MAX = 32 };
enum tag { TAG_SAME, TAG_TEXT, TAG_NUMBER, TAG_FALSE, TAG_TRUE };

_Static_assert((int)EVENT_KEY_COUNT < (int)REVISION && (int)EVENT_TYPE_COUNT < 256,
               "numbers fit a byte");

/* ---- writing ---- */

static void put_number(struct buf *out, uint64_t number)
{
    for (; number > 127; number >>= 7)
        buf_append_byte(out, (char)(number | 128));
    buf_append_byte(out, (char)number);
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
    buf_init(&pack->bytes, PACK_MAX);
    pack_clear(pack, dictionary);
}

void pack_clear(struct pack *pack, uint64_t dictionary)
{
    struct buf bytes = pack->bytes;
    memset(pack, 0, sizeof *pack);
    pack->bytes = bytes;
    buf_clear(&pack->bytes);
    buf_append_byte(&pack->bytes, FORMAT);
    put_number(&pack->bytes, dictionary);
}

void pack_done(struct pack *pack)
{
    buf_done(&pack->bytes);
}

/* True if the text is not what the field had before. */
static bool put_text(struct pack *pack, struct pack_value *value, struct str text)
{
    if (value->known && str_equal(text, str_of(pack->bytes.ptr + value->offset, value->length))) {
        buf_append_byte(&pack->bytes, TAG_SAME);
        return false;
    }
    buf_append_byte(&pack->bytes, TAG_TEXT);
    put_number(&pack->bytes, text.len);
    *value = (struct pack_value){(uint32_t)pack->bytes.len, (uint32_t)text.len, true};
    buf_append(&pack->bytes, text);
    return true;
}

static bool put_field(struct pack *pack, const struct event_field *field)
{
    buf_append_byte(&pack->bytes, (char)field->key);
    switch (field->kind) {
    case EVENT_VALUE_STR:
        return put_text(pack, &pack->values[field->key], field->text);
    case EVENT_VALUE_INT:
        buf_append_byte(&pack->bytes, TAG_NUMBER);
        put_number(&pack->bytes, fold(field->number));
        break;
    case EVENT_VALUE_BOOL:
        buf_append_byte(&pack->bytes, field->number ? TAG_TRUE : TAG_FALSE);
        break;
    }
    return false;
}

bool pack_add(struct pack *pack, const struct event *event, struct str revision,
              bool fresh[static 32])
{
    enum { EVENT_BYTES_MAX = FIELDS_MAX * 1100 };
    if (pack->bytes.len + EVENT_BYTES_MAX > PACK_MAX)
        return false;
    int64_t now_us = event->wall_ns / NS_PER_US;
    put_number(&pack->bytes, (uint64_t)event->type);
    put_number(&pack->bytes, fold(now_us - pack->last_us));
    put_number(&pack->bytes, fold((int64_t)(event->seq - pack->last_seq)));
    put_number(&pack->bytes, event->count + 1);
    pack->last_us = now_us;
    pack->last_seq = event->seq;
    pack->count++;
    buf_append_byte(&pack->bytes, (char)REVISION);
    put_text(pack, &pack->values[EVENT_KEY_COUNT], revision);
    for (unsigned i = 0; i < event->count; i++)
        fresh[i] = put_field(pack, &event->fields[i]);
    return true;
}

/* ---- reading: the bytes come from a file, so nothing is believed ---- */

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

static bool get_text(struct str *rest, unsigned tag, struct str *last)
{
    uint64_t length;
    if (tag == TAG_SAME)
        return last->ptr != NULL;
    if (!get_number(rest, &length) || length > rest->len)
        return false;
    *last = str_slice(*rest, 0, (size_t)length);
    *rest = str_from(*rest, (size_t)length);
    return true;
}

/* One field; an unknown key is read and left out (*out_known false). */
static bool get_field(struct str *rest, const struct dictionary *dictionary, struct str last[256],
                      struct event_field *out, bool *out_known)
{
    unsigned key;
    unsigned tag;
    uint64_t number;
    if (!get_byte(rest, &key) || !get_byte(rest, &tag) || tag > TAG_TRUE)
        return false;
    *out_known = dictionary->keys[key] >= 0;
    out->key = (enum event_key)dictionary->keys[key];
    if (tag == TAG_SAME || tag == TAG_TEXT) {
        out->kind = EVENT_VALUE_STR;
        if (!get_text(rest, tag, &last[key]))
            return false;
        out->text = last[key];
    } else if (tag == TAG_NUMBER) {
        out->kind = EVENT_VALUE_INT;
        if (!get_number(rest, &number))
            return false;
        out->number = unfold(number);
    } else {
        out->kind = EVENT_VALUE_BOOL;
        out->number = tag == TAG_TRUE;
    }
    return true;
}

/* What comes before the fields. */
static bool get_head(struct str *rest, struct event *event, int64_t *io_us, uint64_t *out_type,
                     uint64_t *out_fields)
{
    uint64_t us;
    uint64_t seq;
    if (!get_number(rest, out_type) || !get_number(rest, &us) || !get_number(rest, &seq) ||
        !get_number(rest, out_fields) || *out_type > 255)
        return false;
    *io_us = (int64_t)((uint64_t)*io_us + (uint64_t)unfold(us));
    event->wall_ns = (int64_t)((uint64_t)*io_us * (uint64_t)NS_PER_US);
    event->seq += (uint64_t)unfold(seq);
    event->count = 0;
    return true;
}

bool pack_version(struct str bytes, uint64_t *out_version)
{
    unsigned format;
    return get_byte(&bytes, &format) && format == FORMAT && get_number(&bytes, out_version);
}

bool pack_read(struct str bytes, const struct dictionary *dictionary, store_take_event *take,
               void *arg)
{
    unsigned format;
    uint64_t number;
    struct str last[256] = {0};
    struct event event = {.packed = STR_EMPTY};
    int64_t us = 0;
    if (!get_byte(&bytes, &format) || format != FORMAT || !get_number(&bytes, &number))
        return false;
    while (bytes.len) {
        uint64_t type;
        uint64_t fields;
        if (!get_head(&bytes, &event, &us, &type, &fields))
            return false;
        for (uint64_t i = 0; i < fields; i++) {
            struct event_field field;
            bool known;
            if (!get_field(&bytes, dictionary, last, &field, &known))
                return false;
            if (known && event.count < FIELDS_MAX)
                event.fields[event.count++] = field;
        }
        if (dictionary->types[type] < 0)
            continue;
        event.type = (enum event_type)dictionary->types[type];
        take(&event, last[REVISION].ptr ? last[REVISION] : STR_EMPTY, arg);
    }
    return true;
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
