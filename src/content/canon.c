/* SPDX-License-Identifier: Apache-2.0 */
#include "content/canon.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    READ_SIZE = 16 * 1024,
    YIELD_EACH = 16, /* reads: no other fiber waits for long because of a large message */
};

/* ---- the sink ---- */

void canon_sink_open(struct canon_sink *sink)
{
    sink->size = 0;
    sink->used = 0;
    sha256_open(&sink->sha);
}

static void flush(struct canon_sink *sink)
{
    sha256_add(&sink->sha, str_of(sink->collected, sink->used));
    sink->used = 0;
}

static void put(struct canon_sink *sink, struct str data)
{
    sink->size += data.len;
    if (data.len > sizeof sink->collected - sink->used)
        flush(sink);
    if (data.len > sizeof sink->collected) {
        sha256_add(&sink->sha, data);
        return;
    }
    if (data.len)
        memcpy(sink->collected + sink->used, data.ptr, data.len);
    sink->used += data.len;
}

static void put_byte(struct canon_sink *sink, char byte)
{
    if (sink->used == sizeof sink->collected)
        flush(sink);
    sink->collected[sink->used++] = byte;
    sink->size++;
}

void canon_sink_copy(struct canon_sink *from, struct canon_sink *to)
{
    flush(from);
    to->size = from->size;
    to->used = 0;
    sha256_copy(&from->sha, &to->sha);
}

void canon_sink_finish(struct canon_sink *sink, unsigned char out_hash[SHA256_SIZE])
{
    flush(sink);
    sha256_finish(&sink->sha, out_hash);
}

void canon_sink_close(struct canon_sink *sink)
{
    sha256_close(&sink->sha);
}

/* ---- header fields ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Unfolded, runs of blanks as one space, none before the first octet and behind the last. What
 * comes in two pieces (around a hole) is one text: `*gap` and `*started` go from one to the next.
 */
static void put_relaxed(struct canon_sink *sink, struct str text, bool *started, bool *gap)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '\r' && i + 1 < text.len && text.ptr[i + 1] == '\n') {
            i++;
        } else if (is_blank(c)) {
            *gap = true;
        } else {
            if (*gap && *started)
                put_byte(sink, ' ');
            *gap = false;
            *started = true;
            put_byte(sink, c);
        }
    }
}

static void put_parts(struct canon_sink *sink, enum dkim_canon canon,
                      const struct mail_field *field, struct str before, struct str after)
{
    bool started = false;
    bool gap = false;
    if (canon == DKIM_SIMPLE) {
        size_t lead = (size_t)(field->value.ptr - field->raw.ptr);
        put(sink, str_slice(field->raw, 0, lead));
        put(sink, before);
        put(sink, after);
        return;
    }
    for (size_t i = 0; i < field->name.len; i++)
        put_byte(sink, ascii_lower(field->name.ptr[i]));
    put_byte(sink, ':');
    put_relaxed(sink, before, &started, &gap);
    put_relaxed(sink, after, &started, &gap);
}

void canon_field(struct canon_sink *sink, enum dkim_canon canon, const struct mail_field *field)
{
    put_parts(sink, canon, field, field->value, STR_EMPTY);
    put(sink, STR("\r\n"));
}

void canon_signature(struct canon_sink *sink, enum dkim_canon canon, const struct mail_field *field,
                     struct str hole)
{
    size_t begin = (size_t)(hole.ptr - field->value.ptr);
    put_parts(sink, canon, field, str_slice(field->value, 0, begin),
              str_from(field->value, begin + hole.len));
}

/* ---- bodies ---- */

void canon_body_open(struct canon_body *body, enum dkim_canon canon)
{
    body->canon = canon;
    body->line_ends = 0;
    body->blank = false;
    body->cr = false;
    canon_sink_open(&body->sink);
}

/* Something that stays follows: write what waited for it. */
static void settle(struct canon_body *body)
{
    for (; body->line_ends; body->line_ends--)
        put(&body->sink, STR("\r\n"));
    if (body->blank)
        put_byte(&body->sink, ' ');
    body->blank = false;
}

/* Octets that are not CR and, relaxed, no blanks, at the front of `data`. */
static size_t plain_run(const struct canon_body *body, struct str data)
{
    size_t len = 0;
    if (body->canon == DKIM_SIMPLE) {
        const char *cr = data.len ? memchr(data.ptr, '\r', data.len) : NULL;
        return cr ? (size_t)(cr - data.ptr) : data.len;
    }
    while (len < data.len && data.ptr[len] != '\r' && !is_blank(data.ptr[len]))
        len++;
    return len;
}

static void add_special(struct canon_body *body, char c)
{
    if (c == '\r')
        body->cr = true;
    else
        body->blank = true;
}

void canon_body_add(struct canon_body *body, struct str data)
{
    while (data.len) {
        if (body->cr) {
            body->cr = false;
            if (data.ptr[0] == '\n') {
                body->blank = false;
                body->line_ends++;
                data = str_from(data, 1);
                continue;
            }
            settle(body);
            put_byte(&body->sink, '\r');
        }
        size_t run = plain_run(body, data);
        if (run) {
            settle(body);
            put(&body->sink, str_slice(data, 0, run));
        } else {
            add_special(body, data.ptr[0]);
            run = 1;
        }
        data = str_from(data, run);
    }
}

void canon_body_finish(struct canon_body *body, struct dkim_body_hash *out)
{
    if (body->cr) {
        settle(body);
        put_byte(&body->sink, '\r');
    }
    /* empty lines at the end count for nothing; an empty body is one line end, relaxed none */
    if (body->canon == DKIM_SIMPLE || body->sink.size > 0)
        put(&body->sink, STR("\r\n"));
    out->known = true;
    out->size = body->sink.size;
    canon_sink_finish(&body->sink, out->hash);
}

void canon_body_close(struct canon_body *body)
{
    canon_sink_close(&body->sink);
}

/* ---- the body of a message ---- */

struct pass {
    struct canon_body bodies[DKIM_CANON_COUNT];
    unsigned wanted;
    char space[READ_SIZE];
};

static MAY_YIELD enum result read_all(const struct dkim_message *message, struct pass *pass,
                                      struct error *err)
{
    uint64_t offset = message->header.len;
    for (unsigned reads = 1;; reads++) {
        struct str data;
        if (mail_content_read(message->content, offset, READ_SIZE, pass->space, &data, err) != OK)
            return FAILED;
        if (data.len == 0)
            return OK;
        for (int canon = 0; canon < DKIM_CANON_COUNT; canon++)
            if (pass->wanted & (1u << canon))
                canon_body_add(&pass->bodies[canon], data);
        offset += data.len;
        if (reads % YIELD_EACH == 0 && fiber_current()) {
            fiber_yield();
            if (fiber_check(err) != OK)
                return FAILED;
        }
    }
}

enum result canon_hash_bodies(struct dkim_message *message, unsigned wanted, struct error *err)
{
    for (int canon = 0; canon < DKIM_CANON_COUNT; canon++)
        if (message->bodies[canon].known)
            wanted &= ~(1u << canon);
    if (!wanted)
        return OK;
    struct pass *pass = NEW(struct pass);
    pass->wanted = wanted;
    for (int canon = 0; canon < DKIM_CANON_COUNT; canon++)
        if (wanted & (1u << canon))
            canon_body_open(&pass->bodies[canon], (enum dkim_canon)canon);
    enum result result = read_all(message, pass, err);
    for (int canon = 0; canon < DKIM_CANON_COUNT; canon++) {
        if (result == OK && (wanted & (1u << canon)))
            canon_body_finish(&pass->bodies[canon], &message->bodies[canon]);
        canon_body_close(&pass->bodies[canon]);
    }
    free(pass);
    return result;
}

void dkim_message_init(struct dkim_message *message, const struct mail_content *content,
                       struct str header)
{
    *message = (struct dkim_message){.content = content, .header = header};
}
