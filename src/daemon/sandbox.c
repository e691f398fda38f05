/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- system calls ---- */

/* What a mail gateway has no use for and an intruder has. */
static const int refused_calls[] = {
    /* other programs and processes */
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(fork),
    SCMP_SYS(vfork),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kcmp),
    SCMP_SYS(personality),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(chroot),
    /* parts of the kernel with a history */
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(vmsplice),
    /* mounts */
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsmount),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    /* the machine */
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(quotactl),
    SCMP_SYS(syslog),
    SCMP_SYS(vhangup),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
};

static bool refuse(scmp_filter_ctx filter, int call, int error_number)
{
    /* a call that this architecture lacks needs no rule */
    int result = seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)error_number), call, 0);
    return result == 0 || result == -EDOM || result == -EACCES;
}

/* If the bits `mask` of that argument are `value`. */
static bool refuse_if(scmp_filter_ctx filter, int call, unsigned argument, uint64_t mask,
                      uint64_t value)
{
    return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 1,
                            SCMP_CMP(argument, SCMP_CMP_MASKED_EQ, mask, value)) == 0;
}

/* Of IP, Unix and netlink (which lists interfaces) only. */
static bool refuse_sockets(scmp_filter_ctx filter)
{
    static const uint64_t kept[] = {AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
    bool good = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                 SCMP_CMP(0, SCMP_CMP_GT, AF_NETLINK, 0)) == 0;
    for (uint64_t family = 0; family < AF_NETLINK; family++) {
        bool keep = false;
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            keep = keep || kept[i] == family;
        if (!keep)
            good = good && seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket),
                                            1, SCMP_CMP(0, SCMP_CMP_EQ, family, 0)) == 0;
    }
    return good;
}

static bool add_rules(scmp_filter_ctx filter)
{
    bool good = true;
    for (size_t i = 0; i < sizeof refused_calls / sizeof *refused_calls; i++)
        good = good && refuse(filter, refused_calls[i], EPERM);
    /* the library then falls back to clone, whose flags a filter can see */
    good = good && refuse(filter, SCMP_SYS(clone3), ENOSYS);
    enum { WRITTEN_CODE = PROT_WRITE | PROT_EXEC };
    good = good && refuse_if(filter, SCMP_SYS(mmap), 2, WRITTEN_CODE, WRITTEN_CODE) &&
           refuse_if(filter, SCMP_SYS(mprotect), 2, PROT_EXEC, PROT_EXEC) &&
           refuse_if(filter, SCMP_SYS(pkey_mprotect), 2, PROT_EXEC, PROT_EXEC);
#ifndef __SANITIZE_ADDRESS__ /* whose search for leaks is a process that looks into this one */
    good = good && refuse(filter, SCMP_SYS(ptrace), EPERM) &&
           refuse_if(filter, SCMP_SYS(clone), 0, CLONE_THREAD, 0);
#endif
    return good && refuse_sockets(filter);
}

static enum result confine_calls(struct error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter)
        return fail(err, ERROR_TEMPORARY, "cannot make a filter of system calls");
    int loaded = add_rules(filter) ? seccomp_load(filter) : -EINVAL;
    seccomp_release(filter);
    if (loaded != 0)
        return fail_errno(err, -loaded, "cannot load the filter of system calls");
    return OK;
}

/* ---- paths ---- */

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE /* version 3; headers of Linux 6.1 lack it */
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#define SCOPE_SIGNAL (1ULL << 1) /* version 6 */

enum { LANDLOCK_LEAST = 2, TRUNCATE_SINCE = 3, SCOPE_SINCE = 6 };

static const uint64_t reading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
static const uint64_t writing = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                                LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
                                LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                                LANDLOCK_ACCESS_FS_REFER;
static const uint64_t never = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                              LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                              LANDLOCK_ACCESS_FS_MAKE_SYM;

/* As of version 6; a kernel takes a shorter struct, and a longer one whose rest is zero. */
struct ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

struct paths {
    int ruleset;
    uint64_t handled;
    struct error *err;
};

/* Of the system: libraries, resolver, certificates, names of users, clocks, figures of itself. */
static const char *const system_folders[] = {
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system",
    "/run/systemd",
    "/run/resolvconf",
    "/run/NetworkManager",
};
static const char *const devices[] = {"/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"};

static enum result allow(const struct paths *paths, const char *path, uint64_t access)
{
    struct stat seen;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return OK; /* what is not there cannot be reached either */
    if (fstat(fd, &seen) == 0 && !S_ISDIR(seen.st_mode)) /* rights of folders do not fit a file */
        access &= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                  LANDLOCK_ACCESS_FS_TRUNCATE;
    struct landlock_path_beneath_attr rule = {.allowed_access = access & paths->handled,
                                              .parent_fd = fd};
    long added =
        syscall(SYS_landlock_add_rule, paths->ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    int saved = errno;
    close(fd);
    return added == 0 ? OK : fail_errno(paths->err, saved, "cannot confine to %s", path);
}

/* The folder that a file lies in, or the file itself if that is the root: all else lies there. */
static enum result allow_around(const struct paths *paths, char path[PATH_MAX])
{
    struct stat seen;
    if (stat(path, &seen) == 0 && S_ISDIR(seen.st_mode))
        return allow(paths, path, reading);
    ptrdiff_t slash = str_find_last(str_c(path), '/');
    if (slash > 0)
        path[slash] = '\0';
    return slash < 0 ? OK : allow(paths, path, reading);
}

static enum result allow_named(const struct paths *paths, struct str name)
{
    char path[PATH_MAX], real[PATH_MAX];
    if (!str_to_c(name, path, sizeof path))
        return OK;
    if (realpath(path, real) && allow_around(paths, real) != OK) /* what a link points to */
        return FAILED;
    return allow_around(paths, path);
}

static enum result allow_all(const struct paths *paths, const struct sandbox *wanted)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof system_folders / sizeof *system_folders; i++)
        if (allow(paths, system_folders[i], reading) != OK)
            return FAILED;
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (allow(paths, devices[i], reading | LANDLOCK_ACCESS_FS_WRITE_FILE) != OK)
            return FAILED;
    for (size_t i = 0; i < wanted->readable_count; i++)
        if (allow_named(paths, wanted->readable[i]) != OK)
            return FAILED;
    for (size_t i = 0; i < wanted->writable_count; i++)
        if (str_to_c(wanted->writable[i], path, sizeof path) &&
            allow(paths, path, reading | writing | LANDLOCK_ACCESS_FS_TRUNCATE) != OK)
            return FAILED;
    return OK;
}

static enum result confine_paths(const struct sandbox *wanted, enum sandbox_paths *out_paths,
                                 struct error *err)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    *out_paths = version < LANDLOCK_LEAST ? SANDBOX_NO_LANDLOCK : SANDBOX_PATHS;
    if (version < LANDLOCK_LEAST) /* version 1 cannot move a file to another folder */
        return OK;
    struct ruleset rules = {.handled_access_fs = reading | writing | never};
    if (version >= TRUNCATE_SINCE)
        rules.handled_access_fs |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (version >= SCOPE_SINCE)
        rules.scoped = SCOPE_SIGNAL;
    size_t size = version >= SCOPE_SINCE ? sizeof rules : sizeof rules.handled_access_fs;
    struct paths paths = {.handled = rules.handled_access_fs, .err = err};
    paths.ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (paths.ruleset < 0)
        return fail_errno(err, errno, "cannot confine to paths");
    enum result result = allow_all(&paths, wanted);
    if (result == OK && syscall(SYS_landlock_restrict_self, paths.ruleset, 0) != 0)
        result = fail_errno(err, errno, "cannot confine to paths");
    close(paths.ruleset);
    return result;
}

enum result sandbox_enter(const struct sandbox *wanted, enum sandbox_paths *out_paths,
                          struct error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail_errno(err, errno, "cannot give up privileges");
    if (confine_paths(wanted, out_paths, err) != OK)
        return FAILED;
    return confine_calls(err);
}
