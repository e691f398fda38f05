/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/calls.h - which system calls this process may still make: the door to libseccomp.
 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum call_test {
    CALL_ALWAYS,
    CALL_IF_BITS,    /* (argument & mask) == value */
    CALL_IF_EQUAL,   /* argument == value */
    CALL_IF_GREATER, /* argument > value */
};

struct call_rule {
    const char *name; /* of a call that this architecture lacks: no rule */
    int error;        /* what it fails with; 0: it is allowed */
    enum call_test test;
    unsigned argument; /* its number, from 0 */
    uint64_t mask, value;
};

/* For ever, for this thread and those that it makes. `otherwise`: what calls fail with that no rule
 * is about; 0: they are allowed. PR_SET_NO_NEW_PRIVS must be set. FAILED: nothing is filtered. */
enum result calls_filter(const struct call_rule *rules, size_t count, int otherwise,
                         struct error *err);
