/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/test.h - what every unit test includes first: cmocka, without its macro `fail`, which is the
 * name of our error function (tests call fail_msg), and a comparison of strs.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail
#undef fail_msg
#define fail_msg(...)                                                                              \
    do {                                                                                           \
        print_error("ERROR: " __VA_ARGS__);                                                        \
        print_error("\n");                                                                         \
        _fail(__FILE__, __LINE__);                                                                 \
    } while (0)

#include "base/str.h"

/* `actual` is a struct str, `expected` a C string. */
#define assert_str(actual, expected)                                                               \
    do {                                                                                           \
        struct str actual_ = (actual);                                                             \
        struct str expected_ = str_c(expected);                                                    \
        if (!str_equal(actual_, expected_))                                                        \
            fail_msg("\"%.*s\" instead of \"%.*s\"", STR_ARG(actual_), STR_ARG(expected_));        \
    } while (0)
