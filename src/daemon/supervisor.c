/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/supervisor.h"

#include "base/clock.h"
#include "base/memory.h"
#include "content/unpacker.h"
#include "daemon/child.h"
#include "daemon/link.h"
#include "daemon/poison.h"
#include "daemon/privileges.h"
#include "daemon/problems.h"
#include "daemon/sockets.h"
#include "daemon/systemd.h"
#include "event/event.h"
#include "gateway/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CRASHES_A_MINUTE = 5,
    RESTART_MS = 200, /* between a death and the next start; twice that after each that failed */
    RESTART_DOUBLED = 6,
    UNPACKER_MS = 2000, /* the same of the process that unpacks */
    STOP_EXTRA_S = 45,  /* a child that drains longer than this is killed */
};

struct supervisor {
    const char *config_path;
    bool unconfined;
    struct privileges privileges;
    struct sockets sockets;
    struct poison *poison;
    char spool_path[4096]; /* as the first child found it */
    int spool_claim;       /* the folder, locked; -1: not yet */
    int signals;           /* signalfd */
    sigset_t before;

    pid_t child;
    int link; /* to the child; -1: none */
    /* A process beside it looks into archives; it outlives the child, and so do both ends. */
    struct unpacker unpacker;
    int unpacker_end;
    pid_t unpacker_process; /* 0: none */
    int64_t unpacker_at_ns; /* not started before */

    bool stopping;
    bool was_ready;
    unsigned failed_starts; /* since the last child that was ready */
    int64_t kill_at_ns;
    int64_t crashes_ns[CRASHES_A_MINUTE]; /* the latest, a ring */
    unsigned crash_count;
};

/* ---- before the first child ---- */

static enum result make_folders(struct supervisor *self, const struct settings *settings,
                                struct error *err)
{
    if (privileges_make_folder(&self->privileges, settings->spool.path, err) != OK)
        return fail_context(err, "spool.path");
    struct str socket_path = settings->control.socket;
    ptrdiff_t slash = str_find_last(socket_path, '/');
    if (slash > 0 && privileges_make_folder(&self->privileges,
                                            str_slice(socket_path, 0, (size_t)slash), err) != OK)
        return fail_context(err, "control.socket");
    return OK;
}

/*
 * One daemon a spool: from before anything in it is touched, for the history, revisions and counts
 * lie there too. The lock is one of the folder itself and lasts as long as we do; a predecessor
 * that was killed may still be on its way out.
 */
static enum result claim_spool(struct supervisor *self, struct error *err)
{
    enum { TURNS = 100, TURN_US = 20 * 1000 };
    const char *path = self->spool_path;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, errno, "spool.path: cannot open the folder %s", path);
    self->spool_claim = fd;
    for (int turn = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; turn++) {
        if (errno != EWOULDBLOCK)
            return OK; /* a file system that locks no folders; the spool has a lock of its own */
        if (turn == TURNS)
            return fail(err, ERROR_TEMPORARY, "spool.path: another posternd uses %s", path);
        usleep(TURN_US);
    }
    return OK;
}

/* The configuration must check before anything is bound. */
static enum result prepare(struct supervisor *self, struct error *err)
{
    struct arena *arena = arena_new(0);
    struct config_report report;
    config_report_init(&report, arena);
    struct settings *settings = NULL;
    enum result result = settings_load(self->config_path, &report, &settings, err);
    if (result != OK)
        problems_emit(&report);
    if (result == OK)
        result = privileges_find(settings->user, &self->privileges, err);
    if (result == OK && !str_to_c(settings->spool.path, self->spool_path, sizeof self->spool_path))
        result = fail(err, ERROR_PERMANENT, "spool.path is too long");
    if (result == OK)
        result = make_folders(self, settings, err);
    settings_unref(settings);
    arena_free(arena);
    return result;
}

/* Folders are made and the configuration is read: from here on, nothing but ports needs root. */
static enum result give_up_root(struct supervisor *self, struct error *err)
{
    if (privileges_keep_binding(&self->privileges, err) != OK)
        return FAILED;
    self->privileges.change = false; /* for the processes that it starts: done */
    return OK;
}

static enum result catch_signals(struct supervisor *self, struct error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &self->before);
    self->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return self->signals >= 0 ? OK : fail_errno(err, errno, "cannot listen to signals");
}

/* A session takes one or two: as many as the system lets us have. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- the child ---- */

static bool crashes_too_often(const struct supervisor *self)
{
    if (self->crash_count < CRASHES_A_MINUTE)
        return false;
    int64_t oldest = self->crashes_ns[self->crash_count % CRASHES_A_MINUTE];
    return clock_monotonic_ns() - oldest < 60 * NS_PER_S;
}

static void become_child(struct supervisor *self, int link)
{
    struct child_options options = {
        .config_path = self->config_path,
        .link = link,
        .poison = self->poison,
        .unpacker = &self->unpacker,
        .delivery_paused = crashes_too_often(self),
        .unconfined = self->unconfined,
        .again = self->was_ready,
        .spool_path = str_c(self->spool_path),
        .privileges = self->privileges,
    };
    close(self->signals);
    close(self->unpacker_end);
    sockets_close_all(&self->sockets); /* it gets those it wants over the link */
    sigprocmask(SIG_SETMASK, &self->before, NULL);
    int code = child_run(&options);
    problems_flush();
    exit(code);
}

static enum result start_child(struct supervisor *self, struct error *err)
{
    int ends[2];
    if (link_open(ends, err) != OK)
        return FAILED;
    problems_flush();
    pid_t pid = fork();
    if (pid < 0) {
        close(ends[0]);
        close(ends[1]);
        return fail_errno(err, errno, "cannot fork");
    }
    if (pid == 0) {
        close(ends[0]);
        become_child(self, ends[1]);
    }
    close(ends[1]);
    self->child = pid;
    self->link = ends[0];
    return OK;
}

/* ---- the process that looks into archives (content/unpacker.h) ---- */

static _Noreturn void become_unpacker(struct supervisor *self, pid_t parent)
{
    struct error err;
    close(self->signals);
    close(self->link);
    close(self->unpacker.door);
    close(self->spool_claim);
    poison_free(self->poison); /* memory that it would share with the child */
    sockets_close_all(&self->sockets);
    sigprocmask(SIG_SETMASK, &self->before, NULL);
    if (privileges_drop(&self->privileges, &err) != OK)
        _exit(1);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) /* it may be gone already */
        _exit(0);
    unpacker_run(self->unpacker_end);
}

/* What waits in its door meanwhile is served by the next one. */
static void keep_unpacker(struct supervisor *self)
{
    int status;
    if (self->unpacker_process > 0) {
        if (waitpid(self->unpacker_process, &status, WNOHANG) != self->unpacker_process)
            return;
        self->unpacker_process = 0;
        self->unpacker_at_ns = clock_deadline(UNPACKER_MS * NS_PER_MS);
        event_emit(EVENT_DAEMON_WARNING,
                   F_C(DETAIL, "the process that looks into archives ended; another is started"));
    }
    if (self->stopping || clock_monotonic_ns() < self->unpacker_at_ns)
        return;
    problems_flush();
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become_unpacker(self, parent);
    self->unpacker_process = pid > 0 ? pid : 0;
}

static void end_unpacker(struct supervisor *self)
{
    if (self->unpacker_process > 0) {
        kill(self->unpacker_process, SIGKILL);
        waitpid(self->unpacker_process, NULL, 0);
    }
    close(self->unpacker.door);
    close(self->unpacker_end);
}

static void answer_wish(struct supervisor *self, const struct link_packet *wish)
{
    static struct link_packet answer;
    sockets_forget_wishes(&self->sockets);
    for (unsigned i = 0; i < wish->count && i < SETTINGS_ADDRESSES_MAX; i++) {
        struct error err = {0};
        int fd = -1;
        answer = (struct link_packet){.kind = LINK_SOCKET};
        if (sockets_get(&self->sockets, &wish->addresses[i], &fd, &err) != OK)
            snprintf(answer.text, sizeof answer.text, "%s", err.text);
        if (link_send(self->link, &answer, fd, &err) != OK)
            return; /* it died: SIGCHLD tells */
    }
}

static void hear_child(struct supervisor *self)
{
    static struct link_packet packet;
    struct error err;
    int fd = -1;
    if (link_receive(self->link, &packet, &fd, &err) != OK) {
        close(self->link);
        self->link = -1;
        return;
    }
    if (fd >= 0)
        close(fd); /* it has nothing to give */
    if (packet.kind == LINK_WANT)
        answer_wish(self, &packet);
    if (packet.kind == LINK_READY) {
        self->was_ready = true;
        self->failed_starts = 0;
        sockets_close_unwanted(&self->sockets);
        systemd_ready();
    }
    if (packet.kind == LINK_RELOADED)
        systemd_ready();
}

/* The child ended. Returns true if it should be started again, else *out_code is ours. */
static bool child_ended(struct supervisor *self, int status, int *out_code)
{
    self->child = 0;
    if (self->link >= 0)
        close(self->link);
    self->link = -1;
    *out_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    if (self->stopping || (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_DONE))
        return false;
    /* what could not start once will not start the next time either; what ran before may */
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_CANNOT_START && !self->was_ready)
        return false;
    self->failed_starts++; /* until the next one is ready */
    self->crashes_ns[self->crash_count++ % CRASHES_A_MINUTE] = clock_monotonic_ns();
    poison_collect(self->poison);
    if (WIFSIGNALED(status))
        putchar('\n'); /* it may have been in the middle of a line */
    event_emit(EVENT_DAEMON_CHILD_DIED, F_INT(SIGNAL, WIFSIGNALED(status) ? WTERMSIG(status) : 0),
               F_INT(CODE, WIFEXITED(status) ? WEXITSTATUS(status) : 0),
               F_INT(COUNT, self->crash_count));
    return true;
}

/* ---- the loop ---- */

static void forward(struct supervisor *self, int signal_number)
{
    if (self->child > 0)
        kill(self->child, signal_number);
}

static void take_signal(struct supervisor *self, bool *out_child_died)
{
    struct signalfd_siginfo info;
    while (read(self->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGCHLD:
            *out_child_died = true;
            break;
        case SIGTERM:
        case SIGINT:
            self->kill_at_ns = clock_deadline(STOP_EXTRA_S * NS_PER_S);
            self->stopping = true;
            systemd_stopping();
            forward(self, SIGTERM);
            break;
        default:
            if (info.ssi_signo == SIGHUP && self->was_ready)
                systemd_reloading();
            forward(self, (int)info.ssi_signo);
            break;
        }
    }
}

/* Until the child has ended; its status in *out_status. */
static void serve_child(struct supervisor *self, int *out_status)
{
    for (;;) {
        struct pollfd polled[2] = {{.fd = self->signals, .events = POLLIN},
                                   {.fd = self->link, .events = POLLIN}};
        poll(polled, 2, 500);
        problems_flush();
        keep_unpacker(self);
        if (polled[1].revents)
            hear_child(self);
        bool died = false;
        take_signal(self, &died);
        if (self->stopping && clock_monotonic_ns() > self->kill_at_ns)
            forward(self, SIGKILL);
        if (waitpid(self->child, out_status, WNOHANG) == self->child)
            return;
    }
}

/* Before the next start: a moment, longer and longer while none becomes ready. False: it is time
 * to stop. */
static bool rest(struct supervisor *self)
{
    unsigned doubled =
        self->failed_starts <= RESTART_DOUBLED ? self->failed_starts : RESTART_DOUBLED;
    int64_t end_ns = clock_deadline(((int64_t)RESTART_MS << doubled) * NS_PER_MS / 2);
    for (int64_t left_ns; (left_ns = end_ns - clock_monotonic_ns()) > 0 && !self->stopping;) {
        struct pollfd polled = {.fd = self->signals, .events = POLLIN};
        bool died = false;
        poll(&polled, 1, (int)(left_ns / NS_PER_MS) + 1);
        take_signal(self, &died);
    }
    return !self->stopping;
}

static int supervise(struct supervisor *self)
{
    do {
        struct error err;
        int status = 0;
        int code = 1;
        if (start_child(self, &err) == OK) {
            keep_unpacker(self);
            serve_child(self, &status);
            if (!child_ended(self, status, &code))
                return code;
        } else {
            (void)problems_fatal(&err, 1);
            if (!self->was_ready)
                return 1;
            self->failed_starts++;
        }
        problems_flush();
    } while (rest(self));
    return 0;
}

static enum result open_unpacker(struct supervisor *self, struct error *err)
{
    int ends[2];
    if (unpacker_open(ends, err) != OK)
        return FAILED;
    self->unpacker.door = ends[0];
    self->unpacker_end = ends[1];
    return OK;
}

int supervisor_run(const char *config_path, bool unconfined)
{
    struct supervisor *self = NEW(struct supervisor);
    struct error err = {0};
    self->config_path = config_path;
    self->unconfined = unconfined;
    self->link = self->spool_claim = -1;
    self->poison = poison_new();
    umask(0027); /* mail and who wrote to whom are nobody else's, whatever a folder lets through */
    systemd_begin();
    systemd_take_sockets(&self->sockets);
    event_emit(EVENT_DAEMON_START, F_INT(PID, getpid()), F_C(VALUE, POSTERN_VERSION),
               F_C(FILE, config_path));
    raise_descriptors();
    int code = 1;
    if (prepare(self, &err) == OK && give_up_root(self, &err) == OK &&
        claim_spool(self, &err) == OK && catch_signals(self, &err) == OK &&
        open_unpacker(self, &err) == OK) {
        code = supervise(self);
        end_unpacker(self);
    }
    if (err.kind != ERROR_NONE)
        problems_fatal(&err, 1);
    sockets_close_all(&self->sockets);
    problems_flush();
    poison_free(self->poison);
    if (self->spool_claim >= 0)
        close(self->spool_claim);
    free(self);
    return code;
}
