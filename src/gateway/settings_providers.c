/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/settings_providers.c - the section `providers`: large receivers by the names of their
 * hosts, for numbers. A recipient's domain is never a label; who runs its MX hosts may be.
 */
#include "gateway/settings_internal.h"

#include "mail/address.h"

#include <stddef.h>

enum { PROVIDERS_MAX = 30, SUFFIXES_MAX = 300, NAME_MAX_LEN = 32 };

/* The hosts that MX records of their customers name, as their own manuals say. */
static const struct {
    const char *name;
    const char *suffixes[6];
} shipped[] = {
    {"google", {"google.com", "googlemail.com"}},
    {"microsoft", {"outlook.com", "mx.microsoft"}},
    {"yahoo", {"yahoodns.net"}},
    {"apple", {"icloud.com"}},
    {"ionos", {"gmx.net", "web.de", "kundenserver.de", "perfora.net", "ionos.com"}},
    {"t-online", {"t-online.de"}},
    {"proofpoint", {"pphosted.com", "ppe-hosted.com"}},
    {"mimecast", {"mimecast.com"}},
    {"barracuda", {"barracudanetworks.com"}},
    {"cisco", {"iphmx.com"}},
    {"amazon", {"amazonaws.com"}},
    {"zoho", {"zoho.com", "zoho.eu"}},
    {"fastmail", {"messagingengine.com"}},
};
enum { SHIPPED_COUNT = sizeof shipped / sizeof *shipped };

struct provider_values {
    struct option_texts hosts;
};
static const struct option provider_rows[] = {
    {.name = "hosts",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct provider_values, hosts),
     .text = "names of its MX hosts, or of the domain above them; an empty list: it is none",
     .required = true},
    {0},
};
const struct option_table settings_provider_options = {
    .name = "providers.*",
    .text =
        "Large receivers, for the label `provider` of numbers about deliveries by MX; whoever "
        "is none of them is `other`. These are known without it, and an entry of the same name "
        "stands in place of the one here: google (google.com, googlemail.com), microsoft "
        "(outlook.com, mx.microsoft), yahoo (yahoodns.net), apple (icloud.com), ionos (gmx.net, "
        "web.de, kundenserver.de, perfora.net, ionos.com), t-online (t-online.de), proofpoint "
        "(pphosted.com, ppe-hosted.com), mimecast (mimecast.com), barracuda "
        "(barracudanetworks.com), cisco (iphmx.com), amazon (amazonaws.com), zoho (zoho.com, "
        "zoho.eu), fastmail (messagingengine.com).",
    .options = provider_rows,
    .shorthand = "hosts",
    .size = sizeof(struct provider_values),
};

static bool is_name(struct str name)
{
    bool good = name.len > 0 && name.len <= NAME_MAX_LEN && !str_equal(name, STR("other"));
    for (size_t i = 0; i < name.len && good; i++) {
        char c = name.ptr[i];
        good = ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_';
    }
    return good;
}

static void add(struct settings_loading *loading, struct str name, struct str host)
{
    struct settings *settings = loading->settings;
    settings->providers[settings->provider_count++] =
        (struct settings_provider){.name = name, .suffix = host};
}

static void bind_provider(struct settings_loading *loading, const struct config_pair *pair)
{
    struct provider_values values = {0};
    struct str host;
    if (!is_name(pair->key)) {
        SETTINGS_ERROR(loading, "wrong-value", pair->place,
                       "\"%.*s\" is no name of a provider: letters, digits, - and _, at most %d, "
                       "and not \"other\"",
                       STR_ARG(str_slice(pair->key, 0, 100)), NAME_MAX_LEN);
        return;
    }
    if (option_bind(&settings_provider_options, &pair->value, NULL, &loading->context, &values) !=
        OK)
        return;
    for (size_t i = 0; i < values.hosts.count; i++) {
        if (loading->settings->provider_count == SUFFIXES_MAX) {
            SETTINGS_ERROR(loading, "too-many", values.hosts.places[i],
                           "there are more than %d hosts", SUFFIXES_MAX);
            return;
        }
        if (mail_domain_normalize(loading->arena, values.hosts.items[i], &host))
            add(loading, pair->key, host);
        else
            SETTINGS_ERROR(loading, "wrong-value", values.hosts.places[i],
                           "\"%.*s\" is not a host name",
                           STR_ARG(str_slice(values.hosts.items[i], 0, 100)));
    }
}

void settings_bind_providers(struct settings_loading *loading)
{
    const struct config_node *section = settings_section(loading, "providers");
    loading->settings->providers =
        arena_alloc_array(loading->arena, SUFFIXES_MAX, sizeof(struct settings_provider));
    if (section && section->count > PROVIDERS_MAX)
        SETTINGS_ERROR(loading, "too-many", section->pairs[PROVIDERS_MAX].place,
                       "at most %d: each is a series of every number about deliveries",
                       PROVIDERS_MAX);
    for (size_t i = 0; section && i < section->count && i < PROVIDERS_MAX; i++)
        bind_provider(loading, &section->pairs[i]);
    for (size_t i = 0; i < SHIPPED_COUNT; i++) {
        const char *const *suffixes = shipped[i].suffixes;
        if (section && config_get(section, str_c(shipped[i].name)))
            continue;
        for (size_t k = 0; k < 6 && suffixes[k] && loading->settings->provider_count < SUFFIXES_MAX;
             k++)
            add(loading, str_c(shipped[i].name), str_c(suffixes[k]));
    }
}

struct str settings_provider(const struct settings *settings, struct str host)
{
    for (size_t i = 0; i < settings->provider_count; i++) {
        struct str suffix = settings->providers[i].suffix;
        if (str_ends_nocase(host, suffix) &&
            (host.len == suffix.len || host.ptr[host.len - suffix.len - 1] == '.'))
            return settings->providers[i].name;
    }
    return STR("other");
}
