/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/watched_file.h"

#include "base/check.h"
#include "base/file.h"
#include "base/memory.h"
#include "event/event.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WATCHED_MAX_BYTES = 64 * 1024 * 1024,
    WATCHED_MAX_FILES = 1000,
    BAD_LINES_TOLD = 10,
};

static const int64_t LOOK_EVERY_NS = NS_PER_S;
/* A file that is written in place may be half written: wait until it rests. */
static const int64_t SETTLE_NS = NS_PER_S;
/* A disk that hangs must not hang those who have a table already. */
static const int64_t PATIENCE_NS = 2 * NS_PER_S;

/* A worker's view. */
struct watched_file {
    struct watched_table *table;
    int64_t looked_ns; /* monotonic */
    unsigned changes;  /* what shared->changes was then */
};

/* The lane thread's view: what the current table was read from. */
struct watched_source {
    struct stat read_from;
    struct watched_table *table;
    bool failing; /* told by an event */
};

struct look_job {
    struct lane_job job;
    struct directory_shared *shared;
    const struct watched_kind *kind;
    char *key;  /* "kind:path" */
    char *path; /* in key */
    struct watched_table *table;
    unsigned changes; /* what shared->changes was when it was asked for, or when it was read */
    enum result result;
    struct error error;
};

void watched_table_unref(struct watched_table *table)
{
    if (table && atomic_fetch_sub(&table->references, 1) == 1)
        table->release(table);
}

static struct watched_table *table_ref(struct watched_table *table)
{
    atomic_fetch_add(&table->references, 1);
    return table;
}

void directory_files_changed(struct directory_shared *shared)
{
    atomic_fetch_add(&shared->changes, 1);
}

void watched_bad_line(struct str path, size_t line, const char *why, size_t *bad_lines)
{
    if (++*bad_lines <= BAD_LINES_TOLD)
        event_emit(EVENT_DAEMON_WARNING, F_STR(FILE, path), F_INT(LINE, line), F_C(DETAIL, why));
}

/* ---- on the lane ---- */

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool same_state(const struct stat *a, const struct stat *b)
{
    return same_file(a, b) && a->st_size == b->st_size && same_time(a->st_mtim, b->st_mtim) &&
           same_time(a->st_ctim, b->st_ctim);
}

static bool still_moving(const struct stat *now)
{
    int64_t changed = (int64_t)now->st_mtim.tv_sec * NS_PER_S + now->st_mtim.tv_nsec;
    int64_t age = clock_wall_ns() - changed;
    return age >= 0 && age < SETTLE_NS;
}

static enum result read_table(struct look_job *look, struct watched_source *source, int fd,
                              const struct stat *before, struct error *err)
{
    struct buf content BUF_CLEANUP;
    struct stat after;
    buf_init(&content, WATCHED_MAX_BYTES);
    if (file_read(fd, &content, err) != OK)
        return FAILED;
    if (fstat(fd, &after) != 0)
        return fail_errno(err, errno, "stat");
    if (!same_state(before, &after) && source->table)
        return OK; /* it changed under our eyes: next time */
    struct watched_table *table = look->kind->parse(str_c(look->path), buf_str(&content));
    if (content.len)
        memory_wipe(content.ptr, content.len); /* password hashes */
    atomic_store(&table->references, 1);
    watched_table_unref(source->table);
    source->table = table;
    source->read_from = after;
    /* no worker answers by the old one from now on */
    unsigned before_it = atomic_fetch_add(&look->shared->changes, 1);
    if (before_it == look->changes)
        look->changes++; /* and that is all that is new */
    return OK;
}

static enum result look_at(struct look_job *look, struct watched_source *source, struct error *err)
{
    struct stat now;
    int fd = open(look->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return fail_errno(err, errno, "%s", look->path);
    enum result result = OK;
    if (fstat(fd, &now) != 0)
        result = fail_errno(err, errno, "%s", look->path);
    else if (!S_ISREG(now.st_mode))
        result = fail(err, ERROR_PERMANENT, "%s is not a file", look->path);
    bool fresh = source->table && same_state(&now, &source->read_from);
    /* replaced by rename: whole at once. Written in place: perhaps not yet whole. */
    bool wait = source->table && same_file(&now, &source->read_from) && still_moving(&now);
    if (result == OK && !fresh && !wait) {
        result = read_table(look, source, fd, &now, err);
        if (result != OK)
            (void)fail_context(err, "%s", look->path);
    }
    close(fd);
    return result;
}

static struct watched_source *find_source(struct look_job *look, struct error *err)
{
    struct map *sources = &look->shared->sources;
    struct watched_source *source = map_get(sources, str_c(look->key));
    if (source)
        return source;
    if (sources->count >= WATCHED_MAX_FILES) {
        (void)fail(err, ERROR_LIMIT, "too many files");
        return NULL;
    }
    source = NEW(struct watched_source);
    map_put(sources, str_c(look->key), source);
    return source;
}

static void look_work(struct lane_job *job)
{
    struct look_job *look = CONTAINER(job, struct look_job, job);
    struct watched_source *source = find_source(look, &look->error);
    look->result = source ? look_at(look, source, &look->error) : FAILED;
    if (!source)
        return;
    if (look->result == OK)
        look->table = table_ref(source->table);
    else if (!source->failing)
        event_emit(EVENT_DAEMON_WARNING, F_C(FILE, look->path), F_C(DETAIL, look->error.text));
    source->failing = look->result != OK;
}

static void look_free(struct look_job *look)
{
    watched_table_unref(look->table);
    free(look->key);
    free(look);
}

static void look_release(struct lane_job *job)
{
    look_free(CONTAINER(job, struct look_job, job));
}

/* ---- on the worker ---- */

static struct look_job *look_new(struct directory *directory, const struct watched_kind *kind,
                                 struct str path)
{
    size_t prefix = strlen(kind->name) + 1;
    struct look_job *look = NEW(struct look_job);
    look->job = (struct lane_job){.work = look_work, .release = look_release};
    look->shared = directory->shared;
    look->kind = kind;
    look->key = memory_alloc(prefix + path.len + 1);
    snprintf(look->key, prefix + path.len + 1, "%s:%.*s", kind->name, STR_ARG(path));
    look->path = look->key + prefix;
    return look;
}

static struct watched_file *find_file(struct directory *directory, const char *key)
{
    struct watched_file *file = map_get(&directory->files, str_c(key));
    if (!file) {
        file = NEW(struct watched_file);
        map_put(&directory->files, str_c(key), file);
    }
    return file;
}

/* Ask the lane; `file` gets the table. */
static enum result look(struct directory *directory, struct look_job *look,
                        struct error *err) MAY_YIELD
{
    struct scope scope;
    scope_open(&scope, clock_deadline(PATIENCE_NS));
    enum result asked = lane_run(directory->shared->files, &look->job, err);
    scope_close(&scope);
    if (asked != OK)
        return FAILED; /* the job is the lane's now */
    if (look->result != OK)
        *err = look->error;
    return OK;
}

enum result watched_file_get(struct directory *directory, const struct watched_kind *kind,
                             struct str path, struct watched_table **out_table, struct error *err)
{
    if (str_has_nul(path) || path.len >= PATH_MAX || directory->files.count > WATCHED_MAX_FILES)
        return fail(err, ERROR_PERMANENT, "not a path that can be read");
    struct look_job *job = look_new(directory, kind, path);
    struct watched_file *file = find_file(directory, job->key);
    unsigned changes = atomic_load(&directory->shared->changes);
    bool is_fresh = clock_monotonic_ns() - file->looked_ns < LOOK_EVERY_NS;
    if (file->table && is_fresh && file->changes == changes) {
        look_free(job);
        *out_table = table_ref(file->table);
        return OK;
    }
    file->looked_ns = clock_monotonic_ns(); /* the others use the old table meanwhile */
    job->changes = changes;
    file->changes = changes;
    struct error error;
    if (look(directory, job, &error) != OK) {
        bool slow = error.kind == ERROR_TIMEOUT || error.kind == ERROR_LIMIT;
        if (slow && file->table && fiber_check(NULL) == OK) {
            *out_table = table_ref(file->table);
            return OK;
        }
        if (err)
            *err = error;
        return FAILED;
    }
    /* `file` lives as long as the directory; another fiber may have changed it meanwhile */
    watched_table_unref(file->table);
    file->table = take(job->table);
    file->changes = job->changes;
    look_free(job);
    if (!file->table) {
        if (err)
            *err = error;
        return FAILED;
    }
    *out_table = table_ref(file->table);
    return OK;
}

/* ---- life cycle ---- */

void watched_files_free(struct directory *directory)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&directory->files, &cursor, &key, &value)) {
        struct watched_file *file = value;
        watched_table_unref(file->table);
        free(file);
    }
    map_done(&directory->files);
}

void watched_sources_free(struct directory_shared *shared)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&shared->sources, &cursor, &key, &value)) {
        struct watched_source *source = value;
        watched_table_unref(source->table);
        free(source);
    }
    map_done(&shared->sources);
}
