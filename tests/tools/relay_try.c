/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/tools/relay_try.c - proves configurations and tries them as a stranger, for
 * tests/property/relay.py. Not installed.
 *
 *   relay-try TRIES SEED [--red | --without TEXT]
 *
 * Standard input has configurations: a line with the size in bytes, then the text. For each there
 * is a line: what the proof says ("listener domain", several), a bar, what relayed in truth
 * ("listener domain client helo sender recipient world"), a bar, and of the sessions that the proof
 * names ("listener domain relays" or stays, or none where it named none). --red breaks the proof:
 * it sees the text without `not`, as if it mistook negation. --without TEXT breaks it, too: what it
 * says with this code, or with a path that has this text, is not heard. The test must notice.
 */
#include "base/buf.h"
#include "base/check.h"
#include "directory/stated.h"
#include "flow/flow.h"
#include "gateway/rehearsal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE_MAX_BYTES = 1 << 20, LISTENERS_MAX = 8, DOMAINS_MAX = 8 };

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define TEXT(text)                                                                                 \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

/* The values that tests/property/relay_configs.py writes into conditions. */
static const struct str helos[] = {TEXT("x.test"), TEXT("y.test"), TEXT("mail.x.test"),
                                   TEXT("else.example")};
static const struct str senders[] = {TEXT(""), TEXT("a@a.test"), TEXT("b@a.test"), TEXT("c@b.test"),
                                     TEXT("d@else.example")};
static const struct str recipients[] = {
    TEXT("bob@example.org"),  TEXT("bob@alias.test"),   TEXT("bob@ours.test"),
    TEXT("bob@foreign.test"), TEXT("bob@other.test"),   TEXT("bob@else.example"),
    TEXT("ann@example.org"),  TEXT("ann@foreign.test"), TEXT("ann@else.example"),
    TEXT("ann@ours.test"),    TEXT("ann@alias.test")};
static const char *const clients[] = {"10.1.2.3",    "10.200.0.1",  "198.51.100.7", "203.0.113.9",
                                      "192.168.4.4", "192.168.9.9", "2001:db8::1"};

/* What the mail server says: it knows everybody, nobody, refuses to tell, or is down. */
enum world { KNOWS_ALL, KNOWS_NOBODY, DENIES, DOWN, WORLDS };
static const struct str known[] = {TEXT("ann@foreign.test"), TEXT("ann@else.example")};
#define KNOWN_LIST                                                                                 \
    {                                                                                              \
        .name = TEXT("known.list"), .is_file = true, .recipients = known,                          \
        .recipient_count = COUNT(known)                                                            \
    }
static const struct str everybody[] = {TEXT("@example.org"), TEXT("@alias.test"),
                                       TEXT("@ours.test"),   TEXT("@foreign.test"),
                                       TEXT("@other.test"),  TEXT("@else.example")};

static uint64_t random_state;

static size_t pick(size_t count)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % count;
}

/* ---- the proof ---- */

/* "listener domain>domain" of the words of the warning; "*": it may be any. */
static struct str passed_by_pair(struct str text, struct arena *arena)
{
    struct str words[12], word;
    size_t count = 0;
    bool any = str_find_str(text, STR(" or another, which")) >= 0;
    while (text.len && str_split(&text, ' ', &word)) {
        bool named = count == 0 ? str_equal(word, STR("listener")) : str_equal(word, STR("domain"));
        if (named && count < 3 && str_split(&text, ' ', &word))
            words[count++] = str_ends(word, STR(",")) ? str_slice(word, 0, word.len - 1) : word;
    }
    check(count == 3);
    if (any)
        words[2] = STR("*");
    return arena_printf(arena, "%.*s %.*s>%.*s", STR_ARG(words[0]), STR_ARG(words[1]),
                        STR_ARG(words[2]));
}

/* "listener domain" of the problem; empty: it says nothing of relaying. */
static struct str pair_of(const struct config_problem *problem, struct arena *arena)
{
    static const char before[] = "a stranger can relay through listener ";
    if (str_equal(problem->code, STR("passed-by")))
        return passed_by_pair(problem->text, arena);
    if (!str_equal(problem->code, STR("open-relay")))
        return STR_EMPTY;
    struct str text = str_from(problem->text, sizeof before - 1);
    ptrdiff_t blank = str_find(text, ' ');
    struct str rest = str_from(text, (size_t)blank);
    bool any = str_equal(rest, STR(" to any domain"));
    struct str domain = any ? STR("any") : str_from(rest, sizeof " to domain " - 1);
    return arena_printf(arena, "%.*s %.*s", STR_ARG(str_slice(text, 0, (size_t)blank)),
                        STR_ARG(domain));
}

static void print_proof(const struct config_report *report, const char *without)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct config_problem *problem = &report->problems[i];
        if (without && (str_equal(problem->code, str_c(without)) ||
                        str_find_str(problem->detail, str_c(without)) >= 0))
            continue;
        struct str pair = pair_of(problem, report->arena);
        if (pair.len)
            printf("%s%.*s,", problem->severity == CONFIG_ERROR ? "[error] " : "", STR_ARG(pair));
    }
}

static struct settings *load(struct str text, struct config_report *report, struct arena *arena)
{
    struct settings *settings = NULL;
    struct error err;
    config_report_init(report, arena);
    report->may_rehearse = true;
    if (settings_load_text(STR("random.yaml"), text, report, &settings, &err) == OK)
        return settings;
    struct buf out BUF_CLEANUP;
    buf_init(&out, SIZE_MAX_BYTES);
    config_report_print(report, false, &out);
    fprintf(stderr, "%.*s\n%.*s\n", STR_ARG(text), (int)out.len, out.ptr);
    exit(2);
}

static struct str without_not(struct str text, struct arena *arena)
{
    char *copy = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (str_starts(str_from(text, i), STR("not (")))
            i += 3;
        else
            copy[len++] = text.ptr[i];
    }
    return str_of(copy, len);
}

/* ---- the stranger ---- */

static bool has_world(const struct net_network *networks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (networks[i].bits == 0)
            return true;
    return false;
}

static bool may_claim(const struct settings_listener *listener)
{
    return has_world(listener->smtp.proxy_from, listener->smtp.proxy_from_count) ||
           has_world(listener->smtp.xclient_from, listener->smtp.xclient_from_count);
}

static struct str local_of(struct str address)
{
    return str_slice(address, 0, (size_t)str_find_last(address, '@'));
}

static struct str domain_of(struct str address)
{
    return str_from(address, (size_t)(str_find_last(address, '@') + 1));
}

/* Has the name that the stranger chose got a domain that nobody listed? One that the file wrote
 * down as a whole is a forwarding, which is no relay. */
static bool left(const struct settings *settings, const struct rehearsal *out, struct str to)
{
    ptrdiff_t at = str_find_last(out->sent_to, '@');
    return at > 0 && !str_equal_nocase(out->sent_to, to) &&
           str_equal_nocase(local_of(out->sent_to), local_of(to)) &&
           !settings_is_listed(settings, str_from(out->sent_to, (size_t)at + 1));
}

/* Does it go out by itself? What is held, or in quarantine, leaves when somebody releases it. */
static bool goes_out(const struct rehearsal *out)
{
    static const char *const stays[] = {"reject", "defer", "discard", "hold", "quarantine"};
    for (size_t i = 0; i < COUNT(stays); i++)
        if (strcmp(out->content_action, stays[i]) == 0)
            return false;
    return strcmp(out->recipient, "accept") == 0;
}

static bool is_held(const struct rehearsal *out)
{
    return strcmp(out->content_action, "hold") == 0 ||
           strcmp(out->content_action, "quarantine") == 0;
}

/* Is it a relay: mail for any domain, or for a listed one by MX whose recipient nobody knows? */
static bool relays(const struct settings *settings, const struct rehearsal *out, enum world world,
                   struct str to, struct str domain, bool *out_any)
{
    *out_any = str_equal(domain, STR("any"));
    if (!goes_out(out))
        return false;
    if (*out_any)
        return true;
    /* also by a way through `any`, wherever that flow then sent it */
    *out_any = left(settings, out, to) || (str_equal(out->domain, STR("any")) &&
                                           str_equal_nocase(local_of(out->sent_to), local_of(to)));
    if (*out_any)
        return true;
    /* Rewritten to another listed domain: see passes_by() */
    if (!str_equal_nocase(domain_of(out->sent_to), domain_of(to)) &&
        settings_route(settings, domain_of(out->sent_to)) !=
            settings_route(settings, domain_of(to)))
        return false;
    const struct transport *transport = settings_find_transport(settings, out->transport);
    return transport && transport->method == TRANSPORT_LOOKUP_MX && world != KNOWS_ALL;
}

/* The listed domain by MX that a name which the stranger chose was rewritten into, and whose own
 * recipient flow nobody asked; NULL: none. */
static const struct settings_domain *passes_by(const struct settings *settings,
                                               const struct rehearsal *out, enum world world,
                                               struct str to, const struct settings_domain *domain)
{
    const struct transport *transport = settings_find_transport(settings, out->transport);
    if (!goes_out(out) || domain->is_any || str_equal(out->domain, STR("any")) ||
        world == KNOWS_ALL || !transport || transport->method != TRANSPORT_LOOKUP_MX ||
        str_find_last(out->sent_to, '@') < 0 ||
        !str_equal_nocase(local_of(out->sent_to), local_of(to)))
        return NULL;
    const struct settings_domain *target = settings_route(settings, domain_of(out->sent_to));
    bool by_mx = target && !target->is_any && target->transport->method == TRANSPORT_LOOKUP_MX;
    return by_mx && target != domain ? target : NULL;
}

/* What the run had: printed at the end, so that one sees what was tried. */
static struct {
    unsigned long tries, logins, accepted, content, routed, rewritten, passed_by, claimed;
} counts;

static void count(const struct rehearsal_in *in, const struct rehearsal *out,
                  const struct settings_domain *domain)
{
    counts.tries++;
    counts.logins += in->user.len > 0;
    counts.claimed +=
        net_networks_have(in->settings->trusted, in->settings->trusted_count, &in->client);
    if (strcmp(out->recipient, "accept") != 0)
        return;
    counts.accepted++;
    counts.content += domain->content != NULL && str_equal(out->domain, domain->name);
    counts.rewritten += out->sent_to.len && !str_equal_nocase(out->sent_to, in->to);
    counts.routed += !str_equal(out->transport, domain->transport->name);
}

/* `done`: by listener and domain, those that have relayed, and are not tried again. */
static void try_once(const struct settings *settings, struct directory *const *directories,
                     bool done[LISTENERS_MAX][DOMAINS_MAX])
{
    static const struct str users[] = {TEXT(""), TEXT(""), TEXT("eve"), TEXT("bob@example.org")};
    enum world world = (enum world)pick(WORLDS);
    size_t index = pick(settings->listener_count);
    const struct settings_listener *listener = &settings->listeners[index];
    struct str to = recipients[pick(COUNT(recipients))];
    const struct settings_domain *domain =
        settings_find_domain(settings, listener, str_from(to, (size_t)str_find_last(to, '@') + 1));
    if (!domain || done[index][domain->index])
        return;
    struct arena *arena = arena_new(0);
    struct rehearsal out;
    const char *client = clients[pick(COUNT(clients))];
    struct rehearsal_in in = {.settings = settings,
                              .listener = listener,
                              .directory = directories[world],
                              .arena = arena,
                              .client_name = STR_EMPTY,
                              .helo = helos[pick(COUNT(helos))],
                              .user =
                                  listener->authentication ? users[pick(COUNT(users))] : STR_EMPTY,
                              .password = STR("guess"),
                              .has_mail = true,
                              .from = senders[pick(COUNT(senders))],
                              .to = to,
                              .text = STR("Subject: x\r\nX-Kind: one\r\n\r\nx\r\n")};
    check(net_ip_parse(str_c(client), &in.client));
    bool trusted = net_networks_have(settings->trusted, settings->trusted_count, &in.client);
    if (!trusted || may_claim(listener)) {
        bool any;
        rehearsal_run(&in, &out);
        if (in.user.len && strcmp(out.auth, "accept") != 0) { /* refused, he goes on without */
            in.user = STR_EMPTY;
            rehearsal_run(&in, &out);
            in.user = STR("eve");
        }
        count(&in, &out, domain);
        done[index][domain->index] = relays(settings, &out, world, to, domain->name, &any);
        if (done[index][domain->index])
            printf("%.*s %.*s %s %.*s <%.*s> %.*s %d,", STR_ARG(listener->name),
                   STR_ARG(any ? STR("any") : domain->name), client, STR_ARG(in.helo),
                   STR_ARG(in.from), STR_ARG(in.to), (int)world);
        const struct settings_domain *target = passes_by(settings, &out, world, to, domain);
        counts.passed_by += target != NULL;
        if (target)
            printf("%.*s %.*s>%.*s %s %.*s <%.*s> %.*s %d,", STR_ARG(listener->name),
                   STR_ARG(domain->name), STR_ARG(target->name), client, STR_ARG(in.helo),
                   STR_ARG(in.from), STR_ARG(in.to), (int)world);
    }
    arena_free(arena);
}

/* ---- the sessions that the proof names ---- */

static bool take(struct str *text, const char *before, const char *behind, struct str *out)
{
    ptrdiff_t begin = str_find_str(*text, str_c(before));
    if (begin < 0)
        return false;
    *text = str_from(*text, (size_t)begin + strlen(before));
    ptrdiff_t end = str_find_str(*text, str_c(behind));
    *out = end < 0 ? *text : str_slice(*text, 0, (size_t)end);
    *text = str_from(*text, out->len);
    return true;
}

static struct str message_of(struct str text, struct arena *arena)
{
    struct str field, size_text, head = STR("Subject: x\r\n");
    uint64_t size;
    struct str rest = text;
    ptrdiff_t where = str_find_str(rest, STR("; where "));
    if (where >= 0)
        rest = str_slice(rest, 0, (size_t)where);
    ptrdiff_t bytes = str_find_str(rest, STR(" bytes"));
    if (str_find_str(rest, STR(", no fields")) >= 0)
        head = STR_EMPTY;
    if (take(&rest, ", field ", ", ", &field))
        head = arena_printf(arena, "%.*s%.*s\r\n", STR_ARG(head), STR_ARG(field));
    head = arena_printf(arena, head.len ? "%.*s\r\nx\r\n" : "%.*s\r\n", STR_ARG(head));
    if (bytes < 0)
        return head;
    size_text =
        str_slice(str_slice(text, 0, where >= 0 ? (size_t)where : text.len), 0, (size_t)bytes);
    while (str_find(size_text, ' ') >= 0)
        size_text = str_from(size_text, (size_t)str_find(size_text, ' ') + 1);
    if (!str_to_uint(size_text, SIZE_MAX_BYTES * 32, &size) || size < head.len + 2)
        return head;
    char *whole = arena_alloc(arena, (size_t)size + 70);
    memcpy(whole, head.ptr, head.len);
    size_t len = head.len;
    for (; len + 2 < size; len++)
        whole[len] = len % 70 == 68 ? '\r' : len % 70 == 69 ? '\n' : 'x';
    memcpy(whole + len, "\r\n", 2);
    return str_of(whole, len + 2);
}

/* "FLOW/NUMBER BLOCK says "OUTCOME", …" */
static size_t read_stated(const struct settings_listener *listener,
                          const struct settings_domain *domain, struct str text,
                          struct flow_stated_outcome *out, size_t max)
{
    struct str item, number, outcome, flow;
    size_t count = 0;
    while (text.len && take(&text, " ", "\",", &item) && count < max) {
        ptrdiff_t slash = str_find(item, '/');
        check(slash > 0);
        flow = str_slice(item, 0, (size_t)slash);
        number = str_from(item, (size_t)slash + 1);
        number = str_slice(number, 0, (size_t)str_find(number, ' '));
        ptrdiff_t quote = str_find(item, '"');
        outcome = str_from(item, (size_t)quote + 1);
        if (str_ends(outcome, STR("\"")))
            outcome = str_slice(outcome, 0, outcome.len - 1);
        const struct flow *recipient = settings_recipient_flow(listener, domain);
        const struct flow *in = str_equal(flow, flow_name(recipient)) ? recipient : domain->content;
        check(in && flow_state_outcome(in, number, outcome, &out[count]));
        count++;
    }
    return count;
}

static const char *try_session(const struct settings *settings, struct str pair, struct str text,
                               struct directory *directory)
{
    struct arena *arena = arena_new(0);
    struct str listener_name, rest = pair, client, helo, tls, from, to, stated = STR_EMPTY;
    struct flow_stated_outcome outcomes[64];
    struct rehearsal out;
    bool any;
    check(str_split(&rest, ' ', &listener_name));
    const struct settings_listener *listener = settings_find_listener(settings, listener_name);
    check(take(&text, "client ", ",", &client) && take(&text, "HELO ", ",", &helo) &&
          take(&text, ", ", ",", &tls) && take(&text, "MAIL FROM:<", ">", &from) &&
          take(&text, "RCPT TO:<", ">", &to));
    struct rehearsal_in in = {.settings = settings,
                              .listener = listener,
                              .directory = directory,
                              .arena = arena,
                              .client_name = STR_EMPTY,
                              .helo = helo,
                              .tls = str_equal(tls, STR("TLS")),
                              .user = STR_EMPTY,
                              .password = STR_EMPTY,
                              .has_mail = true,
                              .from = from,
                              .to = to,
                              .text = message_of(text, arena),
                              .stated = outcomes};
    struct str more;
    if (take(&text, " and ", " more like it", &more))
        in.more = strtoul(more.ptr, NULL, 10);
    const struct settings_domain *domain = settings_find_domain(settings, listener, domain_of(to));
    check(domain != NULL);
    if (take(&text, "; where", "\n", &stated))
        in.stated_count = read_stated(listener, domain, stated, outcomes, COUNT(outcomes));
    ptrdiff_t named = str_find_str(client, STR(" named "));
    if (named >= 0) {
        in.client_name = str_from(client, (size_t)named + 7);
        client = str_slice(client, 0, (size_t)named);
    }
    check(net_ip_parse(client, &in.client));
    bool trusted = net_networks_have(settings->trusted, settings->trusted_count, &in.client);
    check(!trusted || may_claim(listener));
    rehearsal_run(&in, &out);
    bool relayed = relays(settings, &out, DOWN, to, domain->name, &any);
    const struct settings_domain *target = passes_by(settings, &out, DOWN, to, domain);
    ptrdiff_t passed = str_find(rest, '>');
    if (passed > 0) {
        struct str into = str_from(rest, (size_t)passed + 1);
        relayed = target && (str_equal(into, STR("*")) || str_equal(into, target->name));
    } else if (str_equal(rest, STR("any"))) {
        bool accepted = strcmp(out.recipient, "accept") == 0;
        relayed =
            (relayed && any) || (domain->is_any && accepted && (listener->queued || is_held(&out)));
    } else {
        relayed = (relayed && !any) ||
                  (is_held(&out) && !any && str_equal(domain_of(out.sent_to), domain_of(to)));
    }
    arena_free(arena);
    return relayed ? "relays" : "stays";
}

static void try_sessions(const struct settings *settings, const struct config_report *report,
                         struct directory *directory)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct config_problem *problem = &report->problems[i];
        struct str text = problem->detail, session;
        struct str pair = pair_of(problem, report->arena);
        if (!pair.len)
            continue;
        const char *end = "none";
        if (take(&text, "session: ", "\n", &session))
            end = try_session(settings, pair, session, directory);
        printf("%.*s %s,", STR_ARG(pair), end);
    }
}

static void one(struct str text, unsigned tries, bool red, const char *without,
                struct directory *const *directories)
{
    struct arena *arena = arena_new(0);
    struct config_report report;
    struct settings *settings = load(red ? without_not(text, arena) : text, &report, arena);
    print_proof(&report, without);
    if (red) {
        settings_unref(settings);
        settings = load(text, &report, arena);
    }
    bool done[LISTENERS_MAX][DOMAINS_MAX] = {0};
    check(settings->listener_count <= LISTENERS_MAX && settings->domain_count <= DOMAINS_MAX);
    printf("|");
    for (unsigned i = 0; i < tries; i++)
        try_once(settings, directories, done);
    printf("|");
    if (!red)
        try_sessions(settings, &report, directories[DOWN]);
    printf("\n");
    settings_unref(settings);
    arena_free(arena);
}

int main(int argc, char **argv)
{
    static const struct directory_stated_source sources[WORLDS][2] = {
        [KNOWS_ALL] = {{.name = TEXT("mail"),
                        .recipients = everybody,
                        .recipient_count = COUNT(everybody)},
                       KNOWN_LIST},
        [KNOWS_NOBODY] = {{.name = TEXT("mail")}, KNOWN_LIST},
        [DENIES] = {{.name = TEXT("mail"), .state = DIRECTORY_STATED_DENIES}, KNOWN_LIST},
        [DOWN] = {{.name = TEXT("mail"), .state = DIRECTORY_STATED_DOWN}, KNOWN_LIST},
    };
    struct directory_stated stated[WORLDS];
    struct directory *directories[WORLDS];
    if (argc < 3)
        return 2;
    unsigned tries = (unsigned)strtoul(argv[1], NULL, 10);
    random_state = strtoull(argv[2], NULL, 10);
    for (int i = 0; i < WORLDS; i++) {
        stated[i] = (struct directory_stated){.sources = sources[i], .source_count = 2};
        directories[i] = directory_stated_new(&stated[i]);
    }
    char line[32];
    char *text = malloc(SIZE_MAX_BYTES);
    check(text != NULL);
    while (fgets(line, sizeof line, stdin)) {
        size_t size = strtoul(line, NULL, 10);
        check(size < SIZE_MAX_BYTES && fread(text, 1, size, stdin) == size);
        one(str_of(text, size), tries, argc == 4, argc > 4 ? argv[4] : NULL, directories);
    }
    fprintf(
        stderr,
        "%lu tries: %lu with a login, %lu with an address that he only claims; %lu accepted, of "
        "them %lu through a content flow, %lu routed, %lu rewritten, %lu past the flow of a domain "
        "by MX\n",
        counts.tries, counts.logins, counts.claimed, counts.accepted, counts.content, counts.routed,
        counts.rewritten, counts.passed_by);
    free(text);
    for (int i = 0; i < WORLDS; i++)
        directory_stated_free(directories[i]);
    return 0;
}
