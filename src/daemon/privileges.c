/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/privileges.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum result privileges_find(struct str user, struct privileges *out, struct error *err)
{
    char name[64];
    *out = (struct privileges){0};
    if (!str_to_c(user.len ? user : STR("postern"), name, sizeof name))
        return fail(err, ERROR_PERMANENT, "user: not a user name");
    if (geteuid() != 0)
        return OK;
    struct passwd entry;
    struct passwd *found = NULL;
    char space[4096];
    getpwnam_r(name, &entry, space, sizeof space, &found);
    if (!found)
        return user.len ? fail(err, ERROR_PERMANENT, "user: there is no user %s", name) : OK;
    *out = (struct privileges){.change = true, .uid = entry.pw_uid, .gid = entry.pw_gid};
    return OK;
}

static bool is_empty(int folder)
{
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    unsigned names = 0;
    if (!list && copy >= 0)
        close(copy);
    while (list && names <= 2 && readdir(list)) /* "." and ".." */
        names++;
    if (list)
        closedir(list);
    return list && names <= 2;
}

/* Never through a link: where the user may make one, it could point anywhere. */
static enum result give_folder(const struct privileges *privileges, const char *name, bool made,
                               struct error *err)
{
    int folder = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0 && !made)
        return OK; /* what is wrong with it is told by whoever uses it */
    enum result result = OK;
    if (folder < 0 ||
        ((made || is_empty(folder)) && fchown(folder, privileges->uid, privileges->gid) != 0))
        result = fail_errno(err, errno, "cannot give %s to the user", name);
    if (folder >= 0)
        close(folder);
    return result;
}

enum result privileges_make_folder(const struct privileges *privileges, struct str path,
                                   struct error *err)
{
    char name[4096];
    if (!str_to_c(path, name, sizeof name))
        return fail(err, ERROR_PERMANENT, "not a path");
    bool made = mkdir(name, 0750) == 0;
    if (!made && errno != EEXIST)
        return fail_errno(err, errno, "cannot make %s", name);
    return privileges->change ? give_folder(privileges, name, made, err) : OK;
}

static enum result become(const struct privileges *privileges, struct error *err)
{
    if (!privileges->change)
        return OK;
    if (setgroups(1, &privileges->gid) != 0 ||
        setresgid(privileges->gid, privileges->gid, privileges->gid) != 0 ||
        setresuid(privileges->uid, privileges->uid, privileges->uid) != 0)
        return fail_errno(err, errno, "cannot become the unprivileged user");
    return OK;
}

static enum result set_capabilities(unsigned set, struct error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = set, .permitted = set}};
    if (syscall(SYS_capset, &header, data) != 0)
        return fail_errno(err, errno, "cannot set capabilities");
    return OK;
}

enum result privileges_keep_binding(const struct privileges *privileges, struct error *err)
{
    if (!privileges->change)
        return OK;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
        return fail_errno(err, errno, "cannot keep capabilities");
    if (become(privileges, err) != OK)
        return FAILED;
    if (set_capabilities(1u << CAP_NET_BIND_SERVICE, err) == OK)
        return OK;
    return set_capabilities(0, err); /* root in a container may not have had it */
}

enum result privileges_drop(const struct privileges *privileges, struct error *err)
{
    if (become(privileges, err) != OK)
        return FAILED;
    /* a service manager may have given some to a user that was never root */
    if ((privileges->change || geteuid() != 0) && set_capabilities(0, err) != OK)
        return FAILED;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return fail_errno(err, errno, "cannot give up privileges");
    return OK;
}
