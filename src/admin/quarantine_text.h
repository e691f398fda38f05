/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/quarantine_text.h - mail in quarantine as people read of it: the digest, and the page
 * behind a link. Everything about a message comes from whoever sent it, and is written so that it
 * can do no harm: no markup, no line ends, no turned-round writing, no link that can be clicked.
 */
#pragma once

#include "base/buf.h"
#include "queue/queue.h"

struct digest_item {
    const struct queue_item *item;
    struct str url; /* of its page */
};
struct digest {
    struct str from, to, hostname, quarantine;
    struct digest_item *items;
    size_t count;
    size_t left_out; /* that are new, too */
    int64_t keep_ns;
};
enum { DIGEST_ITEMS_MAX = 200, DIGEST_MESSAGE_MAX = 6 * 1024 * 1024 };

/* The message, canonical; text and HTML. The largest there can be has less than
 * DIGEST_MESSAGE_MAX bytes. */
void quarantine_digest_write(const struct digest *digest, struct buf *out);

/* A page with a title and a paragraph. */
void quarantine_page_write(struct str title, struct str text, struct buf *out);
/* The page of a message, with a form that posts to where the page came from. */
void quarantine_page_message(const struct queue_item *item, struct str recipient, struct buf *out);

/* `text` for people, as a part of HTML or of plain text; at most 300 bytes of it. */
void quarantine_text_html(struct str text, struct buf *out);
void quarantine_text_plain(struct str text, struct buf *out);
