/* SPDX-License-Identifier: Apache-2.0 */
/* flow/script_describe.c - what scripts find, for people: Markdown from the tables of the rows. */
#include "base/buf.h"
#include "flow/script.h"

static void describe_where(unsigned where, struct buf *out)
{
    static const struct {
        unsigned bit;
        const char *name;
    } places[] = {
        {FLOW_IN_AUTHENTICATION, "authentication"},
        {FLOW_IN_RECIPIENT, "recipient"},
        {FLOW_IN_CONTENT, "content"},
        {FLOW_BEFORE_ATTEMPT, "before"},
        {FLOW_AFTER_ATTEMPT, "after"},
    };
    const char *between = "";
    if (where == FLOW_EVERYWHERE) {
        buf_append(out, STR("everywhere"));
        return;
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (!(where & places[i].bit))
            continue;
        buf_printf(out, "%s%s", between, places[i].name);
        between = ", ";
    }
}

static void describe_rows(const char *object, char between, const struct script_row *rows,
                          bool functions, struct buf *out)
{
    buf_printf(out, "| %s | where | meaning |\n|---|---|---|\n", functions ? "function" : "value");
    for (const struct script_row *row = rows; row->name; row++) {
        if ((row->arguments != NULL) != functions)
            continue;
        buf_printf(out, "| `%s%c%s", object, functions ? between : '.', row->name);
        if (functions)
            buf_printf(out, "(%s)", row->arguments);
        buf_append(out, STR("` | "));
        describe_where(row->where, out);
        buf_append(out, STR(" | "));
        option_print_prose(str_c(row->text), out);
        buf_append(out, STR(" |\n"));
    }
    buf_append_byte(out, '\n');
}

void flow_describe_scripts(struct buf *out)
{
    buf_append(out, STR("## Values of `mail`\n\n"
                        "They can be read, not assigned to. A name that does not exist, or not in "
                        "this place, is an error.\n\n"));
    describe_rows("mail", ':', flow_mail_rows, /* functions= */ false, out);
    buf_append(out, STR("## Functions of `mail`\n\n"));
    describe_rows("mail", ':', flow_mail_rows, /* functions= */ true, out);
    buf_append(out, STR("## Functions of `postern`\n\n"));
    describe_rows("postern", '.', flow_postern_rows, /* functions= */ true, out);
    buf_append(
        out,
        STR("## What is left of Lua's library\n\n"
            "`string`, `table`, `math`, `utf8`, `coroutine`, and `assert`, `error`, "
            "`getmetatable`, "
            "`ipairs`, `next`, `pairs`, `pcall`, `rawequal`, `rawget`, `rawlen`, `rawset`, "
            "`require`, `select`, `setmetatable`, `tonumber`, `tostring`, `type`, `xpcall`. There "
            "is no `io`, `os`, `debug`, `package`, `load`, `print`, no `string.dump` and no "
            "`__gc`.\n"));
}
