/* SPDX-License-Identifier: Apache-2.0 */
#include "content/dmarc_rua.h"

#include "mail/address.h"

/* "!10m": the size that a destination takes. */
static bool read_limit(struct str text, uint64_t *out)
{
    unsigned shift = 0;
    if (text.len && !ascii_is_digit(text.ptr[text.len - 1])) {
        ptrdiff_t unit = str_find(STR("kmgt"), ascii_lower(text.ptr[text.len - 1]));
        if (unit < 0)
            return false;
        shift = 10 * ((unsigned)unit + 1);
        text = str_slice(text, 0, text.len - 1);
    }
    if (!str_to_uint(text, UINT64_MAX >> shift, out))
        return false;
    *out <<= shift;
    return true;
}

/* "mailto:d@example.net!10m" */
static bool read_uri(struct str uri, struct arena *arena, struct dmarc_rua *out,
                     struct str *out_domain)
{
    *out = (struct dmarc_rua){.address = STR_EMPTY};
    if (!str_starts_nocase(uri, STR("mailto:")))
        return false;
    uri = str_from(uri, 7);
    ptrdiff_t mark = str_find_last(uri, '!');
    if (mark >= 0 && !read_limit(str_from(uri, (size_t)mark + 1), &out->max_bytes))
        return false;
    out->address = arena_str(arena, mark >= 0 ? str_slice(uri, 0, (size_t)mark) : uri);
    ptrdiff_t at = str_find_last(out->address, '@');
    for (size_t i = 0; i < out->address.len; i++) /* no header, no list, nothing to decode */
        if (out->address.ptr[i] <= ' ' || out->address.ptr[i] > 126 ||
            str_find(STR("<>,;:\"\\%?()[]"), out->address.ptr[i]) >= 0)
            return false;
    return at > 0 && out->address.len <= 254 &&
           mail_domain_normalize(arena, str_from(out->address, (size_t)at + 1), out_domain);
}

static bool is_within(struct str domain, struct str organization)
{
    if (str_equal(domain, organization))
        return true;
    return organization.len && domain.len > organization.len && str_ends(domain, organization) &&
           domain.ptr[domain.len - organization.len - 1] == '.';
}

/* <domain>._report._dmarc.<where> says v=DMARC1? */
static enum result is_welcome(struct resolver *resolver, struct str domain, struct str where,
                              struct arena *arena, bool *out, struct error *err) MAY_YIELD
{
    struct resolver_answer answer;
    struct str name =
        arena_printf(arena, "%.*s._report._dmarc.%.*s", STR_ARG(domain), STR_ARG(where));
    *out = false;
    if (resolver_ask(resolver, RESOLVER_TXT, name, arena, &answer, err) != OK)
        return FAILED;
    for (size_t i = 0; answer.status == DNS_FOUND && i < answer.count; i++)
        *out = *out || dmarc_record_is_dmarc(answer.texts[i]);
    return OK;
}

enum result dmarc_rua_read(struct resolver *resolver, struct str domain, struct str organization,
                           struct str rua, struct arena *arena,
                           struct dmarc_rua out[static DMARC_RUA_MAX], size_t *out_count,
                           struct error *err)
{
    struct str uri;
    *out_count = 0;
    while (*out_count < DMARC_RUA_MAX && rua.len && str_split(&rua, ',', &uri)) {
        struct str where;
        bool welcome = true;
        if (!read_uri(str_trim(uri), arena, &out[*out_count], &where))
            continue;
        if (!is_within(where, organization) &&
            is_welcome(resolver, domain, where, arena, &welcome, err) != OK)
            return FAILED;
        *out_count += welcome;
    }
    return OK;
}
