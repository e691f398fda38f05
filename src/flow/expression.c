/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/expression.c - the parser: text to a typed tree.
 */
#include "flow/expression.h"

#include "base/buf.h"
#include "flow/expression_internal.h"

enum { DEPTH_MAX = 64, LIST_MAX = 1000 };

enum {
    IN_AUTHENTICATION = 1 << FLOW_AUTHENTICATION,
    IN_RECIPIENT = 1 << FLOW_RECIPIENT,
    IN_CONTENT = 1 << FLOW_CONTENT,
    IN_ALL = IN_AUTHENTICATION | IN_RECIPIENT | IN_CONTENT,
    IN_TRANSACTION = IN_RECIPIENT | IN_CONTENT,
};

/* clang-format off */
const struct expression_name_row expression_names[NAME_COUNT] = {
    [NAME_AUTHENTICATED]    = {"authenticated",    EXPRESSION_BOOL,   IN_ALL, "a login succeeded in this session"},
    [NAME_TRUSTED]          = {"trusted",          EXPRESSION_BOOL,   IN_ALL, "the client is in trusted_networks; the same as client in trusted"},
    [NAME_USER]             = {"user",             EXPRESSION_STRING, IN_ALL, "the login, or \"\""},
    [NAME_CLIENT]           = {"client",           EXPRESSION_CLIENT, IN_ALL, "the client's address"},
    [NAME_CLIENT_NAME]      = {"client.name",      EXPRESSION_STRING, IN_ALL, "the client's confirmed DNS name, or \"\""},
    [NAME_HELO]             = {"helo",             EXPRESSION_STRING, IN_ALL, "what the client called itself"},
    [NAME_TLS]              = {"tls",              EXPRESSION_STRING, IN_ALL, "the version of TLS, or \"\""},
    [NAME_LISTENER]         = {"listener",         EXPRESSION_STRING, IN_ALL, "the listener's name"},
    [NAME_SENDER]           = {"sender",           EXPRESSION_STRING, IN_TRANSACTION, "the envelope sender; \"\" for <>"},
    [NAME_SENDER_DOMAIN]    = {"sender.domain",    EXPRESSION_STRING, IN_TRANSACTION, "its domain"},
    [NAME_RECIPIENT]        = {"recipient",        EXPRESSION_STRING, IN_RECIPIENT, "the recipient, lower case"},
    [NAME_RECIPIENT_DOMAIN] = {"recipient.domain", EXPRESSION_STRING, IN_RECIPIENT, "its domain"},
    [NAME_RECIPIENTS]       = {"recipients",       EXPRESSION_NUMBER, IN_CONTENT, "how many recipients there are"},
    [NAME_SIZE]             = {"size",             EXPRESSION_NUMBER, IN_CONTENT, "bytes of the message"},
    [NAME_HEADER]           = {"header",           EXPRESSION_STRING, IN_CONTENT, "header(\"X\"): the first such field, unfolded, or \"\""},
    [NAME_SPF]              = {"spf",              EXPRESSION_STRING, IN_TRANSACTION, "result of SPF, behind a step that checks it: \"pass\", \"fail\", …; else \"\""},
    [NAME_DKIM]             = {"dkim",             EXPRESSION_STRING, IN_CONTENT, "result of DKIM, behind verify: of the best signature; else \"\""},
    [NAME_DKIM_DOMAIN]      = {"dkim.domain",      EXPRESSION_STRING, IN_CONTENT, "domain of the first signature that passed, or \"\""},
    [NAME_DMARC]            = {"dmarc",            EXPRESSION_STRING, IN_CONTENT, "result of DMARC, behind verify; else \"\""},
    [NAME_DMARC_POLICY]     = {"dmarc.policy",     EXPRESSION_STRING, IN_CONTENT, "what the author's domain asks for a message that fails: \"none\", \"quarantine\", \"reject\"; else \"\""},
    [NAME_SCORE]            = {"score",            EXPRESSION_NUMBER, IN_CONTENT, "what the last spam scanner said, 0 if none did"},
    [NAME_FINDINGS]         = {"findings",         EXPRESSION_STRING, IN_CONTENT, "names of what the steps before found (viruses, rules), a blank between two; else \"\""},
};
/* clang-format on */

struct parser {
    const struct config_node *node;
    const struct flow_compile_context *context;
    enum flow_type type;
    struct str text;
    size_t offset;
    struct token token; /* the next one, not yet taken */
    unsigned depth;
    bool in_quantifier; /* inside any() or all() */
    bool failed;
};

/* ---- problems ---- */

static struct config_place place_at(const struct parser *parser, size_t offset, size_t length)
{
    struct config_place place = parser->node->place;
    /* a scalar over several lines is shown as a whole */
    if (place.line == 0 || str_find(parser->text, '\n') >= 0)
        return place;
    place.column += (unsigned)offset + (parser->node->quoted ? 1 : 0);
    place.length = length ? (unsigned)length : 1;
    return place;
}

#define complain(parser, code, offset, length, ...)                                                \
    ((parser)->failed = true,                                                                      \
     config_problem((parser)->context->option.report, CONFIG_ERROR, (code),                        \
                    place_at((parser), (offset), (length)), __VA_ARGS__))

static const struct expression *wrong_token(struct parser *parser, const char *expected)
{
    const struct token *token = &parser->token;
    if (token->kind == TOKEN_BAD)
        complain(parser, "expression", token->offset, token->length, "%s", token->fault);
    else if (token->kind == TOKEN_END)
        complain(parser, "expression", token->offset, 1, "the expression ends, but %s is missing",
                 expected);
    else
        complain(parser, "expression", token->offset, token->length, "expected %s, not \"%.*s\"",
                 expected,
                 STR_ARG(str_slice(parser->text, token->offset, token->offset + token->length)));
    return NULL;
}

static const char *type_text(enum expression_type type)
{
    static const char *const texts[] = {"a test", "a text", "a number", "an address"};
    return texts[type];
}

/* ---- small steps ---- */

static void advance(struct parser *parser)
{
    parser->token = token_next(parser->text, &parser->offset, parser->context->option.arena);
}

static bool at_word(const struct parser *parser, const char *word)
{
    return parser->token.kind == TOKEN_WORD && str_equal(parser->token.text, str_c(word));
}

static bool expect(struct parser *parser, enum token_kind kind, const char *what)
{
    if (parser->token.kind != kind) {
        wrong_token(parser, what);
        return false;
    }
    advance(parser);
    return true;
}

static struct expression *node_new(struct parser *parser, enum expression_op op,
                                   enum expression_type type, size_t offset)
{
    struct expression *node = ARENA_NEW(parser->context->option.arena, struct expression);
    node->op = op;
    node->type = type;
    node->offset = offset;
    node->length = parser->token.offset > offset ? parser->token.offset - offset : 1;
    return node;
}

static bool need_bool(struct parser *parser, const struct expression *node)
{
    if (node->type == EXPRESSION_BOOL)
        return true;
    struct str shown = str_trim(str_slice(parser->text, node->offset, node->offset + node->length));
    struct config_problem *problem =
        complain(parser, "expression-type", node->offset, shown.len,
                 "%.*s is %s, and cannot be true or false", STR_ARG(shown), type_text(node->type));
    problem->fix = node->type == EXPRESSION_STRING
                       ? arena_printf(parser->context->option.report->arena,
                                      "compare it: %.*s != \"\"", STR_ARG(shown))
                       : STR("compare it, with == < > or in");
    return false;
}

/* ---- names ---- */

static const struct expression *unknown_name(struct parser *parser)
{
    struct str names[NAME_COUNT + 2] = {STR("any"), STR("all")};
    size_t count = 2;
    for (size_t i = 0; i < NAME_COUNT; i++)
        if (expression_names[i].flows & (1u << parser->type))
            names[count++] = str_c(expression_names[i].name);
    const struct token *token = &parser->token;
    struct config_problem *problem =
        complain(parser, "unknown-name", token->offset, token->length,
                 "there is no name \"%.*s\" in expressions", STR_ARG(token->text));
    config_suggest(problem, parser->context->option.report->arena, token->text, names, count,
                   STR("texts stand in quotes"));
    return NULL;
}

static bool name_is_usable(struct parser *parser, enum expression_name name)
{
    const struct expression_name_row *row = &expression_names[name];
    const struct token *token = &parser->token;
    bool is_recipient = name == NAME_RECIPIENT || name == NAME_RECIPIENT_DOMAIN;
    if ((row->flows & (1u << parser->type)) || (is_recipient && parser->in_quantifier))
        return true;
    static const char *const types[] = {"an authentication", "a recipient", "a content"};
    struct config_problem *problem =
        complain(parser, "unknown-name", token->offset, token->length,
                 "\"%s\" does not exist in %s flow", row->name, types[parser->type]);
    if (is_recipient && parser->type == FLOW_CONTENT)
        problem->fix = arena_printf(parser->context->option.report->arena,
                                    "say for which: any(%s == \"…\") or all(…)", row->name);
    return false;
}

static bool find_name(struct str word, enum expression_name *out)
{
    for (size_t i = 0; i < NAME_COUNT; i++) {
        if (str_equal(word, str_c(expression_names[i].name))) {
            *out = (enum expression_name)i;
            return true;
        }
    }
    return false;
}

static const struct expression *parse_header(struct parser *parser, struct expression *node)
{
    if (!expect(parser, TOKEN_OPEN, "( after header"))
        return NULL;
    if (parser->token.kind != TOKEN_STRING)
        return wrong_token(parser, "the field's name in quotes");
    node->text = parser->token.text;
    bool good = node->text.len > 0 && node->text.len <= 76;
    for (size_t i = 0; i < node->text.len; i++)
        good =
            good && node->text.ptr[i] > ' ' && node->text.ptr[i] < 127 && node->text.ptr[i] != ':';
    if (!good) {
        complain(parser, "expression", parser->token.offset, parser->token.length,
                 "this is not the name of a header field");
        return NULL;
    }
    advance(parser);
    if (!expect(parser, TOKEN_CLOSE, ")"))
        return NULL;
    node->length = parser->token.offset - node->offset;
    return node;
}

static const struct expression *parse_or(struct parser *parser);

static const struct expression *parse_quantifier(struct parser *parser, enum expression_op op)
{
    size_t begin = parser->token.offset;
    if (parser->type != FLOW_CONTENT || parser->in_quantifier) {
        complain(parser, "unknown-name", begin, 3,
                 parser->in_quantifier ? "any() and all() cannot stand in one another"
                                       : "any() and all() exist in content flows only");
        return NULL;
    }
    advance(parser);
    if (!expect(parser, TOKEN_OPEN, "( with a test of recipient"))
        return NULL;
    parser->in_quantifier = true;
    const struct expression *inner = parse_or(parser);
    parser->in_quantifier = false;
    if (!inner || !need_bool(parser, inner) || !expect(parser, TOKEN_CLOSE, ")"))
        return NULL;
    struct expression *node = node_new(parser, op, EXPRESSION_BOOL, begin);
    node->left = inner;
    return node;
}

static const struct expression *parse_name(struct parser *parser)
{
    if (at_word(parser, "any"))
        return parse_quantifier(parser, EXPRESSION_OP_ANY);
    if (at_word(parser, "all"))
        return parse_quantifier(parser, EXPRESSION_OP_ALL);
    size_t begin = parser->token.offset;
    bool is_true = at_word(parser, "true");
    if (is_true || at_word(parser, "false")) {
        advance(parser);
        struct expression *node = node_new(parser, EXPRESSION_OP_LITERAL, EXPRESSION_BOOL, begin);
        node->truth = is_true;
        return node;
    }
    enum expression_name name;
    if (!find_name(parser->token.text, &name))
        return unknown_name(parser);
    if (!name_is_usable(parser, name))
        return NULL;
    advance(parser);
    struct expression *node =
        node_new(parser, EXPRESSION_OP_NAME, expression_names[name].type, begin);
    node->name = name;
    return name == NAME_HEADER ? parse_header(parser, node) : node;
}

/* ---- operands ---- */

static const struct expression *parse_literal(struct parser *parser)
{
    struct token token = parser->token;
    advance(parser);
    struct expression *node =
        node_new(parser, EXPRESSION_OP_LITERAL, EXPRESSION_STRING, token.offset);
    node->text = token.text;
    if (token.kind == TOKEN_NUMBER) {
        node->type = EXPRESSION_NUMBER;
        node->number = token.number;
    } else if (token.kind == TOKEN_NETWORK) {
        node->type = EXPRESSION_CLIENT;
        node->ip = token.network.ip;
        if (!token.is_address) {
            struct config_problem *problem = complain(parser, "expression-type", token.offset,
                                                      token.length, "a network cannot be compared");
            problem->fix = arena_printf(parser->context->option.report->arena, "client in [%.*s]",
                                        STR_ARG(token.text));
            return NULL;
        }
    }
    return node;
}

static const struct expression *parse_operand(struct parser *parser)
{
    switch (parser->token.kind) {
    case TOKEN_OPEN: {
        advance(parser);
        const struct expression *inner = parse_or(parser);
        if (!inner || !expect(parser, TOKEN_CLOSE, ")"))
            return NULL;
        return inner;
    }
    case TOKEN_WORD:
        return parse_name(parser);
    case TOKEN_STRING:
    case TOKEN_NUMBER:
    case TOKEN_NETWORK:
        return parse_literal(parser);
    default:
        return wrong_token(parser, "a name or a value");
    }
}

/* ---- in, ~, comparisons ---- */

static bool literal_list_add(struct parser *parser, const struct expression *left,
                             struct flow_list *list)
{
    const struct token *token = &parser->token;
    struct arena *arena = parser->context->option.arena;
    struct net_network network = token->network;
    if (list->network_count + list->text_count >= LIST_MAX) {
        complain(parser, "expression", token->offset, token->length,
                 "a list holds at most %d values; keep them in a file under lists", LIST_MAX);
        return false;
    }
    if (left->type == EXPRESSION_CLIENT) {
        bool good = token->kind == TOKEN_NETWORK ||
                    (token->kind == TOKEN_STRING && net_network_parse(token->text, &network));
        if (good)
            list->networks[list->network_count++] = network;
        else
            complain(parser, "expression-type", token->offset, token->length,
                     "expected an address or a network, as in [10.0.0.0/8]");
        return good;
    }
    if (token->kind != TOKEN_STRING && token->kind != TOKEN_WORD && token->kind != TOKEN_NUMBER &&
        token->kind != TOKEN_NETWORK) {
        wrong_token(parser, "a text");
        return false;
    }
    list->texts[list->text_count++] = arena_lower(arena, token->text);
    return true;
}

static struct flow_list *parse_literal_list(struct parser *parser, const struct expression *left)
{
    struct arena *arena = parser->context->option.arena;
    struct flow_list *list = ARENA_NEW(arena, struct flow_list);
    size_t room = 1; /* a comma for each value but the last */
    for (size_t i = parser->offset; i < parser->text.len; i++)
        room += parser->text.ptr[i] == ',';
    room = room < LIST_MAX ? room : LIST_MAX;
    list->networks = arena_alloc_array(arena, room, sizeof *list->networks);
    list->texts = arena_alloc_array(arena, room, sizeof *list->texts);
    advance(parser); /* [ */
    while (parser->token.kind != TOKEN_CLOSE_LIST) {
        if (!literal_list_add(parser, left, list))
            return NULL;
        advance(parser);
        if (parser->token.kind == TOKEN_COMMA)
            advance(parser);
        else if (parser->token.kind != TOKEN_CLOSE_LIST) {
            wrong_token(parser, "a comma or ]");
            return NULL;
        }
    }
    advance(parser); /* ] */
    return list;
}

static const struct flow_list *find_list(struct parser *parser)
{
    const struct flow_compile_context *context = parser->context;
    const struct token *token = &parser->token;
    struct arena *arena = context->option.report->arena;
    struct str *names = arena_alloc_array(arena, context->list_count + 1, sizeof *names);
    for (size_t i = 0; i < context->list_count; i++) {
        if (str_equal(context->lists[i].name, token->text))
            return &context->lists[i];
        names[i] = context->lists[i].name;
    }
    names[context->list_count] = STR("trusted");
    struct config_problem *problem =
        complain(parser, "unknown-name", token->offset, token->length,
                 "there is no list \"%.*s\" under lists", STR_ARG(token->text));
    config_suggest(problem, arena, token->text, names, context->list_count + 1,
                   STR("name it under lists, or write the values as [ a, b ]"));
    return NULL;
}

static const struct expression *parse_in(struct parser *parser, const struct expression *left)
{
    if (left->type != EXPRESSION_CLIENT && left->type != EXPRESSION_STRING) {
        complain(parser, "expression-type", left->offset, left->length,
                 "only texts and addresses can be in a list");
        return NULL;
    }
    const struct flow_list *list = NULL;
    bool trusted = at_word(parser, "trusted");
    bool literal = parser->token.kind == TOKEN_OPEN_LIST;
    if (trusted) {
        if (left->op != EXPRESSION_OP_NAME || left->name != NAME_CLIENT) {
            complain(parser, "expression-type", parser->token.offset, parser->token.length,
                     "only client can be in trusted");
            return NULL;
        }
        advance(parser);
    } else if (literal) {
        list = parse_literal_list(parser, left);
    } else if (parser->token.kind == TOKEN_WORD) {
        list = find_list(parser);
        advance(parser);
    } else {
        return wrong_token(parser, "trusted, a list such as [ a, b ], or a name under lists");
    }
    if (!trusted && !list)
        return NULL;
    struct expression *node = node_new(parser, EXPRESSION_OP_IN, EXPRESSION_BOOL, left->offset);
    node->left = left;
    node->list = list;
    node->in_trusted = trusted;
    node->list_is_literal = literal;
    return node;
}

static const struct expression *parse_match(struct parser *parser, const struct expression *left)
{
    if (left->type != EXPRESSION_STRING) {
        complain(parser, "expression-type", left->offset, left->length,
                 "~ compares texts; this is %s", type_text(left->type));
        return NULL;
    }
    struct token token = parser->token;
    if (token.kind != TOKEN_STRING)
        return wrong_token(parser, "a pattern in quotes");
    struct expression *node = node_new(parser, EXPRESSION_OP_MATCH, EXPRESSION_BOOL, left->offset);
    struct error err = {0};
    size_t fault = 0;
    node->text = token.text; /* equal patterns are one condition in a proof */
    if (pattern_new(parser->context->option.arena, token.text, &node->pattern, &fault, &err) !=
        OK) {
        complain(parser, "pattern", token.offset + 1 + fault, 1, "the pattern is wrong: %s",
                 err.text);
        return NULL;
    }
    advance(parser);
    node->left = left;
    return node;
}

/* client == "192.0.2.1": the text becomes an address. */
static const struct expression *as_address(struct parser *parser, const struct expression *node)
{
    if (node->op != EXPRESSION_OP_LITERAL || node->type != EXPRESSION_STRING)
        return node;
    struct expression *converted =
        node_new(parser, EXPRESSION_OP_LITERAL, EXPRESSION_CLIENT, node->offset);
    converted->length = node->length;
    return net_ip_parse(node->text, &converted->ip) ? converted : node;
}

static const struct expression *parse_compare(struct parser *parser, const struct expression *left,
                                              enum expression_compare compare)
{
    const struct expression *right = parse_operand(parser);
    if (!right)
        return NULL;
    if (left->type == EXPRESSION_CLIENT)
        right = as_address(parser, right);
    else if (right->type == EXPRESSION_CLIENT)
        left = as_address(parser, left);
    if (left->type != right->type) {
        complain(parser, "expression-type", right->offset, right->length,
                 "%s cannot be compared with %s", type_text(left->type), type_text(right->type));
        return NULL;
    }
    if (compare > COMPARE_NOT_EQUAL && left->type != EXPRESSION_NUMBER) {
        complain(parser, "expression-type", left->offset, left->length,
                 "only numbers can be less or greater; this is %s", type_text(left->type));
        return NULL;
    }
    struct expression *node =
        node_new(parser, EXPRESSION_OP_COMPARE, EXPRESSION_BOOL, left->offset);
    node->left = left;
    node->right = right;
    node->compare = compare;
    return node;
}

static const struct expression *parse_comparison(struct parser *parser)
{
    const struct expression *left = parse_operand(parser);
    if (!left)
        return NULL;
    size_t begin = parser->token.offset;
    bool negated = at_word(parser, "not");
    if (negated) {
        advance(parser);
        if (!at_word(parser, "in"))
            return wrong_token(parser, "in");
    }
    if (at_word(parser, "in")) {
        advance(parser);
        const struct expression *inner = parse_in(parser, left);
        if (!inner || !negated)
            return inner;
        struct expression *node = node_new(parser, EXPRESSION_OP_NOT, EXPRESSION_BOOL, begin);
        node->left = inner;
        return node;
    }
    if (parser->token.kind == TOKEN_TILDE) {
        advance(parser);
        return parse_match(parser, left);
    }
    if (parser->token.kind == TOKEN_COMPARE) {
        enum expression_compare compare = parser->token.compare;
        advance(parser);
        return parse_compare(parser, left, compare);
    }
    return left;
}

/* ---- and, or, not ---- */

static const struct expression *parse_not(struct parser *parser)
{
    size_t begin = parser->token.offset;
    size_t count = 0;
    for (; at_word(parser, "not"); count++)
        advance(parser);
    const struct expression *inner = parse_comparison(parser);
    if (!inner || count == 0)
        return inner;
    if (!need_bool(parser, inner))
        return NULL;
    if (count % 2 == 0)
        return inner;
    struct expression *node = node_new(parser, EXPRESSION_OP_NOT, EXPRESSION_BOOL, begin);
    node->left = inner;
    return node;
}

static const struct expression *join(struct parser *parser, enum expression_op op,
                                     const struct expression *left, const struct expression *right)
{
    if (!need_bool(parser, left) || !need_bool(parser, right))
        return NULL;
    struct expression *node = node_new(parser, op, EXPRESSION_BOOL, left->offset);
    node->left = left;
    node->right = right;
    return node;
}

static const struct expression *parse_and(struct parser *parser)
{
    const struct expression *left = parse_not(parser);
    while (left && at_word(parser, "and")) {
        advance(parser);
        const struct expression *right = parse_not(parser);
        left = right ? join(parser, EXPRESSION_OP_AND, left, right) : NULL;
    }
    return left;
}

static const struct expression *parse_or(struct parser *parser)
{
    if (++parser->depth > DEPTH_MAX) {
        complain(parser, "expression", parser->token.offset, parser->token.length,
                 "parentheses are nested too deeply");
        return NULL;
    }
    const struct expression *left = parse_and(parser);
    while (left && at_word(parser, "or")) {
        advance(parser);
        const struct expression *right = parse_and(parser);
        left = right ? join(parser, EXPRESSION_OP_OR, left, right) : NULL;
    }
    parser->depth--;
    return left;
}

const struct expression *expression_parse(const struct config_node *node, enum flow_type type,
                                          const struct flow_compile_context *context)
{
    struct parser parser = {.node = node, .context = context, .type = type, .text = node->text};
    if (node->kind != CONFIG_SCALAR || node->is_null) {
        complain(&parser, "wrong-type", 0, 1, "expected an expression, such as authenticated");
        return NULL;
    }
    if (node->text.len > EXPRESSION_TEXT_MAX) {
        complain(&parser, "expression", 0, 1, "the expression is longer than %d bytes",
                 EXPRESSION_TEXT_MAX);
        return NULL;
    }
    advance(&parser);
    const struct expression *root = parse_or(&parser);
    if (!root)
        return NULL;
    if (parser.token.kind != TOKEN_END)
        return wrong_token(&parser, "and, or, or the end");
    return need_bool(&parser, root) ? root : NULL;
}

void expression_describe(struct buf *out)
{
    static const char *const types[] = {"test", "text", "number", "address"};
    for (size_t i = 0; i < NAME_COUNT; i++) {
        const struct expression_name_row *row = &expression_names[i];
        buf_printf(out, "- `%s` (%s): ", row->name, types[row->type]);
        option_print_prose(str_c(row->text), out);
        buf_append_byte(out, '\n');
    }
}
