/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/output.c - how what the daemon says is shown: nothing from mail may steer a terminal. */
#include "ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void ctl_print_json(json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII);
    /* DEL is ASCII, and JSON lets it stand; a terminal may not */
    for (const char *at = text ? text : ""; *at; at++) {
        if (*at == 127)
            fputs("\\u007f", stdout);
        else
            putchar(*at);
    }
    putchar('\n');
    free(text);
}

static bool shows_utf8(void)
{
    const char *names[] = {getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!names[i] || !names[i][0])
            continue;
        struct str name = str_c(names[i]);
        return str_ends_nocase(name, STR("utf-8")) || str_ends_nocase(name, STR("utf8"));
    }
    return false;
}

/* Letters as they are where the terminal can show them, never what it would obey. With `lines`,
 * ends of lines and tabs count as letters. What stands in quotes cannot end them. */
static void print_harmless(struct str rest, bool lines, bool in_quotes)
{
    bool utf8 = shows_utf8();
    while (rest.len) {
        uint32_t point;
        size_t len = str_utf8(rest, &point);
        unsigned char first = (unsigned char)rest.ptr[0];
        bool plain = (first >= 32 && first < 127) || (lines && (first == '\n' || first == '\t'));
        if (in_quotes && (first == '"' || first == '\\'))
            putchar('\\');
        if (lines && str_starts(rest, STR("\r\n"))) {
            len = 1;
        } else if (plain || (utf8 && len > 1 && !str_is_unsafe_point(point))) {
            len = plain ? 1 : len;
            fwrite(rest.ptr, 1, len, stdout);
        } else {
            len = 1;
            printf("\\x%02x", first);
        }
        rest = str_from(rest, len);
    }
}

void ctl_print_text(const char *text)
{
    print_harmless(str_c(text), /* lines= */ false, /* in_quotes= */ false);
}

void ctl_require_id(const char *text)
{
    struct str id = str_c(text);
    bool good = id.len > 0 && id.len <= 64;
    for (size_t i = 0; i < id.len && good; i++)
        good = ascii_is_alpha(id.ptr[i]) || ascii_is_digit(id.ptr[i]);
    if (good)
        return;
    fprintf(stderr, "postern: that is neither an id nor a ref: they are of letters and digits; "
                    "search with postern find\n");
    exit(CTL_USAGE);
}

void ctl_print_file(struct str text)
{
    if (isatty(STDOUT_FILENO))
        print_harmless(text, /* lines= */ true, /* in_quotes= */ false);
    else
        fwrite(text.ptr, 1, text.len, stdout);
}

void ctl_print_time_as(const char *utc, const char *format)
{
    struct tm moment = {0};
    struct tm local;
    char text[64];
    if (!strptime(utc, "%Y-%m-%dT%H:%M:%S", &moment)) {
        ctl_print_text(utc);
        return;
    }
    time_t seconds = timegm(&moment);
    localtime_r(&seconds, &local);
    strftime(text, sizeof text, format, &local);
    printf("%s", text);
}

void ctl_print_time(const char *utc, bool with_day)
{
    ctl_print_time_as(utc, with_day ? "%Y-%m-%d %H:%M:%S" : "%H:%M:%S");
}

void ctl_print_moment(const char *before, json_t *object, const char *name)
{
    if (!ctl_text(object, name)[0])
        return;
    printf("%s", before);
    ctl_print_time(ctl_text(object, name), true);
}

/* name="two words", name=one */
static void print_field(const char *name, json_t *value)
{
    const char *text = json_string_value(value);
    const char *quote = text && strpbrk(text, " \"=\\") ? "\"" : "";
    printf(" %s=%s", name, quote);
    if (text)
        print_harmless(str_c(text), /* lines= */ false, /* in_quotes= */ *quote);
    else if (json_is_integer(value))
        printf("%lld", json_integer_value(value));
    else
        printf("%s", json_is_true(value) ? "true" : "false");
    printf("%s", quote);
}

/* On a terminal what went wrong stands out. */
static const char *colour_of(const char *severity)
{
    return strcmp(severity, "error") == 0    ? "\033[31m"
           : strcmp(severity, "warn") == 0   ? "\033[33m"
           : strcmp(severity, "notice") == 0 ? "\033[1m"
           : strcmp(severity, "debug") == 0  ? "\033[2m"
                                             : "";
}

/* In local time, with the milliseconds by which events are told apart. */
static void print_event_time(const char *utc)
{
    const char *fraction = strchr(utc, '.');
    ctl_print_time(utc, true);
    if (fraction && strlen(fraction) >= 4)
        printf("%.4s", fraction);
}

void ctl_print_event(const struct ctl *ctl, json_t *event, bool with_ids)
{
    const char *colour = ctl->colour ? colour_of(ctl_text(event, "severity")) : "";
    static const char *const frame[] = {"time", "event", "severity", "node", "rev", "seq"};
    const char *name;
    json_t *value;
    print_event_time(ctl_text(event, "time"));
    printf("  %s%-20s%s", colour, ctl_text(event, "event"), *colour ? "\033[0m" : "");
    json_object_foreach(event, name, value)
    {
        bool is_id = strcmp(name, "session") == 0 || strcmp(name, "message") == 0;
        bool skip = is_id ? !with_ids : json_is_string(value) && json_string_length(value) == 0;
        for (size_t i = 0; i < sizeof frame / sizeof *frame; i++)
            skip = skip || strcmp(name, frame[i]) == 0;
        if (!skip)
            print_field(name, value);
    }
    printf("\n");
}

const char *ctl_text(json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

long long ctl_number(json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}
