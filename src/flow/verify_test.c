/* SPDX-License-Identifier: Apache-2.0 */
/* flow/verify_test.c - the blocks spf and verify, over a zone that the test plays. */
#include "flow/run_bench.h"

#include "content/suite_zone_test.h"
#include "flow/checks.h"

/* the client is 192.0.2.7 */
static struct zone_record records[] = {
    ZONE_ROW("pass.example", "TXT", "v=spf1 ip4:192.0.2.7 -all"),
    ZONE_ROW("_dmarc.pass.example", "TXT", "v=DMARC1; p=reject"),
    ZONE_ROW("fail.example", "TXT", "v=spf1 -all exp=why.fail.example"),
    ZONE_ROW("why.fail.example", "TXT", "no mail from %{i}"),
    ZONE_ROW("soft.example", "TXT", "v=spf1 ~all"),
    ZONE_ROW("neutral.example", "TXT", "v=spf1 ?all"),
    ZONE_ROW("broken.example", "TXT", "v=spf1 wrong"),
    ZONE_ROW("slow.example", "TIMEOUT", ""),
    ZONE_ROW("_dmarc.slow.example", "TIMEOUT", ""),
    ZONE_ROW("s._domainkey.a.slow.example", "TIMEOUT", ""),
    ZONE_ROW("s._domainkey.b.slow.example", "TIMEOUT", ""),
    ZONE_ROW("s._domainkey.c.slow.example", "TIMEOUT", ""),
    ZONE_ROW("s._domainkey.unsure.reject.example", "TIMEOUT", ""),
    ZONE_ROW("_dmarc.reject.example", "TXT", "v=DMARC1; p=reject"),
    ZONE_ROW("_dmarc.quarantine.example", "TXT", "v=DMARC1; p=quarantine"),
    ZONE_ROW("_dmarc.none.example", "TXT", "v=DMARC1; p=none"),
};

struct scene {
    struct bench bench;
    struct zone zone;
    struct resolver resolver;
    struct flow_checks checks;
};

static void open_scene(struct scene *scene, enum flow_type type, const char *steps,
                       const char *sender)
{
    *scene = (struct scene){.zone = {records, sizeof records / sizeof *records, 0}};
    scene->resolver = zone_resolver(&scene->zone);
    bench_open(&scene->bench, type, steps);
    struct bench *bench = &scene->bench;
    bench->run.resolver = &scene->resolver;
    bench->run.hostname = STR("mx.example.org");
    bench->facts.sender = str_c(sender);
    ptrdiff_t at = str_find(bench->facts.sender, '@');
    bench->facts.sender_domain = str_from(bench->facts.sender, (size_t)(at + 1));
    bench->facts.helo = STR("helo.pass.example");
    bench->facts.checks = &scene->checks;
}

/* ---- spf ---- */

struct spf_case {
    const char *name;
    const char *steps;
    const char *sender;
    const char *recipient;
    enum flow_verdict_kind kind;
    const char *reply;
    const char *step;
    bool verified;
};

#define SPF_FAIL_REPLY                                                                             \
    "550 5.7.23 192.0.2.7 may not send for fail.example (SPF); it says: no mail from 192.0.2.7"

static const struct spf_case spf_cases[] = {
    {"pass", "[ spf, accept ]", "a@pass.example", "", FLOW_ACCEPT, "", "2-accept", true},
    {"fail", "[ spf, accept ]", "a@fail.example", "", FLOW_REJECT, SPF_FAIL_REPLY, "1-spf", false},
    {"own words", "[ spf: { fail: { reject: \"550 5.7.1 No\" } }, accept ]", "a@fail.example", "",
     FLOW_REJECT, "550 5.7.1 No", "1-spf", false},
    {"fail: note", "[ spf: { fail: note }, accept ]", "a@fail.example", "", FLOW_ACCEPT, "",
     "2-accept", false},
    {"fail: defer", "[ spf: { fail: defer }, accept ]", "a@fail.example", "", FLOW_DEFER,
     "451 4.7.23 192.0.2.7 may not send for fail.example (SPF); it says: no mail from 192.0.2.7",
     "1-spf", false},
    {"observe", "[ spf: { observe: true }, accept ]", "a@fail.example", "", FLOW_ACCEPT, "",
     "2-accept", false},
    {"softfail", "[ spf, accept ]", "a@soft.example", "", FLOW_ACCEPT, "", "2-accept", false},
    {"softfail: reject", "[ spf: { softfail: reject }, accept ]", "a@soft.example", "", FLOW_REJECT,
     "550 5.7.23 SPF validation failed", "1-spf", false},
    {"neutral", "[ spf, accept ]", "a@neutral.example", "", FLOW_ACCEPT, "", "2-accept", false},
    {"none", "[ spf, accept ]", "a@nothing.example", "", FLOW_ACCEPT, "", "2-accept", false},
    {"permerror", "[ spf: { permerror: reject }, accept ]", "a@broken.example", "", FLOW_REJECT,
     "550 5.7.24 The sender's SPF record is broken", "1-spf", false},
    {"temperror", "[ spf: { temperror: defer }, accept ]", "a@slow.example", "", FLOW_DEFER,
     "451 4.7.24 SPF cannot be checked now, try again later", "1-spf", false},
    {"postmaster", "[ spf, accept ]", "a@fail.example", "postmaster@example.org", FLOW_ACCEPT, "",
     "2-accept", false},
    {"<>", "[ spf: { none: reject }, accept ]", "", "", FLOW_REJECT,
     "550 5.7.23 The sender's domain has no SPF record", "1-spf", false},
    {"literal", "[ spf: { none: reject }, accept ]", "a@[192.0.2.7]", "", FLOW_REJECT,
     "550 5.7.23 The sender's domain has no SPF record", "1-spf", false},
    {"expression", "[ spf, accept: { when: spf == \"pass\" }, reject ]", "a@pass.example", "",
     FLOW_ACCEPT, "", "2-accept", true},
    {"expression before", "[ accept: { when: spf == \"\" }, reject ]", "a@pass.example", "",
     FLOW_ACCEPT, "", "1-accept", false},
};

static void test_spf(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof spf_cases / sizeof *spf_cases; i++) {
        const struct spf_case *c = &spf_cases[i];
        struct scene scene;
        print_message("%s\n", c->name);
        open_scene(&scene, FLOW_RECIPIENT, c->steps, c->sender);
        if (c->recipient[0])
            scene.bench.facts.recipient = str_c(c->recipient);
        look_up(&scene.bench);
        expect(&scene.bench, c->kind, c->reply, c->step);
        assert_int_equal(scene.checks.sender_verified, c->verified);
        bench_close(&scene.bench);
    }
}

/* All recipients of a transaction share one answer. */
static void test_spf_once(void **unused)
{
    struct scene scene;
    (void)unused;
    open_scene(&scene, FLOW_RECIPIENT, "[ spf, accept ]", "a@pass.example");
    look_up(&scene.bench);
    unsigned asked = scene.zone.asked;
    look_up(&scene.bench);
    assert_int_equal(asked, 1);
    assert_int_equal(scene.zone.asked, asked);
    bench_close(&scene.bench);
}

static void test_helo(void **unused)
{
    struct scene scene;
    (void)unused;
    open_scene(&scene, FLOW_RECIPIENT, "[ spf: { helo: true }, accept ]", "a@pass.example");
    scene.bench.facts.helo = STR("fail.example");
    look_up(&scene.bench);
    assert_int_equal(scene.bench.verdict.kind, FLOW_REJECT);
    assert_true(scene.checks.sender_verified); /* the sender's own SPF passed, after all */
    bench_close(&scene.bench);
}

/* Without DNS nothing is refused by default. */
static void test_no_dns(void **unused)
{
    struct scene scene;
    (void)unused;
    open_scene(&scene, FLOW_RECIPIENT, "[ spf, accept ]", "a@pass.example");
    scene.bench.run.resolver = NULL;
    look_up(&scene.bench);
    assert_int_equal(scene.bench.verdict.kind, FLOW_ACCEPT);
    assert_int_equal(scene.checks.spf.result, SPF_TEMPERROR);
    bench_close(&scene.bench);
}

/* ---- verify ---- */

struct verify_case {
    const char *name;
    const char *steps;
    const char *sender;
    const char *header; /* of the message */
    enum flow_verdict_kind kind;
    const char *reply;
    const char *step;
    const char *head; /* afterwards; NULL: not looked at */
};

#define DMARC_REPLY                                                                                \
    "550 5.7.26 reject.example does not stand behind this message, and asks for its refusal "      \
    "(DMARC)"

#define UNSEEN_REPLY "550 5.7.26 From names more domains than can be asked for their policy (DMARC)"
/* by somebody who has no key, of the body below */
#define SIGNED(domain)                                                                             \
    "DKIM-Signature: v=1; a=rsa-sha256; d=" domain "; s=s; h=from; b=AAAA;\r\n"                    \
    "\tbh=Ba3gj8+xBPQLJTahTfzW6RbWQ/XPgESxkCi2B66PSQg=\r\n"

static const struct verify_case verify_cases[] = {
    {"pass", "[ verify, deliver ]", "a@pass.example", "From: b@pass.example\r\n\r\n", FLOW_DELIVER,
     "", "2-deliver",
     "Authentication-Results: mx.example.org;\r\n\tspf=pass smtp.mailfrom=a@pass.example;\r\n"
     "\tdkim=none;\r\n\tdmarc=pass (p=reject) header.from=pass.example\r\nReceived: x\r\n"},
    {"reject", "[ verify, deliver ]", "a@pass.example", "From: b@reject.example\r\n\r\n",
     FLOW_REJECT, DMARC_REPLY, "1-verify", NULL},
    {"reject: note", "[ verify: { reject: note }, deliver ]", "", "From: b@reject.example\r\n\r\n",
     FLOW_DELIVER, "", "2-deliver",
     "Authentication-Results: mx.example.org;\r\n\tspf=none smtp.helo=helo.pass.example;\r\n"
     "\tdkim=none;\r\n\tdmarc=fail (p=reject dis=reject) header.from=reject.example\r\n"
     "Received: x\r\n"},
    {"quarantine", "[ verify: { quarantine: hold }, deliver ]", "a@pass.example",
     "From: b@quarantine.example\r\n\r\n", FLOW_HOLD, "", "1-verify", NULL},
    {"p=none", "[ verify: { fail: hold }, deliver ]", "a@pass.example",
     "From: b@none.example\r\n\r\n", FLOW_HOLD, "", "1-verify", NULL},
    {"no policy", "[ verify: { none: hold }, deliver ]", "a@pass.example",
     "From: b@nothing.example\r\n\r\n", FLOW_HOLD, "", "1-verify", NULL},
    {"temperror", "[ verify: { temperror: defer }, deliver ]", "a@pass.example",
     "From: b@slow.example\r\n\r\n", FLOW_DEFER,
     "451 4.7.24 DMARC cannot be checked now, try again later", "1-verify", NULL},
    {"no From", "[ verify: { permerror: reject }, deliver ]", "a@pass.example", "To: b\r\n\r\n",
     FLOW_REJECT, "550 5.7.26 From names no author", "1-verify", NULL},
    {"two From", "[ verify, deliver ]", "a@pass.example",
     "From: b@pass.example\r\nFrom: c@reject.example\r\n\r\n", FLOW_REJECT,
     "550 5.7.26 pass.example does not stand behind this message, and asks for its refusal (DMARC)",
     "1-verify", NULL},
    {"keys of others that DNS does not answer", "[ verify, deliver ]", "a@pass.example",
     SIGNED("a.slow.example") SIGNED("b.slow.example")
         SIGNED("reject.example") "From: b@reject.example\r\n\r\n",
     FLOW_REJECT, DMARC_REPLY, "1-verify", NULL},
    {"and that of the author's, too", "[ verify: { temperror: defer }, deliver ]", "a@pass.example",
     SIGNED("a.slow.example") SIGNED("b.slow.example")
         SIGNED("unsure.reject.example") "From: b@reject.example\r\n\r\n",
     FLOW_DEFER, "451 4.7.24 DMARC cannot be checked now, try again later", "1-verify", NULL},
    {"behind a domain that takes all questions", "[ verify, deliver ]", "a@pass.example",
     "From: a@1.2.3.4.5.6.7.a.example, b@1.2.3.4.5.6.7.b.example, c@reject.example\r\n\r\n",
     FLOW_REJECT, UNSEEN_REPLY, "1-verify", NULL},
    {"behind domains that DNS does not answer", "[ verify, deliver ]", "a@pass.example",
     "From: a@a.slow.example, b@b.slow.example, c@c.slow.example, d@reject.example\r\n\r\n",
     FLOW_REJECT, UNSEEN_REPLY, "1-verify", NULL},
    {"the ninth domain", "[ verify, deliver ]", "a@pass.example",
     "From: a@a1, a@a2, a@a3, a@a4, a@a5, a@a6, a@a7, a@a8, a@reject.example\r\n\r\n", FLOW_REJECT,
     UNSEEN_REPLY, "1-verify", NULL},
    {"expressions",
     "[ verify: { reject: note }, hold: { when: 'dmarc == \"fail\" and dmarc.policy == "
     "\"reject\" and spf == \"pass\" and dkim == \"none\" and dkim.domain == \"\"' }, deliver ]",
     "a@pass.example", "From: b@reject.example\r\n\r\n", FLOW_HOLD, "", "2-hold", NULL},
    {"spf alone", "[ verify: spf, deliver ]", "a@pass.example", "From: b@reject.example\r\n\r\n",
     FLOW_DELIVER, "", "2-deliver",
     "Authentication-Results: mx.example.org;\r\n\tspf=pass smtp.mailfrom=a@pass.example\r\n"
     "Received: x\r\n"},
    {"another name, Received-SPF",
     "[ verify: { checks: spf, authserv_id: example.org, received_spf: true }, deliver ]",
     "a@pass.example", "From: b@reject.example\r\n\r\n", FLOW_DELIVER, "", "2-deliver",
     "Authentication-Results: example.org;\r\n\tspf=pass smtp.mailfrom=a@pass.example\r\n"
     "Received-SPF: pass receiver=mx.example.org; client-ip=192.0.2.7;\r\n"
     "\tenvelope-from=a@pass.example; helo=helo.pass.example;\r\n"
     "\tmechanism=\"ip4:192.0.2.7\"; identity=mailfrom\r\nReceived: x\r\n"},
    {"forged ones go", "[ verify: spf, deliver ]", "a@pass.example",
     "Authentication-Results: MX.example.org; spf=pass\r\nA: b\r\n"
     "authentication-results:\r\n mx.example.org/1; dmarc=pass\r\n"
     "Authentication-Results\r\n : mx.example.org; dmarc=pass\r\n"
     "Authentication-Results: other.example; spf=pass\r\n\r\n",
     FLOW_DELIVER, "", "2-deliver",
     "Authentication-Results: mx.example.org;\r\n\tspf=pass smtp.mailfrom=a@pass.example\r\n"
     "Received: x\r\nA: b\r\nAuthentication-Results: other.example; spf=pass\r\n\r\n"},
    {"observe", "[ verify: { observe: true }, deliver ]", "a@pass.example",
     "From: b@reject.example\r\n\r\n", FLOW_DELIVER, "", "2-deliver", "Received: x\r\n"},
    {"an edit behind it", "[ verify: spf, header: \"X-A: 1\", deliver ]", "a@pass.example",
     "A: b\r\n\r\n", FLOW_DELIVER, "", "3-deliver",
     "Authentication-Results: mx.example.org;\r\n\tspf=pass smtp.mailfrom=a@pass.example\r\n"
     "Received: x\r\nX-A: 1\r\nA: b\r\n\r\n"},
    {"an edit before it", "[ header: \"X-A: 1\", verify: spf, header: \"X-B: 1\", deliver ]",
     "a@pass.example", "A: b\r\n\r\n", FLOW_DELIVER, "", "4-deliver",
     "Authentication-Results: mx.example.org;\r\n\tspf=pass smtp.mailfrom=a@pass.example\r\n"
     "Received: x\r\nX-B: 1\r\nX-A: 1\r\nA: b\r\n\r\n"},
};

static void run_verify(struct scene *scene, const char *header) NO_YIELD_CHECK
{
    struct bench *bench = &scene->bench;
    struct error err;
    bench->content.head = STR("Received: x\r\n");
    bench->content.body = body_memory_new(10000);
    assert_int_equal(body_append(bench->content.body, str_c(header), &err), OK);
    assert_int_equal(body_append(bench->content.body, STR("Hello\r\n"), &err), OK);
    assert_int_equal(body_seal(bench->content.body, &err), OK);
    bench->facts.header = arena_printf(bench->arena, "Received: x\r\n%s", header);
    scan(bench);
}

static void test_verify(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof verify_cases / sizeof *verify_cases; i++) {
        const struct verify_case *c = &verify_cases[i];
        struct scene scene;
        print_message("%s\n", c->name);
        open_scene(&scene, FLOW_CONTENT, c->steps, c->sender);
        run_verify(&scene, c->header);
        expect(&scene.bench, c->kind, c->reply, c->step);
        if (c->head)
            assert_str(scene.bench.content.head, c->head);
        assert_true(scene.zone.asked <= RESOLVER_BUDGET);
        body_unref(scene.bench.content.body);
        bench_close(&scene.bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spf),    cmocka_unit_test(test_spf_once), cmocka_unit_test(test_helo),
        cmocka_unit_test(test_no_dns), cmocka_unit_test(test_verify),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
