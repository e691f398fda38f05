/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/address.h"

#include "base/buf.h"
#include "mail/idn.h"

#include <arpa/inet.h>
#include <string.h>

enum { LOCAL_MAX = 64, DOMAIN_MAX = 255, PATH_MAX_OCTETS = 256, NAME_MAX_OCTETS = 253 };

/* ---- domains ---- */

static bool is_ascii(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] > 127)
            return false;
    }
    return true;
}

/* Letters, digits and inner hyphens (RFC 1123 2.1); an underscore is met in practice and harmless.
 */
static bool is_label(struct str label)
{
    if (label.len == 0 || label.len > 63 || label.ptr[0] == '-' || label.ptr[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++) {
        char c = label.ptr[i];
        if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '_')
            return false;
    }
    return true;
}

static bool is_domain_name(struct str domain)
{
    struct str rest = domain;
    struct str label;
    if (domain.len == 0 || domain.len > NAME_MAX_OCTETS)
        return false;
    while (str_split(&rest, '.', &label)) {
        if (!is_label(label))
            return false;
    }
    return true;
}

bool mail_domain_normalize(struct arena *arena, struct str domain, struct str *out)
{
    struct str ascii = domain;
    if (domain.len == 0 || domain.len > DOMAIN_MAX)
        return false;
    if (!is_ascii(domain) && !mail_idn_to_ascii(arena, domain, &ascii))
        return false;
    if (!is_domain_name(ascii))
        return false;
    *out = arena_lower(arena, ascii);
    return true;
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 4.1.3), written in one canonical way. */
static bool parse_literal(struct arena *arena, struct str text, struct str *out)
{
    char inner[64];
    unsigned char bytes[16];
    if (text.len < 3 || text.ptr[text.len - 1] != ']' ||
        !str_to_c(str_slice(text, 1, text.len - 1), inner, sizeof inner))
        return false;
    char canonical[INET6_ADDRSTRLEN];
    if (str_starts_nocase(str_c(inner), STR("IPv6:"))) {
        if (inet_pton(AF_INET6, inner + 5, bytes) != 1)
            return false;
        inet_ntop(AF_INET6, bytes, canonical, sizeof canonical);
        *out = arena_printf(arena, "[IPv6:%s]", canonical);
        return true;
    }
    if (inet_pton(AF_INET, inner, bytes) != 1)
        return false;
    *out = arena_printf(arena, "[%s]", inner);
    return true;
}

/* ---- local parts ---- */

/* Length of the UTF-8 sequence at `at`, or 0 if there is no valid one (RFC 3629). */
static size_t utf8_length(struct str text, size_t at)
{
    unsigned char lead = (unsigned char)text.ptr[at];
    size_t length = lead >= 0xf0 && lead <= 0xf4 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
    if (lead > 0xf4 || length == 0 || length > text.len - at)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if (((unsigned char)text.ptr[at + i] & 0xc0) != 0x80)
            return 0;
    }
    unsigned char second = (unsigned char)text.ptr[at + 1];
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
        (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
        return 0; /* overlong, surrogate, or beyond U+10FFFF */
    return length;
}

static bool is_atext(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) ||
           (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

struct local_scan {
    size_t length; /* of the local part; the @ (or the end) is behind it */
    bool utf8;
    bool quoted;
    bool routed;
};

/* One character of UTF-8, if allowed; moves *at. */
static bool scan_utf8(struct str text, size_t *at, bool allow_utf8, struct local_scan *scan)
{
    size_t length = allow_utf8 ? utf8_length(text, *at) : 0;
    *at += length;
    scan->utf8 = true;
    return length > 0;
}

static bool scan_quoted(struct str text, bool allow_utf8, struct local_scan *scan)
{
    size_t at = 1;
    scan->quoted = true;
    while (at < text.len && text.ptr[at] != '"') {
        unsigned char c = (unsigned char)text.ptr[at];
        if (c > 127) {
            if (!scan_utf8(text, &at, allow_utf8, scan))
                return false;
            continue;
        }
        if (c == '\\') {
            at++;
            if (at >= text.len)
                return false;
            c = (unsigned char)text.ptr[at];
        }
        if (c < 32 || c >= 127)
            return false;
        at++;
    }
    if (at >= text.len)
        return false;
    scan->length = at + 1;
    return true;
}

/* Dot-string; an @ inside (a@b@c) belongs to the local part and marks it as routed. There is
 * something before and behind it: written out, "@a@b" would be the begin of a source route. */
static bool scan_dot_string(struct str text, bool allow_utf8, struct local_scan *scan)
{
    ptrdiff_t last_at = str_find_last(text, '@');
    size_t end = last_at < 0 ? text.len : (size_t)last_at;
    bool after_mark = true;
    for (size_t at = 0; at < end;) {
        unsigned char c = (unsigned char)text.ptr[at];
        if (c > 127) {
            if (!scan_utf8(text, &at, allow_utf8, scan))
                return false;
            after_mark = false;
            continue;
        }
        bool is_mark = c == '.' || c == '@';
        if (is_mark && after_mark)
            return false;
        if (!is_mark && !is_atext((char)c))
            return false;
        if (c == '%' || c == '!' || c == '@')
            scan->routed = true;
        after_mark = is_mark;
        at++;
    }
    scan->length = end;
    return end > 0 && !after_mark;
}

/*
 * One mailbox, one name: a quoted string and what it says without quotes are the same (RFC 5321
 * 4.1.2), so it is written with the least quoting that there is. What stands in quotes is a route
 * all the same where one says so: mail servers that take the quotes off follow it.
 */
static struct str unquoted(struct arena *arena, struct str quoted, struct local_scan *scan)
{
    struct buf content BUF_CLEANUP;
    struct buf least BUF_CLEANUP;
    buf_init(&content, PATH_MAX_OCTETS);
    buf_init(&least, PATH_MAX_OCTETS);
    buf_append_byte(&least, '"');
    for (size_t i = 1; i + 1 < quoted.len; i++) {
        i += quoted.ptr[i] == '\\';
        buf_append_byte(&content, quoted.ptr[i]);
        if (quoted.ptr[i] == '"' || quoted.ptr[i] == '\\')
            buf_append_byte(&least, '\\');
        buf_append_byte(&least, quoted.ptr[i]);
        scan->routed |= quoted.ptr[i] == '@' || quoted.ptr[i] == '%' || quoted.ptr[i] == '!';
    }
    buf_append_byte(&least, '"');
    struct str text = buf_str(&content);
    struct local_scan plain = {0};
    scan->quoted =
        str_find(text, '@') >= 0 || !scan_dot_string(text, /* allow_utf8= */ true, &plain);
    return arena_str(arena, scan->quoted ? buf_str(&least) : text);
}

/* ---- the whole ---- */

/* "@one,@two:user@domain" (RFC 5321 appendix C): the route is dropped. */
static bool strip_source_route(struct str *text)
{
    if (text->len == 0 || text->ptr[0] != '@')
        return true;
    ptrdiff_t colon = str_find(*text, ':');
    if (colon < 0)
        return false;
    struct str route = str_slice(*text, 0, (size_t)colon);
    struct str hop;
    while (str_split(&route, ',', &hop)) {
        hop = str_trim(hop);
        if (hop.len < 2 || hop.ptr[0] != '@' || !is_domain_name(str_from(hop, 1)))
            return false;
    }
    *text = str_from(*text, (size_t)colon + 1);
    return true;
}

static enum mail_address_fault parse_domain(struct arena *arena, struct str domain, bool allow_utf8,
                                            struct str known, struct mail_address *address)
{
    if (domain.len == 0)
        return MAIL_ADDRESS_SYNTAX;
    if (domain.len > DOMAIN_MAX)
        return MAIL_ADDRESS_TOO_LONG;
    if (domain.ptr[0] != '[' && str_equal(domain, known)) {
        address->kind = MAIL_DOMAIN_NAME;
        address->domain = known;
        return MAIL_ADDRESS_OK;
    }
    if (domain.ptr[0] == '[') {
        address->kind = MAIL_DOMAIN_LITERAL;
        return parse_literal(arena, domain, &address->domain) ? MAIL_ADDRESS_OK
                                                              : MAIL_ADDRESS_BAD_DOMAIN;
    }
    if (!is_ascii(domain)) {
        if (!allow_utf8)
            return MAIL_ADDRESS_SYNTAX;
        address->smtputf8 = true;
    }
    address->kind = MAIL_DOMAIN_NAME;
    return mail_domain_normalize(arena, domain, &address->domain) ? MAIL_ADDRESS_OK
                                                                  : MAIL_ADDRESS_BAD_DOMAIN;
}

enum mail_address_fault mail_address_parse(struct arena *arena, struct str text,
                                           bool allow_no_domain, bool allow_utf8,
                                           struct mail_address *out_address)
{
    return mail_address_parse_with(arena, text, allow_no_domain, allow_utf8, STR_EMPTY,
                                   out_address);
}

enum mail_address_fault mail_address_parse_with(struct arena *arena, struct str text,
                                                bool allow_no_domain, bool allow_utf8,
                                                struct str known_domain,
                                                struct mail_address *out_address)
{
    struct mail_address address = {
        .local = STR_EMPTY, .domain = STR_EMPTY, .kind = MAIL_DOMAIN_NONE};
    if (str_has_nul(text))
        return MAIL_ADDRESS_NUL;
    if (text.len > PATH_MAX_OCTETS * 4) /* routes may be long; the parts are checked below */
        return MAIL_ADDRESS_TOO_LONG;
    if (!strip_source_route(&text))
        return MAIL_ADDRESS_SYNTAX;
    if (text.len == 0)
        return MAIL_ADDRESS_SYNTAX;
    struct local_scan scan = {0};
    bool valid = text.ptr[0] == '"' ? scan_quoted(text, allow_utf8, &scan)
                                    : scan_dot_string(text, allow_utf8, &scan);
    if (!valid)
        return MAIL_ADDRESS_SYNTAX;
    if (scan.length > LOCAL_MAX || text.len > PATH_MAX_OCTETS)
        return MAIL_ADDRESS_TOO_LONG;
    struct str local = str_slice(text, 0, scan.length);
    address.local = scan.quoted ? unquoted(arena, local, &scan) : arena_str(arena, local);
    address.quoted = scan.quoted;
    address.routed = scan.routed;
    address.smtputf8 = scan.utf8;
    struct str rest = str_from(text, scan.length);
    if (rest.len == 0 && allow_no_domain) {
        *out_address = address;
        return MAIL_ADDRESS_OK;
    }
    if (rest.len == 0 || rest.ptr[0] != '@')
        return MAIL_ADDRESS_SYNTAX;
    enum mail_address_fault fault =
        parse_domain(arena, str_from(rest, 1), allow_utf8, known_domain, &address);
    if (fault == MAIL_ADDRESS_OK)
        *out_address = address;
    return fault;
}

struct str mail_address_text(struct arena *arena, const struct mail_address *address)
{
    if (address->kind == MAIL_DOMAIN_NONE)
        return arena_str(arena, address->local);
    return arena_join(arena, address->local, STR("@"), address->domain);
}

struct str mail_address_key(struct arena *arena, const struct mail_address *address)
{
    return arena_lower(arena, mail_address_text(arena, address));
}
