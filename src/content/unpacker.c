/* SPDX-License-Identifier: Apache-2.0 */
/* content/unpacker.c - the processes' side: one that forks, and those that read one message's. */
#include "content/unpacker.h"

#include "base/clock.h"
#include "base/confine.h"
#include "base/memory.h"
#include "content/unpack_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 4, FLUSH_AT = 64 * 1024, TURN_MS = 1000 };

/* ---- one message's files ---- */

struct serving {
    int fd;
    struct buf in, file, out;
    struct unpack_limits limits;
    bool begun;
    bool too_large;
};

static enum result write_out(struct serving *serving, struct error *err)
{
    struct str rest = buf_str(&serving->out);
    while (rest.len) {
        ssize_t done = write(serving->fd, rest.ptr, rest.len);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return fail(err, ERROR_CANCELLED, "nobody listens");
        rest = str_from(rest, (size_t)done);
    }
    buf_clear(&serving->out);
    return OK;
}

static enum result tell(void *context, const struct unpack_member *member, struct error *err)
{
    struct serving *serving = context;
    unpack_member_append(&serving->out, member);
    return serving->out.len < FLUSH_AT ? OK : write_out(serving, err);
}

static enum result answer(struct serving *serving, struct error *err)
{
    struct unpack_spent spent = {0};
    const struct unpack_member large = {
        .flags = UNPACK_OVER, .name = STR_EMPTY, .why = STR("it is larger than may be looked at")};
    enum result result = serving->too_large ? tell(serving, &large, err)
                                            : unpack_look(buf_str(&serving->file), &serving->limits,
                                                          tell, serving, &spent, err);
    if (result != OK)
        return FAILED;
    unpack_done_append(&serving->out, &spent);
    serving->begun = false;
    return write_out(serving, err);
}

static enum result take_frame(struct serving *serving, const struct unpack_frame *frame,
                              struct error *err)
{
    if (serving->begun == (frame->kind == UNPACK_FRAME_BEGIN))
        return fail(err, ERROR_PROTOCOL, "frames out of order");
    switch (frame->kind) {
    case UNPACK_FRAME_BEGIN:
        serving->begun = true;
        serving->too_large = false;
        buf_clear(&serving->file);
        return unpack_begin_read(frame->payload, &serving->limits, err);
    case UNPACK_FRAME_DATA:
        serving->too_large |= frame->payload.len > UNPACK_INPUT_MAX - serving->file.len;
        if (!serving->too_large)
            buf_append(&serving->file, frame->payload);
        return OK;
    case UNPACK_FRAME_END:
        return answer(serving, err);
    case UNPACK_FRAME_MEMBER:
    case UNPACK_FRAME_DONE:
    case UNPACK_FRAME_DIED:
        break;
    }
    return fail(err, ERROR_PROTOCOL, "a frame that only this side sends");
}

/* All whole frames that have come. */
static enum result take_frames(struct serving *serving, struct error *err)
{
    struct str rest = buf_str(&serving->in);
    struct unpack_frame frame;
    enum result result = OK;
    for (bool whole = true; result == OK && whole;) {
        result = unpack_frame_take(&rest, &frame, &whole, err);
        if (result == OK && whole)
            result = take_frame(serving, &frame, err);
    }
    buf_consume(&serving->in, serving->in.len - rest.len);
    return result;
}

void unpacker_serve(int fd)
{
    struct serving serving = {.fd = fd};
    struct error err;
    buf_init(&serving.in, (size_t)2 * (UNPACK_FRAME_HEAD + UNPACK_FRAME_MAX));
    buf_init(&serving.file, UNPACK_INPUT_MAX);
    buf_init(&serving.out, (size_t)2 * FLUSH_AT);
    for (;;) {
        char *space = buf_reserve(&serving.in, UNPACK_FRAME_MAX);
        ssize_t got = space ? read(fd, space, UNPACK_FRAME_MAX) : 0;
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        serving.in.len += (size_t)got;
        if (take_frames(&serving, &err) != OK)
            break;
    }
    buf_done(&serving.in);
    buf_done(&serving.file);
    buf_done(&serving.out);
}

/* ---- the process that forks ---- */

struct process {
    pid_t pid; /* 0: none */
    int fd; /* the same end that it serves: tells when nobody listens, and is told of its death */
    int64_t kill_at_ns;
    bool killed; /* nothing more is expected of it than its end */
};

struct forking {
    int door;
    int signals;
    struct process processes[PROCESSES];
};

enum result unpacker_open(int out_ends[2], struct error *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, out_ends) != 0)
        return fail_errno(err, errno, "cannot make a socket pair");
    return OK;
}

static _Noreturn void become_process(int fd)
{
    const struct confine_limits limits = {
        .memory = UNPACKER_MEMORY, .seconds = UNPACKER_CPU_SECONDS, .keep_descriptor = fd};
    struct error err;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (confine(&limits, &err) != OK)
        _exit(1);
    unpacker_serve(fd);
    _exit(0);
}

static void start_process(struct process *process, int fd)
{
    pid_t pid = fork();
    if (pid == 0)
        become_process(fd);
    if (pid < 0) {
        close(fd); /* who asked sees the end */
        return;
    }
    *process = (struct process){
        .pid = pid, .fd = fd, .kill_at_ns = clock_deadline(UNPACKER_SECONDS * NS_PER_S)};
}

/* An end that somebody sent; -1: none. Ends this process when nobody can send any more. */
static int receive_end(int door)
{
    char byte;
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t got = recvmsg(door, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got == 0)
        _exit(0);
    struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int)))
        return -1;
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

static void process_ended(struct forking *self, pid_t pid, int status)
{
    for (int i = 0; i < PROCESSES; i++) {
        struct process *process = &self->processes[i];
        if (process->pid != pid)
            continue;
        if (WIFSIGNALED(status)) {
            struct buf frame BUF_CLEANUP;
            buf_init(&frame, 64);
            unpack_died_append(&frame, (unsigned)WTERMSIG(status));
            (void)send(process->fd, frame.ptr, frame.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        close(process->fd);
        *process = (struct process){0};
    }
}

static void collect(struct forking *self)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    while (read(self->signals, &info, sizeof info) == (ssize_t)sizeof info) {
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        process_ended(self, pid, status);
}

static struct process *free_process(struct forking *self)
{
    for (int i = 0; i < PROCESSES; i++)
        if (!self->processes[i].pid)
            return &self->processes[i];
    return NULL;
}

static void turn(struct forking *self)
{
    struct pollfd polled[PROCESSES + 2];
    struct process *room = free_process(self);
    /* a negative descriptor is passed over */
    for (int i = 0; i < PROCESSES; i++)
        polled[i] = (struct pollfd){
            .fd = self->processes[i].pid && !self->processes[i].killed ? self->processes[i].fd : -1,
            .events = POLLRDHUP};
    polled[PROCESSES] = (struct pollfd){.fd = self->signals, .events = POLLIN};
    polled[PROCESSES + 1] = (struct pollfd){.fd = room ? self->door : -1, .events = POLLIN};
    if (poll(polled, PROCESSES + 2, TURN_MS) < 0)
        return;
    int64_t now_ns = clock_monotonic_ns();
    for (int i = 0; i < PROCESSES; i++) {
        struct process *process = &self->processes[i];
        if (process->killed || !process->pid ||
            (!polled[i].revents && now_ns <= process->kill_at_ns))
            continue;
        kill(process->pid, SIGKILL);
        process->killed = true;
    }
    if (polled[PROCESSES].revents)
        collect(self);
    if (room && polled[PROCESSES + 1].revents) {
        int fd = receive_end(self->door);
        if (fd >= 0)
            start_process(room, fd);
    }
}

void unpacker_run(int end)
{
    struct forking self = {.door = end};
    sigset_t children;
    prctl(PR_SET_NAME, "postern-unpack", 0, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    (void)setlocale(LC_CTYPE, "C.UTF-8"); /* names in archives are converted to it */
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_SETMASK, &children, NULL);
    self.signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    for (;;)
        turn(&self);
}
