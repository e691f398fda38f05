/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mail/seven_bit.h - a message with 8-bit text, rewritten for a host without 8BITMIME (RFC 6152 3).
 */
#pragma once

#include "mail/body.h"

struct arena;

/*
 * Every leaf part with bytes over 127 becomes quoted-printable (text) or base64 (RFC 2045); the
 * rest stays byte for byte. `out` is filled when *out_why is NULL: its head is the header section,
 * its body, a new reference, what stands behind. Else *out_why (static) says why it cannot be done:
 * a signature would break (of the message, or of a part: RFC 1847), the header section itself is
 * not ASCII, the structure is broken or too deep, the message is larger than 16 MiB. FAILED: the
 * content could not be read.
 */
enum result mail_to_seven_bit(struct arena *arena, const struct mail_content *in,
                              struct mail_content *out, const char **out_why,
                              struct error *err) MAY_YIELD;

/* Is there a byte over 127 in it? */
enum result mail_has_eight_bit(const struct mail_content *content, bool *out_has,
                               struct error *err) MAY_YIELD;
