/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/script_test.h - a server that follows a script, for tests of the client.
 *
 * A script is an array of steps that ends with NULL: "C: line" expects a line, "S: text" sends one,
 * "N" expects that nothing else has come yet, "T" begins TLS, "X" closes. Problems are noted, not
 * asserted: a failed assertion must not jump out of a fiber.
 */
#pragma once

#include "base/test.h"
#include "net/stream.h"

#include <stdio.h>

struct script {
    const char *const *steps;
    struct stream *stream;
    struct tls_context *tls;
    char problem[512];
};

static inline void script_problem(struct script *script, const char *step, struct str got)
{
    if (!script->problem[0])
        snprintf(script->problem, sizeof script->problem, "at \"%.200s\" came \"%.*s\"", step,
                 STR_ARG(str_slice(got, 0, 200)));
}

/* The next line, without its end; false when the client closed or was silent. */
static inline MAY_YIELD bool script_read_line(struct stream *stream, char line[static 2048],
                                              struct str *out_line)
{
    struct error err;
    for (;;) {
        struct str input = stream_buffered(stream);
        ptrdiff_t end = str_find_str(input, STR("\r\n"));
        if (end >= 0 && end < 2048) {
            for (size_t i = 0; i < (size_t)end; i++)
                line[i] = input.ptr[i];
            *out_line = str_of(line, (size_t)end);
            stream_consume(stream, (size_t)end + 2);
            return true;
        }
        bool closed = false;
        if (stream_fill(stream, 65536, &closed, &err) != OK || closed)
            return false;
    }
}

static inline MAY_YIELD bool script_step(struct script *script, const char *step)
{
    struct error err;
    char space[2048];
    struct str line = STR("(nothing)");
    if (step[0] == 'C') {
        if (script_read_line(script->stream, space, &line) && str_equal(line, str_c(step + 3)))
            return true;
        script_problem(script, step, line);
        return false;
    }
    if (step[0] == 'S')
        return stream_write(script->stream, str_c(step + 3), &err) == OK &&
               stream_write(script->stream, STR("\r\n"), &err) == OK &&
               stream_flush(script->stream, &err) == OK;
    if (step[0] == 'T') {
        if (stream_tls_accept(script->stream, script->tls, &err) == OK)
            return true;
        script_problem(script, step, str_c(err.text));
        return false;
    }
    if (step[0] == 'N') {
        for (int i = 0; i < 5; i++)
            fiber_yield(); /* time for the client to say too much */
        (void)!stream_fill_available(script->stream, 65536, &err);
        if (!stream_buffered(script->stream).len)
            return true;
        script_problem(script, step, stream_buffered(script->stream));
    }
    return false;
}

static inline MAY_YIELD void script_run(void *arg)
{
    struct script *script = arg;
    for (const char *const *step = script->steps; *step; step++) {
        if (!script_step(script, *step))
            break;
    }
    stream_close(script->stream);
    script->stream = NULL;
}
