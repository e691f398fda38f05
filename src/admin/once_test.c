/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/once.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DAY_MS = 24 * 3600 * 1000 };

struct scene {
    struct arena *arena;
    char folder[64];
    struct once *once;
    int64_t now_ms;
    size_t ceiling;
};

static const char *path_of(struct scene *scene)
{
    return arena_printf(scene->arena, "%s/once.log", scene->folder).ptr;
}

static void open_it(struct scene *scene)
{
    struct error err;
    if (once_open(str_c(scene->folder), scene->ceiling, &scene->once, &err) == FAILED)
        fail_msg("open: %s", err.text);
}

static void begin(struct scene *scene)
{
    *scene = (struct scene){.arena = arena_new(0)};
    snprintf(scene->folder, sizeof scene->folder, "/tmp/postern-once-XXXXXX");
    assert_non_null(mkdtemp(scene->folder));
    scene->now_ms = clock_wall_ns() / NS_PER_MS;
    open_it(scene);
}

static void again(struct scene *scene)
{
    once_close(scene->once);
    open_it(scene);
}

static void end(struct scene *scene)
{
    clock_set_fake(-1, -1);
    once_close(scene->once);
    unlink(path_of(scene));
    rmdir(scene->folder);
    arena_free(scene->arena);
}

static struct once_request request(const struct scene *scene, const char *key, const char *body)
{
    return (struct once_request){.actor = STR("uid 0"),
                                 .key = str_c(key),
                                 .what = STR("POST /api/v1/messages "),
                                 .body = str_c(body),
                                 .now_ms = scene->now_ms};
}

static struct once_answer ask(struct scene *scene, const struct once_request *wish)
{
    struct once_answer answer;
    once_begin(scene->once, wish, scene->arena, &answer);
    return answer;
}

static void test_the_first_answer_comes_again(void **state)
{
    struct scene scene;
    (void)state;
    begin(&scene);
    struct once_request one = request(&scene, "k", "{}"), other = one;
    struct once_answer first = ask(&scene, &one);
    assert_int_equal(first.state, ONCE_NEW);
    assert_int_equal(ask(&scene, &one).state, ONCE_RUNNING);
    once_done(scene.once, &one, 200, STR("{\"a\":1}"));
    for (int i = 0; i < 2; i++) { /* and after a restart */
        struct once_answer second = ask(&scene, &one);
        assert_int_equal(second.state, ONCE_DONE);
        assert_int_equal(second.status, 200);
        assert_str(second.text, "{\"a\":1}");
        assert_true(mail_id_equal(first.id, second.id));
        again(&scene);
    }
    other.body = STR("{ }");
    assert_int_equal(ask(&scene, &other).state, ONCE_OTHER);
    other = one;
    other.what = STR("POST /api/v1/tokens ");
    assert_int_equal(ask(&scene, &other).state, ONCE_OTHER);
    other = one;
    other.actor = STR("uid 1");
    assert_int_equal(ask(&scene, &other).state, ONCE_NEW);
    end(&scene);
}

static void test_a_key_is_kept_for_a_day(void **state)
{
    struct scene scene;
    (void)state;
    begin(&scene);
    struct once_request one = request(&scene, "k", "{}");
    assert_int_equal(ask(&scene, &one).state, ONCE_NEW);
    once_done(scene.once, &one, 200, STR("{}"));
    one.now_ms += DAY_MS - 1;
    assert_int_equal(ask(&scene, &one).state, ONCE_DONE);
    one.now_ms++;
    assert_int_equal(ask(&scene, &one).state, ONCE_NEW);
    end(&scene);
}

static void test_what_was_not_done_is_forgotten(void **state)
{
    struct scene scene;
    (void)state;
    begin(&scene);
    struct once_request one = request(&scene, "k", "{}");
    assert_int_equal(ask(&scene, &one).state, ONCE_NEW);
    once_forget(scene.once, &one);
    again(&scene);
    one.body = STR("mended");
    assert_int_equal(ask(&scene, &one).state, ONCE_NEW);
    end(&scene);
}

static void test_what_was_begun_is_never_begun_again(void **state)
{
    struct scene scene;
    (void)state;
    begin(&scene);
    struct once_request one = request(&scene, "k", "{}");
    struct once_answer first = ask(&scene, &one);
    again(&scene);
    struct once_answer second = ask(&scene, &one);
    assert_int_equal(second.state, ONCE_UNKNOWN);
    assert_true(mail_id_equal(first.id, second.id));
    once_done(scene.once, &one, 200, STR("{\"found\":true}"));
    again(&scene);
    assert_str(ask(&scene, &one).text, "{\"found\":true}");
    end(&scene);
}

static void test_secrets_stay_in_memory(void **state)
{
    struct scene scene;
    struct stat status;
    (void)state;
    begin(&scene);
    struct once_request one = request(&scene, "k", "password");
    one.secret = true;
    assert_int_equal(ask(&scene, &one).state, ONCE_NEW);
    once_done(scene.once, &one, 200, STR("pst_secret"));
    assert_str(ask(&scene, &one).text, "pst_secret");
    assert_int_equal(stat(path_of(&scene), &status), -1);
    again(&scene);
    assert_int_equal(ask(&scene, &one).state, ONCE_NEW);
    end(&scene);
}

static void test_it_is_bounded_and_forgets_nothing_early(void **state)
{
    struct scene scene;
    (void)state;
    begin(&scene);
    scene.ceiling = 100 * 1000;
    again(&scene);
    int taken = 0;
    for (int i = 0; i < 1000; i++) {
        struct once_request one = request(&scene, arena_printf(scene.arena, "k%d", i).ptr, "{}");
        struct once_answer answer = ask(&scene, &one);
        if (answer.state == ONCE_FULL)
            break;
        assert_int_equal(answer.state, ONCE_NEW);
        once_done(scene.once, &one, 200, STR("{\"accepted\":true}"));
        taken++;
    }
    assert_in_range(taken, 50, 500);
    struct once_request first = request(&scene, "k0", "{}");
    assert_int_equal(ask(&scene, &first).state, ONCE_DONE);
    struct once_request later = request(&scene, "later", "{}");
    assert_int_equal(ask(&scene, &later).state, ONCE_FULL);
    later.now_ms += DAY_MS;
    assert_int_equal(ask(&scene, &later).state, ONCE_NEW);
    end(&scene);
}

static void write_file(struct scene *scene, const char *text, int flags)
{
    int fd = open(path_of(scene), O_WRONLY | O_CREAT | flags, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void test_a_file_that_is_cut_or_odd(void **state)
{
    static const char *const rests[] = {
        "b",           "b ",      "d 0 200 {}\n",
        "f nothing\n", "x y z\n", "b 12 34 56 78\n",
        "\n\n",        "d ",      "b 00 00 99999999999999999999999 0\n",
    };
    struct scene scene;
    (void)state;
    begin(&scene);
    struct once_request one = request(&scene, "k", "{}");
    assert_int_equal(ask(&scene, &one).state, ONCE_NEW);
    once_done(scene.once, &one, 200, STR("{\"a\":1}"));
    for (size_t i = 0; i < sizeof rests / sizeof *rests; i++) {
        write_file(&scene, rests[i], O_APPEND);
        again(&scene);
        assert_str(ask(&scene, &one).text, "{\"a\":1}");
    }
    once_close(scene.once);
    write_file(&scene, "something else\n", O_TRUNC);
    struct error err;
    assert_int_equal(once_open(str_c(scene.folder), 0, &scene.once, &err), FAILED);
    assert_non_null(strstr(err.text, "not a file of keys"));
    scene.once = NULL;
    end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_answer_comes_again),
        cmocka_unit_test(test_a_key_is_kept_for_a_day),
        cmocka_unit_test(test_what_was_not_done_is_forgotten),
        cmocka_unit_test(test_what_was_begun_is_never_begun_again),
        cmocka_unit_test(test_secrets_stay_in_memory),
        cmocka_unit_test(test_it_is_bounded_and_forgets_nothing_early),
        cmocka_unit_test(test_a_file_that_is_cut_or_odd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
