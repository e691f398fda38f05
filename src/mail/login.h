/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mail/login.h - names of accounts: one account, one name.
 *
 * Limits, shares, holds and what the history tells hang on the name as it was typed, but
 * directories compare loosely: to LDAP (RFC 4518) "anna", "anna ", and "anna" in full-width letters
 * are one user.
 */
#pragma once

#include "base/str.h"

/* Can nobody take it for another spelling of a name that differs in more than the case of ASCII
 * letters? No control characters, no blank at an end or behind a blank, and beyond ASCII only what
 * IDNA (RFC 5891, UTS 46) leaves as it is: lower case, composed, no compatibility forms. */
bool mail_login_is_plain(struct str login);
