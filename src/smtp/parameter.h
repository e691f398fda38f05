/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/parameter.h - the parameters of MAIL and RCPT (SIZE, BODY, SMTPUTF8, DSN, AUTH) read into
 * the envelope. Pure.
 */
#pragma once

#include "base/arena.h"
#include "mail/envelope.h"
#include "mail/reply.h"

/* Fill the fields of `sender` that parameters set (RFC 1870, 6152, 6531, 3461, 4954). False: the
 * reply says what is wrong; its text is static. */
bool smtp_parameter_mail(struct str parameters, struct arena *arena, struct mail_sender *sender,
                         struct mail_reply *out_fault);
/* NOTIFY and ORCPT of RCPT (RFC 3461, 6533). `smtputf8`: the transaction has it. */
bool smtp_parameter_recipient(struct str parameters, bool smtputf8, struct arena *arena,
                              struct mail_recipient *recipient, struct mail_reply *out_fault);

/* Decode xtext (RFC 3461 4) into `arena`. False for anything that is not xtext or that decodes to
 * control characters; bytes over 127 are taken as they are with `allow_utf8`. */
bool smtp_xtext_decode(struct arena *arena, struct str text, bool allow_utf8, struct str *out);
