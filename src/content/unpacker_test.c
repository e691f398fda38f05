/* SPDX-License-Identifier: Apache-2.0 */
/* content/unpacker_test.c - the processes that look into archives: answers, nonsense, deaths. */
#include "content/unpacker.h"

#include "base/buf.h"
#include "base/test.h"
#include "content/unpack_test.h"
#include "content/unpack_wire.h"
#include "fiber/test.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct unpack_limits usual = {
    .depth = 5, .ratio = 0, .members = 1000, .bytes = 200 << 20};

/* ---- frames ---- */

static void test_frames(void **unused)
{
    (void)unused;
    struct buf out BUF_CLEANUP;
    struct unpack_member member = {.depth = 2,
                                   .type = FILETYPE_RAR,
                                   .flags = UNPACK_OVER | UNPACK_MACRO,
                                   .name = STR("a b"),
                                   .why = STR("too deep")};
    struct unpack_member got;
    struct unpack_limits limits;
    struct unpack_spent spent = {7, UINT64_C(1) << 40};
    struct unpack_frame frame;
    struct error err;
    buf_init(&out, 4096);
    unpack_begin_append(&out, &usual);
    unpack_frame_append(&out, UNPACK_FRAME_DATA, STR("bytes"));
    unpack_member_append(&out, &member);
    unpack_done_append(&out, &spent);
    struct str rest = buf_str(&out);
    bool whole;
    assert_int_equal(unpack_frame_take(&rest, &frame, &whole, &err), OK);
    assert_int_equal(unpack_begin_read(frame.payload, &limits, &err), OK);
    assert_int_equal(limits.depth, usual.depth);
    assert_int_equal(limits.members, usual.members);
    assert_int_equal(limits.bytes, usual.bytes);
    assert_int_equal(unpack_frame_take(&rest, &frame, &whole, &err), OK);
    assert_str(frame.payload, "bytes");
    assert_int_equal(unpack_frame_take(&rest, &frame, &whole, &err), OK);
    assert_int_equal(unpack_member_read(frame.payload, &got, &err), OK);
    assert_int_equal(got.depth, 2);
    assert_int_equal(got.type, FILETYPE_RAR);
    assert_int_equal(got.flags, UNPACK_OVER | UNPACK_MACRO);
    assert_str(got.name, "a b");
    assert_str(got.why, "too deep");
    assert_int_equal(unpack_frame_take(&rest, &frame, &whole, &err), OK);
    assert_int_equal(unpack_done_read(frame.payload, &spent, &err), OK);
    assert_int_equal(spent.bytes, UINT64_C(1) << 40);
    assert_int_equal(rest.len, 0);
}

static void test_broken_frames(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        struct str bytes;
        enum result result;
    } cases[] = {
        {"nothing", {"", 0}, OK},
        {"half a head", {"D\0\0", 3}, OK},
        {"half of it",
         {"D\0\0\0\x05"
          "ab",
          7},
         OK},
        {"an unknown kind", {"?", 1}, FAILED},
        {"too long", {"D\0\1\0\0", 5}, FAILED},
        {"far too long", {"D\xff\xff\xff\xff", 5}, FAILED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct str rest = cases[i].bytes;
        struct unpack_frame frame;
        struct error err;
        bool whole = true;
        if (unpack_frame_take(&rest, &frame, &whole, &err) != cases[i].result || whole ||
            rest.len != cases[i].bytes.len)
            fail_msg("%s", cases[i].name);
    }
    static const struct str members[] = {
        {"", 0},
        {"\x01\x01\0\0\0\0", 6},      /* too short */
        {"\x0b\x01\0\0\0\0\0", 7},    /* too deep */
        {"\x01\xff\0\0\0\0\0", 7},    /* an unknown type */
        {"\x01\x01\x10\0\0\0\0", 7},  /* an unknown flag */
        {"\x01\x01\0\0\x02\0\0a", 8}, /* more name than there is */
        {"\x01\x01\0\0\0\0\0a", 8},   /* and less */
        {"\x01\x01\0\xff\xff\0\0", 7},
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        struct unpack_member member;
        struct error err;
        if (unpack_member_read(members[i], &member, &err) != FAILED)
            fail_msg("member %zu", i);
    }
}

/* ---- a door with its process ---- */

struct house {
    struct unpacker unpacker;
    pid_t pid;
};

static void open_house(struct house *house)
{
    struct error err;
    int ends[2];
    check(unpacker_open(ends, &err) == OK);
    house->pid = fork();
    if (house->pid == 0) {
        close(ends[0]);
        unpacker_run(ends[1]);
    }
    close(ends[1]);
    house->unpacker.door = ends[0];
}

/* It ends by itself when its door is closed. */
static void close_house(struct house *house)
{
    int status;
    close(house->unpacker.door);
    check(waitpid(house->pid, &status, 0) == house->pid);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

struct asking {
    const struct unpacker *unpacker;
    struct str file;
    struct buf told;
    struct unpack_spent spent;
    unsigned times;
    enum result result;
    struct error err;
};

static enum result note(void *context, const struct unpack_member *member, struct error *err)
{
    struct asking *asking = context;
    (void)err;
    buf_printf(&asking->told, "%u %.*s %u|", member->depth, STR_ARG(member->name), member->flags);
    return OK;
}

static MAY_YIELD void ask(void *arg)
{
    struct asking *asking = arg;
    struct unpacking *unpacking = NULL;
    buf_init(&asking->told, 1 << 20);
    asking->result = unpacking_open(asking->unpacker, &unpacking, &asking->err);
    for (unsigned i = 0; i < asking->times && asking->result == OK; i++) {
        asking->result = unpacking_begin(unpacking, &usual, &asking->err);
        if (asking->result == OK)
            asking->result = unpacking_write(unpacking, asking->file, &asking->err);
        if (asking->result == OK)
            asking->result =
                unpacking_finish(unpacking, note, asking, &asking->spent, &asking->err);
    }
    unpacking_close(unpacking);
}

static void test_asked(void **unused)
{
    (void)unused;
    struct house house;
    struct str zip = test_archive_of(TEST_ZIP, "x.exe", STR("MZ"));
    struct asking asking = {.unpacker = &house.unpacker, .file = zip, .times = 2};
    open_house(&house);
    test_in_fiber(ask, &asking);
    assert_int_equal(asking.result, OK);
    assert_str(buf_str(&asking.told), "1 x.exe 0|0  0|1 x.exe 0|0  0|");
    assert_int_equal(asking.spent.members, 1);
    assert_int_equal(asking.spent.bytes, 2);
    buf_done(&asking.told);
    close_house(&house);
    free((char *)zip.ptr);
}

/* More than run at a time: all are served. */
static void test_many(void **unused)
{
    (void)unused;
    enum { MANY = 40 };
    struct house house;
    struct test_loop test;
    struct asking asking[MANY];
    struct str zip = test_archive_of(TEST_ZIP, "x.exe", STR("MZ"));
    open_house(&house);
    test_loop_open(&test, NULL);
    for (int i = 0; i < MANY; i++) {
        asking[i] = (struct asking){.unpacker = &house.unpacker, .file = zip, .times = 1};
        test_loop_spawn(&test, ask, &asking[i]);
    }
    test_loop_run(&test);
    test_loop_close(&test);
    for (int i = 0; i < MANY; i++) {
        if (asking[i].result != OK)
            fail_msg("%d: %s", i, asking[i].err.text);
        assert_str(buf_str(&asking[i].told), "1 x.exe 0|0  0|");
        buf_done(&asking[i].told);
    }
    close_house(&house);
    free((char *)zip.ptr);
}

/* What bombs make of the processes that look into them. */
static void test_memory(void **unused)
{
    (void)unused;
    static const enum test_format formats[] = {TEST_GZ, TEST_XZ, TEST_BZ2, TEST_ZIP, TEST_TAR_GZ};
    enum { BOMB = 30 << 20, MEMORY_MAX_KIB = 64 * 1024 };
    struct house house;
    struct rusage used;
    int status;
    open_house(&house); /* first: it begins with the memory of this process */
    char *zeros = memory_alloc(BOMB);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct str bomb = test_archive_of(formats[i], "x", str_of(zeros, BOMB));
        struct asking asking = {.unpacker = &house.unpacker, .file = bomb, .times = 1};
        test_in_fiber(ask, &asking);
        assert_int_equal(asking.result, OK);
        assert_int_equal(asking.spent.bytes, BOMB);
        buf_done(&asking.told);
        free((char *)bomb.ptr);
    }
    free(zeros);
    close(house.unpacker.door);
    check(wait4(house.pid, &status, 0, &used) == house.pid); /* of its children, too */
#ifndef __SANITIZE_ADDRESS__
    assert_in_range(used.ru_maxrss, 1, MEMORY_MAX_KIB);
#endif
}

/* Larger than it takes: told so, and the next file is looked at as if nothing had been. */
static void test_large(void **unused)
{
    (void)unused;
    struct house house;
    size_t size = UNPACK_INPUT_MAX + 1;
    char *zeros = memory_alloc(size);
    struct asking asking = {.unpacker = &house.unpacker, .file = str_of(zeros, size), .times = 1};
    open_house(&house);
    test_in_fiber(ask, &asking);
    assert_int_equal(asking.result, OK);
    assert_str(buf_str(&asking.told), "0  8|");
    buf_done(&asking.told);
    close_house(&house);
    free(zeros);
}

static void test_nobody(void **unused)
{
    (void)unused;
    struct asking asking = {.times = 1};
    test_in_fiber(ask, &asking);
    assert_int_equal(asking.result, FAILED);
    assert_string_equal(asking.err.text, "there is no process that unpacks");
    buf_done(&asking.told);
}

/* ---- its processes, seen from outside ---- */

/* The one process that works; 0: none. */
static pid_t worker_of(const struct house *house)
{
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)house->pid, (int)house->pid);
    FILE *file = fopen(path, "re");
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    uint64_t pid = 0;
    ptrdiff_t blank = str_find(str_of(text, len), ' ');
    return blank > 0 && str_to_uint(str_slice(str_c(text), 0, (size_t)blank), INT32_MAX, &pid)
               ? (pid_t)pid
               : 0;
}

static bool says(pid_t pid, const char *line)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    size_t len = file ? fread(text, 1, sizeof text, file) : 0;
    if (file)
        fclose(file);
    return str_find_str(str_of(text, len), str_c(line)) >= 0;
}

struct watching {
    const struct house *house;
    bool confined;
    bool ended; /* after nobody listened any more */
    enum result result;
    struct error err;
};

static enum result ignore(void *context, const struct unpack_member *member, struct error *err)
{
    (void)context, (void)member, (void)err;
    return OK;
}

static MAY_YIELD pid_t wait_for_worker(const struct house *house, bool confined)
{
    struct error err;
    pid_t pid = 0;
    for (int i = 0; i < 60000 && (!pid || (confined && !says(pid, "Seccomp:\t2\n"))); i++) {
        check(fiber_sleep(2 * NS_PER_MS, &err) == OK);
        pid = worker_of(house);
    }
    return pid;
}

static MAY_YIELD void crash_it(void *arg)
{
    struct watching *watching = arg;
    struct unpacking *unpacking;
    struct unpack_spent spent;
    check(unpacking_open(&watching->house->unpacker, &unpacking, &watching->err) == OK);
    check(unpacking_begin(unpacking, &usual, &watching->err) == OK);
    pid_t pid = wait_for_worker(watching->house, /* confined= */ true);
    watching->confined = pid && says(pid, "Seccomp:\t2\n") && says(pid, "NoNewPrivs:\t1\n");
    check(pid && kill(pid, SIGKILL) == 0);
    watching->result = unpacking_finish(unpacking, ignore, NULL, &spent, &watching->err);
    unpacking_close(unpacking);
}

static MAY_YIELD void leave_it(void *arg)
{
    struct watching *watching = arg;
    struct unpacking *unpacking;
    check(unpacking_open(&watching->house->unpacker, &unpacking, &watching->err) == OK);
    check(unpacking_begin(unpacking, &usual, &watching->err) == OK);
    pid_t pid = wait_for_worker(watching->house, /* confined= */ true);
    check(pid && kill(pid, SIGSTOP) == 0); /* one that is at work does not see it by itself */
    unpacking_close(unpacking);
    for (int i = 0; i < 60000 && !watching->ended; i++) {
        check(fiber_sleep(2 * NS_PER_MS, &watching->err) == OK);
        watching->ended = worker_of(watching->house) == 0;
    }
}

static void test_crash(void **unused)
{
    (void)unused;
    struct house house;
    struct watching watching = {.house = &house};
    open_house(&house);
    test_in_fiber(crash_it, &watching);
    assert_true(watching.confined);
    assert_int_equal(watching.result, FAILED);
    assert_string_equal(watching.err.text, "the process that unpacks was ended by signal 9");
    close_house(&house);
}

static void test_left(void **unused)
{
    (void)unused;
    struct house house;
    struct watching watching = {.house = &house};
    open_house(&house);
    test_in_fiber(leave_it, &watching);
    assert_true(watching.ended);
    close_house(&house);
}

/* ---- a process that says what the test wants ---- */

struct play {
    const char *name;
    struct str says; /* after the file came; then it ends */
    enum error_kind kind;
    const char *text;
};

static const struct play plays[] = {
    {"silence", {"", 0}, ERROR_TEMPORARY, "the process that unpacks ended without an answer"},
    {"half an answer",
     {"F\0\0\0\x10", 5},
     ERROR_TEMPORARY,
     "the process that unpacks ended without an answer"},
    {"nonsense",
     {"Hello", 5},
     ERROR_PROTOCOL,
     "the process that unpacks: an unknown kind of frame"},
    {"the other's frames",
     {"E\0\0\0\0", 5},
     ERROR_PROTOCOL,
     "the process that unpacks speaks nonsense"},
    {"a member that lies",
     {"M\0\0\0\x07\x01\x01\0\0\x09\0\0", 12},
     ERROR_PROTOCOL,
     "the process that unpacks: MEMBER with impossible values"},
    {"the file again and again",
     {"M\0\0\0\x07\0\1\0\0\0\0\0M\0\0\0\x07\0\1\0\0\0\0\0", 24},
     ERROR_PROTOCOL,
     "the process that unpacks speaks nonsense"},
    {"too much CPU",
     {"X\0\0\0\4\0\0\0\x18", 9},
     ERROR_LIMIT,
     "it takes more than 5 s to look into"},
    {"a crash",
     {"X\0\0\0\4\0\0\0\x0b", 9},
     ERROR_TEMPORARY,
     "the process that unpacks was ended by signal 11"},
};

static void play(int door, const struct play *play)
{
    char control[CMSG_SPACE(sizeof(int))], byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    int fd;
    char space[4096];
    check(recvmsg(door, &message, 0) == 1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    for (ssize_t got; (got = read(fd, space, sizeof space)) > 0;)
        if (got >= 5 && memcmp(space + got - 5, "E\0\0\0\0", 5) == 0)
            break;
    check(write(fd, play->says.ptr, play->says.len) == (ssize_t)play->says.len);
    _exit(0);
}

static void test_plays(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof plays / sizeof *plays; i++) {
        struct error err;
        int ends[2];
        check(unpacker_open(ends, &err) == OK);
        pid_t pid = fork();
        if (pid == 0)
            play(ends[1], &plays[i]);
        close(ends[1]);
        struct unpacker unpacker = {ends[0]};
        struct asking asking = {.unpacker = &unpacker, .file = STR("x"), .times = 1};
        test_in_fiber(ask, &asking);
        if (asking.result != FAILED || asking.err.kind != plays[i].kind ||
            strcmp(asking.err.text, plays[i].text) != 0)
            fail_msg("%s: %s", plays[i].name, asking.err.text);
        buf_done(&asking.told);
        check(waitpid(pid, NULL, 0) == pid);
        close(ends[0]);
    }
}

/* ---- what the serving side makes of nonsense: it ends, and nothing else ---- */

static void test_served(void **unused)
{
    (void)unused;
    static const struct str says[] = {
        {"", 0},
        {"Hello", 5},
        {"E\0\0\0\0", 5}, /* no file was begun */
        {"D\0\0\0\x01x", 6},
        {"B\0\0\0\0", 5}, /* no limits */
        {"M\0\0\0\0", 5},
        {"B\0\0\0\x1c\0\0\0\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 33},
    };
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        int ends[2];
        char space[64];
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        check(write(ends[0], says[i].ptr, says[i].len) == (ssize_t)says[i].len);
        shutdown(ends[0], SHUT_WR);
        unpacker_serve(ends[1]);
        close(ends[1]);
        if (read(ends[0], space, sizeof space) != 0)
            fail_msg("%zu is answered", i);
        close(ends[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames), cmocka_unit_test(test_broken_frames),
        cmocka_unit_test(test_asked),  cmocka_unit_test(test_many),
        cmocka_unit_test(test_large),  cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_crash),
        cmocka_unit_test(test_left),   cmocka_unit_test(test_plays),
        cmocka_unit_test(test_served),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
