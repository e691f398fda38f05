/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/dkim_sign.c - signs with the keys of the domain in From (or with those named).
 *
 * A signature vouches for the mail, so that of strangers is not signed unless the file says so, and
 * neither is mail of which nobody can tell who wrote it.
 */
#include "content/author.h"
#include "content/dkim.h"
#include "content/signing_key.h"
#include "flow/blocks.h"

enum { SIGNATURES_MAX = 4 };
enum { SIGNED, SKIPPED, ERROR };

struct parameters {
    struct option_texts keys;
    int header, body;
    int64_t valid_ns;
    bool strangers;
};
struct prepared {
    const struct signing_keys *keys;
    bool seven_bit;
    const struct signing_key **chosen; /* NULL: by the domain in From */
    size_t chosen_count;
};

static const struct option_word canons[] = {
    {"relaxed", DKIM_RELAXED},
    {"simple", DKIM_SIMPLE},
    {NULL, 0},
};
static const struct option options[] = {
    {.name = "keys",
     .type = OPTION_REFERENCES,
     .offset = offsetof(struct parameters, keys),
     .refers_to = "dkim_keys",
     .text = "sign with these, whatever stands in From; default: the keys of its domain"},
    {.name = "header",
     .type = OPTION_WORD,
     .offset = offsetof(struct parameters, header),
     .words = canons,
     .fallback = "relaxed",
     .text = "relaxed: other blanks and letter case in the header do no harm on the way"},
    {.name = "body",
     .type = OPTION_WORD,
     .offset = offsetof(struct parameters, body),
     .words = canons,
     .fallback = "relaxed",
     .text = "relaxed: other blanks in the body do no harm on the way"},
    {.name = "valid",
     .type = OPTION_DURATION,
     .offset = offsetof(struct parameters, valid_ns),
     .fallback = "0s",
     .max = INT64_C(3660) * 86400 * NS_PER_S,
     .text = "how long a signature counts; 0s: for ever"},
    {.name = "strangers",
     .type = OPTION_BOOL,
     .offset = offsetof(struct parameters, strangers),
     .fallback = "false",
     .text = "sign also for clients that are neither authenticated nor in trusted_networks"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "dkim-sign",
    .text = "Adds DKIM-Signature, one for each key (RFC 6376).",
    .options = options,
    .shorthand = "keys",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [SIGNED] = {.name = "signed", .action = ACTION_NEXT, .text = "the message was signed"},
    [SKIPPED] = {.name = "skipped",
                 .key = "skipped",
                 .action = ACTION_NEXT,
                 .text = "no key is for it, or it is not ours to sign"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_DEFER,
               .reply = "451 4.7.5 The message cannot be signed now",
               .reason = MAIL_REASON_POLICY,
               .text = "the key does not work"},
    {.name = NULL},
};

/* ---- at load ---- */

static const struct signing_key *find_key(const struct signing_keys *keys, struct str name)
{
    for (size_t i = 0; i < keys->count; i++)
        if (str_equal(keys->items[i].name, name))
            return &keys->items[i];
    return NULL; /* the binder has reported it */
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    static const struct signing_keys none = {0};
    const struct parameters *parameters = step->parameters;
    struct arena *arena = compiling->context->option.arena;
    struct prepared *prepared = ARENA_NEW(arena, struct prepared);
    (void)node;
    prepared->keys = compiling->context->keys ? compiling->context->keys : &none;
    prepared->seven_bit = compiling->context->signs_seven_bit;
    step->prepared = prepared;
    if (!prepared->keys->count)
        flow_problem(compiling, CONFIG_WARNING, "no-keys", step->place,
                     "there are no dkim_keys: nothing will be signed")
            ->fix = STR("make one with: postern dkim generate --domain D --selector S FILE");
    if (!parameters->keys.count)
        return;
    prepared->chosen = arena_alloc_array(arena, parameters->keys.count, sizeof *prepared->chosen);
    for (size_t i = 0; i < parameters->keys.count; i++) {
        const struct signing_key *key = find_key(prepared->keys, parameters->keys.items[i]);
        if (key)
            prepared->chosen[prepared->chosen_count++] = key;
    }
    if (parameters->keys.count > SIGNATURES_MAX)
        flow_problem(compiling, CONFIG_ERROR, "wrong-value", step->place,
                     "at most %d signatures are put on a message", SIGNATURES_MAX);
}

/* ---- running ---- */

struct signing {
    const struct signing_key *keys[SIGNATURES_MAX];
    size_t count;
};

static void add_chosen(const struct prepared *prepared, struct signing *out)
{
    for (size_t i = 0; i < prepared->chosen_count && out->count < SIGNATURES_MAX; i++)
        if (prepared->chosen[i]->active && prepared->chosen[i]->key)
            out->keys[out->count++] = prepared->chosen[i];
}

static void add_of_domain(const struct prepared *prepared, struct str domain, struct signing *out)
{
    const struct signing_key *key;
    struct str signs = signing_keys_domain(prepared->keys, domain);
    size_t cursor = 0;
    while (out->count < SIGNATURES_MAX &&
           (key = signing_keys_next(prepared->keys, signs, &cursor)) != NULL)
        out->keys[out->count++] = key;
}

/* The keys to sign with, or why there are none. */
static void choose(struct flow_running *running, const struct flow_step *step, struct signing *out)
{
    const struct parameters *parameters = step->parameters;
    const struct flow_facts *facts = &running->facts;
    struct arena *arena = running->run->arena;
    struct author author;
    if (!parameters->strangers && !facts->authenticated && !facts->trusted) {
        running->detail = STR("the client is neither authenticated nor trusted");
        return;
    }
    author_read(facts->header, arena, &author);
    if (author.kind != AUTHOR_CLEAR) {
        running->detail = author.kind == AUTHOR_NONE
                              ? STR("From has no address")
                              : arena_printf(arena, "From is not clear: %s", author.problem);
        return;
    }
    if (parameters->keys.count)
        add_chosen(step->prepared, out);
    else
        add_of_domain(step->prepared, author.domains[0], out);
    if (!out->count)
        running->detail =
            arena_printf(arena, "no active key is for %.*s", STR_ARG(author.domains[0]));
}

static MAY_YIELD enum result sign(struct flow_running *running, const struct parameters *parameters,
                                  const struct signing *signing, struct str *out_fields,
                                  struct error *err)
{
    struct arena *arena = running->run->arena;
    struct dkim_message message;
    dkim_message_init(&message, running->run->content, running->facts.header);
    running->detail = STR_EMPTY;
    for (size_t i = 0; i < signing->count; i++) {
        const struct signing_key *key = signing->keys[i];
        struct dkim_signer signer = {.domain = key->domain,
                                     .selector = key->selector,
                                     .key = key->key,
                                     .header = (enum dkim_canon)parameters->header,
                                     .body = (enum dkim_canon)parameters->body,
                                     .valid_s = parameters->valid_ns / NS_PER_S};
        struct str field;
        if (dkim_sign(&message, &signer, arena, &field, err) != OK)
            return FAILED;
        *out_fields = arena_printf(arena, "%.*s%.*s", STR_ARG(*out_fields), STR_ARG(field));
        running->detail =
            arena_printf(arena, "%.*s%s%.*s._domainkey.%.*s", STR_ARG(running->detail),
                         i ? " " : "", STR_ARG(key->selector), STR_ARG(key->domain));
    }
    return OK;
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct prepared *prepared = step->prepared;
    struct signing signing = {.count = 0};
    struct str fields = STR_EMPTY;
    *out_outcome = SKIPPED;
    choose(running, step, &signing);
    if (!signing.count)
        return OK;
    if (prepared->seven_bit && !step->observe && flow_body_make_seven_bit(running, err) != OK)
        return FAILED;
    if (sign(running, step->parameters, &signing, &fields, err) != OK) {
        if (flow_is_over(NULL) || err->kind == ERROR_TEMPORARY)
            return FAILED;
        *out_outcome = err->kind == ERROR_LIMIT ? SKIPPED : ERROR;
        running->detail = arena_str(running->run->arena, str_c(err->text));
        return OK;
    }
    if (!step->observe)
        flow_head_prepend(running, fields);
    *out_outcome = SIGNED;
    return OK;
}

static bool changes_field(const struct flow_step *step, struct str name)
{
    (void)step;
    return str_equal_nocase(name, STR("DKIM-Signature"));
}

const struct flow_block flow_block_dkim_sign = {
    .name = "dkim-sign",
    .text = "signs with DKIM",
    .flows = FLOW_IN_CONTENT,
    .signs = true,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = changes_field,
};
