/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/prove_values.c - values worth trying in the names of conditions.
 *
 * Those that the conditions write down, texts that may fit their patterns, an address in each part
 * that their networks cut. Nothing here need be right: who uses them evaluates the conditions.
 */
#include "base/buf.h"
#include "flow/pattern.h"
#include "flow/prove_internal.h"

enum { GUESS_MAX = 100 };

void prove_values_add_text(struct prove_texts *texts, struct str text)
{
    for (size_t i = 0; i < texts->count; i++)
        if (str_equal(texts->items[i], text))
            return;
    if (texts->count < PROVE_VALUES_MAX)
        texts->items[texts->count++] = text;
}

/* ---- networks ---- */

static void add_client(struct prove_values *values, const struct net_ip *ip)
{
    if (values->client_count < PROVE_VALUES_MAX)
        values->clients[values->client_count++] = *ip;
}

void prove_values_add_network(struct prove_values *values, const struct net_network *network)
{
    struct net_ip behind = network->ip;
    struct net_ip inside = network->ip;
    size_t last = network->ip.family == 4 ? 3 : 15;
    unsigned bits = network->bits;
    add_client(values, &network->ip);
    if (bits < 8 * last + 8) {
        inside.bytes[last] |= 1; /* .0 is a strange client */
        add_client(values, &inside);
    }
    if (!bits)
        return;
    size_t at = (bits - 1) / 8;
    unsigned sum = behind.bytes[at] + (1u << (7 - (bits - 1) % 8));
    behind.bytes[at] = (unsigned char)sum;
    while (sum > 255 && at > 0) {
        at--;
        sum = behind.bytes[at] + 1u;
        behind.bytes[at] = (unsigned char)sum;
    }
    behind.bytes[last] |= bits < 8 * last + 8;
    if (sum <= 255)
        add_client(values, &behind);
}

/* ---- patterns ---- */

/* Behind the `]` that ends the class which begins at `at`. */
static size_t skip_class(struct str pattern, size_t at)
{
    for (at += 2; at < pattern.len && pattern.ptr[at] != ']'; at++)
        if (pattern.ptr[at] == '\\')
            at++;
    return at + 1;
}

/* The shortest way through what is written: the first of alternatives, one of a class, what may be
 * left out is left out. */
struct str prove_pattern_guess(struct str pattern, struct arena *arena)
{
    struct buf out BUF_CLEANUP;
    buf_init(&out, GUESS_MAX);
    unsigned depth = 0;
    size_t at = str_starts(pattern, STR("(?i)")) ? 4 : 0;
    while (at < pattern.len && out.len < GUESS_MAX - 1) {
        char c = pattern.ptr[at];
        size_t next = at + 1;
        char said = c;
        if (c == '\\' && next < pattern.len) {
            said = pattern.ptr[next++];
            said = said == 'd' ? '1' : said == 'w' ? 'a' : said == 'b' ? '\0' : said;
        } else if (c == '[') {
            next = skip_class(pattern, at);
            said = at + 1 < pattern.len && pattern.ptr[at + 1] != '^' ? pattern.ptr[at + 1] : 'q';
        } else if (c == '.') {
            said = 'a';
        } else if (c == '(') {
            depth++;
            next += str_starts(str_from(pattern, at), STR("(?:")) ? 2 : 0;
            said = '\0';
        } else if (c == '|' && !depth) {
            break;
        } else if (c == '|') {
            while (next < pattern.len && pattern.ptr[next] != ')')
                next++;
            said = '\0';
        } else if (c == ')') {
            depth -= depth > 0;
            said = '\0';
        } else if (c == '^' || c == '$' || c == '+' || c == '*' || c == '?') {
            said = '\0';
        }
        bool left_out = next < pattern.len && (pattern.ptr[next] == '?');
        if (said && !left_out)
            buf_append_byte(&out, said);
        at = next;
    }
    return arena_str(arena, buf_str(&out));
}

/* ---- conditions ---- */

static void add_address(struct prove_values *values, struct str text)
{
    ptrdiff_t at = str_find_last(text, '@');
    if (at > 0) {
        prove_values_add_text(&values->addresses, text);
        prove_values_add_text(&values->locals, str_slice(text, 0, (size_t)at));
    }
    struct str domain = str_from(text, (size_t)(at + 1));
    if (domain.len && !str_starts(domain, STR(".")))
        prove_values_add_text(&values->domains, domain);
}

static void add_text(struct prove_values *values, enum expression_name name, struct str text)
{
    if (!text.len)
        return;
    if (name == NAME_SENDER || name == NAME_RECIPIENT || name == NAME_SENDER_DOMAIN ||
        name == NAME_RECIPIENT_DOMAIN)
        add_address(values, text);
    else
        prove_values_add_text(&values->words, text);
}

/* What matches "^bob", "bob$", "@x[.]test$", in any part of an address. */
static void add_guess(struct prove_values *values, enum expression_name name, struct str pattern,
                      struct arena *arena)
{
    struct str guess = prove_pattern_guess(pattern, arena);
    add_text(values, name, guess);
    if (str_find(guess, '@') < 0) {
        prove_values_add_text(&values->locals, guess);
        prove_values_add_text(&values->words, guess);
        prove_values_add_text(&values->domains,
                              arena_printf(arena, "%.*s.example", STR_ARG(guess)));
        prove_values_add_text(&values->domains, arena_printf(arena, "x.%.*s", STR_ARG(guess)));
        prove_values_add_text(&values->words, arena_printf(arena, "x.%.*s", STR_ARG(guess)));
        prove_values_add_text(&values->words, arena_printf(arena, "%.*s.example", STR_ARG(guess)));
    }
}

static void add_list(struct prove_values *values, enum expression_name name,
                     const struct flow_list *list)
{
    for (size_t i = 0; list && i < list->network_count && i < PROVE_VALUES_MAX; i++)
        prove_values_add_network(values, &list->networks[i]);
    for (size_t i = 0; list && i < list->text_count && i < PROVE_VALUES_MAX; i++)
        add_text(values, name, list->texts[i]);
}

static void add_number(struct prove_values *values, double number)
{
    if (number < 1 || number > 1 << 24)
        return;
    for (int i = -1; i <= 1 && values->size_count < PROVE_VALUES_MAX; i++)
        values->sizes[values->size_count++] = (uint64_t)((int64_t)number + i);
}

static void add_literal(struct prove_values *values, const struct expression *name,
                        const struct expression *literal)
{
    const struct net_network whole = {.ip = literal->ip,
                                      .bits = literal->ip.family == 4 ? 32 : 128};
    if (literal->op != EXPRESSION_OP_LITERAL || name->op != EXPRESSION_OP_NAME)
        return;
    if (literal->type == EXPRESSION_CLIENT)
        prove_values_add_network(values, &whole);
    else if (literal->type == EXPRESSION_NUMBER && name->name == NAME_SIZE)
        add_number(values, literal->number);
    else if (literal->type == EXPRESSION_NUMBER && name->name == NAME_RECIPIENTS &&
             literal->number >= 0 && literal->number < PROVE_RECIPIENTS_MAX)
        values->recipients = (size_t)literal->number + 1;
    else if (literal->type == EXPRESSION_STRING && name->name == NAME_HEADER)
        prove_values_add_text(&values->words, literal->text);
    else if (literal->type == EXPRESSION_STRING)
        add_text(values, name->name, literal->text);
}

void prove_values_add(struct prove_values *values, const struct expression *node,
                      struct arena *arena)
{
    if (!node)
        return;
    if (node->op == EXPRESSION_OP_NAME) {
        values->names |= 1u << node->name;
        if (node->name == NAME_HEADER)
            prove_values_add_text(&values->fields, node->text);
    }
    if (node->op == EXPRESSION_OP_COMPARE) {
        add_literal(values, node->left, node->right);
        add_literal(values, node->right, node->left);
    }
    if (node->op == EXPRESSION_OP_IN)
        add_list(values, node->left->name, node->list);
    if (node->op == EXPRESSION_OP_IN && node->in_trusted)
        values->names |= 1u << NAME_CLIENT;
    if (node->op == EXPRESSION_OP_MATCH)
        add_guess(values, node->left->name, node->text, arena);
    prove_values_add(values, node->left, arena);
    prove_values_add(values, node->right, arena);
}
