/* SPDX-License-Identifier: Apache-2.0 */
/* flow/script_test.c - the block `script`: its outcomes, what scripts see, ask and change, and what
 * the proof says of them. */
#include "flow/run_bench.h"

#include "content/resolver.h"
#include "fiber/lane.h"
#include "mail/header.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <unistd.h>

static char folder[] = "/tmp/flow-script-XXXXXX";

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
    {.address = {"ann@example.org", 15}, .domain = {"example.org", 11}},
    {.address = {"bob@example.com", 15}, .domain = {"example.com", 11}},
};

#define SECTIONS                                                                                   \
    "quarantines: { spam: { keep: 30d } }\n"                                                       \
    "transports: { special: { method: discard }, other: { method: discard } }\n"

/* ---- DNS of the tests ---- */

static enum result ask_dns(void *context, enum resolver_type type, struct str name,
                           struct arena *arena, struct resolver_answer *out, struct error *err)
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

static void write_script(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    check(file && fputs(text, file) >= 0);
    fclose(file);
}

static const char letter[] = "Received: from x\r\nSubject: hello\r\nX-A: 1\r\nX-A: 2\r\n"
                             "Content-Type: text/html\r\n\r\n";

NO_YIELD_CHECK static void open_script(struct bench *bench, enum flow_type type,
                                       const char *options, const char *more, const char *script)
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

static void close_script(struct bench *bench)
{
    struct body *body = bench->content.body;
    bench_close(bench);
    body_unref(body);
}

static void run_it(void *arg) NO_YIELD_CHECK
{
    struct bench *bench = arg;
    if (bench->flow == flow_find(bench->fixture.set, FLOW_CONTENT, STR("f")))
        scan(bench);
    else if (bench->flow == flow_find(bench->fixture.set, FLOW_RECIPIENT, STR("f")))
        look_up(bench);
    else
        log_in(bench, "ann", "secret");
}

/* What the verdict is, in words: "kind|reply|detail|what changed". */
static struct str in_words(struct bench *bench)
{
    const struct flow_verdict *verdict = &bench->verdict;
    const struct flow_effects *effects = &verdict->effects;
    struct arena *arena = bench->arena;
    bool refused = verdict->kind == FLOW_REJECT || verdict->kind == FLOW_DEFER;
    struct str reply = refused ? mail_reply_text(arena, &verdict->reply) : STR_EMPTY;
    struct str text = arena_printf(arena, "%s|%.*s|%.*s|", flow_verdict_name(verdict->kind),
                                   STR_ARG(reply), STR_ARG(verdict->detail));
    if (effects->sender_changed)
        text = arena_printf(arena, "%.*sfrom %.*s;", STR_ARG(text), STR_ARG(effects->sender));
    for (size_t i = 0; i < effects->recipient_count; i++)
        text = arena_printf(arena, "%.*sto %.*s;", STR_ARG(text),
                            STR_ARG(effects->recipients[i].address));
    if (effects->transport.len)
        text = arena_printf(arena, "%.*svia %.*s;", STR_ARG(text), STR_ARG(effects->transport));
    for (size_t i = 0; i < effects->finding_count; i++)
        text = arena_printf(arena, "%.*sfound %.*s;", STR_ARG(text),
                            STR_ARG(effects->findings[i].name));
    if (verdict->quarantine.len)
        text = arena_printf(arena, "%.*sin %.*s;", STR_ARG(text), STR_ARG(verdict->quarantine));
    return text;
}

enum { A = FLOW_AUTHENTICATION, R = FLOW_RECIPIENT, C = FLOW_CONTENT };

static const struct run_case {
    const char *name;
    int type;
    const char *options;
    const char *body; /* of the function */
    const char *expected;
} cases[] = {
    /* outcomes */
    {"nothing", R, "", "", "reject|550 5.7.1 Recipient not accepted||"},
    {"next", R, "", "return 'next'", "reject|550 5.7.1 Recipient not accepted||"},
    {"accept", R, "", "return 'accept'", "accept|||"},
    {"reject", R, "", "return 'reject'", "reject|550 5.7.1 Not accepted||"},
    {"reject with a reply", R, "", "return 'reject', '553 5.1.3 No'",
     "reject|553 5.1.3 No|553 5.1.3 No|"},
    {"reject with words", R, "", "return 'reject', 'Not today'",
     "reject|550 5.7.1 Not today|Not today|"},
    {"reject with a table", R, "", "return 'reject', { reply = '550 No' }",
     "reject|550 5.7.1 No|550 No|"},
    {"reject with a wrong reply", R, "", "return 'reject', '250 Yes'",
     "defer|451 4.3.5 Try again later|/F/s.lua: \"250 Yes\" is no reply that reject can give|"},
    {"reject with two lines", R, "", "return 'reject', 'a\\r\\nb'",
     "defer|451 4.3.5 Try again later|/F/s.lua: a reply is one line of at most 400 bytes|"},
    {"defer", R, "", "return 'defer', '450 4.2.1 Later'", "defer|450 4.2.1 Later|450 4.2.1 Later|"},
    {"deliver in a recipient flow", R, "", "return 'deliver'",
     "defer|451 4.3.5 Try again later|/F/s.lua: the function returned \"deliver\", and not one of "
     "next, accept, reject, defer|"},
    {"a number", R, "", "return 1",
     "defer|451 4.3.5 Try again later|/F/s.lua: the function returned no text, but one of next, "
     "accept, reject, defer is due|"},
    {"deliver", C, "", "return 'deliver'", "deliver|||"},
    {"hold", C, "", "return 'hold', 'odd'", "hold||odd|"},
    {"quarantine", C, "", "return 'quarantine', 'odd'", "quarantine||odd|in spam;"},
    {"quarantine by name", C, "", "return 'quarantine', { name = 'spam', reason = 'r' }",
     "quarantine||r|in spam;"},
    {"no such quarantine", C, "", "return 'quarantine', { name = 'x' }",
     "defer|451 4.3.5 Try again later|/F/s.lua: there is no quarantine \"x\"|"},
    {"a class that is none", C, "", "return 'hold', { class = 'odd' }", "*class: no such reason*"},
    {"discard", C, "", "return 'discard'", "discard|||"},
    {"accept in a content flow", C, "", "return 'accept'",
     "defer|451 4.3.5 Try again later|/F/s.lua: the function returned \"accept\", and not one of "
     "next, reject, defer, deliver, hold, quarantine, discard|"},
    {"another action", C, ", hold: discard", "return 'hold'", "discard|||"},
    {"a fault", C, "", "local function g() error('oops') end\n g()",
     "defer|451 4.3.5 Try again later|s.lua:2: oops; called: s.lua:2: in local 'g' < s.lua:3: in "
     "function 'content'|"},
    {"a fault with an action", C, ", error: hold", "error('oops', 0)", "hold||oops; called: *|"},
    {"too much work", C, ", work: 2000", "while true do end",
     "defer|451 4.3.5 Try again later|s.lua:2: the script works longer than it may; called: *|"},
    /* facts */
    {"facts of a recipient", R, "",
     "return 'reject', mail.recipient .. ' ' .. mail.recipient_domain .. ' ' .. mail.sender .. ' ' "
     ".. mail.sender_domain .. ' ' .. mail.client .. ' ' .. mail.listener .. ' ' .. "
     "tostring(mail.authenticated) .. ' ' .. tostring(mail.trusted)",
     "reject|550 5.7.1 ann@example.org example.org friend@example.net example.net 192.0.2.7 "
     "inbound "
     "false false|*|"},
    {"facts of a message", C, "",
     "return 'hold', table.concat(mail.recipients, ' ') .. ' ' .. mail.size .. ' ' .. mail.score "
     ".. '/' .. mail.dkim .. '/' .. #mail.findings .. mail.user",
     "hold||ann@example.org bob@example.com 98 0.0//0|"},
    {"a header", C, "",
     "return 'hold', mail:header('subject') .. ' ' .. tostring(mail:header('X'))",
     "hold||hello nil|"},
    {"headers", C, "",
     "return 'hold', table.concat(mail:headers('x-a'), '+') .. #mail:headers() .. "
     "mail:headers()[2].name",
     "hold||1+25Subject|"},
    {"the body", C, "", "return 'hold', mail:body(3, 4) .. #mail:body()", "hold||some21|"},
    {"the text", C, "", "return 'hold', (mail:text():gsub('%s+', ' '))", "hold|| some text |"},
    {"parts", C, "", "local p = mail:parts() return 'hold', #p .. p[1].type .. p[1].size",
     "hold||1text/html21|"},
    {"what is not here", R, "", "return mail:header('x')", "*mail.header does not exist here*"},
    /* changes */
    {"the sender", C, "", "mail:set_sender('x@example.org') return 'hold', mail.sender",
     "hold||x@example.org|from x@example.org;"},
    {"no sender", C, "", "mail:set_sender('')", "deliver|||from ;"},
    {"a bad sender", C, "", "mail:set_sender('x')", "*\"x\" is no address*"},
    {"recipients", C, "", "mail:set_recipients({'bob@example.com', 'x@example.org'})",
     "deliver|||to bob@example.com;to x@example.org;"},
    {"recipients elsewhere", C, "", "mail:set_recipients({'x@example.net'})",
     "*\"example.net\" is not a listed domain, and the step does not say any_domain: true*"},
    {"recipients elsewhere, allowed", C, ", any_domain: true",
     "mail:set_recipients({'x@example.net'})", "deliver|||to x@example.net;"},
    {"recipients nowhere", C, ", any_domain: true", "mail:set_recipients({'x@nowhere.example'})",
     "*no domain takes mail for <x@nowhere.example>*"},
    {"no recipients", C, "", "mail:set_recipients({})", "*expected a list*"},
    {"a recipient", R, "", "mail:set_recipient('X@Example.org') return 'accept'",
     "accept|||to x@example.org;"},
    {"a transport", R, ", transports: [ special ]", "mail:route('special') return 'accept'",
     "accept|||via special;"},
    {"another transport", R, ", transports: [ special ]", "mail:route('other')",
     "*\"other\" is not among the step's transports*"},
    {"a finding", C, "", "mail:add_finding('F', 'w') return 'hold', table.concat(mail.findings)",
     "hold||F|found F;"},
    {"a score", C, "", "mail:set_score(2.5) return 'hold', tostring(mail.score)", "hold||2.5|"},
    /* questions */
    {"dns", R, "",
     "return 'reject', 'x ' .. postern.dns('a', 'a.example')[1] .. ' ' .. "
     "postern.dns('mx', 'a.example')[1] .. ' ' .. postern.dns('ptr', mail.client)[1] .. ' ' .. "
     "#postern.dns('txt', 'a.example')",
     "reject|550 5.7.1 x 192.0.2.1 mx.a.example mx.a.example 0|*|"},
    {"dns down", R, "",
     "local a, why = postern.dns('a', 'down.example') return 'reject', "
     "tostring(a) .. ' ' .. why",
     "reject|550 5.7.1 nil SERVFAIL|nil SERVFAIL|"},
    {"dns of another type", R, "", "postern.dns('soa', 'x')", "*argument 1: say \"a\"*"},
    {"a budget of dns", R, "",
     "local n = 0 for i = 1, 100 do if postern.dns('a', 'a.example') then n = n + 1 end end return "
     "'reject', 'n ' .. n",
     "reject|550 5.7.1 n 40|n 40|"},
    {"lookup", R, "", "return 'reject', 'x ' .. postern.lookup('mail', 'x@example.net')",
     "reject|550 5.7.1 x found|x found|"},
    {"lookup by ldap", R, "",
     "return 'reject', 'x ' .. postern.lookup('directory', 'x@example.net', "
     "{filter='(m={address})'})",
     "reject|550 5.7.1 x found|x found|"},
    {"lookup of nobody", R, "", "postern.lookup('mail', 'x')", "*\"x\" is no address*"},
    {"lookup somewhere", R, "", "postern.lookup('moon', 'x@example.net')",
     "*there is no server \"moon\"*"},
    {"lists", R, "",
     "return 'reject', 'x ' .. tostring(postern.listed('friends', mail.sender)) .. "
     "tostring(postern.listed('friends', 'FRIEND@example.net')) .. "
     "tostring(postern.listed('office', mail.client)) .. tostring(postern.listed('office', "
     "'1.2.3.4'))",
     "reject|550 5.7.1 x truetruetruefalse|*|"},
    {"own domains", R, "",
     "return 'reject', 'x ' .. tostring(postern.is_own_domain('Example.ORG')) .. "
     "tostring(postern.is_own_domain('example.net'))",
     "reject|550 5.7.1 x truefalse|*|"},
    {"counting", R, "",
     "local ok, n for i = 1, 4 do ok, n = postern.count('k', 3, '1h') end return "
     "'reject', 'x ' .. tostring(ok) .. n .. select(2, postern.count('k', 3, '1h', 0))",
     "reject|550 5.7.1 x false33|*|"},
    {"counting for no time", R, "", "postern.count('k', 3, 'x')", "*a time such as*"},
    {"a cache", R, "",
     "local a = postern.cache_get('k') postern.cache_put('k', 'v', '1h') return "
     "'reject', 'x ' .. tostring(a) .. postern.cache_get('k')",
     "reject|550 5.7.1 x nilv|*|"},
    {"a cache for too much", R, "", "postern.cache_put('k', ('v'):rep(601), '1h')",
     "*at most 600 bytes*"},
    {"match", R, "",
     "return 'reject', 'x ' .. tostring(postern.match('abc', '^(a|b)+c')) .. "
     "postern.match('k=v', '(\\\\w)=(\\\\w)', '$2=$1')",
     "reject|550 5.7.1 x truev=k|*|"},
    {"match for ever", R, "",
     "local a, why = postern.match(('a'):rep(5000) .. 'c', '^(a|aa)+$') return "
     "'reject', 'x ' .. tostring(a) .. why",
     "reject|550 5.7.1 x nilthe pattern needs too much work for this text|*|"},
    {"time", R, "",
     "local d = postern.date(1764238800) return 'reject', 'x ' .. d.year .. d.month "
     ".. d.day .. d.hour .. d.weekday .. (postern.time() > 0 and '' or 'no')",
     "reject|550 5.7.1 x 2025112710"
     "4|*|"},
    {"log", R, "", "postern.log('x')", "reject|550 5.7.1 Recipient not accepted||"},
    {"log for ever", R, "", "for i = 1, 101 do postern.log('x') end", "*more than 100 lines*"},
    {"the web off a fiber", R, "",
     "local a, why = postern.http('http://a.example/') return 'reject', "
     "'x ' .. tostring(a) .. why",
     "reject|550 5.7.1 x nilno web service is asked here|*|"},
    {"no url", R, "", "postern.http('file:///etc/passwd')", "*the URL must begin with http*"},
    {"no method", R, "", "postern.http({url='http://a.example/', method='X Y'})", "*method: GET*"},
    {"a header in a header", R, "",
     "postern.http({url='http://a.example/', headers={a='b\\r\\nc: d'}})",
     "*this is no header field*"},
    /* logins */
    {"accept without a backend", A, "", "return 'accept'", "*but no backend said yes*"},
    {"accept with a backend", A, "", "if mail:login_by('mail') == 'yes' then return 'accept' end",
     "accept|||"},
    {"a login's facts", A, "", "return 'reject', '535 5.7.8 ' .. mail.login",
     "reject|535 5.7.8 ann|535 5.7.8 ann|"},
    {"no password", A, "", "return mail.password", "*mail has no \"password\"*"},
    {"a login by ldap", A, "", "mail:login_by('directory')", "*with smtp:*"},
    {"a fault at a login", A, "", "error('x', 0)",
     "defer|454 4.7.0 Temporary authentication failure|*|"},
};

static bool fits(struct str text, struct str form)
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

/* Without the folder's name. */
static struct str short_path(struct bench *bench, struct str text)
{
    ptrdiff_t at = str_find_str(text, str_c(folder));
    if (at < 0)
        return text;
    return arena_printf(bench->arena, "%.*s/F%.*s", (int)at, text.ptr,
                        STR_ARG(str_from(text, (size_t)at + sizeof folder - 1)));
}

static void each_case_ends_as_it_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct run_case *one = &cases[i];
        struct bench bench;
        char script[2000];
        snprintf(script, sizeof script, "function %s(mail)\n%s\nend", type_names[one->type],
                 one->body);
        open_script(&bench, (enum flow_type)one->type, one->options, "", script);
        run_it(&bench);
        struct str got = short_path(&bench, in_words(&bench));
        if (!fits(got, str_c(one->expected)))
            fail_msg("%s: \"%.*s\"", one->name, STR_ARG(got));
        close_script(&bench);
    }
}

/* ---- the header afterwards ---- */

static const struct {
    const char *name, *body, *expected;
} headers[] = {
    {"add", "mail:add_header('X-New', 'a b')",
     "X-New: a b\r\nReceived: from x\r\nSubject: hello\r\nX-A: 1\r\nX-A: 2\r\n"
     "Content-Type: text/html\r\n\r\n"},
    {"set", "mail:set_header('x-a', '3')",
     "Received: from x\r\nSubject: hello\r\nx-a: 3\r\nContent-Type: text/html\r\n\r\n"},
    {"set what is not there", "mail:set_header('X-B', '3')",
     "Received: from x\r\nSubject: hello\r\nX-A: 1\r\nX-A: 2\r\nContent-Type: text/html\r\n"
     "X-B: 3\r\n\r\n"},
    {"remove", "assert(mail:remove_header('X-a') == 2)",
     "Received: from x\r\nSubject: hello\r\nContent-Type: text/html\r\n\r\n"},
    {"remove nothing", "assert(mail:remove_header('X-b') == 0)", letter},
    {"not Received", "pcall(mail.remove_header, 'Received')", letter},
    {"no injection",
     "pcall(mail.add_header, 'X', 'a\\r\\nX: b') pcall(mail.add_header, 'X: b', 'c')", letter},
    {"other letters", "mail:set_header('Subject', 'gr\\u{fc}n')",
     "Received: from x\r\nSubject: =?utf-8?B?Z3LDvG4=?=\r\nX-A: 1\r\nX-A: 2\r\n"
     "Content-Type: text/html\r\n\r\n"},
    {"folded", "mail:set_header('Subject', ('word '):rep(20))",
     "Received: from x\r\nSubject: word word word word word word word word word word word word "
     "word word\r\n word word word word word word\r\nX-A: 1\r\nX-A: 2\r\nContent-Type: "
     "text/html\r\n\r\n"},
    {"twice", "mail:add_header('X-B', '1') mail:set_header('X-B', '2')",
     "X-B: 2\r\nReceived: from x\r\nSubject: hello\r\nX-A: 1\r\nX-A: 2\r\n"
     "Content-Type: text/html\r\n\r\n"},
};

static void headers_change(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        for (int observed = 0; observed < 2; observed++) {
            struct bench bench;
            char script[2000];
            snprintf(script, sizeof script, "function content(mail)\n%s\nend", headers[i].body);
            open_script(&bench, FLOW_CONTENT, observed ? ", observe: true" : "", "", script);
            run_it(&bench);
            bool observed_assert = observed && str_starts(str_c(headers[i].body), STR("assert"));
            if (bench.verdict.kind != FLOW_DELIVER && !observed_assert)
                fail_msg("%s: %.*s", headers[i].name, STR_ARG(bench.verdict.detail));
            struct str head = bench.content.body_start ? bench.content.head : str_c(letter);
            if (bench.content.body_start == 0 && bench.content.head.len)
                head = arena_printf(bench.arena, "%.*s%s", STR_ARG(bench.content.head), letter);
            if (!str_equal(head, str_c(observed ? letter : headers[i].expected)))
                fail_msg("%s%s: \"%.*s\"", headers[i].name, observed ? " (observed)" : "",
                         STR_ARG(head));
            close_script(&bench);
        }
    }
}

static void a_verdict_has_a_class(void **state)
{
    static const struct {
        const char *body;
        enum mail_reason reason;
    } classes[] = {
        {"return 'hold', { reason = 'x', class = 'virus' }", MAIL_REASON_VIRUS},
        {"return 'reject', { class = 'spam' }", MAIL_REASON_SPAM},
        {"return 'reject'", MAIL_REASON_POLICY},
    };
    (void)state;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        struct bench bench;
        char script[200];
        snprintf(script, sizeof script, "function content(mail) %s end", classes[i].body);
        open_script(&bench, FLOW_CONTENT, "", "", script);
        run_it(&bench);
        assert_int_equal(bench.verdict.reason, classes[i].reason);
        close_script(&bench);
    }
}

static void an_observed_step_changes_nothing(void **state)
{
    struct bench bench;
    (void)state;
    open_script(&bench, FLOW_CONTENT, ", observe: true, transports: [ special ]", "",
                "function content(mail) mail:set_sender('x@example.org')"
                " mail:set_recipients({'x@example.org'}) mail:route('special')"
                " return 'discard' end");
    run_it(&bench);
    assert_str(in_words(&bench), "deliver|||");
    close_script(&bench);
}

/* What the steps behind it see is what it changed. */
static void steps_behind_see_it(void **state)
{
    struct bench bench;
    (void)state;
    open_script(&bench, FLOW_CONTENT, "",
                ", match: { when: 'header(\"X-B\") == \"1\" and score > 2', matched: hold }",
                "function content(mail) mail:add_header('X-B', '1') mail:set_score(3) end");
    run_it(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_HOLD);
    close_script(&bench);
}

/* ---- many at a time ---- */

static void scripts_wait_on_fibers(void **state)
{
    struct bench bench;
    (void)state;
    open_script(&bench, FLOW_RECIPIENT, "", "",
                "function recipient(mail) local c = coroutine.wrap(function() return "
                "postern.lookup('mail', 'x@example.org') end) if c() == 'found' then return "
                "'accept' end end");
    test_in_fiber(run_it, &bench);
    assert_int_equal(bench.verdict.kind, FLOW_ACCEPT);
    assert_int_equal(fake.asked[BY_SMTP], 1);
    close_script(&bench);
}

/* ---- a web service ---- */

struct web {
    int listener;
    uint16_t port;
    pthread_t thread;
    const char *answer; /* NULL: say nothing */
    size_t more;        /* so many bytes behind it */
    char heard[4096];
};

/* One connection. */
static void *serve(void *arg)
{
    static char filler[65536];
    struct web *web = arg;
    int fd = accept(web->listener, NULL, NULL);
    ssize_t got = read(fd, web->heard, sizeof web->heard - 1);
    check(got >= 0);
    if (web->answer)
        check(write(fd, web->answer, strlen(web->answer)) > 0);
    else
        check(read(fd, filler, sizeof filler) >= 0); /* until the client gives up */
    for (size_t sent = 0; sent < web->more; sent += sizeof filler)
        if (send(fd, filler, sizeof filler, MSG_NOSIGNAL) < 0)
            break;
    close(fd);
    return NULL;
}

static void open_web(struct web *web, const char *answer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    *web = (struct web){.listener = socket(AF_INET, SOCK_STREAM, 0), .answer = answer};
    check(bind(web->listener, (struct sockaddr *)&address, len) == 0);
    check(listen(web->listener, 5) == 0);
    check(getsockname(web->listener, (struct sockaddr *)&address, &len) == 0);
    web->port = ntohs(address.sin_port);
    check(pthread_create(&web->thread, NULL, serve, web) == 0);
}

static void close_web(struct web *web)
{
    pthread_join(web->thread, NULL);
    close(web->listener);
}

static const struct {
    const char *name, *call; /* %s: the URL */
    const char *answer;
    size_t more;
    const char *heard;
    const char *expected;
} requests[] = {
    {"get", "postern.http('%s')", "HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nhello", 0,
     "GET /x HTTP/1.1\r\n", "200 hello b"},
    {"post", "postern.http({url='%s', body='hi', headers={['X-H']='v'}})",
     "HTTP/1.0 404 No\r\nX-A: b\r\n\r\n", 0, "POST /x HTTP/1.1\r\n", "404  b"},
    {"a redirect", "postern.http('%s')",
     "HTTP/1.0 302 Go\r\nX-A: c\r\nLocation: file:///etc/passwd\r\n\r\n", 0, "GET", "302  c"},
    {"too much", "postern.http('%s')", "HTTP/1.0 200 OK\r\n\r\n", 4 << 20, "GET",
     "nil the answer is larger than 1 MiB"},
    {"no http", "postern.http('%s')", "what?\r\n\r\n", 0, "GET", "nil *"},
    {"nothing", "postern.http({url='%s', timeout='50ms'})", NULL, 0, "GET", "nil *"},
};

static void web_services_are_asked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct bench bench;
        struct web web;
        char script[2000], call[500], url[100];
        open_web(&web, requests[i].answer);
        web.more = requests[i].more;
        snprintf(url, sizeof url, "http://127.0.0.1:%u/x", web.port);
        struct str form = str_c(requests[i].call);
        ptrdiff_t at = str_find_str(form, STR("%s"));
        snprintf(call, sizeof call, "%.*s%s%.*s", (int)at, form.ptr, url,
                 STR_ARG(str_from(form, (size_t)at + 2)));
        snprintf(script, sizeof script,
                 "function content(mail) local a, why = %s if not a then return 'hold', 'nil ' .. "
                 "why end return 'hold', a.status .. ' ' .. a.body .. ' ' .. a.headers['x-a'] end",
                 call);
        open_script(&bench, FLOW_CONTENT, "", "", script);
        clock_set_fake(-1, -1);
        struct lane *lane = lane_new("web", 1, 10);
        bench.run.http = lane;
        test_in_fiber(run_it, &bench);
        lane_free(lane);
        close_web(&web);
        if (!fits(bench.verdict.detail, str_c(requests[i].expected)) ||
            !str_starts(str_c(web.heard), str_c(requests[i].heard)))
            fail_msg("%s: \"%.*s\", heard \"%s\"", requests[i].name, STR_ARG(bench.verdict.detail),
                     web.heard);
        close_script(&bench);
    }
}

/* The script's time ends the question, and the question's thread with it. */
static void the_time_of_a_script_ends_its_question(void **state)
{
    struct bench bench;
    struct web web;
    char script[500];
    (void)state;
    open_web(&web, NULL);
    snprintf(script, sizeof script,
             "function content(mail) postern.http({url='http://127.0.0.1:%u/', timeout='30s'}) end",
             web.port);
    open_script(&bench, FLOW_CONTENT, ", time: 50ms", "", script);
    clock_set_fake(-1, -1);
    struct lane *lane = lane_new("web", 1, 10);
    bench.run.http = lane;
    test_in_fiber(run_it, &bench);
    assert_int_equal(bench.verdict.kind, FLOW_DEFER);
    assert_true(fits(bench.verdict.detail, STR("*the script took longer than it may*")));
    lane_free(lane);
    close_web(&web);
    close_script(&bench);
}

/* ---- the configuration ---- */

static const struct {
    const char *name, *script, *step, *code, *place; /* place: where the problem is */
} wrong[] = {
    {"syntax", "function content()\n  return = 1\nend", "file: /F/s.lua", "script",
     "/F/s.lua:2:10"},
    {"no function", "function contents() end", "file: /F/s.lua", "script", "test.yaml:5"},
    {"no file", "", "file: /F/none.lua", "script", "test.yaml:5"},
    {"no transport", "function content() end", "file: /F/s.lua, transports: [ moon ]",
     "unknown-name", "test.yaml:5"},
    {"fails at load", "\nerror('x')", "file: /F/s.lua", "script", "/F/s.lua:2:1"},
    {"uses a row at load", "postern.log('x')", "file: /F/s.lua", "script", "/F/s.lua:1:1"},
    {"no key", "function content() end", "file: /F/s.lua, memry: 1M", "unknown-key", "test.yaml:5"},
};

static struct str with_folder(struct arena *arena, const char *text)
{
    struct str whole = str_c(text);
    ptrdiff_t at = str_find_str(whole, STR("/F"));
    if (at < 0)
        return whole;
    return arena_printf(arena, "%.*s%s%.*s", (int)at, text, folder,
                        STR_ARG(str_from(whole, (size_t)at + 2)));
}

static void problems_are_told_at_their_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct flow_fixture fixture;
        struct arena *arena = arena_new(0);
        char text[1000];
        write_script("s.lua", wrong[i].script);
        struct str step = with_folder(arena, wrong[i].step);
        snprintf(text, sizeof text, "flows: { content: { f: [ script: { %.*s }, deliver ] } }\n",
                 STR_ARG(step));
        flow_fixture_open(&fixture, text);
        assert_int_equal(fixture.result, FAILED);
        const struct config_problem *problem = &fixture.report.problems[0];
        struct str place = config_place_text(arena, problem->place);
        if (!str_equal(problem->code, str_c(wrong[i].code)) ||
            !str_starts(place, with_folder(arena, wrong[i].place))) {
            flow_fixture_print(&fixture);
            fail_msg("%s: %.*s at %.*s", wrong[i].name, STR_ARG(problem->code), STR_ARG(place));
        }
        flow_fixture_close(&fixture);
        arena_free(arena);
    }
}

/* ---- the proof ---- */

static bool looks_up(const void *context, struct str transport)
{
    (void)context;
    return str_equal(transport, STR("other"));
}

static const struct proof_case {
    const char *name, *options, *when;
    bool is_any;
    bool open;
} proofs[] = {
    {"a stranger's accept for any", "", "", true, true},
    {"only users", "", ", when: authenticated", true, false},
    {"accept leads on", ", accept: next", "", true, false},
    {"a listed domain", "", "", false, false},
    {"a transport to a server", ", transports: [ special ]", "", false, false},
    {"a transport with MX", ", transports: [ special, other ]", "", false, true},
    {"any domain", ", any_domain: true", "", false, true},
};

static void the_proof_takes_a_script_for_both(void **state)
{
    (void)state;
    write_script("s.lua", "function recipient() end");
    for (size_t i = 0; i < sizeof proofs / sizeof *proofs; i++) {
        const struct proof_case *one = &proofs[i];
        struct flow_fixture fixture;
        char text[1000];
        snprintf(text, sizeof text,
                 SECTIONS
                 "flows: { recipient: { f: [ script: { file: %s/s.lua%s%s }, reject ] } }\n",
                 folder, one->options, one->when);
        flow_fixture_open(&fixture, text);
        struct flow_relay_case relay = {
            .listener = STR("inbound"),
            .domain = one->is_any ? STR("any") : STR("example.org"),
            .is_any = one->is_any,
            .is_lookup_mx = one->is_any,
            .transport = one->is_any ? STR("other") : STR("special"),
            .recipient_flow = flow_find(fixture.set, FLOW_RECIPIENT, STR("f")),
            .looks_up = looks_up,
            .is_listed = lists,
            .takes_any = true,
        };
        assert_int_equal(fixture.result, OK);
        flow_prove_relay(&relay, 1, &fixture.report);
        if ((fixture.report.errors > 0) != one->open) {
            flow_fixture_print(&fixture);
            fail_msg("%s", one->name);
        }
        flow_fixture_close(&fixture);
    }
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[200];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case_ends_as_it_should),
        cmocka_unit_test(headers_change),
        cmocka_unit_test(a_verdict_has_a_class),
        cmocka_unit_test(an_observed_step_changes_nothing),
        cmocka_unit_test(steps_behind_see_it),
        cmocka_unit_test(scripts_wait_on_fibers),
        cmocka_unit_test(web_services_are_asked),
        cmocka_unit_test(the_time_of_a_script_ends_its_question),
        cmocka_unit_test(problems_are_told_at_their_place),
        cmocka_unit_test(the_proof_takes_a_script_for_both),
    };
    return cmocka_run_group_tests_name("flow-script", tests, make_folder, remove_folder);
}
