/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum result fail(struct error *err, enum error_kind kind, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        err->kind = kind;
    }
    return FAILED;
}

static enum error_kind kind_of_errno(int number)
{
    switch (number) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOSPC:
    case EDQUOT:
        return ERROR_LIMIT;
    case ETIMEDOUT:
        return ERROR_TIMEOUT;
    default:
        return ERROR_TEMPORARY;
    }
}

enum result fail_errno(struct error *err, int number, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        char reason[128];
        snprintf(err->text + used, sizeof err->text - used, ": %s",
                 strerror_r(number, reason, sizeof reason));
        err->kind = kind_of_errno(number);
    }
    return FAILED;
}

enum result fail_context(struct error *err, const char *format, ...)
{
    if (err) {
        char inner[sizeof err->text];
        memcpy(inner, err->text, sizeof inner);
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", inner);
    }
    return FAILED;
}

const char *error_kind_name(enum error_kind kind)
{
    static const char *const names[] = {
        [ERROR_NONE] = "none",           [ERROR_TEMPORARY] = "temporary",
        [ERROR_PERMANENT] = "permanent", [ERROR_TIMEOUT] = "timeout",
        [ERROR_CANCELLED] = "cancelled", [ERROR_LIMIT] = "limit",
        [ERROR_PROTOCOL] = "protocol",
    };
    return names[kind];
}
