/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/sockets.h - the listening sockets that the supervisor keeps, by address.
 */
#pragma once

#include "base/error.h"
#include "gateway/settings.h"
#include "net/address.h"

/* At a reload those of before and those of after are open for a moment, beside what systemd gave.
 */
enum { SOCKETS_MAX = 3 * SETTINGS_ADDRESSES_MAX };

struct sockets {
    struct {
        struct net_address address;
        int fd;
        bool adopted; /* opened by somebody else, who gives it once: kept to the end */
        bool wanted;  /* since the last sockets_forget_wishes() */
    } items[SOCKETS_MAX];
    unsigned count;
};

/* The socket that listens on `address`, bound now if there is none yet. It stays the set's. */
enum result sockets_get(struct sockets *sockets, const struct net_address *address, int *out_fd,
                        struct error *err);
/* Take over a socket that listens on `address`; false: no room, or there is one already. */
bool sockets_adopt(struct sockets *sockets, const struct net_address *address, int fd);
void sockets_forget_wishes(struct sockets *sockets);
/* Close those that nobody asked for since sockets_forget_wishes(). */
void sockets_close_unwanted(struct sockets *sockets);
void sockets_close_all(struct sockets *sockets);
