/* SPDX-License-Identifier: Apache-2.0 */
#include "content/hook.h"

#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HEAD_MAX = 64 * 1024, TEXT_MAX = 4096 };

/* ---- asking ---- */

struct ask {
    const struct hook_question *question;
    struct arena *arena;
    struct hook_answer *out;
    struct str before, behind; /* the message, in the form */
};

/* What stands around the message; the boundary is no text that anybody could have guessed. */
static void make_form(struct ask *ask)
{
    unsigned char bytes[16];
    char boundary[2 * sizeof bytes + 1];
    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(boundary + 2 * i, 3, "%02x", bytes[i]);
    ask->before = arena_printf(
        ask->arena,
        "--%s\r\nContent-Disposition: form-data; name=\"facts\"\r\n"
        "Content-Type: application/json\r\n\r\n%.*s\r\n"
        "--%s\r\nContent-Disposition: form-data; name=\"message\"; filename=\"message.eml\"\r\n"
        "Content-Type: message/rfc822\r\n\r\n",
        boundary, STR_ARG(ask->question->facts), boundary);
    ask->behind = arena_printf(ask->arena, "\r\n--%s--\r\n", boundary);
}

static void write_head(const struct ask *ask, const struct server_endpoint *endpoint,
                       struct buf *out)
{
    const struct hook_question *question = ask->question;
    uint64_t size = question->facts.len;
    http_write_request(STR("POST"), endpoint, STR_EMPTY, out);
    buf_append(out, STR("User-Agent: Postern\r\nAccept: application/json\r\n"));
    if (question->password.len)
        buf_printf(out, "Authorization: Bearer %.*s\r\n", STR_ARG(question->password));
    if (question->content) {
        size = ask->before.len + question->content_size + ask->behind.len;
        buf_printf(out, "Content-Type: multipart/form-data; boundary=%.*s\r\n", 32,
                   ask->behind.ptr + 4);
    } else
        buf_append(out, STR("Content-Type: application/json\r\n"));
    buf_printf(out, "Content-Length: %llu\r\n\r\n", (unsigned long long)size);
}

static MAY_YIELD enum result write_body(struct stream *stream, const struct ask *ask,
                                        struct error *err)
{
    const struct hook_question *question = ask->question;
    if (!question->content)
        return stream_write(stream, question->facts, err);
    if (stream_write(stream, ask->before, err) != OK ||
        scanner_write_part(stream, question->content, question->content_size, NULL, err) != OK)
        return FAILED;
    return stream_write(stream, ask->behind, err);
}

static enum result talk(struct stream *stream, const struct server_endpoint *endpoint, void *arg,
                        struct error *err) MAY_YIELD
{
    struct ask *ask = arg;
    struct str text;
    struct error sending;
    struct buf head BUF_CLEANUP;
    buf_init(&head, HEAD_MAX);
    write_head(ask, endpoint, &head);
    if (head.overflow)
        return fail(err, ERROR_PERMANENT, "the question is too long");
    bool sent = stream_write(stream, buf_str(&head), &sending) == OK &&
                write_body(stream, ask, &sending) == OK && stream_flush(stream, &sending) == OK;
    /* one that has seen enough answers while we still send */
    if (http_receive(stream, HOOK_ANSWER_MAX, ask->arena, &text, err) != OK || text.len == 0) {
        if (!sent)
            *err = sending;
        else if (text.len == 0)
            (void)fail(err, ERROR_TEMPORARY, "it closed without an answer");
        return FAILED;
    }
    return hook_read_answer(text, ask->arena, ask->out, err);
}

/* ---- the answer ---- */

/* Text from outside: no control characters, and not endless. */
static struct str text_of(const json_t *value, struct arena *arena)
{
    if (!json_is_string(value))
        return STR_EMPTY;
    struct str text = arena_str(
        arena, str_slice(str_of(json_string_value(value), json_string_length(value)), 0, TEXT_MAX));
    char *bytes = (char *)text.ptr;
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)bytes[i] < ' ' || bytes[i] == 127)
            bytes[i] = ' ';
    return str_trim(text);
}

static bool read_outcome(const json_t *root, enum hook_outcome *out)
{
    static const char *const words[HOOK_OUTCOMES] = {"accept", "reject",     "defer",
                                                     "hold",   "quarantine", "discard"};
    const char *word = json_string_value(json_object_get(root, "outcome"));
    for (size_t i = 0; word && i < HOOK_OUTCOMES; i++) {
        *out = (enum hook_outcome)i;
        if (strcmp(word, words[i]) == 0)
            return true;
    }
    return false;
}

/* A list of { "name": …, "value" or "text": … }. */
static enum result read_pairs(const json_t *list, const char *second, size_t max,
                              struct arena *arena, struct hook_pair **out, size_t *out_count,
                              struct error *err)
{
    size_t count = json_array_size(list);
    if ((list && !json_is_array(list)) || count > max)
        return fail(err, ERROR_PROTOCOL, "the answer has a list that is none, or too long");
    struct hook_pair *pairs = arena_alloc_array(arena, count + 1, sizeof *pairs);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        pairs[i].name = text_of(json_object_get(item, "name"), arena);
        pairs[i].value = text_of(json_object_get(item, second), arena);
        if (!pairs[i].name.len)
            return fail(err, ERROR_PROTOCOL, "the answer has a list with a part without a name");
    }
    *out = pairs;
    *out_count = count;
    return OK;
}

static enum result read_removals(const json_t *list, struct arena *arena, struct hook_answer *out,
                                 struct error *err)
{
    size_t count = json_array_size(list);
    if ((list && !json_is_array(list)) || count > HOOK_FIELDS_MAX)
        return fail(err, ERROR_PROTOCOL, "remove_headers is no list, or too long");
    out->remove = arena_alloc_array(arena, count + 1, sizeof *out->remove);
    for (size_t i = 0; i < count; i++)
        out->remove[i] = text_of(json_array_get(list, i), arena);
    out->remove_count = count;
    return OK;
}

/* A name of a header field: another would make of one field two. */
static enum result check_fields(const struct hook_answer *answer, struct error *err)
{
    for (size_t i = 0; i < answer->add_count; i++) {
        struct str name = answer->add[i].name;
        bool good = name.len <= 76 && answer->add[i].value.len > 0;
        for (size_t k = 0; good && k < name.len; k++)
            good = name.ptr[k] > ' ' && name.ptr[k] < 127 && name.ptr[k] != ':';
        if (!good)
            return fail(err, ERROR_PROTOCOL, "\"%.*s\" is no field that could be added",
                        STR_ARG(str_slice(name, 0, 60)));
    }
    return OK;
}

static enum result read_root(const json_t *root, struct arena *arena, struct hook_answer *out,
                             struct error *err)
{
    const json_t *score = json_object_get(root, "score");
    if (!read_outcome(root, &out->outcome))
        return fail(err, ERROR_PROTOCOL, "the answer has no outcome, or none that is known");
    out->reply = text_of(json_object_get(root, "reply"), arena);
    out->reason = text_of(json_object_get(root, "reason"), arena);
    out->scored = json_is_number(score) && fabs(json_number_value(score)) < 1e6;
    if (score && !out->scored)
        return fail(err, ERROR_PROTOCOL, "the answer has a score that is none");
    out->score = json_number_value(score);
    if (read_pairs(json_object_get(root, "add_headers"), "value", HOOK_FIELDS_MAX, arena, &out->add,
                   &out->add_count, err) != OK ||
        read_removals(json_object_get(root, "remove_headers"), arena, out, err) != OK ||
        read_pairs(json_object_get(root, "findings"), "text", HOOK_FINDINGS_MAX, arena,
                   &out->findings, &out->finding_count, err) != OK)
        return FAILED;
    return check_fields(out, err);
}

enum result hook_read_answer(struct str text, struct arena *arena, struct hook_answer *out,
                             struct error *err)
{
    struct http_answer answer;
    json_t *root;
    *out = (struct hook_answer){.reply = STR_EMPTY, .reason = STR_EMPTY};
    if (http_read_answer(text, arena, &answer, err) != OK)
        return FAILED;
    if (answer.status == 204) /* nothing to say */
        return OK;
    if (answer.status != 200)
        return fail(err, ERROR_TEMPORARY, "it said \"%.*s\"", STR_ARG(answer.reason));
    if (http_read_json(answer.body, &root, err) != OK)
        return FAILED;
    enum result result = read_root(root, arena, out, err);
    json_decref(root);
    return result;
}

enum result hook_ask(const struct scanner *scanner, const struct hook_question *question,
                     struct arena *arena, struct hook_answer *out, struct error *err)
{
    struct ask ask = {.question = question, .arena = arena, .out = out};
    if (question->content)
        make_form(&ask);
    return scanner_ask(scanner, talk, &ask, err);
}
