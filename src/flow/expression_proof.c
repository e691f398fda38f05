/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/expression_proof.c - can these conditions hold together, for any client there could be?
 *
 * Conditions are taken apart into atoms (`helo == "x"`, `client in [10.0.0.0/8]`), equal atoms are
 * one, and truths of the atoms are tried. A choice is dropped when no value of a name fits it: of
 * texts those values are tried that the atoms write down, of the client one address in each part
 * that the networks cut, of numbers one in each range. Where that is not complete the answer is
 * "possible", so a proof may raise a false alarm but never miss.
 */
#include "base/check.h"
#include "flow/expression.h"
#include "flow/expression_internal.h"

enum { ATOMS_MAX = 24, TRIES_MAX = 20000, CANDIDATES_MAX = 128 };

struct atom {
    const struct expression *node;
    enum expression_name name; /* whose value decides it; NAME_COUNT: free */
    unsigned epoch;            /* 0: the name keeps its value during the flow */
    bool negated;              /* the node is !=; the truth is that of == */
    enum expression_truth truth;
};

struct proof {
    const struct expression_knowledge *known;
    const struct expression_assumption *items;
    size_t count;
    struct atom atoms[ATOMS_MAX];
    size_t atom_count;
    unsigned tries;
};

/* ---- which atoms are one ---- */

static bool same_list(const struct flow_list *a, const struct flow_list *b)
{
    if (a == b)
        return true;
    if (!a || !b || a->network_count != b->network_count || a->text_count != b->text_count)
        return false;
    for (size_t i = 0; i < a->network_count; i++)
        if (a->networks[i].bits != b->networks[i].bits ||
            !net_ip_equal(&a->networks[i].ip, &b->networks[i].ip))
            return false;
    for (size_t i = 0; i < a->text_count; i++)
        if (!str_equal_nocase(a->texts[i], b->texts[i]))
            return false;
    return true;
}

static bool same_literal(const struct expression *a, const struct expression *b)
{
    switch (a->type) {
    case EXPRESSION_BOOL:
        return a->truth == b->truth;
    case EXPRESSION_STRING:
        return str_equal_nocase(a->text, b->text);
    case EXPRESSION_NUMBER:
        return !(a->number < b->number) && !(a->number > b->number);
    case EXPRESSION_CLIENT:
        return net_ip_equal(&a->ip, &b->ip);
    }
    return false;
}

static bool is_equality(const struct expression *node)
{
    return node->op == EXPRESSION_OP_COMPARE &&
           (node->compare == COMPARE_EQUAL || node->compare == COMPARE_NOT_EQUAL);
}

static bool same(const struct expression *a, const struct expression *b)
{
    if (a == b)
        return true;
    if (!a || !b || a->op != b->op || a->type != b->type)
        return false;
    switch (a->op) {
    case EXPRESSION_OP_LITERAL:
        return same_literal(a, b);
    case EXPRESSION_OP_NAME:
        return a->name == b->name && (a->name != NAME_HEADER || str_equal_nocase(a->text, b->text));
    case EXPRESSION_OP_COMPARE:
        return (a->compare == b->compare || (is_equality(a) && is_equality(b))) &&
               same(a->left, b->left) && same(a->right, b->right);
    case EXPRESSION_OP_IN:
        return a->in_trusted == b->in_trusted && a->list_is_literal == b->list_is_literal &&
               same_list(a->list, b->list) && same(a->left, b->left);
    case EXPRESSION_OP_MATCH:
        return a->text.len && str_equal(a->text, b->text) && same(a->left, b->left);
    default:
        return false;
    }
}

/* The one name that an atom is about; NAME_COUNT if its truth is not to be told from a value. */
static enum expression_name name_of(const struct expression *node)
{
    const struct expression *left = node->left;
    const struct expression *right = node->right;
    bool comparison = node->op == EXPRESSION_OP_COMPARE;
    if (node->op == EXPRESSION_OP_NAME)
        return node->name;
    if (node->op == EXPRESSION_OP_ANY || node->op == EXPRESSION_OP_ALL)
        return NAME_COUNT;
    if (node->op == EXPRESSION_OP_IN && node->in_trusted)
        return NAME_TRUSTED;
    if (node->op == EXPRESSION_OP_IN && !node->list_is_literal)
        return NAME_COUNT; /* lists are reread while the flow is in force */
    if (comparison && left->op == EXPRESSION_OP_LITERAL && right->op == EXPRESSION_OP_NAME)
        return right->name;
    if (!left || left->op != EXPRESSION_OP_NAME || left->name == NAME_HEADER)
        return NAME_COUNT;
    return comparison && right->op != EXPRESSION_OP_LITERAL ? NAME_COUNT : left->name;
}

/* Since which step the values of all names that the atom looks at, and the list, are what they are;
 * 0: from the beginning. Two of one time since which nothing changed are looks at the same. */
static unsigned epoch_of(const struct expression *node, const struct expression_assumption *item,
                         unsigned unstable)
{
    if (!node)
        return 0;
    if (node->op == EXPRESSION_OP_NAME && item->since)
        return item->since[node->name];
    if (node->op == EXPRESSION_OP_NAME)
        return unstable & (1u << node->name) ? item->epoch : 0;
    if (node->op == EXPRESSION_OP_IN && !node->in_trusted && !node->list_is_literal)
        return item->epoch;
    unsigned left = epoch_of(node->left, item, unstable);
    unsigned right = epoch_of(node->right, item, unstable);
    return left > right ? left : right;
}

static struct atom *atom_of(struct proof *proof, const struct expression *node,
                            const struct expression_assumption *item)
{
    unsigned epoch = epoch_of(node, item, proof->known->unstable);
    /* `trusted` and `client in trusted` are one */
    bool trusted = name_of(node) == NAME_TRUSTED;
    for (size_t i = 0; i < proof->atom_count; i++) {
        struct atom *atom = &proof->atoms[i];
        if (atom->epoch == epoch &&
            (same(atom->node, node) || (trusted && atom->name == NAME_TRUSTED)))
            return atom;
    }
    if (proof->atom_count == ATOMS_MAX)
        return NULL;
    struct atom *atom = &proof->atoms[proof->atom_count++];
    *atom = (struct atom){.node = node,
                          .name = name_of(node),
                          .epoch = epoch,
                          .negated = is_equality(node) && node->compare == COMPARE_NOT_EQUAL,
                          .truth = EXPRESSION_UNDECIDED};
    return atom;
}

/* ---- what follows from the truths chosen so far ---- */

static enum expression_truth truth_of(bool value)
{
    return value ? EXPRESSION_TRUE : EXPRESSION_FALSE;
}

static enum expression_truth truth_not(enum expression_truth truth)
{
    return truth == EXPRESSION_UNDECIDED ? truth : truth_of(truth == EXPRESSION_FALSE);
}

static enum expression_truth read_atom(struct proof *proof, const struct expression *node,
                                       const struct expression_assumption *item)
{
    const struct atom *atom = atom_of(proof, node, item);
    bool negated = is_equality(node) && node->compare == COMPARE_NOT_EQUAL;
    if (!atom)
        return EXPRESSION_UNDECIDED;
    return negated ? truth_not(atom->truth) : atom->truth;
}

/* any() and all() of recipients that nothing has changed: where no domain fits it is false, where
 * none fails it is true. */
static enum expression_truth read_quantifier(struct proof *proof, const struct expression *node,
                                             const struct expression_assumption *item)
{
    struct expression_knowledge each = *proof->known;
    const struct expression_assumption holds = {.expression = node->left, .truth = true};
    const struct expression_assumption fails = {.expression = node->left, .truth = false};
    bool is_begun = item->since && proof->known->unset_since &&
                    item->since[NAME_RECIPIENTS] == proof->known->unset_since;
    each.unstable = 0;
    each.domain_of_all = false;
    if (proof->known->domain_of_all && is_begun) {
        if (!expression_possible(&holds, 1, &each))
            return EXPRESSION_FALSE;
        if (!expression_possible(&fails, 1, &each))
            return EXPRESSION_TRUE;
    }
    return read_atom(proof, node, item);
}

static enum expression_truth read(struct proof *proof, const struct expression *node,
                                  const struct expression_assumption *item)
{
    switch (node->op) {
    case EXPRESSION_OP_LITERAL:
        return truth_of(node->truth);
    case EXPRESSION_OP_NOT:
        return truth_not(read(proof, node->left, item));
    case EXPRESSION_OP_AND:
    case EXPRESSION_OP_OR: {
        enum expression_truth decisive = truth_of(node->op == EXPRESSION_OP_OR);
        enum expression_truth left = read(proof, node->left, item);
        enum expression_truth right = read(proof, node->right, item);
        if (left == decisive || right == decisive)
            return decisive;
        return left == right ? left : EXPRESSION_UNDECIDED;
    }
    case EXPRESSION_OP_COMPARE:
        if (node->left->type != EXPRESSION_BOOL)
            return read_atom(proof, node, item);
        enum expression_truth left = read(proof, node->left, item);
        enum expression_truth right = read(proof, node->right, item);
        if (left == EXPRESSION_UNDECIDED || right == EXPRESSION_UNDECIDED)
            return EXPRESSION_UNDECIDED;
        return truth_of((left == right) == (node->compare == COMPARE_EQUAL));
    case EXPRESSION_OP_ANY:
    case EXPRESSION_OP_ALL:
        return read_quantifier(proof, node, item);
    default:
        return read_atom(proof, node, item);
    }
}

/* ---- is there a value that fits? ---- */

struct group { /* the atoms about one name */
    const struct proof *proof;
    enum expression_name name;
    unsigned epoch;
};

static bool is_in_group(const struct group *group, const struct atom *atom)
{
    bool part = (group->name == NAME_SENDER && atom->name == NAME_SENDER_DOMAIN) ||
                (group->name == NAME_RECIPIENT && atom->name == NAME_RECIPIENT_DOMAIN);
    return (atom->name == group->name || part) && atom->epoch == group->epoch &&
           atom->truth != EXPRESSION_UNDECIDED;
}

static bool all_hold(const struct group *group, const struct flow_facts *facts)
{
    for (size_t i = 0; i < group->proof->atom_count; i++) {
        const struct atom *atom = &group->proof->atoms[i];
        struct error err;
        bool value;
        if (!is_in_group(group, atom))
            continue;
        if (expression_eval(atom->node, facts, NULL, &value, &err) != OK)
            continue; /* nothing is known of it */
        if (value != ((atom->truth == EXPRESSION_TRUE) != atom->negated))
            return false;
    }
    return true;
}

static struct flow_facts no_facts(void)
{
    return (struct flow_facts){.user = STR_EMPTY,
                               .client_name = STR_EMPTY,
                               .helo = STR_EMPTY,
                               .tls = STR_EMPTY,
                               .listener = STR_EMPTY,
                               .sender = STR_EMPTY,
                               .sender_domain = STR_EMPTY,
                               .recipient = STR_EMPTY,
                               .recipient_domain = STR_EMPTY,
                               .header = STR_EMPTY};
}

static bool has_domain(const struct expression_knowledge *known, struct str domain)
{
    for (size_t i = 0; i < known->domain_count; i++)
        if (str_equal_nocase(known->domains[i], domain))
            return true;
    return false;
}

static bool domain_is_possible(const struct group *group, struct str domain)
{
    const struct expression_knowledge *known = group->proof->known;
    if (group->epoch || known->domain_is == EXPRESSION_DOMAIN_OPEN)
        return true;
    return has_domain(known, domain) == (known->domain_is == EXPRESSION_DOMAIN_ONE_OF);
}

static bool tls_is_possible(const struct group *group, struct str version)
{
    enum expression_tls tls = group->proof->known->tls;
    return tls == EXPRESSION_TLS_OPEN || (tls == EXPRESSION_TLS_ALWAYS) == (version.len > 0);
}

static struct str domain_of(struct str address)
{
    ptrdiff_t at = str_find_last(address, '@');
    return at < 0 ? STR_EMPTY : str_from(address, (size_t)at + 1);
}

/* Has nothing given the name a value yet? */
static bool is_unset(const struct group *group)
{
    const struct expression_knowledge *known = group->proof->known;
    return known->unset_since && group->epoch == known->unset_since &&
           known->unset & 1u << group->name;
}

/* Of a score that nothing was added to; checks that were not made are empty texts. */
static bool zero_fits(const struct group *group)
{
    struct flow_facts facts = no_facts();
    return all_hold(group, &facts);
}

static bool text_fits(const struct group *group, struct str value)
{
    struct flow_facts facts = no_facts();
    switch (group->name) {
    case NAME_USER:
        facts.user = value;
        break;
    case NAME_CLIENT_NAME:
        facts.client_name = value;
        break;
    case NAME_HELO:
        facts.helo = value;
        break;
    case NAME_TLS:
        facts.tls = value;
        if (!tls_is_possible(group, value))
            return false;
        break;
    case NAME_LISTENER:
        facts.listener = value;
        break;
    case NAME_SENDER:
        facts.sender = value;
        facts.sender_domain = domain_of(value);
        break;
    case NAME_SENDER_DOMAIN:
        facts.sender_domain = value;
        break;
    case NAME_RECIPIENT:
        facts.recipient = value;
        facts.recipient_domain = domain_of(value);
        if (!domain_is_possible(group, facts.recipient_domain))
            return false;
        break;
    case NAME_RECIPIENT_DOMAIN:
        facts.recipient_domain = value;
        if (!domain_is_possible(group, value))
            return false;
        break;
    default:
        return !is_unset(group) || zero_fits(group);
    }
    return all_hold(group, &facts);
}

/* The values of which one must be it, when the atoms or the knowledge name them; else SIZE_MAX. */
static size_t named_values(const struct group *group, const struct str **out)
{
    const struct proof *proof = group->proof;
    const struct expression_knowledge *known = proof->known;
    static const struct str nobody = {"", 0};
    bool is_domain = group->name == NAME_SENDER_DOMAIN || group->name == NAME_RECIPIENT_DOMAIN;
    if (group->name == NAME_USER && known->stranger && !known->may_log_in) {
        *out = &nobody;
        return 1;
    }
    if (is_unset(group) || (group->name == NAME_TLS && known->tls == EXPRESSION_TLS_NEVER)) {
        *out = &nobody;
        return 1;
    }
    if (group->name == NAME_LISTENER && known->listener.len) {
        *out = &known->listener;
        return 1;
    }
    for (size_t i = 0; i < proof->atom_count; i++) {
        const struct atom *atom = &proof->atoms[i];
        const struct expression *node = atom->node;
        if (atom->name != group->name || atom->epoch != group->epoch ||
            atom->truth != EXPRESSION_TRUE)
            continue;
        if (is_equality(node)) {
            const struct expression *literal =
                node->left->op == EXPRESSION_OP_LITERAL ? node->left : node->right;
            *out = &literal->text;
            return 1;
        }
        if (node->op == EXPRESSION_OP_IN && is_domain) { /* it has no @: the whole must be there */
            *out = node->list->texts;
            return node->list->text_count;
        }
    }
    if (group->name == NAME_RECIPIENT_DOMAIN && !group->epoch &&
        known->domain_is == EXPRESSION_DOMAIN_ONE_OF) {
        *out = known->domains;
        return known->domain_count;
    }
    return SIZE_MAX;
}

static bool is_plain(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] >= 128 || text.ptr[i] == '[')
            return false;
    return true;
}

static bool some_text_fits(const struct group *group)
{
    const struct str *values;
    size_t count = named_values(group, &values);
    if (count == SIZE_MAX)
        return true;
    for (size_t i = 0; i < count; i++)
        if (!is_plain(values[i]) || text_fits(group, values[i])) /* it has several forms */
            return true;
    return false;
}

/* ---- the client ---- */

struct candidates {
    struct net_ip ips[CANDIDATES_MAX];
    size_t count;
    bool cut;
};

static void add_ip(struct candidates *candidates, const struct net_ip *ip)
{
    if (candidates->count < CANDIDATES_MAX)
        candidates->ips[candidates->count++] = *ip;
    else
        candidates->cut = true;
}

/* The first address of the network, and the first behind it: every part that networks cut out of
 * all addresses begins at one of these. */
static void add_network(struct candidates *candidates, const struct net_ip *first, unsigned bits)
{
    struct net_ip behind = *first;
    add_ip(candidates, first);
    if (bits == 0)
        return;
    unsigned at = (bits - 1) / 8;
    unsigned sum = behind.bytes[at] + (1u << (7 - (bits - 1) % 8));
    behind.bytes[at] = (unsigned char)sum;
    while (sum > 255 && at > 0) {
        at--;
        sum = behind.bytes[at] + 1u;
        behind.bytes[at] = (unsigned char)sum;
    }
    if (sum <= 255)
        add_ip(candidates, &behind);
}

static void add_atom(struct candidates *candidates, const struct expression *node)
{
    if (node->op == EXPRESSION_OP_COMPARE) {
        const struct expression *literal =
            node->left->op == EXPRESSION_OP_LITERAL ? node->left : node->right;
        add_network(candidates, &literal->ip, literal->ip.family == 4 ? 32 : 128);
        return;
    }
    for (size_t i = 0; node->op == EXPRESSION_OP_IN && i < node->list->network_count; i++)
        add_network(candidates, &node->list->networks[i].ip,
                    (unsigned)node->list->networks[i].bits);
}

static bool some_client_fits(const struct group *group)
{
    const struct proof *proof = group->proof;
    const struct expression_knowledge *known = proof->known;
    struct candidates candidates = {.count = 0};
    struct net_ip zero;
    bool untrusted = known->stranger && !known->may_claim_client;
    for (int i = 0; i < 2; i++)
        if (net_ip_parse(i ? STR("::") : STR("0.0.0.0"), &zero))
            add_ip(&candidates, &zero);
    for (size_t i = 0; i < proof->atom_count; i++)
        if (is_in_group(group, &proof->atoms[i]))
            add_atom(&candidates, proof->atoms[i].node);
    for (size_t i = 0; untrusted && i < known->trusted_count; i++)
        add_network(&candidates, &known->trusted[i].ip, (unsigned)known->trusted[i].bits);
    for (size_t i = 0; i < candidates.count; i++) {
        struct flow_facts facts = no_facts();
        facts.client = candidates.ips[i];
        if (untrusted && net_networks_have(known->trusted, known->trusted_count, &facts.client))
            continue;
        if (all_hold(group, &facts))
            return true;
    }
    return candidates.cut;
}

/* ---- numbers: each that is written, and one on either side of it ---- */

static bool number_fits(const struct group *group, double value)
{
    struct flow_facts facts = no_facts();
    if (value < 0)
        return false; /* sizes and counts */
    if (group->name == NAME_SIZE)
        facts.size = (uint64_t)value;
    else
        facts.recipient_count = (size_t)value;
    return all_hold(group, &facts);
}

static bool some_number_fits(const struct group *group)
{
    const struct proof *proof = group->proof;
    bool any = false;
    if (is_unset(group))
        return zero_fits(group);
    if (group->name != NAME_SIZE && group->name != NAME_RECIPIENTS)
        return true;
    for (size_t i = 0; i < proof->atom_count; i++) {
        const struct atom *atom = &proof->atoms[i];
        if (!is_in_group(group, atom))
            continue;
        const struct expression *node = atom->node;
        double value =
            node->left->op == EXPRESSION_OP_LITERAL ? node->left->number : node->right->number;
        any = true;
        if (value > 1e15)
            return true;
        if (number_fits(group, value) || number_fits(group, value + 1) ||
            number_fits(group, value - 1))
            return true;
    }
    return !any;
}

static bool flag_fits(const struct group *group)
{
    const struct expression_knowledge *known = group->proof->known;
    struct flow_facts facts = no_facts();
    bool may = !known->stranger ||
               (group->name == NAME_TRUSTED ? known->may_claim_client : known->may_log_in);
    if (all_hold(group, &facts))
        return true;
    facts.authenticated = facts.trusted = true;
    return may && all_hold(group, &facts);
}

/* ---- header fields: one has one value ---- */

static const struct expression *field_of(const struct atom *atom)
{
    const struct expression *left = atom->node->left;
    return is_equality(atom->node) && left->op == EXPRESSION_OP_NAME && left->name == NAME_HEADER &&
                   atom->node->right->op == EXPRESSION_OP_LITERAL
               ? left
               : NULL;
}

/* Equal atoms are one, so two that hold are of two values. */
static bool field_fits(const struct proof *proof, const struct atom *atom)
{
    const struct expression *field = field_of(atom);
    for (size_t i = 0; field && atom->truth == EXPRESSION_TRUE && i < proof->atom_count; i++) {
        const struct atom *other = &proof->atoms[i];
        if (other != atom && other->epoch == atom->epoch && other->truth == EXPRESSION_TRUE &&
            field_of(other) && same(field, field_of(other)))
            return false;
    }
    return true;
}

static bool group_fits(const struct group *group)
{
    if (group->name == NAME_COUNT)
        return true;
    switch (expression_names[group->name].type) {
    case EXPRESSION_BOOL:
        return flag_fits(group);
    case EXPRESSION_CLIENT:
        return some_client_fits(group);
    case EXPRESSION_NUMBER:
        return some_number_fits(group);
    case EXPRESSION_STRING:
        return some_text_fits(group);
    }
    return true;
}

static bool all_groups_fit(const struct proof *proof)
{
    for (size_t i = 0; i < proof->atom_count; i++) {
        const struct atom *atom = &proof->atoms[i];
        const struct group group = {proof, atom->name, atom->epoch};
        if (atom->truth != EXPRESSION_UNDECIDED &&
            (!group_fits(&group) || !field_fits(proof, atom)))
            return false;
    }
    return true;
}

/* ---- trying truths ---- */

static bool search(struct proof *proof)
{
    bool all = true;
    if (++proof->tries > TRIES_MAX)
        return true; /* not proven is not impossible */
    for (size_t i = 0; i < proof->count; i++) {
        const struct expression_assumption *item = &proof->items[i];
        enum expression_truth truth = read(proof, item->expression, item);
        if (truth == EXPRESSION_UNDECIDED)
            all = false;
        else if ((truth == EXPRESSION_TRUE) != item->truth)
            return false;
    }
    if (!all_groups_fit(proof))
        return false;
    if (all)
        return true;
    struct atom *next = NULL;
    for (size_t i = 0; !next && i < proof->atom_count; i++)
        if (proof->atoms[i].truth == EXPRESSION_UNDECIDED)
            next = &proof->atoms[i];
    if (!next)
        return true;
    for (int value = 1; value >= 0; value--) {
        next->truth = truth_of(value);
        if (search(proof))
            return true;
    }
    next->truth = EXPRESSION_UNDECIDED;
    return false;
}

bool expression_possible(const struct expression_assumption *items, size_t count,
                         const struct expression_knowledge *known)
{
    struct proof proof = {.known = known, .items = items, .count = count};
    return search(&proof);
}
