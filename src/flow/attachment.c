/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/attachment.h"

static bool fits(const struct attachment_patterns *patterns, struct str text)
{
    for (size_t i = 0; i < patterns->count; i++)
        if (filename_matches(text, patterns->items[i]))
            return true;
    return false;
}

enum attachment_fault attachment_judge_name(const struct attachment_rules *rules,
                                            const struct filename *name, const char **out_why)
{
    bool excepted = fits(&rules->except, name->text);
    if (!excepted && fits(&rules->names, name->text)) {
        *out_why = "a forbidden name";
        return ATTACHMENT_FORBIDDEN;
    }
    if (!excepted && rules->dangerous_names && filename_is_dangerous(name->extension)) {
        *out_why = "a name of what runs when it is opened";
        return ATTACHMENT_FORBIDDEN;
    }
    if (!name->trick)
        return ATTACHMENT_NONE;
    *out_why = name->trick;
    return ATTACHMENT_DISGUISED;
}

enum attachment_fault attachment_judge_type(const struct attachment_rules *rules,
                                            enum filetype type, struct str declared,
                                            const struct filename *name, const char **out_why)
{
    enum filetype_group group = filetype_group(type);
    enum filetype_group promised =
        name ? filetype_group_of_extension(name->extension) : FILETYPE_NONE;
    bool runs = group == FILETYPE_EXECUTABLE || group == FILETYPE_SCRIPT;
    if ((group != FILETYPE_NONE && rules->groups & 1u << group) ||
        (type && fits(&rules->types, str_c(filetype_name(type)))) ||
        (declared.len && fits(&rules->types, declared))) {
        *out_why = "of a forbidden type";
        return ATTACHMENT_FORBIDDEN;
    }
    if (filetype_keeps(promised, type) &&
        filetype_keeps(filetype_group_of_media_type(declared), type))
        return ATTACHMENT_NONE;
    *out_why = runs ? "a program under another name" : "not what it says that it is";
    return runs ? ATTACHMENT_DISGUISED : ATTACHMENT_MISMATCH;
}
