/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/sender_match.c - may this user send under this address?
 *
 * Own addresses are the login (with its @, or at any listed domain) and those of the directory. The
 * envelope sender and every address in From must be one of them.
 */
#include "content/author.h"
#include "flow/blocks.h"

enum allow { ALLOW_OWN_ADDRESSES, ALLOW_LISTED_DOMAINS };
enum { MATCH, MISMATCH, SKIPPED };

struct parameters {
    int allow;
    struct option_texts also;
    bool header;
};

static const struct option_word allow_words[] = {
    {"own-addresses", ALLOW_OWN_ADDRESSES},
    {"listed-domains", ALLOW_LISTED_DOMAINS},
    {NULL, 0},
};
static const struct option options[] = {
    {.name = "allow",
     .type = OPTION_WORD,
     .offset = offsetof(struct parameters, allow),
     .words = allow_words,
     .fallback = "own-addresses",
     .text = "own-addresses: the login (at each listed domain, if it has no @) and the addresses "
             "that file or LDAP name for it; listed-domains: any address of a domain of ours"},
    {.name = "also",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, also),
     .text = "addresses, or @domains, that everybody may use besides"},
    {.name = "header",
     .type = OPTION_BOOL,
     .offset = offsetof(struct parameters, header),
     .fallback = "true",
     .text = "compare the addresses in From too, not only the envelope"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "sender-match",
    .text = "Compares envelope sender and From with the addresses of the user who logged in; <> is "
            "allowed.",
    .options = options,
    .shorthand = "allow",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [MATCH] = {.name = "match", .action = ACTION_NEXT, .text = "all are addresses of the user"},
    [MISMATCH] = {.name = "mismatch",
                  .key = "mismatch",
                  .action = ACTION_REJECT,
                  .reply = "550 5.7.1 You may not send under this address",
                  .reason = MAIL_REASON_SENDER_MISMATCH,
                  .text = "one is not, or From cannot be told"},
    [SKIPPED] = {.name = "skipped",
                 .action = ACTION_NEXT,
                 .text = "nobody logged in, so there is nothing to compare with"},
    {.name = NULL},
};

/* Local part lower case, domain A-labels; as it is when it is no address. */
static struct str key_of(struct arena *arena, struct str address)
{
    struct mail_address parsed;
    if (mail_address_parse(arena, address, false, true, &parsed) != MAIL_ADDRESS_OK)
        return arena_lower(arena, address);
    return mail_address_key(arena, &parsed);
}

static bool is_listed(const struct flow_running *running, struct str domain)
{
    const struct flow_ways *ways = running->run->ways;
    return ways && ways->is_listed(ways->context, domain);
}

static bool is_own(const struct flow_running *running, struct str address, struct str domain)
{
    const struct flow_facts *facts = &running->facts;
    struct arena *arena = running->run->arena;
    for (size_t i = 0; i < facts->own_address_count; i++)
        if (str_equal(key_of(arena, facts->own_addresses[i]), address))
            return true;
    if (str_find(facts->user, '@') >= 0)
        return str_equal(key_of(arena, facts->user), address);
    return is_listed(running, domain) &&
           str_equal_nocase(facts->user, str_slice(address, 0, address.len - domain.len - 1));
}

static bool is_allowed(const struct flow_running *running, const struct parameters *parameters,
                       struct str text)
{
    struct str address = key_of(running->run->arena, text);
    ptrdiff_t at = str_find_last(address, '@');
    struct str domain = at < 0 ? STR_EMPTY : str_from(address, (size_t)at + 1);
    for (size_t i = 0; i < parameters->also.count; i++) {
        struct str also = parameters->also.items[i];
        bool is_domain = str_starts(also, STR("@"));
        if (str_equal_nocase(is_domain ? str_from(also, 1) : also, is_domain ? domain : address))
            return true;
    }
    if (at <= 0)
        return false;
    if (parameters->allow == ALLOW_LISTED_DOMAINS)
        return is_listed(running, domain);
    return is_own(running, address, domain);
}

static bool refuse(struct flow_running *running, const char *where, struct str address)
{
    struct arena *arena = running->run->arena;
    struct str shown = str_slice(address, 0, 100);
    running->detail = arena_printf(arena, "%s <%.*s> is no address of %.*s", where, STR_ARG(shown),
                                   STR_ARG(running->facts.user));
    running->reply = mail_reply_of(
        550, 5, 7, 1, arena_printf(arena, "You may not send as <%.*s>", STR_ARG(shown)));
    return false;
}

static bool check_header(struct flow_running *running, const struct parameters *parameters)
{
    struct author author;
    author_read(running->facts.header, running->run->arena, &author);
    if (author.kind != AUTHOR_CLEAR) {
        running->detail =
            author.kind == AUTHOR_NONE
                ? STR("From has no address")
                : arena_printf(running->run->arena, "From is not clear: %s", author.problem);
        return false;
    }
    for (size_t i = 0; i < author.address_count; i++)
        if (!is_allowed(running, parameters, author.addresses[i]))
            return refuse(running, "From", author.addresses[i]);
    return true;
}

static enum result run(struct flow_running *running, const struct flow_step *step,
                       unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    const struct flow_facts *facts = &running->facts;
    (void)err;
    *out_outcome = SKIPPED;
    if (!facts->authenticated || !facts->user.len) {
        running->detail = STR("nobody logged in");
        return OK;
    }
    *out_outcome = MISMATCH;
    if (facts->sender.len && !is_allowed(running, parameters, facts->sender))
        refuse(running, "the envelope sender", facts->sender);
    else if (!parameters->header || check_header(running, parameters))
        *out_outcome = MATCH;
    return OK;
}

const struct flow_block flow_block_sender_match = {
    .name = "sender-match",
    .text = "compares the sender with the user who logged in",
    .flows = FLOW_IN_CONTENT,
    .built = true,
    .options = &table,
    .outcomes = outcomes,
    .run = run,
    .changes_field = flow_changes_no_field,
};
