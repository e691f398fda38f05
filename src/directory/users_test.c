/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/buf.h"
#include "directory/directory.h"
#include "directory/users.h"
#include "directory/watched_file.h"
#include "fiber/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- lines ---- */

static void reads_lines(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum users_line_kind kind;
        const char *login, *hash, *senders;
    } cases[] = {
        {"", USERS_LINE_NOTHING, "", "", ""},
        {"  \r", USERS_LINE_NOTHING, "", "", ""},
        {"# a:b", USERS_LINE_NOTHING, "", "", ""},
        {"anna:$6$x$y", USERS_LINE_USER, "anna", "$6$x$y", ""},
        {"anna:$6$x$y\r", USERS_LINE_USER, "anna", "$6$x$y", ""},
        {"anna@example.org:h:", USERS_LINE_USER, "anna@example.org", "h", ""},
        {"a:h:a@x.org, @y.org", USERS_LINE_USER, "a", "h", "a@x.org, @y.org"},
        {"a:h:a@x.org,@y.org", USERS_LINE_USER, "a", "h", "a@x.org,@y.org"},
        {"a:!", USERS_LINE_USER, "a", "!", ""},
        {"j\303\274rgen:h", USERS_LINE_USER, "j\303\274rgen", "h", ""},
        {"anna", USERS_LINE_BAD, "", "", ""},
        {"anna:", USERS_LINE_BAD, "", "", ""},
        {":h", USERS_LINE_BAD, "", "", ""},
        {"an na:h", USERS_LINE_BAD, "", "", ""},
        {"a:h h", USERS_LINE_BAD, "", "", ""},
        {"a:h:not-an-address", USERS_LINE_BAD, "", "", ""},
        {"a:h:x@", USERS_LINE_BAD, "", "", ""},
        {"a:h:a@x.org:more", USERS_LINE_BAD, "", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct users_line line;
        enum users_line_kind kind = users_parse_line(str_c(cases[i].line), &line);
        if (kind != cases[i].kind)
            fail_msg("\"%s\": kind %d", cases[i].line, (int)kind);
        if (kind != USERS_LINE_USER)
            continue;
        assert_str(line.login, cases[i].login);
        assert_str(line.hash, cases[i].hash);
        assert_str(line.senders, cases[i].senders);
    }
}

static void makes_a_table(void **state)
{
    (void)state;
    struct watched_table *table =
        users_parse(STR("test"), STR("# users\nlocked:!x\nAnna:$6$a:a@x.org, @y.org\nbroken\n"
                                     "anna:$6$second\nbert:$6$b"));
    atomic_store(&table->references, 1);
    const struct user *anna = users_find(table, STR("anna"));
    assert_non_null(anna);
    assert_str(anna->hash, "$6$a"); /* the first line counts */
    assert_int_equal(anna->sender_count, 2);
    assert_str(anna->senders[1], "@y.org");
    assert_ptr_equal(users_find(table, STR("ANNA")), anna);
    assert_non_null(users_find(table, STR("bert")));
    assert_null(users_find(table, STR("broken")));
    assert_null(users_find(table, STR("")));
    assert_str(users_dummy_hash(table), "$6$a"); /* not the locked one */
    watched_table_unref(table);
}

/* ---- a folder of our own ---- */

static char folder[64];
static char path[128];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/postern-users-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/users.passwd", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left in it */
    return 0;
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void read_file(char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

/* ---- editing ---- */

static void edits_only_its_line(void **state)
{
    (void)state;
    struct error err;
    char text[4096];
    struct stat status;
    bool found;
    struct buf list BUF_CLEANUP;
    buf_init(&list, 4096);
    write_file("# head\nanna:!old:a@x.org\n\nbroken line\nbert:$6$b");
    chmod(path, 0604);
    assert_int_equal(
        directory_users_set(str_c(path), STR("Anna"), STR("secret"), STR_EMPTY, false, &err), OK);
    read_file(text, sizeof text);
    assert_true(str_starts(str_c(text), STR("# head\nAnna:$y$")));
    assert_true(str_ends(str_c(text), STR(":a@x.org\n\nbroken line\nbert:$6$b\n")));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0604);

    assert_int_equal(directory_users_remove(str_c(path), STR("bert"), &found, &err), OK);
    assert_true(found);
    assert_int_equal(directory_users_remove(str_c(path), STR("bert"), &found, &err), OK);
    assert_false(found);
    read_file(text, sizeof text);
    assert_true(str_ends(str_c(text), STR(":a@x.org\n\nbroken line\n")));
    assert_int_equal(directory_users_list(str_c(path), &list, &err), OK);
    assert_str(buf_str(&list), "Anna\ta@x.org\n");
}

static void creates_the_file_for_its_group(void **state)
{
    (void)state;
    struct error err;
    struct stat status;
    assert_int_equal(
        directory_users_set(str_c(path), STR("anna"), STR("secret"), STR("a@x.org"), true, &err),
        OK);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
}

static void refuses_what_cannot_be_a_user(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct str login, password, senders;
        bool create;
    } cases[] = {
        {"colon", {"a:b", 3}, {"x", 1}, {"", 0}, true},
        {"line end", {"a\nb", 3}, {"x", 1}, {"", 0}, true},
        {"empty login", {"", 0}, {"x", 1}, {"", 0}, true},
        {"comment", {"#a", 2}, {"x", 1}, {"", 0}, true},
        {"empty password", {"a", 1}, {"", 0}, {"", 0}, true},
        {"NUL in the password", {"a", 1}, {"x\0y", 3}, {"", 0}, true},
        {"senders", {"a", 1}, {"x", 1}, {"a@b\nc:d", 7}, true},
        {"no such user", {"zoe", 3}, {"x", 1}, {"", 0}, false},
        {"a user who exists", {"ANNA", 4}, {"x", 1}, {"", 0}, true},
    };
    char text[256];
    write_file("anna:!\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err;
        if (directory_users_set(str_c(path), cases[i].login, cases[i].password, cases[i].senders,
                                cases[i].create, &err) == OK)
            fail_msg("%s was taken", cases[i].name);
    }
    read_file(text, sizeof text);
    assert_string_equal(text, "anna:!\n");
}

/* ---- logins ---- */

struct question {
    const char *name;
    const char *login;
    struct str password;
    enum directory_login expected;
};

struct login_run {
    const struct question *questions;
    size_t count;
    char problem[256];
    struct directory *directory;
    struct arena *arena;
};

static MAY_YIELD enum directory_login ask(struct login_run *run, const char *login,
                                          struct str password)
{
    struct directory_answer answer;
    directory_login_file(run->directory, str_c(path), str_c(login), password, run->arena, &answer);
    return answer.login;
}

static MAY_YIELD void ask_all(void *arg)
{
    struct login_run *run = arg;
    struct directory_shared *shared = directory_shared_new();
    run->arena = arena_new(0);
    run->directory = directory_new(shared, NULL, STR("gw.example"));
    for (size_t i = 0; i < run->count; i++) {
        const struct question *question = &run->questions[i];
        enum directory_login login = ask(run, question->login, question->password);
        if (login != question->expected)
            snprintf(run->problem, sizeof run->problem, "%s: %d", question->name, (int)login);
    }
    directory_free(run->directory);
    directory_shared_free(shared);
    arena_free(run->arena);
}

static void answers_logins(void **state)
{
    (void)state;
    static char longest[600];
    memset(longest, 'x', sizeof longest);
    const struct question questions[] = {
        {"right", "anna", STR("secret"), DIRECTORY_YES},
        {"other case", "ANNA", STR("secret"), DIRECTORY_YES},
        {"wrong", "anna", STR("Secret"), DIRECTORY_NO},
        {"empty password", "anna", STR(""), DIRECTORY_NO},
        {"empty password, unknown", "zoe", STR(""), DIRECTORY_NO},
        {"NUL behind the right one", "anna", STR("secret\0x"), DIRECTORY_NO},
        {"too long", "anna", str_of(longest, sizeof longest), DIRECTORY_NO},
        {"unknown", "zoe", STR("secret"), DIRECTORY_UNKNOWN},
        {"prefix of a login", "ann", STR("secret"), DIRECTORY_UNKNOWN},
        {"login with a colon", "anna:", STR("secret"), DIRECTORY_UNKNOWN},
        {"locked", "lothar", STR("secret"), DIRECTORY_NO},
        {"a hash nobody knows", "bert", STR("secret"), DIRECTORY_LOGIN_ERROR},
    };
    struct error err;
    write_file("lothar:!\nbert:$9$nonsense\n");
    assert_int_equal(
        directory_users_set(str_c(path), STR("anna"), STR("secret"), STR("a@x.org"), true, &err),
        OK);
    /* the dummy hash is the first usable one: put anna in front of bert */
    char text[4096], rest[4096];
    read_file(text, sizeof text);
    char *anna = strstr(text, "anna:");
    assert_non_null(anna);
    snprintf(rest, sizeof rest, "%slothar:!\nbert:$9$nonsense\n", anna);
    write_file(rest);
    struct login_run run = {.questions = questions,
                            .count = sizeof questions / sizeof questions[0]};
    test_in_fiber(ask_all, &run);
    if (run.problem[0])
        fail_msg("%s", run.problem);
}

static void no_file_is_an_error(void **state)
{
    (void)state;
    const struct question question = {"no file", "anna", STR("secret"), DIRECTORY_LOGIN_ERROR};
    struct login_run run = {.questions = &question, .count = 1};
    test_in_fiber(ask_all, &run);
    if (run.problem[0])
        fail_msg("%s", run.problem);
    write_file("");
}

/* A change counts after at most a second; what is half written does not count at all. */
static MAY_YIELD void change_and_ask(void *arg)
{
    struct login_run *run = arg;
    struct directory_shared *shared = directory_shared_new();
    struct error err;
    int64_t now = clock_monotonic_ns();
    int64_t wall = clock_wall_ns();
    run->arena = arena_new(0);
    run->directory = directory_new(shared, NULL, STR("gw.example"));
    char *out = run->problem;
    clock_set_fake(now, wall);
    *out++ = "YNUE"[ask(run, "anna", STR("one"))];
    check(directory_users_set(str_c(path), STR("anna"), STR("two"), STR_EMPTY, false, &err) == OK);
    *out++ = "YNUE"[ask(run, "anna", STR("two"))]; /* not looked again yet */
    clock_set_fake(now + 2 * NS_PER_S, wall + 2 * NS_PER_S);
    *out++ = "YNUE"[ask(run, "anna", STR("two"))];
    /* somebody empties the file in place to write it anew */
    check(truncate(path, 0) == 0);
    clock_set_fake(now + 4 * NS_PER_S, clock_wall_ns());
    struct stat status;
    check(stat(path, &status) == 0);
    wall = (int64_t)status.st_mtim.tv_sec * NS_PER_S + status.st_mtim.tv_nsec;
    clock_set_fake(now + 4 * NS_PER_S, wall + NS_PER_S / 2);
    *out++ = "YNUE"[ask(run, "anna", STR("two"))];
    clock_set_fake(now + 6 * NS_PER_S, wall + 2 * NS_PER_S);
    *out++ = "YNUE"[ask(run, "anna", STR("two"))];
    check(unlink(path) == 0);
    clock_set_fake(now + 8 * NS_PER_S, wall + 4 * NS_PER_S);
    *out++ = "YNUE"[ask(run, "anna", STR("two"))];
    clock_set_fake(-1, -1);
    directory_free(run->directory);
    directory_shared_free(shared);
    arena_free(run->arena);
}

static void sees_changes(void **state)
{
    (void)state;
    struct error err;
    struct login_run run = {0};
    assert_int_equal(
        directory_users_set(str_c(path), STR("anna"), STR("one"), STR_EMPTY, true, &err), OK);
    test_in_fiber(change_and_ask, &run);
    assert_string_equal(run.problem, "YNYYUE");
    write_file("");
}

/* Two workers at a stopped clock: a change that one of them saw, or that was told, is seen by both.
 */
static MAY_YIELD void change_and_ask_both(void *arg)
{
    struct login_run *run = arg;
    struct directory_shared *shared = directory_shared_new();
    struct directory *workers[2];
    struct error err;
    int64_t now = clock_monotonic_ns();
    char *out = run->problem;
    run->arena = arena_new(0);
    clock_set_fake(now, clock_wall_ns());
    for (int i = 0; i < 2; i++) {
        run->directory = workers[i] = directory_new(shared, NULL, STR("gw.example"));
        *out++ = "YNUE"[ask(run, "anna", STR("one"))];
    }
    check(directory_users_set(str_c(path), STR("anna"), STR("two"), STR_EMPTY, false, &err) == OK);
    directory_files_changed(shared);
    for (int i = 0; i < 2; i++) {
        run->directory = workers[i];
        *out++ = "YNUE"[ask(run, "anna", STR("one"))];
    }
    /* a third sees it first */
    check(directory_users_set(str_c(path), STR("anna"), STR("three"), STR_EMPTY, false, &err) ==
          OK);
    run->directory = directory_new(shared, NULL, STR("gw.example"));
    *out++ = "YNUE"[ask(run, "anna", STR("three"))];
    directory_free(run->directory);
    for (int i = 0; i < 2; i++) {
        run->directory = workers[i];
        *out++ = "YNUE"[ask(run, "anna", STR("two"))];
    }
    clock_set_fake(-1, -1);
    directory_free(workers[0]);
    directory_free(workers[1]);
    directory_shared_free(shared);
    arena_free(run->arena);
}

static void all_workers_see_the_same(void **state)
{
    (void)state;
    struct error err;
    struct login_run run = {0};
    assert_int_equal(
        directory_users_set(str_c(path), STR("anna"), STR("one"), STR_EMPTY, true, &err), OK);
    test_in_fiber(change_and_ask_both, &run);
    assert_string_equal(run.problem, "YYNNYNN");
    write_file("");
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_lines),
        cmocka_unit_test(makes_a_table),
        WITH_FOLDER(edits_only_its_line),
        WITH_FOLDER(creates_the_file_for_its_group),
        WITH_FOLDER(refuses_what_cannot_be_a_user),
        WITH_FOLDER(answers_logins),
        WITH_FOLDER(no_file_is_an_error),
        WITH_FOLDER(sees_changes),
        WITH_FOLDER(all_workers_see_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
