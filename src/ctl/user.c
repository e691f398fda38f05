/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/user.c - `postern user …`: the users file of block `file`, edited here with --file, else by
 * the running gateway, which may change files under its spool's folder.
 */
#include "base/buf.h"
#include "base/memory.h"
#include "ctl/list.h"
#include "directory/directory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { PASSWORD_MAX = 256 };

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

/* ---- by the gateway ---- */

static int tell_changed(struct ctl *ctl, int code, struct ctl_answer *answer, const char *what)
{
    if (code)
        return code;
    if (!ctl_print_change(ctl, answer->json))
        printf("%s: %s\n", ctl_text(answer->json, "user"), what);
    json_decref(answer->json);
    return CTL_YES;
}

static int ask_to_set(struct ctl *ctl, const char *password, const char *senders, bool create)
{
    struct ctl_answer answer;
    struct str path = create ? STR("/api/v1/users")
                             : arena_printf(ctl->arena, "/api/v1/users/%s/passwords",
                                            ctl_url_text(ctl, ctl->argv[0]));
    json_t *body = json_pack("{s:s}", "password", password);
    if (create)
        json_object_set_new(body, "user", json_string(ctl->argv[0]));
    if (senders)
        json_object_set_new(body, "senders", json_string(senders));
    int code = ctl_request(ctl, "POST", path.ptr, body, &answer);
    json_decref(body);
    return tell_changed(ctl, code, &answer, create ? "password set" : "password changed");
}

static int ask_to_remove(struct ctl *ctl)
{
    struct ctl_answer answer;
    struct str path = arena_printf(ctl->arena, "/api/v1/users/%s", ctl_url_text(ctl, ctl->argv[0]));
    int code = ctl_request(ctl, "DELETE", path.ptr, NULL, &answer);
    return tell_changed(ctl, code, &answer, "removed");
}

static void print_user(json_t *user)
{
    ctl_print_text(ctl_text(user, "user"));
    if (ctl_text(user, "senders")[0]) {
        printf("  ");
        ctl_print_text(ctl_text(user, "senders"));
    }
    printf("\n");
}

static int ask_to_list(struct ctl *ctl)
{
    const struct ctl_list list = {"/api/v1/users", "User", .print = print_user};
    struct ctl_listed listed;
    size_t i;
    json_t *item;
    int code = ctl_list(ctl, &list, &listed);
    if (code)
        return code;
    json_t *files = json_object_get(listed.first, "files");
    json_array_foreach(files, i, item)
    {
        if (!ctl_text(item, "problem")[0])
            continue;
        fprintf(stderr, "postern: %s\n", ctl_text(item, "problem"));
        code = CTL_NO;
    }
    if (json_array_size(files) == 0)
        fprintf(stderr, "postern: no login is looked up in a users file\n");
    else if (code == CTL_YES && listed.shown == 0)
        fprintf(stderr, "postern: there are no users\n");
    ctl_listed_free(&listed);
    return code;
}

/* ---- in a file ---- */

/* --file: which, NULL: the gateway's. A file cannot be tried; exits. */
static const char *take_file(struct ctl *ctl)
{
    const char *path = ctl_option(ctl, "--file");
    if (!path || !(ctl->dry_run || ctl->reason))
        return path;
    fprintf(stderr,
            "postern: --dry-run and --reason are for the running gateway, without --file\n");
    exit(CTL_USAGE);
}

static int set_user(struct ctl *ctl, bool create)
{
    const char *path = take_file(ctl);
    const char *senders = ctl_option(ctl, "--senders");
    ctl_arguments(ctl, 1, 1);
    char password[PASSWORD_MAX];
    if (!read_password(password))
        return CTL_USAGE;
    if (!path) {
        int code = ask_to_set(ctl, password, senders, create);
        memory_wipe(password, sizeof password);
        return code;
    }
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
    const char *path = take_file(ctl);
    ctl_arguments(ctl, 1, 1);
    if (!path)
        return ask_to_remove(ctl);
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
    const char *path = ctl_option(ctl, "--file");
    ctl_arguments(ctl, 0, 0);
    if (!path)
        return ask_to_list(ctl);
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
            ctl_print_item(ctl, item, "User");
            json_decref(item);
        } else {
            printf("%.*s%s%.*s\n", STR_ARG(login), line.len ? "  " : "", STR_ARG(line));
        }
    }
    return CTL_YES;
}
