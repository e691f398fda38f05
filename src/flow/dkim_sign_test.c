/* SPDX-License-Identifier: Apache-2.0 */
/* flow/dkim_sign_test.c - the block that signs: which keys, for whom, where the fields go. */
#include "content/dkim_test.h"
#include "content/signing_key.h"
#include "fiber/test.h"
#include "flow/test.h"

#include "base/clock.h"
#include "mail/body.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- a file with keys, and a flow ---- */

static char folder[] = "/tmp/postern-dkim-XXXXXX";

static const char *key_path(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_key(const char *name, const char *text, mode_t mode)
{
    FILE *file = fopen(key_path(name), "w");
    check(file && fputs(text, file) >= 0 && fclose(file) == 0);
    check(chmod(key_path(name), mode) == 0);
}

static int make_folder(void **state)
{
    (void)state;
    check(mkdtemp(folder));
    write_key("ed", TEST_ED25519_PRIVATE "\n", 0600);
    write_key("rsa", TEST_RSA_PRIVATE, 0640);
    write_key("open", TEST_ED25519_PRIVATE "\n", 0644);
    write_key("bad", "hello\n", 0600);
    return 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"ed", "rsa", "open", "bad"};
    (void)state;
    for (size_t i = 0; i < 4; i++)
        unlink(key_path(names[i]));
    return rmdir(folder);
}

struct bench {
    struct flow_fixture fixture;
    struct signing_keys keys;
    struct flow_facts facts;
    struct mail_content content;
    struct flow_verdict verdict;
};

#define EXAMPLE_KEYS                                                                               \
    "dkim_keys:\n"                                                                                 \
    "  ed: { domain: Example.ORG, selector: ed, key: KEYS/ed }\n"                                  \
    "  rsa: { domain: example.org, selector: rsa, key: KEYS/rsa }\n"                               \
    "  next: { domain: example.org, selector: next, key: KEYS/ed, active: false }\n"               \
    "  other: { domain: example.net, selector: ed, key: KEYS/ed }\n"

/* `KEYS` in the text is the folder. */
static struct str with_folder(struct arena *arena, const char *text)
{
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 16);
    for (const char *at = text; *at; at++) {
        if (strncmp(at, "KEYS/", 5) == 0) {
            buf_append(&out, str_c(folder));
            at += 3;
        } else {
            buf_append_byte(&out, *at);
        }
    }
    return arena_str(arena, buf_str(&out));
}

static void bench_load(struct bench *bench, const char *keys, const char *steps)
{
    struct flow_fixture *fixture = &bench->fixture;
    *bench = (struct bench){0};
    flow_fixture_context(fixture);
    struct str text = arena_printf(fixture->arena, "%.*sflows: { content: { f: %s } }\n",
                                   STR_ARG(with_folder(fixture->arena, keys)), steps);
    check(config_load_text(STR("test.yaml"), text, fixture->arena, &fixture->report,
                           &fixture->root) == OK);
    signing_keys_bind(config_get(&fixture->root, STR("dkim_keys")), &fixture->context.option,
                      &bench->keys);
    fixture->context.keys = &bench->keys;
    fixture->result = flow_compile_all(config_get(&fixture->root, STR("flows")), &fixture->context,
                                       &fixture->set);
}

static NO_YIELD_CHECK void bench_run(struct bench *bench, const char *trace, const char *header)
{
    struct arena *arena = bench->fixture.arena;
    struct error err;
    struct str message = arena_printf(arena, "%s\r\n%s", header, TEST_BODY);
    bench->content.body = body_memory_new(1 << 20);
    check(body_append(bench->content.body, message, &err) == OK);
    check(body_seal(bench->content.body, &err) == OK);
    bench->content.head = str_c(trace);
    bench->facts.header = arena_printf(arena, "%s%s\r\n", trace, header);
    struct flow_run run = {.arena = arena, .facts = &bench->facts, .content = &bench->content};
    flow_run_content(flow_find(bench->fixture.set, FLOW_CONTENT, STR("f")), &run, &bench->verdict);
}

static void bench_close(struct bench *bench)
{
    body_unref(bench->content.body);
    flow_fixture_close(&bench->fixture);
}

static NO_YIELD_CHECK struct dkim_answer verify(struct bench *bench)
{
    static const struct test_key_record records[] = {
        {"ed._domainkey.example.org", "k=ed25519; p=" TEST_ED25519_PUBLIC},
        {"rsa._domainkey.example.org", "p=" TEST_RSA_PUBLIC},
        {"ed._domainkey.example.net", "k=ed25519; p=" TEST_ED25519_PUBLIC},
    };
    struct test_zone zone = {.records = records, .count = 3};
    struct dkim_dns dns = {.text = test_zone_text, .context = &zone};
    struct arena *arena = bench->fixture.arena;
    struct dkim_message message;
    struct dkim_answer answer;
    struct error err = {0};
    char *whole = arena_alloc(arena, 65536);
    size_t len = 0;
    struct str part = STR("x");
    while (part.len) {
        check(mail_content_read(&bench->content, len, 4096, whole + len, &part, &err) == OK);
        memmove(whole + len, part.ptr, part.len);
        len += part.len;
    }
    size_t header_len = mail_header_length(str_of(whole, len));
    dkim_message_init(&message, &bench->content, str_of(whole, header_len));
    check(dkim_verify(&message, &dns, arena, &answer, &err) == OK);
    return answer;
}

/* ---- who is signed for, and with what ---- */

#define FROM(address) "From: Ann <" address ">\r\nSubject: hello\r\n"

struct sign_case {
    const char *name, *keys, *step, *header;
    bool is_stranger;
    const char *domains[3]; /* of the signatures, from the top */
};
static const struct sign_case cases[] = {
    {"by From",
     EXAMPLE_KEYS,
     "dkim-sign",
     FROM("ann@example.org"),
     false,
     {"example.org", "example.org"}},
    {"another domain", EXAMPLE_KEYS, "dkim-sign", FROM("ann@example.net"), false, {"example.net"}},
    {"a subdomain", EXAMPLE_KEYS, "dkim-sign", FROM("ann@a.b.example.net"), false, {"example.net"}},
    {"no key", EXAMPLE_KEYS, "dkim-sign", FROM("ann@example.com"), false, {NULL}},
    {"no neighbour", EXAMPLE_KEYS, "dkim-sign", FROM("ann@notexample.org"), false, {NULL}},
    {"no keys at all", "", "dkim-sign", FROM("ann@example.org"), false, {NULL}},
    {"named", EXAMPLE_KEYS, "dkim-sign: other", FROM("ann@example.org"), false, {"example.net"}},
    {"two named",
     EXAMPLE_KEYS,
     "dkim-sign: [ ed, other ]",
     FROM("ann@example.com"),
     false,
     {"example.org", "example.net"}},
    {"one that waits", EXAMPLE_KEYS, "dkim-sign: next", FROM("ann@example.org"), false, {NULL}},
    {"a stranger", EXAMPLE_KEYS, "dkim-sign", FROM("ann@example.org"), true, {NULL}},
    {"a stranger, allowed",
     EXAMPLE_KEYS,
     "dkim-sign: { strangers: true }",
     FROM("ann@example.net"),
     true,
     {"example.net"}},
    {"two From",
     EXAMPLE_KEYS,
     "dkim-sign",
     FROM("ann@example.org") FROM("eve@example.net"),
     false,
     {NULL}},
    {"no From", EXAMPLE_KEYS, "dkim-sign", "Subject: hello\r\n", false, {NULL}},
    {"observed",
     EXAMPLE_KEYS,
     "dkim-sign: { observe: true }",
     FROM("ann@example.org"),
     false,
     {NULL}},
    {"simple",
     EXAMPLE_KEYS,
     "dkim-sign: { header: simple, body: simple, valid: 7d }",
     FROM("ann@example.net"),
     false,
     {"example.net"}},
    {"behind another edit",
     EXAMPLE_KEYS,
     "header: \"X-A: 1\", dkim-sign",
     FROM("ann@example.net"),
     false,
     {"example.net"}},
    {"before another edit",
     EXAMPLE_KEYS,
     "dkim-sign, header: { add: \"X-A: 1\", remove: X-B }",
     "X-B: 1\r\n" FROM("ann@example.net"),
     false,
     {"example.net"}},
    {"twice",
     EXAMPLE_KEYS,
     "dkim-sign: ed, dkim-sign: other",
     FROM("ann@example.org"),
     false,
     {"example.net", "example.org"}},
};

static void signing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct sign_case *c = &cases[i];
        struct bench bench;
        struct arena *arena = arena_new(0);
        size_t wanted = 0;
        bench_load(&bench, c->keys, arena_printf(arena, "[ %s, deliver ]", c->step).ptr);
        if (bench.fixture.report.errors)
            flow_fixture_print(&bench.fixture);
        assert_int_equal(bench.fixture.report.errors, 0);
        bench.facts.authenticated = !c->is_stranger;
        bench_run(&bench, "Received: x\r\n", c->header);
        assert_int_equal(bench.verdict.kind, FLOW_DELIVER);
        struct dkim_answer answer = verify(&bench);
        for (; wanted < 3 && c->domains[wanted]; wanted++)
            if (wanted < answer.count)
                assert_str(answer.signatures[wanted].domain, c->domains[wanted]);
        if (answer.count != wanted)
            fail_msg("%s: %zu signatures, not %zu", c->name, answer.count, wanted);
        for (size_t n = 0; n < answer.count; n++)
            if (answer.signatures[n].result != DKIM_PASS)
                fail_msg("%s: signature %zu: %.*s", c->name, n,
                         STR_ARG(answer.signatures[n].detail));
        if (wanted)
            assert_true(str_starts(bench.content.head, STR("DKIM-Signature:")));
        bench_close(&bench);
        arena_free(arena);
    }
}

/* ---- the section ---- */

struct section_case {
    const char *keys, *code;
    size_t errors, warnings;
};
static const struct section_case sections[] = {
    {EXAMPLE_KEYS, NULL, 0, 0},
    {"dkim_keys: { a: { domain: example.org, selector: a, key: KEYS/nothing } }\n", "dkim-key", 1,
     0},
    {"dkim_keys: { a: { domain: example.org, selector: a, key: KEYS/bad } }\n", "dkim-key", 1, 0},
    {"dkim_keys: { a: { domain: example.org, selector: a, key: KEYS/open } }\n", "secret-readable",
     0, 1},
    {"dkim_keys: { a: { domain: \"ex ample\", selector: a, key: KEYS/ed } }\n", "wrong-value", 1,
     0},
    {"dkim_keys: { a: { domain: example.org, selector: \"a;b\", key: KEYS/ed } }\n", "wrong-value",
     1, 0},
    {"dkim_keys: { a: { domain: example.org, key: KEYS/ed } }\n", "missing-key", 1, 0},
    {"dkim_keys: { a: { domain: example.org, selector: a, key: KEYS/ed },\n"
     "  b: { domain: EXAMPLE.org, selector: A, key: KEYS/rsa } }\n",
     "duplicate", 1, 0},
    {"", "no-keys", 0, 1},
};

static void section(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        struct bench bench;
        bench_load(&bench, sections[i].keys, "[ dkim-sign, deliver ]");
        const struct config_report *report = &bench.fixture.report;
        if (report->errors != sections[i].errors || report->warnings != sections[i].warnings) {
            flow_fixture_print(&bench.fixture);
            fail_msg("%s: %zu errors, %zu warnings", sections[i].keys, report->errors,
                     report->warnings);
        }
        if (sections[i].code)
            assert_str(report->problems[0].code, sections[i].code);
        bench_close(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signing),
        cmocka_unit_test(section),
    };
    return cmocka_run_group_tests_name("flow-dkim-sign", tests, make_folder, remove_folder);
}
