/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/arc_seal.c - seals what `verify` has found, for those whom the message is forwarded
 * to (RFC 8617).
 */
#include "content/signing_key.h"
#include "flow/blocks.h"

enum { SEALED, SKIPPED, ERROR };

struct parameters {
    struct str key;
    struct str authserv_id;
};
struct prepared {
    const struct signing_keys *keys;
    bool seven_bit;
    const struct signing_key *chosen; /* NULL: that of our host name */
};

static const struct option options[] = {
    {.name = "key",
     .type = OPTION_REFERENCE,
     .offset = offsetof(struct parameters, key),
     .refers_to = "dkim_keys",
     .text = "key to seal with; default: the first of the hostname's domain"},
    {.name = "authserv_id",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, authserv_id),
     .text = "our name in Authentication-Results, as in verify; default: hostname"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "arc-seal",
    .text = "Adds a set of ARC fields, with what a step `verify` has found.",
    .options = options,
    .shorthand = "key",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [SEALED] = {.name = "sealed", .action = ACTION_NEXT, .text = "the message was sealed"},
    [SKIPPED] = {.name = "skipped",
                 .key = "skipped",
                 .action = ACTION_NEXT,
                 .text = "there is no key, nothing was checked, or the chain has ended"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_NOTE,
               .reply = "451 4.7.5 The message cannot be sealed now",
               .reason = MAIL_REASON_POLICY,
               .text = "the key does not work"},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    static const struct signing_keys none = {0};
    const struct parameters *parameters = step->parameters;
    struct prepared *prepared = ARENA_NEW(compiling->context->option.arena, struct prepared);
    (void)node;
    prepared->keys = compiling->context->keys ? compiling->context->keys : &none;
    prepared->seven_bit = compiling->context->signs_seven_bit;
    for (size_t i = 0; i < prepared->keys->count; i++)
        if (str_equal(prepared->keys->items[i].name, parameters->key))
            prepared->chosen = &prepared->keys->items[i];
    step->prepared = prepared;
    if (!prepared->keys->count)
        flow_problem(compiling, CONFIG_WARNING, "no-keys", step->place,
                     "there are no dkim_keys: nothing will be sealed")
            ->fix = STR("make one with: postern dkim generate --domain D --selector S FILE");
}

static const struct signing_key *choose(const struct flow_running *running,
                                        const struct prepared *prepared)
{
    struct arena *arena = running->run->arena;
    size_t cursor = 0;
    if (prepared->chosen)
        return prepared->chosen->active && prepared->chosen->key ? prepared->chosen : NULL;
    struct str host = arena_lower(arena, running->run->hostname);
    return signing_keys_next(prepared->keys, signing_keys_domain(prepared->keys, host), &cursor);
}

static MAY_YIELD enum result seal(struct flow_running *running, const struct parameters *parameters,
                                  const struct signing_key *key, struct str *out_fields,
                                  struct error *err)
{
    struct dkim_message message;
    struct arc_sealer sealer = {.domain = key->domain,
                                .selector = key->selector,
                                .key = key->key,
                                .authserv_id = parameters->authserv_id.len
                                                   ? parameters->authserv_id
                                                   : running->run->hostname};
    dkim_message_init(&message, running->run->content, running->facts.header);
    return arc_seal(&message, &sealer, running->facts.checks->arc, running->run->arena, out_fields,
                    err);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct prepared *prepared = step->prepared;
    const struct signing_key *key = choose(running, prepared);
    const struct arc_answer *chain = running->facts.checks->arc;
    struct str fields = STR_EMPTY;
    *out_outcome = SKIPPED;
    if (!key || !chain) {
        running->detail = key ? STR("no step before has checked arc") : STR("there is no key");
        return OK;
    }
    if (prepared->seven_bit && !step->observe && flow_body_make_seven_bit(running, err) != OK)
        return FAILED;
    if (seal(running, step->parameters, key, &fields, err) == FAILED) {
        if (flow_is_over(NULL) || err->kind == ERROR_TEMPORARY)
            return FAILED;
        *out_outcome = err->kind == ERROR_LIMIT ? SKIPPED : ERROR;
        running->detail = arena_str(running->run->arena, str_c(err->text));
        return OK;
    }
    if (!fields.len) {
        running->detail = STR("there is nothing to seal");
        return OK;
    }
    if (!step->observe)
        flow_head_prepend(running, fields);
    running->detail =
        arena_printf(running->run->arena, "i=%u cv=%s %.*s._domainkey.%.*s", chain->count + 1,
                     arc_result_name(chain->result), STR_ARG(key->selector), STR_ARG(key->domain));
    *out_outcome = SEALED;
    return OK;
}

static bool changes_field(const struct flow_step *step, struct str name)
{
    (void)step;
    return str_starts_nocase(name, STR("ARC-"));
}

const struct flow_block flow_block_arc_seal = {
    .name = "arc-seal",
    .text = "seals with ARC",
    .flows = FLOW_IN_CONTENT,
    .signs = true,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = changes_field,
};
