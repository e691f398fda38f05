/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mail/seven_bit.h - a message with 8-bit text, rewritten for a host without 8BITMIME (RFC 6152 3).
 */
#pragma once

#include "mail/body.h"

struct arena;

/*
 * Every leaf part with bytes over 127 becomes quoted-printable (text) or base64 (RFC 2045); the
 * rest stays byte for byte. `out` is filled when *out_why is NULL: its head is empty, its body is a
 * new reference. Else *out_why (static) says why it cannot be done: a foreign signature would
 * break, the header section itself is not ASCII, the structure is broken or too deep, the message
 * is larger than 16 MiB. FAILED: the content could not be read.
 */
enum result mail_to_seven_bit(struct arena *arena, const struct mail_content *in,
                              struct mail_content *out, const char **out_why,
                              struct error *err) MAY_YIELD;
