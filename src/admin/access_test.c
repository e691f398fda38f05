/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/access.h"

#include "base/clock.h"
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct scene {
    struct arena *arena;
    char folder[64];
    struct admin_access *access;
};

static struct str path_of(struct scene *scene, const char *name)
{
    return arena_printf(scene->arena, "%s/%s", scene->folder, name);
}

static void begin(struct scene *scene)
{
    struct error err;
    *scene = (struct scene){.arena = arena_new(0)};
    snprintf(scene->folder, sizeof scene->folder, "/tmp/postern-access-XXXXXX");
    assert_non_null(mkdtemp(scene->folder));
    assert_int_equal(admin_access_open(str_c(scene->folder), &scene->access, &err), OK);
}

static void again(struct scene *scene)
{
    struct error err;
    admin_access_close(scene->access);
    assert_int_equal(admin_access_open(str_c(scene->folder), &scene->access, &err), OK);
}

static void end(struct scene *scene)
{
    clock_set_fake(-1, -1);
    admin_access_close(scene->access);
    unlink(path_of(scene, "tokens.json").ptr);
    rmdir(scene->folder);
    arena_free(scene->arena);
}

static struct str create(struct scene *scene, const char *name, enum admin_scope scope,
                         int64_t expires_wall_ns, enum admin_token_result wanted)
{
    struct admin_token_wish wish = {str_c(name), scope, expires_wall_ns, STR("uid 0")};
    enum admin_token_result result;
    struct str token;
    struct error err;
    assert_int_equal(admin_token_create(scene->access, &wish, scene->arena, &result, &token, &err),
                     OK);
    assert_int_equal(result, wanted);
    return token;
}

/* The name that the field lets in, or "-". */
static const char *let_in(struct scene *scene, const char *format, struct str token)
{
    struct str name;
    enum admin_scope scope = ADMIN_SCOPE_NONE;
    struct str field = arena_printf(scene->arena, format, STR_ARG(token));
    if (!admin_access_check(scene->access, field, scene->arena, &name, &scope))
        return "-";
    return arena_printf(scene->arena, "%.*s %s", STR_ARG(name), admin_scope_name(scope)).ptr;
}

static void test_only_the_token(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    struct str token = create(&scene, "one", ADMIN_SCOPE_OPERATE, TIME_NEVER, ADMIN_TOKEN_MADE);
    struct str other = create(&scene, "two", ADMIN_SCOPE_READ, TIME_NEVER, ADMIN_TOKEN_MADE);
    assert_int_equal(token.len, 4 + 32);
    assert_false(str_equal(token, other));
    static const struct {
        const char *format, *wanted;
    } fields[] = {
        {"Bearer %.*s", "one operate"},
        {"bearer  %.*s ", "one operate"},
        {"%.*s", "-"},
        {"Basic %.*s", "-"},
        {"Bearer x%.*s", "-"},
        {"Bearer %.*sx", "-"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        assert_string_equal(let_in(&scene, fields[i].format, token), fields[i].wanted);
    assert_string_equal(let_in(&scene, "Bearer %.*s", other), "two read");
    again(&scene);
    assert_string_equal(let_in(&scene, "Bearer %.*s", token), "one operate");
    end(&scene);
}

static void test_the_file_holds_no_secret(void **state)
{
    (void)state;
    struct scene scene;
    char text[4096] = "";
    struct stat seen;
    begin(&scene);
    struct str token = create(&scene, "one", ADMIN_SCOPE_ADMIN, TIME_NEVER, ADMIN_TOKEN_MADE);
    FILE *file = fopen(path_of(&scene, "tokens.json").ptr, "re");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_int_equal(stat(path_of(&scene, "tokens.json").ptr, &seen), 0);
    assert_int_equal(seen.st_mode & 0777, 0600);
    assert_non_null(strstr(text, "one"));
    assert_null(strstr(text, token.ptr + 4));
    json_t *list = admin_token_list(scene.access);
    char *shown = json_dumps(list, 0);
    assert_null(strstr(shown, token.ptr + 4));
    assert_null(strstr(shown, "sha256"));
    free(shown);
    json_decref(list);
    end(&scene);
}

static void test_expiry_and_revocation(void **state)
{
    (void)state;
    struct scene scene;
    bool found;
    struct error err;
    begin(&scene);
    clock_set_fake(NS_PER_S, 1000 * NS_PER_S);
    struct str token = create(&scene, "a", ADMIN_SCOPE_READ, 1060 * NS_PER_S, ADMIN_TOKEN_MADE);
    struct str lasting = create(&scene, "b", ADMIN_SCOPE_READ, TIME_NEVER, ADMIN_TOKEN_MADE);
    (void)create(&scene, "a", ADMIN_SCOPE_ADMIN, TIME_NEVER, ADMIN_TOKEN_EXISTS);
    clock_set_fake(NS_PER_S, 1060 * NS_PER_S - 1);
    assert_string_equal(let_in(&scene, "Bearer %.*s", token), "a read");
    clock_set_fake(NS_PER_S, 1060 * NS_PER_S);
    assert_string_equal(let_in(&scene, "Bearer %.*s", token), "-");
    assert_int_equal(admin_token_revoke(scene.access, STR("a"), &found, &err), OK);
    assert_true(found);
    assert_int_equal(admin_token_revoke(scene.access, STR("a"), &found, &err), OK);
    assert_false(found);
    assert_string_equal(let_in(&scene, "Bearer %.*s", lasting), "b read");
    again(&scene);
    assert_string_equal(let_in(&scene, "Bearer %.*s", lasting), "b read");
    end(&scene);
}

static void test_what_cannot_be_written_does_not_exist(void **state)
{
    (void)state;
    struct scene scene;
    struct admin_token_wish wish = {STR("a"), ADMIN_SCOPE_READ, TIME_NEVER, STR("x")};
    enum admin_token_result result;
    struct str token;
    struct error err;
    begin(&scene);
    rmdir(scene.folder);
    assert_int_equal(admin_token_create(scene.access, &wish, scene.arena, &result, &token, &err),
                     FAILED);
    assert_int_equal(token.len, 0);
    json_t *list = admin_token_list(scene.access);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
    assert_int_equal(mkdir(scene.folder, 0700), 0);
    end(&scene);
}

static void test_damaged_files(void **state)
{
    (void)state;
    static const char *const files[] = {
        "",
        "{}",
        "[]",
        "{\"tokens\": [ {} ]}",
        "{\"tokens\": [ {\"name\": \"a\", \"scope\": \"god\", \"expires_ns\": 1, \"sha256\": "
        "\"0000000000000000000000000000000000000000000000000000000000000000\"} ]}",
        "{\"tokens\": [ {\"name\": \"a\", \"scope\": \"read\", \"expires_ns\": 1, \"sha256\": "
        "\"00\"} ]}",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct scene scene;
        struct admin_access *access;
        struct error err;
        begin(&scene);
        FILE *file = fopen(path_of(&scene, "tokens.json").ptr, "we");
        assert_non_null(file);
        fputs(files[i], file);
        fclose(file);
        if (admin_access_open(str_c(scene.folder), &access, &err) != FAILED)
            fail_msg("taken: %s", files[i]);
        end(&scene);
    }
}

static void test_refusals_are_told_ten_times_a_minute(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    for (int minute = 1; minute < 3; minute++) {
        int told = 0;
        clock_set_fake(minute * 60 * NS_PER_S, 1);
        for (int i = 0; i < 100; i++)
            told += admin_access_refusal(scene.access);
        assert_int_equal(told, 10);
    }
    end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_token),
        cmocka_unit_test(test_the_file_holds_no_secret),
        cmocka_unit_test(test_expiry_and_revocation),
        cmocka_unit_test(test_what_cannot_be_written_does_not_exist),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_refusals_are_told_ten_times_a_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
