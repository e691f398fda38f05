/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/address.h"

static bool has_8bit(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] > 127)
            return true;
    return false;
}

static bool refuse(struct mail_reply *out, unsigned code, unsigned subject, unsigned detail,
                   const char *text)
{
    *out = mail_reply_of(code, 5, subject, detail, str_c(text));
    return false;
}

/* `detail`: of the enhanced code x.1.x for bad syntax. */
static bool parse(struct arena *arena, struct str path, bool allow_no_domain, bool smtputf8,
                  struct str known_domain, unsigned detail, struct mail_address *out,
                  struct mail_reply *out_fault)
{
    switch (mail_address_parse_with(arena, path, allow_no_domain, smtputf8, known_domain, out)) {
    case MAIL_ADDRESS_OK:
        return true;
    case MAIL_ADDRESS_TOO_LONG:
        return refuse(out_fault, 501, 1, detail, "Address too long");
    case MAIL_ADDRESS_BAD_DOMAIN:
        return refuse(out_fault, 501, 1, detail, "Bad domain in address");
    default:
        break;
    }
    struct mail_address unused;
    if (!smtputf8 && has_8bit(path) &&
        mail_address_parse(arena, path, allow_no_domain, true, &unused) == MAIL_ADDRESS_OK)
        return refuse(out_fault, 553, 6, 7, "This address needs SMTPUTF8");
    return refuse(out_fault, 501, 1, detail, "Bad address syntax");
}

bool smtp_address_sender(struct arena *arena, struct str path, bool smtputf8,
                         struct mail_address *out_address, struct mail_reply *out_fault)
{
    if (!parse(arena, path, /* allow_no_domain= */ false, smtputf8, STR_EMPTY, 7, out_address,
               out_fault))
        return false;
    if (out_address->kind == MAIL_DOMAIN_LITERAL)
        return refuse(out_fault, 550, 1, 8, "Address literals are not accepted");
    return true;
}

/* Does "[192.0.2.1]" or "[IPv6:2001:db8::1]" name one of `own`? */
static bool is_own_literal(struct str domain, const struct net_ip *const own[2])
{
    struct str text = str_slice(domain, 1, domain.len - 1);
    struct net_ip ip;
    if (str_starts_nocase(text, STR("IPv6:")))
        text = str_from(text, 5);
    if (!net_ip_parse(text, &ip) || ip.family == 0)
        return false;
    for (int i = 0; i < 2; i++)
        if (own[i] && net_ip_equal(own[i], &ip))
            return true;
    return false;
}

bool smtp_address_recipient(struct arena *arena, struct str path,
                            const struct smtp_address_rules *rules,
                            struct mail_address *out_address, struct mail_reply *out_fault)
{
    struct mail_address address;
    if (!parse(arena, path, /* allow_no_domain= */ true, rules->smtputf8, rules->known_domain, 3,
               &address, out_fault))
        return false;
    bool postmaster = str_equal_nocase(address.local, STR("postmaster"));
    if (address.kind == MAIL_DOMAIN_NONE && !postmaster)
        return refuse(out_fault, 501, 1, 3, "Address needs a domain");
    if (address.kind == MAIL_DOMAIN_LITERAL &&
        !(postmaster && is_own_literal(address.domain, rules->own)))
        return refuse(out_fault, 550, 1, 2, "Address literals are not accepted");
    /* an @ in quotes is a route to those who drop the quotes */
    bool routed = address.routed || str_find(address.local, '@') >= 0;
    if (routed && !rules->allow_routed)
        return refuse(out_fault, 550, 1, 3, "Routed addresses are not accepted");
    *out_address = address;
    return true;
}
