/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "fiber/loop.h"

#include "base/random.h"
#include "fiber/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void open_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static void run_turns(struct loop *loop, int turns)
{
    for (int i = 0; i < turns; i++) {
        loop_stop(loop);
        loop_run(loop);
    }
}

/* ---- watches ---- */

struct reader {
    struct watch watch;
    int fd;
    char text[64];
    size_t len;
    bool at_end;
    enum error_kind error;
    int64_t deadline_ns;
};

static MAY_YIELD void read_all(void *arg)
{
    struct reader *reader = arg;
    struct error err;
    struct scope scope;
    scope_open(&scope, reader->deadline_ns);
    assert_int_equal(watch_open(&reader->watch, reader->fd, &err), OK);
    for (;;) {
        ssize_t got = read(reader->fd, reader->text + reader->len, sizeof reader->text);
        if (got > 0) {
            reader->len += (size_t)got;
        } else if (got == 0) {
            reader->at_end = true;
            break;
        } else {
            assert_int_equal(errno, EAGAIN);
            if (watch_wait_readable(&reader->watch, &err) == FAILED) {
                reader->error = err.kind;
                break;
            }
        }
    }
    watch_close(&reader->watch);
    scope_close(&scope);
}

struct writer {
    int fd;
    const char *text;
};

/* A letter a turn. */
static MAY_YIELD void write_slowly(void *arg)
{
    struct writer *writer = arg;
    for (const char *at = writer->text; *at; at++) {
        assert_int_equal(write(writer->fd, at, 1), 1);
        fiber_yield();
        fiber_yield();
    }
    close(writer->fd);
}

static void reading_waits_for_the_peer(void **state)
{
    (void)state;
    int fds[2];
    open_pair(fds);
    struct test_loop test;
    test_loop_open(&test, NULL);
    struct reader reader = {.fd = fds[0], .deadline_ns = TIME_NEVER};
    struct writer writer = {fds[1], "slowly"};
    test_loop_spawn(&test, read_all, &reader);
    test_loop_spawn(&test, write_slowly, &writer);
    test_loop_run(&test);
    assert_string_equal(reader.text, "slowly");
    assert_true(reader.at_end);
    close(fds[0]);
    test_loop_close(&test);
}

static void reading_ends_at_the_deadline_or_by_cancel(void **state)
{
    (void)state;
    int fds[2];
    open_pair(fds);
    struct test_loop test;
    test_loop_open(&test, NULL);
    struct reader late = {.fd = fds[0], .deadline_ns = clock_deadline(NS_PER_MS)};
    test_loop_spawn(&test, read_all, &late);
    test_loop_run(&test);
    assert_int_equal(late.error, ERROR_TIMEOUT);
    struct reader cancelled = {.fd = fds[0], .deadline_ns = TIME_NEVER};
    test_loop_spawn(&test, read_all, &cancelled);
    run_turns(test.loop, 2);
    scope_cancel(&test.root);
    test_loop_run(&test);
    assert_int_equal(cancelled.error, ERROR_CANCELLED);
    close(fds[0]);
    close(fds[1]);
    test_loop_close(&test);
}

enum { BULK = 4 << 20 };

static MAY_YIELD void write_bulk(void *arg)
{
    int fd = *(int *)arg;
    struct watch watch;
    struct error err;
    assert_int_equal(watch_open(&watch, fd, &err), OK);
    static const char block[65536];
    for (size_t sent = 0; sent < BULK;) {
        ssize_t put = write(fd, block, sizeof block);
        if (put > 0)
            sent += (size_t)put;
        else
            assert_int_equal(watch_wait_writable(&watch, &err), OK);
    }
    watch_close(&watch);
    close(fd);
}

static MAY_YIELD void count_bulk(void *arg)
{
    int fd = ((int *)arg)[0];
    size_t seen = 0;
    struct watch watch;
    struct error err;
    assert_int_equal(watch_open(&watch, fd, &err), OK);
    char block[10000];
    for (ssize_t got; (got = read(fd, block, sizeof block)) != 0;) {
        if (got > 0)
            seen += (size_t)got;
        else
            assert_int_equal(watch_wait_readable(&watch, &err), OK);
    }
    assert_true(seen >= BULK);
    watch_close(&watch);
    close(fd);
    ((int *)arg)[1] = 1;
}

static void both_directions_make_progress(void **state)
{
    (void)state;
    int fds[2];
    open_pair(fds);
    struct test_loop test;
    test_loop_open(&test, NULL);
    int reader[2] = {fds[0], 0};
    test_loop_spawn(&test, write_bulk, &fds[1]);
    test_loop_spawn(&test, count_bulk, reader);
    test_loop_run(&test);
    assert_int_equal(reader[1], 1);
    test_loop_close(&test);
}

static void an_idle_watch_does_not_wake_the_loop(void **state)
{
    (void)state;
    int fds[2];
    open_pair(fds);
    struct test_loop test;
    struct watch watch;
    struct error err;
    test_loop_open(&test, NULL);
    assert_int_equal(watch_open(&watch, fds[0], &err), OK);
    run_turns(test.loop, 10); /* it is writable all the time */
    assert_int_equal(loop_stats(test.loop).wakeups, 1);
    watch_close(&watch);
    close(fds[0]);
    close(fds[1]);
    test_loop_close(&test);
}

static void a_watch_needs_a_descriptor(void **state)
{
    (void)state;
    struct test_loop test;
    struct watch watch;
    struct error err;
    test_loop_open(&test, NULL);
    assert_int_equal(watch_open(&watch, -1, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
    test_loop_close(&test);
}

/* ---- sources ---- */

struct counted {
    struct loop_source source;
    struct counted *victim; /* removed and wiped when this one is ready */
    int calls;
    uint32_t events;
};

static void count_ready(struct loop_source *source, uint32_t events)
{
    struct counted *counted = CONTAINER(source, struct counted, source);
    counted->calls++;
    counted->events |= events;
    if (counted->victim) {
        loop_source_remove(&counted->victim->source);
        memset(counted->victim, 0xAA, sizeof *counted->victim);
    }
}

static void a_source_is_told_until_it_is_served(void **state)
{
    (void)state;
    int fds[2];
    open_pair(fds);
    struct test_loop test;
    struct error err;
    test_loop_open(&test, NULL);
    struct counted counted = {.source = {.fd = fds[0], .ready = count_ready}};
    assert_int_equal(loop_source_add(&counted.source, EPOLLIN, false, &err), OK);
    run_turns(test.loop, 2);
    assert_int_equal(counted.calls, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    run_turns(test.loop, 3);
    assert_int_equal(counted.calls, 3);
    assert_int_equal(counted.events, EPOLLIN);
    loop_source_modify(&counted.source, EPOLLOUT);
    run_turns(test.loop, 1);
    assert_int_equal(counted.calls, 4);
    assert_int_equal(counted.events, EPOLLIN | EPOLLOUT);
    loop_source_modify(&counted.source, 0);
    run_turns(test.loop, 1);
    loop_source_remove(&counted.source);
    run_turns(test.loop, 1);
    assert_int_equal(counted.calls, 4);
    assert_int_equal(loop_source_add(&counted.source, EPOLLIN, true, &err), OK);
    run_turns(test.loop, 1);
    assert_int_equal(counted.calls, 5);
    loop_source_modify(&counted.source, 0);
    run_turns(test.loop, 1);
    assert_int_equal(counted.calls, 5);
    loop_source_modify(&counted.source, EPOLLIN);
    run_turns(test.loop, 1);
    assert_int_equal(counted.calls, 6);
    counted.events = 0;
    loop_source_modify(&counted.source, EPOLLIN | EPOLLOUT);
    run_turns(test.loop, 1);
    assert_int_equal(counted.calls, 7);
    assert_int_equal(counted.events, EPOLLIN | EPOLLOUT);
    loop_source_remove(&counted.source);
    loop_source_remove(&counted.source);
    close(fds[0]);
    close(fds[1]);
    test_loop_close(&test);
}

static void a_removed_source_hears_nothing_of_the_same_batch(void **state)
{
    (void)state;
    int first[2], second[2];
    open_pair(first);
    open_pair(second);
    struct test_loop test;
    struct error err;
    test_loop_open(&test, NULL);
    /* Whichever comes first removes the other. */
    struct counted a = {.source = {.fd = first[0], .ready = count_ready}};
    struct counted b = {.source = {.fd = second[0], .ready = count_ready}, .victim = &a};
    a.victim = &b;
    assert_int_equal(loop_source_add(&a.source, EPOLLIN, false, &err), OK);
    assert_int_equal(loop_source_add(&b.source, EPOLLIN, false, &err), OK);
    assert_int_equal(write(first[1], "x", 1), 1);
    assert_int_equal(write(second[1], "x", 1), 1);
    run_turns(test.loop, 1);
    struct counted *left = a.source.fd == first[0] ? &a : &b;
    assert_int_equal(left->calls, 1);
    loop_source_remove(&left->source);
    for (int i = 0; i < 2; i++) {
        close(first[i]);
        close(second[i]);
    }
    test_loop_close(&test);
}

/* ---- timers ---- */

enum { TIMERS = 500 };

struct numbered {
    struct loop_timer timer;
    int64_t *last_due;
    int fired;
};

static void note_due(struct loop_timer *timer)
{
    struct numbered *numbered = CONTAINER(timer, struct numbered, timer);
    assert_true(timer->due_ns >= *numbered->last_due);
    assert_true(timer->due_ns <= clock_monotonic_ns());
    assert_int_equal(timer->heap_index, 0);
    *numbered->last_due = timer->due_ns;
    numbered->fired++;
}

static void timers_fire_in_order(void **state)
{
    (void)state;
    static struct numbered timers[TIMERS];
    int64_t last_due = 0;
    clock_set_fake(-1, -1);
    struct test_loop test;
    test_loop_open(&test, NULL);
    memset(timers, 0, sizeof timers);
    for (int i = 0; i < TIMERS; i++) {
        timers[i].timer.fire = note_due;
        timers[i].last_due = &last_due;
        loop_timer_set(&timers[i].timer, 1 + random_below(1000));
    }
    /* Every third is moved, every fifth is taken out. */
    for (int i = 0; i < TIMERS; i += 3)
        loop_timer_set(&timers[i].timer, 1 + random_below(1000));
    for (int i = 0; i < TIMERS; i += 5) {
        loop_timer_clear(&timers[i].timer);
        loop_timer_clear(&timers[i].timer);
    }
    for (int64_t now = 100; now <= 1000; now += 100) {
        clock_set_fake(now, 0);
        run_turns(test.loop, 1);
        for (int i = 0; i < TIMERS; i++)
            assert_int_equal(timers[i].fired, i % 5 && timers[i].timer.due_ns <= now);
    }
    clock_set_fake(-1, -1);
    test_loop_close(&test);
}

static void arm_again(struct loop_timer *timer)
{
    struct numbered *numbered = CONTAINER(timer, struct numbered, timer);
    numbered->fired++;
    loop_timer_set(timer, 0);
}

static void a_timer_in_the_past_does_not_stop_the_loop(void **state)
{
    (void)state;
    struct test_loop test;
    test_loop_open(&test, NULL);
    struct numbered numbered = {.timer.fire = arm_again};
    loop_timer_set(&numbered.timer, 0);
    run_turns(test.loop, 3);
    assert_int_equal(numbered.fired, 3);
    loop_timer_clear(&numbered.timer);
    test_loop_close(&test);
}

static MAY_YIELD void sleep_a_little(void *arg)
{
    struct error err;
    int64_t begin_ns = clock_monotonic_ns();
    assert_int_equal(fiber_sleep(3 * NS_PER_MS, &err), OK);
    *(bool *)arg = clock_monotonic_ns() - begin_ns >= 3 * NS_PER_MS;
}

static void the_loop_sleeps_until_a_timer_is_due(void **state)
{
    (void)state;
    struct test_loop test;
    test_loop_open(&test, NULL);
    bool slept = false;
    test_loop_spawn(&test, sleep_a_little, &slept);
    test_loop_run(&test);
    assert_true(slept);
    assert_true(loop_stats(test.loop).turns < 20); /* it did not spin */
    test_loop_close(&test);
}

/* ---- posts ---- */

struct letter {
    struct post post;
    int thread;
    int number;
};

enum { THREADS = 3, LETTERS = 2000 };

static struct letter letters[THREADS][LETTERS];
static int next_letter[THREADS];
static int letters_left;
static struct loop *addressee;

static void receive(struct post *post)
{
    struct letter *letter = CONTAINER(post, struct letter, post);
    assert_int_equal(letter->number, next_letter[letter->thread]);
    next_letter[letter->thread]++;
    if (--letters_left == 0)
        loop_stop(loop_current());
}

static void *send_letters(void *arg)
{
    struct letter *mine = arg;
    for (int i = 0; i < LETTERS;) {
        if (i % 10 == 0 && i + 5 < LETTERS) { /* five in a chain */
            for (int j = i; j < i + 4; j++)
                mine[j].post.next = &mine[j + 1].post;
            loop_post_chain(addressee, &mine[i].post, &mine[i + 4].post);
            i += 5;
        } else {
            loop_post(addressee, &mine[i].post);
            i++;
        }
        if (i % 100 == 0)
            usleep(100); /* so that the loop falls asleep now and then */
    }
    return NULL;
}

static void posts_of_threads_arrive_in_order(void **state)
{
    (void)state;
    struct test_loop test;
    test_loop_open(&test, NULL);
    addressee = test.loop;
    letters_left = THREADS * LETTERS;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        next_letter[i] = 0;
        for (int j = 0; j < LETTERS; j++)
            letters[i][j] = (struct letter){.post.run = receive, .thread = i, .number = j};
        assert_int_equal(pthread_create(&threads[i], NULL, send_letters, letters[i]), 0);
    }
    loop_run(test.loop);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(next_letter[i], LETTERS);
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(loop_stats(test.loop).posts, THREADS * LETTERS);
    test_loop_close(&test);
}

static void *stop_it(void *arg)
{
    usleep(2000);
    loop_stop(arg);
    return NULL;
}

static void another_thread_stops_a_sleeping_loop(void **state)
{
    (void)state;
    struct test_loop test;
    test_loop_open(&test, NULL);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_it, test.loop), 0);
    loop_run(test.loop);
    pthread_join(thread, NULL);
    assert_true(loop_stats(test.loop).turns >= 1);
    test_loop_close(&test);
}

struct own_post {
    struct post post;
    int runs;
};

static void post_again(struct post *post)
{
    struct own_post *own = CONTAINER(post, struct own_post, post);
    if (++own->runs < 3)
        loop_post(loop_current(), post);
}

static void a_post_to_the_own_loop_runs_next_turn(void **state)
{
    (void)state;
    struct test_loop test;
    test_loop_open(&test, NULL);
    struct own_post own = {.post.run = post_again};
    loop_post(test.loop, &own.post);
    assert_int_equal(own.runs, 0);
    for (int i = 1; i <= 3; i++) {
        run_turns(test.loop, 1);
        assert_int_equal(own.runs, i);
    }
    own.runs = 0;
    loop_post(test.loop, &own.post);
    test_loop_close(&test); /* what is left runs before the loop goes */
    assert_int_equal(own.runs, 3);
}

/* ---- hooks ---- */

struct counting_hook {
    struct loop_hook hook;
    int runs;
};

static void count_turn(struct loop_hook *hook)
{
    struct counting_hook *counting = CONTAINER(hook, struct counting_hook, hook);
    if (++counting->runs == 2)
        loop_hook_remove(hook);
}

static void hooks_run_each_turn(void **state)
{
    (void)state;
    struct test_loop test;
    test_loop_open(&test, NULL);
    struct counting_hook hooks[8] = {0};
    for (int i = 0; i < 8; i++) {
        hooks[i].hook.run = count_turn;
        loop_hook_add(test.loop, &hooks[i].hook);
    }
    run_turns(test.loop, 1);
    assert_int_equal(hooks[0].runs, 1);
    loop_hook_remove(&hooks[7].hook);
    run_turns(test.loop, 3);
    assert_int_equal(hooks[0].runs, 2);
    assert_int_equal(hooks[7].runs, 1);
    loop_hook_add(test.loop, &hooks[7].hook); /* there is room again */
    loop_hook_remove(&hooks[7].hook);
    loop_hook_remove(&hooks[7].hook);
    test_loop_close(&test);
}

/* ---- who yields goes behind ---- */

enum { HOGS = 20, HOG_SLICES = 50, SMALL_STEPS = 10 };

struct crowd {
    int64_t now_ns;
    unsigned slices;   /* of all hogs */
    unsigned worst;    /* most of them between two steps of the small one */
    unsigned finished; /* hogs */
};

/* A slice takes a millisecond of the clock. */
static MAY_YIELD void hog(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < HOG_SLICES; i++) {
        crowd->now_ns += NS_PER_MS;
        clock_set_fake(crowd->now_ns, crowd->now_ns);
        crowd->slices++;
        fiber_yield();
    }
    crowd->finished++;
}

struct small {
    struct fiber *fiber;
    struct post post;
};

static void wake_small(struct post *post)
{
    fiber_wake(CONTAINER(post, struct small, post)->fiber);
}

/* As a session does: something arrives, a little work, wait again. */
static MAY_YIELD void do_little(void *arg)
{
    struct crowd *crowd = arg;
    struct small small = {fiber_current(), {.run = wake_small}};
    struct error err;
    for (int i = 0; i < SMALL_STEPS; i++) {
        unsigned before = crowd->slices;
        loop_post(loop_current(), &small.post);
        assert_int_equal(fiber_suspend(&err), OK);
        if (crowd->slices - before > crowd->worst)
            crowd->worst = crowd->slices - before;
    }
}

static void those_who_yield_hold_up_nobody(void **state)
{
    (void)state;
    struct test_loop test;
    struct crowd crowd = {.now_ns = NS_PER_S};
    clock_set_fake(NS_PER_S, NS_PER_S);
    test_loop_open(&test, NULL);
    for (int i = 0; i < HOGS; i++)
        test_loop_spawn(&test, hog, &crowd);
    test_loop_spawn(&test, do_little, &crowd);
    test_loop_run(&test);
    test_loop_close(&test);
    clock_set_fake(-1, -1);
    assert_int_equal(crowd.finished, HOGS);
    /* the first slices of all are before its first step; after that one a turn */
    assert_in_range(crowd.worst, 1, 3);
}

/* ---- blocks ---- */

enum { BLOCKS = 40 }; /* more than a loop keeps */

static void take_and_give_blocks(void)
{
    static const size_t sizes[] = {LOOP_BLOCK, 2 * LOOP_BLOCK, 1, LOOP_BLOCK + 1};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        char *blocks[BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            blocks[i] = loop_block_take(sizes[s]);
            memset(blocks[i], (int)i, sizes[s]);
        }
        for (size_t i = 0; i < BLOCKS; i++) {
            /* nobody else was given it */
            assert_int_equal(blocks[i][0], i);
            assert_int_equal(blocks[i][sizes[s] - 1], i);
            loop_block_give(blocks[i], sizes[s]);
        }
    }
    loop_block_give(NULL, LOOP_BLOCK);
}

static void blocks_are_one_takers_each(void **state)
{
    (void)state;
    struct test_loop test;
    take_and_give_blocks(); /* no loop here */
    test_loop_open(&test, NULL);
    take_and_give_blocks();
    take_and_give_blocks(); /* from those that were kept */
    test_loop_close(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_one_takers_each),
        cmocka_unit_test(reading_waits_for_the_peer),
        cmocka_unit_test(reading_ends_at_the_deadline_or_by_cancel),
        cmocka_unit_test(both_directions_make_progress),
        cmocka_unit_test(an_idle_watch_does_not_wake_the_loop),
        cmocka_unit_test(a_watch_needs_a_descriptor),
        cmocka_unit_test(a_source_is_told_until_it_is_served),
        cmocka_unit_test(a_removed_source_hears_nothing_of_the_same_batch),
        cmocka_unit_test(timers_fire_in_order),
        cmocka_unit_test(a_timer_in_the_past_does_not_stop_the_loop),
        cmocka_unit_test(the_loop_sleeps_until_a_timer_is_due),
        cmocka_unit_test(posts_of_threads_arrive_in_order),
        cmocka_unit_test(another_thread_stops_a_sleeping_loop),
        cmocka_unit_test(a_post_to_the_own_loop_runs_next_turn),
        cmocka_unit_test(hooks_run_each_turn),
        cmocka_unit_test(those_who_yield_hold_up_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
