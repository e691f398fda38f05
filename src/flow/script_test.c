/* SPDX-License-Identifier: Apache-2.0 */
/* flow/script_test.c - the block `script`: its outcomes, what scripts see, ask and change, and what
 * the proof says of them. */
#include "flow/script_bench.h"

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
    {"a recipient by a name that is put together", R, "",
     "mail['set_' .. 'recip' .. 'ient'](mail, 'X@Example.org') return 'accept'",
     "*write \"mail:set_recipient\" out in the file*"},
    {"recipients by a name that is put together", C, "",
     "mail['set_' .. 'recip' .. 'ients'](mail, {'x@example.org'})",
     "*write \"mail:set_recipients\" out in the file*"},
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
    {"no server", R, "", "postern.http({server='mail'})",
     "*there is no server \"mail\" with http*"},
    {"no path", R, "", "postern.http({server='hook', path='a b'})", "*path: this is no path*"},
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
    const char *body; /* of its function */
} proofs[] = {
    {"a stranger's accept for any", "", "", true, true, ""},
    {"only users", "", ", when: authenticated", true, false, ""},
    {"accept leads on", ", accept: next", "", true, false, ""},
    {"a listed domain", "", "", false, false, ""},
    {"a transport to a server", ", transports: [ special ]", "", false, false, ""},
    {"a transport with MX", ", transports: [ special, other ]", "", false, true, ""},
    {"any domain", ", any_domain: true", "", false, true, "set_recipient('a@b.example')"},
    {"any domain, and it gives none", ", any_domain: true", "", false, false, ""},
    {"of listed domains", "", "", false, false, "set_recipient('a@b.example')"},
};

static void the_proof_takes_a_script_for_both(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof proofs / sizeof *proofs; i++) {
        const struct proof_case *one = &proofs[i];
        struct flow_fixture fixture;
        char text[1000];
        snprintf(text, sizeof text, "function recipient() %s end", one->body);
        write_script("s.lua", text);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case_ends_as_it_should),
        cmocka_unit_test(headers_change),
        cmocka_unit_test(a_verdict_has_a_class),
        cmocka_unit_test(an_observed_step_changes_nothing),
        cmocka_unit_test(steps_behind_see_it),
        cmocka_unit_test(scripts_wait_on_fibers),
        cmocka_unit_test(problems_are_told_at_their_place),
        cmocka_unit_test(the_proof_takes_a_script_for_both),
    };
    return cmocka_run_group_tests_name("flow-script", tests, make_folder, remove_folder);
}
