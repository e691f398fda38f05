/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_script.h - for tests: plays a dialogue against the rig, its client's bytes cut at any
 * point.
 *
 * A script is lines: "C: " a line of the client (CRLF is added), "R: " raw bytes without one,
 * "S: " a line of the server ("*" at its end: anything may follow), "E" the server closes, "T: n"
 * n seconds pass, "D" the listener drains. \r \n \0 \t and \xHH are known. What client lines follow
 * one another is sent as one segment.
 */
#pragma once

#include "smtp/server_rig.h"

enum { NEVER_CUT = 1 << 0, TRUSTED = 1 << 1 };

struct script {
    const char *name;
    const char *text;
    unsigned flags;
    void (*prepare)(struct rig *rig);
    const char *envelope; /* of the last message, or NULL */
    const char *message;
    const char *facts;
    int messages; /* -1: 1 if there is an envelope, else 0 */
};

/* Play it once, with a pause before the client's byte `cut` (0: none); fails the test. Returns how
 * many bytes the client sent. */
size_t run_script(const struct script *script, size_t cut);
/* Each whole, and cut at every byte unless it is NEVER_CUT. */
void run_scripts(const struct script *scripts, size_t count);
/* The bytes that a script's text stands for. */
size_t unescape(const char *text, size_t len, char *out);
