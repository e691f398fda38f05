/* SPDX-License-Identifier: Apache-2.0 */
#include "base/confine.h"

#include "base/calls.h"

#include <errno.h>
#include <linux/landlock.h>
#include <linux/types.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What reading, writing, memory and an orderly end need. No call makes a descriptor. */
static const struct call_rule calls[] = {
    {.name = "read"},        {.name = "write"},      {.name = "writev"}, {.name = "brk"},
    {.name = "mmap"},        {.name = "munmap"},     {.name = "mremap"}, {.name = "mprotect"},
    {.name = "madvise"},     {.name = "exit_group"}, {.name = "exit"},   {.name = "rt_sigreturn"},
    {.name = "futex"},       {.name = "fstat"},      {.name = "lseek"},  {.name = "clock_gettime"},
    {.name = "newfstatat"},  {.name = "getrandom"},  {.name = "getpid"}, {.name = "rt_sigprocmask"},
    {.name = "sigaltstack"}, {.name = "gettid"},     {.name = "close"},  {.name = "getuid"},
};

static enum result set_limits(const struct confine_limits *limits, struct error *err)
{
    struct rlimit cpu = {limits->seconds, limits->seconds + 1};
    struct rlimit none = {0, 0};
#ifndef __SANITIZE_ADDRESS__ /* which takes terabytes of address space */
    struct rlimit memory = {limits->memory, limits->memory};
    if (limits->memory && setrlimit(RLIMIT_AS, &memory) != 0)
        return fail_errno(err, errno, "cannot limit the memory");
#endif
    if (setrlimit(RLIMIT_CPU, &cpu) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        return fail_errno(err, errno, "cannot limit the time");
    return OK;
}

static enum result close_others(int keep, struct error *err)
{
    if (keep < 0)
        return OK;
    unsigned behind = keep < 3 ? 3 : (unsigned)keep + 1;
    if ((keep > 3 && close_range(3, (unsigned)keep - 1, 0) != 0) ||
        close_range(behind, ~0u, 0) != 0)
        return fail_errno(err, errno, "cannot close descriptors");
    return OK;
}

/* A second wall where the kernel has it: no path can be opened, even by a call that the filter
 * lets through. What is too old for it has the filter alone. */
static void shut_file_system(void)
{
    struct landlock_ruleset_attr rules = {
        .handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1, /* all of its first version */
    };
    long fd = syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
    if (fd < 0)
        return;
    (void)syscall(SYS_landlock_restrict_self, (int)fd, 0);
    close((int)fd);
}

enum result confine(const struct confine_limits *limits, struct error *err)
{
    if (close_others(limits->keep_descriptor, err) != OK)
        return FAILED;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail_errno(err, errno, "cannot give up privileges");
    if (set_limits(limits, err) != OK)
        return FAILED;
    shut_file_system();
    return calls_filter(calls, sizeof calls / sizeof *calls, /* otherwise= */ EPERM, err);
}
