/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/ldap_template.h"

/* Both places take \XX for any octet, so everything that is not plainly harmless is written so. */
static bool is_harmless(enum ldap_place place, struct str value, size_t at)
{
    char c = value.ptr[at];
    if (ascii_is_alpha(c) || ascii_is_digit(c))
        return true;
    if (c == ' ') /* at the ends of a DN's value it would be cut off */
        return place == LDAP_IN_FILTER || (at > 0 && at + 1 < value.len);
    return c != '\0' && str_find(STR("-_.@"), c) >= 0;
}

void ldap_escape(enum ldap_place place, struct str value, struct buf *out)
{
    for (size_t i = 0; i < value.len; i++) {
        if (is_harmless(place, value, i))
            buf_append_byte(out, value.ptr[i]);
        else
            buf_printf(out, "\\%02X", (unsigned char)value.ptr[i]);
    }
}

static const struct str *find_value(const struct ldap_values *values, struct str name)
{
    if (str_equal(name, STR("user")))
        return &values->user;
    if (str_equal(name, STR("address")))
        return &values->address;
    if (str_equal(name, STR("local")))
        return &values->local;
    if (str_equal(name, STR("domain")))
        return &values->domain;
    return NULL;
}

enum result ldap_expand(enum ldap_place place, struct str pattern, const struct ldap_values *values,
                        struct buf *out, struct error *err)
{
    for (ptrdiff_t open; (open = str_find(pattern, '{')) >= 0;) {
        buf_append(out, str_slice(pattern, 0, (size_t)open));
        pattern = str_from(pattern, (size_t)open + 1);
        ptrdiff_t end = str_find(pattern, '}');
        if (end < 0)
            return fail(err, ERROR_PERMANENT, "a { without its }");
        struct str name = str_slice(pattern, 0, (size_t)end);
        const struct str *value = find_value(values, name);
        if (!value)
            return fail(err, ERROR_PERMANENT, "{%.*s} is none of {user} {address} {local} {domain}",
                        STR_ARG(str_slice(name, 0, 40)));
        ldap_escape(place, *value, out);
        pattern = str_from(pattern, (size_t)end + 1);
    }
    buf_append(out, pattern);
    return out->overflow ? fail(err, ERROR_LIMIT, "the value is too long") : OK;
}
