/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/completion.c - `postern completion SHELL`: scripts for bash, zsh and fish.
 *
 * All of it is read from the rows of the commands: options are the words of `usage` that begin with
 * two dashes, an argument in capitals behind one is its value, FILE and DIR are files, and words
 * with bars between them are what may stand there.
 */
#include "base/buf.h"
#include "ctl/list.h"
#include "ctl/usage.h"

#include <stdio.h>
#include <string.h>

enum { SCRIPT_MAX = 1024 * 1024 };

static const char global_options[] = "--socket --json --plain --yes --no-color --help";

/* ---- nouns and verbs ---- */

static void print_nouns(struct buf *out)
{
    for (const struct ctl_command *c = ctl_commands; c->noun; c++)
        if (usage_is_first_of_noun(c))
            buf_printf(out, "%s%s", c == ctl_commands ? "" : " ", c->noun);
}

static void print_verbs(const char *noun, struct buf *out)
{
    bool first = true;
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        if (!c->verb || strcmp(c->noun, noun) != 0)
            continue;
        buf_printf(out, "%s%s", first ? "" : " ", c->verb);
        first = false;
    }
}

/* ---- bash ---- */

static void print_bash(struct buf *out)
{
    buf_append(out, STR("# bash completion for postern; made by: postern completion bash\n"
                        "_postern() {\n"
                        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                        "    local options= choices= valued=--socket file= key= word i\n"
                        "    local -a words=()\n"
                        "    COMPREPLY=()\n"
                        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                        "        word=${COMP_WORDS[i]}\n"
                        "        case $word in\n"
                        "            --socket) ((i++)) ;;\n"
                        "            -*) ;;\n"
                        "            *) words+=(\"$word\") ;;\n"
                        "        esac\n"
                        "    done\n"
                        "    case \"${words[0]-}\" in\n"
                        "        '') choices='"));
    print_nouns(out);
    buf_append(out, STR("' ;;\n"));
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        if (!c->verb || !usage_is_first_of_noun(c))
            continue;
        buf_printf(out, "        %s) key=2; [ ${#words[@]} -gt 1 ] || choices='", c->noun);
        print_verbs(c->noun, out);
        buf_append(out, STR("' ;;\n"));
    }
    buf_append(out, STR("    esac\n"
                        "    if [ -n \"$key\" ]; then key=\"${words[0]-} ${words[1]-}\"\n"
                        "    else key=${words[0]-}; fi\n"
                        "    case $key in\n"));
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        struct usage words;
        usage_read(c, &words);
        buf_printf(out, "        '%s%s%s')", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
        buf_printf(out, " options='%s' choices='%s' valued='--socket %s' file=%s ;;\n",
                   words.options, words.choices, words.valued, words.file ? "1" : "");
    }
    buf_printf(out,
               "    esac\n"
               "    case \" $valued \" in\n"
               "        *\" $prev \"*)\n"
               "            COMPREPLY=($(compgen -f -- \"$cur\"))\n"
               "            return ;;\n"
               "    esac\n"
               "    case $cur in\n"
               "        -*) COMPREPLY=($(compgen -W \"$options %s\" -- \"$cur\")) ;;\n"
               "        *)\n"
               "            COMPREPLY=($(compgen -W \"$choices\" -- \"$cur\"))\n"
               "            [ -z \"$file\" ] || COMPREPLY+=($(compgen -f -- \"$cur\")) ;;\n"
               "    esac\n"
               "}\n"
               "complete -o filenames -F _postern postern posternctl\n",
               global_options);
}

/* ---- zsh ---- */

/* Text between single quotes, and colons for _describe. */
static void print_quoted(const char *text, struct buf *out)
{
    for (; *text; text++) {
        if (*text == '\'')
            buf_append(out, STR("'\\''"));
        else if (*text == ':')
            buf_append(out, STR("\\:"));
        else
            buf_append_byte(out, *text);
    }
}

static void print_zsh(struct buf *out)
{
    buf_append(out, STR("#compdef postern posternctl\n# made by: postern completion zsh\n"
                        "_postern() {\n"
                        "    local -a nouns verbs options choices\n"
                        "    local noun=${words[2]} key=${words[2]} file=\n"
                        "    if (( CURRENT == 2 )); then\n"
                        "        nouns=(\n"));
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        if (!usage_is_first_of_noun(c))
            continue;
        buf_printf(out, "            '%s:", c->noun);
        print_quoted(c->verb ? c->noun : c->text, out);
        buf_append(out, STR("'\n"));
    }
    buf_append(out, STR("        )\n        _describe command nouns\n        return\n    fi\n"
                        "    case $noun in\n"));
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        if (!c->verb || !usage_is_first_of_noun(c))
            continue;
        buf_printf(out, "        %s) key=\"$noun ${words[3]}\"; verbs=(\n", c->noun);
        for (const struct ctl_command *v = ctl_commands; v->noun; v++) {
            if (strcmp(v->noun, c->noun) != 0 || !v->verb)
                continue;
            buf_printf(out, "            '%s:", v->verb);
            print_quoted(v->text, out);
            buf_append(out, STR("'\n"));
        }
        buf_append(out, STR("        ) ;;\n"));
    }
    buf_append(out, STR("    esac\n"
                        "    if (( CURRENT == 3 && $#verbs )); then\n"
                        "        _describe verb verbs\n        return\n    fi\n"
                        "    case $key in\n"));
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        struct usage words;
        usage_read(c, &words);
        buf_printf(out, "        '%s%s%s') options=(%s) choices=(%s) file=%s ;;\n", c->noun,
                   c->verb ? " " : "", c->verb ? c->verb : "", words.options, words.choices,
                   words.file ? "1" : "");
    }
    buf_printf(out,
               "    esac\n"
               "    if [[ $PREFIX == -* ]]; then\n"
               "        compadd -- $options %s\n"
               "    else\n"
               "        (( $#choices )) && compadd -- $choices\n"
               "        [[ -n $file || ${words[CURRENT-1]} == --* ]] && _files\n"
               "    fi\n"
               "}\n"
               "_postern \"$@\"\n",
               global_options);
}

/* ---- fish ---- */

static void fish_text(const char *text, struct buf *out)
{
    for (; *text; text++)
        buf_printf(out, "%s%c", *text == '\'' || *text == '\\' ? "\\" : "", *text);
}

static void fish_begin(const struct ctl_command *c, struct buf *out)
{
    buf_printf(out, "complete -c postern -n '__fish_seen_subcommand_from %s", c->noun);
    if (c->verb)
        buf_printf(out, "; and __fish_seen_subcommand_from %s", c->verb);
    buf_append(out, STR("'"));
}

static bool has_word(const char *list, struct str word)
{
    struct str rest = str_c(list);
    struct str one;
    while (str_split(&rest, ' ', &one))
        if (str_equal(one, word))
            return true;
    return false;
}

static void fish_options(const struct ctl_command *c, struct buf *out)
{
    struct usage words;
    usage_read(c, &words);
    struct str rest = str_c(words.options);
    struct str option;
    while (rest.len && str_split(&rest, ' ', &option)) {
        fish_begin(c, out);
        buf_printf(out, " -l %.*s%s\n", STR_ARG(str_from(option, 2)),
                   has_word(words.valued, option) ? " -r -F" : "");
    }
    if (words.choices[0]) {
        fish_begin(c, out);
        buf_printf(out, " -a '%s'\n", words.choices);
    }
    if (words.file) {
        fish_begin(c, out);
        buf_append(out, STR(" -F\n"));
    }
}

static void print_fish(struct buf *out)
{
    buf_append(out, STR("# fish completion for postern; made by: postern completion fish\n"
                        "complete -c postern -f\n"
                        "complete -c postern -l socket -r -F -d 'control socket'\n"
                        "complete -c postern -l json -d 'as the API gives it'\n"
                        "complete -c postern -l plain -d 'fields between tabs, no header'\n"
                        "complete -c postern -l yes -d 'no questions'\n"
                        "complete -c postern -l no-color\n"));
    for (const struct ctl_command *c = ctl_commands; c->noun; c++) {
        if (usage_is_first_of_noun(c)) {
            buf_printf(out, "complete -c postern -n __fish_use_subcommand -f -a %s -d '", c->noun);
            fish_text(c->verb ? c->noun : c->text, out);
            buf_append(out, STR("'\n"));
        }
        if (c->verb) {
            buf_printf(out,
                       "complete -c postern -n '__fish_seen_subcommand_from %s; and test "
                       "(count (commandline -opc)) -eq 2' -f -a %s -d '",
                       c->noun, c->verb);
            fish_text(c->text, out);
            buf_append(out, STR("'\n"));
        }
        fish_options(c, out);
    }
}

int ctl_completion(struct ctl *ctl)
{
    static const struct {
        const char *name;
        void (*print)(struct buf *out);
    } shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};
    ctl_arguments(ctl, 1, 1);
    struct buf text BUF_CLEANUP;
    buf_init(&text, SCRIPT_MAX);
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (strcmp(ctl->argv[0], shells[i].name) == 0)
            shells[i].print(&text);
    if (text.len == 0) {
        fprintf(stderr, "postern: the shells are: bash, zsh, fish\n");
        return CTL_USAGE;
    }
    if (ctl->json)
        ctl_print_page(ctl, "shell", ctl->argv[0], buf_str(&text));
    else
        fwrite(text.ptr, 1, text.len, stdout);
    return CTL_YES;
}
