/* SPDX-License-Identifier: Apache-2.0 */
/* flow/attachment_test.c - every outcome of the block `attachment`, with real processes. */
#include "flow/run_bench.h"

#include "base/memory.h"
#include "content/unpack_test.h"
#include "content/unpacker.h"
#include "crypto/base64.h"
#include "flow/attachment.h"
#include "mail/header.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a process for all tests ---- */

struct house {
    struct unpacker unpacker;
    pid_t pid;
};

static int open_house(void **state)
{
    static struct house house;
    struct error err;
    int ends[2];
    check(unpacker_open(ends, &err) == OK);
    house.pid = fork();
    if (house.pid == 0) {
        close(ends[0]);
        unpacker_run(ends[1]);
    }
    close(ends[1]);
    house.unpacker.door = ends[0];
    *state = &house;
    return 0;
}

static int close_house(void **state)
{
    struct house *house = *state;
    close(house->unpacker.door);
    check(waitpid(house->pid, NULL, 0) == house->pid);
    return 0;
}

/* ---- a message through one step ---- */

struct looked {
    char outcome[32], detail[400];
    uint64_t limits_reached;
};

static void take_event(const struct event *event, void *arg)
{
    struct looked *looked = arg;
    looked->limits_reached += event->type == EVENT_LIMIT_REACHED;
    for (unsigned i = 0; event->type == EVENT_FLOW_STEP && i < event->count; i++) {
        const struct event_field *field = &event->fields[i];
        if (field->key == KEY_STEP && !str_equal(field->text, STR("1-attachment")))
            return;
        if (field->key == KEY_OUTCOME)
            (void)str_to_c(field->text, looked->outcome, sizeof looked->outcome);
        if (field->key == KEY_DETAIL)
            (void)str_to_c(field->text, looked->detail, sizeof looked->detail);
    }
}

static MAY_YIELD void run_bench(void *arg)
{
    struct bench *bench = arg;
    flow_run_content(bench->flow, &bench->run, &bench->verdict);
}

static NO_YIELD_CHECK void look_within(struct bench *bench, const struct unpacker *unpacker,
                                       const char *steps, struct str text,
                                       const struct flow_limits *limits, struct looked *looked)
{
    struct error err;
    *looked = (struct looked){0};
    bench_open(bench, FLOW_CONTENT, steps);
    clock_set_fake(-1, -1); /* processes have the real one */
    bench->content.body = body_memory_new(128 << 20);
    check(body_append(bench->content.body, text, &err) == OK &&
          body_seal(bench->content.body, &err) == OK);
    size_t header = mail_header_length(text);
    bench->facts.header = str_slice(text, 0, header ? header : text.len);
    bench->facts.size = text.len;
    bench->run.unpacker = unpacker;
    bench->run.limits = limits;
    event_drain(take_event, looked); /* of the tests before */
    *looked = (struct looked){0};
    test_in_fiber(run_bench, bench);
    event_drain(take_event, looked);
}

static void look(struct bench *bench, const struct unpacker *unpacker, const char *steps,
                 struct str text, struct looked *looked)
{
    look_within(bench, unpacker, steps, text, NULL, looked);
}

static void unlook(struct bench *bench)
{
    body_unref(bench->content.body);
    bench_close(bench);
}

/* A message with one attachment, in base64. */
static void put_attachment(struct buf *out, const char *fields, struct str content)
{
    struct buf coded BUF_CLEANUP;
    buf_init(&coded, 90 << 20);
    base64_encode(content, &coded);
    buf_printf(out, "%sContent-Transfer-Encoding: base64\r\n\r\n", fields);
    for (struct str rest = buf_str(&coded); rest.len; rest = str_from(rest, 76)) {
        buf_append(out, str_slice(rest, 0, 76));
        buf_append(out, STR("\r\n"));
    }
}

#define NAMED(name) "Content-Disposition: attachment; filename=\"" name "\"\r\n"
#define PROGRAM     "MZ\x90\0\x03\0\0\0\x04\0\0\0"

struct file_case {
    const char *name;
    const char *options;
    const char *fields;
    struct str content;
    const char *outcome;
    const char *detail; /* "": not compared */
};
#define S(literal)                                                                                 \
    {                                                                                              \
        "" literal, sizeof(literal) - 1                                                            \
    }

static const struct file_case files[] = {
    {"a text", "", NAMED("a.txt"), S("hello"), "clean", ""},
    {"a program", "", NAMED("a.exe"), S(PROGRAM), "forbidden",
     "a.exe: a name of what runs when it is opened"},
    {"a name in capitals", "", NAMED("A.ExE"), S("x"), "forbidden", ""},
    {"a program that calls itself a picture", "", NAMED("a.png"), S(PROGRAM), "forbidden",
     "a.png: of a forbidden type"},
    {"the same where programs are allowed", "types: []", NAMED("a.png"), S(PROGRAM), "disguised",
     "a.png: a program under another name"},
    {"a program without a name", "", "Content-Type: application/octet-stream\r\n", S(PROGRAM),
     "forbidden", "a part without a name (application/octet-stream): of a forbidden type"},
    {"text as it is shown", "", "", S(PROGRAM), "clean", ""},
    {"two extensions", "names: []", NAMED("invoice.pdf.exe"), S("x"), "disguised",
     "invoice.pdf.exe: an extension that hides another one"},
    {"turned", "names: []",
     "Content-Disposition: attachment; "
     "filename*=utf-8''fac%E2%80%AEfdp.scr\r\n",
     S("x"), "disguised", ""},
    {"trailing dots", "", NAMED("a.exe. ."), S("x"), "forbidden", ""},
    {"a second name", "", NAMED("a.txt") "Content-Type: text/plain; name=a.js\r\n", S("x"),
     "forbidden", "a.txt: a name of what runs when it is opened"},
    {"encoded words", "", NAMED("=?utf-8?b?Yi5leGU=?="), S("x"), "forbidden", ""},
    {"a pattern", "names: \"*Invoice*.txt\"", NAMED("my invoice 3.txt"), S("x"), "forbidden",
     "my invoice 3.txt: a forbidden name"},
    {"another name", "names: \"*invoice*.txt\"", NAMED("a.exe"), S("x"), "clean", ""},
    {"the list and a pattern", "names: [ dangerous, \"*.zip\" ]", NAMED("a.js"), S("x"),
     "forbidden", ""},
    {"excepted", "except: \"*.rdp\"", NAMED("office.rdp"), S("x"), "clean", ""},
    {"excepted, but a program", "except: \"*.rdp\"", NAMED("office.rdp"), S(PROGRAM), "forbidden",
     "office.rdp: of a forbidden type"},
    {"by kind", "types: [ image ]", NAMED("a.bin"), S("\x89PNG\r\n\x1a\n"), "forbidden", ""},
    {"by media type", "types: \"image/*\"", NAMED("a.bin"), S("GIF89a"), "forbidden", ""},
    {"by what it is said to be", "types: \"application/x-evil\"",
     NAMED("a.bin") "Content-Type: application/X-Evil\r\n", S("x"), "forbidden", ""},
    {"a picture of another kind", "", NAMED("a.jpg"), S("\x89PNG\r\n\x1a\n"), "clean", ""},
    {"not a picture", "", NAMED("a.jpg"), S("%PDF-1.4"), "mismatch",
     "a.jpg: not what it says that it is"},
    {"not the type it has", "", NAMED("a.bin") "Content-Type: image/png\r\n", S("%PDF-1.4"),
     "mismatch", ""},
    {"a piece of a message", "", "Content-Type: message/partial; number=1\r\n", S("x"),
     "unreadable", ""},
    {"a message in base64", "", "Content-Type: message/rfc822\r\n", S("x"), "unreadable", ""},
    {"two types", "", "Content-Type: text/plain\r\nContent-Type: text/html\r\n", S("x"),
     "unreadable", "a part without a name (text/plain): it says twice what it is"},
    {"not an archive", "", NAMED("a.zip"), S("hello"), "unreadable", ""},
    {"an archive of a kind we cannot open", "", NAMED("a.ace"), S("1234567**ACE**"), "unreadable",
     "a.ace: of a kind that cannot be read here"},
};

static void test_files(void **state)
{
    struct house *house = *state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const struct file_case *c = &files[i];
        struct buf text BUF_CLEANUP;
        struct bench bench;
        struct looked looked;
        char steps[300];
        buf_init(&text, 1 << 20);
        put_attachment(&text, c->fields, c->content);
        snprintf(steps, sizeof steps, "[ attachment: { %s }, deliver ]", c->options);
        look(&bench, &house->unpacker, steps, buf_str(&text), &looked);
        if (strcmp(looked.outcome, c->outcome) != 0 ||
            (*c->detail && strcmp(looked.detail, c->detail) != 0))
            fail_msg("%s: %s, %s", c->name, looked.outcome, looked.detail);
        bool refused = strcmp(c->outcome, "forbidden") == 0 || strcmp(c->outcome, "disguised") == 0;
        assert_int_equal(bench.verdict.kind, refused ? FLOW_REJECT : FLOW_DELIVER);
        if (refused)
            assert_int_equal(bench.verdict.reason, MAIL_REASON_ATTACHMENT);
        unlook(&bench);
    }
}

/* ---- archives ---- */

struct archive_case {
    const char *name;
    const char *options;
    const char *file;
    enum test_format format;
    const char *member;
    struct str content;
    const char *outcome, *detail;
};

static const struct archive_case archives[] = {
    {"harmless", "", "a.zip", TEST_ZIP, "b.txt", S("hello"), "clean", ""},
    {"a name", "", "a.zip", TEST_ZIP, "d/b.js", S("hello"), "forbidden",
     "d/b.js in a.zip: a name of what runs when it is opened"},
    {"a type", "", "a.zip", TEST_ZIP, "b.txt", S(PROGRAM), "forbidden",
     "b.txt in a.zip: of a forbidden type"},
    {"not looked into", "inside: false", "a.zip", TEST_ZIP, "b.exe", S(PROGRAM), "clean", ""},
    {"not looked into, but an archive", "inside: false, types: archive", "a.zip", TEST_ZIP, "b.txt",
     S("x"), "forbidden", "a.zip: of a forbidden type"},
    {"secret", "", "a.zip", TEST_SECRET_ZIP, "b.txt", S("hello"), "encrypted", ""},
    {"secret with a name", "", "a.zip", TEST_SECRET_ZIP, "b.exe", S("hello"), "forbidden", ""},
    {"7z", "", "a.7z", TEST_SEVEN_ZIP, "b.scr", S("x"), "forbidden", ""},
    {"an image", "", "a.iso.txt", TEST_ISO, "b.lnk", S("x"), "forbidden", ""},
    {"tar.gz", "", "a.tgz", TEST_TAR_GZ, "b.ps1", S("x"), "forbidden", ""},
    {"gz takes the name of what it packs", "", "b.exe.gz", TEST_GZ, "", S("x"), "forbidden",
     "b.exe in b.exe.gz: a name of what runs when it is opened"},
    {"a hostile name", "", "a.zip", TEST_ZIP, "../`x`\n\x1b[2J.exe", S("x"), "forbidden",
     "../`x`??[2J.exe in a.zip: a name of what runs when it is opened"},
    {"macros", "", "a.docx", TEST_ZIP, "word/vbaProject.bin", S("x"), "macro", "a.docx: macros"},
    {"macros, refused", "macro: reject", "a.docx", TEST_ZIP, "word/vbaProject.bin", S("x"), "macro",
     ""},
    {"an archive under another name", "", "a.pdf", TEST_ZIP, "b.txt", S("x"), "mismatch", ""},
};

static void test_archives(void **state)
{
    struct house *house = *state;
    for (size_t i = 0; i < sizeof archives / sizeof *archives; i++) {
        const struct archive_case *c = &archives[i];
        struct buf text BUF_CLEANUP;
        struct bench bench;
        struct looked looked;
        char steps[300], fields[200];
        struct str archive = test_archive_of(c->format, c->member, c->content);
        buf_init(&text, 8 << 20);
        snprintf(fields, sizeof fields, "Content-Disposition: attachment; filename=%s\r\n",
                 c->file);
        put_attachment(&text, fields, archive);
        snprintf(steps, sizeof steps, "[ attachment: { %s }, deliver ]", c->options);
        look(&bench, &house->unpacker, steps, buf_str(&text), &looked);
        if (strcmp(looked.outcome, c->outcome) != 0 ||
            (*c->detail && strcmp(looked.detail, c->detail) != 0))
            fail_msg("%s: %s, %s", c->name, looked.outcome, looked.detail);
        if (strstr(c->options, "macro: reject"))
            expect(&bench, FLOW_REJECT, "554 5.7.1 Documents with macros are not accepted here",
                   "1-attachment");
        unlook(&bench);
        free((char *)archive.ptr);
    }
}

/* A program that readers find: how the message is written must not hide it. */
#define PART(fields) fields "Content-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAAEAAAA\r\n"
#define OCTETS       "Content-Type: application/octet-stream\r\n"
#define LONG_99                                                                                    \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"  \
    "123456789"
static const struct {
    const char *name, *text, *outcome;
    size_t padding; /* bytes of a field where %s stands */
} hidden[] = {
    {"as it should be",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" PART(OCTETS) "--b--\r\n",
     "forbidden", 0},
    {"a part with a long header",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: %s\r\n" PART(OCTETS) "--b--\r\n",
     "forbidden", 60000},
    {"a part with a longer header",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: %s\r\n" PART(OCTETS) "--b--\r\n",
     "limit", 66000},
    {"a header that is longer and has no end",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: %s\r\n" OCTETS "--b--\r\n",
     "limit", 66000},
    {"a long boundary",
     "Content-Type: multipart/mixed; boundary=" LONG_99 LONG_99 LONG_99 "\r\n\r\n"
     "--" LONG_99 LONG_99 LONG_99 "\r\n" PART(OCTETS) "--" LONG_99 LONG_99 LONG_99 "--\r\n",
     "forbidden", 0},
    {"a longer boundary", "Content-Type: multipart/mixed; boundary=%s\r\n\r\n--x\r\n" PART(OCTETS),
     "limit", 1000},
    {"a comment before the type",
     "Content-Type: (x;y) multipart/mixed; boundary=b\r\n\r\n--b\r\n" PART(OCTETS) "--b--\r\n",
     "forbidden", 0},
    {"comments around the slash",
     "Content-Type: multipart (x) / (y) mixed; boundary=b\r\n\r\n--b\r\n" PART(OCTETS) "--b--\r\n",
     "forbidden", 0},
    {"comments in a part",
     "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
     "Content-Type: (x) application/octet-stream\r\n"
     "Content-Transfer-Encoding: (x) base64\r\n\r\nTVqQAAMAAAAEAAAA\r\n--b--\r\n",
     "forbidden", 0},
    {"a blank at the end of the boundary",
     "Content-Type: multipart/mixed; boundary=\"b \"\r\n\r\n--b\r\n" PART(OCTETS) "--b--\r\n",
     "forbidden", 0},
    {"no boundary", "Content-Type: multipart/mixed\r\n\r\n--b\r\n" PART(OCTETS) "--b--\r\n",
     "unreadable", 0},
    {"two boundaries",
     "Content-Type: multipart/mixed; boundary=a; boundary=b\r\n\r\n--b\r\n" PART(
         OCTETS) "--b--\r\n",
     "unreadable", 0},
};

static void test_hidden(void **state)
{
    struct house *house = *state;
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        struct buf text BUF_CLEANUP;
        struct bench bench;
        struct looked looked;
        char *padding = memory_alloc(hidden[i].padding + 1);
        memset(padding, 'x', hidden[i].padding);
        struct str form = str_c(hidden[i].text);
        ptrdiff_t at = str_find_str(form, STR("%s"));
        buf_init(&text, 1 << 20);
        buf_append(&text, str_slice(form, 0, at < 0 ? form.len : (size_t)at));
        buf_append(&text, str_c(padding));
        if (at >= 0)
            buf_append(&text, str_from(form, (size_t)at + 2));
        free(padding);
        look(&bench, &house->unpacker, "[ attachment, deliver ]", buf_str(&text), &looked);
        if (strcmp(looked.outcome, hidden[i].outcome) != 0)
            fail_msg("%s: %s, %s", hidden[i].name, looked.outcome, looked.detail);
        unlook(&bench);
    }
}

/* Its name is a subject; what is attached to it counts. */
static void test_messages(void **state)
{
    struct house *house = *state;
    static const struct {
        const char *text, *outcome;
    } cases[] = {
        {"Subject: in\r\n\r\nhello", "clean"},
        {NAMED("a.exe") "Content-Type: x/y\r\n\r\nhello", "forbidden"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf text BUF_CLEANUP;
        struct bench bench;
        struct looked looked;
        buf_init(&text, 1 << 20);
        buf_printf(&text, "Content-Type: message/rfc822; name=\"Re: example.com\"\r\n\r\n%s",
                   cases[i].text);
        look(&bench, &house->unpacker, "[ attachment, deliver ]", buf_str(&text), &looked);
        assert_string_equal(looked.outcome, cases[i].outcome);
        unlook(&bench);
    }
}

/* What is told of it can be asked for by later steps. */
static void test_findings(void **state)
{
    struct house *house = *state;
    struct buf text BUF_CLEANUP;
    struct bench bench;
    struct looked looked;
    struct str archive = test_archive_of(TEST_SECRET_ZIP, "b.txt", STR("x"));
    buf_init(&text, 1 << 20);
    put_attachment(&text, NAMED("a.zip"), archive);
    look(&bench, &house->unpacker,
         "[ attachment, match: { when: 'findings ~ \"attachment-encrypted\"', matched: hold "
         "}, "
         "deliver ]",
         buf_str(&text), &looked);
    assert_int_equal(bench.verdict.kind, FLOW_HOLD);
    unlook(&bench);
    free((char *)archive.ptr);
}

static void test_preset(void **state)
{
    struct house *house = *state;
    struct buf text BUF_CLEANUP;
    struct bench bench;
    struct looked looked;
    buf_init(&text, 1 << 20);
    put_attachment(&text, NAMED("a.foo"), STR("x"));
    look(&bench, &house->unpacker, "{ preset: outgoing, attachment: { names: \"*.foo\" } }",
         buf_str(&text), &looked);
    expect(&bench, FLOW_REJECT, "554 5.7.1 An attachment is of a kind that is not accepted here",
           "1-attachment");
    unlook(&bench);
}

/* ---- what must not happen to the gateway ---- */

/* A door behind which somebody takes what comes and ends. */
static void test_process_ends(void **state)
{
    (void)state;
    struct buf text BUF_CLEANUP;
    struct bench bench;
    struct looked looked;
    struct error err;
    int ends[2];
    struct str archive = test_archive_of(TEST_ZIP, "b.txt", STR("x"));
    check(unpacker_open(ends, &err) == OK);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        check(recv(ends[1], &byte, 1, 0) == 1); /* the descriptor is dropped */
        _exit(0);
    }
    close(ends[1]);
    struct unpacker unpacker = {ends[0]};
    buf_init(&text, 1 << 20);
    put_attachment(&text, NAMED("a.zip"), archive);
    look(&bench, &unpacker, "[ attachment, deliver ]", buf_str(&text), &looked);
    assert_string_equal(looked.outcome, "error");
    assert_int_equal(bench.verdict.kind, FLOW_DEFER);
    assert_int_equal(bench.verdict.reason, MAIL_REASON_BACKEND_DOWN);
    unlook(&bench);
    check(waitpid(pid, NULL, 0) == pid);
    close(ends[0]);
    free((char *)archive.ptr);
}

/* A name counts even where nothing can be looked into. */
static void test_name_without_process(void **state)
{
    (void)state;
    struct buf text BUF_CLEANUP;
    struct bench bench;
    struct looked looked;
    struct str archive = test_archive_of(TEST_ZIP, "b.txt", STR("x"));
    buf_init(&text, 1 << 20);
    put_attachment(&text, NAMED("a.zip.exe"), archive);
    look(&bench, NULL, "[ attachment, deliver ]", buf_str(&text), &looked);
    assert_string_equal(looked.outcome, "forbidden");
    unlook(&bench);
    buf_clear(&text);
    put_attachment(&text, NAMED("a.zip"), archive);
    look(&bench, NULL, "[ attachment, deliver ]", buf_str(&text), &looked);
    assert_string_equal(looked.detail, "archives are not looked into here");
    unlook(&bench);
    free((char *)archive.ptr);
}

/* Bombs: over the limits of the flow, and no more than that was done. */
static void test_limits(void **state)
{
    struct house *house = *state;
    char *zeros = memory_alloc(24 << 20);
    struct str bomb = test_archive_of(TEST_GZ, "", str_of(zeros, 24 << 20));
    static const struct {
        const char *name, *options;
        struct flow_limits limits;
        const char *outcome;
    } cases[] = {
        {"ratio", "", {180 * NS_PER_S, 64 << 20, 200 << 20, 2000, 32}, "limit"},
        {"any ratio", "ratio: 0", {180 * NS_PER_S, 64 << 20, 200 << 20, 2000, 32}, "clean"},
        {"bytes", "ratio: 0", {180 * NS_PER_S, 64 << 20, 8 << 20, 2000, 32}, "limit"},
        {"bytes of the part itself", "", {180 * NS_PER_S, 64 << 20, 1000, 2000, 32}, "limit"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf text BUF_CLEANUP;
        struct bench bench;
        struct looked looked;
        char steps[200];
        snprintf(steps, sizeof steps, "[ attachment: { %s }, deliver ]", cases[i].options);
        buf_init(&text, 1 << 20);
        put_attachment(&text, NAMED("a.gz"), bomb);
        look_within(&bench, &house->unpacker, steps, buf_str(&text), &cases[i].limits, &looked);
        if (strcmp(looked.outcome, cases[i].outcome) != 0)
            fail_msg("%s: %s, %s", cases[i].name, looked.outcome, looked.detail);
        unlook(&bench);
    }
    free((char *)bomb.ptr);
    free(zeros);
}

/* Archives in archives: by the step's depth and by that of the message, whichever is less. */
static void test_depth(void **state)
{
    struct house *house = *state;
    static const struct {
        const char *options;
        int64_t depth;
        const char *outcome;
    } cases[] = {{"", 32, "forbidden"},     {"depth: 3", 32, "forbidden"},
                 {"depth: 2", 32, "limit"}, {"depth: 1", 32, "limit"},
                 {"", 3, "forbidden"},      {"", 2, "limit"}};
    struct str inner = test_archive_of(TEST_ZIP, "x.js", STR("x"));
    struct str middle = test_archive_of(TEST_TAR_GZ, "in.zip", inner);
    struct str outer = test_archive_of(TEST_ZIP, "in.tgz", middle);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf text BUF_CLEANUP;
        struct bench bench;
        struct looked looked;
        char steps[200];
        struct flow_limits limits = flow_limits_default;
        limits.depth = cases[i].depth;
        snprintf(steps, sizeof steps, "[ attachment: { %s }, deliver ]", cases[i].options);
        buf_init(&text, 1 << 20);
        put_attachment(&text, NAMED("a.zip"), outer);
        look_within(&bench, &house->unpacker, steps, buf_str(&text), &limits, &looked);
        if (strcmp(looked.outcome, cases[i].outcome) != 0)
            fail_msg("%s, %d: %s, %s", cases[i].options, (int)cases[i].depth, looked.outcome,
                     looked.detail);
        unlook(&bench);
    }
    free((char *)inner.ptr);
    free((char *)middle.ptr);
    free((char *)outer.ptr);
}

/* Thousands of parts, each an attachment: the limit of parts; within it each is looked at once. */
static void test_parts(void **state)
{
    struct house *house = *state;
    static const int counts[] = {500, 1000, 1990, 60000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct buf text BUF_CLEANUP;
        struct bench bench;
        struct looked looked;
        buf_init(&text, 16 << 20);
        buf_append(&text, STR("Content-Type: multipart/mixed; boundary=b\r\n\r\n"));
        for (int k = 0; k < counts[i]; k++)
            buf_append(&text, STR("--b\r\n" NAMED("a.js") "\r\nx\r\n"));
        look(&bench, &house->unpacker, "[ attachment, deliver ]", buf_str(&text), &looked);
        bool over = counts[i] > 2000;
        assert_string_equal(looked.outcome, over ? "limit" : "forbidden");
        assert_in_range(bench.verdict.effects.finding_count, 1, 30);
        unlook(&bench);
    }
}

/* ---- the file of the configuration ---- */

static void test_refused_options(void **state)
{
    (void)state;
    static const struct {
        const char *options, *code;
    } cases[] = {
        {"names: exe", "wrong-value"},  {"types: programs", "wrong-value"},
        {"depth: 11", "out-of-bounds"}, {"depth: 0", "out-of-bounds"},
        {"ratio: -1", "out-of-bounds"}, {"colour: red", "unknown-key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct flow_fixture fixture;
        char text[300];
        snprintf(text, sizeof text, "flows: { content: { f: [ attachment: { %s }, deliver ] } }\n",
                 cases[i].options);
        flow_fixture_open(&fixture, text);
        if (fixture.report.errors != 1 ||
            !str_equal(fixture.report.problems[0].code, str_c(cases[i].code))) {
            flow_fixture_print(&fixture);
            fail_msg("%s", cases[i].options);
        }
        flow_fixture_close(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),        cmocka_unit_test(test_archives),
        cmocka_unit_test(test_hidden),       cmocka_unit_test(test_messages),
        cmocka_unit_test(test_findings),     cmocka_unit_test(test_preset),
        cmocka_unit_test(test_process_ends), cmocka_unit_test(test_name_without_process),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_depth),
        cmocka_unit_test(test_parts),        cmocka_unit_test(test_refused_options),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, open_house, close_house);
}
