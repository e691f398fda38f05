/* SPDX-License-Identifier: Apache-2.0 */
/* content/mime_write.h - text as it goes into a part. */
#pragma once

#include "base/buf.h"

/* Append `text` as quoted-printable (RFC 2045 6.7): lines of at most 76 characters, line ends
 * (CRLF, or LF alone) as CRLF. */
void mime_quote(struct str text, struct buf *out);
/* Append the header section `own` with these two fields in place of its Content-Type and
 * Content-Transfer-Encoding; MIME-Version is added where `is_message` and it is missing. */
void mime_retype(struct str own, struct str type, struct str encoding, bool is_message,
                 struct buf *out);
