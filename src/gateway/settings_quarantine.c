/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/settings_quarantine.c - the section `quarantines`: limits, who may release, digests.
 */
#include "gateway/settings_internal.h"

#include "base/clock.h"
#include "mail/address.h"

#include <stddef.h>

#define AT(member) offsetof(struct settings_quarantine, member)

static const struct option_word full_words[] = {
    {"oldest", SETTINGS_FULL_OLDEST}, {"defer", SETTINGS_FULL_DEFER}, {0}};
static const struct option_word release_words[] = {
    {"admin", SETTINGS_RELEASE_ADMIN}, {"recipient", SETTINGS_RELEASE_RECIPIENT}, {0}};
static const struct option_word digest_words[] = {
    {"none", SETTINGS_DIGEST_NONE}, {"daily", SETTINGS_DIGEST_DAILY}, {0}};

static const struct option quarantine_rows[] = {
    {.name = "keep",
     .type = OPTION_DURATION,
     .offset = AT(keep_ns),
     .text = "how long mail stays in it, from its acceptance; older mail is removed",
     .fallback = "30d",
     .min = NS_PER_S,
     .max = INT64_C(3660) * 86400 * NS_PER_S},
    {.name = "size",
     .type = OPTION_SIZE,
     .offset = AT(size),
     .text = "bytes of mail in it at most",
     .fallback = "10G",
     .min = 1 << 16,
     .max = INT64_C(1) << 50},
    {.name = "when_full",
     .type = OPTION_WORD,
     .offset = AT(when_full),
     .text = "over `size`: `oldest`: the oldest mail in it is removed; `defer`: what would come "
             "into it is answered 452. Mail larger than `size` is deferred in any case",
     .fallback = "oldest",
     .words = full_words},
    {.name = "release_by",
     .type = OPTION_WORD,
     .offset = AT(release_by),
     .text = "who may let mail out of it: `admin`, with the command or the API; `recipient`: the "
             "recipients as well, by the links of digests",
     .fallback = "admin",
     .words = release_words},
    {.name = "digest",
     .type = OPTION_WORD,
     .offset = AT(digest),
     .text = "lists of what is new, sent to the recipients at your domains; only with "
             "`release_by: recipient`",
     .fallback = "none",
     .words = digest_words},
    {.name = "digest_at",
     .type = OPTION_DURATION,
     .offset = AT(digest_at_ns),
     .text = "when digests are sent, after midnight UTC",
     .fallback = "6h",
     .min = 0,
     .max = INT64_C(86399) * NS_PER_S},
    {.name = "digest_from",
     .type = OPTION_TEXT,
     .offset = AT(digest_from),
     .text = "author of digests, an address; default: postmaster"},
    {.name = "link",
     .type = OPTION_TEXT,
     .offset = AT(link),
     .text = "where recipients reach the pages behind the links, as in https://mail.example.org: "
             "something there passes /quarantine/ on to an address of `admin: { listen }`"},
    {0},
};
const struct option_table settings_quarantine_options = {
    .name = "quarantines.*",
    .text = "A place for mail that waits for a decision. What lies in it is encrypted.",
    .options = quarantine_rows,
    .size = sizeof(struct settings_quarantine),
};

static struct config_place place_of(const struct settings_quarantine *quarantine, const char *key)
{
    const struct config_node *value = config_get(quarantine->node, str_c(key));
    return value ? value->place : quarantine->place;
}

/* It becomes part of links: https, or http for a proxy on the way, a host, no blanks or quotes. */
static bool is_link(struct str link)
{
    bool secure = str_starts(link, STR("https://"));
    size_t scheme = secure ? 8 : 7;
    if ((!secure && !str_starts(link, STR("http://"))) || link.len == scheme || link.len > 500)
        return false;
    for (size_t i = 0; i < link.len; i++) {
        char c = link.ptr[i];
        if (c <= ' ' || c > 126 || c == '"' || c == '\'' || c == '<' || c == '>' || c == '?' ||
            c == '#')
            return false;
    }
    return true;
}

static bool is_address(struct settings_loading *loading, struct str text)
{
    struct mail_address address;
    return mail_address_parse(loading->arena, text, false, false, &address) == MAIL_ADDRESS_OK &&
           address.kind == MAIL_DOMAIN_NAME;
}

static void check_digest(struct settings_loading *loading, struct settings_quarantine *quarantine)
{
    const struct settings *settings = loading->settings;
    while (str_ends(quarantine->link, STR("/")))
        quarantine->link.len--;
    if (quarantine->link.len && !is_link(quarantine->link))
        SETTINGS_ERROR(loading, "wrong-value", place_of(quarantine, "link"),
                       "link: not of the form https://mail.example.org");
    if (quarantine->digest_from.len && !is_address(loading, quarantine->digest_from))
        SETTINGS_ERROR(loading, "wrong-value", place_of(quarantine, "digest_from"),
                       "digest_from is not an address");
    if (quarantine->digest == SETTINGS_DIGEST_NONE)
        return;
    if (quarantine->release_by != SETTINGS_RELEASE_RECIPIENT)
        SETTINGS_ERROR(loading, "wrong-value", place_of(quarantine, "digest"),
                       "a digest is for recipients, who may not release from this quarantine")
            ->fix = STR("add release_by: recipient, or remove digest");
    if (!quarantine->link.len)
        SETTINGS_ERROR(loading, "missing", place_of(quarantine, "digest"),
                       "a digest needs to know where its links go")
            ->fix = STR("add link: https://mail.example.org");
    if (!settings->admin.address_count)
        SETTINGS_WARNING(loading, "no-listener", place_of(quarantine, "digest"),
                         "nothing serves the links: there is no admin: { listen }");
}

void settings_bind_quarantines(struct settings_loading *loading)
{
    const struct config_node *section = settings_section(loading, "quarantines");
    struct settings *settings = loading->settings;
    if (!section)
        return;
    settings->quarantines =
        arena_alloc_array(loading->arena, section->count + 1, sizeof *settings->quarantines);
    settings->quarantine_count = section->count;
    for (size_t i = 0; i < section->count; i++) {
        struct settings_quarantine *quarantine = &settings->quarantines[i];
        quarantine->name = section->pairs[i].key;
        quarantine->place = section->pairs[i].place;
        quarantine->node = &section->pairs[i].value;
        if (option_bind(&settings_quarantine_options, quarantine->node, NULL, &loading->context,
                        quarantine) == OK)
            check_digest(loading, quarantine);
    }
}

const struct settings_quarantine *settings_find_quarantine(const struct settings *settings,
                                                           struct str name)
{
    for (size_t i = 0; i < settings->quarantine_count; i++) {
        if (str_equal(settings->quarantines[i].name, name))
            return &settings->quarantines[i];
    }
    return NULL;
}
