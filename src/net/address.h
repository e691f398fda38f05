/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/address.h - IP addresses, socket addresses and networks; v4-mapped IPv6 counts as IPv4.
 */
#pragma once

#include "base/str.h"

#include <sys/socket.h>

struct net_ip {
    unsigned char bytes[16]; /* IPv4 in the first four */
    unsigned char family;    /* 4, 6, or 0 for none */
};

struct net_address {
    struct net_ip ip;
    uint16_t port;
    char unix_path[108]; /* not empty: a Unix socket, ip.family 0 */
};

struct net_network {
    struct net_ip ip;
    unsigned char bits;
};

enum { NET_IP_TEXT = 48, NET_ADDRESS_TEXT = 128 };

bool net_ip_parse(struct str text, struct net_ip *out);
struct str net_ip_format(const struct net_ip *ip, char out[NET_IP_TEXT]);
bool net_ip_equal(const struct net_ip *a, const struct net_ip *b);
bool net_ip_is_loopback(const struct net_ip *ip);
/* Loopback, link-local, private, unique-local, unspecified, multicast, shared 100.64/10 and other
 * space that no public MX has. */
bool net_ip_is_private(const struct net_ip *ip);

/* "192.0.2.1:25", "[::]:25", "unix:/run/x"; `default_port` 0 makes the port necessary. */
bool net_address_parse(struct str text, uint16_t default_port, struct net_address *out);
struct str net_address_format(const struct net_address *address, char out[NET_ADDRESS_TEXT]);

/* "10.0.0.0/8", "192.0.2.7" (a /32); host bits must be zero. */
bool net_network_parse(struct str text, struct net_network *out);
bool net_network_has(const struct net_network *network, const struct net_ip *ip);
bool net_networks_have(const struct net_network *networks, size_t count, const struct net_ip *ip);
/* The network of a client for limits: /24 of IPv4, /64 of IPv6. */
struct net_network net_client_network(const struct net_ip *ip);

void net_address_to_sockaddr(const struct net_address *address, struct sockaddr_storage *out,
                             socklen_t *out_len);
void net_address_from_sockaddr(const struct sockaddr_storage *from, struct net_address *out);
