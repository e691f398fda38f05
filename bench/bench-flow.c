/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/bench-flow.c - CPU time of a whole content flow on a message of 4 KiB, without scanners:
 * what the template `outgoing` does to a user's mail, and all that one may put into it.
 *
 *   bench-flow FOLDER   a line a figure: its name, a tab, microseconds
 *
 * FOLDER is one that `bench-content prepare` made: a message, and keys. The thread's CPU time, the
 * best of several batches: whatever else runs here makes figures worse.
 */
#include "base/buf.h"
#include "base/check.h"
#include "config/load.h"
#include "content/signing_key.h"
#include "flow/flow.h"
#include "mail/body.h"
#include "mail/header.h"
#include "state/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FILE_SIZE_MAX = 1 << 20, BATCHES = 10, BATCH = 50 };

static const char config[] =
    "dkim_keys:\n"
    "  ed: { domain: example.org, selector: ed, key: \"FOLDER/ed25519.pem\", "
    "active: ED }\n"
    "  rsa: { domain: example.org, selector: rsa, key: \"FOLDER/rsa.pem\", "
    "active: RSA }\n"
    "flows:\n"
    "  content:\n"
    "    plain: [ deliver ]\n"
    "    template:\n"
    "      - sender-match\n"
    "      - limit: { by: user, messages: 1000000/1h }\n"
    "      - dkim-sign\n"
    "      - deliver\n"
    "    full:\n"
    "      - sender-match\n"
    "      - limit: { by: user, messages: 1000000/1h, recipients: 9000000/1h }\n"
    "      - match: { body: [ \"(?i)top secret\", \"[0-9]{16}\" ], matched: hold }\n"
    "      - match: { when: header(\"X-Spam\") == \"yes\", matched: hold }\n"
    "      - header: { add: \"X-Checked: yes\", remove: [ X-Internal ] }\n"
    "      - subject-tag: \"[example]\"\n"
    "      - disclaimer: { text: \"This message may be confidential: read it "
    "and forget it.\" }\n"
    "      - dkim-sign\n"
    "      - deliver\n";

struct bench {
    struct arena *arena;
    struct config_report report;
    struct config_node root;
    struct signing_keys keys;
    struct flow_compile_context context;
    struct flow_set *set;
    struct state *state;
    struct buf message;
    const struct flow *flow;
};

/* ---- made ---- */

static void read_message(const char *folder, struct buf *out)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/message", folder);
    FILE *file = fopen(path, "re");
    if (!file) {
        perror(path);
        exit(2);
    }
    buf_init(out, FILE_SIZE_MAX);
    char *room = buf_reserve(out, 65536);
    check(room != NULL);
    out->len = fread(room, 1, 65536, file);
    fclose(file);
}

static struct str filled(struct arena *arena, struct str text, struct str word, struct str value)
{
    struct buf out BUF_CLEANUP;
    ptrdiff_t at;
    buf_init(&out, FILE_SIZE_MAX);
    while ((at = str_find_str(text, word)) >= 0) {
        buf_append(&out, str_slice(text, 0, (size_t)at));
        buf_append(&out, value);
        text = str_from(text, (size_t)at + word.len);
    }
    buf_append(&out, text);
    return arena_str(arena, buf_str(&out));
}

static void open_bench(struct bench *bench, const char *folder, bool ed, bool rsa)
{
    *bench = (struct bench){.arena = arena_new(0)};
    struct str text = filled(bench->arena, str_c(config), STR("FOLDER"), str_c(folder));
    text = filled(bench->arena, text, STR(": ED "), ed ? STR(": true ") : STR(": false "));
    text = filled(bench->arena, text, STR(": RSA "), rsa ? STR(": true ") : STR(": false "));
    config_report_init(&bench->report, bench->arena);
    bool good =
        config_load_text(STR("bench.yaml"), text, bench->arena, &bench->report, &bench->root) == OK;
    bench->context = (struct flow_compile_context){
        .option = {.arena = bench->arena, .report = &bench->report, .root = &bench->root},
        .root = &bench->root,
        .keys = &bench->keys};
    if (good) {
        signing_keys_bind(config_get(&bench->root, STR("dkim_keys")), &bench->context.option,
                          &bench->keys);
        good = flow_compile_all(config_get(&bench->root, STR("flows")), &bench->context,
                                &bench->set) == OK;
    }
    if (!good) {
        struct buf out BUF_CLEANUP;
        buf_init(&out, FILE_SIZE_MAX);
        config_report_print(&bench->report, false, &out);
        fprintf(stderr, "%.*s", STR_ARG(buf_str(&out)));
        exit(2);
    }
    bench->state = state_new(NULL, 1, 1000);
    read_message(folder, &bench->message);
}

static void close_bench(struct bench *bench)
{
    state_free(bench->state);
    buf_done(&bench->message);
    arena_free(bench->arena);
}

/* ---- measured ---- */

static bool is_listed(const void *context, struct str domain)
{
    (void)context, (void)domain;
    return true;
}

/* As a session does it: an arena, the body, facts, the run. */
static NO_YIELD_CHECK void run(struct bench *bench)
{
    static const struct mail_recipient recipient = {.address = {"bob@example.net", 15},
                                                    .domain = {"example.net", 11}};
    static struct str own = {"ann@example.org", 15};
    static const struct flow_ways ways = {.is_taken = is_listed, .is_listed = is_listed};
    struct arena *arena = arena_new(0);
    struct error err;
    struct flow_verdict verdict;
    struct str text = buf_str(&bench->message);
    struct mail_content content = {.head = STR("Received: from us by us; today\r\n"),
                                   .body = body_memory_new(FILE_SIZE_MAX)};
    check(body_append(content.body, text, &err) == OK && body_seal(content.body, &err) == OK);
    struct body *body = content.body;
    struct flow_facts facts = {.authenticated = true,
                               .user = own,
                               .own_addresses = &own,
                               .own_address_count = 1,
                               .listener = STR("submission"),
                               .sender = own,
                               .sender_domain = STR("example.org"),
                               .recipients = &recipient,
                               .recipient_count = 1,
                               .message = mail_id_new(),
                               .size = mail_content_size(&content)};
    check(net_ip_parse(STR("192.0.2.7"), &facts.client));
    facts.header = arena_printf(arena, "%.*s%.*s", STR_ARG(content.head),
                                (int)mail_header_length(text), text.ptr);
    struct flow_run flow_run = {.arena = arena,
                                .state = bench->state,
                                .facts = &facts,
                                .content = &content,
                                .hostname = STR("mx.example.org"),
                                .ways = &ways};
    flow_run_content(bench->flow, &flow_run, &verdict);
    check(verdict.kind == FLOW_DELIVER);
    arena_free(arena);
    body_unref(body);
}

static double cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void measure(struct bench *bench, const char *flow, const char *keys)
{
    double best = 0;
    bench->flow = flow_find(bench->set, FLOW_CONTENT, str_c(flow));
    check(bench->flow != NULL);
    run(bench);
    for (int batch = 0; batch < BATCHES; batch++) {
        double start = cpu_us();
        for (int i = 0; i < BATCH; i++)
            run(bench);
        double each = (cpu_us() - start) / BATCH;
        best = batch == 0 || each < best ? each : best;
    }
    printf("flow %s %s\t%.1f\n", flow, keys, best);
}

int main(int count, char **arguments)
{
    static const char *const names[] = {"unsigned", "ed25519", "rsa", "both"};
    if (count != 2) {
        fprintf(stderr, "usage: bench-flow FOLDER\n");
        return 2;
    }
    for (unsigned keys = 0; keys < 4; keys++) {
        struct bench bench;
        open_bench(&bench, arguments[1], (keys & 1) != 0, (keys & 2) != 0);
        if (keys == 0)
            measure(&bench, "plain", names[keys]);
        measure(&bench, "template", names[keys]);
        measure(&bench, "full", names[keys]);
        close_bench(&bench);
    }
    return 0;
}
