/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/script_bench.h - for unit tests of scripts: a folder for their files, a DNS, and a flow with
 * one of them in it that runs on a letter.
 */
#pragma once

#include "flow/run_bench.h"

#include "content/resolver.h"
#include "mail/header.h"

#include <unistd.h>

static char folder[] = "/tmp/flow-script-XXXXXX";

static inline bool takes(const void *context, struct str domain)
{
    (void)context;
    return !str_equal(domain, STR("nowhere.example"));
}

static inline bool lists(const void *context, struct str domain)
{
    (void)context;
    return str_equal(domain, STR("example.org"));
}

static const struct flow_ways some_ways = {
    .is_taken = takes, .is_listed = lists, .postmaster = {"postmaster@example.org", 22}};

static const struct mail_recipient two[2] = {
    {.address = {"ann@example.org", 15}, .domain = {"example.org", 11}},
    {.address = {"bob@example.com", 15}, .domain = {"example.com", 11}},
};

#define SECTIONS                                                                                   \
    "quarantines: { spam: { keep: 30d } }\n"                                                       \
    "transports: { special: { method: discard }, other: { method: discard } }\n"

/* ---- DNS of the tests ---- */

static inline enum result ask_dns(void *context, enum resolver_type type, struct str name,
                                  struct arena *arena, struct resolver_answer *out,
                                  struct error *err)
{
    (void)context;
    if (str_equal(name, STR("down.example")))
        return fail(err, ERROR_TEMPORARY, "SERVFAIL");
    *out = (struct resolver_answer){.status = DNS_NO_NAME};
    if (type == RESOLVER_A && str_equal(name, STR("a.example"))) {
        out->ips = arena_alloc_array(arena, 1, sizeof *out->ips);
        check(net_ip_parse(STR("192.0.2.1"), &out->ips[0]));
        out->count = 1;
    }
    if ((type == RESOLVER_MX && str_equal(name, STR("a.example"))) ||
        (type == RESOLVER_PTR && str_equal(name, STR("7.2.0.192.in-addr.arpa")))) {
        out->texts = arena_alloc_array(arena, 1, sizeof *out->texts);
        out->texts[0] = STR("mx.a.example");
        out->count = 1;
    }
    return OK;
}

static const struct resolver some_dns = {.ask = ask_dns, .budget = 100};

/* ---- one run ---- */

static inline void write_script(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    check(file && fputs(text, file) >= 0);
    fclose(file);
}

static const char letter[] = "Received: from x\r\nSubject: hello\r\nX-A: 1\r\nX-A: 2\r\n"
                             "Content-Type: text/html\r\n\r\n";

NO_YIELD_CHECK static inline void open_script(struct bench *bench, enum flow_type type,
                                              const char *options, const char *more,
                                              const char *script)
{
    char text[4096];
    struct error err;
    static const char *const ends[] = {"reject", "reject", "deliver"};
    write_script("s.lua", script);
    bench_open(bench, type, type == FLOW_CONTENT ? "[ deliver ]" : "[ reject ]");
    flow_fixture_close(&bench->fixture);
    snprintf(text, sizeof text,
             SECTIONS "flows: { %s: { f: [ script: { file: %s/s.lua%s }%s, %s ] } }\n",
             type_names[type], folder, options, more, ends[type]);
    flow_fixture_open(&bench->fixture, text);
    if (bench->fixture.result != OK) {
        flow_fixture_print(&bench->fixture);
        fail_msg("%s does not compile", script);
    }
    bench->flow = flow_find(bench->fixture.set, type, STR("f"));
    bench->run.ways = &some_ways;
    bench->run.resolver = &some_dns;
    bench->run.hostname = STR("mx.example.org");
    bench->facts.recipients = two;
    bench->facts.recipient_count = 2;
    struct str whole = str_c(letter);
    bench->facts.header = str_slice(whole, 0, mail_header_length(whole));
    struct body *body = body_memory_new(100000);
    check(body_append(body, whole, &err) == OK);
    check(body_append(body, STR("<p>some <b>text</b>\r\n"), &err) == OK &&
          body_seal(body, &err) == OK);
    bench->content.body = body;
    bench->facts.size = body->size;
}

static inline void close_script(struct bench *bench)
{
    struct body *body = bench->content.body;
    bench_close(bench);
    body_unref(body);
}

static inline void run_it(void *arg) NO_YIELD_CHECK
{
    struct bench *bench = arg;
    if (bench->flow == flow_find(bench->fixture.set, FLOW_CONTENT, STR("f")))
        scan(bench);
    else if (bench->flow == flow_find(bench->fixture.set, FLOW_RECIPIENT, STR("f")))
        look_up(bench);
    else
        log_in(bench, "ann", "secret");
}

/* `form`: pieces with * between, of which the first is the beginning. */
static inline bool fits(struct str text, struct str form)
{
    struct str piece;
    bool first = true;
    while (form.ptr && str_split(&form, '*', &piece)) {
        ptrdiff_t at = str_find_str(text, piece);
        if (at < 0 || (first && at > 0))
            return false;
        text = str_from(text, (size_t)at + piece.len);
        first = false;
    }
    return true;
}

static inline int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    char command[200];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}
