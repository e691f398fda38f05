/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks.c - the list of all blocks.
 *
 * A block is a file in blocks/ with one row; a new one is added here and in meson.build.
 */
#include "flow/blocks.h"

const struct flow_block *const flow_blocks[] = {
    /* authentication */
    &flow_block_smtp,
    &flow_block_file,
    &flow_block_ldap,
    /* recipient */
    &flow_block_accept,
    &flow_block_lookup_smtp,
    &flow_block_lookup_file,
    &flow_block_lookup_ldap,
    &flow_block_greylist,
    /* several */
    &flow_block_reject,
    &flow_block_defer,
    &flow_block_limit,
    &flow_block_contain,
    &flow_block_match,
    &flow_block_spf,
    &flow_block_dnsbl,
    &flow_block_rewrite,
    &flow_block_srs,
    &flow_block_route,
    &flow_block_script,
    /* content */
    &flow_block_deliver,
    &flow_block_discard,
    &flow_block_hold,
    &flow_block_quarantine,
    &flow_block_sender_match,
    &flow_block_header,
    &flow_block_subject_tag,
    &flow_block_disclaimer,
    &flow_block_copy,
    &flow_block_notify,
    &flow_block_dkim_sign,
    &flow_block_arc_seal,
    &flow_block_verify,
    &flow_block_antivirus,
    &flow_block_antispam,
    &flow_block_milter,
    &flow_block_http,
    &flow_block_attachment,
    NULL,
};

const struct flow_block *flow_block_find(struct str name)
{
    for (size_t i = 0; flow_blocks[i]; i++)
        if (str_equal(name, str_c(flow_blocks[i]->name)))
            return flow_blocks[i];
    return NULL;
}
