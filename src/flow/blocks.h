/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks.h - the rows of the files in blocks/. */
#pragma once

#include "flow/flow_internal.h"

extern const struct flow_block flow_block_smtp;
extern const struct flow_block flow_block_file;
extern const struct flow_block flow_block_ldap;
extern const struct flow_block flow_block_accept;
extern const struct flow_block flow_block_reject;
extern const struct flow_block flow_block_defer;
extern const struct flow_block flow_block_deliver;
extern const struct flow_block flow_block_discard;
extern const struct flow_block flow_block_hold;
extern const struct flow_block flow_block_lookup_smtp;
extern const struct flow_block flow_block_lookup_file;
extern const struct flow_block flow_block_lookup_ldap;
extern const struct flow_block flow_block_limit;
extern const struct flow_block flow_block_match;
extern const struct flow_block flow_block_header;
extern const struct flow_block flow_block_dkim_sign;
extern const struct flow_block flow_block_arc_seal;
extern const struct flow_block flow_block_spf;
extern const struct flow_block flow_block_verify;
extern const struct flow_block flow_block_antivirus;
extern const struct flow_block flow_block_antispam;
