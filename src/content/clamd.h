/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/clamd.h - is there malware in a message? The INSTREAM command of ClamAV's clamd.
 */
#pragma once

#include "content/scanner.h"

enum clamd_result { CLAMD_CLEAN, CLAMD_FOUND, CLAMD_TOO_BIG };
struct clamd_answer {
    enum clamd_result result;
    struct str name; /* of what was found; in the arena */
};

/* FAILED: no answer. */
enum result clamd_scan(const struct scanner *scanner, const struct mail_content *content,
                       struct arena *arena, struct clamd_answer *out, struct error *err) MAY_YIELD;
/* The line that clamd answers with, without its NUL; for the tests. FAILED: it is none, or an
 * error of clamd's own. Slices of `line`. */
enum result clamd_read_answer(struct str line, struct clamd_answer *out, struct error *err);
