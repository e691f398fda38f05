/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/parameter.h"

#include "smtp/command.h"

enum { ENVID_MAX = 100, ORCPT_MAX = 500 };

static int hex_digit(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    /* RFC 3461: upper case only */
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool smtp_xtext_decode(struct arena *arena, struct str text, bool allow_utf8, struct str *out)
{
    char *decoded = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '+') {
            int high = i + 1 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_digit(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (unsigned char)(high << 4 | low);
            /* what it holds goes into reports, line by line */
            if (c < 32 || c > 126)
                return false;
            i += 2;
        } else if (c < 33 || c == '=' || c == 127 || (c > 127 && !allow_utf8))
            return false;
        decoded[len++] = (char)c;
    }
    *out = str_of(decoded, len);
    return true;
}

/* Well-formed UTF-8: right lengths, no surrogates, nothing longer than needed. */
static bool is_utf8(struct str s)
{
    for (size_t i = 0; i < s.len;) {
        unsigned char lead = (unsigned char)s.ptr[i];
        size_t more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || more > s.len - i - 1)
            return false;
        for (size_t k = 1; k <= more; k++)
            if (((unsigned char)s.ptr[i + k] & 0xc0) != 0x80)
                return false;
        unsigned char second = more ? (unsigned char)s.ptr[i + 1] : 0;
        if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
            (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
            return false;
        i += more + 1;
    }
    return true;
}

enum mail_parameter { SIZE, BODY, SMTPUTF8, RET, ENVID, AUTH, MAIL_PARAMETER_COUNT };

static const struct {
    struct str name;
    bool takes_value;
} mail_parameters[MAIL_PARAMETER_COUNT] = {
    [SIZE] = {{"SIZE", 4}, true},          [BODY] = {{"BODY", 4}, true},
    [SMTPUTF8] = {{"SMTPUTF8", 8}, false}, [RET] = {{"RET", 3}, true},
    [ENVID] = {{"ENVID", 5}, true},        [AUTH] = {{"AUTH", 4}, true},
};

static bool bad(struct mail_reply *out_fault, const char *text)
{
    *out_fault = mail_reply_of(501, 5, 5, 4, str_c(text));
    return false;
}

static bool unknown(struct mail_reply *out_fault)
{
    *out_fault = mail_reply_of(555, 5, 5, 4, STR("Parameter not recognized"));
    return false;
}

static bool is_digits(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!ascii_is_digit(s.ptr[i]))
            return false;
    return s.len > 0 && s.len <= 20;
}

static bool read_body(struct str value, struct mail_sender *sender, struct mail_reply *out_fault)
{
    if (str_equal_nocase(value, STR("7BIT")))
        sender->body = MAIL_BODY_7BIT;
    else if (str_equal_nocase(value, STR("8BITMIME")))
        sender->body = MAIL_BODY_8BITMIME;
    else if (str_equal_nocase(value, STR("BINARYMIME"))) {
        *out_fault = mail_reply_of(555, 5, 5, 4, STR("BINARYMIME is not offered"));
        return false;
    } else
        return bad(out_fault, "BODY is 7BIT or 8BITMIME");
    return true;
}

static bool read_mail_value(enum mail_parameter which, struct str value, struct arena *arena,
                            struct mail_sender *sender, struct mail_reply *out_fault)
{
    struct str ignored;
    switch (which) {
    case SIZE:
        if (!is_digits(value))
            return bad(out_fault, "SIZE is a number of octets");
        if (!str_to_uint(value, UINT64_MAX, &sender->size))
            sender->size = UINT64_MAX;
        return true;
    case BODY:
        return read_body(value, sender, out_fault);
    case SMTPUTF8:
        sender->smtputf8 = true;
        return true;
    case RET:
        if (str_equal_nocase(value, STR("FULL")))
            sender->ret = MAIL_RET_FULL;
        else if (str_equal_nocase(value, STR("HDRS")))
            sender->ret = MAIL_RET_HDRS;
        else
            return bad(out_fault, "RET is FULL or HDRS");
        return true;
    case ENVID:
        if (value.len > ENVID_MAX || !smtp_xtext_decode(arena, value, false, &sender->envid))
            return bad(out_fault, "ENVID is not valid xtext");
        return true;
    case AUTH:
        /* trusted by nobody, so it counts as <> whatever it says (RFC 4954 5) */
        if (!smtp_xtext_decode(arena, value, true, &ignored))
            return bad(out_fault, "AUTH is not valid xtext");
        return true;
    default:
        return unknown(out_fault);
    }
}

bool smtp_parameter_mail(struct str parameters, struct arena *arena, struct mail_sender *sender,
                         struct mail_reply *out_fault)
{
    unsigned seen = 0;
    struct smtp_parameter parameter;
    enum smtp_parameter_step step;
    while ((step = smtp_parameter_next(&parameters, &parameter)) == SMTP_PARAMETER_ONE) {
        unsigned which = 0;
        while (which < MAIL_PARAMETER_COUNT &&
               !str_equal_nocase(parameter.keyword, mail_parameters[which].name))
            which++;
        if (which == MAIL_PARAMETER_COUNT)
            return unknown(out_fault);
        if (seen & 1U << which)
            return bad(out_fault, "Parameter given twice");
        seen |= 1U << which;
        if (parameter.has_value != mail_parameters[which].takes_value)
            return bad(out_fault, parameter.has_value ? "Parameter takes no value"
                                                      : "Parameter needs a value");
        if (!read_mail_value((enum mail_parameter)which, parameter.value, arena, sender, out_fault))
            return false;
    }
    return step == SMTP_PARAMETER_END || bad(out_fault, "Malformed parameter");
}

static bool read_notify(struct str value, unsigned *out_notify)
{
    static const struct {
        struct str name;
        unsigned bit;
    } words[] = {
        {{"NEVER", 5}, MAIL_NOTIFY_NEVER},
        {{"SUCCESS", 7}, MAIL_NOTIFY_SUCCESS},
        {{"FAILURE", 7}, MAIL_NOTIFY_FAILURE},
        {{"DELAY", 5}, MAIL_NOTIFY_DELAY},
    };
    unsigned notify = 0;
    struct str part;
    if (value.len && value.ptr[value.len - 1] == ',')
        return false;
    while (str_split(&value, ',', &part)) {
        unsigned bit = 0;
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
            if (str_equal_nocase(part, words[i].name))
                bit = words[i].bit;
        if (bit == 0)
            return false;
        notify |= bit;
    }
    if ((notify & MAIL_NOTIFY_NEVER) && notify != MAIL_NOTIFY_NEVER)
        return false;
    *out_notify = notify;
    return notify != 0;
}

static bool is_atom(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!ascii_is_alpha(s.ptr[i]) && !ascii_is_digit(s.ptr[i]) && s.ptr[i] != '-')
            return false;
    return s.len > 0;
}

static bool read_orcpt(struct str value, bool smtputf8, struct arena *arena, struct str *out_orcpt)
{
    ptrdiff_t semicolon = str_find(value, ';');
    if (value.len > ORCPT_MAX || semicolon <= 0)
        return false;
    struct str type = str_slice(value, 0, (size_t)semicolon);
    struct str text = str_from(value, (size_t)semicolon + 1);
    bool utf8 = smtputf8 && str_equal_nocase(type, STR("utf-8"));
    struct str decoded;
    if (!is_atom(type) || text.len == 0 || !smtp_xtext_decode(arena, text, utf8, &decoded) ||
        !is_utf8(decoded))
        return false;
    *out_orcpt = arena_printf(arena, "%.*s;%.*s", STR_ARG(type), STR_ARG(decoded));
    return true;
}

bool smtp_parameter_recipient(struct str parameters, bool smtputf8, struct arena *arena,
                              struct mail_recipient *recipient, struct mail_reply *out_fault)
{
    bool has_orcpt = false;
    struct smtp_parameter parameter;
    enum smtp_parameter_step step;
    while ((step = smtp_parameter_next(&parameters, &parameter)) == SMTP_PARAMETER_ONE) {
        bool notify = str_equal_nocase(parameter.keyword, STR("NOTIFY"));
        if (!notify && !str_equal_nocase(parameter.keyword, STR("ORCPT")))
            return unknown(out_fault);
        if (!parameter.has_value)
            return bad(out_fault, "Parameter needs a value");
        if (notify ? recipient->notify != 0 : has_orcpt)
            return bad(out_fault, "Parameter given twice");
        if (notify && !read_notify(parameter.value, &recipient->notify))
            return bad(out_fault, "NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY");
        if (!notify && !read_orcpt(parameter.value, smtputf8, arena, &recipient->orcpt))
            return bad(out_fault, "ORCPT is not a type, a semicolon and valid xtext");
        has_orcpt = has_orcpt || !notify;
    }
    return step == SMTP_PARAMETER_END || bad(out_fault, "Malformed parameter");
}
