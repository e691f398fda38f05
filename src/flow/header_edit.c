/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/header_edit.h"

#include "base/buf.h"

#include <string.h>

enum { HEAD_MAX = 4 * 1024 * 1024, LINE_MAX_LEN = 998 };

static struct header_slot *slot_at(struct header_edit *edit, size_t index)
{
    if (edit->count == edit->cap) {
        size_t cap = edit->cap ? edit->cap * 2 : 64;
        struct header_slot *slots = arena_alloc_array(edit->arena, cap, sizeof *slots);
        if (edit->count)
            memcpy(slots, edit->slots, edit->count * sizeof *slots);
        edit->slots = slots;
        edit->cap = cap;
    }
    memmove(&edit->slots[index + 1], &edit->slots[index],
            (edit->count - index) * sizeof *edit->slots);
    edit->count++;
    return &edit->slots[index];
}

static void add_all(struct header_edit *edit, struct str section, bool is_trace)
{
    struct mail_field field;
    struct str rest = section;
    while (mail_header_next(&rest, &field))
        *slot_at(edit, edit->count) = (struct header_slot){
            .field = field, .hidden = is_trace && str_equal_nocase(field.name, STR("Received"))};
    if (!is_trace)
        edit->end = rest;
}

void header_edit_begin(struct header_edit *edit, const struct flow_running *running)
{
    struct str own;
    struct str trace = flow_head_split(running, &own);
    *edit = (struct header_edit){
        .arena = running->run->arena, .old_own_len = own.len, .end = STR_EMPTY};
    add_all(edit, trace, /* is_trace= */ true);
    edit->own_begin = edit->count;
    add_all(edit, own, /* is_trace= */ false);
}

static bool is_shown(const struct header_slot *slot)
{
    return !slot->hidden && slot->field.name.len > 0;
}

void header_edit_shown(const struct header_edit *edit, struct mail_field **out, size_t *out_count)
{
    struct mail_field *fields = arena_alloc_array(edit->arena, edit->count + 1, sizeof *fields);
    size_t count = 0;
    for (size_t i = 0; i < edit->count; i++)
        if (is_shown(&edit->slots[i]) && !edit->slots[i].gone)
            fields[count++] = edit->slots[i].field;
    *out = fields;
    *out_count = count;
}

/* ---- a new field ---- */

static bool is_blank(struct str line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.ptr[i] != ' ' && line.ptr[i] != '\t')
            return false;
    return true;
}

/* A line of a value; what follows the first is folded, whatever it looks like. */
static void append_line(struct header_edit *edit, struct buf *out, struct str line, bool is_first)
{
    if (!is_first)
        buf_append(out, line.ptr[0] == ' ' || line.ptr[0] == '\t' ? STR("\r\n") : STR("\r\n "));
    for (size_t i = 0; i < line.len; i++) {
        unsigned char c = (unsigned char)line.ptr[i];
        edit->has_8bit |= c > 127;
        buf_append_byte(out, (c < ' ' && c != '\t') || c == 127 ? '?' : (char)c);
    }
}

static bool lines_fit(struct str raw)
{
    struct str line;
    while (str_split(&raw, '\n', &line))
        if (line.len > LINE_MAX_LEN + 1) /* its CR */
            return false;
    return true;
}

static enum result make_field(struct header_edit *edit, struct str name, struct str value,
                              bool has_blank, struct mail_field *out, struct error *err)
{
    struct buf raw BUF_CLEANUP;
    struct str line;
    bool is_first = true;
    buf_init(&raw, HEAD_MAX);
    buf_printf(&raw, "%.*s:", STR_ARG(name));
    if (!has_blank && !is_blank(value))
        buf_append_byte(&raw, ' ');
    while (str_split(&value, '\n', &line)) {
        if (str_ends(line, STR("\r")))
            line.len--;
        if (is_first || !is_blank(line))
            append_line(edit, &raw, line, is_first);
        is_first = false;
    }
    buf_append(&raw, STR("\r\n"));
    if (raw.overflow || !lines_fit(buf_str(&raw)))
        return fail(err, ERROR_LIMIT, "a line of the new field %.*s is over %d bytes",
                    STR_ARG(str_slice(name, 0, 60)), LINE_MAX_LEN);
    struct str text = arena_str(edit->arena, buf_str(&raw));
    *out = (struct mail_field){.raw = text,
                               .name = str_slice(text, 0, name.len),
                               .value = str_slice(text, name.len + 1, text.len - 2)};
    return OK;
}

/* ---- changes ---- */

static size_t index_of_place(const struct header_edit *edit, uint32_t place)
{
    size_t index = 0;
    for (uint32_t seen = 0; index < edit->count; index++)
        if (is_shown(&edit->slots[index]) && ++seen >= place)
            break;
    return index < edit->own_begin ? edit->own_begin : index;
}

enum result header_edit_insert(struct header_edit *edit, uint32_t place, struct str name,
                               struct str value, bool has_blank, struct error *err)
{
    struct mail_field field;
    if (make_field(edit, name, value, has_blank, &field, err) != OK)
        return FAILED;
    *slot_at(edit, place <= 1 ? edit->own_begin : index_of_place(edit, place)) =
        (struct header_slot){.field = field};
    return OK;
}

enum result header_edit_add(struct header_edit *edit, struct str name, struct str value,
                            bool has_blank, struct error *err)
{
    return header_edit_insert(edit, UINT32_MAX, name, value, has_blank, err);
}

enum result header_edit_change(struct header_edit *edit, uint32_t place, struct str name,
                               struct str value, bool has_blank, struct error *err)
{
    uint32_t seen = 0;
    for (size_t i = 0; i < edit->count; i++) {
        struct header_slot *slot = &edit->slots[i];
        if (!is_shown(slot) || !str_equal_nocase(slot->field.name, name) ||
            ++seen < (place ? place : 1))
            continue;
        slot->gone = value.len == 0;
        return slot->gone ? OK : make_field(edit, name, value, has_blank, &slot->field, err);
    }
    return value.len ? header_edit_add(edit, name, value, has_blank, err) : OK;
}

void header_edit_remove(struct header_edit *edit, struct str name)
{
    for (size_t i = edit->own_begin; i < edit->count; i++)
        if (str_equal_nocase(edit->slots[i].field.name, name))
            edit->slots[i].gone = true;
}

/* ---- the end ---- */

enum result header_edit_commit(const struct header_edit *edit, struct flow_running *running,
                               struct error *err)
{
    struct buf head BUF_CLEANUP;
    size_t trace_len = 0;
    buf_init(&head, HEAD_MAX);
    for (size_t i = 0; i < edit->count; i++) {
        if (i == edit->own_begin)
            trace_len = head.len;
        if (!edit->slots[i].gone)
            buf_append(&head, edit->slots[i].field.raw);
    }
    if (edit->own_begin == edit->count)
        trace_len = head.len;
    buf_append(&head, edit->end);
    if (head.overflow)
        return fail(err, ERROR_LIMIT, "the header section is over %d bytes", HEAD_MAX);
    flow_head_replace(running, buf_str(&head), trace_len, edit->old_own_len);
    running->verdict->effects.has_8bit |= edit->has_8bit;
    return OK;
}
