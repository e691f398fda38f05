/* SPDX-License-Identifier: Apache-2.0 */
#include "content/milter_packet.h"

/* ---- taking apart ---- */

static bool take_u32(struct str *rest, uint32_t *out)
{
    if (rest->len < 4)
        return false;
    const unsigned char *p = (const unsigned char *)rest->ptr;
    *out = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    *rest = str_from(*rest, 4);
    return true;
}

static bool take_text(struct str *rest, struct str *out)
{
    ptrdiff_t end = str_find(*rest, '\0');
    if (end < 0)
        return false;
    *out = str_slice(*rest, 0, (size_t)end);
    *rest = str_from(*rest, (size_t)end + 1);
    return true;
}

/* ---- the negotiation ---- */

static enum result refuse_terms(struct error *err, unsigned actions)
{
    if (actions & (MILTER_MAY_ADD_RECIPIENTS | MILTER_MAY_DELETE_RECIPIENTS |
                   MILTER_MAY_ADD_RECIPIENTS_WITH_PARAMETERS))
        return fail(err, ERROR_PERMANENT, "the milter insists on changing recipients");
    return fail(err, ERROR_PERMANENT, "the milter insists on actions (%#x) that nobody offers",
                actions);
}

enum result milter_read_terms(struct str data, unsigned actions_offered, struct milter_terms *out,
                              struct error *err)
{
    uint32_t version, actions, steps, stage;
    *out = (struct milter_terms){0};
    if (!take_u32(&data, &version) || !take_u32(&data, &actions) || !take_u32(&data, &steps))
        return fail(err, ERROR_PROTOCOL, "the milter's terms are too short");
    if (version < MILTER_VERSION_OLDEST || version > MILTER_VERSION)
        return fail(err, ERROR_PERMANENT, "the milter speaks version %u of the protocol", version);
    if (actions & ~actions_offered)
        return refuse_terms(err, actions & ~actions_offered);
    if (steps & ~(unsigned)MILTER_STEPS_OFFERED)
        return fail(err, ERROR_PERMANENT, "the milter insists on steps (%#x) that nobody offers",
                    steps & ~(unsigned)MILTER_STEPS_OFFERED);
    *out = (struct milter_terms){.version = version, .actions = actions, .steps = steps};
    while (data.len) {
        struct str names;
        if (!take_u32(&data, &stage) || !take_text(&data, &names))
            return fail(err, ERROR_PROTOCOL, "the milter's list of macros is cut off");
        if (stage >= MILTER_STAGES)
            continue;
        out->named[stage] = true;
        out->macros[stage] = names;
    }
    return OK;
}

/* ---- answers ---- */

enum shape { BARE, ONE_TEXT, TWO_TEXTS, ONE_OR_TWO, NUMBERED, BYTES };

static const struct row {
    char command;
    enum milter_answer_kind kind;
    enum shape shape;
    unsigned action; /* that must have been agreed upon */
} rows[] = {
    {'c', MILTER_CONTINUE, BARE, 0},
    {'a', MILTER_ACCEPT, BARE, 0},
    {'r', MILTER_REJECT, BARE, 0},
    {'t', MILTER_DEFER, BARE, 0},
    {'4', MILTER_DEFER, BARE, 0}, /* shut down */
    {'f', MILTER_DEFER, BARE, 0}, /* connection failed */
    {'y', MILTER_REPLY, ONE_TEXT, 0},
    {'d', MILTER_DISCARD, BARE, 0},
    {'s', MILTER_SKIP, BARE, 0},
    {'p', MILTER_PROGRESS, BARE, 0},
    {'h', MILTER_ADD_HEADER, TWO_TEXTS, MILTER_MAY_ADD_HEADERS},
    {'i', MILTER_INSERT_HEADER, NUMBERED, MILTER_MAY_ADD_HEADERS},
    {'m', MILTER_CHANGE_HEADER, NUMBERED, MILTER_MAY_CHANGE_HEADERS},
    {'e', MILTER_CHANGE_SENDER, ONE_OR_TWO, MILTER_MAY_CHANGE_SENDER},
    {'+', MILTER_ADD_RECIPIENT, ONE_TEXT, MILTER_MAY_ADD_RECIPIENTS},
    {'2', MILTER_ADD_RECIPIENT, ONE_OR_TWO, MILTER_MAY_ADD_RECIPIENTS_WITH_PARAMETERS},
    {'-', MILTER_DELETE_RECIPIENT, ONE_TEXT, MILTER_MAY_DELETE_RECIPIENTS},
    {'b', MILTER_REPLACE_BODY, BYTES, MILTER_MAY_CHANGE_BODY},
    {'q', MILTER_QUARANTINE, ONE_TEXT, MILTER_MAY_QUARANTINE},
};

bool milter_answer_is_change(enum milter_answer_kind kind)
{
    return kind >= MILTER_ADD_HEADER;
}

static bool read_shape(enum shape shape, struct str data, struct milter_answer *out)
{
    switch (shape) {
    case BARE:
        return data.len == 0;
    case ONE_TEXT:
        return take_text(&data, &out->name) && data.len == 0;
    case TWO_TEXTS:
        return take_text(&data, &out->name) && take_text(&data, &out->value) && data.len == 0;
    case ONE_OR_TWO:
        return take_text(&data, &out->name) && (data.len == 0 || take_text(&data, &out->value)) &&
               data.len == 0;
    case NUMBERED:
        return take_u32(&data, &out->index) && read_shape(TWO_TEXTS, data, out);
    case BYTES:
        out->value = data;
        return true;
    }
    return false;
}

/* RFC 5322 2.2, and not longer than a line has room for. */
static bool is_field_name(struct str name)
{
    bool good = name.len > 0 && name.len <= 200;
    for (size_t i = 0; good && i < name.len; i++)
        good = name.ptr[i] > ' ' && name.ptr[i] < 127 && name.ptr[i] != ':';
    return good;
}

enum result milter_read_answer(char command, struct str data, unsigned actions,
                               struct milter_answer *out, struct error *err)
{
    const struct row *row = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !row; i++)
        if (rows[i].command == command)
            row = &rows[i];
    if (!row)
        return fail(err, ERROR_PROTOCOL, "the milter answered with command %#x",
                    (unsigned char)command);
    *out = (struct milter_answer){.kind = row->kind, .name = STR_EMPTY, .value = STR_EMPTY};
    if (!read_shape(row->shape, data, out))
        return fail(err, ERROR_PROTOCOL, "the milter's answer '%c' has not its form", command);
    if ((row->action & actions) != row->action)
        return fail(err, ERROR_PROTOCOL, "the milter did '%c', which was not agreed upon", command);
    bool is_field = row->kind == MILTER_ADD_HEADER || row->kind == MILTER_INSERT_HEADER ||
                    row->kind == MILTER_CHANGE_HEADER;
    if (is_field && !is_field_name(out->name))
        return fail(err, ERROR_PROTOCOL, "the milter named a header field that cannot be one");
    return OK;
}

/* ---- replies ---- */

/* One line without its code and enhanced code where it repeats those of the first. */
static struct str words_of(struct str line, struct str code, struct str enhanced)
{
    line = str_trim(line);
    if (str_starts(line, code) && (line.len == 3 || line.ptr[3] == '-' || line.ptr[3] == ' '))
        line = str_from(line, 4);
    if (enhanced.len && str_starts(line, enhanced))
        line = str_from(line, enhanced.len);
    return str_trim(line);
}

/* "5.7.1" at the front of `text`, or empty. */
static struct str enhanced_of(struct str text)
{
    ptrdiff_t blank = str_find(text, ' ');
    struct str word = blank < 0 ? text : str_slice(text, 0, (size_t)blank);
    size_t dots = 0;
    for (size_t i = 0; i < word.len; i++) {
        dots += word.ptr[i] == '.';
        if (word.ptr[i] != '.' && !ascii_is_digit(word.ptr[i]))
            return STR_EMPTY;
    }
    return dots == 2 && word.len <= 9 ? word : STR_EMPTY;
}

bool milter_read_reply(struct str text, struct arena *arena, struct str *out)
{
    enum { REPLY_MAX = 400 };
    uint64_t number;
    struct str code = str_slice(text, 0, 3);
    if (!str_to_uint(code, 599, &number) || number < 400 || code.len != 3 ||
        (text.len > 3 && text.ptr[3] != ' ' && text.ptr[3] != '-'))
        return false;
    struct str enhanced = enhanced_of(str_from(text, 4));
    if (enhanced.len && enhanced.ptr[0] != code.ptr[0])
        return false;
    struct buf words BUF_CLEANUP;
    struct str line;
    buf_init(&words, text.len + 64);
    buf_printf(&words, "%.*s%s%.*s", STR_ARG(code), enhanced.len ? " " : "", STR_ARG(enhanced));
    while (str_split(&text, '\n', &line)) {
        struct str said = words_of(line, code, enhanced);
        buf_append(&words, said.len ? STR(" ") : STR_EMPTY);
        for (size_t i = 0; i < said.len; i++) {
            unsigned char c = (unsigned char)said.ptr[i];
            /* '%' is doubled for the sake of a printf on the other side */
            if (c == '%' && i + 1 < said.len && said.ptr[i + 1] == '%')
                i++;
            buf_append_byte(&words, c < ' ' || c > 126 ? '?' : (char)c);
        }
    }
    *out = arena_str(arena, str_slice(buf_str(&words), 0, REPLY_MAX));
    return true;
}

/* ---- writing ---- */

void milter_write_head(char command, size_t size, char out[5])
{
    uint32_t length = (uint32_t)size + 1;
    for (size_t i = 0; i < 4; i++)
        out[i] = (char)(length >> (24 - 8 * i) & 0xff);
    out[4] = command;
}

void milter_write_u32(struct buf *out, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        buf_append_byte(out, (char)(value >> (24 - 8 * i) & 0xff));
}

void milter_write_text(struct buf *out, struct str text)
{
    for (ptrdiff_t at; (at = str_find(text, '\0')) >= 0;) {
        buf_append(out, str_slice(text, 0, (size_t)at));
        buf_append_byte(out, ' ');
        text = str_from(text, (size_t)at + 1);
    }
    buf_append(out, text);
    buf_append_byte(out, '\0');
}

void milter_write_field(struct buf *out, struct str name, struct str value, bool leading_space)
{
    milter_write_text(out, name);
    while (!leading_space && value.len && (value.ptr[0] == ' ' || value.ptr[0] == '\t'))
        value = str_from(value, 1);
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] == '\r' && i + 1 < value.len && value.ptr[i + 1] == '\n')
            continue;
        buf_append_byte(out, value.ptr[i] ? value.ptr[i] : ' ');
    }
    buf_append_byte(out, '\0');
}
