/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/command.h - a command line of SMTP taken apart (RFC 5321 4.1), without any state.
 *
 * Pure: bytes in, slices of them out. What a verb may do when is decided by the server; addresses
 * are parsed by mail/address.h, parameters of MAIL and RCPT by smtp/parameter.h.
 */
#pragma once

#include "base/str.h"

enum smtp_verb {
    SMTP_VERB_UNKNOWN,
    SMTP_VERB_HELO,
    SMTP_VERB_EHLO,
    SMTP_VERB_STARTTLS,
    SMTP_VERB_AUTH,
    SMTP_VERB_MAIL,
    SMTP_VERB_RCPT,
    SMTP_VERB_DATA,
    SMTP_VERB_BDAT,
    SMTP_VERB_RSET,
    SMTP_VERB_NOOP,
    SMTP_VERB_QUIT,
    SMTP_VERB_VRFY,
    SMTP_VERB_EXPN,
    SMTP_VERB_HELP,
    SMTP_VERB_ETRN,
    SMTP_VERB_XCLIENT,
    SMTP_VERB_HTTP, /* a web client, or somebody who uses one against us */
    SMTP_VERB_COUNT
};

struct smtp_command {
    enum smtp_verb verb;
    struct str name;      /* the verb as it came */
    struct str arguments; /* behind the verb, without blanks around it */
};

/* `line` without its line end. Never fails: what is no command is SMTP_VERB_UNKNOWN. */
struct smtp_command smtp_command_parse(struct str line);
/* "EHLO"; "?" for UNKNOWN and HTTP. */
struct str smtp_verb_name(enum smtp_verb verb);

/* Take "FROM:<path> parameters" apart (`keyword` is "FROM" or "TO"). The path is without < and >,
 * quoted strings in it may hold both. False: no such form. */
bool smtp_command_path(struct str arguments, struct str keyword, struct str *out_path,
                       struct str *out_parameters);

/* One esmtp-param (RFC 5321 4.1.2). */
struct smtp_parameter {
    struct str keyword;
    struct str value;
    bool has_value;
};
enum smtp_parameter_step { SMTP_PARAMETER_END, SMTP_PARAMETER_ONE, SMTP_PARAMETER_BAD };
/* Take the next parameter off `*rest`. Bytes over 127 are let through in values (RFC 6531). */
enum smtp_parameter_step smtp_parameter_next(struct str *rest, struct smtp_parameter *out);

/* The size of a chunk (RFC 3030): "1234", "1234 LAST". False for anything else, and for sizes over
 * 2^63 - 1. */
bool smtp_command_chunk(struct str arguments, uint64_t *out_size, bool *out_last);
