/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/show.c - `postern config show --effective [FILE]`: every setting in force, with the place
 * where it was written or the word default. From the file, without the daemon; secrets are masked.
 */
#include "base/buf.h"
#include "ctl/list.h"
#include "gateway/settings.h"

#include <stdio.h>

enum { TEXT_MAX = 64 * 1024 * 1024, DEPTH_MAX = 16 };

/* ---- --json: an object a setting ---- */

struct walk {
    struct str keys[DEPTH_MAX]; /* of the maps around, by depth */
    unsigned item;              /* in the list that is open */
};

/* "    key: value  # place" in its parts; value and place may be empty. */
static void split(struct str line, struct str *out_key, struct str *out_value,
                  struct str *out_place)
{
    ptrdiff_t mark = -1;
    for (size_t i = 0; i + 4 <= line.len; i++) /* the last: a value may hold the same characters */
        if (str_starts(str_from(line, i), STR("  # ")))
            mark = (ptrdiff_t)i;
    *out_place = mark < 0 ? STR_EMPTY : str_from(line, (size_t)mark + 4);
    struct str rest = mark < 0 ? line : str_slice(line, 0, (size_t)mark);
    if (str_starts(rest, STR("- "))) {
        *out_key = STR_EMPTY;
        *out_value = str_from(rest, 2);
        return;
    }
    ptrdiff_t colon = str_find_str(rest, STR(": "));
    size_t key = colon < 0 ? rest.len - 1 : (size_t)colon; /* else it ends in a colon */
    *out_key = str_slice(rest, 0, key);
    *out_value = colon < 0 ? STR_EMPTY : str_from(rest, key + 2);
}

static void print_setting(const struct ctl *ctl, struct walk *walk, size_t depth, struct str line)
{
    struct buf path BUF_CLEANUP;
    struct str key, value, place;
    buf_init(&path, TEXT_MAX);
    split(line, &key, &value, &place);
    walk->keys[depth] = key;
    if (value.len == 0) {
        walk->item = 0;
        return;
    }
    for (size_t i = 0; i < depth; i++)
        buf_printf(&path, "%s%.*s", i ? "." : "", STR_ARG(walk->keys[i]));
    if (key.len)
        buf_printf(&path, "%s%.*s", depth ? "." : "", STR_ARG(key));
    else
        buf_printf(&path, "[%u]", walk->item++);
    bool is_default = str_equal(place, STR("default"));
    json_t *one = json_pack("{s:o, s:o, s:b, s:o}", "setting", json_stringn(path.ptr, path.len),
                            "value", json_stringn(value.ptr, value.len), "default", (int)is_default,
                            "place", json_stringn(place.ptr, is_default ? 0 : place.len));
    if (one)
        ctl_print_item(ctl, one, NULL);
    json_decref(one);
}

static void print_json(const struct ctl *ctl, struct str text)
{
    struct walk walk = {0};
    while (text.len) {
        ptrdiff_t end = str_find(text, '\n');
        struct str line = str_slice(text, 0, end < 0 ? text.len : (size_t)end);
        text = str_from(text, end < 0 ? text.len : (size_t)end + 1);
        size_t blanks = 0;
        while (blanks < line.len && line.ptr[blanks] == ' ')
            blanks++;
        if (blanks < line.len && blanks / 2 < DEPTH_MAX)
            print_setting(ctl, &walk, blanks / 2, str_from(line, blanks));
    }
}

int ctl_config_show(struct ctl *ctl)
{
    bool effective = ctl_flag(ctl, "--effective");
    ctl_arguments(ctl, 0, 1);
    if (!effective)
        return ctl_config_revision(ctl);
    const char *path = ctl->argc ? ctl->argv[0] : ctl_config_path(ctl);
    struct config_report report;
    struct error err;
    config_report_init(&report, ctl->arena);
    struct settings *settings = NULL;
    struct buf text BUF_CLEANUP;
    buf_init(&text, TEXT_MAX);
    if (settings_load(path, &report, &settings, &err) != OK) {
        config_report_print(&report, false, &text);
        fwrite(buf_str(&text).ptr, 1, text.len, stderr);
        fprintf(stderr, "postern: %s; no value is in force\n", err.text);
        return CTL_NO;
    }
    settings_effective(settings, &text);
    settings_unref(settings);
    if (ctl->json)
        print_json(ctl, buf_str(&text));
    else
        fwrite(buf_str(&text).ptr, 1, text.len, stdout);
    return CTL_YES;
}
