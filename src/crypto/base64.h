/* SPDX-License-Identifier: Apache-2.0 */
/* crypto/base64.h - strict base64 (RFC 4648): no junk, right padding, no line ends. */
#pragma once

#include "base/buf.h"

/* False for anything that is not exactly base64, or that does not fit. */
bool base64_decode(struct str text, struct buf *out);
void base64_encode(struct str data, struct buf *out);
