/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/srs.c - the sender of forwarded mail, and the way back of its bounces.
 *
 * In content flows the sender becomes an address of ours; in the recipient flow of that domain a
 * bounce to such an address gets the recipient that it is meant for. Only what comes from <> is
 * sent back: the rest has no business there.
 */
#include "flow/blocks.h"
#include "flow/srs.h"

#include "base/clock.h"
#include "base/file.h"

enum { CHANGED, SKIPPED, BAD };
enum { SECRETS_MAX = 8, SECRET_MIN = 16, FILE_MAX = 4096, DAY_S = 86400 };

struct parameters {
    struct str domain;
    struct str secret_file;
    int64_t valid_ns;
};
struct prepared {
    struct str domain;
    struct srs_secrets secrets;
};

static const struct option options[] = {
    {.name = "domain",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, domain),
     .text = "domain of ours under which forwarded mail is sent; bounces must come back to it",
     .required = true},
    {.name = "secret_file",
     .type = OPTION_PATH,
     .offset = offsetof(struct parameters, secret_file),
     .text = "file with a secret of at least 16 characters in its first line; further lines are "
             "older ones that still count",
     .required = true},
    {.name = "valid",
     .type = OPTION_DURATION,
     .offset = offsetof(struct parameters, valid_ns),
     .fallback = "21d",
     .min = INT64_C(86400) * NS_PER_S,
     .max = INT64_C(365) * 86400 * NS_PER_S,
     .text = "how long a bounce may take"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "srs",
    .text =
        "Content flows: rewrites the sender of what is forwarded to SRS0=…@domain, unless it is "
        "<> or of a domain of ours. Recipient flows: a bounce to such an address gets its true "
        "recipient.",
    .options = options,
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [CHANGED] = {.name = "changed",
                 .key = "changed",
                 .action = ACTION_NEXT,
                 .text = "the sender was rewritten; or the recipient is the true one now"},
    [SKIPPED] = {.name = "skipped",
                 .key = "skipped",
                 .action = ACTION_NEXT,
                 .text = "there is nothing to change, or the address would be too long"},
    [BAD] = {.name = "bad",
             .key = "bad",
             .action = ACTION_REJECT,
             .reply = "550 5.1.1 This address is not valid, or no longer",
             .reason = MAIL_REASON_RECIPIENT_UNKNOWN,
             .text = "an SRS address that we did not make, that is too old, or that is used by "
                     "other mail than bounces"},
    {.name = NULL},
};

/* ---- at load ---- */

static void read_secrets(struct flow_compiling *compiling, const struct parameters *parameters,
                         struct config_place place, struct prepared *prepared)
{
    struct arena *arena = compiling->context->option.arena;
    struct str *items = arena_alloc_array(arena, SECRETS_MAX, sizeof *items);
    struct buf bytes BUF_CLEANUP;
    struct error err;
    struct str line;
    buf_init(&bytes, FILE_MAX);
    prepared->secrets.items = items;
    if (!parameters->secret_file.len)
        return;
    if (file_read_path(arena_c(arena, parameters->secret_file), &bytes, &err) != OK) {
        flow_problem(compiling, CONFIG_ERROR, "unreadable", place, "%.*s: %s",
                     STR_ARG(parameters->secret_file), err.text);
        return;
    }
    struct str text = arena_str(arena, buf_str(&bytes));
    while (text.len && prepared->secrets.count < SECRETS_MAX && str_split(&text, '\n', &line)) {
        line = str_trim(line);
        if (line.len >= SECRET_MIN)
            items[prepared->secrets.count++] = line;
    }
    if (!prepared->secrets.count)
        flow_problem(compiling, CONFIG_ERROR, "bad-secret", place,
                     "%.*s holds no secret of at least %d characters",
                     STR_ARG(parameters->secret_file), SECRET_MIN)
            ->fix = STR("make one with: openssl rand -hex 32");
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct arena *arena = compiling->context->option.arena;
    struct prepared *prepared = ARENA_NEW(arena, struct prepared);
    step->prepared = prepared;
    if (!mail_domain_normalize(arena, parameters->domain, &prepared->domain))
        flow_problem(compiling, CONFIG_ERROR, "bad-address",
                     flow_place_of(node, "domain", step->place), "\"%.*s\" is no domain",
                     STR_ARG(str_slice(parameters->domain, 0, 80)));
    read_secrets(compiling, parameters, flow_place_of(node, "secret_file", step->place), prepared);
}

/* ---- running ---- */

static uint64_t today(void)
{
    return (uint64_t)(clock_wall_ns() / NS_PER_S) / DAY_S;
}

static unsigned forward(struct flow_running *running, const struct flow_step *step)
{
    const struct prepared *prepared = step->prepared;
    const struct flow_ways *ways = running->run->ways;
    const struct flow_facts *facts = &running->facts;
    struct str sender;
    bool ours = str_equal(facts->sender_domain, prepared->domain) ||
                (ways && ways->is_listed(ways->context, facts->sender_domain));
    if (!facts->sender.len || ours) {
        running->detail = STR("the sender is <> or ours");
        return SKIPPED;
    }
    switch (srs_forward(&prepared->secrets, facts->sender, prepared->domain, today(),
                        running->run->arena, &sender)) {
    case SRS_DONE:
        break;
    case SRS_TOO_LONG:
        running->detail = STR("the address would be too long");
        return SKIPPED;
    default:
        return SKIPPED;
    }
    running->detail = sender;
    if (!step->observe)
        flow_set_sender(running, sender);
    return CHANGED;
}

/* In whatever case the letters of our hash come back, those of the sender's local part are his. */
static struct str as_written(const struct flow_facts *facts)
{
    return str_equal_nocase(facts->recipient_written, facts->recipient) ? facts->recipient_written
                                                                        : facts->recipient;
}

static unsigned back(struct flow_running *running, const struct flow_step *step)
{
    const struct prepared *prepared = step->prepared;
    const struct parameters *parameters = step->parameters;
    const struct flow_facts *facts = &running->facts;
    struct arena *arena = running->run->arena;
    struct mail_address address;
    struct str recipient;
    if (!str_equal(facts->recipient_domain, prepared->domain))
        return SKIPPED;
    enum srs_outcome outcome =
        srs_reverse(&prepared->secrets, as_written(facts), today(),
                    (uint64_t)(parameters->valid_ns / NS_PER_S) / DAY_S, arena, &recipient);
    if (outcome == SRS_NONE)
        return SKIPPED;
    running->detail = outcome == SRS_EXPIRED ? STR("it is too old") : STR("it was not made by us");
    if (outcome != SRS_DONE ||
        mail_address_parse(arena, recipient, false, true, &address) != MAIL_ADDRESS_OK)
        return BAD;
    if (facts->sender.len) {
        running->detail = STR("only bounces come back this way");
        return BAD;
    }
    running->detail = recipient;
    if (!step->observe)
        flow_set_recipient(running, mail_address_text(arena, &address), address.domain);
    return CHANGED;
}

static enum result run(struct flow_running *running, const struct flow_step *step,
                       unsigned *out_outcome, struct error *err)
{
    (void)err;
    *out_outcome =
        running->flow->type == FLOW_RECIPIENT ? back(running, step) : forward(running, step);
    return OK;
}

/* An address that comes back bears a hash of ours: no client can make one up. */
static bool may_leave(const struct flow_step *step, const struct flow_relay_case *relay)
{
    (void)step, (void)relay;
    return false;
}

const struct flow_block flow_block_srs = {
    .name = "srs",
    .text = "rewrites the sender for forwarding, and takes bounces back",
    .flows = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .may_rewrite = true,
    .may_leave = may_leave,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = flow_changes_no_field,
};
