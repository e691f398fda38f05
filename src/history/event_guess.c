/* SPDX-License-Identifier: Apache-2.0 */
#include "history/event_guess.h"

#include <arpa/inet.h>
#include <string.h>

/* ---- looks ---- */

static bool is_made_of(struct str text, const char *more)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!ascii_is_alpha(text.ptr[i]) && !ascii_is_digit(text.ptr[i]) &&
            str_find(str_c(more), text.ptr[i]) < 0)
            return false;
    }
    return text.len > 0;
}

static bool has_digit(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (ascii_is_digit(text.ptr[i]))
            return true;
    }
    return false;
}

static bool is_ip(struct str word)
{
    char text[INET6_ADDRSTRLEN + 1];
    unsigned char bytes[16];
    return str_to_c(word, text, sizeof text) &&
           (inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1);
}

/* "example.org": labels, of which the last has letters alone, or is IDN. */
static bool is_domain(struct str word)
{
    ptrdiff_t dot = str_find_last(word, '.');
    if (dot <= 0 || !is_made_of(word, ".-") || word.ptr[0] == '.')
        return false;
    struct str last = str_from(word, (size_t)dot + 1);
    bool letters = last.len >= 2 && !has_digit(last) && is_made_of(last, "");
    return letters || (last.len > 4 && str_starts_nocase(last, STR("xn--")));
}

/* With the angle brackets that a Message-ID has; they are no part of what is looked for. */
static struct str without_brackets(struct str word)
{
    bool has = word.len > 2 && word.ptr[0] == '<' && word.ptr[word.len - 1] == '>';
    return has ? str_slice(word, 1, word.len - 1) : word;
}

struct event_term event_guess_text(struct str word)
{
    return (struct event_term){.kind = EVENT_TERM_WORD, .text = word, .as = "a part of any text"};
}

static struct event_term guess_id(struct str word)
{
    struct mail_id first;
    struct mail_id last;
    if (word.len == MAIL_REF_LEN) /* or the beginning of an id: then it stands in the texts */
        return (struct event_term){
            .kind = EVENT_TERM_FIELD, .key = KEY_REF, .text = word, .as = "a ref"};
    if (!mail_id_prefix(word, &first, &last))
        return event_guess_text(word);
    return (struct event_term){.kind = EVENT_TERM_ID,
                               .text = word,
                               .as = word.len == MAIL_ID_LEN ? "an id" : "the beginning of an id"};
}

struct event_term event_guess(struct str word)
{
    struct str bare = without_brackets(word);
    ptrdiff_t at = str_find_last(bare, '@');
    if (is_ip(word))
        return (struct event_term){
            .kind = EVENT_TERM_FIELD, .key = KEY_CLIENT, .text = word, .as = "a client"};
    if (at == 0 && bare.len > 1)
        return (struct event_term){.kind = EVENT_TERM_DOMAIN,
                                   .text = str_from(bare, 1),
                                   .as = "the domain of a sender or recipient"};
    if (at > 0)
        return (struct event_term){.kind = EVENT_TERM_ADDRESS,
                                   .text = bare,
                                   .as = "a sender, recipient, user or message-id"};
    if (word.len >= MAIL_REF_LEN && word.len <= MAIL_ID_LEN && has_digit(word) &&
        is_made_of(word, ""))
        return guess_id(word);
    if (is_domain(word))
        return (struct event_term){
            .kind = EVENT_TERM_DOMAIN, .text = word, .as = "the domain of a sender or recipient"};
    return event_guess_text(word);
}

/* ---- matching ---- */

static bool is_of_domain(struct str address, struct str domain)
{
    ptrdiff_t at = str_find_last(address, '@');
    return at >= 0 && str_equal_nocase(str_from(address, (size_t)at + 1), domain);
}

bool event_guess_is_message_id(struct str text, struct str wanted)
{
    return str_equal_nocase(without_brackets(text), without_brackets(wanted));
}

static bool fits(const struct event_term *term, enum event_key key, struct str text)
{
    bool is_address = key == KEY_FROM || key == KEY_TO || key == KEY_RCPT;
    switch (term->kind) {
    case EVENT_TERM_ID:
        return (key == KEY_MESSAGE || key == KEY_SESSION || key == KEY_ENTRY) &&
               str_starts_nocase(text, term->text);
    case EVENT_TERM_DOMAIN:
        return is_address && is_of_domain(text, term->text);
    case EVENT_TERM_ADDRESS:
        return ((is_address || key == KEY_USER) && str_equal_nocase(text, term->text)) ||
               (key == KEY_MESSAGE_ID && event_guess_is_message_id(text, term->text));
    default:
        return false;
    }
}

bool event_guess_fits(const struct event_term *term, const struct event *event)
{
    for (unsigned i = 0; i < event->count; i++) {
        const struct event_field *field = &event->fields[i];
        if (field->kind == EVENT_VALUE_STR && fits(term, field->key, field->text))
            return true;
    }
    return false;
}

/* ---- the index ---- */

static void add(struct store_term *out, enum event_key key, struct str text)
{
    out->words[out->count++] = store_word(key, text);
}

/* In the index it stands as it came, which is with brackets but for what is broken. */
bool event_guess_index_message_id(struct str text, struct store_term *out)
{
    char bracketed[1100];
    text = without_brackets(text);
    if (text.len + 2 > sizeof bracketed)
        return false;
    bracketed[0] = '<';
    memcpy(bracketed + 1, text.ptr, text.len);
    bracketed[text.len + 1] = '>';
    add(out, KEY_MESSAGE_ID, text);
    add(out, KEY_MESSAGE_ID, str_of(bracketed, text.len + 2));
    return true;
}

bool event_guess_index(const struct event_term *term, struct store_term *out)
{
    switch (term->kind) {
    case EVENT_TERM_ID:
        add(out, KEY_SESSION, term->text);
        add(out, KEY_ENTRY, term->text);
        return term->text.len == MAIL_ID_LEN;
    case EVENT_TERM_DOMAIN:
        add(out, KEY_DOMAIN, term->text);
        return true;
    case EVENT_TERM_ADDRESS:
        add(out, KEY_FROM, term->text);
        add(out, KEY_TO, term->text);
        add(out, KEY_USER, term->text);
        return event_guess_index_message_id(term->text, out);
    default:
        return false;
    }
}
