/* SPDX-License-Identifier: Apache-2.0 */
/* Workers in threads around a queue; the test itself is the operator's thread. */
#include "queue/ask.h"
#include "queue/queue_test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct world_worker {
    struct world *world;
    size_t index;
    pthread_t thread;
    struct loop *loop;
    pthread_barrier_t *barrier;
    struct scope scope;
    struct dns *dns;
};

/* A task for a worker, waited for by the test's thread. */
struct task {
    struct post post;
    struct world_worker *worker;
    void (*run)(struct task *task); /* on a fiber */
    const struct letter *letter;
    struct mail_id id; /* out */
    enum result result;
    struct error err;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
};

/* ---- the configuration ---- */

static struct world *world_of(const struct queue_snapshot *snapshot)
{
    return (struct world *)(uintptr_t)snapshot;
}

static const struct queue_snapshot *take_snapshot(void *context)
{
    return context;
}

static void release_snapshot(void *context, const struct queue_snapshot *snapshot)
{
    check(context == (const void *)snapshot);
}

static const struct transport *find_transport(const struct queue_snapshot *snapshot,
                                              struct str name)
{
    struct world *world = world_of(snapshot);
    return transport_find(world->transports, world->transport_count, name);
}

static struct str route(const struct queue_snapshot *snapshot, struct str domain)
{
    (void)snapshot;
    return str_equal(domain, STR("nowhere.example")) ? STR_EMPTY : STR("out");
}

static struct str hostname(const struct queue_snapshot *snapshot)
{
    (void)snapshot;
    return STR("gw.example");
}

static struct str postmaster(const struct queue_snapshot *snapshot)
{
    return world_of(snapshot)->no_postmaster ? STR("x@nowhere.example")
                                             : STR("ok-postmaster@example.org");
}

static bool is_own_address(const struct queue_snapshot *snapshot, const struct net_address *address)
{
    return address->port == world_of(snapshot)->own_port;
}

NO_YIELD_CHECK static enum queue_content_verdict run_content(void *context,
                                                             const struct queue_snapshot *snapshot,
                                                             struct queue_content_run *run,
                                                             struct mail_reply *out_reply)
{
    struct world *world = context;
    (void)snapshot;
    if (world->content_findings > 0) {
        char *findings = arena_alloc(run->arena, world->content_findings);
        memset(findings, 'x', world->content_findings);
        run->groups = ARENA_NEW(run->arena, struct queue_group);
        *run->groups = (struct queue_group){
            .content = *run->content,
            .transport = run->transport,
            .recipients = run->recipients,
            .recipient_count = run->recipient_count,
            .held = true,
            .held_reason = MAIL_REASON_POLICY,
            .kept = {.findings = str_of(findings, world->content_findings)},
        };
        run->group_count = 1;
    }
    atomic_fetch_add(&world->content_runs, 1);
    while (atomic_load(&world->content_waits))
        if (fiber_sleep(NS_PER_MS, NULL) == FAILED)
            break;
    *out_reply = mail_reply_of(554, 5, 7, 1, STR("refused by the flow"));
    return world->content_verdict;
}

static void delivered_inbound(void *context, struct str address)
{
    struct world *world = context;
    check(address.len > 0);
    atomic_fetch_add(&world->delivered_inbound, 1);
}

static void run_hook(void *context, const struct queue_snapshot *snapshot, struct queue_hook *hook)
{
    struct world *world = context;
    (void)snapshot;
    world->hooks++;
    if (world->hook != NULL)
        world->hook(world, hook);
}

static enum queue_account account(void *context, struct str user)
{
    check(str_equal(user, STR("sender")));
    return (enum queue_account)atomic_load(&((struct world *)context)->account);
}

static const struct queue_handler handler = {
    .hook = run_hook,
    .take_snapshot = take_snapshot,
    .release_snapshot = release_snapshot,
    .transport = find_transport,
    .route = route,
    .hostname = hostname,
    .postmaster = postmaster,
    .is_own_address = is_own_address,
    .run_content = run_content,
    .delivered_inbound = delivered_inbound,
    .account = account,
};

/* ---- set-up ---- */

void world_init(struct world *world, size_t workers)
{
    *world = (struct world){.workers = workers, .grace_ns = 5 * NS_PER_S};
    (void)snprintf(world->folder, sizeof world->folder, "/tmp/queue-test-XXXXXX");
    check(mkdtemp(world->folder) != NULL);
    world->sink = sink_new();
    world->server = (struct server){.name = STR("sink"), .kind = SERVER_SMTP, .tls_given = true};
    world->server.endpoints = NEW(struct server_endpoint);
    world->server.endpoints[0] =
        (struct server_endpoint){.host = STR("127.0.0.1"), .port = sink_port(world->sink)};
    world->server.endpoint_count = 1;
    for (size_t i = 0; i < 4; i++)
        world->delays[i] = 30 * NS_PER_MS;
    world->transports[0] = (struct transport){
        .name = STR("out"),
        .method = TRANSPORT_SERVER,
        .server_name = STR("sink"),
        .server = &world->server,
        .direction = TRANSPORT_OUTBOUND,
        .retry = {.delays = {.items = world->delays, .count = 4}, .count = 4},
        .dsn = 1u << TRANSPORT_NOTIFY_FAILURE | 1u << TRANSPORT_NOTIFY_DELAY |
               1u << TRANSPORT_NOTIFY_SUCCESS,
        .dsn_to_strangers = TRANSPORT_DSN_VERIFIED,
        .delay_after_ns = 4 * 3600 * NS_PER_S,
        .expire_ns = 5 * 86400 * NS_PER_S,
        .attempt_timeout_ns = 20 * NS_PER_S,
        .allow_private = true,
        .limit_connections = 20,
    };
    world->transports[1] = world->transports[0];
    world->transports[1].name = STR("mx");
    world->transports[1].method = TRANSPORT_LOOKUP_MX;
    world->transports[1].port = sink_port(world->sink);
    world->transports[2] = world->transports[0];
    world->transports[2].name = STR("mailbox");
    world->transports[2].method = TRANSPORT_LMTP;
    world->transports[2].direction = TRANSPORT_INBOUND;
    world->transport_count = 3;
}

void world_done(struct world *world)
{
    char command[128];
    sink_free(world->sink);
    free(world->server.endpoints);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", world->folder);
    (void)!system(command);
}

/* ---- workers ---- */

static void *run_worker(void *arg)
{
    struct world_worker *worker = arg;
    struct error err;
    if (loop_new(NULL, &worker->loop, &err) == FAILED)
        check_failed(err.text, __FILE__, __LINE__, __func__);
    scope_init_root(&worker->scope, worker->loop);
    pthread_barrier_wait(worker->barrier);
    loop_run(worker->loop);
    dns_free(worker->dns);
    loop_free(worker->loop);
    return NULL;
}

static MAY_YIELD void run_task(void *arg)
{
    struct task *task = arg;
    task->run(task);
    pthread_mutex_lock(&task->mutex);
    task->done = true;
    pthread_cond_signal(&task->cond);
    pthread_mutex_unlock(&task->mutex);
}

static void spawn_task(struct post *post)
{
    struct task *task = CONTAINER(post, struct task, post);
    struct error err;
    enum result result = fiber_spawn(&task->worker->scope, "test", run_task, task, &err);
    check(result == OK);
}

static void post_task(struct task *task, struct world_worker *worker,
                      void (*run)(struct task *task))
{
    pthread_mutex_init(&task->mutex, NULL);
    pthread_cond_init(&task->cond, NULL);
    task->worker = worker;
    task->run = run;
    task->post.run = spawn_task;
    loop_post(worker->loop, &task->post);
}

static void wait_task(struct task *task)
{
    pthread_mutex_lock(&task->mutex);
    while (!task->done)
        pthread_cond_wait(&task->cond, &task->mutex);
    pthread_mutex_unlock(&task->mutex);
    pthread_mutex_destroy(&task->mutex);
    pthread_cond_destroy(&task->cond);
}

/* mx.test is the sink; null.test takes no mail; a.test and b.test have no MX. */
static struct dns *make_dns(struct loop *loop)
{
    struct str loopback[] = {STR("127.0.0.1")};
    struct str mx[] = {STR("10 host.test")}, null_mx[] = {STR("0 .")};
    struct dns_static statics[] = {
        {STR("host.test"), loopback, 1},   {STR("a.test"), loopback, 1},
        {STR("b.test"), loopback, 1},      {STR("mx:mx.test"), mx, 1},
        {STR("mx:null.test"), null_mx, 1}, {STR("mx:own.test"), mx, 1},
        {STR("c.test"), loopback, 1},
    };
    struct dns_settings settings = {.statics = statics,
                                    .static_count = sizeof statics / sizeof statics[0]};
    struct dns *dns;
    struct error err;
    if (dns_new(loop, &settings, &dns, &err) == FAILED)
        check_failed(err.text, __FILE__, __LINE__, __func__);
    return dns;
}

static void join(struct task *task)
{
    struct world_worker *worker = task->worker;
    worker->dns = make_dns(worker->loop);
    queue_join(worker->world->queue, worker->index, worker->dns);
}

static MAY_YIELD void leave(struct task *task)
{
    queue_leave(task->worker->world->queue, task->worker->index,
                clock_monotonic_ns() + task->worker->world->grace_ns);
}

static void found(void *context, const struct spool_found *found)
{
    struct world *world = context;
    queue_recover(world->queue, found);
}

static void each_worker(struct world *world, void (*run)(struct task *task))
{
    struct task *tasks = memory_alloc_array(world->workers, sizeof *tasks);
    for (size_t i = 0; i < world->workers; i++)
        post_task(&tasks[i], &world->threads[i], run);
    for (size_t i = 0; i < world->workers; i++)
        wait_task(&tasks[i]);
    free(tasks);
}

void world_start(struct world *world)
{
    struct spool_settings settings = {.path = str_c(world->folder),
                                      .segment_size = 4 << 20,
                                      .free_bytes_floor = 1,
                                      .free_inodes_floor = 1,
                                      .state_delay_ns = 5 * NS_PER_MS,
                                      .no_sync = true};
    struct loop *loops[16];
    struct error err;
    check(world->workers <= 16);
    pthread_barrier_init(&world->barrier, NULL, (unsigned)world->workers + 1);
    world->threads = memory_alloc_array(world->workers, sizeof *world->threads);
    for (size_t i = 0; i < world->workers; i++) {
        world->threads[i] =
            (struct world_worker){.world = world, .index = i, .barrier = &world->barrier};
        pthread_create(&world->threads[i].thread, NULL, run_worker, &world->threads[i]);
    }
    pthread_barrier_wait(&world->barrier);
    for (size_t i = 0; i < world->workers; i++)
        loops[i] = world->threads[i].loop;
    struct queue_handler with_context = handler;
    with_context.context = world;
    world->queue = queue_new(NULL, NULL, &with_context, loops, world->workers);
    if (atomic_load(&world->account) == QUEUE_ACCOUNT_SETTLING)
        queue_settle_found(world->queue);
    if (spool_open(&settings, found, world, &world->spool, &err) == FAILED)
        fail_msg("spool: %s", err.text);
    queue_set_spool(world->queue, world->spool);
    queue_set_vault(world->queue, world->vault);
    each_worker(world, join);
}

void world_stop(struct world *world)
{
    each_worker(world, leave);
    for (size_t i = 0; i < world->workers; i++) {
        loop_stop(world->threads[i].loop);
        pthread_join(world->threads[i].thread, NULL);
    }
    pthread_barrier_destroy(&world->barrier);
    queue_free(take(world->queue));
    spool_close(take(world->spool));
    free(take(world->threads));
}

/* ---- submitting ---- */

static struct str domain_of(const char *address)
{
    const char *at = strrchr(address, '@');
    return at != NULL ? str_c(at + 1) : STR_EMPTY;
}

static struct mail_recipient *list_recipients(struct arena *arena, const struct letter *letter,
                                              size_t *out_count)
{
    struct mail_recipient *recipients =
        arena_alloc_array(arena, 8 + letter->many, sizeof *recipients);
    size_t count = 0;
    for (; count < 8 && letter->to[count] != NULL; count++)
        recipients[count] = (struct mail_recipient){.address = str_c(letter->to[count]),
                                                    .domain = domain_of(letter->to[count]),
                                                    .notify = letter->notify};
    for (size_t i = 0; i < letter->many; i++) {
        struct str domain = STR("example.net");
        if (letter->domains > 0)
            domain = arena_printf(arena, "d%zu.test", letter->domains - i % letter->domains);
        recipients[count++] = (struct mail_recipient){
            .address = arena_printf(arena, "ok-%zu@%.*s", i, STR_ARG(domain)),
            .domain = domain,
            .notify = letter->notify};
    }
    *out_count = count;
    return recipients;
}

static MAY_YIELD void submit(struct task *task)
{
    const struct letter *letter = task->letter;
    const char *text = letter->text != NULL
                           ? letter->text
                           : "From: a\r\nSubject: greetings\r\n\r\nHello\r\n.dot\r\n";
    struct arena *arena = arena_new(0);
    size_t count;
    struct mail_recipient *recipients = list_recipients(arena, letter, &count);
    struct mail_recipient refused = {.notify = letter->notify};
    struct mail_reply refused_reply = mail_reply_of(550, 5, 7, 1, STR("not in our name"));
    struct body *body;
    if (strlen(text) <= 256 * 1024) /* as at a reception */
        body = body_memory_new(1 << 20);
    else
        check(spool_body_new(task->worker->world->spool, &body, &task->err) == OK);
    check(body_append(body, str_c(text), &task->err) == OK && body_seal(body, &task->err) == OK);
    struct queue_group group = {
        .content = {.head = STR("Received: from test\r\n"), .body = body},
        .transport = letter->transport != NULL ? str_c(letter->transport) : STR("out"),
        .content_flow = letter->content_flow != NULL ? str_c(letter->content_flow) : STR_EMPTY,
        .recipients = recipients,
        .recipient_count = count,
        .held = letter->held,
        .held_reason = !letter->held         ? MAIL_REASON_NONE
                       : letter->held_reason ? letter->held_reason
                                             : MAIL_REASON_SPAM,
    };
    if (letter->quarantine != NULL)
        group.kept = (struct queue_kept){.step = STR("stop"),
                                         .quarantine = str_c(letter->quarantine),
                                         .why = STR_EMPTY,
                                         .findings = STR_EMPTY,
                                         .label = STR("A subject\nmallory@example.com")};
    struct mail_sender sender = {
        .address = str_c(letter->from != NULL ? letter->from : "sender@example.org")};
    struct queue_submission submission = {
        .message = mail_id_new(),
        .session = mail_id_new(),
        .sender = &sender,
        .own_user = !letter->stranger,
        .fairness_key = STR("sender"),
        .groups = &group,
        .group_count = 1,
    };
    if (letter->refused != NULL) {
        refused.address = str_c(letter->refused);
        refused.domain = domain_of(letter->refused);
        submission.refused = &refused;
        submission.refused_replies = &refused_reply;
        submission.refused_count = 1;
    }
    struct scope scope;
    scope_open(&scope, letter->within_ns > 0 ? clock_deadline(letter->within_ns) : TIME_NEVER);
    task->result = queue_submit(task->worker->world->queue, &submission, &task->err);
    scope_close(&scope);
    body_unref(body);
    arena_free(arena);
}

static MAY_YIELD void add_stray(struct task *task)
{
    struct body *body = body_memory_new(100);
    check(body_append(body, STR("stray"), &task->err) == OK && body_seal(body, &task->err) == OK);
    struct mail_content content = {.head = STR_EMPTY, .body = body};
    struct spool_change change = {.kind = SPOOL_ADD,
                                  .entry = mail_id_new(),
                                  .message = mail_id_new(),
                                  .state = STR("s"),
                                  .content = &content};
    task->id = change.entry;
    task->result = spool_commit(task->worker->world->spool, &change, 1, &task->err);
    body_unref(body);
}

struct mail_id world_add_stray(struct world *world)
{
    struct task task = {0};
    post_task(&task, &world->threads[0], add_stray);
    wait_task(&task);
    assert_int_equal(task.result, OK);
    return task.id;
}

enum result world_submit(struct world *world, const struct letter *letter, struct error *err)
{
    struct task task = {.letter = letter};
    post_task(&task, &world->threads[letter->worker], submit);
    wait_task(&task);
    *err = task.err;
    return task.result;
}

void world_submit_many(struct world *world, const struct letter *letter, size_t count)
{
    struct task *tasks = memory_alloc_array(count, sizeof *tasks);
    for (size_t i = 0; i < count; i++) {
        tasks[i].letter = letter;
        post_task(&tasks[i], &world->threads[i % world->workers], submit);
    }
    for (size_t i = 0; i < count; i++) {
        wait_task(&tasks[i]);
        assert_int_equal(tasks[i].result, OK);
    }
    free(tasks);
}

static void drop_event(const struct event *event, void *arg)
{
    (void)arg;
    if (getenv("QUEUE_TEST_EVENTS") == NULL)
        return;
    struct buf line;
    buf_init(&line, 1 << 16);
    event_format_human(event, &line);
    (void)!write(2, line.ptr, line.len);
    buf_done(&line);
}

bool world_pause(void)
{
    (void)event_drain(drop_event, NULL);
    usleep(1000);
    return true;
}

void send_one(struct world *world, const struct letter *letter)
{
    struct error err;
    if (world_submit(world, letter, &err) == FAILED)
        fail_msg("submit: %s", err.text);
}

struct queue_totals totals(struct world *world)
{
    return queue_totals(world->queue);
}

bool is_settled(struct world *world, uint64_t entries)
{
    struct queue_totals now = totals(world);
    return now.entries == entries && now.inflight == 0 && now.ready == 0 &&
           queue_balance(&now) == 0;
}

/* ---- the books ---- */

static void run_audit(struct queue_share *share) MAY_YIELD
{
    share->total = queue_audit_worker(share->worker);
    if (share->worker->index == 0)
        queue_audit_totals(share->worker->queue);
}

size_t world_audit(struct world *world)
{
    struct error err;
    struct queue_ask *ask = queue_ask_new(world->queue, sizeof *ask);
    size_t differences = 0;
    assert_int_equal(queue_ask_all(ask, run_audit, &err), OK);
    for (size_t i = 0; i < ask->share_count; i++)
        differences += ask->shares[i].total;
    queue_ask_unref(ask);
    return differences;
}
