/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/proxy.h - the PROXY protocol, versions 1 and 2, as a pure parser.
 */
#pragma once

#include "net/address.h"

enum proxy_result {
    PROXY_MORE,    /* not complete: read more, up to 108 (v1) or 16 + 65,535 (v2, capped 2K) */
    PROXY_INVALID, /* no valid header: close the connection */
    PROXY_UNKNOWN, /* v1 UNKNOWN or v2 LOCAL or another family: the client is not known */
    PROXY_CLIENT,  /* `out_client` and `out_local` are filled */
};

/* `*out_used`: bytes of the header, on UNKNOWN and CLIENT. */
enum proxy_result proxy_parse(struct str input, size_t *out_used, struct net_address *out_client,
                              struct net_address *out_local);
