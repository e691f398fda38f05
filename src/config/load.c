/* SPDX-License-Identifier: Apache-2.0 */
/* config/load.c - reading the files of a configuration and merging them into one tree. */
#include "config/load.h"

#include "base/file.h"
#include "base/memory.h"
#include "config/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 1000 };

struct loading {
    struct arena *arena;
    struct config_report *report;
    struct config_node *root;
    unsigned files;
    bool broken; /* a file could not be read to its end: names are missing that are there */
};

/* ---- files ---- */

static struct config_file *new_file(struct loading *loading, struct str name, struct str folder)
{
    struct config_file *file = ARENA_NEW(loading->arena, struct config_file);
    file->name = arena_str(loading->arena, name);
    file->folder = arena_str(loading->arena, folder);
    file->text = STR_EMPTY;
    file->order = loading->files++;
    return file;
}

static void unreadable(struct loading *loading, const struct config_file *file, const char *why)
{
    config_problem(loading->report, CONFIG_ERROR, "unreadable", (struct config_place){.file = file},
                   "cannot be read: %s", why);
}

/* Text of the file into `file->text`; false: reported. */
static bool read_file(struct loading *loading, struct config_file *file)
{
    struct buf text BUF_CLEANUP;
    struct error err;
    buf_init(&text, CONFIG_TEXT_MAX);
    if (file_read_path(arena_c(loading->arena, file->name), &text, &err) != OK) {
        unreadable(loading, file, err.text);
        return false;
    }
    struct str bytes = buf_str(&text);
    if (str_starts(bytes, STR("\xEF\xBB\xBF"))) /* a byte order mark says nothing in UTF-8 */
        bytes = str_from(bytes, 3);
    file->text = arena_str(loading->arena, bytes);
    return true;
}

static struct str folder_of(struct str path)
{
    ptrdiff_t slash = str_find_last(path, '/');
    return slash < 0 ? STR(".") : str_slice(path, 0, slash ? (size_t)slash : 1);
}

/* Where the file is, behind links; of a file that is gone, where it was. */
static struct str absolute_folder(struct arena *arena, const char *path)
{
    char *resolved = realpath(path, NULL);
    struct str folder = folder_of(str_c(resolved ? resolved : path));
    char *behind = resolved ? NULL : realpath(arena_c(arena, folder), NULL);
    folder = arena_str(arena, behind ? str_c(behind) : folder);
    free(resolved);
    free(behind);
    return folder;
}

/* ---- merging ---- */

static void report_twice(struct loading *loading, const struct config_pair *second,
                         const struct config_pair *first)
{
    struct config_problem *problem =
        config_problem(loading->report, CONFIG_ERROR, "duplicate-name", second->place,
                       "\"%.*s\" is defined in two files", STR_ARG(second->key));
    struct str place = config_place_text(loading->report->arena, first->place);
    problem->fix =
        arena_printf(loading->report->arena, "keep one; the other is at %.*s", STR_ARG(place));
}

/* Sections are maps of names; `flows` holds them one level deeper. */
static bool merges(const struct config_pair *into, const struct config_pair *from, unsigned depth)
{
    if (into->value.kind != CONFIG_MAP || from->value.kind != CONFIG_MAP)
        return false;
    return depth == 0 || (depth == 1 && (str_equal(into->key, STR("authentication")) ||
                                         str_equal(into->key, STR("recipient")) ||
                                         str_equal(into->key, STR("content"))));
}

static void merge(struct loading *loading, struct config_node *into, const struct config_node *from,
                  unsigned depth)
{
    size_t before = into->count;
    struct config_pair *pairs =
        arena_alloc_array(loading->arena, into->count + from->count, sizeof *pairs);
    if (into->count)
        memcpy(pairs, into->pairs, into->count * sizeof *pairs);
    into->pairs = pairs;
    for (size_t i = 0; i < from->count; i++) {
        const struct config_pair *pair = &from->pairs[i];
        struct config_pair *known = NULL;
        for (size_t k = 0; k < before && !known; k++)
            known = str_equal(pairs[k].key, pair->key) ? &pairs[k] : NULL;
        if (!known)
            pairs[into->count++] = *pair;
        else if (merges(known, pair, depth))
            merge(loading, &known->value, &pair->value, depth + 1);
        else if (depth > 0 || !str_equal(pair->key, STR("version")))
            report_twice(loading, pair, known);
    }
}

static void add_text(struct loading *loading, const struct config_file *file)
{
    struct config_node root;
    if (config_yaml_read(file, loading->arena, loading->report, &root) == FAILED && !root.count) {
        loading->broken = true; /* and reported */
        return;
    }
    if (root.kind != CONFIG_MAP) {
        if (root.kind == CONFIG_SCALAR && root.is_null)
            return; /* only comments */
        config_problem(loading->report, CONFIG_ERROR, "wrong-type", root.place,
                       "a configuration is a map of sections")
            ->fix = STR("begin with \"version: 1\"");
        return;
    }
    if (loading->root->count == 0)
        *loading->root = root;
    else
        merge(loading, loading->root, &root, 0);
}

/* ---- conf.d ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_part(const char *name)
{
    return name[0] != '.' && str_ends(str_c(name), STR(".yaml"));
}

static void add_file(struct loading *loading, struct config_texts *out, struct str path)
{
    struct config_file *file = new_file(loading, path, STR_EMPTY);
    if (read_file(loading, file))
        out->items[out->count++] = (struct config_text){.name = file->name, .text = file->text};
}

static void add_folder(struct loading *loading, struct config_texts *out, struct str folder)
{
    DIR *dir = opendir(arena_c(loading->arena, folder));
    if (!dir) {
        if (errno != ENOENT)
            unreadable(loading, new_file(loading, folder, folder), strerror(errno));
        return;
    }
    const char *names[FILES_MAX];
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!is_part(entry->d_name))
            continue;
        if (count == FILES_MAX) {
            unreadable(loading, new_file(loading, folder, folder), "more than 1,000 files");
            break;
        }
        names[count++] = arena_c(loading->arena, str_c(entry->d_name));
    }
    closedir(dir);
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++)
        add_file(loading, out, arena_printf(loading->arena, "%.*s/%s", STR_ARG(folder), names[i]));
}

enum result config_read_texts(const char *path, struct arena *arena, struct config_report *report,
                              struct config_texts *out)
{
    size_t errors_before = report->errors;
    struct loading loading = {.arena = arena, .report = report};
    *out = (struct config_texts){
        .items = arena_alloc_array(arena, FILES_MAX + 1, sizeof(struct config_text))};
    add_file(&loading, out, str_c(path));
    if (out->count == 0)
        return FAILED;
    ptrdiff_t slash = str_find_last(str_c(path), '/');
    struct str beside = str_slice(str_c(path), 0, (size_t)(slash + 1));
    add_folder(&loading, out, arena_printf(arena, "%.*sconf.d", STR_ARG(beside)));
    return report->errors == errors_before ? OK : FAILED;
}

enum result config_load_texts(const struct config_texts *texts, struct arena *arena,
                              struct config_report *report, struct config_node *out_root)
{
    size_t errors_before = report->errors;
    struct loading loading = {.arena = arena, .report = report, .root = out_root};
    *out_root = (struct config_node){.kind = CONFIG_MAP, .text = STR_EMPTY};
    for (size_t i = 0; i < texts->count; i++) {
        const char *name = arena_c(arena, texts->items[i].name);
        struct config_file *file = new_file(&loading, str_c(name), absolute_folder(arena, name));
        if (texts->items[i].folder.len)
            file->folder = arena_str(arena, texts->items[i].folder);
        file->text = texts->items[i].text;
        if (i == 0)
            out_root->place =
                (struct config_place){.file = file, .line = 1, .column = 1, .length = 1};
        add_text(&loading, file);
    }
    if (loading.broken)
        out_root->count = 0;
    return report->errors == errors_before ? OK : FAILED;
}

enum result config_load(const char *path, struct arena *arena, struct config_report *report,
                        struct config_node *out_root)
{
    struct config_texts texts;
    *out_root = (struct config_node){.kind = CONFIG_MAP, .text = STR_EMPTY};
    enum result read = config_read_texts(path, arena, report, &texts);
    if (texts.count == 0) {
        struct config_file *file = ARENA_NEW(arena, struct config_file);
        *file = (struct config_file){.name = arena_str(arena, str_c(path)), .text = STR_EMPTY};
        file->folder = absolute_folder(arena, path);
        out_root->place = (struct config_place){.file = file, .line = 1, .column = 1, .length = 1};
        return FAILED;
    }
    enum result loaded = config_load_texts(&texts, arena, report, out_root);
    return read == OK ? loaded : FAILED;
}

enum result config_load_text(struct str name, struct str text, struct arena *arena,
                             struct config_report *report, struct config_node *out_root)
{
    struct loading loading = {.arena = arena, .report = report, .root = out_root};
    struct config_file *file = new_file(&loading, name, STR_EMPTY);
    *out_root = (struct config_node){.kind = CONFIG_MAP, .text = STR_EMPTY};
    if (text.len > CONFIG_TEXT_MAX) {
        unreadable(&loading, file, strerror(EFBIG));
        return FAILED;
    }
    file->text = arena_str(arena, text);
    return config_yaml_read(file, arena, report, out_root);
}
