/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/check.h - asserts that stay on in release, for our own mistakes only, never for input.
 *
 * A failed check aborts: the supervisor starts the child again, and nothing acknowledged is lost.
 */
#pragma once

#define check(condition)                                                                           \
    ((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__, __func__))

/* Write what failed to standard error and abort. */
_Noreturn void check_failed(const char *condition, const char *file, int line,
                            const char *function);
