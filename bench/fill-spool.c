/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fill-spool.c - a spool with many deferred messages, to measure start and memory.
 *
 *   fill-spool FOLDER COUNT TRANSPORT DOMAINS DUE_SECONDS [BYTES [WORDS]]
 *
 * Each message has one recipient, one attempt behind it and its answer; its next try is DUE_SECONDS
 * from now on, spread over an hour. WORDS: a log number of the peer's stands in each answer.
 * Written without syncs, then synced once.
 */
#include "base/check.h"
#include "base/memory.h"
#include "fiber/loop.h"
#include "queue/entry.h"
#include "queue/unit.h"
#include "spool/spool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { AT_ONCE = 64, TEXT_MAX = 1 << 20 };

struct filling {
    struct spool *spool;
    struct loop *loop;
    size_t count, domains, bytes;
    bool words;
    struct str transport;
    int64_t due_s;
    struct arena *arena;
    struct str text;
};

static struct str encoded(struct arena *arena, struct buf *buf)
{
    check(!buf->overflow);
    struct str copy = arena_str(arena, buf_str(buf));
    buf_done(buf);
    return copy;
}

static struct str meta_of(struct filling *filling, struct mail_id message, size_t number)
{
    struct arena *arena = filling->arena;
    struct str domain = arena_printf(arena, "domain%zu.example.net", number % filling->domains);
    struct mail_recipient recipient = {
        .address = arena_printf(arena, "recipient.%zu@%.*s", number, STR_ARG(domain)),
        .domain = domain,
        .orcpt = STR_EMPTY};
    struct queue_meta meta = {
        .message = message,
        .session = mail_id_new(),
        .accepted_wall_ns = clock_wall_ns() - (int64_t)(number % 1000) * NS_PER_S,
        .flags = QUEUE_META_OWN_USER,
        .sender = {.address = arena_printf(arena, "sender.%zu@example.org", number % 100),
                   .envid = STR_EMPTY,
                   .size = filling->bytes},
        .fairness_key = arena_printf(arena, "sender.%zu", number % 100),
        .origin = STR_EMPTY,
        .transport = filling->transport,
        .content_flow = STR_EMPTY,
        .recipients = &recipient,
        .recipient_count = 1};
    struct buf buf;
    buf_init(&buf, QUEUE_META_MAX);
    queue_meta_encode(&meta, &buf);
    return encoded(arena, &buf);
}

static struct str record_of(struct filling *filling, size_t number)
{
    struct queue_record record;
    struct buf buf;
    struct queue_said said = {
        .reply = {.code = 451,
                  .enhanced = {4, 7, 1},
                  .text = STR("Greylisting in action, please come back later")},
        .mta = STR("mx.example.net")};
    if (filling->words) /* spread, as those of a server that has other clients too */
        said.reply.text =
            arena_printf(filling->arena, "Greylisting in action, please come back later (%010llX)",
                         (unsigned long long)(number * 0x9e3779b97f4a7c15 >> 24));
    queue_record_init(&record, 1, filling->arena);
    record.attempts = 1;
    record.last_try_wall_ns = clock_wall_ns();
    record.due_wall_ns = clock_wall_ns() + (filling->due_s + (int64_t)(number % 3600)) * NS_PER_S;
    record.said[0] = &said;
    buf_init(&buf, QUEUE_RECORD_MAX);
    queue_record_encode(&record, &buf);
    return encoded(filling->arena, &buf);
}

static void fill_unit(struct filling *filling, size_t from, size_t count) MAY_YIELD
{
    struct spool_change changes[AT_ONCE + 1] = {0};
    struct error err;
    struct mail_content contents[AT_ONCE];
    for (size_t i = 0; i < count; i++) {
        struct mail_id message = mail_id_new();
        contents[i] = (struct mail_content){.head = STR("Received: from bench by bench; now\r\n"),
                                            .body = body_memory_new(filling->bytes + 1)};
        check(contents[i].body->ops->append(contents[i].body, filling->text, &err) == OK);
        changes[i] = (struct spool_change){.kind = SPOOL_ADD,
                                           .entry = mail_id_new(),
                                           .message = message,
                                           .meta = meta_of(filling, message, from + i),
                                           .state = record_of(filling, from + i),
                                           .content = &contents[i]};
    }
    changes[count] = (struct spool_change){
        .kind = SPOOL_COUNT, .counter = QUEUE_COUNT_ACCEPTED, .delta = (int64_t)count};
    if (spool_commit(filling->spool, changes, count + 1, &err) == FAILED) {
        fprintf(stderr, "fill-spool: %s\n", err.text);
        exit(1);
    }
    for (size_t i = 0; i < count; i++)
        body_unref(contents[i].body);
    arena_clear(filling->arena);
}

static NO_YIELD_CHECK void fill(void *arg)
{
    struct filling *filling = arg;
    for (size_t at = 0; at < filling->count; at += AT_ONCE)
        fill_unit(filling, at, filling->count - at < AT_ONCE ? filling->count - at : AT_ONCE);
    loop_stop(filling->loop);
}

int main(int argc, char **argv)
{
    struct error err;
    struct scope root;
    if (argc < 6) {
        fprintf(stderr,
                "usage: fill-spool FOLDER COUNT TRANSPORT DOMAINS DUE_SECONDS [BYTES [WORDS]]\n");
        return 2;
    }
    struct filling filling = {.count = strtoul(argv[2], NULL, 10),
                              .transport = str_c(argv[3]),
                              .domains = strtoul(argv[4], NULL, 10),
                              .due_s = strtol(argv[5], NULL, 10),
                              .bytes = argc > 6 ? strtoul(argv[6], NULL, 10) : 500,
                              .words = argc > 7,
                              .arena = arena_new(0)};
    struct spool_settings settings = {
        .path = str_c(argv[1]), .free_bytes_floor = 1, .no_sync = true};
    if (filling.domains == 0 || filling.bytes > TEXT_MAX)
        return 2;
    if (spool_open(&settings, NULL, NULL, &filling.spool, &err) == FAILED) {
        fprintf(stderr, "fill-spool: %s\n", err.text);
        return 1;
    }
    char *text = memory_alloc(filling.bytes + 1);
    memset(text, 'x', filling.bytes);
    filling.text = str_of(text, filling.bytes);
    check(loop_new(&(struct loop_limits){0}, &filling.loop, &err) == OK);
    scope_init_root(&root, filling.loop);
    check(fiber_spawn(&root, "fill", fill, &filling, &err) == OK);
    loop_run(filling.loop);
    loop_free(filling.loop);
    spool_close(filling.spool);
    sync();
    free(text);
    arena_free(filling.arena);
    return 0;
}
