/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "mail/login.h"
#include "directory/users.h"
#include "directory/watched_file.h"

#include <stdlib.h>

struct users {
    struct watched_table base;
    struct arena *arena;
    struct map map; /* lower-case login -> struct user */
    struct str dummy;
};

/* ---- one line ---- */

static bool is_graphic(char c)
{
    unsigned char byte = (unsigned char)c;
    return byte > 0x20 && byte != 0x7F;
}

bool users_login_is_valid(struct str login)
{
    if (!login.len || login.len > USERS_LOGIN_MAX || login.ptr[0] == '#')
        return false;
    for (size_t i = 0; i < login.len; i++) {
        if (!is_graphic(login.ptr[i]) || login.ptr[i] == ':')
            return false;
    }
    return mail_login_is_plain(login); /* else nobody could log in with it */
}

bool users_senders_are_valid(struct str senders)
{
    size_t count = 0;
    struct str sender;
    if (!senders.len)
        return true;
    while (str_split(&senders, ',', &sender)) {
        sender = str_trim(sender);
        ptrdiff_t at = str_find_last(sender, '@');
        if (++count > USERS_SENDERS_MAX || at < 0 || (size_t)at + 1 == sender.len)
            return false;
        for (size_t i = 0; i < sender.len; i++) {
            if (!is_graphic(sender.ptr[i]) || sender.ptr[i] == ':')
                return false;
        }
    }
    return true;
}

bool users_hash_is_locked(struct str hash)
{
    return !hash.len || hash.ptr[0] == '!' || hash.ptr[0] == '*';
}

enum users_line_kind users_parse_line(struct str line, struct users_line *out)
{
    struct str rest = str_trim(line);
    *out = (struct users_line){.senders = STR_EMPTY};
    if (!rest.len || rest.ptr[0] == '#')
        return USERS_LINE_NOTHING;
    (void)str_split(&rest, ':', &out->login);
    if (!users_login_is_valid(out->login)) {
        out->why = "not a valid login in front of the first colon";
        return USERS_LINE_BAD;
    }
    if (!str_split(&rest, ':', &out->hash) || !out->hash.len) {
        out->why = "no password hash behind the login";
        return USERS_LINE_BAD;
    }
    for (size_t i = 0; i < out->hash.len; i++) {
        if (!is_graphic(out->hash.ptr[i])) {
            out->why = "the password hash holds a blank or control character";
            return USERS_LINE_BAD;
        }
    }
    if (str_split(&rest, ':', &out->senders) && !users_senders_are_valid(out->senders)) {
        out->why = "the third column is not a list of sender addresses";
        return USERS_LINE_BAD;
    }
    if (rest.ptr) {
        out->why = "more than three columns";
        return USERS_LINE_BAD;
    }
    return USERS_LINE_USER;
}

/* ---- the table ---- */

static void release(struct watched_table *table)
{
    struct users *users = CONTAINER(table, struct users, base);
    map_done(&users->map);
    arena_free(users->arena);
    free(users);
}

static void take_user(struct users *users, const struct users_line *line)
{
    struct user *user = ARENA_NEW(users->arena, struct user);
    struct str rest = line->senders;
    struct str sender;
    user->hash = arena_str(users->arena, line->hash);
    size_t commas = 0;
    for (size_t i = 0; i < rest.len; i++)
        commas += rest.ptr[i] == ',';
    if (rest.len)
        user->senders = arena_alloc_array(users->arena, commas + 1, sizeof(struct str));
    while (rest.len && str_split(&rest, ',', &sender))
        user->senders[user->sender_count++] = arena_str(users->arena, str_trim(sender));
    map_put(&users->map, arena_lower(users->arena, line->login), user);
    if (!users->dummy.len && !users_hash_is_locked(user->hash))
        users->dummy = user->hash;
}

struct watched_table *users_parse(struct str path, struct str content)
{
    struct users *users = NEW(struct users);
    users->base.release = release;
    users->arena = arena_new(0);
    users->dummy = STR_EMPTY;
    map_init(&users->map);
    size_t number = 0;
    size_t bad_lines = 0;
    struct str line;
    while (str_split(&content, '\n', &line)) {
        struct users_line parsed;
        enum users_line_kind kind = users_parse_line(line, &parsed);
        number++;
        if (kind == USERS_LINE_USER && users_find(&users->base, parsed.login)) {
            kind = USERS_LINE_BAD;
            parsed.why = "this login stands in the file already";
        }
        if (kind == USERS_LINE_USER)
            take_user(users, &parsed);
        else if (kind == USERS_LINE_BAD)
            watched_bad_line(path, number, parsed.why, &bad_lines);
    }
    return &users->base;
}

const struct user *users_find(const struct watched_table *table, struct str login)
{
    const struct users *users = CONTAINER(table, const struct users, base);
    char lower[USERS_LOGIN_MAX];
    if (login.len > sizeof lower)
        return NULL;
    for (size_t i = 0; i < login.len; i++)
        lower[i] = ascii_lower(login.ptr[i]);
    return map_get(&users->map, str_of(lower, login.len));
}

struct str users_dummy_hash(const struct watched_table *table)
{
    const struct users *users = CONTAINER(table, const struct users, base);
    return users->dummy;
}
