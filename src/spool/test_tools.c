/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/test_tools.h"

#include "base/check.h"
#include "base/fault.h"
#include "base/memory.h"
#include "fiber/loop.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void test_folder_new(char out_path[TEST_PATH_SIZE])
{
    const char *base = getenv("TMPDIR");
    snprintf(out_path, TEST_PATH_SIZE, "%s/postern-spool-XXXXXX", base ? base : "/tmp");
    check(mkdtemp(out_path) != NULL);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info;
    (void)type;
    (void)at;
    return remove(path);
}

void test_folder_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* What nftw gives no argument for. */
static char copy_from[TEST_PATH_SIZE];
static char copy_to[TEST_PATH_SIZE];

static void copy_file(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return; /* gone meanwhile, as files go */
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    check(out >= 0);
    static char bytes[1 << 16];
    for (ssize_t got; (got = read(in, bytes, sizeof bytes)) > 0;)
        check(write(out, bytes, (size_t)got) == got);
    close(in);
    close(out);
}

static int copy_one(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)at;
    char to[TEST_PATH_SIZE * 2];
    snprintf(to, sizeof to, "%s%s", copy_to, path + strlen(copy_from));
    if (type == FTW_D)
        mkdir(to, 0750);
    else if (S_ISREG(info->st_mode))
        copy_file(path, to);
    return 0;
}

void test_folder_copy(const char *from, char out_path[TEST_PATH_SIZE])
{
    test_folder_new(out_path);
    snprintf(copy_from, sizeof copy_from, "%s", from);
    snprintf(copy_to, sizeof copy_to, "%s", out_path);
    nftw(from, copy_one, 16, FTW_PHYS);
}

/* ---- fibers ---- */

struct task {
    void (*run)(void *arg);
    void *arg;
    struct loop *loop;
    size_t *left;
};

static void run_task(void *arg)
{
    struct task *task = arg;
    task->run(task->arg);
    if (--*task->left == 0)
        loop_stop(task->loop);
}

void test_on_fibers(void (*run)(void *arg), void **args, size_t count)
{
    struct loop *loop;
    struct error err;
    check(loop_new(&(struct loop_limits){0}, &loop, &err) == OK);
    struct scope root;
    scope_init_root(&root, loop);
    size_t left = count;
    struct task *tasks = memory_alloc_array(count, sizeof *tasks);
    for (size_t i = 0; i < count; i++) {
        tasks[i] = (struct task){run, args[i], loop, &left};
        check(fiber_spawn(&root, "test", run_task, &tasks[i], &err) == OK);
    }
    loop_run(loop);
    while (!scope_is_empty(&root)) {
        loop_stop(loop);
        loop_run(loop);
    }
    loop_free(loop);
    free(tasks);
}

void test_on_fiber(void (*run)(void *arg), void *arg)
{
    test_on_fibers(run, &arg, 1);
}

/* ---- opening ---- */

void test_note_found(void *context, const struct spool_found *item)
{
    struct test_found *found = context;
    check(found->count < sizeof found->items / sizeof *found->items);
    found->items[found->count].entry = item->entry;
    found->items[found->count].message = item->message;
    found->items[found->count].body_size = item->body_size;
    snprintf(found->items[found->count].meta, 64, "%.*s", STR_ARG(item->meta));
    snprintf(found->items[found->count].state, 64, "%.*s", STR_ARG(item->state));
    found->count++;
}

int test_find(const struct test_found *found, struct mail_id entry)
{
    for (size_t i = 0; i < found->count; i++) {
        if (mail_id_equal(found->items[i].entry, entry))
            return (int)i;
    }
    return -1;
}

struct spool *test_open_with(const struct spool_settings *settings, struct test_found *found)
{
    static struct test_found ignored;
    if (!found)
        found = &ignored;
    found->count = 0;
    struct error err = {0};
    struct spool *spool = NULL;
    if (spool_open(settings, test_note_found, found, &spool, &err) != OK) {
        fprintf(stderr, "spool_open: %s\n", err.text);
        return NULL;
    }
    return spool;
}

struct spool *test_open(const char *path, struct test_found *found)
{
    struct spool_settings settings = {
        .path = str_c(path), .segment_size = 1 << 20, .free_bytes_floor = 1};
    return test_open_with(&settings, found);
}

/* ---- bodies ---- */

char test_body_byte(uint64_t offset, unsigned seed)
{
    return (char)('a' + (offset * 7 + offset / 997 + seed) % 26);
}

struct body *test_body(uint64_t size, unsigned seed)
{
    struct body *body = body_memory_new(size + 1);
    char part[4096];
    for (uint64_t done = 0; done < size;) {
        size_t now = size - done < sizeof part ? (size_t)(size - done) : sizeof part;
        for (size_t i = 0; i < now; i++)
            part[i] = test_body_byte(done + i, seed);
        check(body->ops->append(body, str_of(part, now), NULL) == OK);
        done += now;
    }
    check(body->ops->seal(body, NULL) == OK);
    return body;
}

int test_set_up(void **state)
{
    struct test_fixture *fixture = NEW(struct test_fixture);
    test_folder_new(fixture->path);
    fixture->spool = test_open(fixture->path, &fixture->found);
    *state = fixture;
    return fixture->spool ? 0 : -1;
}

int test_tear_down(void **state)
{
    struct test_fixture *fixture = *state;
    fault_disarm_all();
    spool_close(fixture->spool);
    test_folder_remove(fixture->path);
    free(fixture);
    return 0;
}

void test_reopen(struct test_fixture *fixture)
{
    spool_close(fixture->spool);
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_non_null(fixture->spool);
}

/* ---- steps, on a fiber ---- */

NO_YIELD_CHECK enum result test_add(struct spool *spool, uint64_t number, uint64_t size,
                                    struct error *err)
{
    char meta[32];
    snprintf(meta, sizeof meta, "meta-%llu", (unsigned long long)number);
    struct body *body = test_body(size, (unsigned)number);
    struct mail_content content = {.head = STR("Received: by test\r\n"), .body = body};
    struct spool_change changes[] = {{.kind = SPOOL_ADD,
                                      .entry = test_id(number),
                                      .message = test_id(number + 1000000),
                                      .meta = str_c(meta),
                                      .state = STR("new"),
                                      .content = &content},
                                     {.kind = SPOOL_COUNT, .counter = 3, .delta = 1}};
    enum result result = spool_commit(spool, changes, 2, err);
    body_unref(body);
    return result;
}

NO_YIELD_CHECK void test_expect_body(struct body *body, uint64_t size, unsigned seed)
{
    enum { PIECE = 64 * 1024 };
    char *space = memory_alloc(PIECE); /* others read while this one waits */
    assert_int_equal(body->size, size);
    for (uint64_t done = 0; done < size;) {
        struct str data;
        struct error err;
        assert_int_equal(body_read(body, done, PIECE, space, &data, &err), OK);
        assert_true(data.len > 0);
        for (size_t i = 0; i < data.len; i++) {
            if (data.ptr[i] != test_body_byte(done + i, seed))
                fail_msg("byte %llu differs", (unsigned long long)(done + i));
        }
        done += data.len;
    }
    free(space);
}

NO_YIELD_CHECK void test_expect_entry(struct spool *spool, uint64_t number, uint64_t size)
{
    struct arena *arena = arena_new(0);
    struct str meta;
    struct mail_content content;
    struct error err = {0};
    if (spool_read(spool, test_id(number), arena, &meta, &content, &err) != OK)
        fail_msg("entry %llu: %s", (unsigned long long)number, err.text);
    char expected[32];
    snprintf(expected, sizeof expected, "meta-%llu", (unsigned long long)number);
    assert_true(str_equal(meta, str_c(expected)));
    assert_true(str_equal(content.head, STR("Received: by test\r\n")));
    test_expect_body(content.body, size, (unsigned)number);
    body_unref(content.body);
    arena_free(arena);
}

NO_YIELD_CHECK void test_grow_body(void *arg)
{
    struct test_grown *grown = arg;
    struct error err = {0};
    assert_int_equal(spool_body_new(grown->fixture->spool, &grown->body, &err), OK);
    char part[3001];
    for (uint64_t done = 0; done < grown->size;) {
        size_t now = grown->size - done < sizeof part ? (size_t)(grown->size - done) : sizeof part;
        for (size_t i = 0; i < now; i++)
            part[i] = test_body_byte(done + i, 7);
        assert_int_equal(body_append(grown->body, str_of(part, now), &err), OK);
        done += now;
    }
    assert_int_equal(body_seal(grown->body, &err), OK);
    test_expect_body(grown->body, grown->size, 7);
}

/* Two entries share it. */
NO_YIELD_CHECK void test_commit_grown(void *arg)
{
    struct test_grown *grown = arg;
    struct error err = {0};
    struct mail_content content = {.head = STR("A: b\r\n"), .body = grown->body, .body_start = 5};
    struct spool_change changes[2];
    for (unsigned i = 0; i < 2; i++)
        changes[i] = (struct spool_change){.kind = SPOOL_ADD,
                                           .entry = test_id(grown->first + i),
                                           .message = test_id(99),
                                           .meta = STR("m"),
                                           .state = STR("s"),
                                           .content = &content};
    assert_int_equal(spool_commit(grown->fixture->spool, changes, 2, &err), OK);
}

size_t test_used_files(const char *path)
{
    enum { FLAGS_AT = 32 };
    char name[TEST_PATH_SIZE * 3];
    (void)snprintf(name, sizeof name, "%s/log", path);
    DIR *folder = opendir(name);
    check(folder != NULL);
    size_t count = 0;
    for (struct dirent *item; (item = readdir(folder));) {
        char flags = 0;
        int fd = openat(dirfd(folder), item->d_name, O_RDONLY | O_CLOEXEC);
        if (strstr(item->d_name, ".free") || (pread(fd, &flags, 1, FLAGS_AT) == 1 && flags & 1))
            count++;
        close(fd);
    }
    closedir(folder);
    return count;
}

size_t test_files_in(const char *path, const char *folder)
{
    char command[TEST_PATH_SIZE * 2];
    snprintf(command, sizeof command, "ls %s/%s | wc -l", path, folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    unsigned count = 0;
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    pclose(pipe);
    return count;
}

void test_commit_some(void *arg)
{
    struct test_worker *worker = arg;
    for (uint64_t i = 0; i < 20; i++) {
        struct error err = {0};
        if (test_add(worker->fixture->spool, worker->first + i, 1000 + i, &err) != OK)
            worker->failures++;
    }
}
