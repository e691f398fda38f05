/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/prove_witness.c - a session that goes a way through the flows: who, from where, to whom.
 *
 * Values that the conditions suggest are tried name by name; a condition that has become false ends
 * a try early. What they do not say is what anybody would have. A rehearsal has the last word: what
 * a script or a pattern of a rewriting makes of it is not in the conditions.
 */
#include "base/buf.h"
#include "flow/prove_internal.h"

enum {
    JUDGEMENTS_MAX = 20000,
    TRIES_A_WAY = 24,
    MESSAGE_MAX = 1 << 25,
    CHOICES_MAX = 4 * PROVE_VALUES_MAX,
};

#define EVERY_FIELD "Subject: x\r\n"

enum turn { CLIENT, TLS, HELO, CLIENT_NAME, SENDER, RECIPIENT, COUNT, FIELDS, SIZE, TURNS };

static const unsigned names_of_turn[TURNS] = {
    [CLIENT] = 1u << NAME_CLIENT | 1u << NAME_TRUSTED,
    [TLS] = 1u << NAME_TLS,
    [HELO] = 1u << NAME_HELO,
    [CLIENT_NAME] = 1u << NAME_CLIENT_NAME,
    [SENDER] = 1u << NAME_SENDER | 1u << NAME_SENDER_DOMAIN,
    [RECIPIENT] = 1u << NAME_RECIPIENT | 1u << NAME_RECIPIENT_DOMAIN,
    [COUNT] = 1u << NAME_RECIPIENTS,
    [FIELDS] = 0, /* fields are given one by one */
    [SIZE] = 1u << NAME_SIZE,
};

struct choices { /* of one turn */
    struct str texts[CHOICES_MAX];
    size_t count;
};

struct making {
    const struct prove_way *way;
    struct prove_values values;
    struct choices choices[TURNS];
    struct expression_knowledge known; /* with the facts given so far */
    struct flow_facts facts;
    struct mail_recipient recipients[PROVE_RECIPIENTS_MAX];
    unsigned judgements, tries;
    bool done;
    struct prove_budget *budget;
    struct arena *arena;
    struct prove_session *out;
};

/* ---- do the conditions hold, as far as they can be told? ---- */

/* Names whose value was made by a step before it. */
static unsigned made_by_steps(const struct prove_way *way, const struct expression_assumption *item)
{
    unsigned names = 0;
    for (unsigned name = 0; item->since && name < NAME_COUNT; name++) {
        bool first = item->since[name] == 0 || (item->since[name] == way->content_begun &&
                                                way->content_begun && !way->rewritten);
        names |= first ? 0 : 1u << name;
    }
    return names;
}

static bool may_hold(struct making *making)
{
    const struct prove_way *way = making->way;
    struct expression_knowledge known = making->known;
    for (size_t i = 0; i < way->assumed_count; i++) {
        const struct expression_assumption *item = &way->assumed[i];
        unsigned made = made_by_steps(way, item);
        known.given = making->known.given & ~made;
        known.field_count = made & 1u << NAME_HEADER ? 0 : making->known.field_count;
        making->judgements++;
        enum expression_truth truth = expression_judge(item->expression, &known);
        if (truth != EXPRESSION_UNDECIDED && (truth == EXPRESSION_TRUE) != item->truth)
            return false;
    }
    return true;
}

/* ---- choices ---- */

static void add(struct making *making, enum turn turn, struct str text)
{
    struct choices *choices = &making->choices[turn];
    if (choices->count < CHOICES_MAX)
        choices->texts[choices->count++] = text;
}

static void add_all(struct making *making, enum turn turn, const struct prove_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++)
        add(making, turn, texts->items[i]);
}

static bool is_name(const struct flow_relay_case *relay, struct str domain)
{
    for (size_t i = 0; i < relay->name_count; i++)
        if (str_equal_nocase(relay->names[i], domain))
            return true;
    return false;
}

/* An address whose domain the case is about, or not taken. */
static void add_recipient(struct making *making, struct str local, struct str domain)
{
    const struct flow_relay_case *relay = making->way->goal->relay;
    if (relay->name_count && is_name(relay, domain) == relay->is_any)
        return;
    add(making, RECIPIENT,
        arena_printf(making->arena, "%.*s@%.*s", STR_ARG(local), STR_ARG(domain)));
}

static struct str local_of(struct str address)
{
    return str_slice(address, 0, (size_t)str_find_last(address, '@'));
}

static struct str domain_of(struct str address)
{
    return str_from(address, (size_t)(str_find_last(address, '@') + 1));
}

static void add_addresses(struct making *making)
{
    const struct prove_goal *goal = making->way->goal;
    struct prove_values *values = &making->values;
    struct prove_texts domains = values->domains;
    static const struct str any = {"elsewhere.example", 17};
    prove_values_add_text(&values->locals, STR("somebody"));
    add(making, SENDER, STR("stranger@sender.example"));
    add(making, SENDER, STR_EMPTY);
    for (size_t i = 0; i < values->addresses.count; i++) {
        struct str address = values->addresses.items[i];
        add(making, SENDER, address);
        add_recipient(making, local_of(address), domain_of(address));
    }
    for (size_t i = 0; i < domains.count; i++)
        add(making, SENDER,
            arena_printf(making->arena, "somebody@%.*s", STR_ARG(domains.items[i])));
    for (size_t i = 0; i < values->locals.count; i++) {
        struct str local = values->locals.items[values->locals.count - 1 - i];
        if (!goal->relay->is_any)
            add_recipient(making, local, goal->relay->domain);
        for (size_t k = 0; k < goal->relay->name_count && k < 4 && !goal->relay->is_any; k++)
            add_recipient(making, local, goal->relay->names[k]);
        if (goal->relay->is_any || !goal->relay->name_count)
            add_recipient(making, local, any);
        for (size_t k = 0; k < domains.count; k++) {
            add_recipient(making, local, domains.items[k]);
            add(making, SENDER,
                arena_printf(making->arena, "%.*s@%.*s", STR_ARG(local),
                             STR_ARG(domains.items[k])));
        }
        add(making, SENDER, arena_printf(making->arena, "%.*s@sender.example", STR_ARG(local)));
    }
}

static void add_clients(struct making *making)
{
    const struct flow_relay_case *relay = making->way->goal->relay;
    static const char *const strangers[] = {"203.0.113.77", "198.51.100.77", "2001:db8::77"};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        add(making, CLIENT, str_c(strangers[i]));
    for (size_t i = 0; i < relay->trusted_count; i++)
        prove_values_add_network(&making->values, &relay->trusted[i]);
    for (size_t i = 0; i < making->values.client_count; i++) {
        char text[NET_IP_TEXT];
        add(making, CLIENT,
            arena_str(making->arena, net_ip_format(&making->values.clients[i], text)));
    }
}

/* Header sections: without the fields that conditions look at, and with each value in each. */
static void add_fields(struct making *making)
{
    struct prove_values *values = &making->values;
    add(making, FIELDS, STR_EMPTY);
    for (size_t i = 0; i < values->fields.count; i++)
        for (size_t k = 0; k < values->words.count; k++)
            add(making, FIELDS,
                arena_printf(making->arena, "%.*s: %.*s\r\n", STR_ARG(values->fields.items[i]),
                             STR_ARG(values->words.items[k])));
}

static void add_suggested(void *context, struct str text)
{
    struct making *making = context;
    struct prove_values *values = &making->values;
    if (str_starts(text, STR("~")))
        text = prove_pattern_guess(str_from(text, 1), making->arena);
    ptrdiff_t at = str_find_last(text, '@');
    if (at > 0)
        prove_values_add_text(&values->addresses, text);
    if (at > 0)
        prove_values_add_text(&values->locals, str_slice(text, 0, (size_t)at));
    prove_values_add_text(&values->words, text);
    if (str_find(text, '.') > 0)
        prove_values_add_text(&values->domains, str_from(text, (size_t)(at + 1)));
}

static void collect(struct making *making)
{
    const struct prove_way *way = making->way;
    struct prove_values *values = &making->values;
    for (size_t i = 0; i < way->assumed_count; i++)
        prove_values_add(values, way->assumed[i].expression, making->arena);
    for (size_t i = 0; i < way->hop_count; i++)
        if (way->hops[i].step->block->suggest)
            way->hops[i].step->block->suggest(way->hops[i].step, add_suggested, making);
    add_clients(making);
    if (making->known.tls != EXPRESSION_TLS_ALWAYS)
        add(making, TLS, STR_EMPTY);
    if (making->known.tls != EXPRESSION_TLS_NEVER)
        add(making, TLS, STR("TLSv1.3"));
    add(making, HELO, STR("client.example"));
    add_all(making, HELO, &values->words);
    add_all(making, HELO, &values->domains);
    add(making, CLIENT_NAME, STR_EMPTY);
    add_all(making, CLIENT_NAME, &values->words);
    add_addresses(making);
    add(making, COUNT, STR_EMPTY);
    if (values->recipients)
        add(making, COUNT, STR("more"));
    add_fields(making);
    add(making, SIZE, STR_EMPTY);
    for (size_t i = 0; i < values->size_count; i++)
        add(making, SIZE,
            arena_printf(making->arena, "%llu", (unsigned long long)values->sizes[i]));
}

/* ---- one session ---- */

static bool give_client(struct making *making, struct str text)
{
    const struct flow_relay_case *relay = making->way->goal->relay;
    struct flow_facts *facts = &making->facts;
    bool parsed = net_ip_parse(text, &facts->client);
    facts->trusted = net_networks_have(relay->trusted, relay->trusted_count, &facts->client);
    return parsed && (!facts->trusted || relay->claims.len);
}

/* All of one name, as far as conditions may look at it: those of a rehearsal begin alike. */
static void give_recipients(struct making *making, size_t count)
{
    making->facts.recipient_count = count;
    for (size_t i = 0; i < count; i++)
        making->recipients[i] = (struct mail_recipient){.address = making->facts.recipient,
                                                        .domain = making->facts.recipient_domain,
                                                        .orcpt = STR_EMPTY};
}

/* A message that is too small for any field has none. */
static bool give_size(struct flow_facts *facts, uint64_t size)
{
    if (size < facts->header.len && facts->size == sizeof EVERY_FIELD - 1 + 5)
        facts->header = STR("\r\n");
    facts->size = size;
    return size >= facts->header.len;
}

static bool give(struct making *making, enum turn turn, struct str text)
{
    struct flow_facts *facts = &making->facts;
    uint64_t size = 0;
    switch (turn) {
    case CLIENT:
        return give_client(making, text);
    case TLS:
        facts->tls = text;
        break;
    case HELO:
        facts->helo = text;
        return text.len > 0;
    case CLIENT_NAME:
        facts->client_name = text;
        break;
    case SENDER:
        facts->sender = text;
        facts->sender_domain = text.len ? domain_of(text) : text;
        break;
    case RECIPIENT:
        facts->recipient = text;
        facts->recipient_domain = domain_of(text);
        break;
    case COUNT:
        give_recipients(making, text.len ? making->values.recipients : 1);
        break;
    case FIELDS:
        facts->header = arena_printf(making->arena, EVERY_FIELD "%.*s\r\n", STR_ARG(text));
        facts->size = facts->header.len + 3;
        break;
    case SIZE:
        if (text.len && (!str_to_uint(text, MESSAGE_MAX, &size) || !give_size(facts, size)))
            return false;
        break;
    case TURNS:
        break;
    }
    return true;
}

/* Header and as many octets behind it as make the size, in lines. */
static struct str message_of(const struct making *making)
{
    const struct flow_facts *facts = &making->facts;
    char *text = arena_alloc(making->arena, (size_t)facts->size + 1);
    for (size_t i = 0; i < facts->size; i++)
        text[i] = i < facts->header.len ? facts->header.ptr[i] : 'x';
    for (size_t end = (size_t)facts->size; end > facts->header.len + 2;
         end -= end > 70 ? 70 : end) {
        text[end - 2] = '\r';
        text[end - 1] = '\n';
        if (end < facts->header.len + 72)
            break;
    }
    return str_of(text, (size_t)facts->size);
}

/* What is not in the file: the answers of others on the way. */
static void state_outcomes(const struct making *making, struct flow_witness *witness)
{
    const struct prove_way *way = making->way;
    struct flow_stated_outcome *stated =
        arena_alloc_array(making->arena, way->hop_count + 1, sizeof *stated);
    witness->stated = stated;
    for (size_t i = 0; i < way->hop_count; i++)
        if (way->hops[i].step->block->asks_world)
            stated[witness->stated_count++] = way->hops[i];
}

/* Does it show what the proof says, and not another thing? */
static bool shows(const struct prove_goal *goal, const struct flow_witness *witness)
{
    struct str domain = STR_EMPTY;
    switch (goal->relay->shows(goal->relay, witness, &domain)) {
    case FLOW_SHOWN_RELAYED:
        return goal->aim == AIM_ACCEPT || goal->aim == AIM_ROUTED;
    case FLOW_SHOWN_LEFT:
        return goal->aim == AIM_REWRITTEN;
    case FLOW_SHOWN_PASSED:
        return goal->aim == AIM_PASSED_BY && str_equal(domain, goal->target);
    case FLOW_SHOWN_NOTHING:
        break;
    }
    return false;
}

static void keep(struct making *making)
{
    const struct flow_relay_case *relay = making->way->goal->relay;
    struct prove_session session = {
        .is_known = true,
        .witness = {.facts = making->facts, .text = message_of(making)},
    };
    state_outcomes(making, &session.witness);
    if (relay->shows && making->budget->tries) {
        making->budget->tries--;
        session.has_relayed = shows(making->way->goal, &session.witness);
    }
    if (session.has_relayed || !making->out->is_known)
        *making->out = session;
    making->done = session.has_relayed || !relay->shows || ++making->tries >= TRIES_A_WAY ||
                   !making->budget->tries;
}

/* How many of the choices are worth a try of their own, where no condition looks at them: steps on
 * the way may, rules of a rewriting at the recipient and a script at anything. */
static size_t alternatives(const struct prove_way *way, unsigned turn)
{
    static const size_t of_script[TURNS] = {[HELO] = 2, [SENDER] = 6, [RECIPIENT] = 2};
    size_t most = 1;
    for (size_t i = 0; i < way->hop_count; i++) {
        const struct flow_block *block = way->hops[i].step->block;
        if (block->suggest && block->may_route)
            return of_script[turn] ? of_script[turn] : 1;
        if (block->suggest && turn == RECIPIENT)
            most = TRIES_A_WAY;
    }
    return most;
}

static void choose(struct making *making, unsigned turn)
{
    if (turn >= TURNS) {
        keep(making);
        return;
    }
    const unsigned names = making->values.names;
    const struct choices *choices = &making->choices[turn];
    const struct expression_knowledge before = making->known;
    const struct flow_facts facts = making->facts;
    size_t left = alternatives(making->way, turn);
    bool matters = turn == FIELDS ? names & 1u << NAME_HEADER : names & names_of_turn[turn];
    for (size_t i = 0; i < choices->count; i++) {
        making->facts = facts;
        if (making->done || making->judgements > JUDGEMENTS_MAX)
            break;
        if (!give(making, (enum turn)turn, choices->texts[i]))
            continue;
        making->known.given |= names_of_turn[turn];
        making->known.field_count = turn >= FIELDS ? making->values.fields.count : 0;
        if (!matters || may_hold(making)) {
            choose(making, turn + 1);
            if (!matters && !--left)
                break; /* another would be as good */
        }
        making->known = before;
    }
    making->known = before;
}

bool prove_find_session(const struct prove_way *way, struct prove_budget *budget,
                        struct arena *arena, struct prove_session *out)
{
    struct making *making = ARENA_NEW(arena, struct making);
    const struct flow_relay_case *relay = way->goal->relay;
    *making = (struct making){
        .way = way,
        .known = prove_knowledge(relay, relay->recipient_flow),
        .budget = budget,
        .arena = arena,
        .out = out,
        .facts = {.user = STR_EMPTY, .listener = relay->listener, .recipient_count = 1},
    };
    making->facts.recipients = making->recipients;
    making->known.facts = &making->facts;
    making->known.given = 1u << NAME_AUTHENTICATED | 1u << NAME_USER | 1u << NAME_LISTENER;
    making->known.assumed_count = 0;
    making->known.since = NULL;
    making->known.scratch = arena;
    collect(making);
    making->known.fields = making->values.fields.items;
    choose(making, 0);
    return out->is_known;
}

/* ---- in words ---- */

static bool state(const struct flow *flow, const struct flow_steps *steps, struct str number,
                  struct str outcome, struct flow_stated_outcome *out)
{
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        bool is_it = str_equal(step->number, number);
        for (unsigned k = 0; k < step->outcome_count; k++) {
            *out = (struct flow_stated_outcome){.flow = flow, .step = step, .outcome = k};
            if (is_it && str_equal(str_c(step->block->outcomes[k].name), outcome))
                return true;
            if (step->actions[k].kind == ACTION_BRANCH &&
                state(flow, &step->actions[k].branch, number, outcome, out))
                return true;
        }
    }
    return false;
}

bool flow_state_outcome(const struct flow *flow, struct str number, struct str outcome,
                        struct flow_stated_outcome *out)
{
    return state(flow, &flow->steps, number, outcome, out);
}

struct str prove_session_text(const struct prove_goal *goal, const struct prove_session *session,
                              struct arena *arena)
{
    const struct flow_witness *witness = &session->witness;
    const struct flow_facts *facts = &witness->facts;
    struct buf out BUF_CLEANUP;
    char ip[NET_IP_TEXT];
    buf_init(&out, 8192);
    if (goal->relay->shows && !session->has_relayed)
        return STR(
            "no session was found that relays so: a script, or what is in a list then, may rule it "
            "out");
    buf_printf(&out, "session: %sclient %.*s",
               goal->relay->claims.len && facts->trusted ? "claimed " : "",
               STR_ARG(net_ip_format(&facts->client, ip)));
    if (facts->client_name.len)
        buf_printf(&out, " named %.*s", STR_ARG(facts->client_name));
    buf_printf(&out, ", HELO %.*s, %s, MAIL FROM:<%.*s>, RCPT TO:<%.*s>", STR_ARG(facts->helo),
               facts->tls.len ? "TLS" : "no TLS", STR_ARG(facts->sender),
               STR_ARG(facts->recipient));
    if (facts->recipient_count > 1)
        buf_printf(&out, " and %zu more like it", facts->recipient_count - 1);
    bool has_fields = str_starts(facts->header, STR(EVERY_FIELD));
    struct str fields = facts->header, field;
    if (has_fields)
        fields = str_slice(fields, sizeof EVERY_FIELD - 1, fields.len - 2);
    else
        buf_append(&out, STR(", no fields"));
    while (has_fields && fields.len && str_split(&fields, '\r', &field)) {
        buf_printf(&out, ", field %.*s", STR_ARG(field));
        fields = str_from(fields, 1);
    }
    if (facts->size != facts->header.len + 3)
        buf_printf(&out, ", %llu bytes", (unsigned long long)facts->size);
    for (size_t i = 0; i < witness->stated_count; i++) {
        const struct flow_stated_outcome *stated = &witness->stated[i];
        buf_printf(&out, "%s%.*s/%.*s %s says \"%s\"", i ? ", " : "; where ",
                   STR_ARG(stated->flow->name), STR_ARG(stated->step->number),
                   stated->step->block->name, stated->step->block->outcomes[stated->outcome].name);
    }
    return arena_str(arena, buf_str(&out));
}
