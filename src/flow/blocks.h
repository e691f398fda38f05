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
extern const struct flow_block flow_block_copy;
extern const struct flow_block flow_block_disclaimer;
extern const struct flow_block flow_block_srs;
extern const struct flow_block flow_block_dnsbl;
extern const struct flow_block flow_block_greylist;
extern const struct flow_block flow_block_notify;
extern const struct flow_block flow_block_rewrite;
extern const struct flow_block flow_block_route;
extern const struct flow_block flow_block_script;
extern const struct flow_block flow_block_sender_match;
extern const struct flow_block flow_block_subject_tag;
extern const struct flow_block flow_block_contain;
extern const struct flow_block flow_block_hold;
extern const struct flow_block flow_block_quarantine;
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
extern const struct flow_block flow_block_milter;
extern const struct flow_block flow_block_http;
extern const struct flow_block flow_block_attachment;
