/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "fiber/call.h"

#include "base/memory.h"
#include "fiber/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- a thread with a loop that answers ---- */

struct server {
    pthread_t thread;
    struct loop *loop; /* set before `ready` */
    pthread_barrier_t ready;
    int64_t sum;      /* the server's alone */
    struct list held; /* calls that wait for answer_held() */
    struct loop_hook hook;
};

struct question {
    struct call call;
    struct server *server;
    int number;
    int answer;
    struct list link;
};

static atomic_int released;

static void release_question(struct call *call)
{
    atomic_fetch_add(&released, 1);
    free(CONTAINER(call, struct question, call));
}

static void *serve(void *arg)
{
    struct server *server = arg;
    struct test_loop test;
    test_loop_open(&test, NULL);
    list_init(&server->held);
    server->loop = test.loop;
    pthread_barrier_wait(&server->ready);
    loop_run(test.loop);
    test_loop_close(&test);
    return NULL;
}

static void server_start(struct server *server)
{
    memset(server, 0, sizeof *server);
    pthread_barrier_init(&server->ready, NULL, 2);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
    pthread_barrier_wait(&server->ready);
}

static void server_stop(struct server *server)
{
    loop_stop(server->loop);
    pthread_join(server->thread, NULL);
    pthread_barrier_destroy(&server->ready);
}

static void answer_double(struct call *call)
{
    struct question *question = CONTAINER(call, struct question, call);
    question->answer = 2 * question->number;
    question->server->sum += question->number;
    call_reply(call);
}

/* Not yet: a later call answers all. */
static void hold(struct call *call)
{
    struct question *question = CONTAINER(call, struct question, call);
    list_append(&question->server->held, &question->link);
}

static void answer_held(struct call *call)
{
    struct question *question = CONTAINER(call, struct question, call);
    struct server *server = question->server;
    call_reply(call);
    for (struct list *link; (link = list_shift(&server->held));)
        answer_double(&CONTAINER(link, struct question, link)->call);
}

static struct question *question_new(struct server *server, void (*handle)(struct call *call),
                                     int number)
{
    struct question *question = NEW(struct question);
    question->call.handle = handle;
    question->call.release = release_question;
    question->server = server;
    question->number = number;
    return question;
}

/* ---- askers ---- */

enum { ASKERS = 3, FIBERS = 8, QUESTIONS = 200 };

static MAY_YIELD void ask_many(void *arg)
{
    struct error err;
    for (int i = 0; i < QUESTIONS; i++) {
        struct question *question = question_new(arg, answer_double, i);
        assert_int_equal(call_ask(question->server->loop, &question->call, &err), OK);
        assert_int_equal(question->answer, 2 * i);
        free(question);
    }
}

static void *run_askers(void *arg)
{
    struct test_loop test;
    test_loop_open(&test, NULL);
    for (int i = 0; i < FIBERS; i++)
        test_loop_spawn(&test, ask_many, arg);
    test_loop_run(&test);
    test_loop_close(&test);
    return NULL;
}

static void many_threads_ask_one(void **state)
{
    (void)state;
    struct server server;
    server_start(&server);
    pthread_t askers[ASKERS];
    for (int i = 0; i < ASKERS; i++)
        assert_int_equal(pthread_create(&askers[i], NULL, run_askers, &server), 0);
    for (int i = 0; i < ASKERS; i++)
        pthread_join(askers[i], NULL);
    server_stop(&server);
    assert_int_equal(server.sum, (int64_t)ASKERS * FIBERS * (QUESTIONS * (QUESTIONS - 1) / 2));
}

static MAY_YIELD void ask_oneself(void *arg)
{
    struct server *self = arg;
    struct error err;
    struct question *question = question_new(self, answer_double, 4);
    assert_int_equal(call_ask(loop_current(), &question->call, &err), OK);
    assert_int_equal(question->answer, 8);
    free(question);
}

static void the_own_loop_answers_too(void **state)
{
    (void)state;
    struct server self = {0};
    test_in_fiber(ask_oneself, &self);
    assert_int_equal(self.sum, 4);
}

/* ---- giving up ---- */

struct outcome {
    struct server *server;
    struct scope *scope;
    enum error_kind error;
};

static MAY_YIELD void ask_and_be_held(void *arg)
{
    struct outcome *outcome = arg;
    struct error err;
    struct question *question = question_new(outcome->server, hold, 1);
    if (call_ask(outcome->server->loop, &question->call, &err) == FAILED)
        outcome->error = err.kind;
    else
        free(question);
}

static MAY_YIELD void ask_to_answer_held(void *arg)
{
    struct outcome *outcome = arg;
    struct error err;
    struct question *last = question_new(outcome->server, answer_held, 0);
    assert_int_equal(call_ask(outcome->server->loop, &last->call, &err), OK);
    free(last);
}

static MAY_YIELD void give_up(void *arg)
{
    struct outcome *outcome = arg;
    struct scope scope;
    struct error err;
    scope_open(&scope, outcome->error == ERROR_TIMEOUT ? clock_deadline(NS_PER_MS) : TIME_NEVER);
    outcome->error = ERROR_NONE;
    assert_int_equal(fiber_spawn(&scope, "held", ask_and_be_held, outcome, &err), OK);
    fiber_yield();
    if (outcome->scope)
        scope_cancel(&scope);
    scope_close(&scope);
    int before = atomic_load(&released);
    /* The server still has it; its late answer frees it. */
    ask_to_answer_held(outcome);
    for (int i = 0; i < 120000 && atomic_load(&released) == before; i++)
        assert_int_equal(fiber_sleep(NS_PER_MS, &err), OK);
}

static void an_abandoned_call_frees_itself(void **state)
{
    (void)state;
    struct server server;
    struct scope yes;
    server_start(&server);
    atomic_store(&released, 0);
    struct outcome cancelled = {&server, &yes, ERROR_NONE};
    test_in_fiber(give_up, &cancelled);
    assert_int_equal(cancelled.error, ERROR_CANCELLED);
    assert_int_equal(atomic_load(&released), 1);
    struct outcome late = {&server, NULL, ERROR_TIMEOUT};
    test_in_fiber(give_up, &late);
    assert_int_equal(late.error, ERROR_TIMEOUT);
    assert_int_equal(atomic_load(&released), 2);
    server_stop(&server);
    assert_int_equal(server.sum, 2);
}

static MAY_YIELD void ask_when_cancelled(void *arg)
{
    struct outcome *outcome = arg;
    struct scope scope;
    scope_open(&scope, TIME_NEVER);
    scope_cancel(&scope);
    ask_and_be_held(outcome);
    scope_close(&scope);
}

static void a_cancelled_fiber_does_not_ask(void **state)
{
    (void)state;
    struct server server;
    server_start(&server);
    atomic_store(&released, 0);
    struct outcome outcome = {.server = &server};
    test_in_fiber(ask_when_cancelled, &outcome);
    assert_int_equal(outcome.error, ERROR_CANCELLED);
    assert_int_equal(atomic_load(&released), 1);
    server_stop(&server);
    assert_true(list_is_empty(&server.held));
}

/* ---- answered and cancelled in one turn ---- */

struct late_cancel {
    struct server self;
    struct question *question;
    struct scope *scope;
    struct post cancel;
    bool answered;
};

static void cancel(struct post *post)
{
    scope_cancel(CONTAINER(post, struct late_cancel, cancel)->scope);
}

static MAY_YIELD void cancel_when_answered(void *arg)
{
    struct late_cancel *both = arg;
    while (both->question->answer == 0)
        fiber_yield();
    both->cancel.run = cancel; /* the answer's post runs before it, the asker after it */
    loop_post(loop_current(), &both->cancel);
}

static MAY_YIELD void ask_and_be_cancelled(void *arg)
{
    struct late_cancel *both = arg;
    struct scope scope;
    struct error err;
    scope_open(&scope, TIME_NEVER);
    both->scope = &scope;
    both->question = question_new(&both->self, answer_double, 3);
    assert_int_equal(fiber_spawn(&scope, "cancel", cancel_when_answered, both, &err), OK);
    both->answered = call_ask(loop_current(), &both->question->call, &err) == OK;
    assert_int_equal(fiber_check(&err), FAILED);
    scope_close(&scope);
}

static void an_answer_that_came_is_not_thrown_away(void **state)
{
    (void)state;
    struct late_cancel both = {.answered = false};
    test_in_fiber(ask_and_be_cancelled, &both);
    assert_true(both.answered);
    assert_int_equal(both.question->answer, 6);
    free(both.question);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads_ask_one),
        cmocka_unit_test(the_own_loop_answers_too),
        cmocka_unit_test(an_abandoned_call_frees_itself),
        cmocka_unit_test(an_answer_that_came_is_not_thrown_away),
        cmocka_unit_test(a_cancelled_fiber_does_not_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
