/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/help.c - `postern --help`, `postern NOUN --help`, `postern NOUN VERB --help`, "did you mean".
 *
 * From the rows of the commands, for a terminal of 80 columns.
 */
#include "ctl/help.h"

#include "config/report.h"
#include "ctl/selection.h"
#include "ctl/usage.h"

#include <string.h>

enum { COLUMNS = 80, NOUN_COLUMNS = 14, SELECTOR_COLUMNS = 22, KNOWN_MAX = 128 };

/* Up to a blank that stands in no brackets: "[--reason T]" is one. */
static struct str take_word(struct str *rest)
{
    size_t len = 0;
    int depth = 0;
    for (; len < rest->len && (depth > 0 || rest->ptr[len] != ' '); len++)
        depth += (rest->ptr[len] == '[') - (rest->ptr[len] == ']');
    struct str word = str_slice(*rest, 0, len);
    *rest = str_from(*rest, len < rest->len ? len + 1 : len);
    return word;
}

/* Words from column `indent` on; the first line begins where the cursor is, at that column. */
static void print_wrapped(const char *text, size_t indent, FILE *out)
{
    struct str rest = str_c(text);
    size_t column = indent;
    bool first = true;
    while (rest.len) {
        struct str word = take_word(&rest);
        if (!first && column + 1 + word.len > COLUMNS) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
            first = true;
        }
        fprintf(out, "%s%.*s", first ? "" : " ", STR_ARG(word));
        column += word.len + !first;
        first = false;
    }
    fputc('\n', out);
}

static void print_name(const struct ctl_command *command, FILE *out)
{
    fprintf(out, "postern %s%s%s", command->noun, command->verb ? " " : "",
            command->verb ? command->verb : "");
}

static void print_verbs(const char *noun, FILE *out)
{
    char verbs[512] = "";
    size_t used = 0;
    for (const struct ctl_command *c = ctl_commands; c->noun; c++)
        if (strcmp(c->noun, noun) == 0 && used < sizeof verbs)
            used += (size_t)snprintf(verbs + used, sizeof verbs - used, "%s%s", used ? ", " : "",
                                     c->verb);
    print_wrapped(verbs, NOUN_COLUMNS, out);
}

static void print_all(FILE *out)
{
    fprintf(out, "usage: postern [--socket PATH] [--json|--plain] [--yes] [--no-color]\n"
                 "               NOUN [VERB] …\n\n");
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        if (!usage_is_first_of_noun(c))
            continue;
        fprintf(out, "  %-*s", NOUN_COLUMNS - 2, c->noun);
        if (c->verb)
            print_verbs(c->noun, out);
        else
            print_wrapped(c->text, NOUN_COLUMNS, out);
    }
    fprintf(out, "\nexit codes: 0 yes, 1 no, 2 usage, 3 no daemon, 4 not allowed, 5 conflict,\n"
                 "            6 in part, 7 try again\n"
                 "more: postern NOUN --help | postern NOUN VERB --help | man postern\n");
}

static bool is_noun(const char *word)
{
    for (const struct ctl_command *c = ctl_commands; c->noun; c++)
        if (strcmp(c->noun, word) == 0)
            return true;
    return false;
}

static void print_noun(const char *noun, FILE *out)
{
    fprintf(out, "postern %s has these verbs:\n", noun);
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        if (strcmp(c->noun, noun) != 0)
            continue;
        fprintf(out, "  %-*s", NOUN_COLUMNS - 2, c->verb);
        print_wrapped(c->text, NOUN_COLUMNS, out);
    }
}

int help_noun(int argc, char **argv, bool asked)
{
    FILE *out = asked ? stdout : stderr;
    if (argc > 0 && !is_noun(argv[0]))
        return help_unknown(argc, argv);
    if (argc > 0)
        print_noun(argv[0], out);
    else
        print_all(out);
    return asked ? CTL_YES : CTL_USAGE;
}

void help_command(const struct ctl_command *command, FILE *out)
{
    unsigned of = selection_kind_of(command);
    fprintf(out, "usage: ");
    print_name(command, out);
    fputc(' ', out);
    print_wrapped(command->usage,
                  strlen("usage: postern ") + strlen(command->noun) + 1 +
                      (command->verb ? strlen(command->verb) + 1 : 0),
                  out);
    fprintf(out, "  ");
    print_wrapped(command->text, 2, out);
    if (strstr(command->usage, "EXPRESSION"))
        fprintf(out, "\nterms, all of which must fit:\n"
                     "  to: from: subject: client: user: ref: session: message_id:\n"
                     "  verdict: reason: event: severity: and any other field of events\n"
                     "  since: until: today yesterday; or a word: an id, a part of any text\n");
    if (of)
        fprintf(out, "\nselectors:\n");
    for (const struct selector *selector = selection_selectors; selector->option; selector++) {
        if (!(selector->of & of))
            continue;
        int width = fprintf(out, "  %s %s", selector->option, selector->value);
        fprintf(out, "%*s", SELECTOR_COLUMNS - width, "");
        print_wrapped(selector->text, SELECTOR_COLUMNS, out);
    }
}

/* ---- did you mean ---- */

/* Of the nouns, or of the verbs of one (NULL: of the nouns). */
static struct str nearest_word(const char *word, const char *noun)
{
    struct str known[KNOWN_MAX];
    size_t count = 0;
    for (const struct ctl_command *c = ctl_commands; c->noun && count < KNOWN_MAX; c++)
        if (!noun || (c->verb && strcmp(c->noun, noun) == 0))
            known[count++] = str_c(noun ? c->verb : c->noun);
    return config_nearest(str_c(word), known, count);
}

int help_unknown(int argc, char **argv)
{
    bool known = is_noun(argv[0]);
    if (known && argc == 1)
        return help_noun(argc, argv, /* asked= */ false);
    const char *noun = known ? argv[0] : "";
    struct str nearest = nearest_word(argv[known], known ? noun : NULL);
    if (nearest.len) {
        fprintf(stderr,
                "postern: there is no %s%s%s; did you mean %s%s%.*s? (postern --help lists all)\n",
                noun, known ? " " : "", argv[known], noun, known ? " " : "", STR_ARG(nearest));
        return CTL_USAGE;
    }
    fprintf(stderr, "postern: there is no %s%s%s\n", noun, known ? " " : "", argv[known]);
    return help_noun(known, argv, /* asked= */ false);
}

void help_unknown_option(const struct ctl_command *command, const char *option)
{
    struct usage usage;
    struct str known[KNOWN_MAX];
    struct str options;
    size_t count = 0;
    usage_read(command, &usage);
    options = str_c(usage.options);
    while (options.len && count < KNOWN_MAX && str_split(&options, ' ', &known[count]))
        count++;
    struct str nearest = config_nearest(str_c(option), known, count);
    fprintf(stderr, "postern: unknown option %s", option);
    if (nearest.len)
        fprintf(stderr, "; did you mean %.*s?\n", STR_ARG(nearest));
    else
        fprintf(stderr, "; usage: postern %s%s%s %s\n", command->noun, command->verb ? " " : "",
                command->verb ? command->verb : "", command->usage);
}
