/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mail/body.h - the bytes of a message behind functions, so that memory and spool can hold them.
 *
 * A body is written once, by one fiber, then sealed; sealed bodies are immutable, reference
 * counted with an atomic count and may be read from any thread.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"
#include "fiber/fiber.h"

#include <stdatomic.h>

struct body;

struct body_ops {
    /* Before sealing only; one fiber. May suspend (a spool that must write out). */
    enum result (*append)(struct body *body, struct str data, struct error *err);
    enum result (*seal)(struct body *body, struct error *err);
    /* After sealing, any thread on a fiber. Reads up to `size` bytes at `offset`; *out_data points
     * into `space` or into the body (valid while a reference is held); empty at the end. */
    enum result (*read)(struct body *body, uint64_t offset, size_t size, char *space,
                        struct str *out_data, struct error *err);
    void (*release)(struct body *body); /* the last reference is gone */
};

struct body {
    const struct body_ops *ops;
    atomic_int references;
    uint64_t size;
};

enum result body_append(struct body *body, struct str data, struct error *err) MAY_YIELD;
enum result body_seal(struct body *body, struct error *err) MAY_YIELD;
enum result body_read(struct body *body, uint64_t offset, size_t size, char *space,
                      struct str *out_data, struct error *err) MAY_YIELD;
struct body *body_ref(struct body *body);
/* NULL is allowed. */
void body_unref(struct body *body);

/* A body in memory (chunks, no realloc); refuses with ERROR_LIMIT beyond `max_bytes`. */
struct body *body_memory_new(uint64_t max_bytes);
/* Is it one of these, so that whoever keeps it keeps all of its bytes in memory? */
bool body_is_memory(const struct body *body);

/*
 * What is sent on: `head` followed by the bytes of `body` from `body_start` on. Unchanged mail has
 * only our trace fields in `head` and body_start 0; mail with changed header fields has its whole
 * new header section in `head` and the body behind the old one. Copies share the body, so that
 * groups of recipients with different flows cost no second copy.
 */
struct mail_content {
    struct str head; /* ends with CRLF if not empty */
    struct body *body;
    uint64_t body_start;
};
uint64_t mail_content_size(const struct mail_content *content);
/* As body_read, over head and body. */
enum result mail_content_read(const struct mail_content *content, uint64_t offset, size_t size,
                              char *space, struct str *out_data, struct error *err) MAY_YIELD;
