/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/link.h - what supervisor and child say to each other, over a socket pair of packets.
 *
 * The supervisor keeps the listening sockets, so that a dead child's connections queue up instead
 * of being refused; the child asks for them by address, at start and at reload alike.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"
#include "gateway/settings.h"
#include "net/address.h"

enum link_kind {
    LINK_WANT = 1, /* child: give me these listening sockets */
    LINK_SOCKET,   /* supervisor: one socket, or the text of why not */
    LINK_READY,    /* child: mail is accepted; sockets not wanted last time may be closed */
    LINK_RELOADED, /* child: a reload has ended, for better or worse */
};

enum { LINK_TEXT_MAX = 256 };

struct link_packet {
    int kind;
    unsigned count;
    struct net_address addresses[SETTINGS_ADDRESSES_MAX];
    char text[LINK_TEXT_MAX]; /* SOCKET: empty, or an error */
};

/* Two connected ends; close-on-exec. */
enum result link_open(int out_ends[2], struct error *err);
/* `fd` goes along unless it is -1. Blocks. */
enum result link_send(int end, const struct link_packet *packet, int fd, struct error *err);
/* Blocks. FAILED with ERROR_CANCELLED when the other end is closed. *out_fd is -1 or the caller's.
 */
enum result link_receive(int end, struct link_packet *out_packet, int *out_fd, struct error *err);
