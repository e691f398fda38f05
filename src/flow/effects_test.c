/* SPDX-License-Identifier: Apache-2.0 */
/* flow/effects_test.c - what content flows do beyond the verdict: envelope, route, copies, notices.
 */
#include "flow/run_bench.h"

#include "mail/header.h"

#include <unistd.h>

/* ---- a bench with a message, a user and ways ---- */

static bool takes(const void *context, struct str domain)
{
    (void)context;
    return !str_equal(domain, STR("nowhere.example"));
}

static bool lists(const void *context, struct str domain)
{
    (void)context;
    return str_equal(domain, STR("example.org"));
}

static const struct flow_ways some_ways = {
    .is_taken = takes, .is_listed = lists, .postmaster = {"postmaster@example.org", 22}};

static const struct mail_recipient two[2] = {
    {.address = {"Ann@example.org", 15}, .domain = {"example.org", 11}},
    {.address = {"bob@example.com", 15}, .domain = {"example.com", 11}},
};

#define SECTIONS                                                                                   \
    "quarantines: { spam: { keep: 30d } }\n"                                                       \
    "transports: { special: { method: discard } }\n"

struct letter {
    const char *user;
    const char *sender;
    const char *header;
};

/* As bench_open, with sections that steps may name, and a message. */
NO_YIELD_CHECK static void open_letter(struct bench *bench, enum flow_type type, const char *steps,
                                       const struct letter *letter)
{
    char text[4096];
    struct error err;
    bench_open(bench, type, type == FLOW_CONTENT ? "[ deliver ]" : "[ accept ]");
    flow_fixture_close(&bench->fixture);
    snprintf(text, sizeof text, SECTIONS "flows: { %s: { f: %s } }\n", type_names[type], steps);
    flow_fixture_open(&bench->fixture, text);
    if (bench->fixture.result != OK) {
        flow_fixture_print(&bench->fixture);
        fail_msg("%s does not compile", steps);
    }
    bench->flow = flow_find(bench->fixture.set, type, STR("f"));
    bench->run.ways = &some_ways;
    bench->run.hostname = STR("mx.example.org");
    bench->facts.user = str_c(letter->user);
    bench->facts.authenticated = letter->user != NULL;
    if (letter->sender) {
        ptrdiff_t at = str_find(str_c(letter->sender), '@');
        bench->facts.sender = str_c(letter->sender);
        bench->facts.sender_domain = at < 0 ? STR_EMPTY : str_c(letter->sender + at + 1);
    }
    bench->facts.recipients = two;
    bench->facts.recipient_count = 2;
    struct str whole = str_c(letter->header ? letter->header : "Subject: hello\r\n\r\n");
    bench->facts.header = str_slice(whole, 0, mail_header_length(whole));
    struct body *body = body_memory_new(100000);
    check(body_append(body, whole, &err) == OK);
    check(body_append(body, STR("text\r\n"), &err) == OK && body_seal(body, &err) == OK);
    bench->content.body = body;
    bench->facts.size = body->size;
}

static void close_letter(struct bench *bench)
{
    struct body *body = bench->content.body;
    bench_close(bench);
    body_unref(body);
}

/* ---- every outcome of the blocks, by where the flow ends ---- */

struct outcome_case {
    const char *name;
    const char *steps;
    struct letter letter;
    enum flow_verdict_kind kind;
    const char *step;
};

#define FROM(address) "From: " address "\r\nSubject: hello\r\n\r\n"
#define MATCHING      "[ sender-match: { mismatch: [ hold ] }, deliver ]"

static const struct outcome_case outcomes[] = {
    {"the login itself",
     MATCHING,
     {"ann@example.org", "Ann@example.org", FROM("ann@EXAMPLE.org")},
     FLOW_DELIVER,
     "2-deliver"},
    {"another's envelope",
     MATCHING,
     {"ann@example.org", "bob@example.org", FROM("ann@example.org")},
     FLOW_HOLD,
     "1.mismatch.1-hold"},
    {"another's From",
     MATCHING,
     {"ann@example.org", "ann@example.org", FROM("bob@example.org")},
     FLOW_HOLD,
     "1.mismatch.1-hold"},
    {"one of two in From",
     MATCHING,
     {"ann@example.org", "ann@example.org", FROM("ann@example.org, bob@example.org")},
     FLOW_HOLD,
     "1.mismatch.1-hold"},
    {"no From",
     MATCHING,
     {"ann@example.org", "ann@example.org", "Subject: x\r\n\r\n"},
     FLOW_HOLD,
     "1.mismatch.1-hold"},
    {"an unclear From",
     MATCHING,
     {"ann@example.org", "ann@example.org", "From: ann@example.org\r\n" FROM("eve@example.org")},
     FLOW_HOLD,
     "1.mismatch.1-hold"},
    {"<>", MATCHING, {"ann@example.org", "", FROM("ann@example.org")}, FLOW_DELIVER, "2-deliver"},
    {"a login without @ at a listed domain",
     MATCHING,
     {"ann", "ann@example.org", FROM("ann@example.org")},
     FLOW_DELIVER,
     "2-deliver"},
    {"a login without @ at another",
     MATCHING,
     {"ann", "ann@example.com", FROM("ann@example.org")},
     FLOW_HOLD,
     "1.mismatch.1-hold"},
    {"a login that is the end of another",
     MATCHING,
     {"ann", "joann@example.org", FROM("ann@example.org")},
     FLOW_HOLD,
     "1.mismatch.1-hold"},
    {"nobody",
     MATCHING,
     {NULL, "eve@example.net", FROM("eve@example.net")},
     FLOW_DELIVER,
     "2-deliver"},
    {"envelope only",
     "[ sender-match: { header: false }, deliver ]",
     {"ann@example.org", "ann@example.org", FROM("bob@example.org")},
     FLOW_DELIVER,
     "2-deliver"},
    {"listed domains",
     "[ sender-match: listed-domains, deliver ]",
     {"x", "news@example.org", FROM("ann@example.org")},
     FLOW_DELIVER,
     "2-deliver"},
    {"not listed",
     "[ sender-match: { allow: listed-domains, mismatch: discard }, deliver ]",
     {"x", "news@example.com", FROM("ann@example.org")},
     FLOW_DISCARD,
     "1-sender-match"},
    {"also",
     "[ sender-match: { also: [ \"@example.com\", noreply@example.net ] }, deliver ]",
     {"x", "news@example.com", FROM("NoReply@example.net")},
     FLOW_DELIVER,
     "2-deliver"},
    {"route",
     "[ route: special, match: { when: size > 0, matched: hold } , deliver ]",
     {0},
     FLOW_HOLD,
     "2-match"},
    {"rewritten",
     "[ rewrite: { recipient: { ann@example.org: x@example.org }, unchanged: hold }, "
     "deliver ]",
     {0},
     FLOW_DELIVER,
     "2-deliver"},
    {"unchanged",
     "[ rewrite: { recipient: { eve@example.org: x@example.org }, unchanged: hold }, "
     "deliver ]",
     {0},
     FLOW_HOLD,
     "1-rewrite"},
    {"rewritten to nowhere",
     "[ rewrite: { recipient: { ann@example.org: x@nowhere.example }, error: hold }, deliver ]",
     {0},
     FLOW_HOLD,
     "1-rewrite"},
    {"rewritten to nothing",
     "[ rewrite: { recipient: { \"~^ann@.*$\": \"$1\" }, error: hold }, deliver ]",
     {0},
     FLOW_HOLD,
     "1-rewrite"},
    {"copied",
     "[ copy: { to: archive@example.org, error: hold }, deliver ]",
     {0},
     FLOW_DELIVER,
     "2-deliver"},
    {"copied to nowhere",
     "[ copy: { to: archive@nowhere.example, error: hold }, deliver ]",
     {0},
     FLOW_HOLD,
     "1-copy"},
    {"notified",
     "[ notify: { to: root@example.org, skipped: hold, error: hold }, deliver ]",
     {0},
     FLOW_DELIVER,
     "2-deliver"},
    {"notify a stranger",
     "[ notify: { to: sender, skipped: hold }, deliver ]",
     {0},
     FLOW_HOLD,
     "1-notify"},
    {"notify an own user",
     "[ notify: { to: sender, skipped: hold }, deliver ]",
     {"ann", "ann@example.org", NULL},
     FLOW_DELIVER,
     "2-deliver"},
    {"notify nobody about what a machine sent",
     "[ notify: { to: sender, skipped: hold }, deliver ]",
     {"ann", "ann@example.org", "Auto-Submitted: auto-replied\r\n\r\n"},
     FLOW_HOLD,
     "1-notify"},
    {"notify nowhere",
     "[ notify: { to: x@nowhere.example, error: hold }, deliver ]",
     {0},
     FLOW_HOLD,
     "1-notify"},
    {"too many notices",
     "[ notify: { to: postmaster, at_most: 1/1h }, notify: { id: b, to: postmaster, at_most: 1/1h "
     "}, "
     "notify: { id: c, to: [ postmaster, postmaster ], at_most: 1/1h, suppressed: hold }, deliver "
     "]",
     {0},
     FLOW_DELIVER,
     "4-deliver"},
    {"tagged",
     "[ subject-tag: { text: \"[SPAM]\", there: hold }, deliver ]",
     {0},
     FLOW_DELIVER,
     "2-deliver"},
    {"tagged already",
     "[ subject-tag: { text: \"hello\", there: hold }, deliver ]",
     {0},
     FLOW_HOLD,
     "1-subject-tag"},
    {"a word in the text",
     "[ match: { body: \"Vi.gra\", matched: hold }, deliver ]",
     {NULL, "a@b.example", "Content-Type: text/html\r\n\r\n<b>Vi</b>agra"},
     FLOW_HOLD,
     "1-match"},
    {"no word in the text",
     "[ match: { body: [ Vi.gra, xyz ], unmatched: hold }, deliver ]",
     {0},
     FLOW_HOLD,
     "1-match"},
    {"a word in an attachment is none",
     "[ match: { body: Viagra, matched: hold }, deliver ]",
     {NULL, "a@b.example", "Content-Disposition: attachment\r\n\r\nViagra"},
     FLOW_DELIVER,
     "2-deliver"},
    {"base64",
     "[ match: { body: Viagra, matched: hold }, deliver ]",
     {NULL, "a@b.example", "Content-Transfer-Encoding: base64\r\n\r\nVmlhZ3Jh\r\n\r\n"},
     FLOW_HOLD,
     "1-match"},
    {"an encoded word in a field",
     "[ match: { header: \"^Subject: .*Viagra\", matched: hold }, "
     "deliver ]",
     {NULL, "a@b.example", "Subject: =?utf-8?q?Vi?= =?utf-8?b?YWdyYQ==?=\r\n\r\n"},
     FLOW_HOLD,
     "1-match"},
    {"both must fit",
     "[ match: { when: size > 1G, body: text, matched: hold }, deliver ]",
     {0},
     FLOW_DELIVER,
     "2-deliver"},
    {"a costly pattern",
     "[ match: { body: \"(a+)+$\", error: hold }, deliver ]",
     {NULL, "a@b.example", "A: b\r\n\r\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"},
     FLOW_HOLD,
     "1-match"},
    {"too deep",
     "[ match: { body: x, error: hold }, deliver ]",
     {NULL, "a@b.example",
      "Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n"
      "Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n"},
     FLOW_HOLD,
     "1-match"},
    {"preset incoming", "{ preset: incoming }", {0}, FLOW_DELIVER, "2-deliver"},
    {"preset incoming with a choice",
     "{ preset: incoming, dnsbl: { lists: zen.example } }",
     {0},
     FLOW_DELIVER,
     "3-deliver"},
    {"preset outgoing with a choice",
     "{ preset: outgoing, sender-match: { mismatch: hold }, limit: { by: user, messages: 1/1h } }",
     {"ann", "eve@example.net", FROM("ann@example.org")},
     FLOW_HOLD,
     "1-sender-match"},
    {"quarantine", "[ quarantine ]", {0}, FLOW_QUARANTINE, "1-quarantine"},
};

static void test_outcomes(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
        const struct outcome_case *one = &outcomes[i];
        struct bench bench;
        open_letter(&bench, FLOW_CONTENT, one->steps, &one->letter);
        struct flow_limits limits = flow_limits_default;
        limits.depth = 3;
        bench.run.limits = &limits;
        scan(&bench);
        if (bench.verdict.kind != one->kind || !str_equal(bench.verdict.step, str_c(one->step)))
            fail_msg("%s: verdict %d by \"%.*s\": %.*s", one->name, (int)bench.verdict.kind,
                     STR_ARG(bench.verdict.step), STR_ARG(bench.verdict.detail));
        close_letter(&bench);
    }
}

static void test_own_addresses(void **unused)
{
    (void)unused;
    struct bench bench;
    struct str own = STR("Alias@Example.ORG");
    const struct letter letter = {"ann", "alias@example.org", FROM("alias@example.org")};
    open_letter(&bench, FLOW_CONTENT, "[ sender-match, deliver ]", &letter);
    bench.facts.own_addresses = &own;
    bench.facts.own_address_count = 1;
    scan(&bench);
    expect(&bench, FLOW_DELIVER, "", "2-deliver");
    close_letter(&bench);
}

static void test_mismatch_reply(void **unused)
{
    (void)unused;
    struct bench bench;
    const struct letter letter = {"ann", "eve@example.org", FROM("ann@example.org")};
    open_letter(&bench, FLOW_CONTENT, "[ sender-match, deliver ]", &letter);
    scan(&bench);
    expect(&bench, FLOW_REJECT, "550 5.7.1 You may not send as <eve@example.org>",
           "1-sender-match");
    assert_int_equal(bench.verdict.reason, MAIL_REASON_SENDER_MISMATCH);
    close_letter(&bench);
}

/* ---- envelope ---- */

struct envelope_case {
    const char *steps;
    const char *sender;     /* NULL: unchanged */
    const char *recipients; /* NULL: unchanged; "address/came_as …" */
    const char *transport;
};

static const struct envelope_case envelopes[] = {
    {"[ deliver ]", NULL, NULL, ""},
    {"[ route: special, deliver ]", NULL, NULL, "special"},
    {"[ route: { transport: special, observe: true }, deliver ]", NULL, NULL, ""},
    {"[ rewrite: { recipient: { ann@example.org: [ x@example.org, y@example.net ] } }, deliver ]",
     NULL, "x@example.org/-1 y@example.net/-1 bob@example.com/1 ", ""},
    {"[ rewrite: { recipient: { \"@example.org\": \"@example.net\" } }, deliver ]", NULL,
     "Ann@example.net/-1 bob@example.com/1 ", ""},
    {"[ rewrite: { recipient: { \"~^(.+)@example\\\\.(com|org)$\": \"$1.$2@example.net\" } }, "
     "deliver "
     "]",
     NULL, "Ann.org@example.net/-1 bob.com@example.net/-1 ", ""},
    /* two that become one stay one */
    {"[ rewrite: { recipient: { \"~.\": all@example.org } }, deliver ]", NULL,
     "all@example.org/-1 ", ""},
    {"[ rewrite: { recipient: { ann@example.org: bob@example.com } }, deliver ]", NULL,
     "bob@example.com/-1 ", ""},
    /* the second step sees what the first did */
    {"[ rewrite: { recipient: { ann@example.org: x@example.org } }, "
     "rewrite: { id: b, recipient: { x@example.org: z@example.org } }, deliver ]",
     NULL, "z@example.org/-1 bob@example.com/1 ", ""},
    {"[ rewrite: { recipient: { ann@example.org: x@example.org }, observe: true }, deliver ]", NULL,
     NULL, ""},
    {"[ rewrite: { sender: { \"@example.net\": \"@example.org\" } }, deliver ]",
     "friend@example.org", NULL, ""},
    /* either all or nothing */
    {"[ rewrite: { sender: { \"@example.net\": \"@example.org\" }, recipient: { bob@example.com: "
     "x@nowhere.example }, error: next }, deliver ]",
     NULL, NULL, ""},
};

static void test_envelopes(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof envelopes / sizeof *envelopes; i++) {
        const struct envelope_case *one = &envelopes[i];
        struct bench bench;
        open_letter(&bench, FLOW_CONTENT, one->steps, &(struct letter){0});
        scan(&bench);
        const struct flow_effects *effects = &bench.verdict.effects;
        char text[512] = "";
        for (size_t k = 0; k < effects->recipient_count; k++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s/%ld ",
                     STR_ARG(effects->recipients[k].address), effects->came_as[k]);
        if (strcmp(text, one->recipients ? one->recipients : "") != 0)
            fail_msg("%s: %s", one->steps, text);
        assert_int_equal(effects->sender_changed, one->sender != NULL);
        if (one->sender)
            assert_str(effects->sender, one->sender);
        assert_str(effects->transport, one->transport);
        close_letter(&bench);
    }
}

static void test_recipient_flow(void **unused)
{
    (void)unused;
    struct bench bench;
    open_letter(
        &bench, FLOW_RECIPIENT,
        "[ rewrite: { recipient: { ann@example.org: Bob@example.net } }, route: special, "
        "match: { when: 'recipient == \"bob@example.net\"', matched: [ accept ] }, reject ]",
        &(struct letter){0});
    look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "3.matched.1-accept");
    assert_int_equal(bench.verdict.effects.recipient_count, 1);
    assert_str(bench.verdict.effects.recipients[0].address, "bob@example.net");
    assert_str(bench.verdict.effects.recipients[0].domain, "example.net");
    assert_str(bench.verdict.effects.transport, "special");
    close_letter(&bench);
}

/* ---- forwarding ---- */

#define SRS "srs: { domain: example.org, secret_file: %s%s }"

static void write_secret(char *path)
{
    int fd = mkstemp(path);
    check(fd >= 0 && write(fd, "a secret for this test only\n", 28) == 28);
    close(fd);
}

/* Who forwards, and what of the way back is refused. */
static void test_srs(void **unused)
{
    (void)unused;
    char path[] = "/tmp/postern-srs-XXXXXX";
    char steps[300], back[300], address[100];
    struct bench bench;
    write_secret(path);
    snprintf(steps, sizeof steps, "[ " SRS ", deliver ]", path, ", skipped: hold");
    snprintf(back, sizeof back, "[ " SRS ", reject ]", path, ", changed: accept");
    open_letter(&bench, FLOW_CONTENT, steps, &(struct letter){.sender = "Ann+aB@example.com"});
    scan(&bench);
    expect(&bench, FLOW_DELIVER, "", "2-deliver");
    struct str made = bench.verdict.effects.sender;
    assert_true(str_starts(made, STR("SRS0=")) && made.len < sizeof address);
    memcpy(address, made.ptr, made.len);
    address[made.len] = '\0';
    close_letter(&bench);
    static const char *const ours[] = {"", "ann@example.org"};
    for (size_t i = 0; i < 2; i++) {
        open_letter(&bench, FLOW_CONTENT, steps, &(struct letter){.sender = ours[i]});
        scan(&bench);
        expect(&bench, FLOW_HOLD, "", "1-srs");
        close_letter(&bench);
    }
    const struct {
        const char *sender, *recipient;
        enum flow_verdict_kind kind;
        const char *step;
    } bounces[] = {
        {"", address, FLOW_ACCEPT, "1-srs"},
        {"eve@example.net", address, FLOW_REJECT, "1-srs"}, /* no bounce */
        {"", "srs0=aaaaaaaa=aa=example.com=ann@example.org", FLOW_REJECT, "1-srs"},
        {"", "ann@example.org", FLOW_REJECT, "2-reject"}, /* not for this step */
    };
    for (size_t i = 0; i < 4; i++) {
        open_letter(&bench, FLOW_RECIPIENT, back, &(struct letter){.sender = bounces[i].sender});
        bench.facts.recipient = arena_lower(bench.arena, str_c(bounces[i].recipient));
        bench.facts.recipient_written = str_c(bounces[i].recipient);
        look_up(&bench);
        assert_int_equal(bench.verdict.kind, bounces[i].kind);
        assert_str(bench.verdict.step, bounces[i].step);
        if (bounces[i].kind == FLOW_ACCEPT)
            assert_str(bench.verdict.effects.recipients[0].address, "Ann+aB@example.com");
        close_letter(&bench);
    }
    unlink(path);
}

/* ---- copies and notices ---- */

static void test_copy_is_a_snapshot(void **unused)
{
    (void)unused;
    struct bench bench;
    open_letter(
        &bench, FLOW_CONTENT,
        "[ copy: { to: archive@example.org, envelope: true }, header: \"X-Later: 1\", copy: "
        "{ id: b, to: [ x@example.org, y@example.org ], sender: s@example.org }, deliver ]",
        &(struct letter){0});
    scan(&bench);
    const struct flow_effects *effects = &bench.verdict.effects;
    assert_int_equal(effects->extra_count, 3);
    assert_str(effects->extras[0].to.address, "archive@example.org");
    assert_str(effects->extras[0].sender, "");
    assert_str(effects->extras[0].content.head,
               "X-Envelope-From: <friend@example.net>\r\nX-Envelope-To: <Ann@example.org>\r\n"
               "X-Envelope-To: <bob@example.com>\r\n");
    assert_int_equal(effects->extras[0].content.body_start, 0);
    assert_str(effects->extras[2].sender, "s@example.org");
    assert_str(effects->extras[2].content.head, "X-Later: 1\r\nSubject: hello\r\n\r\n");
    close_letter(&bench);
}

NO_YIELD_CHECK static struct str read_all(struct bench *bench, const struct mail_content *content)
{
    struct buf text BUF_CLEANUP;
    struct str part;
    char space[512];
    struct error err;
    buf_init(&text, 1 << 20);
    while (mail_content_read(content, text.len, sizeof space, space, &part, &err) == OK && part.len)
        buf_append(&text, part);
    return arena_str(bench->arena, buf_str(&text));
}

static NO_YIELD_CHECK void test_notice(void **unused)
{
    (void)unused;
    struct bench bench;
    const struct letter letter = {
        NULL, "eve@example.net",
        "Subject: =?utf-8?q?h=C3=A9?=\r\nX-Bad: \x80\x07\r\nFrom: <eve@example.net>\r\n\r\n"};
    open_letter(
        &bench, FLOW_CONTENT,
        "[ notify: { to: [ root@example.org, recipients ], subject: \"caf\\u00e9 {sender}\", "
        "text: \"See {message} {nothing}\" }, reject ]",
        &letter);
    scan(&bench);
    const struct flow_effects *effects = &bench.verdict.effects;
    assert_int_equal(effects->extra_count, 2); /* bob's domain is not ours */
    assert_str(effects->extras[1].to.address, "Ann@example.org");
    const struct flow_extra *notice = &effects->extras[0];
    assert_str(notice->sender, "");
    assert_true(notice->message.high != 0);
    struct str text = read_all(&bench, &notice->content);
    static const char *const parts[] = {
        "From: Mail gateway <postmaster@example.org>\r\n",
        "To: <root@example.org>\r\n",
        "Subject: =?utf-8?B?",
        "Auto-Submitted: auto-generated\r\n",
        "See ",
        " {nothing}\r\n",
        "To:         Ann@example.org, bob@example.com\r\n",
        "X-Bad: ??\r\n",
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (str_find_str(text, str_c(parts[i])) < 0)
            fail_msg("%s is not in\n%.*s", parts[i], STR_ARG(text));
    close_letter(&bench);
}

/* Who is named twice is told once, and recipients are not told of each other. */
static NO_YIELD_CHECK void test_notices_to_recipients(void **unused)
{
    (void)unused;
    enum { MANY = 30, AT_MOST = 20 };
    struct bench bench;
    struct mail_recipient many[MANY];
    char texts[MANY][32];
    open_letter(&bench, FLOW_CONTENT,
                "[ notify: { to: [ recipients, recipients, R2@example.org, root@example.org ], "
                "subject: \"{recipients}\" }, deliver ]",
                &(struct letter){0});
    for (size_t i = 0; i < MANY; i++) {
        snprintf(texts[i], sizeof texts[i], "r%zu@example.org", i);
        many[i] = (struct mail_recipient){.address = str_c(texts[i]), .domain = STR("example.org")};
    }
    bench.facts.recipients = many;
    bench.facts.recipient_count = MANY;
    scan(&bench);
    const struct flow_effects *effects = &bench.verdict.effects;
    assert_int_equal(effects->extra_count, AT_MOST + 1);
    for (size_t i = 0; i < AT_MOST; i++) {
        struct str text = read_all(&bench, &effects->extras[i].content);
        assert_str(effects->extras[i].to.address, texts[i]);
        assert_true(str_find_str(text, str_c(texts[i])) > 0);
        assert_true(str_find_str(text, str_c(texts[(i + 7) % AT_MOST])) < 0);
    }
    struct str text = read_all(&bench, &effects->extras[AT_MOST].content);
    assert_true(str_find_str(text, STR("r1@example.org, r2@example.org")) > 0);
    close_letter(&bench);
}

static NO_YIELD_CHECK void test_notices_are_limited(void **unused)
{
    (void)unused;
    struct bench bench;
    open_letter(&bench, FLOW_CONTENT,
                "[ notify: { to: postmaster, at_most: 1/1h, suppressed: hold }, deliver ]",
                &(struct letter){0});
    scan(&bench);
    expect(&bench, FLOW_DELIVER, "", "2-deliver");
    scan(&bench);
    expect(&bench, FLOW_HOLD, "", "1-notify");
    assert_int_equal(bench.verdict.effects.extra_count, 0);
    close_letter(&bench);
}

/* ---- subject, hold, quarantine ---- */

static void test_subjects(void **unused)
{
    (void)unused;
    static const struct {
        const char *tag, *header, *head;
    } cases[] = {
        {"[SPAM]", "Subject: a\r\n b\r\nTo: x\r\n\r\n", "Subject: [SPAM] a\r\n b\r\nTo: x\r\n\r\n"},
        {"[SPAM]", "To: x\r\n\r\n", "To: x\r\nSubject: [SPAM]\r\n\r\n"},
        {"[SPAM]", "subject:\r\nSubject: b\r\n\r\n", "Subject: [SPAM] \r\nSubject: b\r\n\r\n"},
        {"caf\\u00e9", "Subject: a\r\n\r\n", "Subject: =?utf-8?B?Y2Fmw6k=?= a\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        char steps[200];
        snprintf(steps, sizeof steps, "[ subject-tag: \"%s\", deliver ]", cases[i].tag);
        open_letter(&bench, FLOW_CONTENT, steps,
                    &(struct letter){.sender = "a@example.net", .header = cases[i].header});
        scan(&bench);
        assert_str(bench.content.head, cases[i].head);
        assert_int_equal(bench.content.body_start, strlen(cases[i].header));
        close_letter(&bench);
    }
}

static void test_kept(void **unused)
{
    (void)unused;
    static const struct {
        const char *steps;
        enum flow_verdict_kind kind;
        const char *quarantine, *why;
        enum mail_reason reason;
    } cases[] = {
        {"[ hold ]", FLOW_HOLD, "", "", MAIL_REASON_NONE},
        {"[ hold: \"too odd\" ]", FLOW_HOLD, "", "too odd", MAIL_REASON_NONE},
        {"[ hold: { reason: odd, class: spam } ]", FLOW_HOLD, "", "odd", MAIL_REASON_SPAM},
        {"[ quarantine: { name: spam, reason: odd, class: virus } ]", FLOW_QUARANTINE, "spam",
         "odd", MAIL_REASON_VIRUS},
        {"[ match: { when: size > 0, matched: quarantine, unmatched: discard } ]", FLOW_QUARANTINE,
         "spam", "", MAIL_REASON_NONE},
        {"[ match: { when: size > 0, matched: { quarantine: spam }, unmatched: discard } ]",
         FLOW_QUARANTINE, "spam", "", MAIL_REASON_NONE},
        {"[ match: { when: size > 0, matched: { hold: \"look\" }, unmatched: discard } ]",
         FLOW_HOLD, "", "look", MAIL_REASON_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        open_letter(&bench, FLOW_CONTENT, cases[i].steps, &(struct letter){0});
        scan(&bench);
        assert_int_equal(bench.verdict.kind, cases[i].kind);
        assert_str(bench.verdict.quarantine, cases[i].quarantine);
        assert_str(bench.verdict.why, cases[i].why);
        assert_int_equal(bench.verdict.reason, cases[i].reason);
        close_letter(&bench);
    }
}

/* ---- going on behind the step that kept it ---- */

static void test_released(void **unused)
{
    (void)unused;
    static const char flow[] =
        "[ hold: { id: first }, "
        "match: { id: fork, when: size > 0, matched: [ header: \"X-B: 1\", hold: { id: inner } ] "
        "}, "
        "header: \"X-Last: 1\", match: { id: end, when: 'size < 0', matched: discard }, deliver ]";
    static const struct {
        const char *after;
        enum flow_verdict_kind kind;
        const char *step, *head;
    } cases[] = {
        {"", FLOW_HOLD, "first", ""},
        {"first", FLOW_HOLD, "inner", "X-B: 1\r\nSubject: hello\r\n\r\n"},
        {"inner", FLOW_DELIVER, "5-deliver", "X-Last: 1\r\nSubject: hello\r\n\r\n"},
        {"5-deliver", FLOW_DELIVER, "", ""}, /* the end of the flow */
        {"gone", FLOW_HOLD, "first", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        open_letter(&bench, FLOW_CONTENT, flow, &(struct letter){0});
        bench.run.after_step = str_c(cases[i].after);
        scan(&bench);
        assert_int_equal(bench.verdict.kind, cases[i].kind);
        assert_str(bench.verdict.step, cases[i].step);
        assert_str(bench.content.head, cases[i].head);
        close_letter(&bench);
    }
}

/* ---- order of steps ---- */

static void test_after_signature(void **unused)
{
    (void)unused;
    static const struct {
        const char *steps;
        bool good;
    } cases[] = {
        {"[ subject-tag: a, dkim-sign, deliver ]", true},
        {"[ dkim-sign, subject-tag: a, deliver ]", false},
        {"[ dkim-sign, match: { when: size > 0, matched: [ subject-tag: a, deliver ] }, deliver ]",
         false},
        {"[ match: { when: size > 0, matched: [ dkim-sign, deliver ] }, subject-tag: a, deliver ]",
         true},
        {"[ dkim-sign, subject-tag: { text: a, observe: true }, deliver ]", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct flow_fixture fixture;
        char text[512];
        snprintf(text, sizeof text, "flows: { content: { f: %s } }\n", cases[i].steps);
        flow_fixture_open(&fixture, text);
        if ((fixture.result == OK) != cases[i].good)
            fail_msg("%s", cases[i].steps);
        flow_fixture_close(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_own_addresses),
        cmocka_unit_test(test_mismatch_reply),
        cmocka_unit_test(test_envelopes),
        cmocka_unit_test(test_recipient_flow),
        cmocka_unit_test(test_srs),
        cmocka_unit_test(test_copy_is_a_snapshot),
        cmocka_unit_test(test_notice),
        cmocka_unit_test(test_notices_to_recipients),
        cmocka_unit_test(test_notices_are_limited),
        cmocka_unit_test(test_subjects),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_released),
        cmocka_unit_test(test_after_signature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
