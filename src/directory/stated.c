/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/stated.h"

#include "base/memory.h"
#include "directory/directory_internal.h"

#include <stdlib.h>

struct directory *directory_stated_new(const struct directory_stated *stated)
{
    struct directory *directory = NEW(struct directory);
    directory->stated = stated;
    return directory;
}

void directory_stated_free(struct directory *directory)
{
    free(directory);
}

/* The end of a path is enough to name a file, from a slash on. */
static bool names_file(struct str path, struct str name)
{
    if (path.len == name.len || name.len == 0)
        return str_equal(path, name);
    return path.len > name.len && str_equal(str_from(path, path.len - name.len), name) &&
           path.ptr[path.len - name.len - 1] == '/';
}

static const struct directory_stated_source *find(const struct directory_stated *stated,
                                                  struct str name, bool is_file)
{
    for (size_t i = 0; i < stated->source_count; i++) {
        const struct directory_stated_source *source = &stated->sources[i];
        if (source->is_file == is_file &&
            (is_file ? names_file(name, source->name) : str_equal(name, source->name)))
            return source;
    }
    return NULL;
}

void directory_stated_login(const struct directory_stated *stated, struct str name, bool is_file,
                            struct str login, struct str password, struct arena *arena,
                            struct directory_answer *out)
{
    const struct directory_stated_source *source = find(stated, name, is_file);
    *out = (struct directory_answer){.reply = {.text = STR_EMPTY}, .detail = STR_EMPTY};
    if (!source || source->state != DIRECTORY_STATED_UP) {
        directory_answer_login(out, DIRECTORY_LOGIN_ERROR, arena, "%.*s: %s", STR_ARG(name),
                               source ? "stated to be down" : "nothing is stated of it");
        return;
    }
    for (size_t i = 0; i < source->login_count; i++) {
        const struct directory_stated_login *one = &source->logins[i];
        if (!str_equal_nocase(one->login, login))
            continue;
        bool fits = password.len && str_equal(one->password, password);
        directory_answer_login(out, fits ? DIRECTORY_YES : DIRECTORY_NO, arena, "stated");
        out->senders = fits ? one->senders : NULL;
        out->sender_count = fits ? one->sender_count : 0;
        return;
    }
    directory_answer_login(out, DIRECTORY_UNKNOWN, arena, "not stated");
}

static bool is_recipient(const struct directory_stated_source *source, struct str address)
{
    for (size_t i = 0; i < source->recipient_count; i++) {
        struct str one = source->recipients[i];
        bool whole_domain = str_starts(one, STR("@"));
        size_t at = (size_t)str_find_last(address, '@'); /* -1 is past every end */
        if (str_equal_nocase(one, address) ||
            (whole_domain && at < address.len && str_equal_nocase(one, str_from(address, at))))
            return true;
    }
    return false;
}

void directory_stated_lookup(const struct directory_stated *stated, struct str name, bool is_file,
                             struct str address, struct arena *arena, struct directory_answer *out)
{
    const struct directory_stated_source *source = find(stated, name, is_file);
    *out = (struct directory_answer){.reply = {.text = STR_EMPTY}, .detail = STR_EMPTY};
    if (!source || source->state == DIRECTORY_STATED_DOWN)
        directory_answer_lookup(out, DIRECTORY_ERROR, arena, "%.*s: %s", STR_ARG(name),
                                source ? "stated to be down" : "nothing is stated of it");
    else if (source->state == DIRECTORY_STATED_DENIES)
        directory_answer_lookup(out, DIRECTORY_DENIED, arena, "stated to refuse the question");
    else if (is_recipient(source, address))
        directory_answer_lookup(out, DIRECTORY_FOUND, arena, "stated");
    else
        directory_answer_lookup(out, DIRECTORY_MISSING, arena, "not stated");
}

/* ---- scanners ---- */

bool directory_is_stated(const struct directory *directory)
{
    return directory->stated != NULL;
}

const struct directory_stated_source *directory_stated_scanner(const struct directory *directory,
                                                               struct str name)
{
    const struct directory_stated_source *source =
        find(directory->stated, name, /* is_file= */ false);
    return source && source->state == DIRECTORY_STATED_UP ? source : NULL;
}
