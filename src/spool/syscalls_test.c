/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every call, not random ones: for each scenario a child works on a spool under ptrace; at its
 * state-changing system call number 1, 2, … it is killed (T-D3), or the call fails with each errno
 * (T-D4). Then the spool is opened and compared with what the child was told.
 *
 * SPOOL_SYSCALLS=all takes each call and each errno; else a sample that fits a unit test.
 * SPOOL_SCENARIO=WORDS takes only the scenarios whose names have them.
 */
#include "spool/test_tools.h"

#include "base/check.h"
#include "base/fault.h"
#include "base/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The entry that is damaged on disk, and where in its head. */
enum { DAMAGED_ID = 10, STRUCK_AT = 40 };
enum { IDS = 256, REMOVED = 1000, LARGE = 300000, RESTARTS = 4 };

/* ---- what the child tells, and what may be found ---- */

enum said { SAID_BEGUN, SAID_DONE, SAID_REFUSED };
struct note {
    uint32_t id;
    uint16_t version;
    uint16_t said;
};

struct known {
    unsigned least; /* acknowledged; 0: nothing, REMOVED: gone */
    unsigned most;  /* begun */
};

struct child {
    struct spool *spool;
    int pipe;
    unsigned next; /* id */
};

static void tell(const struct child *self, unsigned id, unsigned version, enum said said)
{
    struct note note = {id, (uint16_t)version, (uint16_t)said};
    if (write(self->pipe, &note, sizeof note) != (ssize_t)sizeof note)
        _exit(3);
}

/* `count` entries of one message in one unit. */
static enum result add_body(struct child *self, struct body *body, unsigned count) MAY_YIELD
{
    char head[80];
    snprintf(head, sizeof head, "Number: %03u %050d\r\n", self->next, 0);
    struct mail_content content = {.head = str_c(head), .body = body};
    struct spool_change changes[9];
    struct error err;
    unsigned first = self->next;
    check(count < 9);
    self->next += count;
    for (unsigned i = 0; i < count; i++) {
        changes[i] = (struct spool_change){.kind = SPOOL_ADD,
                                           .entry = test_id(first + i),
                                           .message = test_id(77),
                                           .meta = STR("meta"),
                                           .state = STR("1"),
                                           .content = &content};
        tell(self, first + i, 1, SAID_BEGUN);
    }
    changes[count] = (struct spool_change){.kind = SPOOL_COUNT, .delta = count};
    enum result result = spool_commit(self->spool, changes, count + 1, &err);
    for (unsigned i = 0; i < count; i++)
        tell(self, first + i, 1, result == OK ? SAID_DONE : SAID_REFUSED);
    return result;
}

static enum result add(struct child *self, uint64_t size, unsigned count) MAY_YIELD
{
    struct body *body = NULL;
    struct error err;
    if (size < LARGE) {
        body = test_body(size, self->next);
    } else {
        static char bytes[LARGE];
        memset(bytes, (int)self->next, sizeof bytes); /* no two alike */
        if (spool_body_new(self->spool, &body, &err) != OK)
            return FAILED;
        if (body_append(body, str_of(bytes, LARGE), &err) != OK || body_seal(body, &err) != OK) {
            body_unref(body);
            return FAILED;
        }
    }
    enum result result = add_body(self, body, count);
    body_unref(body);
    return result;
}

/* Version `version`, REMOVED for a removal. `waits`: by commit. Not for what was refused. */
static void change(struct child *self, unsigned id, unsigned version, bool waits) MAY_YIELD
{
    char text[16];
    snprintf(text, sizeof text, "%u", version);
    struct spool_change changes[] = {{.kind = version == REMOVED ? SPOOL_REMOVE : SPOOL_STATE,
                                      .entry = test_id(id),
                                      .state = str_c(text)},
                                     {.kind = SPOOL_COUNT, .delta = -1}};
    size_t count = version == REMOVED ? 2 : 1;
    struct error err;
    tell(self, id, version, SAID_BEGUN);
    if (waits) {
        bool done = spool_commit(self->spool, changes, count, &err) == OK;
        tell(self, id, version, done ? SAID_DONE : SAID_REFUSED);
    } else {
        spool_write(self->spool, changes, count);
    }
}

/* ---- scenarios, each on a fiber of the child ---- */

static NO_YIELD_CHECK void small_mail(void *arg)
{
    (void)add(arg, 3000, 1);
    (void)add(arg, 10, 1);
}

/* Red control: the 250 before the sync, and the 250 after a failure. */
static NO_YIELD_CHECK void small_lies(void *arg)
{
    struct child *self = arg;
    for (int i = 0; i < 2; i++) {
        tell(self, self->next, 1, SAID_BEGUN);
        tell(self, self->next, 1, SAID_DONE);
        (void)add(self, 3000, 1);
    }
}

static NO_YIELD_CHECK void several_destinations(void *arg)
{
    (void)add(arg, 3000, 5);
    (void)add(arg, LARGE, 3);
}

static NO_YIELD_CHECK void large_mail(void *arg)
{
    struct child *self = arg;
    if (add(self, LARGE, 1) == OK)
        change(self, self->next - 1, 2, true);
    if (add(self, LARGE, 1) == OK)
        change(self, self->next - 1, REMOVED, true);
}

/* Their files are used again, but for those of what stays. */
static NO_YIELD_CHECK void large_mail_again(void *arg)
{
    struct child *self = arg;
    struct error err;
    for (unsigned i = 0; i < 12 && spool_stats(self->spool).reused_bodies < 4; i++) {
        if (add(self, LARGE, 1) == OK && i % 4 != 3)
            change(self, self->next - 1, REMOVED, i % 2 == 0);
        for (int turn = 0; turn < 10 && !spool_stats(self->spool).pooled_bodies; turn++)
            check(fiber_sleep(2 * NS_PER_MS, &err) == OK);
    }
}

/* 64K a segment: the third body does not fit what is left of it. */
static NO_YIELD_CHECK void roll(void *arg)
{
    for (unsigned i = 0; i < 8; i++)
        (void)add(arg, 25000, 1);
}

static NO_YIELD_CHECK void states(void *arg)
{
    struct child *self = arg;
    for (unsigned i = 0; i < 3; i++) {
        if (add(self, 500, 1) != OK)
            continue;
        unsigned id = self->next - 1;
        change(self, id, 2, false);
        change(self, id, 3, i % 2 == 0);
        if (i == 1)
            change(self, id, REMOVED, true);
    }
}

/* Most mail goes, some stays: log files die, others are copied forward. */
static NO_YIELD_CHECK void reclaim(void *arg)
{
    struct child *self = arg;
    struct error err;
    for (unsigned i = 0; i < 60; i++) {
        if (add(self, 8000, 1) == OK)
            change(self, self->next - 1, i % 10 ? REMOVED : 2, false);
    }
    for (int turn = 0; turn < 150 && spool_stats(self->spool).segments > 5; turn++)
        check(fiber_sleep(10 * NS_PER_MS, &err) == OK);
}

/* A segment is made from the pool: all mail goes until three were, but for what comes last. */
static NO_YIELD_CHECK void reuse(void *arg)
{
    struct child *self = arg;
    for (unsigned i = 0; i < 70 && spool_stats(self->spool).reused < 3; i++) {
        if (add(self, 8000, 1) == OK)
            change(self, self->next - 1, REMOVED, true);
    }
    for (unsigned i = 0; i < 12; i++)
        (void)add(self, 8000, 1);
}

static NO_YIELD_CHECK void add_200k(void *arg)
{
    (void)add(arg, 200000, 1);
}

/* So much at once that the syncer gets it, and more is written while he syncs. */
static NO_YIELD_CHECK void at_once(void *arg)
{
    enum { FIBERS = 60 };
    struct scope scope;
    struct error err;
    scope_open(&scope, TIME_NEVER);
    for (unsigned i = 0; i < FIBERS; i++)
        check(fiber_spawn(&scope, "add", add_200k, arg, &err) == OK);
    scope_close(&scope);
    (void)add(arg, 1000, 1);
}

/* A sync of the writer's own fails, then one of the syncer's. */
static NO_YIELD_CHECK void failed_at_once(void *arg)
{
    fault_arm("spool.sync", 1, 1, EIO);
    (void)add(arg, 1000, 1);
    fault_arm("spool.sync", 5, 1, EIO);
    at_once(arg);
    fault_disarm_all();
    (void)add(arg, 1000, 1);
}

static NO_YIELD_CHECK void failed_sync(void *arg)
{
    (void)add(arg, 1000, 1);
    fault_arm("spool.sync", 1, 1, EIO);
    (void)add(arg, 1000, 1);
    (void)add(arg, 1000, 2);
    fault_disarm_all();
    (void)add(arg, 1000, 1);
}

static NO_YIELD_CHECK void failed_syncs(void *arg)
{
    (void)add(arg, 1000, 1);
    fault_arm("spool.sync", 1, 4, EIO);
    for (int i = 0; i < 3; i++)
        (void)add(arg, 1000, 1);
    fault_disarm_all();
    (void)add(arg, 1000, 1);
}

static NO_YIELD_CHECK void failed_write(void *arg)
{
    (void)add(arg, 1000, 1);
    fault_arm("spool.write", 1, 1, ENOSPC);
    (void)add(arg, 1000, 1);
    (void)add(arg, LARGE, 1);
    fault_disarm_all();
    (void)add(arg, 1000, 1);
}

/* Opening is all there is to it. */
static void nothing(void *arg)
{
    (void)arg;
}

struct scenario {
    const char *name;
    void (*run)(void *child);
    unsigned left;         /* it begins with what a killed process left, which used so many ids */
    unsigned syncs;        /* the process was killed at this one after its start */
    uint64_t segment_size; /* 0: 64K */
    bool lies;             /* red control: it tells of success too early, or whatever happened */
    bool damaged;          /* a body in what is left is damaged on disk */
    bool used;             /* what is left lies in files that were used before */
    bool restarts;         /* whoever starts after a kill is killed too, some times */
    bool hasty; /* three failures in a row: clients are refused before that is on the disk, and
                   a crash may bring back what they were refused (STATES.md) */
};
static const struct scenario scenarios[] = {
    {.name = "small mail", .run = small_mail},
    {.name = "several destinations", .run = several_destinations},
    {.name = "large mail", .run = large_mail},
    {.name = "large mail in used files", .run = large_mail_again},
    {.name = "segments roll", .run = roll},
    {.name = "states and removals", .run = states},
    {.name = "reclaim", .run = reclaim},
    {.name = "much at once", .run = at_once, .segment_size = 16 << 20},
    {.name = "much at once, two syncs fail", .run = failed_at_once, .segment_size = 16 << 20},
    {.name = "a sync fails", .run = failed_sync},
    {.name = "four syncs fail", .run = failed_syncs, .hasty = true},
    {.name = "a write fails", .run = failed_write},
    {.name = "recovery", .run = nothing, .left = 160},
    {.name = "recovery of a tail that was not synced", .run = nothing, .left = 160, .syncs = 7},
    {.name = "recovery of a damaged spool", .run = nothing, .left = 160, .damaged = true},
    {.name = "a segment is made from the pool", .run = reuse},
    {.name = "recovery of used files", .run = nothing, .left = 160, .syncs = 7, .used = true},
    {.name = "recovery of large mail in used files",
     .run = large_mail_again,
     .left = 200,
     .syncs = 9},
    {.name = "used files are used again", .run = reuse, .left = 160, .used = true},
    {.name = "recovery after recovery", .run = reclaim, .left = 160, .syncs = 7, .restarts = true},
    {.name = "the same of used files",
     .run = nothing,
     .left = 160,
     .syncs = 7,
     .used = true,
     .restarts = true},
};
static const struct scenario control = {.name = "red control", .run = small_lies, .lies = true};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

/* Whatever failed is over: mail is taken again, in time that a slow machine has, too. */
static NO_YIELD_CHECK void take_again(void *arg)
{
    struct error err;
    for (int turn = 0; add(arg, 100, 1) != OK; turn++) {
        if (turn == 1200)
            _exit(4);
        check(fiber_sleep(100 * NS_PER_MS, &err) == OK);
    }
}

static void run_child(const char *path, int pipe, const struct scenario *scenario)
{
    struct spool_settings settings = {
        .path = str_c(path),
        .segment_size = scenario->segment_size ? scenario->segment_size : (uint64_t)64 * 1024,
        .free_bytes_floor = 1,
        .state_delay_ns = NS_PER_MS,
        .reclaim_age_ns = 1};
    static struct test_found found;
    struct child child = {.pipe = pipe, .next = scenario->left};
    child.spool = test_open_with(&settings, &found);
    if (!child.spool)
        _exit(2);
    test_on_fiber(scenario->run, &child);
    test_on_fiber(take_again, &child);
    spool_close(child.spool);
    _exit(0);
}

/* ---- the parent: one turn under ptrace ---- */

struct turn {
    unsigned number; /* of the call; 0: none */
    int error;       /* that it fails with; 0: the child is killed */
    long only;       /* this kind of call; 0: all that are counted */
    bool with_reads;
    bool hit;
    char call[32];
    int status; /* how the child ended */
};

static bool counts(struct turn *turn, const struct __ptrace_syscall_info *info)
{
    static const struct {
        long number;
        const char *name;
        bool reads;
    } calls[] = {{SYS_pwrite64, "pwrite64", false},
                 {SYS_pwritev, "pwritev", false},
                 {SYS_pwritev2, "pwritev2", false},
                 {SYS_fsync, "fsync", false},
                 {SYS_fdatasync, "fdatasync", false},
                 {SYS_ftruncate, "ftruncate", false},
                 {SYS_fallocate, "fallocate", false},
                 {SYS_openat, "openat", false},
                 {SYS_unlinkat, "unlinkat", false},
                 {SYS_renameat, "renameat", false},
                 {SYS_renameat2, "renameat2", false},
                 {SYS_linkat, "linkat", false},
                 {SYS_mkdirat, "mkdirat", false},
                 {SYS_pread64, "pread64", true},
                 {SYS_preadv, "preadv", true},
                 {SYS_newfstatat, "fstatat", true},
                 {SYS_lseek, "lseek", true},
                 {SYS_getdents64, "getdents", true},
                 {SYS_fstatfs, "fstatfs", true},
                 {SYS_preadv2, "preadv2", true},
                 {SYS_sync_file_range, "sync_file_range", false}};
    long number = (long)info->entry.nr;
    if (turn->only && number != turn->only)
        return false;
    if (number == SYS_openat && !turn->with_reads && !(info->entry.args[2] & O_CREAT))
        return false;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (calls[i].number != number || (calls[i].reads && !turn->with_reads))
            continue;
        snprintf(turn->call, sizeof turn->call, "%s", calls[i].name);
        return true;
    }
    return false;
}

/* The call at whose entry this thread stands is not made. */
static void skip_call(pid_t thread)
{
#ifdef __x86_64__
    struct user_regs_struct registers;
    check(ptrace(PTRACE_GETREGS, thread, NULL, &registers) == 0);
    registers.orig_rax = UINT64_MAX;
    check(ptrace(PTRACE_SETREGS, thread, NULL, &registers) == 0);
#else
    (void)thread;
#endif
}

static void answer_call(pid_t thread, int error)
{
#ifdef __x86_64__
    struct user_regs_struct registers;
    check(ptrace(PTRACE_GETREGS, thread, NULL, &registers) == 0);
    registers.rax = (unsigned long long)-(long long)error;
    check(ptrace(PTRACE_SETREGS, thread, NULL, &registers) == 0);
#else
    (void)thread;
    (void)error;
#endif
}

/* A thread stands before or after a system call. */
static void at_call(struct turn *turn, pid_t child, pid_t thread, unsigned *count, pid_t *failing)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) <= 0)
        return;
    if (info.op == PTRACE_SYSCALL_INFO_EXIT && thread == *failing) {
        answer_call(thread, turn->error);
        *failing = 0;
    }
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || turn->hit || !counts(turn, &info))
        return;
    if (++*count != turn->number)
        return;
    turn->hit = true;
    if (turn->error == 0) {
        kill(child, SIGKILL);
        return;
    }
    skip_call(thread);
    *failing = thread;
}

static void trace(pid_t child, struct turn *turn)
{
    int status;
    unsigned count = 0;
    pid_t failing = 0;
    check(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    check(ptrace(PTRACE_SETOPTIONS, child, NULL,
                 PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL) == 0);
    for (pid_t thread = child;;) {
        bool is_stop = WIFSTOPPED(status);
        int signal = is_stop ? WSTOPSIG(status) : 0;
        if (!is_stop && thread == child)
            break;
        if (signal == (SIGTRAP | 0x80))
            at_call(turn, child, thread, &count, &failing);
        if (signal == (SIGTRAP | 0x80) || signal == SIGTRAP || signal == SIGSTOP)
            signal = 0;
        if (is_stop)
            ptrace(PTRACE_SYSCALL, thread, NULL, (void *)(intptr_t)signal);
        thread = waitpid(-1, &status, __WALL);
        check(thread > 0);
    }
    turn->status = status;
}

/* ---- what was said against what is found ---- */

static void read_notes(int pipe, struct known *known)
{
    static unsigned before[IDS];
    struct note note;
    while (read(pipe, &note, sizeof note) == (ssize_t)sizeof note) {
        assert_true(note.id < IDS);
        struct known *one = &known[note.id];
        if (note.said == SAID_BEGUN) {
            before[note.id] = one->most;
            one->most = note.version;
        } else if (note.said == SAID_DONE) {
            one->least = note.version;
        } else {
            one->most = before[note.id];
        }
    }
}

static void run_turn(const char *path, const struct scenario *scenario, struct turn *turn,
                     struct known *known)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        alarm(60); /* it hangs */
        check(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        raise(SIGSTOP);
        run_child(path, ends[1], scenario);
    }
    close(ends[1]);
    trace(child, turn);
    read_notes(ends[0], known);
    close(ends[0]);
}

/* What is wrong with one entry, or NULL. */
static const char *problem_of(const struct known *known, const struct test_found *found, int at)
{
    unsigned version = at < 0 ? 0 : (unsigned)atoi(found->items[at].state);
    if (at < 0)
        return known->least && known->most != REMOVED ? "is lost" : NULL;
    if (known->least == REMOVED)
        return "is back from the dead";
    if (known->most == 0)
        return "was refused, and is there";
    return version < known->least || version > known->most ? "has another state" : NULL;
}

static const char *compare(const struct scenario *scenario, const struct known *known,
                           const struct test_found *found)
{
    for (unsigned id = 0; id < IDS; id++) {
        if (scenario->hasty && known[id].most == 0)
            continue;
        const char *problem = problem_of(&known[id], found, test_find(found, test_id(id)));
        if (problem)
            return problem;
    }
    return NULL;
}

/* A large body is one byte again and again: nothing of another one may be in it. */
static NO_YIELD_CHECK void check_large(struct body *body)
{
    static char bytes[LARGE], space[LARGE];
    struct error err;
    struct str data;
    for (uint64_t done = 0; done < LARGE; done += data.len) {
        assert_int_equal(body_read(body, done, LARGE, space, &data, &err), OK);
        assert_true(data.len > 0 && data.len <= LARGE - done);
        memcpy(bytes + done, data.ptr, data.len);
    }
    for (size_t i = 1; i < LARGE; i++)
        assert_int_equal(bytes[i], bytes[0]);
}

static NO_YIELD_CHECK void read_everything(void *arg)
{
    void **both = arg;
    const struct test_found *found = both[1];
    for (size_t i = 0; i < found->count; i++) {
        struct arena *arena = arena_new(0);
        struct str meta;
        struct mail_content content;
        struct error err = {0};
        if (spool_read(both[0], found->items[i].entry, arena, &meta, &content, &err) == OK) {
            if (content.body->size == LARGE)
                check_large(content.body);
            body_unref(content.body);
        } else if (!mail_id_equal(found->items[i].entry, test_id(DAMAGED_ID)))
            fail_msg("cannot read: %s", err.text);
        arena_free(arena);
    }
}

/* ---- damage ---- */

/* In how many files of `folder` stands the head of DAMAGED_ID? `strikes`: overwrites a part of it.
 */
static unsigned search(const char *path, const char *folder, bool strikes)
{
    static char bytes[1 << 20];
    char sign[16], name[TEST_PATH_SIZE * 3];
    snprintf(sign, sizeof sign, "Number: %03u ", DAMAGED_ID);
    snprintf(name, sizeof name, "%s/%s", path, folder);
    DIR *files = opendir(name);
    check(files != NULL);
    unsigned count = 0;
    for (struct dirent *item; (item = readdir(files));) {
        size_t len = strlen(item->d_name);
        int fd = openat(dirfd(files), item->d_name, O_RDWR | O_CLOEXEC);
        ssize_t got = fd < 0 ? 0 : pread(fd, bytes, sizeof bytes, 0);
        bool is_part = len > 5 && strcmp(item->d_name + len - 5, ".part") == 0;
        char *found = got > 0 && !is_part ? memmem(bytes, (size_t)got, sign, strlen(sign)) : NULL;
        count += found != NULL;
        if (found && strikes)
            check(pwrite(fd, "struck", 6, found - bytes + STRUCK_AT) == 6);
        if (fd >= 0)
            close(fd);
    }
    closedir(files);
    return count;
}

/* What is wrong with the spool, or NULL. */
static const char *check_spool(const struct scenario *scenario, const char *path,
                               const struct known *known)
{
    static struct test_found found;
    struct spool *spool = test_open(path, &found);
    if (!spool)
        return "the spool does not open";
    const char *problem = compare(scenario, known, &found);
    if (!problem && !scenario->damaged && spool_counter(spool, 0) != (int64_t)found.count)
        problem = "the total is not that of the entries";
    if (!problem && !scenario->damaged && spool_stats(spool).damaged)
        problem = "something is damaged";
    void *both[] = {spool, &found};
    test_on_fiber(read_everything, both);
    if (!problem && scenario->damaged && search(path, "corrupt", false) == 0)
        problem = "the damaged one is not kept aside";
    spool_close(spool);
    return problem;
}

/* ---- what a killed process left ---- */

static void make_template(const struct scenario *scenario, char path[TEST_PATH_SIZE],
                          struct known *known)
{
    static const struct scenario mixed = {.name = "first", .run = reclaim},
                                 all_used = {.name = "first", .run = reuse},
                                 all_large = {.name = "first", .run = large_mail_again},
                                 second = {.name = "second", .run = roll, .left = 128},
                                 more_large = {
                                     .name = "second", .run = large_mail_again, .left = 128};
    bool is_large = scenario->run == large_mail_again;
    const struct scenario *first = scenario->used ? &all_used : is_large ? &all_large : &mixed;
    test_folder_new(path);
    memset(known, 0, IDS * sizeof *known);
    struct turn whole = {.number = 0}, cut = {.only = SYS_fdatasync, .number = scenario->syncs};
    run_turn(path, first, &whole, known);
    assert_true(!scenario->used || test_used_files(path) > 1);
    assert_int_equal(whole.status, 0);
    run_turn(path, is_large ? &more_large : &second, &cut, known);
    assert_true(cut.hit || scenario->syncs == 0);
    if (scenario->damaged) {
        assert_true(search(path, "log", true) > 0);
        known[DAMAGED_ID].least = 0; /* found at the start, or when it is read */
    }
}

/* ---- turns ---- */

/* Who starts on what was left is killed at any of his calls, and so is the next one. */
static void restart(const struct scenario *scenario, const char *path, struct known *known)
{
    enum { CALLS = 60, IDS_EACH = 8 };
    for (unsigned i = 0; i < RESTARTS; i++) {
        struct scenario again = {.name = "again",
                                 .run = nothing,
                                 .left = IDS - (RESTARTS - i) * IDS_EACH,
                                 .segment_size = scenario->segment_size};
        struct turn turn = {.number = 1 + random_below(CALLS)};
        run_turn(path, &again, &turn, known);
    }
}

static const int errors[] = {EIO, ENOSPC, EDQUOT, EINTR, EMFILE};
enum { ERRORS = sizeof errors / sizeof *errors };

static bool is_all(void)
{
    const char *text = getenv("SPOOL_SYSCALLS");
    return text && strcmp(text, "all") == 0;
}

/* Does the scenario have a call of that number? Counts in `problems` what went wrong. */
static bool one_turn(const struct scenario *scenario, const char *template,
                     const struct known *from, struct turn turn, unsigned *problems)
{
    char path[TEST_PATH_SIZE];
    static struct known known[IDS];
    memcpy(known, from, sizeof known);
    if (template)
        test_folder_copy(template, path);
    else
        test_folder_new(path);
    run_turn(path, scenario, &turn, known);
    if (scenario->restarts)
        restart(scenario, path, known);
    bool good = turn.error == 0 && turn.hit
                    ? WIFSIGNALED(turn.status) && WTERMSIG(turn.status) == SIGKILL
                    : WIFEXITED(turn.status) && (WEXITSTATUS(turn.status) == 0 ||
                                                 (turn.hit && WEXITSTATUS(turn.status) == 2));
    const char *problem =
        good ? check_spool(scenario, path, known) : "the child ended in another way";
    if (problem) {
        ++*problems;
        print_message("%s%s: %s at call %u, %s, status %#x: %s\n",
                      scenario->lies ? "(as it should be) " : "", scenario->name,
                      turn.error ? strerror(turn.error) : "killed", turn.number, turn.call,
                      (unsigned)turn.status, problem);
    }
    test_folder_remove(path);
    return turn.hit;
}

static unsigned next_number(unsigned number)
{
    return number + 1 + (is_all() ? 0 : number / 4);
}

static void run_scenario(const struct scenario *scenario, bool with_errors)
{
    const char *wanted = getenv("SPOOL_SCENARIO");
    if (wanted && !strstr(scenario->name, wanted))
        return;
    char template[TEST_PATH_SIZE];
    static struct known known[IDS];
    memset(known, 0, sizeof known);
    if (scenario->left)
        make_template(scenario, template, known);
    const char *from = scenario->left ? template : NULL;
    unsigned turns = 0, problems = 0;
    bool hit = true;
    for (unsigned number = 1; hit; number = next_number(number)) {
        size_t count = !with_errors || !is_all() ? 1 : ERRORS;
        for (size_t i = 0; i < count; i++) {
            int error = with_errors ? errors[(number + i) % ERRORS] : 0;
            struct turn turn = {.number = number, .error = error, .with_reads = with_errors};
            hit = one_turn(scenario, from, known, turn, &problems);
            turns += hit;
        }
    }
    print_message("%s: %u %s\n", scenario->name, turns, with_errors ? "errors" : "kills");
    assert_true(turns > 3);
    assert_int_equal(problems > 0, scenario->lies);
    if (scenario->left)
        test_folder_remove(template);
}

static void test_kill_at_every_call(void **state)
{
    (void)state;
    for (size_t i = 0; i < SCENARIOS; i++)
        run_scenario(&scenarios[i], false);
}

static void test_error_at_every_call(void **state)
{
    (void)state;
#ifndef __x86_64__
    skip(); /* how a call is made to fail is known here for this processor only */
#endif
    for (size_t i = 0; i < SCENARIOS; i++)
        run_scenario(&scenarios[i], true);
}

/* Loss is noticed: else all of the above proves nothing. */
static void test_loss_is_noticed(void **state)
{
    (void)state;
    run_scenario(&control, false);
#ifdef __x86_64__
    run_scenario(&control, true);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_at_every_call),
                                       cmocka_unit_test(test_error_at_every_call),
                                       cmocka_unit_test(test_loss_is_noticed)};
    return cmocka_run_group_tests_name("spool-syscalls", tests, NULL, NULL);
}
