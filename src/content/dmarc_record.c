/* SPDX-License-Identifier: Apache-2.0 */
#include "content/dmarc_record.h"

enum { TAGS_SEEN_MAX = 64 };

static const char *const policy_names[] = {"", "none", "quarantine", "reject"};

const char *dmarc_policy_name(enum dmarc_policy policy)
{
    return policy_names[policy];
}

static struct str trim_blanks(struct str text)
{
    while (text.len && (text.ptr[0] == ' ' || text.ptr[0] == '\t'))
        text = str_from(text, 1);
    while (text.len && (text.ptr[text.len - 1] == ' ' || text.ptr[text.len - 1] == '\t'))
        text.len--;
    return text;
}

static bool split_tag(struct str text, struct str *out_name, struct str *out_value)
{
    ptrdiff_t equals = str_find(text, '=');
    if (equals < 0)
        return false;
    *out_name = trim_blanks(str_slice(text, 0, (size_t)equals));
    *out_value = trim_blanks(str_from(text, (size_t)equals + 1));
    return out_name->len > 0;
}

bool dmarc_record_is_dmarc(struct str text)
{
    struct str first, name, value;
    return str_split(&text, ';', &first) && split_tag(first, &name, &value) &&
           str_equal_nocase(name, STR("v")) && str_equal(value, STR("DMARC1"));
}

static enum dmarc_policy read_policy(struct str value, struct dmarc_record *out)
{
    for (int i = DMARC_POLICY_NONE; i <= DMARC_POLICY_REJECT; i++)
        if (str_equal_nocase(value, str_c(policy_names[i])))
            return (enum dmarc_policy)i;
    out->bad_policy = true;
    return DMARC_POLICY_UNSET;
}

static void read_tag(struct str name, struct str value, struct dmarc_record *out)
{
    if (str_equal_nocase(name, STR("p")))
        out->p = read_policy(value, out);
    else if (str_equal_nocase(name, STR("sp")))
        out->sp = read_policy(value, out);
    else if (str_equal_nocase(name, STR("np")))
        out->np = read_policy(value, out);
    else if (str_equal_nocase(name, STR("adkim")))
        out->strict_dkim = str_equal_nocase(value, STR("s"));
    else if (str_equal_nocase(name, STR("aspf")))
        out->strict_spf = str_equal_nocase(value, STR("s"));
    else if (str_equal_nocase(name, STR("t")))
        out->testing = str_equal_nocase(value, STR("y"));
    else if (str_equal_nocase(name, STR("psd")))
        out->psd = str_equal_nocase(value, STR("y"))   ? DMARC_PSD_YES
                   : str_equal_nocase(value, STR("n")) ? DMARC_PSD_NO
                                                       : DMARC_PSD_UNKNOWN;
    else if (str_equal_nocase(name, STR("rua")))
        out->rua = value;
}

/* At least one URI that could be one: a scheme, a colon, and something behind it. */
static bool has_uri(struct str list)
{
    struct str uri;
    while (list.len && str_split(&list, ',', &uri)) {
        uri = trim_blanks(uri);
        ptrdiff_t colon = str_find(uri, ':');
        if (colon > 0 && ascii_is_alpha(uri.ptr[0]) && uri.len > (size_t)colon + 1)
            return true;
    }
    return false;
}

bool dmarc_record_parse(struct str text, struct dmarc_record *out)
{
    struct str tag, name, value, seen[TAGS_SEEN_MAX];
    size_t count = 0;
    *out = (struct dmarc_record){.rua = STR_EMPTY};
    while (count < TAGS_SEEN_MAX && str_split(&text, ';', &tag)) {
        bool again = false;
        if (!split_tag(tag, &name, &value))
            continue;
        for (size_t i = 0; i < count; i++)
            again = again || str_equal_nocase(seen[i], name);
        if (again) /* the first one counts */
            continue;
        seen[count++] = name;
        read_tag(name, value, out);
    }
    out->bad_policy = out->bad_policy || out->p == DMARC_POLICY_UNSET;
    if (!out->bad_policy)
        return true;
    if (!has_uri(out->rua))
        return false;
    out->p = DMARC_POLICY_NONE;
    out->sp = out->np = DMARC_POLICY_UNSET;
    return true;
}
