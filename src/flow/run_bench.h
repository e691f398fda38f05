/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/run_bench.h - flows at work, with a directory that answers as the test says: its functions
 * are defined here, so that the linker takes them in place of the real ones. For one file of a
 * test program.
 */
#pragma once

#include "flow/test.h"

#include "base/clock.h"
#include "directory/directory.h"
#include "directory/stated.h"
#include "event/event.h"
#include "fiber/test.h"
#include "mail/body.h"
#include "state/state.h"

/* ---- the fake directory ---- */

static struct {
    enum directory_login login[3];   /* smtp, file, ldap */
    enum directory_lookup lookup[3]; /* smtp, file, ldap */
    struct mail_reply reply;
    unsigned asked[3];
    const char *right_password; /* set: smtp says yes to it and no to others */
    bool scanner_down;
    struct directory_stated_source scanner;
    bool slow; /* it takes until the fiber is cancelled, or some turns */
} fake;

enum { BY_SMTP, BY_FILE, BY_LDAP };

static struct str sender_of_user = {"alias@example.org", 17};

static void answer_login(int by, struct str password, struct directory_answer *out)
{
    fake.asked[by]++;
    *out = (struct directory_answer){.login = fake.login[by]};
    if (fake.right_password)
        out->login = str_equal(password, str_c(fake.right_password)) ? DIRECTORY_YES : DIRECTORY_NO;
    if (out->login == DIRECTORY_YES) {
        out->senders = &sender_of_user;
        out->sender_count = 1;
    }
}

void directory_login_smtp(struct directory *directory, const struct server *server,
                          struct str login, struct str password, struct arena *arena,
                          struct directory_answer *out) NO_YIELD_CHECK
{
    (void)directory, (void)server, (void)login, (void)arena;
    answer_login(BY_SMTP, password, out);
}

void directory_login_file(struct directory *directory, struct str path, struct str login,
                          struct str password, struct arena *arena,
                          struct directory_answer *out) NO_YIELD_CHECK
{
    (void)directory, (void)path, (void)login, (void)arena;
    answer_login(BY_FILE, password, out);
}

void directory_login_ldap(struct directory *directory, const struct directory_ldap_query *query,
                          struct str login, struct str password, struct arena *arena,
                          struct directory_answer *out) NO_YIELD_CHECK
{
    (void)directory, (void)query, (void)login, (void)arena;
    answer_login(BY_LDAP, password, out);
}

/* As the real one: a question that is cut off is the outcome error. */
static MAY_YIELD bool is_cut_off(void)
{
    struct error err;
    for (int i = 0; i < 50; i++) {
        fiber_yield();
        if (fiber_check(&err) != OK)
            return true;
    }
    return false;
}

static NO_YIELD_CHECK void answer_lookup(int by, struct directory_answer *out)
{
    fake.asked[by]++;
    if (fake.slow && is_cut_off()) {
        *out = (struct directory_answer){.lookup = DIRECTORY_ERROR};
        return;
    }
    *out = (struct directory_answer){.lookup = fake.lookup[by], .reply = fake.reply};
}

void directory_lookup_smtp(struct directory *directory, const struct server *server,
                           struct str address, bool smtputf8, struct arena *arena,
                           struct directory_answer *out) NO_YIELD_CHECK
{
    (void)directory, (void)server, (void)address, (void)smtputf8, (void)arena;
    answer_lookup(BY_SMTP, out);
}

void directory_lookup_file(struct directory *directory, struct str path, struct str address,
                           struct arena *arena, struct directory_answer *out) NO_YIELD_CHECK
{
    (void)directory, (void)path, (void)address, (void)arena;
    answer_lookup(BY_FILE, out);
}

void directory_lookup_ldap(struct directory *directory, const struct directory_ldap_query *query,
                           struct str address, struct arena *arena,
                           struct directory_answer *out) NO_YIELD_CHECK
{
    (void)directory, (void)query, (void)address, (void)arena;
    answer_lookup(BY_LDAP, out);
}

/* Scanners answer as stated: a flow's test needs none. */
bool directory_is_stated(const struct directory *directory)
{
    (void)directory;
    return true;
}

const struct directory_stated_source *directory_stated_scanner(const struct directory *directory,
                                                               struct str name)
{
    (void)directory, (void)name;
    return fake.scanner_down ? NULL : &fake.scanner;
}

/* ---- a run ---- */

struct bench {
    struct flow_fixture fixture;
    struct arena *arena;
    struct state *state;
    struct flow_facts facts;
    struct mail_content content;
    struct flow_run run;
    const struct flow *flow;
    struct flow_verdict verdict;
    int64_t now_ns;
};

static const char *const type_names[] = {"authentication", "recipient", "content"};

static inline void bench_open(struct bench *bench, enum flow_type type, const char *steps)
{
    char text[2048];
    *bench = (struct bench){.now_ns = 1000 * NS_PER_S};
    memset(&fake, 0, sizeof fake);
    snprintf(text, sizeof text, "flows: { %s: { f: %s } }\n", type_names[type], steps);
    flow_fixture_open(&bench->fixture, text);
    if (bench->fixture.result != OK) {
        flow_fixture_print(&bench->fixture);
        fail_msg("%s does not compile", steps);
    }
    bench->flow = flow_find(bench->fixture.set, type, STR("f"));
    bench->arena = arena_new(0);
    bench->state = state_new(NULL, 1, 1000);
    bench->facts = (struct flow_facts){
        .listener = STR("inbound"),
        .sender = STR("friend@example.net"),
        .sender_domain = STR("example.net"),
        .recipient = STR("ann@example.org"),
        .recipient_domain = STR("example.org"),
        .user = STR_EMPTY,
        .header = STR_EMPTY,
    };
    check(net_ip_parse(STR("192.0.2.7"), &bench->facts.client));
    bench->content = (struct mail_content){.head = STR_EMPTY};
    bench->run = (struct flow_run){.arena = bench->arena,
                                   .state = bench->state,
                                   .facts = &bench->facts,
                                   .content = &bench->content};
    clock_set_fake(bench->now_ns, bench->now_ns);
}

static inline void bench_close(struct bench *bench)
{
    clock_set_fake(-1, -1);
    state_free(bench->state);
    arena_free(bench->arena);
    flow_fixture_close(&bench->fixture);
}

static inline void bench_wait(struct bench *bench, int64_t seconds)
{
    bench->now_ns += seconds * NS_PER_S;
    clock_set_fake(bench->now_ns, bench->now_ns);
}

static inline void log_in(struct bench *bench, const char *login,
                          const char *password) NO_YIELD_CHECK
{
    flow_run_authentication(bench->flow, &bench->run, str_c(login), str_c(password),
                            &bench->verdict);
}

static inline void look_up(struct bench *bench) NO_YIELD_CHECK
{
    flow_run_recipient(bench->flow, &bench->run, &bench->verdict);
}

static inline void scan(struct bench *bench) NO_YIELD_CHECK
{
    flow_run_content(bench->flow, &bench->run, &bench->verdict);
}

static inline void expect(const struct bench *bench, enum flow_verdict_kind kind, const char *reply,
                          const char *step)
{
    const struct flow_verdict *verdict = &bench->verdict;
    struct str text =
        verdict->reply.code ? mail_reply_text(bench->arena, &verdict->reply) : STR_EMPTY;
    if (verdict->kind != kind || !str_equal(text, str_c(reply)) ||
        !str_equal(verdict->step, str_c(step)))
        fail_msg("verdict %d \"%.*s\" by \"%.*s\"", (int)verdict->kind, STR_ARG(text),
                 STR_ARG(verdict->step));
}
