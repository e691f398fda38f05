/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/settings_domain.c - reading the `domains` section and domains_file, and finding the
 * domain that takes an address.
 */
#include "gateway/settings_internal.h"

#include "mail/address.h"

#include <stddef.h>

#define AT(member) offsetof(struct settings_domain_values, member)
static const struct option rows[] = {
    {.name = "aliases",
     .type = OPTION_TEXTS,
     .offset = AT(aliases),
     .text = "further names of this domain"},
    {.name = "recipients",
     .type = OPTION_NODE,
     .offset = AT(recipients),
     .text = "recipient flow: its name, steps, or { preset: local-users, server: NAME }"},
    {.name = "content",
     .type = OPTION_NODE,
     .offset = AT(content),
     .text = "content flow: its name or steps; default: incoming (any: outgoing), which delivers"},
    {.name = "transport",
     .type = OPTION_REFERENCE,
     .offset = AT(transport),
     .text = "transport: its name, or { server: NAME } with settings of a transport",
     .required = true,
     .refers_to = "transports"},
    {.name = "allow_open_relay",
     .type = OPTION_TEXT,
     .offset = AT(allow_open_relay),
     .text = "reason why strangers may relay here: silences the proof, with a warning"},
    {0},
};
const struct option_table settings_domain_options = {
    .name = "domains.*",
    .text = "Who takes mail for a domain, and how. `any` stands for all others; "
            "{ preset: relay-authenticated } fills in the usual for it.",
    .options = rows,
    .size = sizeof(struct settings_domain_values),
};

/* ---- names ---- */

static void report_name(struct settings_loading *loading, struct config_place place,
                        struct str name)
{
    struct config_problem *problem = SETTINGS_ERROR(loading, "wrong-value", place,
                                                    "\"%.*s\" is not a domain name", STR_ARG(name));
    if (str_find(name, '@') >= 0)
        problem->fix = STR("write the part behind the @");
    else if (str_starts(name, STR("*")))
        problem->fix = STR("list the names, or use domains_file; `any` stands for all others");
    else if (str_ends(name, STR(".")))
        problem->fix = STR("remove the dot at the end");
}

/* Normal form of a name into the map of domains; false: reported. */
static bool add_name(struct settings_loading *loading, struct settings_domain *domain,
                     struct str name, struct config_place place)
{
    struct str normal;
    if (str_equal(name, STR("any")) || !mail_domain_normalize(loading->arena, name, &normal)) {
        report_name(loading, place, name);
        return false;
    }
    const struct settings_domain *other = map_get(&loading->settings->hidden->domains, normal);
    if (other) {
        SETTINGS_ERROR(loading, "duplicate-name", place, "\"%.*s\" is listed already, by \"%.*s\"",
                       STR_ARG(normal), STR_ARG(other->name))
            ->fix = STR("keep one of them");
        return false;
    }
    map_put(&loading->settings->hidden->domains, normal, domain);
    if (!domain->name.len)
        domain->name = normal;
    return true;
}

/* ---- one domain ---- */

/* Is there a listener that serves it and lacks a recipient flow for it? And one that has two? */
static void check_recipients(struct settings_loading *loading, const struct settings_domain *domain,
                             const struct config_node *given)
{
    const struct settings *settings = loading->settings;
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        const struct config_pair *deprecated = config_get_pair(listener->node, STR("recipients"));
        if (!listener->serves || !listener->serves[domain->index])
            continue;
        if (given && deprecated) {
            SETTINGS_ERROR(loading, "recipients-twice", deprecated->place,
                           "listener \"%.*s\" and domain \"%.*s\" both say which recipients exist",
                           STR_ARG(listener->name), STR_ARG(domain->name))
                ->fix = STR("remove the listener's");
        } else if (!given && !deprecated) {
            SETTINGS_ERROR(loading, "missing-key", domain->place,
                           "nothing says which recipients of \"%.*s\" exist", STR_ARG(domain->name))
                ->fix = domain->is_any
                            ? STR("add \"recipients: relay-authenticated\"")
                            : STR("add \"recipients: { preset: local-users, server: NAME }\"");
            return;
        }
    }
}

static void bind_flows(struct settings_loading *loading, struct settings_domain *domain,
                       const struct settings_domain_values *values)
{
    struct str owner = domain->name;
    if (values->recipients)
        domain->recipients =
            settings_resolve_flow(loading, FLOW_RECIPIENT, values->recipients, STR_EMPTY,
                                  arena_printf(loading->arena, "%.*s.recipients", STR_ARG(owner)));
    domain->content = settings_resolve_flow(
        loading, FLOW_CONTENT, values->content, domain->is_any ? STR("outgoing") : STR("incoming"),
        arena_printf(loading->arena, "%.*s.content", STR_ARG(owner)));
}

static void bind_domain(struct settings_loading *loading, const struct config_pair *pair,
                        struct settings_domain *domain)
{
    struct settings_domain_values *values =
        ARENA_NEW(loading->arena, struct settings_domain_values);
    domain->place = pair->place;
    domain->node = &pair->value;
    domain->values = values;
    domain->is_any = str_equal(pair->key, STR("any"));
    (void)!option_bind(&settings_domain_options, &pair->value, NULL, &loading->context, values);
    if (domain->is_any) {
        domain->name = STR("any");
        loading->settings->hidden->any = domain;
    } else if (!add_name(loading, domain, pair->key, pair->place)) {
        domain->name = pair->key;
    }
    for (size_t i = 0; i < values->aliases.count; i++) {
        if (domain->is_any)
            SETTINGS_ERROR(loading, "wrong-value", values->aliases.places[i],
                           "\"any\" has no aliases: it takes all other domains");
        else
            add_name(loading, domain, values->aliases.items[i], values->aliases.places[i]);
    }
    if (pair->value.kind != CONFIG_MAP)
        return;
    domain->allow_open_relay = values->allow_open_relay;
    domain->transport = settings_find_transport(loading->settings, values->transport);
    bind_flows(loading, domain, values);
    check_recipients(loading, domain, values->recipients);
}

/* ---- domains_file: a line is a name, and after a blank the listed domain that it is like ---- */

static struct settings_domain *find_listed(struct settings *settings, struct str name)
{
    for (size_t i = 0; i < settings->domain_count; i++) {
        struct settings_domain *domain = &settings->domains[i];
        if (!domain->is_any && (name.len == 0 || str_equal_nocase(domain->name, name)))
            return domain;
    }
    return NULL;
}

static void bind_domains_file(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    const struct config_node *node = config_get(loading->context.root, STR("domains_file"));
    struct option_texts lines;
    if (!settings->domains_file.len || !node ||
        !settings_read_lines(loading, settings->domains_file, node->place, &lines))
        return;
    for (size_t i = 0; i < lines.count; i++) {
        struct str line = lines.items[i];
        ptrdiff_t blank = str_find(line, ' ');
        struct str like = blank < 0 ? STR_EMPTY : str_trim(str_from(line, (size_t)blank));
        struct settings_domain *domain = find_listed(settings, like);
        if (domain) {
            add_name(loading, domain, blank < 0 ? line : str_slice(line, 0, (size_t)blank),
                     lines.places[i]);
            continue;
        }
        SETTINGS_ERROR(loading, "unknown-name", lines.places[i],
                       like.len ? "there is no domain \"%.*s\" under \"domains\""
                                : "%.*sthere is no domain whose settings these could have",
                       STR_ARG(like));
    }
}

/* ---- the section ---- */

static void bind_served(struct settings_loading *loading, const struct config_node *section)
{
    struct settings *settings = loading->settings;
    for (size_t i = 0; i < settings->listener_count; i++) {
        struct settings_listener *listener = &settings->listeners[i];
        const struct settings_listener_values *values = listener->values;
        bool all = !config_get(listener->node, STR("domains"));
        listener->serves =
            arena_alloc_array(loading->arena, section->count + 1, sizeof *listener->serves);
        for (size_t k = 0; k < section->count; k++) {
            listener->serves[k] = all;
            for (size_t n = 0; n < values->domains.count; n++)
                listener->serves[k] |= str_equal(values->domains.items[n], section->pairs[k].key);
        }
    }
}

void settings_bind_domains(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    const struct config_node *section = settings_section(loading, "domains");
    if (!section || section->count == 0) {
        if (!config_get(loading->context.root, STR("domains")) || section)
            SETTINGS_ERROR(loading, "missing-key", loading->context.root->place,
                           "there is no domain: every recipient would be refused")
                ->fix = STR("add \"domains:\"");
        return;
    }
    settings->domains =
        arena_alloc_array(loading->arena, section->count, sizeof *settings->domains);
    bind_served(loading, section);
    for (size_t i = 0; i < section->count; i++) {
        settings->domains[i].index = i;
        settings->domain_count = i + 1;
        bind_domain(loading, &section->pairs[i], &settings->domains[i]);
    }
    bind_domains_file(loading);
    const struct settings_domain *first = find_listed(settings, STR_EMPTY);
    if (!settings->postmaster.len && first)
        settings->postmaster =
            arena_printf(loading->arena, "postmaster@%.*s", STR_ARG(first->name));
}

/* ---- finding ---- */

const struct settings_domain *settings_find_domain(const struct settings *settings,
                                                   const struct settings_listener *listener,
                                                   struct str domain)
{
    const struct settings_domain *exact = map_get(&settings->hidden->domains, domain);
    if (exact && listener->serves[exact->index])
        return exact;
    const struct settings_domain *any = settings->hidden->any;
    return any && listener->serves[any->index] ? any : NULL;
}

const struct settings_domain *settings_route(const struct settings *settings, struct str domain)
{
    const struct settings_domain *exact = map_get(&settings->hidden->domains, domain);
    return exact ? exact : settings->hidden->any;
}

bool settings_is_listed(const struct settings *settings, struct str domain)
{
    return map_get(&settings->hidden->domains, domain) != NULL;
}

const struct flow *settings_recipient_flow(const struct settings_listener *listener,
                                           const struct settings_domain *domain)
{
    return domain->recipients ? domain->recipients : listener->recipients;
}
