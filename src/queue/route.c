/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/route.c - MX lookup and the endpoints of a server.
 *
 * All hosts are looked up before the first is spoken to, since a better one decides whether a worse
 * one may be used at all; the resolver's cache makes that cheap.
 */
#include "queue/route.h"

#include <string.h>

static void fail_route(struct queue_route *route, struct mail_reply reply)
{
    route->status = QUEUE_ROUTE_FAILED;
    route->count = 0;
    route->reply = reply;
}

static void retry_route(struct queue_route *route, unsigned subject, unsigned detail,
                        struct str text)
{
    route->status = QUEUE_ROUTE_RETRY;
    route->count = 0;
    route->reply = (struct mail_reply){
        .enhanced = {4, (unsigned short)subject, (unsigned short)detail}, .text = text};
}

static void add_target(struct queue_route *route, const struct net_ip *ip, uint16_t port,
                       struct str host)
{
    struct queue_target *target = &route->targets[route->count++];
    *target = (struct queue_target){.host = host};
    target->address.ip = *ip;
    target->address.port = port;
}

/* ---- the choice among MX hosts ---- */

static bool is_own(const struct queue_route_host *host, const struct queue_route_rules *rules)
{
    struct net_address address = {.port = rules->port};
    for (size_t i = 0; i < host->ip_count; i++) {
        address.ip = host->ips[i];
        if (rules->is_own(rules->context, &address))
            return true;
    }
    return rules->own_port && str_equal_nocase(host->name, rules->hostname);
}

/* The preference from which on nothing may be used. */
static unsigned long own_preference(const struct queue_route_host *hosts, size_t count,
                                    const struct queue_route_rules *rules)
{
    for (size_t i = 0; i < count; i++)
        if (is_own(&hosts[i], rules))
            return hosts[i].preference;
    return ~0ul;
}

static struct mail_reply nothing_left(bool private_only, struct str name, struct arena *arena)
{
    if (private_only)
        return mail_reply_of(
            550, 5, 4, 4,
            arena_printf(arena, "%.*s has private addresses only, which this transport refuses",
                         STR_ARG(name)));
    return mail_reply_of(550, 5, 4, 4,
                         arena_printf(arena, "no host of %.*s has an address", STR_ARG(name)));
}

void queue_route_select(const struct queue_route_host *hosts, size_t count,
                        const struct queue_route_rules *rules, struct arena *arena,
                        struct queue_route *out)
{
    bool any_unknown = false, any_private = false;
    unsigned long limit = own_preference(hosts, count, rules);
    *out = (struct queue_route){.status = QUEUE_ROUTE_FOUND};
    out->targets = arena_alloc_array(arena, QUEUE_ROUTE_TARGETS, sizeof *out->targets);
    for (size_t i = 0; i < count && hosts[i].preference < limit; i++) {
        any_unknown |= hosts[i].unknown;
        size_t used = 0;
        for (size_t j = 0; j < hosts[i].ip_count && used < QUEUE_ROUTE_PER_HOST &&
                           out->count < QUEUE_ROUTE_TARGETS;
             j++) {
            if (!rules->allow_private && net_ip_is_private(&hosts[i].ips[j])) {
                any_private = true;
                continue;
            }
            add_target(out, &hosts[i].ips[j], rules->port, hosts[i].name);
            used++;
        }
    }
    if (out->count > 0)
        return;
    if (any_unknown)
        retry_route(out, 4, 3, STR("the name server does not answer for the mail hosts"));
    else if (limit != ~0ul)
        fail_route(out, mail_reply_of(550, 5, 4, 6, STR("mail for this domain loops back to us")));
    else
        fail_route(out,
                   nothing_left(any_private, count > 0 ? hosts[0].name : STR("the domain"), arena));
}

/* ---- asking ---- */

struct own_context {
    const struct queue_handler *handler;
    const struct queue_snapshot *snapshot;
};

static bool ask_own_port(const struct queue_handler *handler, const struct queue_snapshot *snapshot,
                         uint16_t port)
{
    struct net_address address = {.port = port, .ip = {.family = 4, .bytes = {127, 0, 0, 1}}};
    if (handler->is_own_port != NULL)
        return handler->is_own_port(snapshot, port);
    return handler->is_own_address != NULL && handler->is_own_address(snapshot, &address);
}

static bool ask_own(const void *context, const struct net_address *address)
{
    const struct own_context *own = context;
    return own->handler->is_own_address != NULL &&
           own->handler->is_own_address(own->snapshot, address);
}

/* Both families get a place among the few addresses of a host: they alternate. */
static void mix_families(struct net_ip *ips, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (ips[i].family != ips[i - 1].family)
            continue;
        for (size_t j = i + 1; j < count; j++) {
            if (ips[j].family == ips[i].family)
                continue;
            struct net_ip other = ips[j];
            memmove(&ips[i + 1], &ips[i], (j - i) * sizeof *ips);
            ips[i] = other;
            break;
        }
    }
}

/* Addresses of a name or an address as text. *out_none: there is no such name. */
static enum result find_addresses(struct dns *dns, struct str name, struct arena *arena,
                                  struct queue_route_host *host, bool *out_none,
                                  struct error *err) MAY_YIELD
{
    struct net_ip literal;
    struct dns_address_answer answer = {0};
    host->name = name;
    *out_none = false;
    if (net_ip_parse(name, &literal)) {
        struct net_ip *ip = ARENA_NEW(arena, struct net_ip);
        *ip = literal;
        host->ips = ip;
        host->ip_count = 1;
        return OK;
    }
    if (dns_query_addresses(dns, name, arena, &answer, err) == FAILED) {
        host->unknown = true;
        return fiber_check(err);
    }
    if (answer.status == DNS_FOUND) {
        mix_families(answer.ips, answer.count);
        host->ips = answer.ips;
        host->ip_count = answer.count;
    }
    *out_none = answer.status == DNS_NO_NAME;
    return OK;
}

static enum result find_implicit(struct dns *dns, struct str domain,
                                 const struct queue_route_rules *rules, struct arena *arena,
                                 struct queue_route *out, struct error *err) MAY_YIELD
{
    struct queue_route_host host = {0};
    bool none;
    if (find_addresses(dns, domain, arena, &host, &none, err) == FAILED)
        return FAILED;
    if (none)
        fail_route(out, mail_reply_of(550, 5, 1, 2, STR("the domain does not exist")));
    else
        queue_route_select(&host, 1, rules, arena, out);
    return OK;
}

static enum result find_mx(struct dns *dns, struct str domain,
                           const struct queue_route_rules *rules, struct arena *arena,
                           struct queue_route *out, struct error *err) MAY_YIELD
{
    struct dns_mx_answer answer = {0};
    if (domain.len > 2 && domain.ptr[0] == '[') { /* an address literal has no MX */
        struct str inside = str_slice(domain, 1, domain.len - 1);
        if (str_starts_nocase(inside, STR("ipv6:")))
            inside = str_from(inside, 5);
        return find_implicit(dns, inside, rules, arena, out, err);
    }
    if (dns_query_mx(dns, domain, arena, &answer, err) == FAILED) {
        retry_route(out, 4, 3,
                    arena_printf(arena, "no answer about the mail hosts of %.*s", STR_ARG(domain)));
        return fiber_check(err);
    }
    if (answer.status == DNS_NO_NAME) {
        fail_route(out, mail_reply_of(550, 5, 1, 2, STR("the domain does not exist")));
        return OK;
    }
    if (answer.status == DNS_NO_DATA || answer.count == 0)
        return find_implicit(dns, domain, rules, arena, out, err);
    if (answer.count == 1 && answer.hosts[0].host.len == 0) {
        fail_route(out, mail_reply_of(556, 5, 1, 10, STR("the domain takes no mail (null MX)")));
        return OK;
    }
    size_t count = answer.count < QUEUE_ROUTE_HOSTS ? answer.count : QUEUE_ROUTE_HOSTS;
    struct queue_route_host *hosts = arena_alloc_array(arena, count, sizeof *hosts);
    for (size_t i = 0; i < count; i++) {
        bool none;
        hosts[i].preference = answer.hosts[i].preference;
        if (find_addresses(dns, answer.hosts[i].host, arena, &hosts[i], &none, err) == FAILED)
            return FAILED;
    }
    queue_route_select(hosts, count, rules, arena, out);
    return OK;
}

static void add_unix(struct queue_route *out, struct str path)
{
    struct queue_target *target = &out->targets[out->count];
    *target = (struct queue_target){.host = STR("localhost")};
    if (str_to_c(path, target->address.unix_path, sizeof target->address.unix_path))
        out->count++;
}

/* A server's endpoints in the order of the file; whoever wrote them allows private ones. */
static enum result find_server(struct dns *dns, const struct server *server, struct arena *arena,
                               struct queue_route *out, struct error *err) MAY_YIELD
{
    *out = (struct queue_route){.status = QUEUE_ROUTE_FOUND};
    out->targets = arena_alloc_array(arena, QUEUE_ROUTE_TARGETS, sizeof *out->targets);
    for (size_t i = 0; i < server->endpoint_count && out->count < QUEUE_ROUTE_TARGETS; i++) {
        const struct server_endpoint *endpoint = &server->endpoints[i];
        struct queue_route_host host = {0};
        bool none;
        if (endpoint->unix_path.len > 0) {
            add_unix(out, endpoint->unix_path);
            continue;
        }
        if (find_addresses(dns, endpoint->host, arena, &host, &none, err) == FAILED)
            return FAILED;
        for (size_t j = 0;
             j < host.ip_count && j < QUEUE_ROUTE_PER_HOST && out->count < QUEUE_ROUTE_TARGETS; j++)
            add_target(out, &host.ips[j], endpoint->port, host.name);
    }
    if (out->count == 0) /* a wrong name in the file must not bounce mail */
        retry_route(out, 4, 4,
                    arena_printf(arena, "server %.*s has no address now", STR_ARG(server->name)));
    return OK;
}

enum result queue_route_find(struct dns *dns, const struct queue_handler *handler,
                             const struct queue_snapshot *snapshot,
                             const struct transport *transport, struct str domain,
                             struct arena *arena, struct queue_route *out, struct error *err)
{
    *out = (struct queue_route){0};
    if (transport->method != TRANSPORT_LOOKUP_MX)
        return find_server(dns, transport->server, arena, out, err);
    struct own_context own = {handler, snapshot};
    uint16_t port = (uint16_t)(transport->port == 0 ? 25 : transport->port);
    struct queue_route_rules rules = {
        .port = port,
        .own_port = ask_own_port(handler, snapshot, port),
        .allow_private = transport->allow_private,
        .hostname = handler->hostname(snapshot),
        .is_own = ask_own,
        .context = &own,
    };
    return find_mx(dns, domain, &rules, arena, out, err);
}
