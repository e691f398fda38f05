/* SPDX-License-Identifier: Apache-2.0 */
/* base/confine_test.c - what a confined process tries, and does not get. */
#include "base/confine.h"

#include "base/check.h"
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static bool opens_file(void)
{
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0;
}

static bool writes_file(void)
{
    return open("/tmp/postern-confined", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0;
}

static bool makes_socket(void)
{
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0;
}

static bool makes_pair(void)
{
    int ends[2];
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0;
}

static bool forks(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return pid > 0;
}

static bool runs_program(void)
{
    char *const arguments[] = {"true", NULL};
    execv("/bin/true", arguments);
    return false; /* else it would have ended with 0, which counts as success */
}

static bool kills_parent(void)
{
    return kill(getppid(), 0) == 0;
}

static bool traces(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static bool uses_other_descriptor(void)
{
    return write(3, "", 0) == 0;
}

static const struct attempt {
    const char *name;
    bool (*tries)(void);
} attempts[] = {
    {"open a file", opens_file},
    {"write a file", writes_file},
    {"make a socket", makes_socket},
    {"make a socket pair", makes_pair},
    {"fork", forks},
    {"run a program", runs_program},
    {"kill its parent", kills_parent},
    {"trace", traces},
    {"use what was open", uses_other_descriptor},
};

/* 0: it got what it tried; 1: it did not; else something is wrong. */
static int ended_with(bool confined, const struct attempt *attempt)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct error err;
        const struct confine_limits limits = {.seconds = 5, .keep_descriptor = 4};
        (void)dup2(2, 3);
        (void)dup2(2, 4);
        if (confined && confine(&limits, &err) != OK)
            _exit(3);
        _exit(attempt->tries() ? 0 : 1);
    }
    check(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static void test_attempts(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        if (ended_with(false, &attempts[i]) != 0)
            print_message("%s: not even unconfined\n", attempts[i].name);
        int code = ended_with(true, &attempts[i]);
        if (code != 1)
            fail_msg("%s: %d", attempts[i].name, code);
    }
    unlink("/tmp/postern-confined");
}

static bool spins(void)
{
    for (volatile unsigned turn = 0;; turn++) {
    }
    return false;
}

static void test_time(void **unused)
{
    (void)unused;
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct error err;
        const struct confine_limits limits = {.seconds = 1, .keep_descriptor = -1};
        _exit(confine(&limits, &err) == OK && spins() ? 0 : 3);
    }
    check(waitpid(pid, &status, 0) == pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGXCPU);
}

static void test_memory(void **unused)
{
    (void)unused;
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct error err;
        const struct confine_limits limits = {
            .memory = 256 << 20, .seconds = 5, .keep_descriptor = -1};
        if (confine(&limits, &err) != OK)
            _exit(3);
        bool some =
            mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
        bool much =
            mmap(NULL, 300 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
        _exit(some && !much ? 0 : 1);
    }
    check(waitpid(pid, &status, 0) == pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attempts),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
