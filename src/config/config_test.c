/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config/: the tree and its places, the binder, units, suggestions, reports. */
#include "config/load.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct reading {
    struct arena *arena;
    struct config_report report;
    struct config_node root;
    enum result result;
};

static void read_text(struct reading *reading, struct str text)
{
    *reading = (struct reading){.arena = arena_new(0)};
    config_report_init(&reading->report, reading->arena);
    reading->result =
        config_load_text(STR("t.yaml"), text, reading->arena, &reading->report, &reading->root);
}

static void done(struct reading *reading)
{
    arena_free(reading->arena);
}

/* "code line:column code line:column …" of all problems, in order of finding. */
static const char *problems(const struct reading *reading)
{
    struct str all = STR_EMPTY;
    for (size_t i = 0; i < reading->report.count; i++) {
        const struct config_problem *problem = &reading->report.problems[i];
        all = arena_printf(reading->arena, "%.*s%s%.*s %u:%u", STR_ARG(all), i ? " " : "",
                           STR_ARG(problem->code), problem->place.line, problem->place.column);
    }
    return arena_c(reading->arena, all);
}

/* ---- the tree ---- */

static void test_tree_and_places(void **state)
{
    (void)state;
    struct reading reading;
    read_text(&reading, STR("a: 1\n"
                            "b: { c: 'x', d: [ y, \"z\" ] }\n"
                            "gr\xc3\xbc\xc3\x9f: e\n"
                            "list:\n"
                            "  - one\n"
                            "  - key: value\n"
                            "block: |\n"
                            "  text\n"
                            "nothing:\n"
                            "tilde: ~\n"));
    assert_int_equal(reading.result, OK);
    assert_int_equal(reading.root.count, 7);
    const struct config_node *b = config_get(&reading.root, STR("b"));
    const struct config_node *c = config_get(b, STR("c"));
    assert_true(c->quoted);
    assert_int_equal(c->place.line, 2);
    assert_int_equal(c->place.column, 9);
    assert_int_equal(c->place.length, 3);
    const struct config_node *d = config_get(b, STR("d"));
    assert_int_equal(d->kind, CONFIG_LIST);
    assert_int_equal(d->count, 2);
    assert_false(d->items[0].quoted);
    assert_true(d->items[1].quoted);
    const struct config_node *umlaut = config_get(&reading.root, STR("gr\xc3\xbc\xc3\x9f"));
    assert_int_equal(umlaut->place.column, 7); /* characters, not bytes */
    const struct config_node *list = config_get(&reading.root, STR("list"));
    assert_int_equal(list->place.line, 4); /* a block is named by its key */
    assert_int_equal(list->items[1].kind, CONFIG_MAP);
    const struct config_node *block = config_get(&reading.root, STR("block"));
    assert_true(block->quoted);
    assert_true(str_equal(block->text, STR("text\n")));
    assert_true(config_get(&reading.root, STR("nothing"))->is_null);
    assert_true(config_get(&reading.root, STR("tilde"))->is_null);
    assert_null(config_get(&reading.root, STR("absent")));
    assert_null(config_get(c, STR("x")));
    done(&reading);
}

static const struct {
    const char *name, *text, *problems;
} refused_cases[] = {
    {"duplicate key", "a: 1\nb: 2\na: 3\n", "duplicate-key 3:1"},
    {"duplicate in flow map", "x: { a: 1, b: 2, 'a': 3 }\n", "duplicate-key 1:18"},
    {"bare yes", "a: yes\n", "yes-no 1:4"},
    {"bare Off in list", "a: [ 1, Off ]\n", "yes-no 1:9"},
    {"bare no as key", "no: 1\n", "yes-no 1:1"},
    {"quoted yes is text", "a: 'yes'\n", ""},
    {"anchor", "a: &x 1\n", "yaml-anchor 1:4"},
    {"anchor and alias", "a: &x 1\nb: *x\n", "yaml-anchor 1:4 yaml-anchor 2:4"},
    {"merge key", "a: &x { c: 1 }\nb:\n  <<: *x\n", "yaml-anchor 1:4 yaml-anchor 3:7"},
    {"tag", "a: !!str 1\n", "yaml-tag 1:4"},
    {"second document", "a: 1\n---\nb: 2\n", "syntax 2:1"},
    {"tab", "a:\n\tb: 1\n", "syntax 2:1"},
    {"unclosed list", "a: [ 1, 2\nb: 3\n", "syntax 2:2"},
    {"unclosed quotes", "a: \"x\nb: 3\n", "syntax 3:1"},
    {"two colons", "a: b: c\n", "syntax 1:5"},
    {"bad indentation", "a:\n  b: 1\n c: 2\n", "syntax 3:2"},
    {"list as key", "? [ a ]\n: 1\n", "syntax 1:3"},
    {"empty key", ": 1\n", "syntax 1:1"},
    {"yaml 1.1", "%YAML 1.1\n---\na: 1\n", "syntax 1:1"},
    {"tag directive", "%TAG ! tag:x,1:\n---\na: 1\n", "yaml-tag 1:1"},
    {"control character", "a: 1\nb: \x01\n", "encoding 2:4"},
    {"not utf-8", "a: \xff\n", "encoding 1:4"},
    {"overlong utf-8", "a: \xc0\xaf\n", "encoding 1:4"},
    {"nel", "a: x\xc2\x85y\n", "encoding 1:5"},
    {"line separator", "a: 1\nb: x\xe2\x80\xa8y\n", "encoding 2:5"},
    {"bare cr", "a: 1\rb: 2\n", "encoding 1:5"},
    {"crlf is fine", "a: 1\r\nb: 2\r\n", ""},
    {"several at once", "a: yes\nb: &x 1\nc: 1\nc: 2\n",
     "yes-no 1:4 yaml-anchor 2:4 duplicate-key 4:1"},
    {"empty", "", ""},
    {"comment only", "# nothing\n", ""},
};

static void test_refused_yaml(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused_cases / sizeof *refused_cases; i++) {
        struct reading reading;
        read_text(&reading, str_c(refused_cases[i].text));
        const char *found = problems(&reading);
        if (strcmp(found, refused_cases[i].problems) != 0)
            print_error("%s: wanted \"%s\"\n", refused_cases[i].name, refused_cases[i].problems);
        assert_string_equal(found, refused_cases[i].problems);
        assert_int_equal(reading.result, *refused_cases[i].problems ? FAILED : OK);
        done(&reading);
    }
}

static void test_ceilings(void **state)
{
    (void)state;
    struct buf text BUF_CLEANUP;
    buf_init(&text, 64 << 20);
    for (int i = 0; i < 100; i++)
        buf_append(&text, STR("["));
    struct reading reading;
    read_text(&reading, buf_str(&text));
    assert_string_equal(problems(&reading), "too-large 1:49");
    done(&reading);

    buf_clear(&text);
    buf_append(&text, STR("a: ["));
    for (int i = 0; i < 500000; i++)
        buf_append(&text, STR("1,\n"));
    buf_append(&text, STR("]\n"));
    read_text(&reading, buf_str(&text));
    assert_int_equal(reading.report.errors, 1);
    assert_true(str_equal(reading.report.problems[0].code, STR("too-large")));
    assert_int_equal(reading.root.count, 0);
    done(&reading);

    buf_clear(&text);
    for (int i = 0; i < 3000; i++)
        buf_printf(&text, "k%d: yes\n", i);
    read_text(&reading, buf_str(&text));
    assert_int_equal(reading.report.errors, 3000);
    assert_int_equal(reading.report.count, 1000);
    done(&reading);
}

/* ---- the binder ---- */

struct inner {
    int64_t depth;
    struct str name;
};
struct values {
    bool flag;
    int64_t number;
    int64_t wait_ns;
    uint64_t size;
    struct option_rate rate;
    struct str text;
    struct str path;
    int word;
    unsigned words;
    struct str server;
    struct option_texts texts;
    struct option_texts servers;
    struct option_durations delays;
    struct inner inner;
    const struct config_node *node;
};
static const struct option_word colours[] = {{"red", 0}, {"green", 1}, {"blue", 2}, {NULL, 0}};
static const struct option inner_rows[] = {
    {.name = "depth",
     .type = OPTION_INT,
     .offset = offsetof(struct inner, depth),
     .text = "d",
     .fallback = "3",
     .min = 1,
     .max = 9},
    {.name = "name",
     .type = OPTION_TEXT,
     .offset = offsetof(struct inner, name),
     .text = "n",
     .required = true},
    {0},
};
static const struct option_table inner_table = {.name = "inner",
                                                .text = "t",
                                                .options = inner_rows,
                                                .shorthand = "name",
                                                .size = sizeof(struct inner)};
#define AT(member) offsetof(struct values, member)
static const struct option rows[] = {
    {.name = "flag", .type = OPTION_BOOL, .offset = AT(flag), .text = "f", .fallback = "true"},
    {.name = "number",
     .type = OPTION_INT,
     .offset = AT(number),
     .text = "n",
     .fallback = "5",
     .min = 1,
     .max = 10},
    {.name = "wait",
     .type = OPTION_DURATION,
     .offset = AT(wait_ns),
     .text = "w",
     .fallback = "15m",
     .min = NS_PER_S,
     .max = 86400 * NS_PER_S},
    {.name = "size",
     .type = OPTION_SIZE,
     .offset = AT(size),
     .text = "s",
     .fallback = "64K",
     .min = 1024,
     .max = 1 << 30},
    {.name = "rate", .type = OPTION_RATE, .offset = AT(rate), .text = "r"},
    {.name = "text", .type = OPTION_TEXT, .offset = AT(text), .text = "t"},
    {.name = "path", .type = OPTION_PATH, .offset = AT(path), .text = "p"},
    {.name = "colour",
     .type = OPTION_WORD,
     .offset = AT(word),
     .text = "c",
     .fallback = "green",
     .words = colours},
    {.name = "colours",
     .type = OPTION_WORDS,
     .offset = AT(words),
     .text = "c",
     .fallback = "[ red, blue ]",
     .words = colours},
    {.name = "server",
     .type = OPTION_REFERENCE,
     .offset = AT(server),
     .text = "s",
     .refers_to = "servers"},
    {.name = "texts", .type = OPTION_TEXTS, .offset = AT(texts), .text = "t"},
    {.name = "all",
     .type = OPTION_REFERENCES,
     .offset = AT(servers),
     .text = "t",
     .refers_to = "flows.content"},
    {.name = "delays",
     .type = OPTION_DURATIONS,
     .offset = AT(delays),
     .text = "d",
     .fallback = "[ 1m, 5m ]"},
    {.name = "inner",
     .type = OPTION_GROUP,
     .offset = AT(inner),
     .text = "i",
     .group = &inner_table},
    {.name = "node", .type = OPTION_NODE, .offset = AT(node), .text = "n"},
    {.name = "later",
     .type = OPTION_BOOL,
     .offset = AT(flag),
     .text = "l",
     .not_built = "the later thing"},
    {.name = "token_file", .type = OPTION_PATH, .offset = AT(path), .text = "p"},
    {0},
};
static const struct option_table table = {
    .name = "settings", .text = "t", .options = rows, .size = sizeof(struct values)};

static void bind(struct reading *reading, struct values *values)
{
    *values = (struct values){0};
    struct option_context context = {
        .arena = reading->arena, .report = &reading->report, .root = &reading->root};
    static const char *const also[] = {"servers", "flows", NULL};
    reading->result = option_bind(&table, &reading->root, also, &context, values);
}

static void test_bind_values(void **state)
{
    (void)state;
    struct reading reading;
    struct values values;
    read_text(&reading, STR("flag: false\nnumber: 10\nwait: 500ms\nsize: 25M\nrate: 500/1h\n"
                            "text: 'yes'\npath: /x/y\ncolour: blue\ncolours: [ red, green ]\n"
                            "server: mail\ntexts: one\nall: [ a, b ]\ndelays: 30d\n"
                            "inner: short\nnode: { k: v }\n"
                            "servers: { mail: 1 }\nflows: { content: { a: 1, b: 2 } }\n"));
    bind(&reading, &values);
    /* 500ms is under the row's least */
    assert_string_equal(problems(&reading), "out-of-bounds 3:7");
    assert_false(values.flag);
    assert_int_equal(values.number, 10);
    assert_int_equal(values.size, 25 << 20);
    assert_int_equal(values.rate.count, 500);
    assert_int_equal(values.rate.period_ns, 3600 * NS_PER_S);
    assert_true(str_equal(values.text, STR("yes")));
    assert_int_equal(values.word, 2);
    assert_int_equal(values.words, 3);
    assert_true(str_equal(values.server, STR("mail")));
    assert_int_equal(values.texts.count, 1);
    assert_int_equal(values.servers.count, 2);
    assert_int_equal(values.delays.count, 1);
    assert_int_equal(values.delays.items[0], INT64_C(30) * 86400 * NS_PER_S);
    assert_true(str_equal(values.inner.name, STR("short")));
    assert_int_equal(values.inner.depth, 3);
    assert_non_null(config_get(values.node, STR("k")));
    done(&reading);
}

static void test_bind_defaults(void **state)
{
    (void)state;
    struct reading reading;
    struct values values;
    read_text(&reading, STR("{}"));
    bind(&reading, &values);
    assert_int_equal(reading.result, OK);
    assert_true(values.flag);
    assert_int_equal(values.number, 5);
    assert_int_equal(values.wait_ns, 900 * NS_PER_S);
    assert_int_equal(values.size, 65536);
    assert_int_equal(values.rate.count, 0);
    assert_int_equal(values.word, 1);
    assert_int_equal(values.words, 5);
    assert_int_equal(values.delays.count, 2);
    assert_int_equal(values.inner.depth, 3);
    assert_null(values.node);
    done(&reading);
}

static const struct {
    const char *text, *problems, *fix; /* fix: part of the first one's, or NULL */
} bind_faults_cases[] = {
    {"number: 11\n", "out-of-bounds 1:9", NULL},
    {"number: '7'\n", "wrong-type 1:9", "without quotes"},
    {"number: x\n", "wrong-type 1:9", "digits"},
    {"number: -99999999999999999999\n", "wrong-type 1:9", NULL},
    {"number: [ 1 ]\n", "wrong-type 1:9", NULL},
    {"number:\n", "empty-value 1:1", "give it a value"},
    {"flag: 1\n", "wrong-type 1:7", "true or false"},
    {"flag: 'true'\n", "wrong-type 1:7", "without quotes"},
    {"flag: yes\n", "yes-no 1:7", "write true or false"},
    {"text: true\n", "wrong-type 1:7", "quotes"},
    {"wait: 15 minutes\n", "wrong-unit 1:7", "write 15m"},
    {"wait: 15min\n", "wrong-unit 1:7", "write 15m"},
    {"wait: 90 Seconds\n", "wrong-unit 1:7", "write 90s"},
    {"wait: 15\n", "wrong-unit 1:7", "15s for seconds"},
    {"wait: 2 weeks\n", "wrong-unit 1:7", "write 14d"},
    {"wait: 1h30m\n", "wrong-unit 1:7", "one number"},
    {"wait: 2d\n", "out-of-bounds 1:7", NULL},
    {"wait: 99999999999d\n", "wrong-unit 1:7", NULL},
    {"size: 25MB\n", "wrong-unit 1:7", "write 25M"},
    {"size: 25 mib\n", "wrong-unit 1:7", "write 25M"},
    {"size: big\n", "wrong-unit 1:7", "64K"},
    {"rate: 500 per hour\n", "wrong-unit 1:7", "write 500/1h"},
    {"rate: 500/h\n", "wrong-unit 1:7", "write 500/1h"},
    {"rate: 0/1h\n", "wrong-unit 1:7", NULL},
    {"colour: gren\n", "unknown-word 1:9", "\"green\""},
    {"colours: [ red, blu ]\n", "unknown-word 1:17", "\"blue\""},
    {"server: mial\nservers: { mail: 1 }\n", "unknown-name 1:9", "\"mail\""},
    {"all: x\n", "unknown-name 1:6", "flows.content"},
    {"inner: {}\n", "missing-key 1:8", "name"},
    {"inner: { name: x, depht: 1 }\n", "unknown-key 1:19", "\"depth\""},
    {"later: true\n", "not-built 1:1", "remove"},
    {"token: abc\n", "secret-inline 1:1", "token_file"},
    {"nmuber: 3\nwiat: 1m\n", "unknown-key 1:1 unknown-key 2:1", "\"number\""},
    {"zzzzzz: 3\n", "unknown-key 1:1", "known here: flag"},
};

static void test_bind_faults(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bind_faults_cases / sizeof *bind_faults_cases; i++) {
        struct reading reading;
        struct values values;
        read_text(&reading, str_c(bind_faults_cases[i].text));
        bind(&reading, &values);
        const char *found = problems(&reading);
        if (strcmp(found, bind_faults_cases[i].problems) != 0)
            print_error("in %s", bind_faults_cases[i].text);
        assert_string_equal(found, bind_faults_cases[i].problems);
        struct str fix = reading.report.problems[0].fix;
        if (bind_faults_cases[i].fix && str_find_str(fix, str_c(bind_faults_cases[i].fix)) < 0)
            fail_msg("%s: fix is \"%.*s\"", bind_faults_cases[i].text, STR_ARG(fix));
        done(&reading);
    }
}

static void test_paths_of_rows(void **state)
{
    (void)state;
    /* schema, manual and effective text of every type hold together */
    struct reading reading;
    struct values values;
    read_text(&reading, STR("text: 'a b'\ninner: { name: x }\npath: secret/file\n"));
    bind(&reading, &values);
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    option_effective(&table, &values, &reading.root, 2, &out);
    assert_true(str_find_str(buf_str(&out), STR("  text: \"a b\"  # ")) >= 0);
    assert_true(str_find_str(buf_str(&out), STR("  wait: 15m  # default\n")) >= 0);
    assert_true(str_find_str(buf_str(&out), STR("  size: 64K  # default\n")) >= 0);
    assert_true(str_find_str(buf_str(&out), STR("    name: x  # ")) >= 0);
    assert_true(str_find_str(buf_str(&out), STR("later")) < 0);
    buf_clear(&out);
    option_schema(&table, &out);
    assert_true(str_starts(buf_str(&out), STR("{\"type\":\"object\"")));
    buf_clear(&out);
    option_manual(&table, &out);
    assert_true(str_find_str(buf_str(&out), STR("- `wait`: time, 1s to 1d, default `15m`.")) >= 0);
    done(&reading);
}

/* ---- "did you mean" ---- */

static const char *const known[] = {"version",
                                    "hostname",
                                    "user",
                                    "workers",
                                    "postmaster",
                                    "own_addresses",
                                    "trusted_networks",
                                    "domains_file",
                                    "lists",
                                    "memory",
                                    "servers",
                                    "certificates",
                                    "listeners",
                                    "flows",
                                    "transports",
                                    "domains",
                                    "entitlements",
                                    "quarantines",
                                    "dns",
                                    "spool",
                                    "control",
                                    "admin",
                                    "events",
                                    "log",
                                    "listen",
                                    "tls",
                                    "certificate",
                                    "authentication",
                                    "processing",
                                    "recipients",
                                    "limits",
                                    "line_endings",
                                    "proxy",
                                    "xclient",
                                    "allow_cleartext_auth",
                                    "hide_client",
                                    "direct_timeout",
                                    "refused_later",
                                    "min_version",
                                    "ciphers",
                                    "method",
                                    "server",
                                    "direction",
                                    "port",
                                    "source_address",
                                    "helo",
                                    "retry",
                                    "delays",
                                    "count",
                                    "dsn",
                                    "delay_after",
                                    "expire",
                                    "attempt_timeout",
                                    "eight_bit",
                                    "allow_private",
                                    "aliases",
                                    "content",
                                    "transport",
                                    "allow_open_relay",
                                    "timeout",
                                    "starttls",
                                    "base_dn",
                                    "bind_dn",
                                    "bind_password_file",
                                    "ca_file"};
static const char *const typos[][2] = {{"verison", "version"},
                                       {"hostnmae", "hostname"},
                                       {"host_name", "hostname"},
                                       {"usr", "user"},
                                       {"wokers", "workers"},
                                       {"worker", "workers"},
                                       {"postmater", "postmaster"},
                                       {"own_adresses", "own_addresses"},
                                       {"trusted_network", "trusted_networks"},
                                       {"trusted-networks", "trusted_networks"},
                                       {"TrustedNetworks", "trusted_networks"},
                                       {"domain", "domains"},
                                       {"list", "lists"},
                                       {"serves", "servers"},
                                       {"sevrers", "servers"},
                                       {"certficate", "certificate"},
                                       {"certifcates", "certificates"},
                                       {"cert", "certificate"},
                                       {"listners", "listeners"},
                                       {"listener", "listeners"},
                                       {"flow", "flows"},
                                       {"transprots", "transports"},
                                       {"trasnport", "transport"},
                                       {"entitlement", "entitlements"},
                                       {"quarentines", "quarantines"},
                                       {"quarantine", "quarantines"},
                                       {"spol", "spool"},
                                       {"contrl", "control"},
                                       {"event", "events"},
                                       {"logs", "log"},
                                       {"lsiten", "listen"},
                                       {"TLS", "tls"},
                                       {"auth", "authentication"},
                                       {"authentification", "authentication"},
                                       {"procesing", "processing"},
                                       {"recipient", "recipients"},
                                       {"recepients", "recipients"},
                                       {"line-endings", "line_endings"},
                                       {"lineendings", "line_endings"},
                                       {"allow_clear_text_auth", "allow_cleartext_auth"},
                                       {"hideclient", "hide_client"},
                                       {"refuse_later", "refused_later"},
                                       {"cipher", "ciphers"},
                                       {"metod", "method"},
                                       {"retries", "retry"},
                                       {"delay", "delays"},
                                       {"atempt_timeout", "attempt_timeout"},
                                       {"8bit", "eight_bit"},
                                       {"alias", "aliases"},
                                       {"bind_passwd_file", "bind_password_file"},
                                       {"base-dn", "base_dn"},
                                       {"allow_openrelay", "allow_open_relay"}};

static void test_typos(void **state)
{
    (void)state;
    enum { KNOWN = sizeof known / sizeof *known, TYPOS = sizeof typos / sizeof *typos };
    struct str names[KNOWN];
    for (size_t i = 0; i < KNOWN; i++)
        names[i] = str_c(known[i]);
    unsigned right = 0;
    for (size_t i = 0; i < TYPOS; i++) {
        struct str near = config_nearest(str_c(typos[i][0]), names, KNOWN);
        if (str_equal(near, str_c(typos[i][1])))
            right++;
        else
            print_message("%s: \"%.*s\"\n", typos[i][0], STR_ARG(near));
    }
    print_message("%u of %u typos were seen through\n", right, (unsigned)TYPOS);
    assert_true(TYPOS >= 50);
    assert_true(right >= TYPOS - 5);
    assert_int_equal(config_nearest(STR("rhubarb"), names, KNOWN).len, 0);
    assert_int_equal(config_nearest(STR(""), names, KNOWN).len, 0);
}

/* ---- reports ---- */

static void test_report_print(void **state)
{
    (void)state;
    struct reading reading;
    read_text(&reading, STR("a: 1\nlisteners:\n  inbound:\n    certficate: main # \x1b[31m\n"));
    /* the escape is refused before anything is shown */
    assert_string_equal(problems(&reading), "encoding 4:24");
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    config_report_print(&reading.report, false, &out);
    assert_true(str_find(buf_str(&out), '\x1b') < 0);
    done(&reading);

    read_text(&reading, STR("inner:\n  name: x\n  depht: 12\n"));
    struct values values;
    bind(&reading, &values);
    buf_clear(&out);
    config_report_print(&reading.report, false, &out);
    config_report_summary(&reading.report, &out);
    buf_append_byte(&out, '\0');
    assert_string_equal(out.ptr, "error[unknown-key] t.yaml:3:3  unknown key \"depht\"\n"
                                 "    3 |   depht: 12\n"
                                 "      |   ^^^^^\n"
                                 "   fix: did you mean \"depth\"?\n\n"
                                 "1 error, 0 warnings. Nothing was applied.\n");
    buf_clear(&out);
    config_report_json(&reading.report, &out);
    assert_true(str_starts(
        buf_str(&out), STR("{\"severity\":\"error\",\"code\":\"unknown-key\",\"file\":\"t.yaml\","
                           "\"line\":3,\"column\":3,\"length\":5")));
    done(&reading);

    read_text(&reading, STR("token: hunter2\n"));
    bind(&reading, &values);
    buf_clear(&out);
    config_report_print(&reading.report, true, &out);
    assert_true(str_find_str(buf_str(&out), STR("hunter2")) < 0);
    assert_true(str_find_str(buf_str(&out), STR("token: *******")) >= 0);
    done(&reading);
}

static void test_report_sorted(void **state)
{
    (void)state;
    struct reading reading;
    read_text(&reading, STR("number: 99\nflag: maybe\nsize: x\n"));
    struct values values;
    bind(&reading, &values);
    struct config_place later = {.file = reading.root.place.file, .line = 1, .column = 2};
    config_problem(&reading.report, CONFIG_WARNING, "late", later, "found last, shown second");
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    config_report_json(&reading.report, &out);
    struct str text = buf_str(&out);
    ptrdiff_t warning = str_find_str(text, STR("\"late\""));
    assert_true(warning >= 0);
    assert_true(warning < str_find_str(text, STR("\"line\":2")));
    done(&reading);
}

/* ---- files ---- */

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_conf_d(void **state)
{
    (void)state;
    char folder[] = "/tmp/postern-config-XXXXXX", path[512], conf_d[512];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/postern.yaml", folder);
    snprintf(conf_d, sizeof conf_d, "%s/conf.d", folder);
    assert_int_equal(mkdir(conf_d, 0700), 0);
    write_file(folder, "postern.yaml",
               "version: 1\nservers: { a: 1 }\nflows: { content: { x: [ 1 ] } }\npath: rel\n");
    write_file(conf_d, "10-more.yaml",
               "\xef\xbb\xbfversion: 1\nservers: { b: 2 }\nflows: { content: { y: [ 1 ] } }\n");
    write_file(conf_d, "20-twice.yaml", "servers: { a: 3 }\nflows: { content: { x: [] } }\n");
    write_file(conf_d, "ignored.txt", "servers: { c: 3 }\n");
    struct reading reading = {.arena = arena_new(0)};
    config_report_init(&reading.report, reading.arena);
    reading.result = config_load(path, reading.arena, &reading.report, &reading.root);
    assert_int_equal(reading.result, FAILED);
    assert_string_equal(problems(&reading), "duplicate-name 1:12 duplicate-name 2:21");
    const struct config_node *servers = config_get(&reading.root, STR("servers"));
    assert_int_equal(servers->count, 2);
    assert_int_equal(config_get(config_get(&reading.root, STR("flows")), STR("content"))->count, 2);
    struct str place = config_place_text(reading.arena, config_get_pair(servers, STR("b"))->place);
    assert_true(str_ends(place, STR("conf.d/10-more.yaml:2:12")));
    struct str resolved;
    struct option_context context = {
        .arena = reading.arena, .report = &reading.report, .root = NULL};
    assert_true(option_read_path(config_get(&reading.root, STR("path")), &context, &resolved));
    assert_true(str_starts(resolved, str_c(folder)) && str_ends(resolved, STR("/rel")));
    done(&reading);

    snprintf(path, sizeof path, "%s/absent.yaml", folder);
    reading = (struct reading){.arena = arena_new(0)};
    config_report_init(&reading.report, reading.arena);
    assert_int_equal(config_load(path, reading.arena, &reading.report, &reading.root), FAILED);
    assert_string_equal(problems(&reading), "unreadable 0:0");
    done(&reading);
    static const char *const made[] = {"conf.d/10-more.yaml", "conf.d/20-twice.yaml",
                                       "conf.d/ignored.txt", "postern.yaml"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, made[i]);
        unlink(path);
    }
    rmdir(conf_d);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_and_places), cmocka_unit_test(test_refused_yaml),
        cmocka_unit_test(test_ceilings),        cmocka_unit_test(test_bind_values),
        cmocka_unit_test(test_bind_defaults),   cmocka_unit_test(test_bind_faults),
        cmocka_unit_test(test_paths_of_rows),   cmocka_unit_test(test_typos),
        cmocka_unit_test(test_report_print),    cmocka_unit_test(test_report_sorted),
        cmocka_unit_test(test_conf_d),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
