/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/sandbox_test.c - what a confined process can do no more, and what it still can. */
#include "daemon/sandbox.h"

#include "base/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Each is tried in a process of its own; true: it could be done. */
typedef bool attempt(const char *folder);

static bool opens(const char *folder, const char *name, int flags)
{
    char path[512];
    snprintf(path, sizeof path, "%s%s", folder, name);
    int fd = open(path, flags | O_CLOEXEC, 0600);
    return fd >= 0 && close(fd) == 0;
}

static bool read_named(const char *folder)
{
    return opens(folder, "/named/file", O_RDONLY);
}

static bool read_beside_named(const char *folder)
{
    return opens(folder, "/named/replaced", O_RDONLY);
}

static bool read_behind_link(const char *folder)
{
    return opens(folder, "/named/link", O_RDONLY);
}

static bool write_named(const char *folder)
{
    return opens(folder, "/named/file", O_WRONLY);
}

static bool read_unnamed(const char *folder)
{
    return opens(folder, "/unnamed/file", O_RDONLY);
}

static bool write_spool(const char *folder)
{
    char from[512], to[512];
    snprintf(from, sizeof from, "%s/spool/a/new", folder);
    snprintf(to, sizeof to, "%s/spool/b/new", folder);
    return opens(from, "", O_WRONLY | O_CREAT | O_TRUNC) && rename(from, to) == 0 &&
           truncate(to, 1) == 0 && unlink(to) == 0;
}

static bool write_unnamed(const char *folder)
{
    return opens(folder, "/unnamed/new", O_WRONLY | O_CREAT);
}

static bool list_root(const char *folder)
{
    (void)folder;
    return opens("/", "", O_RDONLY | O_DIRECTORY);
}

static bool read_resolver(const char *folder)
{
    (void)folder;
    return opens("/etc/hosts", "", O_RDONLY);
}

static bool start_program(const char *folder)
{
    (void)folder;
    char *arguments[] = {(char *)"true", NULL};
    execv("/bin/true", arguments);
    return false; /* had it worked, /bin/true says so with status 0 */
}

static bool start_process(const char *folder)
{
    (void)folder;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return child > 0;
}

static void *nothing(void *argument)
{
    return argument;
}

static bool start_thread(const char *folder)
{
    (void)folder;
    pthread_t thread;
    return pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0;
}

static bool look_into_process(const char *folder)
{
    (void)folder;
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static bool write_code(const char *folder)
{
    (void)folder;
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0) != MAP_FAILED;
}

static bool make_code(const char *folder)
{
    (void)folder;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page != MAP_FAILED && mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0;
}

static bool use_memory(const char *folder)
{
    (void)folder;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page != MAP_FAILED && mprotect(page, 4096, PROT_READ) == 0;
}

static bool open_raw_socket(const char *folder)
{
    (void)folder;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    return fd >= 0 || errno != EAFNOSUPPORT;
}

static bool open_old_socket(const char *folder)
{
    (void)folder;
    int fd = socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    return fd >= 0;
}

static bool list_interfaces(const char *folder)
{
    (void)folder;
    struct ifaddrs *list;
    if (getifaddrs(&list) != 0)
        return false;
    freeifaddrs(list);
    return true;
}

static bool listen_and_connect(const char *folder)
{
    (void)folder;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return bind(server, (struct sockaddr *)&address, size) == 0 && listen(server, 1) == 0 &&
           getsockname(server, (struct sockaddr *)&address, &size) == 0 &&
           connect(client, (struct sockaddr *)&address, size) == 0;
}

static const struct {
    const char *name;
    attempt *try;
    bool allowed;
    bool of_paths; /* a matter of Landlock */
    bool of_leaks; /* the search for leaks needs it */
} cases[] = {
    {"a file that the configuration names is read", read_named, true, true, false},
    {"so is what replaces it later", read_beside_named, true, true, false},
    {"so is the target of a link", read_behind_link, true, true, false},
    {"it is not written", write_named, false, true, false},
    {"other files are not read", read_unnamed, false, true, false},
    {"the spool is written, across its folders", write_spool, true, true, false},
    {"nothing is written elsewhere", write_unnamed, false, true, false},
    {"the root is not listed", list_root, false, true, false},
    {"the system's files are read", read_resolver, true, true, false},
    {"no program is started", start_program, false, false, false},
    {"no process is made", start_process, false, false, true},
    {"threads are", start_thread, true, false, false},
    {"no process is looked into", look_into_process, false, false, true},
    {"no memory is written and executed", write_code, false, false, false},
    {"no memory becomes code", make_code, false, false, false},
    {"memory is had and protected", use_memory, true, false, false},
    {"no raw packets", open_raw_socket, false, false, false},
    {"no odd families of sockets", open_old_socket, false, false, false},
    {"interfaces are listed", list_interfaces, true, false, false},
    {"TCP works", listen_and_connect, true, false, false},
};

static void make_file(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void make_world(char *folder)
{
    static const char *const folders[] = {"named", "unnamed", "linked",
                                          "spool", "spool/a", "spool/b"};
    char path[512], target[512];
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    make_file(folder, "named/file");
    make_file(folder, "named/replaced");
    make_file(folder, "unnamed/file");
    make_file(folder, "linked/file");
    snprintf(target, sizeof target, "%s/linked/file", folder);
    snprintf(path, sizeof path, "%s/named/link", folder);
    assert_int_equal(symlink(target, path), 0);
}

static void remove_world(const char *folder)
{
    static const char *const names[] = {
        "named/link",  "named/file", "named/replaced", "unnamed/file", "unnamed/new",
        "linked/file", "named",      "unnamed",        "linked",       "spool/a/new",
        "spool/b/new", "spool/a",    "spool/b",        "spool",        ""};
    char path[512];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
}

enum { COULD = 0, COULD_NOT = 10, NOT_CONFINED = 20, NO_LANDLOCK = 30 };

static int try_confined(const char *folder, size_t at)
{
    char named[512], link[512], spool[512];
    struct error err;
    enum sandbox_paths paths;
    snprintf(named, sizeof named, "%s/named/file", folder);
    snprintf(link, sizeof link, "%s/named/link", folder);
    snprintf(spool, sizeof spool, "%s/spool", folder);
    struct str readable[] = {str_c(named), str_c(link), STR("/no/such/file")};
    struct str writable[] = {str_c(spool), STR_EMPTY};
    struct sandbox wanted = {readable, 3, writable, 2};
    if (sandbox_enter(&wanted, &paths, &err) != OK)
        return NOT_CONFINED;
    if (cases[at].of_paths && paths == SANDBOX_NO_LANDLOCK)
        return NO_LANDLOCK;
    return cases[at].try(folder) ? COULD : COULD_NOT;
}

/* The exit status: of the case, confined or free. */
static int run(const char *folder, size_t at, bool confined)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(confined ? try_confined(folder, at) : cases[at].try(folder) ? COULD : COULD_NOT);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_confined(void **state)
{
    (void)state;
    char folder[] = "/tmp/postern-confine-XXXXXX";
    make_world(folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
#ifdef __SANITIZE_ADDRESS__
        if (cases[i].of_leaks)
            continue;
#endif
        int seen = run(folder, i, true);
        if (seen == NO_LANDLOCK)
            print_message("%s: this kernel has no Landlock\n", cases[i].name);
        else if (seen != (cases[i].allowed ? COULD : COULD_NOT))
            fail_msg("%s: %d", cases[i].name, seen);
    }
    remove_world(folder);
}

/* The same can be done by a process that is not confined: so it is the confinement that refuses. */
static void test_unconfined(void **state)
{
    (void)state;
    char folder[] = "/tmp/postern-confine-XXXXXX";
    make_world(folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (cases[i].try != open_old_socket && run(folder, i, false) != COULD)
            fail_msg("%s", cases[i].name);
    remove_world(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_confined),
        cmocka_unit_test(test_unconfined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
