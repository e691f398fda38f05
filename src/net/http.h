/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/http.h - what a question over HTTP needs (RFC 9112): a request of one connection, and an
 * answer that ends with it; and the JSON in it, no deeper than it should be.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "net/server.h"
#include "net/stream.h"

#include <jansson.h>

enum { HTTP_JSON_DEPTH = 32 };

/* "METHOD TARGET HTTP/1.1", Host and Connection: the target is the endpoint's URL's, or `target` if
 * it is not empty. More fields and the empty line are the caller's. */
void http_write_request(struct str method, const struct server_endpoint *endpoint,
                        struct str target, struct buf *out);
/* A field; a control character in the value becomes ?. Nothing for an empty value. */
void http_write_field(struct buf *out, const char *name, struct str value);

struct http_answer {
    unsigned status;
    struct str fields; /* lines, each with its end */
    struct str reason; /* "404 Not Found": code and words, for people */
    struct str type;   /* Content-Type, or empty */
    struct str body;
};

/* Until the peer ends, or all that it announced is there; ERROR_PROTOCOL beyond `max` bytes. In
 * `arena`. */
enum result http_receive(struct stream *stream, size_t max, struct arena *arena, struct str *out,
                         struct error *err) MAY_YIELD;
/* Pure. Slices of `text`, or in `arena` where the body came in chunks. FAILED (protocol): it is no
 * answer, or cut off. */
enum result http_read_answer(struct str text, struct arena *arena, struct http_answer *out,
                             struct error *err);

/* For who wants to know what was said, and not all of it: the head, and of the body what comes at
 * once, at most `max` bytes of both. */
enum result http_receive_beginning(struct stream *stream, size_t max, struct arena *arena,
                                   struct http_answer *out, struct error *err) MAY_YIELD;
/* Pure: as http_read_answer(), of an answer that may be cut off anywhere behind its head. */
enum result http_read_beginning(struct str text, struct arena *arena, struct http_answer *out,
                                struct error *err);
/* The value of a field of an answer, the first of that name; empty: there is none. */
struct str http_field(const struct http_answer *answer, const char *name);

/* FAILED (protocol): it is not JSON, or nested deeper than HTTP_JSON_DEPTH. json_decref() it. */
enum result http_read_json(struct str text, json_t **out, struct error *err);
