/* SPDX-License-Identifier: Apache-2.0 */
#include "history/event_filter.h"

#include "history/event_guess.h"
#include "base/clock.h"

#include <string.h>
#include <time.h>

/* ---- times ---- */

/* "1h", "90d": milliseconds. */
static bool parse_duration(struct str text, int64_t *out_ms)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}, {'w', 604800000}};
    uint64_t number;
    if (text.len < 2 || !str_to_uint(str_slice(text, 0, text.len - 1), 100000, &number))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (units[i].unit == text.ptr[text.len - 1]) {
            *out_ms = (int64_t)number * units[i].ms;
            return true;
        }
    }
    return false;
}

/* ".412" behind the seconds, as answers have it: taken off. */
static int64_t take_fraction(struct str *text)
{
    ptrdiff_t dot = str_find_last(*text, '.');
    uint64_t ms;
    if (dot < 0 || text->len - (size_t)dot != 4 ||
        !str_to_uint(str_from(*text, (size_t)dot + 1), 999, &ms))
        return 0;
    *text = str_slice(*text, 0, (size_t)dot);
    return (int64_t)ms;
}

/* "2026-11-24", "2026-11-24T10:21", "…:30", "…:30Z": local time, or UTC with Z; a blank for the T,
 * as tables show it. */
static bool parse_moment(struct str text, int64_t *out_ms)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S",
                                        "%Y-%m-%d %H:%M", "%Y-%m-%d"};
    char copy[40];
    bool utc = str_ends(text, STR("Z"));
    if (utc)
        text.len--;
    int64_t fraction_ms = take_fraction(&text);
    if (!str_to_c(text, copy, sizeof copy))
        return false;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tm moment = {.tm_isdst = -1};
        const char *end = strptime(copy, forms[i], &moment);
        if (!end || *end)
            continue;
        *out_ms = (int64_t)(utc ? timegm(&moment) : mktime(&moment)) * 1000 + fraction_ms;
        return true;
    }
    return false;
}

/* "1h" ago, or a moment. */
static bool parse_time(struct str text, int64_t now_ms, int64_t *out_ms)
{
    int64_t duration_ms;
    if (!parse_duration(text, &duration_ms))
        return parse_moment(text, out_ms);
    *out_ms = now_ms - duration_ms;
    return true;
}

static int64_t midnight_ms(int64_t now_ms)
{
    time_t now = (time_t)(now_ms / 1000);
    struct tm day;
    localtime_r(&now, &day);
    day.tm_hour = day.tm_min = day.tm_sec = 0;
    day.tm_isdst = -1;
    return (int64_t)mktime(&day) * 1000;
}

static bool take_range(struct event_filter *filter, struct str name, struct str value,
                       struct error *err, enum result *out_result)
{
    int64_t now_ms = clock_wall_ns() / NS_PER_MS;
    struct store_range *range = &filter->range;
    bool good = true;
    if (str_equal(name, STR("since")) || str_equal(name, STR("younger")))
        good = parse_time(value, now_ms, &range->since_ms);
    else if (str_equal(name, STR("until")) || str_equal(name, STR("older")))
        good = parse_time(value, now_ms, &range->until_ms);
    else
        return false;
    *out_result = good ? OK
                       : fail(err, ERROR_PERMANENT,
                              "%.*s: not a time: write 1h, 7d, 2026-11-24 or 2026-11-24T10:21",
                              STR_ARG(value));
    return true;
}

static bool take_day(struct event_filter *filter, struct str word)
{
    int64_t today_ms = midnight_ms(clock_wall_ns() / NS_PER_MS);
    if (str_equal(word, STR("today"))) {
        filter->range.since_ms = today_ms;
    } else if (str_equal(word, STR("yesterday"))) {
        filter->range.since_ms = midnight_ms(today_ms - 3600000);
        filter->range.until_ms = today_ms - 1;
    } else {
        return false;
    }
    return true;
}

/* ---- terms ---- */

static const struct {
    const char *verdict;
    const char *events[4];
} verdicts[] = {
    {"accepted", {"message.accepted"}},
    {"refused", {"recipient.reject", "message.rejected", "auth.fail", "session.protocol"}},
    {"rejected", {"recipient.reject", "message.rejected", "auth.fail", "session.protocol"}},
    {"deferred", {"recipient.defer", "message.deferred", "delivery.deferred", "auth.error"}},
    {"delivered", {"delivery.sent"}},
    {"failed", {"delivery.failed", "delivery.expired"}},
    {"expired", {"delivery.expired"}},
    {"held", {"message.held", "message.quarantined", "delivery.held"}},
    {"quarantined", {"message.quarantined"}},
    {"discarded", {"message.discarded", "delivery.dropped"}},
};
enum { VERDICTS = sizeof verdicts / sizeof *verdicts };

static bool is_verdict(struct str text)
{
    for (size_t i = 0; i < VERDICTS; i++) {
        if (str_equal(text, str_c(verdicts[i].verdict)))
            return true;
    }
    return false;
}

static bool verdict_fits(struct str text, enum event_type type)
{
    for (size_t i = 0; i < VERDICTS; i++) {
        if (!str_equal(text, str_c(verdicts[i].verdict)))
            continue;
        for (size_t k = 0; k < 4 && verdicts[i].events[k]; k++) {
            if (strcmp(verdicts[i].events[k], event_name(type)) == 0)
                return true;
        }
    }
    return false;
}

static bool key_of(struct str name, enum event_key *out)
{
    for (int i = 0; i < EVENT_KEY_COUNT; i++) {
        if (str_equal(name, str_c(event_key_name((enum event_key)i)))) {
            *out = (enum event_key)i;
            return true;
        }
    }
    return false;
}

/* "delivery.sent", or "delivery." for all of them. */
static bool begins_event(struct str text)
{
    for (int type = 0; type < EVENT_TYPE_COUNT; type++)
        if (str_starts(str_c(event_name((enum event_type)type)), text))
            return true;
    return false;
}

static enum result take_term(struct event_filter *filter, struct str name, struct str value,
                             struct error *err)
{
    struct event_term *term = &filter->terms[filter->count++];
    *term = (struct event_term){.text = value};
    if (str_equal(name, STR("verdict"))) {
        term->kind = EVENT_TERM_VERDICT;
        return is_verdict(value)
                   ? OK
                   : fail(err, ERROR_PERMANENT,
                          "verdict: accepted, refused, deferred, delivered, failed, expired, held "
                          "or discarded");
    }
    if (str_equal(name, STR("event"))) {
        term->kind = EVENT_TERM_EVENT;
        return begins_event(value)
                   ? OK
                   : fail(err, ERROR_PERMANENT, "event: there is no event %.*s", STR_ARG(value));
    }
    if (str_equal(name, STR("severity"))) {
        term->kind = EVENT_TERM_SEVERITY;
        for (int i = EVENT_DEBUG; i <= EVENT_ERROR; i++) {
            term->severity = i;
            if (str_equal(value, str_c(event_severity_name((enum event_severity)i))))
                return OK;
        }
        return fail(err, ERROR_PERMANENT, "severity: debug, info, notice, warn or error");
    }
    if (str_equal(name, STR("id"))) {
        term->kind = EVENT_TERM_ID;
        return OK;
    }
    if (!key_of(name, &term->key))
        return fail(
            err, ERROR_PERMANENT,
            "%.*s: there is no such term; there are to, from, client, user, ref, "
            "reason, verdict, event, severity, since, until, today and each field of events",
            STR_ARG(name));
    return OK;
}

static enum result take_word(struct event_filter *filter, struct str word, bool quoted,
                             struct error *err)
{
    enum result result = OK;
    ptrdiff_t colon = str_find(word, ':');
    if (!quoted && take_day(filter, word))
        return OK;
    if (filter->count == EVENT_FILTER_TERMS_MAX)
        return fail(err, ERROR_LIMIT, "at most %d terms", EVENT_FILTER_TERMS_MAX);
    if (quoted) {
        filter->terms[filter->count++] = event_guess_text(word);
        return OK;
    }
    struct event_term guessed = event_guess(word);
    if (colon <= 0 || guessed.key == KEY_CLIENT) { /* colons of IPv6 */
        filter->terms[filter->count++] = guessed;
        return OK;
    }
    struct str name = str_slice(word, 0, (size_t)colon);
    struct str value = str_from(word, (size_t)colon + 1);
    if (take_range(filter, name, value, err, &result))
        return result;
    return take_term(filter, name, value, err);
}

/* The next word off the front, quotes taken away; empty at the end. `*out_quoted`: it began with
 * one. */
static struct str next_word(struct str *rest, struct arena *arena, bool *out_quoted)
{
    *rest = str_trim(*rest);
    *out_quoted = rest->len && rest->ptr[0] == '"';
    char *word = arena_alloc(arena, rest->len + 1);
    size_t length = 0;
    size_t at = 0;
    bool quoted = false;
    for (; at < rest->len && (quoted || rest->ptr[at] != ' '); at++) {
        if (rest->ptr[at] == '"')
            quoted = !quoted;
        else
            word[length++] = rest->ptr[at];
    }
    *rest = str_from(*rest, at);
    return str_of(word, length);
}

enum result event_filter_parse(struct str text, struct arena *arena, struct event_filter *out,
                               struct error *err)
{
    enum { TEXT_MAX = 4096 };
    *out = (struct event_filter){.range = {.since_ms = 0, .until_ms = INT64_C(1) << 47}};
    if (text.len > TEXT_MAX)
        return fail(err, ERROR_LIMIT, "at most %d characters", TEXT_MAX);
    for (;;) {
        bool quoted;
        struct str word = next_word(&text, arena, &quoted);
        if (word.len == 0)
            return OK;
        if (take_word(out, word, quoted, err) != OK)
            return FAILED;
    }
}

bool event_filter_loosen(struct event_filter *filter)
{
    bool loosened = false;
    for (size_t i = 0; i < filter->count; i++) {
        struct event_term *term = &filter->terms[i];
        if (!term->as || term->kind == EVENT_TERM_WORD)
            continue;
        *term = event_guess_text(term->text);
        loosened = true;
    }
    return loosened;
}

/* ---- matching ---- */

static bool contains_nocase(struct str text, struct str part)
{
    for (size_t i = 0; i + part.len <= text.len; i++) {
        if (str_starts_nocase(str_from(text, i), part))
            return true;
    }
    return false;
}

bool event_filter_takes_part(enum event_key key)
{
    return key == KEY_REPLY || key == KEY_DETAIL || key == KEY_ERROR || key == KEY_SUBJECT ||
           key == KEY_FINDING || key == KEY_VALUES;
}

static bool text_fits(const struct event_term *term, struct str text)
{
    if (term->text.len && term->text.ptr[0] == '@')
        return str_ends_nocase(text, term->text);
    if (term->key == KEY_MESSAGE_ID)
        return event_guess_is_message_id(text, term->text);
    if (event_filter_takes_part(term->key))
        return contains_nocase(text, term->text);
    return str_equal_nocase(text, term->text);
}

static bool same_key(enum event_key wanted, enum event_key key)
{
    return wanted == key || (wanted == KEY_TO && key == KEY_RCPT);
}

static bool field_fits(const struct event_term *term, const struct event_field *field)
{
    uint64_t number;
    if (field->kind == EVENT_VALUE_STR)
        return term->kind == EVENT_TERM_WORD
                   ? contains_nocase(field->text, term->text)
                   : same_key(term->key, field->key) && text_fits(term, field->text);
    if (term->kind == EVENT_TERM_WORD || term->key != field->key)
        return false;
    if (field->kind == EVENT_VALUE_BOOL)
        return str_equal(term->text, field->number ? STR("true") : STR("false"));
    return str_to_uint(term->text, INT64_MAX, &number) && (int64_t)number == field->number;
}

bool event_term_fits(const struct event_term *term, const struct event *event)
{
    switch (term->kind) {
    case EVENT_TERM_VERDICT:
        return verdict_fits(term->text, event->type);
    case EVENT_TERM_EVENT:
        return str_starts(str_c(event_name(event->type)), term->text);
    case EVENT_TERM_SEVERITY:
        return (int)event_severity(event->type) >= term->severity;
    case EVENT_TERM_ID:
    case EVENT_TERM_ADDRESS:
    case EVENT_TERM_DOMAIN:
        return event_guess_fits(term, event);
    case EVENT_TERM_FIELD:
    case EVENT_TERM_WORD:
        break;
    }
    for (unsigned i = 0; i < event->count; i++) {
        if (field_fits(term, &event->fields[i]))
            return true;
    }
    return false;
}

bool event_filter_fits(const struct event_filter *filter, const struct event *event)
{
    for (size_t i = 0; i < filter->count; i++) {
        if (!event_term_fits(&filter->terms[i], event))
            return false;
    }
    return true;
}

const char *event_filter_verdict(enum event_type type)
{
    for (size_t i = 0; i < VERDICTS; i++) {
        if (verdict_fits(str_c(verdicts[i].verdict), type))
            return verdicts[i].verdict;
    }
    return NULL;
}
