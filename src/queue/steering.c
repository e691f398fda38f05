/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/steering.c - the table of orders and its file.
 *
 * The table is never changed in place: a change makes a new one, writes it, and only then puts it
 * into force.
 */
#include "queue/steering.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 4 << 20, PAST_MAX = 4096, TEXT_MAX = 512, PARTS = 8 };
#define PAST_NS (INT64_C(100) * 86400 * NS_PER_S) /* longer than any message may live */

enum line_kind { LINE_PAUSE, LINE_SLOW, LINE_PAUSED, LINE_KINDS };
static const char *const line_words[LINE_KINDS] = {"pause", "slow", "paused"};

struct line {
    enum line_kind kind;
    struct str transport, destination;
    int64_t since_wall_ns, until_wall_ns;
    struct option_rate rate;
    struct str actor, reason;
};
struct table {
    struct arena *arena;
    struct line *lines;
    size_t count;
};

struct queue_steering {
    pthread_mutex_t mutex;
    pthread_mutex_t changing; /* one change at a time; held while the file is written */
    char *path;               /* NULL: nothing is kept */
    struct table table;
    atomic_size_t count; /* of its lines */
    atomic_uint generation;
    bool all_stopped; /* constant once workers run */
};

/* ---- tables ---- */

static struct table table_new(size_t cap)
{
    struct arena *arena = arena_new(0);
    return (struct table){.arena = arena,
                          .lines = arena_alloc_array(arena, cap + 1, sizeof(struct line))};
}

/* One line each, and no text that could look like another part. */
static struct str clean(struct arena *arena, struct str text)
{
    struct str copy = arena_str(arena, str_slice(text, 0, TEXT_MAX));
    for (size_t i = 0; i < copy.len; i++)
        if ((unsigned char)copy.ptr[i] < 0x20 || copy.ptr[i] == 0x7f)
            ((char *)copy.ptr)[i] = ' ';
    return copy;
}

static void table_add(struct table *table, const struct line *line)
{
    struct line *copy = &table->lines[table->count++];
    *copy = *line;
    copy->transport = clean(table->arena, line->transport);
    copy->destination = arena_lower(table->arena, clean(table->arena, line->destination));
    copy->actor = clean(table->arena, line->actor);
    copy->reason = clean(table->arena, line->reason);
}

struct queue_steering *queue_steering_new(void)
{
    struct queue_steering *steering = NEW(struct queue_steering);
    pthread_mutex_init(&steering->mutex, NULL);
    pthread_mutex_init(&steering->changing, NULL);
    steering->table = table_new(0);
    return steering;
}

void queue_steering_free(struct queue_steering *steering)
{
    if (steering == NULL)
        return;
    pthread_mutex_destroy(&steering->mutex);
    pthread_mutex_destroy(&steering->changing);
    arena_free(steering->table.arena);
    free(steering->path);
    free(steering);
}

static void put_in_force(struct queue_steering *steering, struct table table)
{
    pthread_mutex_lock(&steering->mutex);
    struct table old = steering->table;
    steering->table = table;
    atomic_store(&steering->count, table.count);
    atomic_fetch_add(&steering->generation, 1);
    pthread_mutex_unlock(&steering->mutex);
    arena_free(old.arena);
}

/* ---- the file ---- */

static void put_line(struct buf *out, const struct line *line)
{
    buf_printf(out, "%s\t%.*s\t%.*s\t%lld", line_words[line->kind], STR_ARG(line->transport),
               STR_ARG(line->destination), (long long)line->since_wall_ns);
    if (line->kind == LINE_PAUSED)
        buf_printf(out, "\t%lld\n", (long long)line->until_wall_ns);
    if (line->kind == LINE_SLOW)
        buf_printf(out, "\t%llu\t%lld", (unsigned long long)line->rate.count,
                   (long long)line->rate.period_ns);
    if (line->kind != LINE_PAUSED)
        buf_printf(out, "\t%.*s\t%.*s\n", STR_ARG(line->actor), STR_ARG(line->reason));
}

static enum result save(const struct queue_steering *steering, const struct table *table,
                        struct error *err)
{
    if (steering->path == NULL)
        return OK;
    BUF_CLEANUP struct buf text;
    buf_init(&text, FILE_MAX);
    buf_append(&text, STR("postern-steering 1\n"));
    for (size_t i = 0; i < table->count; i++)
        put_line(&text, &table->lines[i]);
    if (text.overflow)
        return fail(err, ERROR_LIMIT, "there are too many orders");
    return file_replace(steering->path, 0640, buf_str(&text), err);
}

static bool read_time(struct str text, int64_t *out)
{
    uint64_t value;
    bool sound = str_to_uint(text, INT64_MAX, &value);
    *out = sound ? (int64_t)value : 0;
    return sound;
}

static bool read_line(struct str text, struct line *line)
{
    struct str parts[PARTS];
    size_t count = 0;
    while (count < PARTS && str_split(&text, '\t', &parts[count]))
        count++;
    if (count < 5 || !read_time(parts[3], &line->since_wall_ns) || parts[1].len == 0)
        return false;
    int kind = 0;
    while (kind < LINE_KINDS && !str_equal(parts[0], str_c(line_words[kind])))
        kind++;
    line->kind = (enum line_kind)kind;
    line->transport = parts[1];
    line->destination = parts[2];
    if (kind == LINE_PAUSED)
        return count == 5 && read_time(parts[4], &line->until_wall_ns);
    if (kind == LINE_PAUSE && count == 6) {
        line->actor = parts[4];
        line->reason = parts[5];
        return true;
    }
    line->actor = count == PARTS ? parts[6] : STR_EMPTY;
    line->reason = count == PARTS ? parts[7] : STR_EMPTY;
    return kind == LINE_SLOW && count == PARTS &&
           str_to_uint(parts[4], INT32_MAX, &line->rate.count) && line->rate.count > 0 &&
           read_time(parts[5], &line->rate.period_ns) && line->rate.period_ns > 0;
}

static enum result read_table(struct str text, struct table *out, struct error *err)
{
    struct str part;
    size_t number = 1;
    *out = table_new(QUEUE_STEERING_MAX + PAST_MAX);
    bool sound = str_split(&text, '\n', &part) && str_equal(part, STR("postern-steering 1"));
    while (sound && str_split(&text, '\n', &part) && (part.len > 0 || text.ptr != NULL)) {
        struct line line = {.actor = STR_EMPTY, .reason = STR_EMPTY};
        number++;
        sound = out->count < QUEUE_STEERING_MAX + PAST_MAX && read_line(part, &line);
        if (sound)
            table_add(out, &line);
    }
    if (sound)
        return OK;
    arena_free(take(out->arena));
    return fail(err, ERROR_PERMANENT, "line %zu is not an order", number);
}

enum result queue_steering_open(struct queue_steering *steering, struct str path, struct error *err)
{
    BUF_CLEANUP struct buf text;
    struct table table;
    buf_init(&text, FILE_MAX);
    free(steering->path);
    steering->path = memory_alloc(path.len + 1);
    memcpy(steering->path, path.ptr, path.len);
    int fd = open(steering->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? OK : fail_errno(err, errno, "cannot open %s", steering->path);
    enum result result = file_read(fd, &text, err);
    close(fd);
    if (result == OK)
        result = read_table(buf_str(&text), &table, err);
    if (result == FAILED)
        return fail_context(err, "%s", steering->path);
    put_in_force(steering, table);
    return OK;
}

/* ---- asking ---- */

void queue_steering_stop_all(struct queue_steering *steering)
{
    steering->all_stopped = true;
    atomic_fetch_add(&steering->generation, 1); /* nobody has looked before */
}

unsigned queue_steering_generation(const struct queue_steering *steering)
{
    return atomic_load_explicit(&steering->generation, memory_order_acquire);
}

static bool covers(const struct line *line, struct str transport, struct str destination)
{
    return str_equal(line->transport, transport) &&
           (line->destination.len == 0 || str_equal_nocase(line->destination, destination));
}

struct queue_steering_view queue_steering_find(struct queue_steering *steering,
                                               struct str transport, struct str destination)
{
    struct queue_steering_view view = {.paused = steering->all_stopped};
    bool own_rate = false;
    if (atomic_load_explicit(&steering->count, memory_order_acquire) == 0)
        return view;
    pthread_mutex_lock(&steering->mutex);
    for (size_t i = 0; i < steering->table.count; i++) {
        const struct line *line = &steering->table.lines[i];
        if (!covers(line, transport, destination))
            continue;
        view.paused |= line->kind == LINE_PAUSE;
        if (line->kind != LINE_SLOW || own_rate)
            continue;
        view.slow = line->rate;
        own_rate = line->destination.len > 0;
    }
    pthread_mutex_unlock(&steering->mutex);
    return view;
}

static int compare_since(const void *a, const void *b)
{
    const struct line *left = *(const struct line *const *)a;
    const struct line *right = *(const struct line *const *)b;
    return left->since_wall_ns < right->since_wall_ns   ? -1
           : left->since_wall_ns > right->since_wall_ns ? 1
                                                        : 0;
}

/* Times of one destination may overlap (its own pause, and that of the transport): each moment
 * counts once. */
static int64_t sum_of(const struct line **lines, size_t count, int64_t from_ns, int64_t until_ns)
{
    int64_t sum_ns = 0, at_ns = from_ns;
    qsort(lines, count, sizeof *lines, compare_since);
    for (size_t i = 0; i < count; i++) {
        int64_t begin_ns = lines[i]->since_wall_ns > at_ns ? lines[i]->since_wall_ns : at_ns;
        int64_t end_ns = lines[i]->kind == LINE_PAUSE ? until_ns : lines[i]->until_wall_ns;
        if (end_ns > until_ns)
            end_ns = until_ns;
        if (end_ns <= begin_ns)
            continue;
        sum_ns += end_ns - begin_ns;
        at_ns = end_ns;
    }
    return sum_ns;
}

int64_t queue_steering_paused_ns(struct queue_steering *steering, struct str transport,
                                 struct str destination, int64_t from_wall_ns,
                                 int64_t until_wall_ns)
{
    size_t count = 0;
    if (atomic_load_explicit(&steering->count, memory_order_acquire) == 0)
        return 0;
    pthread_mutex_lock(&steering->mutex);
    const struct line **lines = memory_alloc_array(steering->table.count + 1, sizeof(void *));
    for (size_t i = 0; i < steering->table.count; i++) {
        const struct line *line = &steering->table.lines[i];
        if (line->kind != LINE_SLOW && covers(line, transport, destination))
            lines[count++] = line;
    }
    int64_t sum_ns = sum_of(lines, count, from_wall_ns, until_wall_ns);
    pthread_mutex_unlock(&steering->mutex);
    free(lines);
    return sum_ns;
}

struct queue_steering_order *queue_steering_list(struct queue_steering *steering,
                                                 struct arena *arena, size_t *out_count)
{
    pthread_mutex_lock(&steering->mutex);
    struct queue_steering_order *orders =
        arena_alloc_array(arena, steering->table.count + 1, sizeof *orders);
    *out_count = 0;
    for (size_t i = 0; i < steering->table.count; i++) {
        const struct line *line = &steering->table.lines[i];
        if (line->kind == LINE_PAUSED)
            continue;
        orders[(*out_count)++] =
            (struct queue_steering_order){.transport = arena_str(arena, line->transport),
                                          .destination = arena_str(arena, line->destination),
                                          .paused = line->kind == LINE_PAUSE,
                                          .slow = line->rate,
                                          .since_wall_ns = line->since_wall_ns,
                                          .actor = arena_str(arena, line->actor),
                                          .reason = arena_str(arena, line->reason)};
    }
    pthread_mutex_unlock(&steering->mutex);
    return orders;
}

/* ---- changing; `changing` is held, so the table stays as it is ---- */

static enum result put_table(struct queue_steering *steering, struct table table, struct error *err)
{
    if (save(steering, &table, err) == FAILED) {
        arena_free(table.arena);
        return FAILED;
    }
    put_in_force(steering, table);
    return OK;
}

/* Too long ago to matter for any message, or one too many. */
static bool is_forgotten(const struct table *table, size_t index, size_t past, int64_t now_wall_ns)
{
    const struct line *line = &table->lines[index];
    return line->kind == LINE_PAUSED &&
           (line->until_wall_ns < now_wall_ns - PAST_NS || past >= PAST_MAX - 1);
}

static struct table copy_table(const struct table *from, size_t more, int64_t now_wall_ns)
{
    struct table copy = table_new(from->count + more);
    size_t past = 0;
    for (size_t i = from->count; i > 0; i--) /* the newest first, when there are too many */
        past += from->lines[i - 1].kind == LINE_PAUSED;
    for (size_t i = 0; i < from->count; i++) {
        if (is_forgotten(from, i, past, now_wall_ns))
            past--;
        else
            table_add(&copy, &from->lines[i]);
    }
    return copy;
}

static bool same_place(const struct line *line, struct str transport, struct str destination)
{
    return str_equal(line->transport, transport) &&
           str_equal_nocase(line->destination, destination);
}

static enum result put(struct queue_steering *steering, const struct line *line, struct error *err)
{
    struct table table = copy_table(&steering->table, 1, line->since_wall_ns);
    size_t orders = 0;
    for (size_t i = 0; i < table.count; i++) {
        struct line *old = &table.lines[i];
        orders += old->kind != LINE_PAUSED;
        if (old->kind != line->kind || !same_place(old, line->transport, line->destination))
            continue;
        if (old->kind == LINE_SLOW)
            old->rate = line->rate;
        return put_table(steering, table, err); /* a pause goes on as of its begin */
    }
    if (orders >= QUEUE_STEERING_MAX) {
        arena_free(table.arena);
        return fail(err, ERROR_LIMIT, "there are %d orders already", QUEUE_STEERING_MAX);
    }
    table_add(&table, line);
    return put_table(steering, table, err);
}

enum result queue_steering_put(struct queue_steering *steering,
                               const struct queue_steering_order *order, struct error *err)
{
    struct line line = {.kind = order->paused ? LINE_PAUSE : LINE_SLOW,
                        .transport = order->transport,
                        .destination = order->destination,
                        .since_wall_ns = order->since_wall_ns,
                        .rate = order->slow,
                        .actor = order->actor,
                        .reason = order->reason};
    pthread_mutex_lock(&steering->changing);
    enum result result = put(steering, &line, err);
    pthread_mutex_unlock(&steering->changing);
    return result;
}

enum result queue_steering_clear(struct queue_steering *steering, struct str transport,
                                 struct str destination, int64_t now_wall_ns, size_t *out_count,
                                 struct error *err)
{
    *out_count = 0;
    pthread_mutex_lock(&steering->changing);
    struct table table = copy_table(&steering->table, 0, now_wall_ns);
    size_t kept = 0;
    for (size_t i = 0; i < table.count; i++) {
        struct line line = table.lines[i];
        bool meant = str_equal(line.transport, transport) &&
                     (destination.len == 0 || str_equal_nocase(line.destination, destination));
        if (meant && line.kind != LINE_PAUSED) {
            (*out_count)++;
            if (line.kind == LINE_SLOW)
                continue;
            line.kind = LINE_PAUSED; /* how long it stood stays known */
            line.until_wall_ns = now_wall_ns;
        }
        table.lines[kept++] = line;
    }
    table.count = kept;
    enum result result = put_table(steering, table, err);
    pthread_mutex_unlock(&steering->changing);
    return result;
}
