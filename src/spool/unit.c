/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/unit.h"

#include "base/check.h"
#include "base/memory.h"
#include "spool/bytes.h"
#include "spool/crc.h"

#include <stdlib.h>
#include <string.h>

enum {
    COPY_BELOW = 1024, /* shorter texts are copied beside their record: fewer pieces */
    RECORDS_MAX = 0xfff0,
    BODY_PIECE = 64 * 1024,
};

static const char padding[SPOOL_RECORD_ALIGN];

struct encoder {
    struct spool_unit *unit;
    char *at; /* in the memory behind the unit and its records */
    size_t piece_cap;
    uint32_t crc;
    uint64_t length;
    bool copy_all;
};

static void add_piece(struct encoder *encoder, const void *bytes, size_t size)
{
    struct spool_unit *unit = encoder->unit;
    if (!size)
        return;
    unit->bytes += size;
    struct iovec *last = unit->piece_count ? &unit->pieces[unit->piece_count - 1] : NULL;
    if (last && (const char *)last->iov_base + last->iov_len == bytes) {
        last->iov_len += size;
        return;
    }
    if (unit->piece_count == encoder->piece_cap) {
        encoder->piece_cap *= 2;
        bool first = unit->pieces == unit->few;
        unit->pieces = memory_resize_array(first ? NULL : unit->pieces, encoder->piece_cap,
                                           sizeof *unit->pieces);
        if (first)
            memcpy(unit->pieces, unit->few, sizeof unit->few);
    }
    unit->pieces[unit->piece_count++] = (struct iovec){(void *)(uintptr_t)bytes, size};
}

/* Room in the unit's own memory, as the next bytes of the unit. */
static unsigned char *add_own(struct encoder *encoder, size_t size)
{
    char *at = encoder->at;
    encoder->at += size;
    add_piece(encoder, at, size);
    return (unsigned char *)at;
}

static struct spool_unit_record *begin_record(struct encoder *encoder, enum spool_record_type type)
{
    struct spool_unit *unit = encoder->unit;
    struct spool_unit_record *record = &unit->records[unit->record_count];
    *record = (struct spool_unit_record){.offset = unit->bytes};
    record->record.type = type;
    record->record.index = (uint16_t)unit->record_count;
    record->header = add_own(encoder, SPOOL_RECORD_HEADER);
    unit->record_count++;
    encoder->crc = 0;
    encoder->length = 0;
    return record;
}

static void add_payload(struct encoder *encoder, struct str bytes)
{
    encoder->crc = spool_crc(encoder->crc, bytes.ptr, bytes.len);
    encoder->length += bytes.len;
    if (bytes.len < COPY_BELOW || encoder->copy_all) {
        unsigned char *at = add_own(encoder, bytes.len);
        if (bytes.len)
            memcpy(at, bytes.ptr, bytes.len);
    } else {
        add_piece(encoder, bytes.ptr, bytes.len);
    }
}

static void add_fixed(struct encoder *encoder, struct spool_unit_record *record,
                      const unsigned char *bytes, size_t size)
{
    unsigned char *at = add_own(encoder, size);
    memcpy(at, bytes, size);
    record->payload = at;
    encoder->crc = spool_crc(encoder->crc, bytes, size);
    encoder->length += size;
}

static void end_record(struct encoder *encoder, struct spool_unit_record *record)
{
    size_t padded = (size_t)(spool_record_size(encoder->length) - SPOOL_RECORD_HEADER);
    size_t pad = padded - (size_t)encoder->length;
    if (pad) {
        unsigned char *at = add_own(encoder, pad);
        memcpy(at, padding, pad);
    }
    record->record.length = (uint32_t)encoder->length;
    record->record.payload_crc = encoder->crc;
}

/* ---- changes ---- */

static void encode_state(struct encoder *encoder, const struct spool_change *change)
{
    unsigned char fixed[SPOOL_STATE_FIXED];
    spool_id_encode(change->entry, fixed);
    spool_put64(fixed + 16, 0);
    struct spool_unit_record *record = begin_record(encoder, SPOOL_RECORD_STATE);
    add_fixed(encoder, record, fixed, sizeof fixed);
    add_payload(encoder, change->state);
    end_record(encoder, record);
}

static void encode_remove(struct encoder *encoder, const struct spool_change *change)
{
    unsigned char fixed[SPOOL_REMOVE_SIZE];
    spool_id_encode(change->entry, fixed);
    struct spool_unit_record *record = begin_record(encoder, SPOOL_RECORD_REMOVE);
    add_fixed(encoder, record, fixed, sizeof fixed);
    end_record(encoder, record);
}

static void encode_count(struct encoder *encoder, const struct spool_change *change)
{
    check(change->counter < SPOOL_COUNTERS);
    unsigned char fixed[SPOOL_COUNT_SIZE] = {0};
    spool_put32(fixed, change->counter);
    spool_put64(fixed + 8, (uint64_t)change->delta);
    struct spool_unit_record *record = begin_record(encoder, SPOOL_RECORD_COUNT);
    add_fixed(encoder, record, fixed, sizeof fixed);
    end_record(encoder, record);
}

/* The bytes of a body that lies in memory are taken where they lie; others are read into memory
 * of the unit. */
static enum result encode_body(struct encoder *encoder, struct body *body,
                               struct error *err) MAY_YIELD
{
    struct spool_unit *unit = encoder->unit;
    struct spool_unit_record *record = begin_record(encoder, SPOOL_RECORD_BODY);
    char *space = NULL;
    for (uint64_t done = 0; done < body->size;) {
        if (!space)
            space = memory_resize_array(NULL, BODY_PIECE, 1);
        struct str data = STR_EMPTY;
        enum result result = body_read(body, done, BODY_PIECE, space, &data, err);
        if (result != OK || !data.len) {
            free(space);
            return result != OK ? FAILED : fail(err, ERROR_TEMPORARY, "body ended early");
        }
        encoder->crc = spool_crc(encoder->crc, data.ptr, data.len);
        encoder->length += data.len;
        add_piece(encoder, data.ptr, data.len);
        if (data.ptr >= space && data.ptr < space + BODY_PIECE) {
            /* the unit keeps this space */
            char **kept = memory_alloc(sizeof(char *) * 2);
            kept[0] = unit->body_bytes;
            kept[1] = space;
            unit->body_bytes = (char *)kept;
            space = NULL;
        }
        done += data.len;
    }
    free(space);
    end_record(encoder, record);
    return OK;
}

/* The index of the BODY record that an earlier entry of this unit brought for the same body. */
static uint16_t earlier_body(const struct spool_change *changes, size_t before,
                             const struct body *body, const uint16_t *body_records)
{
    for (size_t i = 0; i < before; i++) {
        if (changes[i].kind == SPOOL_ADD && changes[i].content->body == body)
            return body_records[i];
    }
    return SPOOL_NO_BODY;
}

static void encode_entry(struct encoder *encoder, const struct spool_change *change, uint64_t bulk,
                         uint16_t body_record)
{
    const struct mail_content *content = change->content;
    struct spool_entry_record entry = {
        .entry = change->entry,
        .message = change->message,
        .body_start = content->body_start,
        .body_size = content->body ? content->body->size : 0,
        .bulk = bulk,
        .head_len = (uint32_t)content->head.len,
        .meta_len = (uint32_t)change->meta.len,
        .state_len = (uint32_t)change->state.len,
        .body_record = body_record,
    };
    unsigned char fixed[SPOOL_ENTRY_FIXED];
    spool_entry_encode(&entry, fixed);
    struct spool_unit_record *record = begin_record(encoder, SPOOL_RECORD_ENTRY);
    add_fixed(encoder, record, fixed, sizeof fixed);
    add_payload(encoder, content->head);
    add_payload(encoder, change->meta);
    add_payload(encoder, change->state);
    end_record(encoder, record);
}

static enum result encode_add(struct encoder *encoder, const struct spool_change *changes,
                              size_t at, uint16_t *body_records,
                              uint64_t (*bulk_of)(const struct body *body),
                              struct error *err) MAY_YIELD
{
    const struct spool_change *change = &changes[at];
    struct body *body = change->content->body;
    uint64_t bulk = body ? bulk_of(body) : 0;
    body_records[at] = SPOOL_NO_BODY;
    if (body && body->size && !bulk) {
        body_records[at] = earlier_body(changes, at, body, body_records);
        if (body_records[at] == SPOOL_NO_BODY) {
            body_records[at] = (uint16_t)encoder->unit->record_count;
            if (encode_body(encoder, body, err) != OK)
                return FAILED;
        }
    }
    encode_entry(encoder, change, bulk, body_records[at]);
    encoder->unit->brings_mail = true;
    encoder->unit->is_private |= change->is_private;
    return OK;
}

/* ---- whole units ---- */

/* An upper bound of what the unit needs beside borrowed bytes. */
static size_t own_size(const struct spool_change *changes, size_t count, bool copy_all)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        const struct spool_change *change = &changes[i];
        /* two records: the body's header too */
        size += (size_t)2 * (SPOOL_RECORD_HEADER + SPOOL_RECORD_ALIGN) + SPOOL_ENTRY_FIXED;
        struct str texts[3] = {change->meta, change->state, STR_EMPTY};
        if (change->kind == SPOOL_ADD)
            texts[2] = change->content->head;
        for (int k = 0; k < 3; k++) {
            if (texts[k].len < COPY_BELOW || copy_all)
                size += texts[k].len;
        }
    }
    return size;
}

static void start_unit(struct encoder *encoder, size_t records, size_t own, bool copy_all)
{
    /* one piece of memory for all of it: there are two units a message */
    size_t head = sizeof(struct spool_unit) + records * sizeof(struct spool_unit_record);
    char *memory = memory_resize_array(NULL, head + own, 1);
    struct spool_unit *unit = (struct spool_unit *)(void *)memory;
    *unit = (struct spool_unit){.records = (struct spool_unit_record *)(void *)(unit + 1),
                                .pieces = unit->few};
    *encoder = (struct encoder){.unit = unit,
                                .at = memory + head,
                                .piece_cap = sizeof unit->few / sizeof unit->few[0],
                                .copy_all = copy_all};
}

static struct spool_unit *finish_unit(struct encoder *encoder)
{
    struct spool_unit *unit = encoder->unit;
    for (size_t i = 0; i < unit->record_count; i++)
        unit->records[i].record.count = (uint16_t)unit->record_count;
    return unit;
}

static enum result check_sizes(const struct spool_change *changes, size_t count, struct error *err)
{
    if (count * 2 > RECORDS_MAX)
        return fail(err, ERROR_LIMIT, "more than %d changes in one unit", RECORDS_MAX / 2);
    for (size_t i = 0; i < count; i++) {
        if (changes[i].meta.len > 1024 * 1024 || changes[i].state.len > 4096)
            return fail(err, ERROR_LIMIT, "meta or state of an entry is too large");
        if (changes[i].kind == SPOOL_ADD && changes[i].content->head.len > 16 * 1024 * 1024)
            return fail(err, ERROR_LIMIT, "header section of an entry is too large");
        if (changes[i].kind == SPOOL_ADD && changes[i].content->body &&
            changes[i].content->body->size > INT32_MAX)
            return fail(err, ERROR_LIMIT, "body is larger than 2 GiB");
    }
    return OK;
}

static void encode_small(struct encoder *encoder, const struct spool_change *change)
{
    if (change->kind == SPOOL_STATE)
        encode_state(encoder, change);
    else if (change->kind == SPOOL_REMOVE)
        encode_remove(encoder, change);
    else
        encode_count(encoder, change);
}

enum result spool_unit_new(const struct spool_change *changes, size_t count,
                           uint64_t (*bulk_of)(const struct body *body),
                           struct spool_unit **out_unit, struct error *err)
{
    if (check_sizes(changes, count, err) != OK)
        return FAILED;
    struct encoder encoder;
    start_unit(&encoder, count * 2, own_size(changes, count, /* copy_all= */ false),
               /* copy_all= */ false);
    uint16_t few[16];
    uint16_t *body_records = count <= 16 ? few : memory_alloc_array(count, sizeof *body_records);
    enum result result = OK;
    for (size_t i = 0; i < count && result == OK; i++) {
        if (changes[i].kind == SPOOL_ADD)
            result = encode_add(&encoder, changes, i, body_records, bulk_of, err);
        else
            encode_small(&encoder, &changes[i]);
    }
    if (body_records != few)
        free(body_records);
    if (result != OK) {
        spool_unit_free(encoder.unit);
        return FAILED;
    }
    *out_unit = finish_unit(&encoder);
    return OK;
}

struct spool_unit *spool_unit_lazy(const struct spool_change *changes, size_t count)
{
    check(check_sizes(changes, count, NULL) == OK);
    struct encoder encoder;
    start_unit(&encoder, count, own_size(changes, count, /* copy_all= */ true),
               /* copy_all= */ true);
    for (size_t i = 0; i < count; i++) {
        check(changes[i].kind != SPOOL_ADD);
        encode_small(&encoder, &changes[i]);
    }
    encoder.unit->is_lazy = true;
    return finish_unit(&encoder);
}

struct spool_unit *spool_unit_raw(enum spool_record_type type, struct str payload)
{
    struct encoder encoder;
    start_unit(&encoder, 1, SPOOL_RECORD_HEADER + payload.len + SPOOL_RECORD_ALIGN,
               /* copy_all= */ true);
    struct spool_unit_record *record = begin_record(&encoder, type);
    add_fixed(&encoder, record, (const unsigned char *)payload.ptr, payload.len);
    end_record(&encoder, record);
    return finish_unit(&encoder);
}

void spool_unit_free(struct spool_unit *unit)
{
    if (!unit)
        return;
    while (unit->body_bytes) {
        char **kept = (char **)(void *)unit->body_bytes;
        unit->body_bytes = kept[0];
        free(kept[1]);
        free(kept);
    }
    if (unit->pieces != unit->few)
        free(unit->pieces);
    free(unit);
}
