/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many durable messages a second, and how long each waits. Each client is a fiber that commits
 * a message, waits, and removes it lazily; large ones come beside them. One worker loop.
 */
#include "base/check.h"
#include "base/memory.h"
#include "fiber/loop.h"
#include "spool/spool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct bench {
    struct spool *spool;
    struct body *body;
    struct loop *loop;
    int64_t end_ns;
    unsigned running;
    size_t large_bytes;
    uint64_t large_done;
    uint64_t done;
    uint64_t failed;
    int64_t *latencies;
    size_t latency_count;
    int64_t *large_latencies; /* from the last byte on */
};

enum { LATENCIES_MAX = 1 << 22 };

static NO_YIELD_CHECK void client(void *arg)
{
    struct bench *bench = arg;
    char meta[300];
    memset(meta, 'm', sizeof meta);
    while (clock_monotonic_ns() < bench->end_ns) {
        int64_t begin_ns = clock_monotonic_ns();
        struct mail_content content = {.head = STR("Received: from a by b\r\n"),
                                       .body = bench->body};
        struct spool_change change = {.kind = SPOOL_ADD,
                                      .entry = mail_id_new(),
                                      .message = mail_id_new(),
                                      .meta = str_of(meta, sizeof meta),
                                      .state = STR("state of sixteen"),
                                      .content = &content};
        struct error err;
        if (spool_commit(bench->spool, &change, 1, &err) != OK) {
            bench->failed++;
            continue;
        }
        bench->done++;
        if (bench->latency_count < LATENCIES_MAX)
            bench->latencies[bench->latency_count++] = clock_monotonic_ns() - begin_ns;
        struct spool_change removal = {.kind = SPOOL_REMOVE, .entry = change.entry};
        spool_write(bench->spool, &removal, 1);
    }
    if (--bench->running == 0)
        loop_stop(bench->loop);
}

/* A sender of large messages, as fast as the spool takes them. */
static NO_YIELD_CHECK void large_client(void *arg)
{
    struct bench *bench = arg;
    static const char part[64 * 1024];
    struct error err;
    while (clock_monotonic_ns() < bench->end_ns) {
        struct body *body;
        check(spool_body_new(bench->spool, &body, &err) == OK);
        for (size_t done = 0; done < bench->large_bytes; done += sizeof part) {
            check(body_append(body, str_of(part, sizeof part), &err) == OK);
            fiber_yield();
        }
        int64_t begin_ns = clock_monotonic_ns();
        check(body_seal(body, &err) == OK);
        struct mail_content content = {.head = STR("Received: from a by b\r\n"), .body = body};
        struct spool_change change = {.kind = SPOOL_ADD,
                                      .entry = mail_id_new(),
                                      .message = mail_id_new(),
                                      .content = &content};
        check(spool_commit(bench->spool, &change, 1, &err) == OK);
        body_unref(body);
        if (bench->large_done < LATENCIES_MAX)
            bench->large_latencies[bench->large_done] = clock_monotonic_ns() - begin_ns;
        bench->large_done++;
        struct spool_change removal = {.kind = SPOOL_REMOVE, .entry = change.entry};
        spool_write(bench->spool, &removal, 1);
    }
    if (--bench->running == 0)
        loop_stop(bench->loop);
}

static int compare(const void *left, const void *right)
{
    const int64_t *a = left;
    const int64_t *b = right;
    return *a < *b ? -1 : *a > *b;
}

static void report(struct bench *bench, double seconds)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu_us = (double)usage.ru_utime.tv_sec * 1e6 + (double)usage.ru_utime.tv_usec +
                    (double)usage.ru_stime.tv_sec * 1e6 + (double)usage.ru_stime.tv_usec;
    struct spool_stats stats = spool_stats(bench->spool);
    qsort(bench->latencies, bench->latency_count, sizeof(int64_t), compare);
    if (bench->large_done) {
        size_t count = (size_t)bench->large_done;
        qsort(bench->large_latencies, count, sizeof(int64_t), compare);
        printf("%.1f large ones/s, %.0f MB/s, p50 %.2f ms, p99 %.2f ms, %llu in used files\n",
               (double)count / seconds, (double)(count * bench->large_bytes) / 1e6 / seconds,
               (double)bench->large_latencies[count / 2] / 1e6,
               (double)bench->large_latencies[count * 99 / 100] / 1e6,
               (unsigned long long)stats.reused_bodies);
    }
    if (!bench->latency_count) {
        printf("%.2f ms cpu a large one, %llu syncs\n", cpu_us / 1e3 / (double)bench->large_done,
               (unsigned long long)stats.syncs);
        return;
    }
    printf("%.0f units/s, %llu failed, %.1f us cpu a unit, %.1f units a sync, %llu syncs, "
           "p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, %llu segments, %llu made of used files\n",
           (double)bench->done / seconds, (unsigned long long)bench->failed,
           cpu_us / (double)bench->done, (double)bench->done / (double)stats.syncs,
           (unsigned long long)stats.syncs,
           (double)bench->latencies[bench->latency_count / 2] / 1e6,
           (double)bench->latencies[bench->latency_count * 99 / 100] / 1e6,
           (double)bench->latencies[bench->latency_count * 999 / 1000] / 1e6,
           (unsigned long long)stats.segments, (unsigned long long)stats.reused);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: spool-bench FOLDER CLIENTS BYTES SECONDS [LARGE-CLIENTS "
                        "[LARGE-BYTES [SEGMENT-BYTES]]]\n");
        return 2;
    }
    unsigned long more[3] = {0, 25 << 20, 0};
    for (int i = 5; i < argc && i < 8; i++)
        more[i - 5] = strtoul(argv[i], NULL, 10);
    unsigned clients = (unsigned)strtoul(argv[2], NULL, 10);
    size_t bytes = (size_t)strtoul(argv[3], NULL, 10);
    long seconds = strtol(argv[4], NULL, 10);
    struct spool_settings settings = {
        .path = str_c(argv[1]), .free_bytes_floor = 1, .segment_size = more[2]};
    struct bench bench = {.running = clients + (unsigned)more[0], .large_bytes = more[1]};
    struct error err;
    if (spool_open(&settings, NULL, NULL, &bench.spool, &err) != OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    bench.body = body_memory_new(bytes + 1);
    char *text = memory_alloc(bytes);
    memset(text, 'x', bytes);
    check(bench.body->ops->append(bench.body, str_of(text, bytes), &err) == OK);
    bench.latencies = memory_alloc_array(LATENCIES_MAX, sizeof(int64_t));
    bench.large_latencies = memory_alloc_array(LATENCIES_MAX, sizeof(int64_t));
    check(loop_new(&(struct loop_limits){0}, &bench.loop, &err) == OK);
    struct scope root;
    scope_init_root(&root, bench.loop);
    int64_t begin_ns = clock_monotonic_ns();
    bench.end_ns = begin_ns + seconds * NS_PER_S;
    for (unsigned i = 0; i < clients; i++)
        check(fiber_spawn(&root, "client", client, &bench, &err) == OK);
    for (unsigned long i = 0; i < more[0]; i++)
        check(fiber_spawn(&root, "large", large_client, &bench, &err) == OK);
    loop_run(bench.loop);
    report(&bench, (double)(clock_monotonic_ns() - begin_ns) / 1e9);
    loop_free(bench.loop);
    body_unref(bench.body);
    spool_close(bench.spool);
    free(bench.latencies);
    free(bench.large_latencies);
    free(text);
    return 0;
}
