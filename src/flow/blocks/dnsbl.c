/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/dnsbl.c - asks DNS block lists about the client, or about a domain (RFC 5782).
 *
 * All lists are asked at once. An answer counts if it lies in 127.0.0.0/8 and is one of the codes
 * that the file names; 127.0.0.1 and 127.255.255.0/24 never do, for lists say by them that they do
 * not answer us.
 */
#include "flow/blocks.h"

enum about { ABOUT_CLIENT, ABOUT_SENDER, ABOUT_HELO, ABOUT_CLIENT_NAME };
enum { LISTED, CLEAN, ERROR };
enum { LISTS_MAX = 16, CODES_MAX = 16, TEXT_SHOWN = 120, SECONDS = 10 };

struct parameters {
    struct option_texts lists;
    int about;
    int64_t at_least;
};

struct code_range { /* the last byte of 127.0.0.x */
    uint8_t first, last;
};
struct zone_asked {
    struct str zone;
    struct code_range codes[CODES_MAX];
    size_t code_count; /* 0: all */
};
struct prepared {
    struct zone_asked zones[LISTS_MAX];
    size_t count;
};

static const struct option_word about_words[] = {
    {"client", ABOUT_CLIENT},
    {"sender", ABOUT_SENDER},
    {"helo", ABOUT_HELO},
    {"client-name", ABOUT_CLIENT_NAME},
    {NULL, 0},
};
static const struct option options[] = {
    {.name = "lists",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, lists),
     .text =
         "zones, as in zen.example.org; only some answers count with \"zen.example.org=2,4-11\" "
         "(the last number of 127.0.0.x)",
     .required = true},
    {.name = "about",
     .type = OPTION_WORD,
     .offset = offsetof(struct parameters, about),
     .words = about_words,
     .fallback = "client",
     .text =
         "what is looked up: client (its address), or the domain of sender, helo or client-name"},
    {.name = "at_least",
     .type = OPTION_INT,
     .offset = offsetof(struct parameters, at_least),
     .fallback = "1",
     .min = 1,
     .max = LISTS_MAX,
     .text = "so many lists must have it"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "dnsbl",
    .text = "Asks DNS block lists, all at once. Private addresses, and recipients postmaster and "
            "abuse, are clean.",
    .options = options,
    .shorthand = "lists",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [LISTED] = {.name = "listed",
                .key = "listed",
                .action = ACTION_REJECT,
                .reply = "554 5.7.1 Your address is on a block list",
                .reason = MAIL_REASON_DNSBL,
                .text = "enough lists have it"},
    [CLEAN] = {.name = "clean", .action = ACTION_NEXT, .text = "they do not"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_NOTE,
               .reply = "451 4.7.1 Block lists do not answer, try again later",
               .reason = MAIL_REASON_BACKEND_DOWN,
               .text = "lists do not answer, and with them it could be enough"},
    {.name = NULL},
};

/* ---- at load ---- */

static bool parse_range(struct str text, struct code_range *out)
{
    ptrdiff_t dash = str_find(text, '-');
    uint64_t first;
    uint64_t last;
    if (!str_to_uint(str_trim(dash < 0 ? text : str_slice(text, 0, (size_t)dash)), 255, &first) ||
        !str_to_uint(str_trim(dash < 0 ? text : str_from(text, (size_t)dash + 1)), 255, &last) ||
        first > last)
        return false;
    *out = (struct code_range){(uint8_t)first, (uint8_t)last};
    return true;
}

static bool parse_list(struct arena *arena, struct str text, struct zone_asked *out)
{
    ptrdiff_t equal = str_find(text, '=');
    struct str zone = str_trim(equal < 0 ? text : str_slice(text, 0, (size_t)equal));
    struct str codes = equal < 0 ? STR_EMPTY : str_from(text, (size_t)equal + 1);
    struct str one;
    if (!mail_domain_normalize(arena, zone, &out->zone) || (equal >= 0 && !codes.len))
        return false;
    while (codes.len && str_split(&codes, ',', &one))
        if (out->code_count == CODES_MAX || !parse_range(one, &out->codes[out->code_count++]))
            return false;
    return true;
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct arena *arena = compiling->context->option.arena;
    struct prepared *prepared = ARENA_NEW(arena, struct prepared);
    step->prepared = prepared;
    if (parameters->lists.count > LISTS_MAX)
        flow_problem(compiling, CONFIG_ERROR, "too-long", parameters->lists.places[LISTS_MAX],
                     "at most %d lists", LISTS_MAX);
    for (size_t i = 0; i < parameters->lists.count && i < LISTS_MAX; i++) {
        struct str text = parameters->lists.items[i];
        if (parse_list(arena, text, &prepared->zones[prepared->count]))
            prepared->count++;
        else
            flow_problem(compiling, CONFIG_ERROR, "bad-list", parameters->lists.places[i],
                         "\"%.*s\" is no block list", STR_ARG(str_slice(text, 0, 80)))
                ->fix = STR("as in zen.example.org, or \"zen.example.org=2,4-11\"");
    }
    if ((size_t)parameters->at_least > parameters->lists.count)
        flow_problem(compiling, CONFIG_ERROR, "wrong-value",
                     flow_place_of(node, "at_least", step->place), "there are only %zu lists",
                     parameters->lists.count);
}

/* ---- what is asked ---- */

static struct str reversed(struct arena *arena, const struct net_ip *ip)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = ip->bytes;
    if (ip->family == 4)
        return arena_printf(arena, "%u.%u.%u.%u", bytes[3], bytes[2], bytes[1], bytes[0]);
    char text[64];
    size_t len = 0;
    for (int i = 15; i >= 0; i--) {
        text[len++] = digits[bytes[i] & 15];
        text[len++] = '.';
        text[len++] = digits[bytes[i] >> 4];
        text[len++] = '.';
    }
    return arena_str(arena, str_of(text, len - 1));
}

/* Empty: there is nothing to ask about. */
static struct str subject_of(const struct flow_running *running, enum about about,
                             struct str *out_shown)
{
    const struct flow_facts *facts = &running->facts;
    struct arena *arena = running->run->arena;
    struct str domain = STR_EMPTY;
    char ip[NET_IP_TEXT];
    if (about == ABOUT_CLIENT) {
        *out_shown = arena_str(arena, net_ip_format(&facts->client, ip));
        return net_ip_is_private(&facts->client) ? STR_EMPTY : reversed(arena, &facts->client);
    }
    struct str text = about == ABOUT_SENDER ? facts->sender_domain
                      : about == ABOUT_HELO ? facts->helo
                                            : facts->client_name;
    /* a name without a dot, or an address literal, is on no list */
    if (str_find(text, '.') < 0 || str_starts(text, STR("[")) ||
        !mail_domain_normalize(arena, text, &domain))
        return STR_EMPTY;
    *out_shown = domain;
    return domain;
}

/* ---- asking ---- */

struct question {
    const struct zone_asked *zone;
    struct str name;
    struct resolver resolver;
    struct arena *arena;
    bool listed, failed;
    unsigned code;
};

static bool counts(const struct zone_asked *zone, const struct net_ip *ip)
{
    const unsigned char *bytes = ip->bytes;
    if (ip->family != 4 || bytes[0] != 127 || (bytes[1] == 255 && bytes[2] == 255) ||
        (bytes[1] == 0 && bytes[2] == 0 && bytes[3] == 1))
        return false;
    if (!zone->code_count)
        return true;
    for (size_t i = 0; i < zone->code_count; i++)
        if (bytes[1] == 0 && bytes[2] == 0 && bytes[3] >= zone->codes[i].first &&
            bytes[3] <= zone->codes[i].last)
            return true;
    return false;
}

static MAY_YIELD void ask(void *arg)
{
    struct question *question = arg;
    struct resolver_answer answer;
    struct error err;
    if (resolver_ask(&question->resolver, RESOLVER_A, question->name, question->arena, &answer,
                     &err) != OK) {
        question->failed = true;
        return;
    }
    for (size_t i = 0; i < answer.count && !question->listed; i++) {
        question->listed = counts(question->zone, &answer.ips[i]);
        question->code = answer.ips[i].bytes[3];
    }
}

/* All at once; off a fiber, or without one left, one behind the other. */
static MAY_YIELD void ask_all(struct question *questions, size_t count)
{
    struct scope scope;
    struct error err;
    if (!fiber_current()) {
        for (size_t i = 0; i < count; i++)
            ask(&questions[i]);
        return;
    }
    scope_open(&scope, clock_deadline(SECONDS * NS_PER_S));
    for (size_t i = 1; i < count; i++)
        if (fiber_spawn(&scope, "dnsbl", ask, &questions[i], &err) != OK)
            ask(&questions[i]);
    if (count)
        ask(&questions[0]);
    scope_close(&scope);
}

/* What the list says about it, in its own words. */
static MAY_YIELD struct str words_of(struct question *question)
{
    struct resolver_answer answer;
    struct error err;
    if (resolver_ask(&question->resolver, RESOLVER_TXT, question->name, question->arena, &answer,
                     &err) != OK ||
        !answer.count)
        return STR_EMPTY;
    struct str text = arena_str(question->arena, str_slice(answer.texts[0], 0, TEXT_SHOWN));
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < ' ' || text.ptr[i] > '~')
            return STR_EMPTY; /* nothing that could end a reply line */
    return text;
}

static MAY_YIELD void say_listed(struct flow_running *running, struct question *question,
                                 struct str shown)
{
    struct str words = words_of(question);
    struct str text = arena_printf(running->run->arena, "%.*s is listed by %.*s%s%.*s",
                                   STR_ARG(str_slice(shown, 0, 100)), STR_ARG(question->zone->zone),
                                   words.len ? "; " : "", STR_ARG(words));
    running->reply = mail_reply_of(554, 5, 7, 1, text);
}

static bool is_exempt(const struct flow_running *running)
{
    struct str recipient = running->facts.recipient;
    return running->flow->type == FLOW_RECIPIENT &&
           (str_starts_nocase(recipient, STR("postmaster@")) ||
            str_starts_nocase(recipient, STR("abuse@")));
}

static MAY_YIELD void judge(struct flow_running *running, const struct flow_step *step,
                            struct question *questions, struct str shown, unsigned *out_outcome)
{
    const struct parameters *parameters = step->parameters;
    const struct prepared *prepared = step->prepared;
    struct arena *arena = running->run->arena;
    struct question *first = NULL;
    size_t listed = 0;
    size_t failed = 0;
    struct str detail = STR_EMPTY;
    for (size_t i = 0; i < prepared->count; i++) {
        struct question *one = &questions[i];
        failed += one->failed;
        if (!one->listed && !one->failed)
            continue;
        detail = one->failed
                     ? arena_printf(arena, "%.*s%s%.*s: no answer", STR_ARG(detail),
                                    detail.len ? ", " : "", STR_ARG(one->zone->zone))
                     : arena_printf(arena, "%.*s%s%.*s: 127.0.0.%u", STR_ARG(detail),
                                    detail.len ? ", " : "", STR_ARG(one->zone->zone), one->code);
        listed += one->listed;
        if (one->listed)
            flow_add_finding(running, step, one->zone->zone, shown);
        if (one->listed && !first)
            first = one;
    }
    size_t enough = (size_t)parameters->at_least;
    *out_outcome = listed >= enough ? LISTED : listed + failed >= enough ? ERROR : CLEAN;
    running->detail = detail;
    if (*out_outcome == LISTED)
        say_listed(running, first, shown);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    const struct prepared *prepared = step->prepared;
    struct arena *arena = running->run->arena;
    struct str shown = STR_EMPTY;
    (void)err;
    *out_outcome = CLEAN;
    struct str subject = subject_of(running, (enum about)parameters->about, &shown);
    if (!subject.len || is_exempt(running)) {
        running->detail = subject.len ? STR("postmaster and abuse take mail from everybody")
                                      : STR("nothing that could be on a list");
        return OK;
    }
    struct question *questions = arena_alloc_array(arena, prepared->count + 1, sizeof *questions);
    for (size_t i = 0; i < prepared->count; i++)
        questions[i] = (struct question){
            .zone = &prepared->zones[i],
            .name = arena_printf(arena, "%.*s.%.*s", STR_ARG(subject),
                                 STR_ARG(prepared->zones[i].zone)),
            .resolver = flow_sender_resolver(running, 2),
            .arena = arena,
        };
    ask_all(questions, prepared->count);
    judge(running, step, questions, shown, out_outcome);
    return OK;
}

const struct flow_block flow_block_dnsbl = {
    .name = "dnsbl",
    .text = "asks DNS block lists",
    .flows = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .asks_world = true,
    .changes_field = flow_changes_no_field,
    .finds = true,
};
