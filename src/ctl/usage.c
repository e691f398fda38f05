/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/usage.c - what the usage line of a command says, as words.
 *
 * Options begin with two dashes, an argument in capitals behind one is its value, FILE and FOLDER
 * are files, and words with bars between them are what may stand there.
 */
#include "ctl/usage.h"

#include "base/str.h"
#include "ctl/selection.h"

#include <stdio.h>
#include <string.h>

static void add_word(char *list, struct str word)
{
    size_t used = strlen(list);
    snprintf(list + used, USAGE_WORDS_MAX - used, "%s%.*s", used ? " " : "", STR_ARG(word));
}

static bool is_file_word(struct str word)
{
    static const char *const names[] = {"FILE", "[FILE]", "FILE]", "FOLDER", "TEST]", "[TEST…]"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_equal(word, str_c(names[i])))
            return true;
    return false;
}

static struct str strip(struct str word)
{
    while (word.len && (word.ptr[0] == '[' || word.ptr[0] == '('))
        word = str_from(word, 1);
    while (word.len && (word.ptr[word.len - 1] == ']' || word.ptr[word.len - 1] == ')'))
        word.len--;
    return word;
}

/* "bash|zsh|fish", "relay-authenticated": lower case is meant literally. */
static void take_choices(struct str word, struct usage *out)
{
    while (word.len) {
        ptrdiff_t bar = str_find(word, '|');
        size_t length = bar < 0 ? word.len : (size_t)bar;
        struct str one = str_slice(word, 0, length);
        if (str_starts(one, STR("--")))
            add_word(out->options, one);
        else if (one.len && one.ptr[0] >= 'a' && one.ptr[0] <= 'z')
            add_word(out->choices, one);
        word = str_from(word, bar < 0 ? length : length + 1);
    }
}

void usage_read(const struct ctl_command *command, struct usage *out)
{
    struct str text = str_c(command->usage);
    unsigned of = selection_kind_of(command);
    bool value_next = false; /* the word before was an option with more behind it */
    *out = (struct usage){0};
    for (const struct selector *selector = selection_selectors; selector->option; selector++) {
        if (!(selector->of & of))
            continue;
        add_word(out->options, str_c(selector->option));
        add_word(out->valued, str_c(selector->option));
    }
    while (text.len) {
        ptrdiff_t blank = str_find(text, ' ');
        size_t length = blank < 0 ? text.len : (size_t)blank;
        struct str raw = str_slice(text, 0, length);
        struct str word = strip(raw);
        text = str_from(text, blank < 0 ? length : length + 1);
        bool closed = raw.len && raw.ptr[raw.len - 1] == ']';
        if (str_starts(word, STR("-"))) {
            take_choices(word, out);
            value_next = !closed && text.len && text.ptr[0] != '[' && text.ptr[0] != '-';
            if (value_next)
                add_word(out->valued, word);
        } else if (value_next) {
            value_next = false;
        } else {
            out->file = out->file || is_file_word(raw);
            take_choices(word, out);
        }
    }
}

bool usage_is_first_of_noun(const struct ctl_command *command)
{
    for (const struct ctl_command *c = ctl_commands; c != command; c++)
        if (strcmp(c->noun, command->noun) == 0)
            return false;
    return true;
}
