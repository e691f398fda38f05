/* SPDX-License-Identifier: Apache-2.0 */
/* crypto/hmac.h - HMAC-SHA-256 (RFC 2104, FIPS 180-4), for keys that must not show what they hide.
 */
#pragma once

#include "base/str.h"

enum { HMAC_SIZE = 32 };
void hmac_sha256(struct str key, struct str data, unsigned char out[HMAC_SIZE]);
