/* SPDX-License-Identifier: Apache-2.0 */
/* content/suite_zone_test.h - a resolver for tests that plays a zone of rows. */
#pragma once

#include "content/resolver.h"

struct zone_record {
    struct str name;
    struct str type; /* "A" …, or "TIMEOUT": what else is asked of this name has no answer */
    struct str value;
};

#define ZONE_ROW(name, type, value)                                                                \
    {                                                                                              \
        {name, sizeof(name) - 1}, {type, sizeof(type) - 1},                                        \
        {                                                                                          \
            value, sizeof(value) - 1                                                               \
        }                                                                                          \
    }

struct zone {
    struct zone_record *records;
    size_t count;
    unsigned asked;
};

static const char *const zone_types[] = {"A", "AAAA", "MX", "PTR", "TXT"};

static inline void zone_add(struct arena *arena, enum resolver_type type, struct str value,
                            struct resolver_answer *out)
{
    ptrdiff_t blank = str_find(value, ' ');
    if (type == RESOLVER_A || type == RESOLVER_AAAA)
        (void)net_ip_parse(value, &out->ips[out->count]);
    else
        out->texts[out->count] =
            type == RESOLVER_MX ? str_from(value, (size_t)blank + 1) : arena_str(arena, value);
    out->count++;
}

static inline enum result zone_ask(void *context, enum resolver_type type, struct str name,
                                   struct arena *arena, struct resolver_answer *out,
                                   struct error *err)
{
    struct zone *zone = context;
    bool timeout = false, exists = false;
    *out = (struct resolver_answer){.status = DNS_NO_NAME};
    out->ips = arena_alloc_array(arena, zone->count + 1, sizeof out->ips[0]);
    out->texts = arena_alloc_array(arena, zone->count + 1, sizeof out->texts[0]);
    zone->asked++;
    if (str_ends(name, STR(".")))
        name.len--;
    for (unsigned hops = 0; hops < 10; hops++) {
        struct str target = STR_EMPTY;
        for (size_t i = 0; i < zone->count; i++) {
            const struct zone_record *record = &zone->records[i];
            if (!str_equal_nocase(record->name, name))
                continue;
            exists = true;
            timeout = timeout || str_equal(record->type, STR("TIMEOUT"));
            if (str_equal(record->type, str_c(zone_types[type])))
                zone_add(arena, type, record->value, out);
            else if (str_equal(record->type, STR("CNAME")))
                target = record->value;
        }
        if (out->count || timeout || target.len == 0)
            break;
        name = str_ends(target, STR(".")) ? str_slice(target, 0, target.len - 1) : target;
    }
    if (out->count == 0 && timeout)
        return fail(err, ERROR_TEMPORARY, "no answer");
    out->status = out->count ? DNS_FOUND : exists ? DNS_NO_DATA : DNS_NO_NAME;
    return OK;
}

static inline struct resolver zone_resolver(struct zone *zone)
{
    return (struct resolver){.ask = zone_ask, .context = zone, .budget = RESOLVER_BUDGET};
}
