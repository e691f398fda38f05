/* SPDX-License-Identifier: Apache-2.0 */
/* flow/arc_test.c - forwarded mail: sealed by one gateway, believed by the next if it is trusted.
 */
#include "content/arc.h"
#include "content/dkim_test.h"
#include "content/signing_key.h"
#include "content/suite_zone_test.h"
#include "flow/test.h"

#include "base/clock.h"

/* the author's own client is 192.0.2.7; the forwarder is another */
static struct zone_record records[] = {
    ZONE_ROW("author.example", "TXT", "v=spf1 ip4:192.0.2.7 -all"),
    ZONE_ROW("_dmarc.author.example", "TXT", "v=DMARC1; p=reject"),
    ZONE_ROW("ed._domainkey.example.org", "TXT", "v=DKIM1; k=ed25519; p=" TEST_ED25519_PUBLIC),
};

struct hop {
    struct flow_fixture fixture;
    struct signing_key key;
    struct signing_keys keys;
    struct zone zone;
    struct resolver resolver;
    struct flow_facts facts;
    struct mail_content content;
    struct flow_verdict verdict;
};

static void hop_open(struct hop *hop, const char *steps)
{
    struct flow_fixture *fixture = &hop->fixture;
    struct error err;
    *hop = (struct hop){.zone = {records, sizeof records / sizeof *records, 0}};
    flow_fixture_context(fixture);
    hop->key = (struct signing_key){
        .name = STR("main"), .domain = STR("example.org"), .selector = STR("ed"), .active = true};
    check(sign_key_private(STR(TEST_ED25519_PRIVATE), &hop->key.key, &err) == OK);
    hop->keys = (struct signing_keys){&hop->key, 1};
    hop->resolver = zone_resolver(&hop->zone);
    struct str text =
        arena_printf(fixture->arena, "flows: { content: { f: [ %s, deliver ] } }\n", steps);
    check(config_load_text(STR("test.yaml"), text, fixture->arena, &fixture->report,
                           &fixture->root) == OK);
    fixture->context.keys = &hop->keys;
    if (flow_compile_all(config_get(&fixture->root, STR("flows")), &fixture->context,
                         &fixture->set) != OK) {
        flow_fixture_print(fixture);
        fail_msg("%s does not compile", steps);
    }
}

static void hop_close(struct hop *hop)
{
    body_unref(hop->content.body);
    sign_key_free(hop->key.key);
    flow_fixture_close(&hop->fixture);
}

/* What `client` brings, and how it leaves, in `arena`. */
static NO_YIELD_CHECK struct str hop_run(struct hop *hop, struct str message, const char *client,
                                         struct arena *arena)
{
    struct error err;
    size_t header = mail_header_length(message);
    hop->content = (struct mail_content){.head = STR_EMPTY, .body = body_memory_new(1 << 20)};
    check(body_append(hop->content.body, message, &err) == OK);
    check(body_seal(hop->content.body, &err) == OK);
    hop->facts = (struct flow_facts){.sender = STR("ann@author.example"),
                                     .sender_domain = STR("author.example"),
                                     .helo = STR("client.example"),
                                     .header = str_slice(message, 0, header)};
    check(net_ip_parse(str_c(client), &hop->facts.client));
    struct flow_run run = {.arena = hop->fixture.arena,
                           .facts = &hop->facts,
                           .content = &hop->content,
                           .resolver = &hop->resolver,
                           .hostname = STR("mx.example.org")};
    flow_run_content(flow_find(hop->fixture.set, FLOW_CONTENT, STR("f")), &run, &hop->verdict);
    struct str rest = str_from(message, hop->content.body_start);
    return arena_printf(arena, "%.*s%.*s", STR_ARG(hop->content.head), STR_ARG(rest));
}

static const char message[] = "From: Ann <ann@author.example>\r\nSubject: hello\r\n\r\nHello\r\n";

/* As the forwarder sends it on. */
static struct str forwarded(struct arena *arena, const char *client)
{
    struct hop hop;
    hop_open(&hop, "verify: { reject: note }, arc-seal");
    struct str sent = hop_run(&hop, str_c(message), client, arena);
    assert_int_equal(hop.verdict.kind, FLOW_DELIVER);
    assert_true(str_starts(sent, STR("ARC-Seal: a=ed25519-sha256;")));
    assert_true(str_find_str(sent, STR("ARC-Authentication-Results: i=1; mx.example.org;")) > 0);
    assert_true(str_find_str(sent, STR("cv=none;")) > 0);
    hop_close(&hop);
    return sent;
}

struct arrival_case {
    const char *name, *steps;
    const char *author_client; /* of the first hop: 192.0.2.7 passes */
    const char *change;        /* of the body on the way, or NULL */
    enum flow_verdict_kind kind;
    const char *arc; /* told in Authentication-Results */
};
static const struct arrival_case arrivals[] = {
    {"nobody is trusted", "verify", "192.0.2.7", NULL, FLOW_REJECT, "arc=pass (i=1)"},
    {"trusted", "verify: { arc_trusted: Example.org }", "192.0.2.7", NULL, FLOW_DELIVER,
     "arc=pass (i=1)"},
    {"another is trusted", "verify: { arc_trusted: [ example.net, org ] }", "192.0.2.7", NULL,
     FLOW_REJECT, "arc=pass (i=1)"},
    {"the sealer saw it fail", "verify: { arc_trusted: example.org }", "192.0.2.8", NULL,
     FLOW_REJECT, "arc=pass (i=1)"},
    {"changed behind the seal", "verify: { arc_trusted: example.org }", "192.0.2.7", "Hullo",
     FLOW_REJECT, "arc=fail (i=1: the body was changed)"},
    {"not asked for", "verify: { checks: [ spf, dkim, dmarc ], arc_trusted: example.org }",
     "192.0.2.7", NULL, FLOW_REJECT, NULL},
};

static void arriving(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof arrivals / sizeof *arrivals; i++) {
        const struct arrival_case *c = &arrivals[i];
        struct arena *arena = arena_new(0);
        struct hop hop;
        struct str sent = forwarded(arena, c->author_client);
        if (c->change) {
            ptrdiff_t at = str_find_str(sent, STR("Hello"));
            memcpy((char *)sent.ptr + at, c->change, strlen(c->change));
        }
        hop_open(&hop, c->steps);
        struct str got = hop_run(&hop, sent, "192.0.2.99", arena);
        if (hop.verdict.kind != c->kind)
            fail_msg("%s: verdict %d, %.*s", c->name, (int)hop.verdict.kind,
                     STR_ARG(hop.verdict.detail));
        struct str told = str_slice(got, 0, (size_t)str_find_str(got, STR("ARC-Seal:")));
        if (c->arc && str_find_str(told, str_c(c->arc)) < 0)
            fail_msg("%s: %.*s", c->name, STR_ARG(told));
        assert_true(c->arc || str_find_str(told, STR(" arc=")) < 0);
        hop_close(&hop);
        arena_free(arena);
    }
}

/* `message` as another forwarder sends it on that saw DMARC pass, and signs the fields `names`. */
static NO_YIELD_CHECK struct str sealed_by(const struct sign_key *key, const struct str *names,
                                           size_t count, struct arena *arena)
{
    struct arc_answer none = {.result = ARC_NONE};
    struct arc_sealer sealer = {.domain = STR("example.org"),
                                .selector = STR("ed"),
                                .key = key,
                                .authserv_id = STR("mx.example.org"),
                                .names = names,
                                .name_count = count};
    struct mail_content content = {.head = STR_EMPTY, .body = body_memory_new(1 << 20)};
    struct dkim_message sealed;
    struct str fields;
    struct error err;
    struct str whole = arena_printf(arena,
                                    "Authentication-Results: mx.example.org; dmarc=pass "
                                    "header.from=author.example\r\n%s",
                                    message);
    check(body_append(content.body, whole, &err) == OK && body_seal(content.body, &err) == OK);
    dkim_message_init(&sealed, &content, str_slice(whole, 0, mail_header_length(whole)));
    check(arc_seal(&sealed, &sealer, &none, arena, &fields, &err) == OK && fields.len);
    body_unref(content.body);
    return arena_printf(arena, "%.*s%.*s", STR_ARG(fields), STR_ARG(whole));
}

/* Some sign From once, or not at all; behind them somebody writes another. */
static void grown_author(void **state)
{
    (void)state;
    static const struct str names[] = {{"from", 4}, {"subject", 7}};
    static const struct {
        const char *name, *added;
        size_t first_name; /* of those above */
        enum flow_verdict_kind kind;
    } cases[] = {
        {"as it was sealed", "", 0, FLOW_DELIVER},
        {"one more From", "From: Boss <boss@author.example>\r\n", 0, FLOW_REJECT},
        {"From is not signed", "", 1, FLOW_REJECT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_new(0);
        struct hop hop;
        hop_open(&hop, "verify: { arc_trusted: example.org }");
        struct str sealed =
            sealed_by(hop.key.key, names + cases[i].first_name, 2 - cases[i].first_name, arena);
        struct str whole = arena_printf(arena, "%s%.*s", cases[i].added, STR_ARG(sealed));
        (void)hop_run(&hop, whole, "192.0.2.99", arena);
        if (hop.verdict.kind != cases[i].kind)
            fail_msg("%s: verdict %d, %.*s", cases[i].name, (int)hop.verdict.kind,
                     STR_ARG(hop.verdict.detail));
        hop_close(&hop);
        arena_free(arena);
    }
}

/* Each hop adds a set; the last one sees the whole chain. */
static void three_hops(void **state)
{
    (void)state;
    struct arena *arena = arena_new(0);
    struct str sent = forwarded(arena, "192.0.2.7");
    for (int hop_number = 2; hop_number <= 3; hop_number++) {
        struct hop hop;
        hop_open(&hop,
                 "verify: { arc_trusted: example.org }, arc-seal: { authserv_id: mx.example.org }");
        sent = hop_run(&hop, sent, "192.0.2.99", arena);
        assert_int_equal(hop.verdict.kind, FLOW_DELIVER);
        hop_close(&hop);
    }
    struct hop last;
    hop_open(&last, "verify: { arc_trusted: example.org }");
    struct str got = hop_run(&last, sent, "192.0.2.99", arena);
    assert_true(str_find_str(got, STR("arc=pass (i=3)")) > 0);
    hop_close(&last);
    arena_free(arena);
}

static void passed_over(void **state)
{
    (void)state;
    static const char *const steps[] = {
        "arc-seal",                                           /* nothing was checked */
        "verify: { checks: [ spf, dkim, dmarc ] }, arc-seal", /* nor was arc */
        "verify, arc-seal: { authserv_id: other.example }",   /* nothing of that name */
        "verify, arc-seal: { observe: true }",
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct arena *arena = arena_new(0);
        struct hop hop;
        hop_open(&hop, steps[i]);
        struct str got = hop_run(&hop, str_c(message), "192.0.2.7", arena);
        assert_int_equal(hop.verdict.kind, FLOW_DELIVER);
        assert_true(str_find_str(got, STR("ARC-Seal")) < 0);
        hop_close(&hop);
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arriving),
        cmocka_unit_test(grown_author),
        cmocka_unit_test(three_hops),
        cmocka_unit_test(passed_over),
    };
    return cmocka_run_group_tests_name("flow-arc", tests, NULL, NULL);
}
