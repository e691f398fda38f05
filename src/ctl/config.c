/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/config.c - `postern config history, show, diff`: looking at revisions. */
#include "ctl/config.h"
#include "ctl/list.h"

#include "admin/diff.h"
#include "admin/revisions.h"
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_MAX = 64 * 1024 * 1024 };

int ctl_config_get(struct ctl *ctl, const char *path, json_t **out)
{
    struct ctl_answer answer;
    int code = ctl_request(ctl, "GET", path, NULL, &answer);
    *out = code ? NULL : answer.json;
    return code;
}

const char *ctl_config_path(struct ctl *ctl)
{
    static const char usual[] = "/etc/postern/postern.yaml";
    bool other = strcmp(ctl->socket_path, "/run/postern/control.sock") != 0;
    json_t *config;
    if ((!other && access(usual, F_OK) == 0) || access(ctl->socket_path, F_OK) != 0 ||
        ctl_config_get(ctl, "/api/v1/config", &config) != CTL_YES)
        return usual;
    const char *path = arena_c(ctl->arena, str_c(ctl_text(config, "file")));
    json_decref(config);
    return path[0] ? path : usual;
}

int ctl_config_texts(struct ctl *ctl, const char *revision, struct config_texts *out)
{
    json_t *object;
    struct str path =
        arena_printf(ctl->arena, "/api/v1/config/revisions/%s", ctl_url_text(ctl, revision));
    int code = ctl_config_get(ctl, path.ptr, &object);
    if (code)
        return code;
    json_t *files = json_object_get(object, "files");
    size_t count = json_array_size(files);
    out->items = arena_alloc_array(ctl->arena, count + 1, sizeof *out->items);
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        json_t *file = json_array_get(files, i);
        out->items[i] =
            (struct config_text){.name = arena_str(ctl->arena, str_c(ctl_text(file, "name"))),
                                 .text = arena_str(ctl->arena, str_c(ctl_text(file, "text")))};
    }
    json_decref(object);
    return CTL_YES;
}

bool ctl_config_read(struct ctl *ctl, const char *path, struct config_texts *out)
{
    struct config_report report;
    config_report_init(&report, ctl->arena);
    if (config_read_texts(path, ctl->arena, &report, out) == OK)
        return true;
    struct buf text BUF_CLEANUP;
    buf_init(&text, TEXT_MAX);
    config_report_print(&report, false, &text);
    fwrite(buf_str(&text).ptr, 1, text.len, stderr);
    return false;
}

struct str ctl_folder_of(struct str path)
{
    ptrdiff_t slash = str_find_last(path, '/');
    return slash < 0 ? STR(".") : str_slice(path, 0, slash ? (size_t)slash : 1);
}

void ctl_config_place(struct ctl *ctl, struct config_texts *texts, const char *file)
{
    char *resolved = realpath(file, NULL);
    struct str folder = ctl_folder_of(str_c(resolved ? resolved : file));
    folder = arena_str(ctl->arena, folder);
    free(resolved);
    for (size_t i = 0; i < texts->count; i++)
        texts->items[i].folder =
            i == 0 ? folder : arena_printf(ctl->arena, "%.*s/conf.d", STR_ARG(folder));
}

static const char *colour_of(struct ctl *ctl, struct str line)
{
    if (!ctl->colour || line.len == 0)
        return "";
    return line.ptr[0] == '-'   ? "\033[31m"
           : line.ptr[0] == '+' ? "\033[32m"
           : line.ptr[0] == '@' ? "\033[36m"
                                : "";
}

bool ctl_config_print_diff(struct ctl *ctl, const struct config_texts *from,
                           const struct config_texts *to, const char *from_name,
                           const char *to_name)
{
    struct buf text BUF_CLEANUP;
    const struct diff_sides sides = {str_c(from_name), str_c(to_name)};
    buf_init(&text, TEXT_MAX);
    diff_texts(from, to, sides, &text);
    struct str rest = buf_str(&text);
    struct str line;
    while (rest.len && str_split(&rest, '\n', &line)) {
        const char *colour = colour_of(ctl, line);
        printf("%s", colour);
        ctl_print_text(arena_c(ctl->arena, line));
        printf("%s\n", colour[0] ? "\033[0m" : "");
    }
    return text.len > 0;
}

/* ---- the commands ---- */

static void print_revision(json_t *one)
{
    printf("%-6s ", ctl_text(one, "revision"));
    ctl_print_time(ctl_text(one, "time"), true);
    printf("  %-12s %-18s ", ctl_text(one, "state"), ctl_text(one, "actor"));
    ctl_print_text(ctl_text(one, "reason"));
    printf("\n");
}

int ctl_config_history(struct ctl *ctl)
{
    const char *limit = ctl_option(ctl, "--limit");
    const struct ctl_list list = {"/api/v1/config/revisions", "Revision", .limit = limit,
                                  .print = print_revision};
    struct ctl_listed listed;
    ctl_arguments(ctl, 0, 0);
    int code = ctl_list(ctl, &list, &listed);
    if (code == CTL_YES)
        ctl_listed_free(&listed);
    return code;
}

/* "r41" of what is in force. */
static int find_in_force(struct ctl *ctl, const char **out)
{
    json_t *object;
    int code = ctl_config_get(ctl, "/api/v1/config", &object);
    if (code == CTL_YES)
        *out = arena_c(ctl->arena, str_c(ctl_text(object, "revision")));
    json_decref(object);
    return code;
}

int ctl_config_revision(struct ctl *ctl)
{
    struct config_texts texts;
    ctl_arguments(ctl, 0, 1);
    const char *revision = ctl->argc ? ctl->argv[0] : NULL;
    int code = revision ? CTL_YES : find_in_force(ctl, &revision);
    if (code == CTL_YES)
        code = ctl_config_texts(ctl, revision, &texts);
    if (code)
        return code;
    for (size_t i = 0; i < texts.count; i++) {
        const struct config_text *one = &texts.items[i];
        if (ctl->json) {
            json_t *object = json_pack("{s:s%, s:s%}", "name", one->name.ptr, one->name.len, "text",
                                       one->text.ptr, one->text.len);
            ctl_print(ctl, object);
            json_decref(object);
            continue;
        }
        if (texts.count > 1)
            printf("# ---- %.*s\n", STR_ARG(one->name));
        ctl_print_file(one->text);
    }
    return CTL_YES;
}

/* A revision, or a file. */
static int read_side(struct ctl *ctl, const char *name, struct config_texts *out)
{
    unsigned number;
    if (revision_parse(str_c(name), &number))
        return ctl_config_texts(ctl, name, out);
    return ctl_config_read(ctl, name, out) ? CTL_YES : CTL_NO;
}

/* A file has its name before it. */
static const char *side_name(const char *name)
{
    unsigned number;
    return revision_parse(str_c(name), &number) ? name : "the file";
}

/* Nothing named: from what is in force to the file. One: from it to what is in force if it is a
 * revision, from what is in force to it if it is a file. */
static int choose_sides(struct ctl *ctl, const char **from, const char **to)
{
    json_t *object = NULL;
    unsigned number;
    int code = ctl->argc < 2 ? ctl_config_get(ctl, "/api/v1/config", &object) : CTL_YES;
    if (code)
        return code;
    if (ctl->argc == 2) {
        *from = ctl->argv[0];
        *to = ctl->argv[1];
        return CTL_YES;
    }
    const char *current = arena_c(ctl->arena, str_c(ctl_text(object, "revision")));
    const char *file = arena_c(ctl->arena, str_c(ctl_text(object, "file")));
    bool is_old = ctl->argc && revision_parse(str_c(ctl->argv[0]), &number);
    *from = is_old ? ctl->argv[0] : current;
    *to = is_old ? current : ctl->argc ? ctl->argv[0] : file;
    json_decref(object);
    return CTL_YES;
}

int ctl_config_diff(struct ctl *ctl)
{
    const char *from;
    const char *to;
    struct config_texts before;
    struct config_texts after;
    ctl_arguments(ctl, 0, 2);
    int code = choose_sides(ctl, &from, &to);
    if (code == CTL_YES)
        code = read_side(ctl, from, &before);
    if (code == CTL_YES)
        code = read_side(ctl, to, &after);
    if (code)
        return code;
    bool differs = ctl_config_print_diff(ctl, &before, &after, side_name(from), side_name(to));
    if (!ctl->json)
        fprintf(stderr,
                differs ? "postern: - is %s, + is %s\n"
                        : "postern: no difference between %s and %s\n",
                from, to);
    return differs ? CTL_NO : CTL_YES;
}
