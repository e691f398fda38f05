/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/command.h"

#include "base/check.h"

static const struct {
    struct str name;
    enum smtp_verb verb;
} verbs[] = {
#define VERB(name_)                                                                                \
    {                                                                                              \
        {#name_, sizeof #name_ - 1}, SMTP_VERB_##name_                                             \
    }
    /* by how often they come */
    VERB(RCPT), VERB(MAIL), VERB(EHLO),     VERB(DATA), VERB(QUIT), VERB(RSET),
    VERB(BDAT), VERB(AUTH), VERB(STARTTLS), VERB(HELO), VERB(NOOP), VERB(VRFY),
    VERB(EXPN), VERB(HELP), VERB(XCLIENT),  VERB(ETRN),
#undef VERB
};

/* First words of HTTP requests and of their header fields (RFC 9110; ALPACA: a browser made to send
 * its request to a mail server). */
static const struct str http_words[] = {
    {"GET", 3},     {"POST", 4},         {"PUT", 3},     {"HEAD", 4},  {"OPTIONS", 7},
    {"CONNECT", 7}, {"DELETE", 6},       {"PATCH", 5},   {"TRACE", 5}, {"PRI", 3},
    {"HOST:", 5},   {"USER-AGENT:", 11}, {"COOKIE:", 7},
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct str trim_blanks(struct str s)
{
    while (s.len && is_blank(s.ptr[0]))
        s = str_from(s, 1);
    while (s.len && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static enum smtp_verb find_verb(struct str name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (str_equal_nocase(name, verbs[i].name))
            return verbs[i].verb;
    for (size_t i = 0; i < sizeof http_words / sizeof http_words[0]; i++)
        if (str_equal_nocase(name, http_words[i]))
            return SMTP_VERB_HTTP;
    return SMTP_VERB_UNKNOWN;
}

struct smtp_command smtp_command_parse(struct str line)
{
    size_t end = 0;
    while (end < line.len && !is_blank(line.ptr[end]))
        end++;
    struct smtp_command command = {
        .name = str_slice(line, 0, end),
        .arguments = trim_blanks(str_from(line, end)),
    };
    command.verb = find_verb(command.name);
    /* "Host:example" without a blank is a header field too */
    if (command.verb == SMTP_VERB_UNKNOWN && str_starts_nocase(line, STR("Host:")))
        command.verb = SMTP_VERB_HTTP;
    return command;
}

struct str smtp_verb_name(enum smtp_verb verb)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (verbs[i].verb == verb)
            return verbs[i].name;
    return STR("?");
}

/* Index of the > that ends the path at text[0] == '<', or -1. */
static ptrdiff_t path_end(struct str text)
{
    bool quoted = false;
    for (size_t i = 1; i < text.len; i++) {
        char c = text.ptr[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (c == '>' && !quoted)
            return (ptrdiff_t)i;
    }
    return -1;
}

bool smtp_command_path(struct str arguments, struct str keyword, struct str *out_path,
                       struct str *out_parameters)
{
    if (!str_starts_nocase(arguments, keyword))
        return false;
    struct str rest = str_from(arguments, keyword.len);
    /* "MAIL FROM: <a@b>" and "MAIL FROM :<a@b>" are wrong but common and have one meaning only */
    rest = trim_blanks(rest);
    if (rest.len == 0 || rest.ptr[0] != ':')
        return false;
    rest = trim_blanks(str_from(rest, 1));
    if (rest.len == 0 || rest.ptr[0] != '<')
        return false;
    ptrdiff_t end = path_end(rest);
    if (end < 0)
        return false;
    struct str behind = str_from(rest, (size_t)end + 1);
    if (behind.len && !is_blank(behind.ptr[0]))
        return false;
    *out_path = str_slice(rest, 1, (size_t)end);
    *out_parameters = trim_blanks(behind);
    return true;
}

static bool is_keyword(struct str s)
{
    if (s.len == 0 || s.ptr[0] == '-')
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!ascii_is_alpha(s.ptr[i]) && !ascii_is_digit(s.ptr[i]) && s.ptr[i] != '-')
            return false;
    return true;
}

static bool is_value(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c < 33 || c == '=' || c == 127)
            return false;
    }
    return s.len > 0;
}

enum smtp_parameter_step smtp_parameter_next(struct str *rest, struct smtp_parameter *out)
{
    struct str text = trim_blanks(*rest);
    if (text.len == 0)
        return SMTP_PARAMETER_END;
    size_t end = 0;
    while (end < text.len && !is_blank(text.ptr[end]))
        end++;
    *rest = str_from(text, end);
    struct str word = str_slice(text, 0, end);
    ptrdiff_t equals = str_find(word, '=');
    *out = (struct smtp_parameter){.keyword = word, .value = STR_EMPTY};
    if (equals >= 0) {
        out->keyword = str_slice(word, 0, (size_t)equals);
        out->value = str_from(word, (size_t)equals + 1);
        out->has_value = true;
        if (!is_value(out->value))
            return SMTP_PARAMETER_BAD;
    }
    return is_keyword(out->keyword) ? SMTP_PARAMETER_ONE : SMTP_PARAMETER_BAD;
}

bool smtp_command_chunk(struct str arguments, uint64_t *out_size, bool *out_last)
{
    size_t digits = 0;
    while (digits < arguments.len && ascii_is_digit(arguments.ptr[digits]))
        digits++;
    uint64_t size;
    if (!str_to_uint(str_slice(arguments, 0, digits), INT64_MAX, &size))
        return false;
    struct str behind = str_from(arguments, digits);
    bool last = false;
    if (behind.len) {
        if (!is_blank(behind.ptr[0]) || !str_equal_nocase(trim_blanks(behind), STR("LAST")))
            return false;
        last = true;
    }
    *out_size = size;
    *out_last = last;
    return true;
}
