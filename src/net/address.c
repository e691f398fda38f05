/* SPDX-License-Identifier: Apache-2.0 */
#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static const unsigned char mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* Sixteen bytes of an IPv6 address, or the IPv4 address that is mapped into them. */
static struct net_ip ip_of_v6(const unsigned char bytes[16])
{
    struct net_ip ip = {.family = 6};
    if (memcmp(bytes, mapped_prefix, sizeof mapped_prefix) == 0) {
        ip.family = 4;
        memcpy(ip.bytes, bytes + 12, 4);
    } else {
        memcpy(ip.bytes, bytes, 16);
    }
    return ip;
}

static unsigned family_bits(unsigned char family)
{
    return family == 4 ? 32 : 128;
}

/* Decimal without leading zeros, so that every value has one spelling. */
static bool parse_number(struct str text, uint64_t max, uint64_t *out)
{
    if (text.len > 1 && text.ptr[0] == '0')
        return false;
    return str_to_uint(text, max, out);
}

/* `*out_mapped`: it was written as a mapped IPv6 address. */
static bool parse_ip(struct str text, struct net_ip *out, bool *out_mapped)
{
    char buffer[NET_IP_TEXT];
    unsigned char bytes[16];
    if (text.len == 0 || !str_to_c(text, buffer, sizeof buffer))
        return false;
    *out_mapped = false;
    if (str_find(text, ':') < 0) {
        if (inet_pton(AF_INET, buffer, bytes) != 1)
            return false;
        *out = (struct net_ip){.family = 4};
        memcpy(out->bytes, bytes, 4);
        return true;
    }
    if (inet_pton(AF_INET6, buffer, bytes) != 1)
        return false;
    *out = ip_of_v6(bytes);
    *out_mapped = out->family == 4;
    return true;
}

bool net_ip_parse(struct str text, struct net_ip *out)
{
    bool mapped;
    return parse_ip(text, out, &mapped);
}

/* By hand: every session and every attempt tells its addresses. */
static size_t put_number(char *at, unsigned number)
{
    size_t len = number >= 10000  ? 5
                 : number >= 1000 ? 4
                 : number >= 100  ? 3
                 : number >= 10   ? 2
                                  : 1;
    for (size_t i = len; i-- > 0; number /= 10)
        at[i] = (char)('0' + number % 10);
    return len;
}

static size_t put_ipv4(char *out, const unsigned char bytes[4])
{
    char *at = out;
    for (int i = 0; i < 4; i++) {
        if (i)
            *at++ = '.';
        at += put_number(at, bytes[i]);
    }
    *at = 0;
    return (size_t)(at - out);
}

struct str net_ip_format(const struct net_ip *ip, char out[NET_IP_TEXT])
{
    out[0] = 0;
    if (ip->family == 4)
        return str_of(out, put_ipv4(out, ip->bytes));
    else if (ip->family == 6)
        inet_ntop(AF_INET6, ip->bytes, out, NET_IP_TEXT);
    return str_c(out);
}

bool net_ip_equal(const struct net_ip *a, const struct net_ip *b)
{
    if (a->family != b->family)
        return false;
    return memcmp(a->bytes, b->bytes, family_bits(a->family) / 8) == 0;
}

bool net_ip_is_loopback(const struct net_ip *ip)
{
    static const unsigned char one[16] = {[15] = 1};
    if (ip->family == 4)
        return ip->bytes[0] == 127;
    return ip->family == 6 && memcmp(ip->bytes, one, 16) == 0;
}

struct prefix {
    unsigned char bytes[8];
    unsigned char bits;
};

/* The first `bits` bits of both are the same. */
static bool same_bits(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8) != 0)
        return false;
    if (bits % 8 == 0)
        return true;
    unsigned mask = 0xffu << (8 - bits % 8) & 0xffu;
    return ((a[bits / 8] ^ b[bits / 8]) & mask) == 0;
}

static bool in_prefixes(const unsigned char *bytes, const struct prefix *prefixes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (same_bits(bytes, prefixes[i].bytes, prefixes[i].bits))
            return true;
    return false;
}

/* IANA's registry of special purpose addresses, what is not globally reachable. */
static const struct prefix private_v4[] = {
    {{0}, 8},
    {{10}, 8},
    {{100, 64}, 10},
    {{127}, 8},
    {{169, 254}, 16},
    {{172, 16}, 12},
    {{192, 0, 0}, 24},
    {{192, 0, 2}, 24},
    {{192, 168}, 16},
    {{198, 18}, 15},
    {{198, 51, 100}, 24},
    {{203, 0, 113}, 24},
    {{192, 88, 99}, 24},
    {{224}, 4},
    {{240}, 4},
};
static const struct prefix private_v6[] = {
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x3f, 0xff, 0x00}, 20},       /* documentation, RFC 9637 */
    {{0x20, 0x01, 0x00}, 23},       /* protocol assignments, Teredo among them */
};

static bool is_private_v4(const unsigned char *bytes)
{
    return in_prefixes(bytes, private_v4, sizeof private_v4 / sizeof private_v4[0]);
}

bool net_ip_is_private(const struct net_ip *ip)
{
    static const struct prefix global = {{0x20}, 3};
    static const struct prefix six_to_four = {{0x20, 0x02}, 16};
    static const unsigned char nat64[12] = {0, 0x64, 0xff, 0x9b};
    if (ip->family == 4)
        return is_private_v4(ip->bytes);
    if (ip->family != 6)
        return true;
    /* translated addresses are as private as what is inside them */
    if (memcmp(ip->bytes, nat64, sizeof nat64) == 0)
        return is_private_v4(ip->bytes + 12);
    if (same_bits(ip->bytes, six_to_four.bytes, six_to_four.bits))
        return is_private_v4(ip->bytes + 2);
    if (!same_bits(ip->bytes, global.bytes, global.bits))
        return true;
    return in_prefixes(ip->bytes, private_v6, sizeof private_v6 / sizeof private_v6[0]);
}

static bool parse_unix(struct str path, struct net_address *out)
{
    if (path.len == 0 || path.ptr[0] != '/')
        return false;
    *out = (struct net_address){0};
    return str_to_c(path, out->unix_path, sizeof out->unix_path);
}

/* Part "[…]" or "…" of an address; `*out_rest` is what follows: "" or ":port". */
static bool split_host(struct str text, struct net_ip *ip, struct str *out_rest)
{
    if (text.len && text.ptr[0] == '[') {
        ptrdiff_t end = str_find(text, ']');
        if (end < 0)
            return false;
        struct str inner = str_slice(text, 1, (size_t)end);
        *out_rest = str_from(text, (size_t)end + 1);
        return str_find(inner, ':') >= 0 && net_ip_parse(inner, ip);
    }
    *out_rest = STR_EMPTY;
    if (net_ip_parse(text, ip))
        return true; /* no port; IPv6 without brackets too */
    ptrdiff_t colon = str_find(text, ':');
    if (colon < 0)
        return false;
    *out_rest = str_from(text, (size_t)colon);
    return net_ip_parse(str_slice(text, 0, (size_t)colon), ip);
}

bool net_address_parse(struct str text, uint16_t default_port, struct net_address *out)
{
    if (str_starts(text, STR("unix:")))
        return parse_unix(str_from(text, 5), out);
    struct net_address address = {0};
    struct str rest;
    if (!split_host(text, &address.ip, &rest))
        return false;
    uint64_t port = default_port;
    if (rest.len && (rest.ptr[0] != ':' || !parse_number(str_from(rest, 1), 65535, &port)))
        return false;
    if (port == 0)
        return false;
    address.port = (uint16_t)port;
    *out = address;
    return true;
}

struct str net_address_format(const struct net_address *address, char out[NET_ADDRESS_TEXT])
{
    char ip[NET_IP_TEXT];
    out[0] = 0;
    if (address->ip.family == 4 && !address->unix_path[0]) {
        size_t len = put_ipv4(out, address->ip.bytes);
        out[len++] = ':';
        len += put_number(out + len, address->port);
        out[len] = 0;
        return str_of(out, len);
    }
    if (address->unix_path[0])
        snprintf(out, NET_ADDRESS_TEXT, "unix:%s", address->unix_path);
    else if (address->ip.family == 6)
        snprintf(out, NET_ADDRESS_TEXT, "[%s]:%u", net_ip_format(&address->ip, ip).ptr,
                 address->port);
    return str_c(out);
}

static bool host_bits_are_zero(const struct net_ip *ip, unsigned bits)
{
    for (unsigned bit = bits; bit < family_bits(ip->family); bit++)
        if (ip->bytes[bit / 8] & 0x80u >> bit % 8)
            return false;
    return true;
}

bool net_network_parse(struct str text, struct net_network *out)
{
    ptrdiff_t slash = str_find(text, '/');
    struct net_ip ip;
    bool mapped;
    if (!parse_ip(slash < 0 ? text : str_slice(text, 0, (size_t)slash), &ip, &mapped))
        return false;
    uint64_t bits = family_bits(ip.family);
    if (slash >= 0) {
        /* a mapped network counts from the start of the IPv6 address; shorter than the mapping
         * prefix it would be neither family */
        unsigned skip = mapped ? 96 : 0;
        if (!parse_number(str_from(text, (size_t)slash + 1), bits + skip, &bits) || bits < skip)
            return false;
        bits -= skip;
    }
    if (!host_bits_are_zero(&ip, (unsigned)bits))
        return false;
    *out = (struct net_network){.ip = ip, .bits = (unsigned char)bits};
    return true;
}

bool net_network_has(const struct net_network *network, const struct net_ip *ip)
{
    return network->ip.family == ip->family && ip->family != 0 &&
           same_bits(network->ip.bytes, ip->bytes, network->bits);
}

bool net_networks_have(const struct net_network *networks, size_t count, const struct net_ip *ip)
{
    for (size_t i = 0; i < count; i++)
        if (net_network_has(&networks[i], ip))
            return true;
    return false;
}

struct net_network net_client_network(const struct net_ip *ip)
{
    struct net_network network = {.ip.family = ip->family};
    network.bits = ip->family == 4 ? 24 : ip->family == 6 ? 64 : 0;
    memcpy(network.ip.bytes, ip->bytes, network.bits / 8);
    return network;
}

void net_address_to_sockaddr(const struct net_address *address, struct sockaddr_storage *out,
                             socklen_t *out_len)
{
    memset(out, 0, sizeof *out);
    if (address->unix_path[0]) {
        struct sockaddr_un *local = (struct sockaddr_un *)out;
        local->sun_family = AF_UNIX;
        memcpy(local->sun_path, address->unix_path, sizeof local->sun_path);
        *out_len = sizeof *local;
    } else if (address->ip.family == 6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(address->port);
        memcpy(&in6->sin6_addr, address->ip.bytes, 16);
        *out_len = sizeof *in6;
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(address->port);
        memcpy(&in->sin_addr, address->ip.bytes, 4);
        *out_len = sizeof *in;
    }
}

void net_address_from_sockaddr(const struct sockaddr_storage *from, struct net_address *out)
{
    *out = (struct net_address){0};
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;
        out->ip.family = 4;
        memcpy(out->ip.bytes, &in->sin_addr, 4);
        out->port = ntohs(in->sin_port);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
        out->ip = ip_of_v6(in6->sin6_addr.s6_addr);
        out->port = ntohs(in6->sin6_port);
    } else if (from->ss_family == AF_UNIX) {
        const struct sockaddr_un *local = (const struct sockaddr_un *)from;
        memcpy(out->unix_path, local->sun_path, sizeof out->unix_path - 1);
    }
}
