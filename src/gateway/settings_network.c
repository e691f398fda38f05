/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/settings_network.c - networks whose clients are believed: trusted_networks with their
 * rules, and our own addresses.
 */
#include "gateway/settings_internal.h"

#include <stddef.h>

struct network_values {
    struct str network;
    struct str reason;
};
static const struct option network_rows[] = {
    {.name = "network",
     .type = OPTION_TEXT,
     .offset = offsetof(struct network_values, network),
     .text = "network, as 192.0.2.0/24 or 2001:db8::/48",
     .required = true},
    {.name = "reason",
     .type = OPTION_TEXT,
     .offset = offsetof(struct network_values, reason),
     .text = "why so many may be trusted"},
    {0},
};
const struct option_table settings_network_options = {
    .name = "trusted_networks.*",
    .text = "Clients that count as own users.",
    .options = network_rows,
    .shorthand = "network",
    .size = sizeof(struct network_values),
};

static bool parse_network(struct settings_loading *loading, struct str text,
                          struct config_place place, struct net_network *out)
{
    if (net_network_parse(text, out))
        return true;
    struct config_problem *problem =
        SETTINGS_ERROR(loading, "wrong-value", place, "\"%.*s\" is not a network", STR_ARG(text));
    ptrdiff_t slash = str_find(text, '/');
    struct net_ip ip;
    problem->fix = slash > 0 && net_ip_parse(str_slice(text, 0, (size_t)slash), &ip)
                       ? STR("bits behind the prefix must be zero, as in 192.0.2.0/24")
                       : STR("write an address, or ADDRESS/BITS as in 192.0.2.0/24");
    return false;
}

void settings_read_networks(struct settings_loading *loading, const struct option_texts *texts,
                            struct net_network **out, size_t *out_count)
{
    *out = arena_alloc_array(loading->arena, texts->count + 1, sizeof **out);
    *out_count = 0;
    for (size_t i = 0; i < texts->count; i++) {
        if (parse_network(loading, texts->items[i], texts->places[i], &(*out)[*out_count]))
            (*out_count)++;
    }
}

/* ---- rules for trusted networks ---- */

static bool contains(const struct net_network *outer, const struct net_network *inner)
{
    return outer->bits <= inner->bits && net_network_has(outer, &inner->ip);
}

static bool is_private(const struct net_network *network)
{
    static const char *const blocks[] = {
        "10.0.0.0/8",    "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16",
        "100.64.0.0/10", "fc00::/7",      "fe80::/10",      "::1/128",
    };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        struct net_network block;
        if (net_network_parse(str_c(blocks[i]), &block) && contains(&block, network))
            return true;
    }
    return false;
}

bool settings_network_is_wide(const struct net_network *network)
{
    return network->bits == 0 ||
           (!is_private(network) && network->bits < (network->ip.family == 4 ? 24 : 48));
}

static bool overlaps(const struct net_network *network, const struct net_network *others,
                     size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (contains(network, &others[i]) || contains(&others[i], network))
            return true;
    return false;
}

static const char *network_fault(const struct settings_loading *loading,
                                 const struct net_network *network)
{
    const struct settings *settings = loading->settings;
    if (network->bits == 0)
        return "this trusts the whole world";
    if (settings_network_is_wide(network))
        return "this trusts more public addresses than a /24 or a /48";
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct smtp_server_settings *smtp = &settings->listeners[i].smtp;
        if (overlaps(network, smtp->proxy_from, smtp->proxy_from_count))
            return "this trusts the address of a proxy, behind which anybody may be";
        if (overlaps(network, smtp->xclient_from, smtp->xclient_from_count))
            return "this trusts the address of a front end (xclient), behind which anybody may be";
    }
    return NULL;
}

static void bind_network(struct settings_loading *loading, const struct config_node *node)
{
    struct settings *settings = loading->settings;
    struct network_values values = {STR_EMPTY, STR_EMPTY};
    struct net_network network;
    if (option_bind(&settings_network_options, node, NULL, &loading->context, &values) == FAILED ||
        !parse_network(loading, values.network, node->place, &network))
        return;
    settings->trusted[settings->trusted_count++] = network;
    const char *fault = network_fault(loading, &network);
    if (fault && !str_trim(values.reason).len)
        SETTINGS_ERROR(loading, "trusted-network", node->place, "%s", fault)->fix =
            arena_printf(loading->report->arena,
                         "name a smaller network, or write { network: \"%.*s\", reason: \"WHY\" }",
                         STR_ARG(values.network));
}

void settings_bind_trusted(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    const struct config_node *node = config_get(loading->context.root, STR("trusted_networks"));
    if (!node || node->is_null)
        return;
    const struct config_node *items = node->kind == CONFIG_LIST ? node->items : node;
    size_t count = node->kind == CONFIG_LIST ? node->count : 1;
    settings->trusted = arena_alloc_array(loading->arena, count + 1, sizeof *settings->trusted);
    for (size_t i = 0; i < count; i++)
        bind_network(loading, &items[i]);
    for (size_t i = 0; i < settings->listener_count; i++) {
        settings->listeners[i].smtp.trusted = settings->trusted;
        settings->listeners[i].smtp.trusted_count = settings->trusted_count;
    }
}

/* ---- our own addresses ---- */

static bool is_unspecified(const struct net_ip *ip)
{
    for (size_t i = 0; i < sizeof ip->bytes; i++) {
        if (ip->bytes[i])
            return false;
    }
    return ip->family != 0;
}

static bool is_interface(const struct settings *settings, const struct net_ip *ip)
{
    if (net_ip_is_loopback(ip) || is_unspecified(ip))
        return true;
    for (size_t i = 0; i < settings->hidden->interface_count; i++) {
        if (net_ip_equal(&settings->hidden->interfaces[i], ip))
            return true;
    }
    return false;
}

static bool listens_on(const struct settings *settings, const struct net_address *own,
                       const struct net_address *address)
{
    if (own->port != address->port)
        return false;
    if (!is_unspecified(&own->ip))
        return net_ip_equal(&own->ip, &address->ip);
    /* [::] takes IPv4 too, where the system says so: better one loop found too many */
    return (own->ip.family == 6 || own->ip.family == address->ip.family) &&
           is_interface(settings, &address->ip);
}

bool settings_is_own_address(const struct settings *settings, const struct net_address *address)
{
    for (size_t i = 0; i < settings->own_address_count; i++) {
        const struct net_address *own = &settings->own_addresses[i];
        if (net_ip_equal(&own->ip, &address->ip) && (!own->port || own->port == address->port))
            return true;
    }
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        for (size_t k = 0; k < listener->address_count; k++) {
            if (listens_on(settings, &listener->addresses[k], address))
                return true;
        }
    }
    return false;
}
