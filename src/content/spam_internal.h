/* SPDX-License-Identifier: Apache-2.0 */
/* content/spam_internal.h - between spam.c and the two protocols. */
#pragma once

#include "base/buf.h"
#include "content/spam.h"

#include <stdlib.h>
#include <string.h>

enum { SPAM_HEAD_MAX = 1024 * 1024, SPAM_SYMBOLS_MAX = 1000, SPAM_SYMBOLS_SHOWN = 12 };

/* The question up to the message, of `size` bytes. */
void rspamd_write_head(const struct spam_question *question, const struct server_endpoint *endpoint,
                       uint64_t size, struct buf *out);
void spamd_write_head(const struct spam_question *question, uint64_t size, struct buf *out);

/* A finite decimal number. */
bool spam_read_number(struct str text, double *out);
/* The next line without its end; false when there is none. */
bool spam_next_line(struct str *rest, struct str *out_line);
