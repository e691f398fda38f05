/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/sandbox.h"

#include "base/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <sched.h>
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

/* clang-format off */
#define REFUSE(call) {.name = (call), .error = EPERM}
#define REFUSE_BITS(call, number, bits, those)                                                     \
    {.name = (call), .error = EPERM, .test = CALL_IF_BITS, .argument = (number), .mask = (bits), .value = (those)}
#define REFUSE_FAMILY(family)                                                                      \
    {.name = "socket", .error = EAFNOSUPPORT, .test = CALL_IF_EQUAL, .value = (family)}
/* clang-format on */

/* What a mail gateway has no use for and an intruder has. */
enum { WRITTEN_CODE = PROT_WRITE | PROT_EXEC };
static const struct call_rule call_rules[] = {
    /* other programs and processes */
    REFUSE("execve"),
    REFUSE("execveat"),
    REFUSE("fork"),
    REFUSE("vfork"),
    REFUSE("process_vm_readv"),
    REFUSE("process_vm_writev"),
    REFUSE("process_madvise"),
    REFUSE("pidfd_getfd"),
    REFUSE("kcmp"),
    REFUSE("personality"),
    REFUSE("setns"),
    REFUSE("unshare"),
    REFUSE("chroot"),
    /* parts of the kernel with a history */
    REFUSE("bpf"),
    REFUSE("perf_event_open"),
    REFUSE("userfaultfd"),
    REFUSE("io_uring_setup"),
    REFUSE("io_uring_enter"),
    REFUSE("io_uring_register"),
    REFUSE("add_key"),
    REFUSE("request_key"),
    REFUSE("keyctl"),
    REFUSE("open_by_handle_at"),
    REFUSE("vmsplice"),
    /* mounts */
    REFUSE("mount"),
    REFUSE("umount2"),
    REFUSE("pivot_root"),
    REFUSE("move_mount"),
    REFUSE("open_tree"),
    REFUSE("fsopen"),
    REFUSE("fsmount"),
    REFUSE("fsconfig"),
    REFUSE("fspick"),
    REFUSE("mount_setattr"),
    /* the machine */
    REFUSE("kexec_load"),
    REFUSE("kexec_file_load"),
    REFUSE("init_module"),
    REFUSE("finit_module"),
    REFUSE("delete_module"),
    REFUSE("reboot"),
    REFUSE("swapon"),
    REFUSE("swapoff"),
    REFUSE("acct"),
    REFUSE("settimeofday"),
    REFUSE("clock_settime"),
    REFUSE("adjtimex"),
    REFUSE("clock_adjtime"),
    REFUSE("sethostname"),
    REFUSE("setdomainname"),
    REFUSE("quotactl"),
    REFUSE("syslog"),
    REFUSE("vhangup"),
    REFUSE("iopl"),
    REFUSE("ioperm"),
    /* the library then falls back to clone, whose flags a filter can see */
    {.name = "clone3", .error = ENOSYS},
    /* memory both written and executed */
    REFUSE_BITS("mmap", 2, WRITTEN_CODE, WRITTEN_CODE),
    REFUSE_BITS("mprotect", 2, PROT_EXEC, PROT_EXEC),
    REFUSE_BITS("pkey_mprotect", 2, PROT_EXEC, PROT_EXEC),
#ifndef __SANITIZE_ADDRESS__ /* whose search for leaks is a process that looks into this one */
    REFUSE("ptrace"),
    REFUSE_BITS("clone", 0, CLONE_THREAD, 0),
#endif
    /* sockets but of IP, Unix and netlink (which lists interfaces) */
    {.name = "socket", .error = EAFNOSUPPORT, .test = CALL_IF_GREATER, .value = AF_NETLINK},
    REFUSE_FAMILY(AF_AX25),
    REFUSE_FAMILY(AF_IPX),
    REFUSE_FAMILY(AF_APPLETALK),
    REFUSE_FAMILY(AF_NETROM),
    REFUSE_FAMILY(AF_BRIDGE),
    REFUSE_FAMILY(AF_ATMPVC),
    REFUSE_FAMILY(AF_X25),
    REFUSE_FAMILY(AF_ROSE),
    REFUSE_FAMILY(AF_DECnet),
    REFUSE_FAMILY(AF_NETBEUI),
    REFUSE_FAMILY(AF_SECURITY),
    REFUSE_FAMILY(AF_KEY),
};

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
    return calls_filter(call_rules, sizeof call_rules / sizeof *call_rules, /* otherwise= */ 0,
                        err);
}
