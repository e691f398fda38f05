/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/ask.h"

struct question {
    struct post post;
    struct worker *worker;
    void (*run)(void *arg);
    void *arg;
    enum result result;
    struct error *err;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
};

static void answer(struct question *question)
{
    pthread_mutex_lock(&question->mutex);
    question->done = true;
    pthread_cond_signal(&question->cond);
    pthread_mutex_unlock(&question->mutex);
}

static void run_and_answer(void *arg)
{
    struct question *question = arg;
    question->run(question->arg);
    answer(question);
}

static void take_question(struct post *post)
{
    struct question *question = CONTAINER(post, struct question, post);
    struct worker *worker = question->worker;
    if (worker->left)
        question->result = fail(question->err, ERROR_TEMPORARY, "the gateway is stopping");
    else
        question->result =
            fiber_spawn(&worker->sessions, "question", run_and_answer, question, question->err);
    if (question->result != OK)
        answer(question);
}

enum result ask_worker(struct worker *worker, void (*run)(void *arg), void *arg, struct error *err)
{
    struct question question = {
        .post = {.run = take_question}, .worker = worker, .run = run, .arg = arg, .err = err};
    pthread_mutex_init(&question.mutex, NULL);
    pthread_cond_init(&question.cond, NULL);
    loop_post(worker->loop, &question.post);
    pthread_mutex_lock(&question.mutex);
    while (!question.done)
        pthread_cond_wait(&question.cond, &question.mutex);
    pthread_mutex_unlock(&question.mutex);
    pthread_mutex_destroy(&question.mutex);
    pthread_cond_destroy(&question.cond);
    return question.result;
}
