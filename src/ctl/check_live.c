/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/check_live.c - what no file can tell: do the backends answer, and do they ever say no?
 *
 * A lookup that knows everybody and a login that takes every password look right in a file and
 * protect nothing. So each is asked about a name made of random digits. Questions are RCPT, AUTH,
 * binds and pings; there is never a message.
 */
#include "ctl/check.h"
#include "ctl/list.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "directory/directory.h"
#include "fiber/loop.h"
#include "state/state.h"

#include <stdio.h>

enum { DOMAINS_ASKED = 100, CANDIDATES_MAX = 64, STATE_ENTRIES = 1000 };

struct live_server {
    bool down;                   /* it is not asked again */
    bool knows_all;              /* it said found of a name that nobody has */
    bool looks_up;               /* a lookup-smtp asks it */
    struct str name;             /* as it greets */
    struct flow_backend backend; /* the lookup */
};

struct live {
    struct ctl *ctl;
    struct arena *arena;
    const struct settings *settings;
    struct config_report *report;
    struct live_server *servers; /* as settings.servers */
    struct directory *directory;
    struct resolver resolver;
    struct state *state;
    struct error err;
    bool failed;
};

/* ---- a line a question ---- */

static void say(struct live *live, struct str question, const char *result, struct str detail,
                int64_t start_ns)
{
    long long ms = (clock_monotonic_ns() - start_ns) / NS_PER_MS;
    if (live->ctl->json) {
        json_t *line = json_pack("{s:s%, s:s, s:s%, s:I}", "probe", question.ptr, question.len,
                                 "result", result, "detail", detail.len ? detail.ptr : "",
                                 detail.len, "ms", (json_int_t)ms);
        if (line)
            ctl_print_item(live->ctl, line, NULL);
        json_decref(line);
        return;
    }
    ctl_print_text(arena_c(live->arena, question));
    printf(": %s", result);
    if (detail.len) {
        printf(" (");
        ctl_print_text(arena_c(live->arena, detail));
        printf(")");
    }
    printf("  %lld ms\n", ms);
    fflush(stdout);
}

static void no_answer(struct live *live, struct config_place place, struct str source,
                      struct str detail)
{
    config_problem(live->report, CONFIG_WARNING, "no-answer", place, "%.*s gives no answer: %.*s",
                   STR_ARG(source), STR_ARG(detail))
        ->fix = STR("start it, or mend its entry under servers; until then mail that needs it is "
                    "deferred");
}

static struct str random_word(struct live *live)
{
    unsigned char bytes[8];
    random_bytes(bytes, sizeof bytes);
    struct str word = STR("postern-check-");
    for (size_t i = 0; i < sizeof bytes; i++)
        word = arena_printf(live->arena, "%.*s%02x", STR_ARG(word), bytes[i]);
    return word;
}

static struct live_server *server_of(struct live *live, const struct flow_backend *backend)
{
    const struct settings *settings = live->settings;
    if (backend->is_file)
        return NULL;
    const struct server *server =
        server_find(settings->servers, settings->server_count, backend->source);
    return server ? &live->servers[server - settings->servers] : NULL;
}

/* ---- is it there? ---- */

/* "220 mail.example.org ESMTP" */
static struct str greeting_name(struct str words)
{
    struct str rest = words.len > 4 ? str_from(words, 4) : STR_EMPTY;
    ptrdiff_t end = str_find(rest, ' ');
    return end < 0 ? rest : str_slice(rest, 0, (size_t)end);
}

/* One that takes everything for clean is worse than none: nobody looks any more. */
static MAY_YIELD void try_scanner(struct live *live, const struct server *server)
{
    struct error err;
    struct str name = STR_EMPTY;
    bool found;
    int64_t start_ns = clock_monotonic_ns();
    struct str question =
        arena_printf(live->arena, "%.*s, the test virus of EICAR", STR_ARG(server->name));
    if (check_test_virus(server, &live->resolver, live->state, live->arena, &found, &name, &err) !=
        OK) {
        struct str words = arena_str(live->arena, str_c(err.text));
        say(live, question, "no answer", words, start_ns);
        no_answer(live, server->place, server->name, words);
        return;
    }
    say(live, question, found ? "found" : "clean", name, start_ns);
    if (!found)
        config_problem(live->report, CONFIG_WARNING, "finds-nothing", server->place,
                       "%.*s takes the test virus of EICAR for clean: it would let every other one "
                       "pass, too",
                       STR_ARG(server->name))
            ->fix = STR("load its signatures (freshclam), and see what clamd says when it starts");
}

static MAY_YIELD void ping(struct live *live, size_t index)
{
    const struct server *server = &live->settings->servers[index];
    struct str words = STR_EMPTY;
    struct error err;
    int64_t start_ns = clock_monotonic_ns();
    if (server->kind == SERVER_LDAP)
        return; /* its lookups and logins tell */
    enum result result =
        check_ping(server, &live->resolver, live->state, live->arena, &words, &err);
    if (result == OK) {
        live->servers[index].name = greeting_name(words);
        say(live, server->name, "answers", words, start_ns);
        if (server->kind == SERVER_CLAMD)
            try_scanner(live, server);
        return;
    }
    words = arena_str(live->arena, str_c(err.text));
    live->servers[index].down = true;
    say(live, server->name, "no answer", words, start_ns);
    no_answer(live, server->place, server->name, words);
}

/* ---- does a lookup know everybody? ---- */

static struct str words_of(struct live *live, const struct directory_answer *answer)
{
    if (answer->reply.code)
        return mail_reply_text(live->arena, &answer->reply);
    return answer->detail;
}

static MAY_YIELD enum directory_lookup look_up(struct live *live,
                                               const struct flow_backend *backend,
                                               struct str address, struct str *out_words)
{
    static const char *const names[] = {[DIRECTORY_FOUND] = "found",
                                        [DIRECTORY_MISSING] = "missing",
                                        [DIRECTORY_DENIED] = "denied",
                                        [DIRECTORY_ERROR] = "no answer"};
    struct directory_answer answer;
    int64_t start_ns = clock_monotonic_ns();
    flow_backend_ask(backend, live->directory, address, STR_EMPTY, live->arena, &answer);
    *out_words = words_of(live, &answer);
    say(live,
        arena_printf(live->arena, "%.*s, %s, %.*s", STR_ARG(backend->source), backend->block,
                     STR_ARG(address)),
        names[answer.lookup], *out_words, start_ns);
    return answer.lookup;
}

static MAY_YIELD void try_lookup(struct live *live, const struct flow_backend *backend,
                                 struct str domain)
{
    struct live_server *server = server_of(live, backend);
    struct str words;
    if (server && server->down)
        return;
    if (server && str_equal(str_c(backend->block), STR("lookup-smtp"))) {
        server->looks_up = true;
        server->backend = *backend;
    }
    struct str address =
        arena_printf(live->arena, "%.*s@%.*s", STR_ARG(random_word(live)), STR_ARG(domain));
    enum directory_lookup lookup = look_up(live, backend, address, &words);
    if (lookup == DIRECTORY_FOUND && !backend->found_is_no) {
        if (server)
            server->knows_all = true;
        config_problem(live->report, CONFIG_WARNING, "accepts-everything", backend->place,
                       "%.*s says found of %.*s, which nobody made: for %.*s this lookup protects "
                       "nothing",
                       STR_ARG(backend->source), STR_ARG(address), STR_ARG(domain))
            ->fix = backend->is_file
                        ? STR("list addresses in place of the whole domain")
                        : STR("let the server refuse recipients that it does not have (a catch-all "
                              "or a late check takes all), or look them up in LDAP or a file");
    } else if (lookup == DIRECTORY_DENIED) {
        config_problem(live->report, CONFIG_WARNING, "lookup-denied", backend->place,
                       "%.*s refuses the question about %.*s: %.*s", STR_ARG(backend->source),
                       STR_ARG(domain), STR_ARG(words))
            ->fix = STR("let the server take RCPT for this domain from this host");
    } else if (lookup == DIRECTORY_ERROR) {
        if (server)
            server->down = true;
        no_answer(live, backend->place, backend->source, words);
    }
}

static MAY_YIELD void try_flow(struct live *live, const struct flow *flow, struct str domain)
{
    struct flow_backend *backends;
    size_t count;
    flow_backends(flow, live->arena, &backends, &count);
    for (size_t i = 0; i < count; i++)
        try_lookup(live, &backends[i], domain);
}

static MAY_YIELD void try_domain(struct live *live, const struct settings_domain *domain)
{
    const struct settings *settings = live->settings;
    const struct flow *last = NULL;
    if (domain->recipients) {
        try_flow(live, domain->recipients, domain->name);
        return;
    }
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct settings_listener *listener = &settings->listeners[i];
        const struct flow *flow = listener->serves[domain->index] ? listener->recipients : NULL;
        if (flow && flow != last)
            try_flow(live, flow, domain->name);
        last = flow ? flow : last;
    }
}

static MAY_YIELD void try_domains(struct live *live)
{
    const struct settings *settings = live->settings;
    size_t asked = 0;
    size_t left = 0;
    for (size_t i = 0; i < settings->domain_count; i++) {
        if (settings->domains[i].is_any)
            continue; /* the proof of relay safety never trusts a lookup there */
        if (asked == DOMAINS_ASKED) {
            left++;
            continue;
        }
        asked++;
        try_domain(live, &settings->domains[i]);
    }
    if (left)
        fprintf(stderr, "postern: %zu further domains were not asked about\n", left);
}

/* ---- does a login take everybody? ---- */

static struct str first_domain(const struct settings *settings)
{
    for (size_t i = 0; i < settings->domain_count; i++)
        if (!settings->domains[i].is_any)
            return settings->domains[i].name;
    return settings->hostname;
}

static MAY_YIELD void try_login(struct live *live, const struct flow_backend *backend)
{
    static const char *const names[] = {[DIRECTORY_YES] = "yes",
                                        [DIRECTORY_NO] = "no",
                                        [DIRECTORY_UNKNOWN] = "unknown",
                                        [DIRECTORY_LOGIN_ERROR] = "no answer"};
    struct live_server *server = server_of(live, backend);
    struct directory_answer answer;
    if (server && server->down)
        return;
    struct str login = arena_printf(live->arena, "%.*s@%.*s", STR_ARG(random_word(live)),
                                    STR_ARG(first_domain(live->settings)));
    int64_t start_ns = clock_monotonic_ns();
    flow_backend_ask(backend, live->directory, login, random_word(live), live->arena, &answer);
    struct str words = words_of(live, &answer);
    say(live,
        arena_printf(live->arena, "%.*s, %s, login %.*s", STR_ARG(backend->source), backend->block,
                     STR_ARG(login)),
        names[answer.login], words, start_ns);
    if (answer.login == DIRECTORY_YES)
        config_problem(live->report, CONFIG_ERROR, "accepts-any-login", backend->place,
                       "%.*s says yes to a login and a password made of random digits: anybody can "
                       "send as a user",
                       STR_ARG(backend->source))
            ->fix = STR("mend the backend, or take the step out, before a client meets it");
    else if (answer.login == DIRECTORY_LOGIN_ERROR)
        no_answer(live, backend->place, backend->source, words);
}

static MAY_YIELD void try_logins(struct live *live)
{
    const struct settings *settings = live->settings;
    for (size_t i = 0; i < settings->listener_count; i++) {
        const struct flow *flow = settings->listeners[i].authentication;
        struct flow_backend *backends;
        size_t count;
        bool seen = !flow;
        for (size_t k = 0; k < i; k++)
            seen |= settings->listeners[k].authentication == flow;
        if (seen)
            continue;
        flow_backends(flow, live->arena, &backends, &count);
        for (size_t k = 0; k < count; k++)
            try_login(live, &backends[k]);
    }
}

/* ---- does a mail server answer for a domain that nobody listed? ---- */

struct candidates {
    struct live *live;
    struct str domains[CANDIDATES_MAX];
    size_t count;
};

static void add_candidate(struct candidates *candidates, struct str domain)
{
    struct net_ip ip;
    domain = arena_lower(candidates->live->arena, domain);
    if (!resolver_name_is_valid(domain) || str_find(domain, '.') < 0 || net_ip_parse(domain, &ip) ||
        settings_is_listed(candidates->live->settings, domain) ||
        candidates->count == CANDIDATES_MAX)
        return;
    for (size_t i = 0; i < candidates->count; i++)
        if (str_equal(candidates->domains[i], domain))
            return;
    candidates->domains[candidates->count++] = domain;
}

/* A name of a host and the domain it stands in. */
static void add_host(struct candidates *candidates, struct str host)
{
    struct net_ip ip;
    ptrdiff_t dot = str_find(host, '.');
    if (net_ip_parse(host, &ip))
        return;
    add_candidate(candidates, host);
    if (dot >= 0)
        add_candidate(candidates, str_from(host, (size_t)dot + 1));
}

static void add_address(struct candidates *candidates, struct str address)
{
    ptrdiff_t at = str_find_last(address, '@');
    if (at >= 0)
        add_candidate(candidates, str_from(address, (size_t)at + 1));
}

static MAY_YIELD void try_unlisted(struct live *live, const struct server *server)
{
    const struct settings *settings = live->settings;
    struct live_server *known = &live->servers[server - settings->servers];
    struct candidates candidates = {.live = live};
    struct str words;
    if (!known->looks_up || known->knows_all || known->down)
        return;
    struct str control = random_word(live);
    control = arena_printf(live->arena, "%.*s@%.*s.invalid", STR_ARG(control), STR_ARG(control));
    if (look_up(live, &known->backend, control, &words) == DIRECTORY_FOUND)
        return; /* it relays for us: what it says of other domains tells nothing */
    add_host(&candidates, settings->hostname);
    add_host(&candidates, known->name);
    for (size_t i = 0; i < server->endpoint_count; i++)
        add_host(&candidates, server->endpoints[i].host);
    add_address(&candidates, settings->postmaster);
    add_address(&candidates, settings->reports.from);
    for (size_t i = 0; i < settings->domain_count; i++)
        if (!settings->domains[i].is_any)
            add_host(&candidates, settings->domains[i].name);
    for (size_t i = 0; i < candidates.count; i++) {
        struct str domain = candidates.domains[i];
        struct str address = arena_printf(live->arena, "postmaster@%.*s", STR_ARG(domain));
        enum directory_lookup lookup = look_up(live, &known->backend, address, &words);
        if (lookup == DIRECTORY_ERROR)
            return;
        if (lookup == DIRECTORY_FOUND)
            config_problem(live->report, CONFIG_WARNING, "unlisted-domain", server->place,
                           "%.*s takes mail for %.*s, which is not listed", STR_ARG(server->name),
                           STR_ARG(domain))
                ->fix = STR("list it under domains, or let the server not answer for it: here its "
                            "mail is refused, or leaves by MX and may come back");
    }
}

/* ---- the whole ---- */

static MAY_YIELD void ask_all(struct live *live)
{
    const struct settings *settings = live->settings;
    for (size_t i = 0; i < settings->server_count; i++)
        ping(live, i);
    try_domains(live);
    try_logins(live);
    for (size_t i = 0; i < settings->server_count; i++)
        try_unlisted(live, &settings->servers[i]);
}

static MAY_YIELD void run(struct loop *loop, void *arg)
{
    struct live *live = arg;
    struct dns *dns;
    if (dns_new(loop, &live->settings->dns, &dns, &live->err) != OK) {
        live->failed = true;
        return;
    }
    struct directory_shared *shared = directory_shared_new();
    live->resolver = resolver_of_dns(dns);
    live->state = state_new(&loop, 1, STATE_ENTRIES);
    live->directory = directory_new(shared, dns, live->settings->hostname);
    ask_all(live);
    directory_free(live->directory);
    directory_shared_free(shared);
    state_free(live->state);
    dns_free(dns);
}

enum result check_live(struct ctl *ctl, const struct settings *settings,
                       struct config_report *report, struct error *err)
{
    struct live live = {.ctl = ctl, .arena = ctl->arena, .settings = settings, .report = report};
    live.servers = arena_alloc_array(ctl->arena, settings->server_count + 1, sizeof *live.servers);
    for (size_t i = 0; i < settings->server_count; i++)
        live.servers[i] = (struct live_server){.name = STR_EMPTY};
    if (ctl_on_loop(run, &live, err) != OK)
        return FAILED;
    if (live.failed) {
        *err = live.err;
        return FAILED;
    }
    return OK;
}
