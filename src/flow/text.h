/* SPDX-License-Identifier: Apache-2.0 */
/* flow/text.h - texts of the file put into messages: checked, encoded, filled in. */
#pragma once

#include "base/buf.h"
#include "flow/flow_internal.h"

/* Is it UTF-8 without control characters but tabs (and line ends, where allowed)? */
bool flow_text_is_clean(struct str text, bool lines_allowed);
bool flow_text_is_ascii(struct str text);
/* As it may stand in an unstructured header field: ASCII as it is, else encoded words of at most 75
 * characters (RFC 2047), folded. */
void flow_text_encode(struct str text, struct buf *out);
/* Appends `text` as UTF-8 for a body: what is no UTF-8 or a control character becomes ?, line ends
 * become CRLF, lines are cut at 900 bytes. */
void flow_text_append(struct str text, struct buf *out);
/* An address that the file names, in its key form; reports if it is none. */
bool flow_compile_address(struct flow_compiling *compiling, struct str text,
                          struct config_place place, struct mail_recipient *out);
