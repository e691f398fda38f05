/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "state/keeper.h"
#include "state/state.h"

#include "base/clock.h"
#include "base/memory.h"
#include "fiber/test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Each test lives through several runs of a process that share a file. */
static char folder[64];
static char path[96];

static int set_up(void **unused)
{
    (void)unused;
    snprintf(folder, sizeof folder, "/tmp/postern-keep-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/state.db", folder);
    return 0;
}

static int tear_down(void **unused)
{
    char command[160];
    (void)unused;
    clock_set_fake(-1, -1);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static size_t facts;
static char fact_key[64];
static int64_t fact_until_ms;

static void take_fact(struct str key, int64_t until_ms, void *arg)
{
    facts++;
    fact_until_ms = until_ms;
    snprintf(fact_key, sizeof fact_key, "%.*s", STR_ARG(key));
    assert_ptr_equal(arg, path);
}

struct process {
    struct test_loop test;
    struct state *state;
};

static void process_start(struct process *process, size_t max_entries)
{
    struct state_keeper *keeper;
    struct error err;
    bool aside;
    test_loop_open(&process->test, NULL);
    process->state = state_new(&process->test.loop, 1, max_entries);
    assert_int_equal(state_keeper_open_sqlite(path, &keeper, &aside, &err), OK);
    assert_false(aside);
    assert_int_equal(state_keep(process->state, keeper, take_fact, path, &err), OK);
    state_join(process->state, 0);
}

static void process_end(struct process *process)
{
    state_leave(process->state, 0);
    state_free(process->state);
    test_loop_close(&process->test);
}

/* On one worker nothing has to wait, so no fiber is needed. */
NO_YIELD_CHECK static struct state_limit_answer count(struct process *process, const char *key,
                                                      uint64_t amount, bool peek)
{
    struct state_limit_answer answer;
    struct error err;
    assert_int_equal(
        state_limit(process->state, str_c(key), amount, 10, 3600 * NS_PER_S, peek, &answer, &err),
        OK);
    return answer;
}

NO_YIELD_CHECK static enum state_cache_status get(struct process *process, const char *key,
                                                  struct state_value *out)
{
    enum state_cache_status status;
    struct error err;
    assert_int_equal(
        state_cache_get(process->state, str_c(key), 3600 * NS_PER_S, &status, out, &err), OK);
    if (status != STATE_CACHE_HIT)
        state_cache_abandon(process->state, str_c(key));
    return status;
}

/* ---- tests ---- */

static void test_counts_go_on(void **unused)
{
    struct process process;
    (void)unused;
    process_start(&process, 1000);
    assert_int_equal(count(&process, "a", 7, false).count, 7);
    assert_int_equal(count(&process, "b", 10, false).count, 10);
    process_end(&process);

    process_start(&process, 1000);
    assert_int_equal(count(&process, "a", 3, false).count, 10);
    assert_false(count(&process, "a", 1, false).allowed);
    struct state_limit_answer answer = count(&process, "b", 1, true);
    assert_false(answer.allowed);
    assert_true(answer.retry_in_ns > 3500 * NS_PER_S && answer.retry_in_ns <= 3700 * NS_PER_S);
    process_end(&process);
}

/* ---- a flush: what counts, without the end of a process ---- */

struct flushing {
    struct process *process;
    enum result result;
};

static void *flush(void *arg)
{
    struct flushing *flushing = arg;
    struct error err;
    flushing->result = state_flush(flushing->process->state, &err);
    loop_stop(flushing->process->test.loop);
    return NULL;
}

static enum result flush_beside(struct process *process)
{
    struct flushing flushing = {.process = process};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, flush, &flushing), 0);
    loop_run(process->test.loop);
    pthread_join(thread, NULL);
    return flushing.result;
}

struct found {
    const char *key;
    struct str value;
    char space[1024];
};

static void find_record(const struct state_record *record, void *arg)
{
    struct found *found = arg;
    if (record->kind != STATE_RECORD_LIMIT || !str_equal(record->key, str_c(found->key)))
        return;
    assert_true(record->value.len <= sizeof found->space);
    memcpy(found->space, record->value.ptr, record->value.len);
    found->value = str_of(found->space, record->value.len);
}

/* What another process would find now. */
static void look(struct found *found)
{
    struct state_keeper *other;
    struct error err;
    bool aside;
    assert_int_equal(state_keeper_open_sqlite(path, &other, &aside, &err), OK);
    found->value = STR_EMPTY;
    assert_int_equal(other->ops->load(other, 0, find_record, found, &err), OK);
    other->ops->close(other);
}

static void test_a_flush_is_on_disk(void **unused)
{
    struct process process;
    struct found counted = {.key = "limit:x:anna"}, forgotten = {.key = "limit:x:anna"};
    (void)unused;
    clock_set_fake(NS_PER_S, NS_PER_S); /* so that no timer saves */
    process_start(&process, 1000);
    (void)count(&process, "limit:x:anna", 7, false);
    look(&counted);
    assert_int_equal(counted.value.len, 0);
    assert_int_equal(flush_beside(&process), OK);
    look(&counted);
    assert_true(counted.value.len > 0);
    state_limit_forget(process.state, STR("limit:"), STR(":anna"));
    assert_int_equal(flush_beside(&process), OK);
    look(&forgotten);
    assert_false(str_equal(counted.value, forgotten.value));
    assert_int_equal(flush_beside(&process), OK); /* nothing to write */
    process_end(&process);
}

static enum result refuse_to_store(struct state_keeper *keeper, const struct state_record *records,
                                   size_t count, struct error *err)
{
    (void)keeper, (void)records, (void)count;
    return fail(err, ERROR_TEMPORARY, "the disk is full");
}

static void test_a_flush_that_fails(void **unused)
{
    struct process process;
    struct state_keeper_ops broken;
    struct error err;
    bool aside;
    (void)unused;
    test_loop_open(&process.test, NULL);
    process.state = state_new(&process.test.loop, 1, 10);
    assert_int_equal(state_flush(process.state, &err), OK); /* no keeper */
    struct state_keeper *keeper;
    assert_int_equal(state_keeper_open_sqlite(path, &keeper, &aside, &err), OK);
    assert_int_equal(state_keep(process.state, keeper, NULL, NULL, &err), OK);
    state_join(process.state, 0);
    broken = *keeper->ops;
    broken.store = refuse_to_store;
    const struct state_keeper_ops *well = keeper->ops;
    keeper->ops = &broken;
    (void)count(&process, "a", 7, false);
    assert_int_equal(flush_beside(&process), FAILED);
    keeper->ops = well;
    (void)count(&process, "a", 7, false);
    assert_int_equal(flush_beside(&process), OK);
    process_end(&process);
}

static void test_windows_slide_while_nobody_runs(void **unused)
{
    struct process process;
    (void)unused;
    int64_t wall = INT64_C(1700000000) * NS_PER_S;
    clock_set_fake(5000 * NS_PER_S, wall);
    process_start(&process, 1000);
    count(&process, "a", 6, false);
    clock_set_fake(6800 * NS_PER_S, wall + 1800 * NS_PER_S);
    count(&process, "a", 3, false);
    process_end(&process);
    clock_set_fake(100 * NS_PER_S, wall + 3000 * NS_PER_S); /* the machine started anew */
    process_start(&process, 1000);
    assert_int_equal(count(&process, "a", 1, true).count, 9);
    clock_set_fake(900 * NS_PER_S, wall + 3800 * NS_PER_S); /* the first six have slid out */
    assert_int_equal(count(&process, "a", 1, true).count, 3);
    process_end(&process);
    clock_set_fake(10 * NS_PER_S, wall + 90000 * NS_PER_S);
    process_start(&process, 1000);
    assert_int_equal(count(&process, "a", 1, true).count, 0);
    process_end(&process);
}

static void test_answers_that_may_go_on(void **unused)
{
    struct process process;
    struct state_value value;
    (void)unused;
    process_start(&process, 1000);
    state_cache_put_kept(process.state, STR("kept"), STR("one two"), 60 * NS_PER_S, NS_PER_S);
    state_cache_put(process.state, STR("auth:x"), STR("secret"), 60 * NS_PER_S, 0);
    state_cache_put_kept(process.state, STR("dropped"), STR("x"), 60 * NS_PER_S, 0);
    state_cache_put_kept(process.state, STR("prefix:1"), STR("x"), 60 * NS_PER_S, 0);
    state_cache_put_kept(process.state, STR("stale"), STR("old"), 1, 600 * NS_PER_S);
    process_end(&process);

    process_start(&process, 1000);
    assert_int_equal(get(&process, "kept", &value), STATE_CACHE_HIT);
    assert_str(str_of(value.bytes, value.len), "one two");
    assert_int_equal(get(&process, "auth:x", &value), STATE_CACHE_MISS);
    assert_int_equal(get(&process, "stale", &value), STATE_CACHE_STALE);
    assert_str(str_of(value.bytes, value.len), "old");
    state_cache_drop(process.state, STR("dropped"));
    state_cache_drop_prefix(process.state, STR("prefix:"));
    process_end(&process);

    process_start(&process, 1000);
    assert_int_equal(get(&process, "kept", &value), STATE_CACHE_HIT);
    assert_int_equal(get(&process, "dropped", &value), STATE_CACHE_MISS);
    assert_int_equal(get(&process, "prefix:1", &value), STATE_CACHE_MISS);
    process_end(&process);
}

static void test_no_password_lies_on_the_disk(void **unused)
{
    struct process process;
    char command[256];
    (void)unused;
    process_start(&process, 1000);
    state_cache_put(process.state, STR("auth:hash-of-a-password"), STR("yes"), 60 * NS_PER_S, 0);
    state_cache_put_kept(process.state, STR("rcpt:somebody"), STR("yes"), 60 * NS_PER_S, 0);
    process_end(&process);
    snprintf(command, sizeof command, "grep -aq rcpt:somebody %s/state.db*", folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "! grep -aq hash-of-a-password %s/state.db*", folder);
    assert_int_equal(system(command), 0);
    struct stat stat_of;
    assert_int_equal(stat(path, &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 0777, 0600);
}

static void test_keys_hashed_before_are_found_again(void **unused)
{
    struct process process;
    unsigned char before[STATE_SECRET_SIZE];
    unsigned char boot[STATE_SECRET_SIZE];
    (void)unused;
    process_start(&process, 1000);
    memcpy(before, state_kept_secret(process.state), sizeof before);
    memcpy(boot, state_secret(process.state), sizeof boot);
    process_end(&process);
    process_start(&process, 1000);
    assert_memory_equal(before, state_kept_secret(process.state), sizeof before);
    assert_memory_not_equal(boot, state_secret(process.state), sizeof boot);
    process_end(&process);
}

static void test_a_damaged_file_is_set_aside(void **unused)
{
    struct state_keeper *keeper;
    struct error err;
    bool aside;
    (void)unused;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++)
        fprintf(file, "this is no database\n");
    fclose(file);
    assert_int_equal(state_keeper_open_sqlite(path, &keeper, &aside, &err), OK);
    assert_true(aside);
    keeper->ops->close(keeper);
}

/* What somebody above wants kept, as many as he likes; what is over is not told. */
static void test_facts(void **unused)
{
    struct process process;
    int64_t day_ns = INT64_C(86400) * NS_PER_S, now_ns = 1000 * day_ns;
    (void)unused;
    clock_set_fake(now_ns, now_ns);
    facts = 0;
    process_start(&process, 10);
    for (int i = 0; i < 12000; i++) { /* more than a batch, and than counts may be kept */
        char key[32];
        snprintf(key, sizeof key, "fact:%d", i);
        state_keep_fact(process.state, str_c(key), now_ns / NS_PER_MS + 1000);
    }
    state_keep_fact(process.state, STR("fact:long"), now_ns / NS_PER_MS + 500000);
    process_end(&process);
    process_start(&process, 10);
    assert_int_equal(facts, 12001);
    assert_int_equal(fact_until_ms, now_ns / NS_PER_MS + 500000);
    process_end(&process);
    clock_set_fake(now_ns + 60 * NS_PER_S, now_ns + 60 * NS_PER_S);
    facts = 0;
    process_start(&process, 10);
    assert_int_equal(facts, 1);
    assert_string_equal(fact_key, "fact:long");
    process_end(&process);
    struct state *alone = state_new(NULL, 1, 10);
    state_keep_fact(alone, STR("nobody keeps it"), INT64_MAX);
    state_free(alone);
}

static void count_record(const struct state_record *record, void *arg)
{
    (void)record;
    ++*(size_t *)arg;
}

static void test_the_file_is_bounded(void **unused)
{
    struct state_keeper *keeper;
    struct error err;
    struct state_record records[100];
    char keys[100][16];
    bool aside;
    size_t loaded = 0;
    (void)unused;
    assert_int_equal(state_keeper_open_sqlite(path, &keeper, &aside, &err), OK);
    for (int i = 0; i < 100; i++) {
        snprintf(keys[i], sizeof keys[i], "key:%d", i);
        records[i] = (struct state_record){.kind = STATE_RECORD_VALUE,
                                           .key = str_c(keys[i]),
                                           .value = STR("x"),
                                           .until_ms = i + 1};
    }
    assert_int_equal(keeper->ops->store(keeper, records, 100, &err), OK);
    assert_int_equal(keeper->ops->tend(keeper, 20, 30, &err), OK); /* 20 are over, 50 too many */
    assert_int_equal(keeper->ops->load(keeper, 0, count_record, &loaded, &err), OK);
    assert_int_equal(loaded, 30);
    for (int i = 0; i < 100; i++) { /* facts are bounded by whoever has them kept */
        records[i].kind = STATE_RECORD_FACT;
        records[i].until_ms = 50 + i;
    }
    assert_int_equal(keeper->ops->store(keeper, records, 100, &err), OK);
    assert_int_equal(keeper->ops->tend(keeper, 20, 30, &err), OK);
    loaded = 0;
    assert_int_equal(keeper->ops->load(keeper, 0, count_record, &loaded, &err), OK);
    assert_int_equal(loaded, 130);
    keeper->ops->close(keeper);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counts_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_flush_is_on_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_flush_that_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_windows_slide_while_nobody_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_answers_that_may_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_password_lies_on_the_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_hashed_before_are_found_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_damaged_file_is_set_aside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_facts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_file_is_bounded, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
