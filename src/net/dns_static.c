/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_static.h"

#include "base/map.h"
#include "base/memory.h"
#include "net/dns_answer.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    struct str name;
    struct dns_mx *hosts; /* of "mx:name" */
    struct net_ip *ips;
    size_t count;
};

struct dns_statics {
    struct arena *arena;
    struct map mx, addresses; /* lower case name without final dot: struct entry */
};

static struct str without_dot(struct str name)
{
    return str_ends(name, STR(".")) ? str_slice(name, 0, name.len - 1) : name;
}

/* "10 mail.example.net", or "0 ." */
static bool parse_mx(struct str text, struct arena *arena, struct dns_mx *out)
{
    unsigned char wire[255];
    struct str rest = str_trim(text), number;
    uint64_t preference;
    if (!str_split(&rest, ' ', &number) || !rest.ptr || !str_to_uint(number, 65535, &preference))
        return false;
    struct str host = str_trim(rest);
    if (dns_name_to_wire(host, wire) == 0)
        return false;
    *out = (struct dns_mx){(unsigned)preference, arena_lower(arena, without_dot(host))};
    return true;
}

static enum result add(struct dns_statics *statics, const struct dns_static *from,
                       struct error *err)
{
    struct str prefix = STR("mx:");
    bool is_mx = str_starts_nocase(from->name, prefix);
    struct str name = without_dot(is_mx ? str_from(from->name, prefix.len) : from->name);
    struct entry *entry = ARENA_NEW(statics->arena, struct entry);
    entry->name = arena_lower(statics->arena, name);
    entry->count = from->count;
    entry->hosts = arena_alloc_array(statics->arena, from->count, sizeof entry->hosts[0]);
    entry->ips = arena_alloc_array(statics->arena, from->count, sizeof entry->ips[0]);
    for (size_t i = 0; i < from->count; i++) {
        bool good = is_mx ? parse_mx(from->values[i], statics->arena, &entry->hosts[i])
                          : net_ip_parse(from->values[i], &entry->ips[i]);
        if (!good)
            return fail(err, ERROR_PERMANENT, "static DNS name %.*s: \"%.*s\" is not %s",
                        STR_ARG(from->name), STR_ARG(from->values[i]),
                        is_mx ? "a preference and a host" : "an address");
    }
    (void)map_put(is_mx ? &statics->mx : &statics->addresses, entry->name, entry);
    return OK;
}

enum result dns_statics_new(const struct dns_static *entries, size_t count,
                            struct dns_statics **out_statics, struct error *err)
{
    struct dns_statics *statics = NEW(struct dns_statics);
    statics->arena = arena_new(0);
    map_init(&statics->mx);
    map_init(&statics->addresses);
    for (size_t i = 0; i < count; i++)
        if (add(statics, &entries[i], err) == FAILED) {
            dns_statics_free(statics);
            return FAILED;
        }
    *out_statics = statics;
    return OK;
}

void dns_statics_free(struct dns_statics *statics)
{
    if (!statics)
        return;
    map_done(&statics->mx);
    map_done(&statics->addresses);
    arena_free(statics->arena);
    free(statics);
}

static const struct entry *find(const struct map *map, struct str name, struct arena *arena)
{
    return map->count ? map_get(map, arena_lower(arena, without_dot(name))) : NULL;
}

bool dns_statics_mx(const struct dns_statics *statics, struct str domain, struct arena *arena,
                    struct dns_mx_answer *out)
{
    const struct entry *entry = find(&statics->mx, domain, arena);
    if (!entry) {
        if (!find(&statics->addresses, domain, arena))
            return false;
        *out = (struct dns_mx_answer){.status = DNS_NO_DATA};
        return true;
    }
    *out = (struct dns_mx_answer){.status = entry->count ? DNS_FOUND : DNS_NO_DATA};
    out->count = entry->count;
    out->hosts = arena_alloc_array(arena, entry->count, sizeof out->hosts[0]);
    for (size_t i = 0; i < entry->count; i++)
        out->hosts[i] =
            (struct dns_mx){entry->hosts[i].preference, arena_str(arena, entry->hosts[i].host)};
    return true;
}

bool dns_statics_addresses(const struct dns_statics *statics, struct str host, struct arena *arena,
                           struct dns_address_answer *out)
{
    const struct entry *entry = find(&statics->addresses, host, arena);
    if (!entry)
        return false;
    *out = (struct dns_address_answer){.status = entry->count ? DNS_FOUND : DNS_NO_DATA};
    out->count = entry->count;
    out->ips = arena_alloc_array(arena, entry->count, sizeof out->ips[0]);
    for (size_t i = 0; i < entry->count; i++)
        out->ips[i] = entry->ips[i];
    return true;
}

bool dns_statics_name(const struct dns_statics *statics, const struct net_ip *ip,
                      struct arena *arena, struct str *out_name)
{
    size_t cursor = 0;
    struct str name;
    void *value;
    while (map_next(&statics->addresses, &cursor, &name, &value)) {
        const struct entry *entry = value;
        for (size_t i = 0; i < entry->count; i++) {
            if (!net_ip_equal(&entry->ips[i], ip))
                continue;
            *out_name = arena_str(arena, entry->name);
            return true;
        }
    }
    return false;
}
