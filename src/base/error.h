/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/error.h - how a function says that it has no answer.
 *
 * A fallible function returns `enum result` and takes `struct error *err` last. An answer that is
 * merely unwelcome (not found, refused by the peer, end of stream) is not an error: it is an
 * output. The kind carries what mail must know: try again, or give up.
 */
#pragma once

enum [[nodiscard]] result{FAILED = -1, OK = 0};

enum error_kind {
    ERROR_NONE,
    ERROR_TEMPORARY, /* the same call may succeed later */
    ERROR_PERMANENT, /* it will not */
    ERROR_TIMEOUT,   /* a deadline passed */
    ERROR_CANCELLED, /* the scope was cancelled */
    ERROR_LIMIT,     /* a ceiling was reached */
    ERROR_PROTOCOL,  /* the peer broke the protocol */
};

struct error {
    enum error_kind kind;
    char text[256]; /* one line, without the final full stop; never holds a secret */
};

/* Fill `err` (NULL is allowed) and return FAILED. Text that does not fit is cut. */
enum result fail(struct error *err, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As fail(), with ": " and the text of errno value `number` appended; the kind is ERROR_TEMPORARY,
 * or ERROR_LIMIT for lack of descriptors, memory or space. */
enum result fail_errno(struct error *err, int number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "context: " before the text in `err`; returns FAILED, so callers can `return` it. */
enum result fail_context(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "temporary", "timeout", ... */
const char *error_kind_name(enum error_kind kind);
