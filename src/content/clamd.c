/* SPDX-License-Identifier: Apache-2.0 */
#include "content/clamd.h"

#include <endian.h>
#include <string.h>

enum { ANSWER_MAX = 4096 };

struct scan {
    const struct mail_content *content;
    struct arena *arena;
    struct clamd_answer *out;
};

enum result clamd_read_answer(struct str line, struct clamd_answer *out, struct error *err)
{
    line = str_trim(line);
    *out = (struct clamd_answer){.name = STR_EMPTY};
    if (str_find_str(line, STR("size limit exceeded")) >= 0) {
        out->result = CLAMD_TOO_BIG;
        return OK;
    }
    if (str_starts(line, STR("stream: ")))
        line = str_from(line, 8);
    if (str_equal(line, STR("OK")))
        return OK;
    if (str_ends(line, STR(" FOUND"))) {
        out->result = CLAMD_FOUND;
        out->name = str_slice(line, 0, line.len - 6);
        return OK;
    }
    return fail(err, ERROR_TEMPORARY, "clamd said \"%.*s\"", STR_ARG(str_slice(line, 0, 200)));
}

static enum result frame(struct stream *stream, size_t size, struct error *err) MAY_YIELD
{
    uint32_t length = htobe32((uint32_t)size);
    return stream_write(stream, str_of((const char *)&length, sizeof length), err);
}

static enum result talk(struct stream *stream, const struct server_endpoint *endpoint, void *arg,
                        struct error *err) MAY_YIELD
{
    (void)endpoint;
    struct scan *scan = arg;
    struct str line;
    struct error sending;
    static const char command[] = "zINSTREAM"; /* with its NUL */
    bool sent = stream_write(stream, str_of(command, sizeof command), &sending) == OK &&
                scanner_write_content(stream, scan->content, frame, &sending) == OK &&
                frame(stream, 0, &sending) == OK && stream_flush(stream, &sending) == OK;
    /* one that has seen enough (a limit) answers and closes while we still send */
    if (scanner_read_all(stream, '\0', ANSWER_MAX, scan->arena, &line, err) != OK ||
        line.len == 0) {
        if (!sent)
            *err = sending;
        else if (line.len == 0)
            (void)fail(err, ERROR_TEMPORARY, "clamd closed without an answer");
        return FAILED;
    }
    return clamd_read_answer(line, scan->out, err);
}

enum result clamd_scan(const struct scanner *scanner, const struct mail_content *content,
                       struct arena *arena, struct clamd_answer *out, struct error *err)
{
    struct scan scan = {.content = content, .arena = arena, .out = out};
    return scanner_ask(scanner, talk, &scan, err);
}
