/* SPDX-License-Identifier: Apache-2.0 */
/* webhook/webhooks.c - the thread, and who talks to it. */
#include "webhook/webhooks.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/memory.h"
#include "fiber/fiber.h"
#include "net/dns.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    ON_THE_WAY_MAX = 4 * 1024 * 1024, /* events between the log's thread and ours */
    REVISION_SIZE = 16,
    NICE = 10,
};

struct webhooks {
    pthread_t thread;
    pthread_barrier_t ready;
    struct loop *loop;
    struct scope scope; /* of the dispatcher's fiber */
    struct webhook_dispatcher *dispatcher;
    struct str path;
    struct str node;
    const struct dns_settings *dns;
    struct arena *arena;
    struct error start_error;
    bool failed, halted;
    atomic_bool wanted[EVENT_TYPE_COUNT]; /* by some webhook */
    atomic_size_t on_the_way;
    atomic_uint_least64_t lost;
    uint64_t told;       /* of these, to the dispatcher; the loop's */
    struct batch *batch; /* the log's thread */
};

/* ---- events ---- */

struct batch {
    struct post post;
    struct webhooks *webhooks;
    struct buf records;
};
struct record { /* an event, packed, follows */
    uint64_t seq;
    uint32_t size;
    uint32_t revision_len;
    char revision[REVISION_SIZE];
};

static void take_records(struct webhook_dispatcher *dispatcher, struct str rest)
{
    struct record record;
    struct event event;
    while (rest.len) {
        memcpy(&record, rest.ptr, sizeof record);
        event_unpack(str_slice(rest, sizeof record, sizeof record + record.size), &event);
        event.seq = record.seq;
        webhook_dispatcher_take(dispatcher, &event, str_of(record.revision, record.revision_len));
        rest = str_from(rest, sizeof record + record.size);
    }
}

static void take_batch(struct post *post)
{
    struct batch *batch = CONTAINER(post, struct batch, post);
    struct webhooks *webhooks = batch->webhooks;
    uint64_t lost = atomic_load(&webhooks->lost);
    webhook_dispatcher_begin(webhooks->dispatcher);
    take_records(webhooks->dispatcher, buf_str(&batch->records));
    webhook_dispatcher_lost(webhooks->dispatcher, lost - webhooks->told);
    webhooks->told = lost;
    webhook_dispatcher_end(webhooks->dispatcher);
    atomic_fetch_sub(&webhooks->on_the_way, batch->records.len);
    buf_done(&batch->records);
    free(batch);
}

void webhooks_offer(struct webhooks *webhooks, const struct event *event, struct str revision)
{
    if (!webhooks || !atomic_load_explicit(&webhooks->wanted[event->type], memory_order_relaxed))
        return;
    size_t size = sizeof(struct record) + event->packed.len;
    if (atomic_load(&webhooks->on_the_way) + size > ON_THE_WAY_MAX) {
        atomic_fetch_add(&webhooks->lost, 1);
        return;
    }
    if (!webhooks->batch) {
        webhooks->batch = NEW(struct batch);
        webhooks->batch->webhooks = webhooks;
        webhooks->batch->post.run = take_batch;
        buf_init(&webhooks->batch->records, ON_THE_WAY_MAX);
    }
    struct record record = {.seq = event->seq, .size = (uint32_t)event->packed.len};
    record.revision_len = (uint32_t)(revision.len < REVISION_SIZE ? revision.len : 0);
    memcpy(record.revision, revision.ptr, record.revision_len);
    buf_append(&webhooks->batch->records, str_of((const char *)&record, sizeof record));
    buf_append(&webhooks->batch->records, event->packed);
    check(!webhooks->batch->records.overflow);
    atomic_fetch_add(&webhooks->on_the_way, size);
}

uint64_t webhooks_lost(const struct webhooks *webhooks)
{
    return webhooks ? atomic_load(&webhooks->lost) : 0;
}

void webhooks_release(struct webhooks *webhooks)
{
    if (webhooks && webhooks->batch)
        loop_post(webhooks->loop, &take(webhooks->batch)->post);
}

/* ---- another configuration ---- */

struct change {
    struct post post;
    struct webhooks *webhooks;
    struct webhook_set set;
};

static void take_change(struct post *post)
{
    struct change *change = CONTAINER(post, struct change, post);
    webhook_dispatcher_use(change->webhooks->dispatcher, &change->set);
    free(change);
}

void webhooks_use(struct webhooks *webhooks, const struct webhook_set *set)
{
    if (!webhooks) {
        if (set->release)
            set->release(set->keeper);
        return;
    }
    for (int type = 0; type < EVENT_TYPE_COUNT; type++) {
        bool wanted = false;
        for (size_t i = 0; i < set->count; i++)
            wanted = wanted || set->items[i].choice.wants[type];
        atomic_store_explicit(&webhooks->wanted[type], wanted, memory_order_relaxed);
    }
    struct change *change = NEW(struct change);
    change->post.run = take_change;
    change->webhooks = webhooks;
    change->set = *set;
    loop_post(webhooks->loop, &change->post);
}

/* ---- the thread ---- */

static enum result prepare(struct webhooks *webhooks, struct error *err)
{
    struct webhook_sender *sender;
    if (loop_new(NULL, &webhooks->loop, err) != OK)
        return FAILED;
    scope_init_root(&webhooks->scope, webhooks->loop);
    if (webhook_sender_http(webhooks->loop, webhooks->dns, &sender, err) != OK)
        return FAILED;
    webhooks->dispatcher = webhook_dispatcher_new(webhooks->path, webhooks->node, sender);
    return fiber_spawn(&webhooks->scope, "webhooks", webhook_dispatcher_run, webhooks->dispatcher,
                       err);
}

static void *thread_main(void *arg)
{
    struct webhooks *webhooks = arg;
    pthread_setname_np(pthread_self(), "webhooks");
    /* mail goes first */
    (void)!setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    webhooks->failed = prepare(webhooks, &webhooks->start_error) != OK;
    bool failed = webhooks->failed;
    pthread_barrier_wait(&webhooks->ready);
    if (!failed)
        loop_run(webhooks->loop);
    webhook_dispatcher_free(webhooks->dispatcher);
    loop_free(webhooks->loop);
    return NULL;
}

static void destroy(struct webhooks *webhooks)
{
    pthread_barrier_destroy(&webhooks->ready);
    arena_free(webhooks->arena);
    free(webhooks);
}

enum result webhooks_start(struct str folder, struct str node, const struct dns_settings *dns,
                           struct webhooks **out_webhooks, struct error *err)
{
    struct webhooks *webhooks = NEW(struct webhooks);
    webhooks->arena = arena_new(0);
    webhooks->path = arena_printf(webhooks->arena, "%.*s/webhooks.db", STR_ARG(folder));
    webhooks->node = arena_str(webhooks->arena, node);
    webhooks->dns = dns;
    pthread_barrier_init(&webhooks->ready, NULL, 2);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&webhooks->thread, NULL, thread_main, webhooks);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code == 0)
        pthread_barrier_wait(&webhooks->ready);
    if (code == 0 && !webhooks->failed) {
        *out_webhooks = webhooks;
        return OK;
    }
    enum result result =
        code ? fail_errno(err, code, "cannot start the thread of the webhooks")
             : fail(err, webhooks->start_error.kind, "webhooks: %s", webhooks->start_error.text);
    if (code == 0)
        pthread_join(webhooks->thread, NULL);
    destroy(webhooks);
    return result;
}

/* ---- its end ---- */

struct ending {
    struct post post;
    struct webhooks *webhooks;
};

static void post_ending(struct webhooks *webhooks, void (*run)(struct post *post))
{
    struct ending *ending = NEW(struct ending);
    ending->post.run = run;
    ending->webhooks = webhooks;
    loop_post(webhooks->loop, &ending->post);
}

static void halt(struct webhooks *webhooks)
{
    webhooks->halted = true;
    scope_cancel(&webhooks->scope);
}

static void take_halt(struct post *post)
{
    struct ending *ending = CONTAINER(post, struct ending, post);
    halt(ending->webhooks);
    free(ending);
}

/* The fibers were cancelled a while ago; what is left of them runs out first. */
static void take_stop(struct post *post)
{
    struct ending *ending = CONTAINER(post, struct ending, post);
    struct webhooks *webhooks = ending->webhooks;
    if (!webhooks->halted)
        halt(webhooks);
    if (scope_is_empty(&webhooks->scope)) {
        loop_stop(webhooks->loop);
        free(ending);
    } else {
        loop_post(webhooks->loop, &ending->post); /* in the next turn */
    }
}

void webhooks_halt(struct webhooks *webhooks)
{
    if (webhooks)
        post_ending(webhooks, take_halt);
}

void webhooks_stop(struct webhooks *webhooks)
{
    if (!webhooks)
        return;
    webhooks_release(webhooks);
    post_ending(webhooks, take_stop);
    pthread_join(webhooks->thread, NULL);
    destroy(webhooks);
}

/* ---- questions ---- */

struct question {
    struct post post;
    struct webhook_dispatcher *dispatcher;
    struct arena *arena;
    struct str text;
    struct str by;
    int state;
    int64_t before;
    size_t most;
    bool flag;
    enum result result;
    struct error *err;
    /* out */
    struct webhook_status *items;
    size_t count;
    struct webhook_deliveries deliveries;
    struct webhook_delivery delivery;
    bool found;

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

static struct question *question_of(struct post *post)
{
    return CONTAINER(post, struct question, post);
}

/* `run` answers, now or later. */
static void ask(struct webhooks *webhooks, struct question *question,
                void (*run)(struct post *post))
{
    question->post.run = run;
    question->dispatcher = webhooks->dispatcher;
    pthread_mutex_init(&question->mutex, NULL);
    pthread_cond_init(&question->cond, NULL);
    loop_post(webhooks->loop, &question->post);
    pthread_mutex_lock(&question->mutex);
    while (!question->done)
        pthread_cond_wait(&question->cond, &question->mutex);
    pthread_mutex_unlock(&question->mutex);
    pthread_mutex_destroy(&question->mutex);
    pthread_cond_destroy(&question->cond);
}

static void answer_list(struct post *post)
{
    struct question *question = question_of(post);
    question->items =
        webhook_dispatcher_list(question->dispatcher, question->arena, &question->count);
    answer(question);
}

struct webhook_status *webhooks_list(struct webhooks *webhooks, struct arena *arena,
                                     size_t *out_count)
{
    struct question question = {.arena = arena};
    *out_count = 0;
    if (!webhooks)
        return NULL;
    ask(webhooks, &question, answer_list);
    *out_count = question.count;
    return question.items;
}

static void answer_deliveries(struct post *post)
{
    struct question *question = question_of(post);
    question->found = webhook_dispatcher_knows(question->dispatcher, question->text);
    question->result = OK;
    if (question->found)
        question->result = webhook_dispatcher_deliveries(
            question->dispatcher, question->text, question->state, question->before, question->most,
            question->arena, &question->deliveries, question->err);
    answer(question);
}

enum result webhooks_deliveries(struct webhooks *webhooks, struct str name, int state,
                                int64_t before, size_t most, struct arena *arena, bool *out_known,
                                struct webhook_deliveries *out, struct error *err)
{
    struct question question = {
        .text = name, .state = state, .before = before, .most = most, .arena = arena, .err = err};
    *out_known = false;
    if (!webhooks)
        return OK;
    ask(webhooks, &question, answer_deliveries);
    *out_known = question.found;
    *out = question.deliveries;
    return question.result;
}

static void answer_delivery(struct post *post)
{
    struct question *question = question_of(post);
    question->result =
        webhook_dispatcher_delivery(question->dispatcher, question->text, question->arena,
                                    &question->delivery, &question->found, question->err);
    answer(question);
}

enum result webhooks_delivery(struct webhooks *webhooks, struct str id, struct arena *arena,
                              struct webhook_delivery *out, bool *out_found, struct error *err)
{
    struct question question = {.text = id, .arena = arena, .err = err};
    *out_found = false;
    if (!webhooks)
        return OK;
    ask(webhooks, &question, answer_delivery);
    *out_found = question.found;
    *out = question.delivery;
    return question.result;
}

static void answer_retry(struct post *post)
{
    struct question *question = question_of(post);
    question->result = webhook_dispatcher_retry(question->dispatcher, question->text,
                                                &question->found, question->err);
    answer(question);
}

enum result webhooks_retry(struct webhooks *webhooks, struct str id, bool *out_found,
                           struct error *err)
{
    struct question question = {.text = id, .err = err};
    *out_found = false;
    if (!webhooks)
        return OK;
    ask(webhooks, &question, answer_retry);
    *out_found = question.found;
    return question.result;
}

static void answer_pause(struct post *post)
{
    struct question *question = question_of(post);
    question->found = webhook_dispatcher_knows(question->dispatcher, question->text);
    question->result = OK;
    if (question->found)
        question->result = webhook_dispatcher_pause(question->dispatcher, question->text,
                                                    question->flag, question->by, question->err);
    answer(question);
}

enum result webhooks_pause(struct webhooks *webhooks, struct str name, bool pause, struct str by,
                           bool *out_known, struct error *err)
{
    struct question question = {.text = name, .by = by, .flag = pause, .err = err};
    *out_known = false;
    if (!webhooks)
        return OK;
    ask(webhooks, &question, answer_pause);
    *out_known = question.found;
    return question.result;
}

/* Texts are the attempt's until we return. */
static void tested(const struct webhook_delivery *delivery, void *arg)
{
    struct question *question = arg;
    question->result =
        delivery ? OK : fail(question->err, ERROR_TEMPORARY, "it could not be tried now");
    if (delivery) {
        question->delivery = *delivery;
        question->delivery.id = arena_str(question->arena, delivery->id);
        question->delivery.webhook = arena_str(question->arena, delivery->webhook);
        question->delivery.body = arena_str(question->arena, delivery->body);
        question->delivery.error = arena_str(question->arena, delivery->error);
        question->delivery.answer = arena_str(question->arena, delivery->answer);
    }
    answer(question);
}

static void answer_test(struct post *post)
{
    struct question *question = question_of(post);
    question->found = webhook_dispatcher_knows(question->dispatcher, question->text);
    question->result = OK;
    if (question->found)
        webhook_dispatcher_test(question->dispatcher, question->text, tested, question);
    else
        answer(question);
}

enum result webhooks_test(struct webhooks *webhooks, struct str name, struct arena *arena,
                          bool *out_known, struct webhook_delivery *out, struct error *err)
{
    struct question question = {.text = name, .arena = arena, .err = err};
    *out_known = false;
    if (!webhooks)
        return OK;
    ask(webhooks, &question, answer_test);
    *out_known = question.found;
    *out = question.delivery;
    return question.result;
}
