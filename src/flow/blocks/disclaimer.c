/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/disclaimer.c - adds a text to what a reader sees: to the first text/plain part and to
 * the first text/html part.
 *
 * Such a part is decoded, and written again as UTF-8 in quoted-printable; every other byte of the
 * message stays. Signed or encrypted mail is left alone, and what cannot be read faithfully, too.
 */
#include "content/mime_write.h"
#include "flow/blocks.h"
#include "flow/text.h"
#include "mail/header.h"

enum { ADDED, SKIPPED, ERROR };
enum { TEXT_MAX = 16 * 1024, PART_MAX = 8 * 1024 * 1024, PIECE = 32 * 1024 };

struct parameters {
    struct str text;
    struct str html;
    bool once;
};
struct prepared {
    struct str text; /* with CRLF */
    struct str html;
};

static const struct option options[] = {
    {.name = "text",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, text),
     .text = "the text, in one or more lines",
     .required = true},
    {.name = "html",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, html),
     .text = "the same for text/html, as HTML; default: the text"},
    {.name = "once",
     .type = OPTION_BOOL,
     .offset = offsetof(struct parameters, once),
     .fallback = "true",
     .text = "not to parts that hold the text already, as answers do"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "disclaimer",
    .text = "Adds a text to the end of the message, before it is signed. Mail that somebody else "
            "signed or encrypted (S/MIME, PGP) is left alone.",
    .options = options,
    .shorthand = "text",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [ADDED] = {.name = "added", .action = ACTION_NEXT, .text = "the text stands there now"},
    [SKIPPED] = {.name = "skipped",
                 .key = "skipped",
                 .action = ACTION_NEXT,
                 .text = "it is signed or encrypted, has no text that can be read, or has the text "
                         "already"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_DEFER,
               .reply = "451 4.3.0 The message cannot be changed",
               .reason = MAIL_REASON_POLICY,
               .text = "the message is over content.limits"},
    {.name = NULL},
};

/* ---- at load ---- */

static struct str as_html(struct str text, struct arena *arena)
{
    struct buf out BUF_CLEANUP;
    buf_init(&out, TEXT_MAX * 6);
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '\n')
            buf_append(&out, STR("<br>\r\n"));
        else if (c == '<' || c == '>' || c == '&')
            buf_append(&out, c == '<' ? STR("&lt;") : c == '>' ? STR("&gt;") : STR("&amp;"));
        else if (c != '\r')
            buf_append_byte(&out, c);
    }
    return arena_str(arena, buf_str(&out));
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct arena *arena = compiling->context->option.arena;
    struct prepared *prepared = ARENA_NEW(arena, struct prepared);
    struct buf text BUF_CLEANUP;
    struct str trimmed = str_trim(parameters->text);
    buf_init(&text, TEXT_MAX * 2);
    step->prepared = prepared;
    if (!trimmed.len || trimmed.len > TEXT_MAX || parameters->html.len > TEXT_MAX ||
        !flow_text_is_clean(trimmed, true) || !flow_text_is_clean(parameters->html, true)) {
        flow_problem(compiling, CONFIG_ERROR, "wrong-value",
                     flow_place_of(node, "text", step->place),
                     "this is no text in UTF-8 of at most %d bytes", TEXT_MAX);
        return;
    }
    flow_text_append(trimmed, &text);
    prepared->text = arena_str(arena, buf_str(&text));
    prepared->html = parameters->html.len ? parameters->html : as_html(trimmed, arena);
}

/* ---- which parts ---- */

static bool is_sealed(const struct mime_message *message)
{
    static const char *const types[] = {"multipart/signed", "multipart/encrypted",
                                        "application/pkcs7-mime", "application/x-pkcs7-mime",
                                        "application/pgp-encrypted"};
    for (size_t i = 0; i < message->count; i++)
        for (size_t k = 0; k < sizeof types / sizeof *types; k++)
            if (str_equal(message->parts[i].type, str_c(types[k])))
                return true;
    return false;
}

/* Not in a message that is attached, nor in a report. */
static bool is_of_the_text(const struct mime_message *message, const struct mime_part *part)
{
    for (long at = part->parent; at >= 0; at = message->parts[at].parent) {
        struct str type = message->parts[at].type;
        if (!str_equal(type, STR("multipart/mixed")) &&
            !str_equal(type, STR("multipart/alternative")) &&
            !str_equal(type, STR("multipart/related")))
            return false;
    }
    return mime_is_text(part) && part->encoding != MIME_UNKNOWN;
}

static const struct mime_part *first_of(const struct mime_message *message, struct str type)
{
    for (size_t i = 0; i < message->count; i++)
        if (str_equal(message->parts[i].type, type) && is_of_the_text(message, &message->parts[i]))
            return &message->parts[i];
    return NULL;
}

/* ---- a part with the text ---- */

struct change {
    const struct mime_part *part;
    struct buf text;   /* UTF-8 */
    struct str header; /* new */
    struct str body;   /* new, encoded */
};

static enum result gather(void *context, struct str data, struct error *err)
{
    struct change *change = context;
    buf_append(&change->text, data);
    if (change->text.overflow)
        return fail(err, ERROR_LIMIT, "a text part has more than %d bytes", PART_MAX);
    return OK;
}

/* Where the HTML goes: before the last </body>, or to the end. */
static size_t end_of_html(struct str text)
{
    static const struct str tag = {"</body", 6};
    for (size_t at = text.len; at >= tag.len; at--)
        if (str_equal_nocase(str_slice(text, at - tag.len, at), tag))
            return at - tag.len;
    return text.len;
}

static struct str type_of(const struct mime_part *part, bool is_html, struct arena *arena)
{
    struct mail_field field;
    struct str format = STR_EMPTY;
    if (!is_html && mail_header_find(part->header, STR("Content-Type"), &field))
        format = mime_parameter(mail_field_text(arena, &field), "format", arena);
    bool flowed = str_equal_nocase(format, STR("flowed"));
    return arena_printf(arena, "%s; charset=utf-8%s", is_html ? "text/html" : "text/plain",
                        flowed ? "; format=flowed" : "");
}

static void write_part(struct change *change, const struct prepared *prepared, struct arena *arena)
{
    bool is_html = str_equal(change->part->type, STR("text/html"));
    bool is_message = change->part->parent < 0;
    struct str text = buf_str(&change->text);
    size_t at = is_html ? end_of_html(text) : text.len;
    bool ended = at == 0 || text.ptr[at - 1] == '\n';
    struct buf whole BUF_CLEANUP, quoted BUF_CLEANUP, header BUF_CLEANUP;
    buf_init(&whole, text.len + 12 * (size_t)TEXT_MAX);
    buf_init(&quoted, 4 * (text.len + 12 * (size_t)TEXT_MAX));
    buf_init(&header, change->part->header.len + 1024);
    buf_append(&whole, str_slice(text, 0, at));
    buf_append(&whole, ended ? STR("\r\n") : STR("\r\n\r\n"));
    if (is_html)
        buf_printf(&whole, "<div>%.*s</div>\r\n", STR_ARG(prepared->html));
    else
        buf_printf(&whole, "%.*s\r\n", STR_ARG(prepared->text));
    buf_append(&whole, str_from(text, at));
    mime_quote(buf_str(&whole), &quoted);
    struct str own = change->part->header;
    mime_retype(own, type_of(change->part, is_html, arena), STR("quoted-printable"), is_message,
                &header);
    change->header = arena_str(arena, buf_str(&header));
    struct str body = buf_str(&quoted);
    if (!is_message && str_ends(body, STR("\r\n")))
        body.len -= 2; /* that of the boundary stands behind it */
    change->body = arena_str(arena, body);
}

/* *out_good false: it must stay as it is. */
static MAY_YIELD enum result read_part(struct flow_running *running,
                                       const struct mime_message *message,
                                       const struct flow_step *step, struct change *change,
                                       bool *out_good, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    const struct prepared *prepared = step->prepared;
    bool faithful = true;
    bool is_html = str_equal(change->part->type, STR("text/html"));
    *out_good = false;
    if (mime_decode_text(message, change->part, /* strip_html= */ false, gather, change, &faithful,
                         err) != OK)
        return FAILED;
    struct str text = buf_str(&change->text);
    if (flow_spend(running, FLOW_BUDGET_DECODED, text.len, err) != OK ||
        flow_spend(running, FLOW_BUDGET_MEMORY, 6 * text.len, err) != OK)
        return FAILED;
    bool there = str_find_str(text, is_html ? prepared->html : prepared->text) >= 0;
    if (!faithful)
        running->detail = STR("a part cannot be read faithfully");
    else if (str_find_str(text, STR("-----BEGIN PGP ")) >= 0)
        running->detail = STR("it is signed or encrypted");
    else if (parameters->once && there)
        running->detail = STR("it has the text already");
    else
        *out_good = true;
    if (*out_good)
        write_part(change, prepared, running->run->arena);
    return OK;
}

/* ---- the new body ---- */

static MAY_YIELD enum result copy(struct flow_running *running, uint64_t begin, uint64_t end,
                                  struct body *body, struct error *err)
{
    char *space = arena_alloc(running->run->arena, PIECE);
    while (begin < end) {
        struct str piece;
        size_t want = end - begin < PIECE ? (size_t)(end - begin) : PIECE;
        if (flow_body_read(running, begin, want, space, &piece, err) != OK)
            return FAILED;
        if (!piece.len)
            break;
        if (body_append(body, piece, err) != OK)
            return FAILED;
        begin += piece.len;
        if (fiber_current()) {
            fiber_yield();
            if (fiber_check(err) != OK)
                return FAILED;
        }
    }
    return OK;
}

static MAY_YIELD enum result write_body(struct flow_running *running, const struct change *changes,
                                        size_t count, struct body *body, struct error *err)
{
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const struct mime_part *part = changes[i].part;
        if (part->parent >= 0 && (copy(running, at, part->header_begin, body, err) != OK ||
                                  body_append(body, changes[i].header, err) != OK))
            return FAILED;
        if (body_append(body, changes[i].body, err) != OK)
            return FAILED;
        at = part->body_end;
    }
    if (copy(running, at, flow_body_size(running), body, err) != OK)
        return FAILED;
    return body_seal(body, err);
}

static MAY_YIELD enum result replace(struct flow_running *running, const struct change *changes,
                                     size_t count, struct error *err)
{
    uint64_t max = flow_body_size(running) + changes[0].body.len + changes[0].header.len;
    if (count > 1)
        max += changes[1].body.len + changes[1].header.len;
    if (flow_spend(running, FLOW_BUDGET_MEMORY, max, err) != OK)
        return FAILED;
    struct body *body = body_memory_new(max);
    if (write_body(running, changes, count, body, err) != OK) {
        body_unref(body);
        return FAILED;
    }
    flow_body_replace(running, body, /* has_8bit= */ false);
    if (changes[0].part->parent < 0) {
        struct str own;
        struct buf header BUF_CLEANUP;
        flow_head_split(running, &own);
        buf_init(&header, own.len + 1024);
        mime_retype(own,
                    type_of(changes[0].part, str_equal(changes[0].part->type, STR("text/html")),
                            running->run->arena),
                    STR("quoted-printable"), /* is_message= */ true, &header);
        flow_head_set_own(running, buf_str(&header));
    }
    return OK;
}

static MAY_YIELD enum result add(struct flow_running *running, const struct flow_step *step,
                                 struct change changes[2], bool *out_added, struct error *err)
{
    const struct mime_message *message;
    size_t count = 0;
    *out_added = false;
    if (flow_mime(running, &message, err) != OK)
        return FAILED;
    if (is_sealed(message)) {
        running->detail = STR("it is signed or encrypted");
        return OK;
    }
    const struct mime_part *plain = first_of(message, STR("text/plain"));
    const struct mime_part *html = first_of(message, STR("text/html"));
    const struct mime_part *first = html && (!plain || html < plain) ? html : plain;
    const struct mime_part *second = first == plain ? html : plain;
    if (!first)
        running->detail = STR("it has no text");
    for (size_t i = 0; i < 2; i++) {
        bool good;
        const struct mime_part *part = i ? second : first;
        if (!part)
            continue;
        changes[count].part = part;
        if (read_part(running, message, step, &changes[count], &good, err) != OK)
            return FAILED;
        if (!good)
            return OK; /* with one of two the versions would differ */
        count++;
    }
    *out_added = count > 0;
    if (!count || step->observe)
        return OK;
    return replace(running, changes, count, err);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    struct change changes[2] = {0};
    bool added;
    buf_init(&changes[0].text, PART_MAX);
    buf_init(&changes[1].text, PART_MAX);
    enum result result = add(running, step, changes, &added, err);
    buf_done(&changes[0].text);
    buf_done(&changes[1].text);
    if (result == OK) {
        *out_outcome = added ? ADDED : SKIPPED;
        return OK;
    }
    if (err->kind != ERROR_LIMIT)
        return FAILED;
    *out_outcome = ERROR;
    running->detail = arena_str(running->run->arena, str_c(err->text));
    return OK;
}

const struct flow_block flow_block_disclaimer = {
    .name = "disclaimer",
    .text = "adds a text to the body",
    .flows = FLOW_IN_CONTENT,
    .breaks_signatures = true,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = flow_changes_any_field,
};
