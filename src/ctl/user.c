/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/user.c - `postern user …`: the users file of block `file`. */
#include "base/buf.h"
#include "base/memory.h"
#include "ctl/ctl.h"
#include "directory/directory.h"

#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { PASSWORD_MAX = 256 };

static const char *users_file(struct ctl *ctl)
{
    const char *path = ctl_option(ctl, "--file");
    if (!path)
        fprintf(stderr, "postern: name the users file with --file\n");
    return path;
}

/* One line from standard input, without echo on a terminal. */
static bool read_password(char password[PASSWORD_MAX])
{
    struct termios before;
    bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
    if (terminal) {
        struct termios silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        fprintf(stderr, "password: ");
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    bool got = fgets(password, PASSWORD_MAX, stdin) != NULL;
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fprintf(stderr, "\n");
    }
    if (got)
        password[strcspn(password, "\r\n")] = '\0';
    if (!got || password[0] == '\0')
        fprintf(stderr, "postern: an empty password is none\n");
    return got && password[0] != '\0';
}

static int set_user(struct ctl *ctl, bool create)
{
    const char *path = users_file(ctl);
    const char *senders = ctl_option(ctl, "--senders");
    ctl_arguments(ctl, 1, 1);
    char password[PASSWORD_MAX];
    if (!path || !read_password(password))
        return CTL_USAGE;
    struct error err;
    enum result result = directory_users_set(str_c(path), str_c(ctl->argv[0]), str_c(password),
                                             str_c(senders), create, &err);
    memory_wipe(password, sizeof password);
    if (result != OK) {
        fprintf(stderr, "postern: %s\n", err.text);
        return CTL_NO;
    }
    if (!ctl->json)
        printf("%s: password %s\n", ctl->argv[0], create ? "set" : "changed");
    return CTL_YES;
}

int ctl_user_add(struct ctl *ctl)
{
    return set_user(ctl, true);
}

int ctl_user_passwd(struct ctl *ctl)
{
    return set_user(ctl, false);
}

int ctl_user_rm(struct ctl *ctl)
{
    const char *path = users_file(ctl);
    ctl_arguments(ctl, 1, 1);
    if (!path)
        return CTL_USAGE;
    bool found = false;
    struct error err;
    if (directory_users_remove(str_c(path), str_c(ctl->argv[0]), &found, &err) != OK) {
        fprintf(stderr, "postern: %s\n", err.text);
        return CTL_NO;
    }
    if (!found)
        fprintf(stderr, "postern: there is no user %s in %s\n", ctl->argv[0], path);
    else if (!ctl->json)
        printf("%s: removed\n", ctl->argv[0]);
    return found ? CTL_YES : CTL_NO;
}

/* The list has a line a user: login, and sender addresses behind a tab. */
int ctl_user_list(struct ctl *ctl)
{
    const char *path = users_file(ctl);
    ctl_arguments(ctl, 0, 0);
    if (!path)
        return CTL_USAGE;
    struct error err;
    struct buf list BUF_CLEANUP;
    buf_init(&list, 16 * 1024 * 1024);
    if (directory_users_list(str_c(path), &list, &err) != OK) {
        fprintf(stderr, "postern: %s\n", err.text);
        return CTL_NO;
    }
    struct str rest = buf_str(&list);
    struct str line;
    while (str_split(&rest, '\n', &line)) {
        struct str login;
        if (line.len == 0 || !str_split(&line, '\t', &login))
            continue;
        if (ctl->json) {
            json_t *item = json_pack("{s:s%, s:s%}", "user", login.ptr, login.len, "senders",
                                     line.ptr ? line.ptr : "", line.len);
            ctl_print_json(item);
            json_decref(item);
        } else {
            printf("%.*s%s%.*s\n", STR_ARG(login), line.len ? "  " : "", STR_ARG(line));
        }
    }
    return CTL_YES;
}
