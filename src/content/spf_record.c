/* SPDX-License-Identifier: Apache-2.0 */
#include "content/spf_record.h"

#include "content/spf_macro.h"

#include <arpa/inet.h>
#include <string.h>

bool spf_record_is_spf(struct str text)
{
    struct str version = STR("v=spf1");
    return str_starts_nocase(text, version) &&
           (text.len == version.len || text.ptr[version.len] == ' ');
}

/* ---- prefix lengths ---- */

/* Decimal without leading zeros. */
static bool read_bits(struct str digits, unsigned max, unsigned char *out)
{
    uint64_t value;
    if (digits.len == 0 || digits.len > 3 || (digits.len > 1 && digits.ptr[0] == '0') ||
        !str_to_uint(digits, max, &value))
        return false;
    *out = (unsigned char)value;
    return true;
}

static size_t digits_at_end(struct str text)
{
    size_t count = 0;
    while (count < text.len && ascii_is_digit(text.ptr[text.len - 1 - count]))
        count++;
    return count;
}

/* Take "/24", "//64" or "/24//64" off the end of what stands behind "a" or "mx". A slash that is
 * no prefix length stays, and the domain-spec is judged with it. */
static bool take_bits(struct str *text, struct spf_term *term)
{
    term->bits4 = 32;
    term->bits6 = 128;
    size_t digits = digits_at_end(*text);
    if (digits && str_ends(str_slice(*text, 0, text->len - digits), STR("//"))) {
        if (!read_bits(str_from(*text, text->len - digits), 128, &term->bits6))
            return false;
        text->len -= digits + 2;
        digits = digits_at_end(*text);
    }
    if (digits && str_ends(str_slice(*text, 0, text->len - digits), STR("/"))) {
        if (!read_bits(str_from(*text, text->len - digits), 32, &term->bits4))
            return false;
        text->len -= digits + 1;
    }
    return true;
}

/* ---- mechanisms ---- */

static bool parse_all(struct str rest, struct spf_term *term)
{
    (void)term;
    return rest.len == 0;
}

/* ":domain-spec", necessary */
static bool parse_domain(struct str rest, struct spf_term *term)
{
    if (!str_starts(rest, STR(":")))
        return false;
    term->domain = str_from(rest, 1);
    return spf_macro_is_domain_spec(term->domain);
}

static bool parse_ptr(struct str rest, struct spf_term *term)
{
    return rest.len == 0 || parse_domain(rest, term);
}

static bool parse_host(struct str rest, struct spf_term *term)
{
    return take_bits(&rest, term) && (rest.len == 0 || parse_domain(rest, term));
}

static bool parse_network(struct str rest, int family, struct spf_term *term)
{
    char text[64];
    unsigned max = family == AF_INET ? 32 : 128;
    if (!str_starts(rest, STR(":")))
        return false;
    struct str ip = str_from(rest, 1);
    ptrdiff_t slash = str_find(ip, '/');
    term->network.bits = (unsigned char)max;
    if (slash >= 0 && !read_bits(str_from(ip, (size_t)slash + 1), max, &term->network.bits))
        return false;
    if (slash >= 0)
        ip.len = (size_t)slash;
    term->network.ip.family = family == AF_INET ? 4 : 6;
    return str_to_c(ip, text, sizeof text) && inet_pton(family, text, term->network.ip.bytes) == 1;
}

static bool parse_ip4(struct str rest, struct spf_term *term)
{
    return parse_network(rest, AF_INET, term);
}

static bool parse_ip6(struct str rest, struct spf_term *term)
{
    return parse_network(rest, AF_INET6, term);
}

static const struct mechanism {
    const char *name;
    bool (*parse)(struct str rest, struct spf_term *term);
} mechanisms[] = {
    [SPF_ALL] = {"all", parse_all}, [SPF_INCLUDE] = {"include", parse_domain},
    [SPF_A] = {"a", parse_host},    [SPF_MX] = {"mx", parse_host},
    [SPF_PTR] = {"ptr", parse_ptr}, [SPF_IP4] = {"ip4", parse_ip4},
    [SPF_IP6] = {"ip6", parse_ip6}, [SPF_EXISTS] = {"exists", parse_domain},
};

static enum spf_result read_qualifier(struct str *text)
{
    static const struct {
        char sign;
        enum spf_result result;
    } signs[] = {{'+', SPF_PASS}, {'-', SPF_FAIL}, {'~', SPF_SOFTFAIL}, {'?', SPF_NEUTRAL}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (text->len == 0 || text->ptr[0] != signs[i].sign)
            continue;
        *text = str_from(*text, 1);
        return signs[i].result;
    }
    return SPF_PASS;
}

static size_t name_length(struct str text)
{
    size_t len = 0;
    while (len < text.len && (ascii_is_alpha(text.ptr[len]) ||
                              (len > 0 && (ascii_is_digit(text.ptr[len]) ||
                                           str_find(STR("-_."), text.ptr[len]) >= 0))))
        len++;
    return len;
}

static bool parse_directive(struct str text, struct spf_term *term)
{
    *term = (struct spf_term){.text = text};
    term->qualifier = read_qualifier(&text);
    size_t len = name_length(text);
    for (size_t i = 0; i < sizeof mechanisms / sizeof *mechanisms; i++) {
        if (!str_equal_nocase(str_slice(text, 0, len), str_c(mechanisms[i].name)))
            continue;
        term->mechanism = (enum spf_mechanism)i;
        return mechanisms[i].parse(str_from(text, len), term);
    }
    return false;
}

/* ---- modifiers ---- */

static bool set_once(struct str *slot, struct str value)
{
    if (slot->ptr || !spf_macro_is_domain_spec(value))
        return false;
    *slot = value;
    return true;
}

static bool parse_modifier(struct str name, struct str value, struct spf_record *out)
{
    if (str_equal_nocase(name, STR("redirect")))
        return set_once(&out->redirect, value);
    if (str_equal_nocase(name, STR("exp")))
        return set_once(&out->exp, value);
    return spf_macro_is_valid(value, SPF_MACRO_NAME);
}

static bool parse_term(struct str text, struct spf_record *out)
{
    size_t len = name_length(text);
    if (len > 0 && len < text.len && text.ptr[len] == '=')
        return parse_modifier(str_slice(text, 0, len), str_from(text, len + 1), out);
    return parse_directive(text, &out->terms[out->count++]);
}

bool spf_record_parse(struct str text, struct arena *arena, struct spf_record *out,
                      struct str *out_bad)
{
    struct str rest = str_from(text, 6), term;
    size_t room = 1;
    for (size_t i = 0; i < rest.len; i++)
        room += rest.ptr[i] == ' ';
    *out = (struct spf_record){.terms = arena_alloc_array(arena, room, sizeof(struct spf_term))};
    while (str_split(&rest, ' ', &term)) {
        if (term.len == 0 || parse_term(term, out))
            continue;
        *out_bad = term;
        return false;
    }
    return true;
}
