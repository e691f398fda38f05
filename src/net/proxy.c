/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy.h"

#include <string.h>

/* https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt, sections 2.1 and 2.2 */
static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";

enum { V1_MAX = 107, V2_HEAD = 16, V2_MAX = 2048, SIGNATURE_SIZE = sizeof signature - 1 };

/* One field of a v1 line: fields are parted by exactly one blank. */
static bool next_field(struct str *rest, struct str *out)
{
    return rest->ptr && str_split(rest, ' ', out) && out->len > 0;
}

static bool next_ip(struct str *rest, bool v6, struct net_ip *out)
{
    struct str field;
    if (!next_field(rest, &field) || (str_find(field, ':') >= 0) != v6)
        return false;
    return net_ip_parse(field, out);
}

static bool next_port(struct str *rest, uint16_t *out)
{
    struct str field;
    uint64_t port;
    if (!next_field(rest, &field) || (field.len > 1 && field.ptr[0] == '0') ||
        !str_to_uint(field, 65535, &port))
        return false;
    *out = (uint16_t)port;
    return true;
}

/* `line` is what stands between "PROXY " and CRLF. */
static enum proxy_result parse_v1_line(struct str line, struct net_address *out_client,
                                       struct net_address *out_local)
{
    struct net_address client = {0}, local = {0};
    struct str family;
    if (!next_field(&line, &family))
        return PROXY_INVALID;
    if (str_equal(family, STR("UNKNOWN")))
        return PROXY_UNKNOWN; /* the rest of the line is to be ignored */
    bool v6 = str_equal(family, STR("TCP6"));
    if (!v6 && !str_equal(family, STR("TCP4")))
        return PROXY_INVALID;
    if (!next_ip(&line, v6, &client.ip) || !next_ip(&line, v6, &local.ip) ||
        !next_port(&line, &client.port) || !next_port(&line, &local.port) || line.ptr)
        return PROXY_INVALID;
    *out_client = client;
    *out_local = local;
    return PROXY_CLIENT;
}

static enum proxy_result parse_v1(struct str input, size_t *out_used,
                                  struct net_address *out_client, struct net_address *out_local)
{
    struct str head = str_slice(input, 0, V1_MAX);
    ptrdiff_t end = str_find(head, '\n');
    if (end < 0)
        return input.len < V1_MAX ? PROXY_MORE : PROXY_INVALID;
    if (head.ptr[end - 1] != '\r')
        return PROXY_INVALID;
    enum proxy_result result =
        parse_v1_line(str_slice(head, 6, (size_t)end - 1), out_client, out_local);
    if (result != PROXY_INVALID)
        *out_used = (size_t)end + 1;
    return result;
}

static struct net_address binary_address(const unsigned char *ip, bool v6,
                                         const unsigned char *port)
{
    struct sockaddr_storage storage;
    socklen_t len;
    struct net_address address = {.ip.family = v6 ? 6 : 4};
    memcpy(address.ip.bytes, ip, v6 ? 16 : 4);
    address.port = (uint16_t)(port[0] << 8 | port[1]);
    if (!v6)
        return address;
    /* there and back makes mapped addresses IPv4 */
    net_address_to_sockaddr(&address, &storage, &len);
    net_address_from_sockaddr(&storage, &address);
    return address;
}

static enum proxy_result parse_v2(struct str input, size_t *out_used,
                                  struct net_address *out_client, struct net_address *out_local)
{
    enum { PROXY = 1, INET_STREAM = 0x11, INET6_STREAM = 0x21 };
    const unsigned char *bytes = (const unsigned char *)input.ptr;
    if (input.len > SIGNATURE_SIZE && bytes[12] >> 4 != 2)
        return PROXY_INVALID;
    if (input.len < V2_HEAD)
        return PROXY_MORE;
    unsigned command = bytes[12] & 0xf, family = bytes[13];
    size_t size = (size_t)(bytes[14] << 8 | bytes[15]);
    if (command > PROXY || family >> 4 > 3 || (family & 0xf) > 2 || V2_HEAD + size > V2_MAX)
        return PROXY_INVALID;
    bool v6 = family == INET6_STREAM;
    bool known = command == PROXY && (v6 || family == INET_STREAM);
    size_t ip_size = v6 ? 16 : 4;
    if (known && size < 2 * ip_size + 4)
        return PROXY_INVALID;
    if (input.len < V2_HEAD + size)
        return PROXY_MORE;
    *out_used = V2_HEAD + size;
    if (!known)
        return PROXY_UNKNOWN;
    const unsigned char *ips = bytes + V2_HEAD, *ports = ips + 2 * ip_size;
    *out_client = binary_address(ips, v6, ports);
    *out_local = binary_address(ips + ip_size, v6, ports + 2);
    return PROXY_CLIENT;
}

/* Do both agree as far as the shorter one goes? */
static bool agrees(struct str input, struct str beginning)
{
    size_t len = input.len < beginning.len ? input.len : beginning.len;
    return len == 0 || memcmp(input.ptr, beginning.ptr, len) == 0;
}

enum proxy_result proxy_parse(struct str input, size_t *out_used, struct net_address *out_client,
                              struct net_address *out_local)
{
    struct str v1 = STR("PROXY "), v2 = {signature, SIGNATURE_SIZE};
    if (input.len == 0)
        return PROXY_MORE;
    if (agrees(input, v1))
        return input.len < v1.len ? PROXY_MORE : parse_v1(input, out_used, out_client, out_local);
    if (agrees(input, v2))
        return input.len < v2.len ? PROXY_MORE : parse_v2(input, out_used, out_client, out_local);
    return PROXY_INVALID;
}
