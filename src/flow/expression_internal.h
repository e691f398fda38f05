/* SPDX-License-Identifier: Apache-2.0 */
/* flow/expression_internal.h - the tree of an expression, shared by its parser and its readers. */
#pragma once

#include "flow/expression.h"
#include "flow/pattern.h"

enum expression_type {
    EXPRESSION_BOOL,
    EXPRESSION_STRING,
    EXPRESSION_NUMBER,
    EXPRESSION_CLIENT, /* an IP address */
};

enum expression_name {
    NAME_AUTHENTICATED,
    NAME_TRUSTED,
    NAME_USER,
    NAME_CLIENT,
    NAME_CLIENT_NAME,
    NAME_HELO,
    NAME_TLS,
    NAME_LISTENER,
    NAME_SENDER,
    NAME_SENDER_DOMAIN,
    NAME_RECIPIENT,
    NAME_RECIPIENT_DOMAIN,
    NAME_RECIPIENTS,
    NAME_SIZE,
    NAME_HEADER,
    NAME_SPF,
    NAME_DKIM,
    NAME_DKIM_DOMAIN,
    NAME_DMARC,
    NAME_DMARC_POLICY,
    NAME_SCORE,
    NAME_FINDINGS,
    NAME_COUNT
};

struct expression_name_row {
    const char *name;
    enum expression_type type;
    unsigned flows; /* 1 << flow_type */
    const char *text;
};
extern const struct expression_name_row expression_names[NAME_COUNT];

enum expression_op {
    EXPRESSION_OP_LITERAL, /* bool, text, number or ip */
    EXPRESSION_OP_NAME,
    EXPRESSION_OP_NOT,
    EXPRESSION_OP_AND,
    EXPRESSION_OP_OR,
    EXPRESSION_OP_COMPARE,
    EXPRESSION_OP_IN,    /* left in texts, networks or trusted */
    EXPRESSION_OP_MATCH, /* left ~ pattern */
    EXPRESSION_OP_ANY,   /* left is true for any (all) of the recipients */
    EXPRESSION_OP_ALL,
};

enum expression_compare {
    COMPARE_EQUAL,
    COMPARE_NOT_EQUAL,
    COMPARE_LESS,
    COMPARE_LESS_EQUAL,
    COMPARE_GREATER,
    COMPARE_GREATER_EQUAL,
};

struct expression {
    enum expression_op op;
    enum expression_type type;
    size_t offset; /* in the text */
    size_t length;
    const struct expression *left;
    const struct expression *right;
    /* literals */
    bool truth;
    struct str text; /* of a text; of header(): the field's name */
    double number;
    struct net_ip ip;
    /* the rest */
    enum expression_name name;
    enum expression_compare compare;
    const struct pattern *pattern;
    bool in_trusted;
    const struct flow_list *list; /* a name under `lists`, or one made of the literals */
    bool list_is_literal;
};

/* ---- tokens ---- */

enum token_kind {
    TOKEN_END,
    TOKEN_WORD,
    TOKEN_STRING,
    TOKEN_NUMBER,
    TOKEN_NETWORK,
    TOKEN_COMPARE,
    TOKEN_TILDE,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_OPEN_LIST,
    TOKEN_CLOSE_LIST,
    TOKEN_COMMA,
    TOKEN_BAD,
};

struct token {
    enum token_kind kind;
    size_t offset;
    size_t length;
    struct str text; /* word as written, string without quotes (in the arena) */
    double number;
    struct net_network network;
    bool is_address; /* NETWORK: a single address, without /bits */
    enum expression_compare compare;
    const char *fault; /* BAD */
};

/* The token that begins at or behind `*offset`, which moves behind it. */
struct token token_next(struct str text, size_t *offset, struct arena *arena);
