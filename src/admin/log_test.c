/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "admin/log.h"

#include "admin/metrics.h"
#include "base/buf.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 50 };

struct scene {
    char folder[64];
    int file;
    struct admin_log *log;
    struct metrics *metrics;
};

static int set_up(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);
    struct error err;
    char path[96];
    memcpy(scene->folder, "/tmp/log-test-XXXXXX", sizeof "/tmp/log-test-XXXXXX");
    assert_non_null(mkdtemp(scene->folder));
    snprintf(path, sizeof path, "%s/log", scene->folder);
    scene->metrics = metrics_new();
    struct admin_log_settings settings = {.target = ADMIN_LOG_FILE,
                                          .path = str_c(path),
                                          .node = STR("mx.test"),
                                          .metrics = scene->metrics};
    assert_int_equal(admin_log_start(&settings, &scene->log, &err), OK);
    scene->file = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(scene->file >= 0);
    unlink(path);
    rmdir(scene->folder);
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    admin_log_stop(scene->log);
    metrics_free(scene->metrics);
    close(scene->file);
    free(scene);
    return 0;
}

static bool is_told(const struct scene *scene, int thread, int round)
{
    static _Thread_local char text[1 << 20];
    char wanted[32];
    ssize_t len = pread(scene->file, text, sizeof text, 0);
    assert_true(len >= 0 && len < (ssize_t)sizeof text);
    int wanted_len = snprintf(wanted, sizeof wanted, "\"of %d-%d-\"", thread, round);
    return str_find_str(str_of(text, (size_t)len), str_of(wanted, (size_t)wanted_len)) >= 0;
}

struct teller {
    struct scene *scene;
    int number;
    int missing;
    pthread_t thread;
};

static void *tell_and_look(void *arg)
{
    struct teller *teller = arg;
    for (int round = 0; round < ROUNDS; round++) {
        char text[32];
        snprintf(text, sizeof text, "of %d-%d-", teller->number, round);
        event_emit(EVENT_DAEMON_WARNING, F_C(DETAIL, text));
        if (!admin_log_settle(teller->scene->log) || !is_told(teller->scene, teller->number, round))
            teller->missing++;
    }
    return NULL;
}

static void what_was_emitted_is_there_after_settling(void **state)
{
    struct teller tellers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        tellers[i] = (struct teller){.scene = *state, .number = i};
        assert_int_equal(pthread_create(&tellers[i].thread, NULL, tell_and_look, &tellers[i]), 0);
    }
    int missing = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(tellers[i].thread, NULL);
        missing += tellers[i].missing;
    }
    assert_int_equal(missing, 0);
}

static void without_events_it_is_settled_too(void **state)
{
    struct scene *scene = *state;
    for (int i = 0; i < ROUNDS; i++)
        assert_true(admin_log_settle(scene->log));
}

static void metrics_have_it_too(void **state)
{
    struct scene *scene = *state;
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    event_emit(EVENT_ADMIN_ACTION, F_C(VERB, "contain"));
    assert_true(admin_log_settle(scene->log));
    metrics_print(scene->metrics, &out);
    assert_true(
        str_find_str(buf_str(&out), STR("postern_admin_actions_total{verb=\"contain\"} 1\n")) >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_emitted_is_there_after_settling, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(without_events_it_is_settled_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(metrics_have_it_too, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
