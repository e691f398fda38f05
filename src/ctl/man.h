/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/man.h - Markdown as the tables of the code print it, for man and for a terminal.
 *
 * Knows what those pages use, not Markdown at large: headings, paragraphs, lists one deep, tables,
 * `code` and links.
 */
#pragma once

#include "base/str.h"

struct buf;

struct man_page {
    const char *name; /* "postern.yaml" */
    const char *section;
    const char *text;     /* one line for NAME */
    const char *synopsis; /* Markdown */
    const char *examples; /* likewise: a list */
    const char *see_also; /* in man's own language */
};

/* Append the page in the man(7) language, clean for groff and mandoc. */
void man_print(const struct man_page *page, struct str markdown, struct buf *out);
/* Append it as plain text. */
void man_print_plain(struct str markdown, struct buf *out);
