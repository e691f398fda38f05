/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mail/idn.h - the door to libidn2: U-labels to A-labels (RFC 5890, 5891).
 */
#pragma once

#include "base/arena.h"

/* Lower-case A-labels of a domain that holds UTF-8; false if it is not valid IDNA. */
bool mail_idn_to_ascii(struct arena *arena, struct str domain, struct str *out);
/* Would IDNA write this word (one label, beyond ASCII) as it is, but for the case of ASCII letters?
 * False also for what it forbids. */
bool mail_idn_is_stable(struct str word);
