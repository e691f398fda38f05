/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/flow_test_given.h"

#include "base/buf.h"
#include "config/load.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 8 * 1024 * 1024, READ_SIZE = 64 * 1024 };

struct given_rows {
    const struct config_node *servers, *files, *dns;
};
static const struct option given_options[] = {
    {.name = "servers",
     .type = OPTION_NODE,
     .offset = offsetof(struct given_rows, servers),
     .text = "by name: what a server of the configuration answers"},
    {.name = "files",
     .type = OPTION_NODE,
     .offset = offsetof(struct given_rows, files),
     .text = "by path, or the end of one: what is in a file of users or addresses"},
    {.name = "dns",
     .type = OPTION_NODE,
     .offset = offsetof(struct given_rows, dns),
     .text = "by name: records; names that are not here do not exist"},
    {.name = NULL},
};
static const struct option_table given_table = {
    .name = "given", .options = given_options, .size = sizeof(struct given_rows)};

struct source_rows {
    int state;
    struct option_texts recipients;
    const struct config_node *logins, *senders;
    struct str virus;
    double score;
    bool too_big;
    int verdict;
};
static const struct option_word verdicts[] = {
    {"accept", DIRECTORY_STATED_ACCEPT},
    {"reject", DIRECTORY_STATED_REJECT},
    {"defer", DIRECTORY_STATED_DEFER},
    {"hold", DIRECTORY_STATED_HOLD},
    {"quarantine", DIRECTORY_STATED_QUARANTINE},
    {"discard", DIRECTORY_STATED_DISCARD},
    {NULL, 0},
};
static const struct option_word states[] = {{"up", DIRECTORY_STATED_UP},
                                            {"down", DIRECTORY_STATED_DOWN},
                                            {"denies", DIRECTORY_STATED_DENIES},
                                            {NULL, 0}};
static const struct option source_options[] = {
    {.name = "state",
     .type = OPTION_WORD,
     .offset = offsetof(struct source_rows, state),
     .words = states,
     .fallback = "up",
     .text = "down: no answer can be had; denies: it refuses to be asked about recipients"},
    {.name = "recipients",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct source_rows, recipients),
     .text = "addresses that exist, or @domain for all of one; others are missing"},
    {.name = "logins",
     .type = OPTION_NODE,
     .offset = offsetof(struct source_rows, logins),
     .text = "users and their passwords: { anna: correct }"},
    {.name = "senders",
     .type = OPTION_NODE,
     .offset = offsetof(struct source_rows, senders),
     .text = "addresses that users may send as: { anna: [ anna@example.org ] }"},
    {.name = "virus",
     .type = OPTION_TEXT,
     .offset = offsetof(struct source_rows, virus),
     .text = "what a virus scanner finds in every message"},
    {.name = "score",
     .type = OPTION_DECIMAL,
     .offset = offsetof(struct source_rows, score),
     .text = "what a spam scanner gives every message"},
    {.name = "too_big",
     .type = OPTION_BOOL,
     .offset = offsetof(struct source_rows, too_big),
     .fallback = "false",
     .text = "the virus scanner takes no message of that size"},
    {.name = "verdict",
     .type = OPTION_WORD,
     .offset = offsetof(struct source_rows, verdict),
     .words = verdicts,
     .fallback = "accept",
     .text = "what a milter or a web hook says of every message"},
    {.name = NULL},
};
static const struct option_table source_table = {.name = "given.servers.*",
                                                 .options = source_options,
                                                 .shorthand = "state",
                                                 .size = sizeof(struct source_rows)};

void flow_test_unknown(const struct option_context *context, const char *what, struct str name,
                       struct config_place place, const struct str *names, size_t count)
{
    struct config_problem *problem =
        config_problem(context->report, CONFIG_ERROR, "unknown-name", place,
                       "there is no %s \"%.*s\"", what, STR_ARG(name));
    struct str near = config_nearest(name, names, count);
    if (near.len)
        problem->fix =
            arena_printf(context->report->arena, "did you mean \"%.*s\"?", STR_ARG(near));
}

static bool is_map(const struct config_node *node, const struct option_context *context)
{
    if (node->kind == CONFIG_MAP)
        return true;
    config_problem(context->report, CONFIG_ERROR, "wrong-type", node->place,
                   "expected names and what is stated of each");
    return false;
}

static bool read_senders(const struct config_node *senders, const struct option_context *context,
                         struct directory_stated_login *login)
{
    const struct config_node *node = senders ? config_get(senders, login->login) : NULL;
    struct option_texts texts = {0};
    if (node && !option_read_texts(node, context, &texts))
        return false;
    login->senders = texts.items;
    login->sender_count = texts.count;
    return true;
}

static bool read_logins(const struct source_rows *rows, const struct option_context *context,
                        struct directory_stated_source *source)
{
    if (!rows->logins)
        return true;
    if (!is_map(rows->logins, context) || (rows->senders && !is_map(rows->senders, context)))
        return false;
    struct directory_stated_login *logins =
        arena_alloc_array(context->arena, rows->logins->count + 1, sizeof *logins);
    bool good = true;
    for (size_t i = 0; i < rows->logins->count; i++) {
        const struct config_pair *pair = &rows->logins->pairs[i];
        logins[i].login = pair->key;
        good = option_read_text(&pair->value, context, &logins[i].password) &&
               read_senders(rows->senders, context, &logins[i]) && good;
    }
    source->logins = logins;
    source->login_count = rows->logins->count;
    return good;
}

static bool server_is_known(const struct config_pair *pair, const struct settings *settings,
                            const struct option_context *context)
{
    if (server_find(settings->servers, settings->server_count, pair->key))
        return true;
    struct str *names =
        arena_alloc_array(context->arena, settings->server_count + 1, sizeof *names);
    for (size_t i = 0; i < settings->server_count; i++)
        names[i] = settings->servers[i].name;
    flow_test_unknown(context, "server", pair->key, pair->place, names, settings->server_count);
    return false;
}

static bool read_sources(const struct config_node *node, bool is_file,
                         const struct settings *settings, const struct option_context *context,
                         struct directory_stated_source *sources, size_t *count)
{
    if (!node)
        return true;
    if (!is_map(node, context))
        return false;
    bool good = true;
    for (size_t i = 0; i < node->count; i++) {
        const struct config_pair *pair = &node->pairs[i];
        struct directory_stated_source *source = &sources[(*count)++];
        struct source_rows rows = {0};
        *source = (struct directory_stated_source){.name = pair->key, .is_file = is_file};
        good = (is_file || server_is_known(pair, settings, context)) && good;
        if (option_bind(&source_table, &pair->value, NULL, context, &rows) != OK) {
            good = false;
            continue;
        }
        source->state = (enum directory_stated_state)rows.state;
        source->recipients = rows.recipients.items;
        source->virus = rows.virus;
        source->score = rows.score;
        source->too_big = rows.too_big;
        source->verdict = (enum directory_stated_verdict)rows.verdict;
        source->recipient_count = rows.recipients.count;
        good = read_logins(&rows, context, source) && good;
    }
    return good;
}

static size_t count_of(const struct config_node *node)
{
    return node && node->kind == CONFIG_MAP ? node->count : 0;
}

/* ---- DNS ---- */

struct name_rows {
    int state;
    struct option_texts txt, a, mx;
};
static const struct option_word name_states[] = {{"up", 0}, {"down", 1}, {NULL, 0}};
static const struct option name_options[] = {
    {.name = "state",
     .type = OPTION_WORD,
     .offset = offsetof(struct name_rows, state),
     .words = name_states,
     .fallback = "up",
     .text = "down: no answer can be had"},
    {.name = "txt",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct name_rows, txt),
     .text = "texts, such as an SPF record"},
    {.name = "a",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct name_rows, a),
     .text = "addresses, IPv4 and IPv6"},
    {.name = "mx",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct name_rows, mx),
     .text = "mail exchangers, the best first"},
    {.name = NULL},
};
static const struct option_table name_table = {.name = "given.dns.*",
                                               .options = name_options,
                                               .shorthand = "state",
                                               .size = sizeof(struct name_rows)};

static bool read_name(const struct config_pair *pair, const struct option_context *context,
                      struct flow_test_name *out)
{
    struct name_rows rows = {0};
    if (option_bind(&name_table, &pair->value, NULL, context, &rows) != OK)
        return false;
    *out = (struct flow_test_name){
        .name = pair->key, .down = rows.state == 1, .txt = rows.txt, .a = rows.a, .mx = rows.mx};
    out->ips = arena_alloc_array(context->arena, rows.a.count + 1, sizeof *out->ips);
    for (size_t i = 0; i < rows.a.count; i++) {
        if (!net_ip_parse(rows.a.items[i], &out->ips[i])) {
            config_problem(context->report, CONFIG_ERROR, "bad-address", rows.a.places[i],
                           "\"%.*s\" is no IP address", STR_ARG(rows.a.items[i]));
            return false;
        }
    }
    return true;
}

static bool read_names(const struct config_node *node, const struct option_context *context,
                       const struct flow_test_answers *base, struct flow_test_answers *out)
{
    if (!node)
        return true;
    if (!is_map(node, context))
        return false;
    size_t count = 0;
    size_t of_base = base ? base->name_count : 0;
    struct flow_test_name *names =
        arena_alloc_array(context->arena, node->count + of_base + 1, sizeof *names);
    bool good = true;
    for (size_t i = 0; i < node->count; i++)
        good = read_name(&node->pairs[i], context, &names[count++]) && good;
    for (size_t i = 0; i < of_base; i++)
        names[count++] = base->names[i];
    out->has_dns = true;
    out->names = names;
    out->name_count = count;
    return good;
}

static enum result ask_name(void *context, enum resolver_type type, struct str name,
                            struct arena *arena, struct resolver_answer *out, struct error *err)
{
    const struct flow_test_answers *answers = context;
    const struct flow_test_name *found = NULL;
    (void)arena;
    if (name.len && name.ptr[name.len - 1] == '.')
        name.len--;
    *out = (struct resolver_answer){.status = DNS_NO_NAME};
    for (size_t i = answers->name_count; i > 0; i--) { /* the first of a name is taken */
        if (str_equal_nocase(answers->names[i - 1].name, name))
            found = &answers->names[i - 1];
    }
    if (!answers->has_dns || (found && found->down))
        return fail(err, ERROR_TEMPORARY, "DNS gives no answer here");
    if (!found)
        return OK;
    if (type == RESOLVER_TXT || type == RESOLVER_MX) {
        out->texts = type == RESOLVER_MX ? found->mx.items : found->txt.items;
        out->count = type == RESOLVER_MX ? found->mx.count : found->txt.count;
    } else if (type == RESOLVER_A || type == RESOLVER_AAAA) {
        out->ips = arena_alloc_array(arena, found->a.count + 1, sizeof *out->ips);
        for (size_t i = 0; i < found->a.count; i++) {
            bool six = str_find(found->a.items[i], ':') >= 0;
            if (six == (type == RESOLVER_AAAA))
                out->ips[out->count++] = found->ips[i];
        }
    }
    out->status = out->count ? DNS_FOUND : DNS_NO_DATA;
    return OK;
}

struct resolver flow_test_resolver(const struct flow_test_answers *answers)
{
    return (struct resolver){
        .ask = ask_name, .context = (void *)(uintptr_t)answers, .budget = RESOLVER_BUDGET};
}

/* ---- the whole ---- */

static bool read_directory(const struct given_rows *rows, const struct settings *settings,
                           const struct option_context *context,
                           const struct directory_stated *base, struct directory_stated *out)
{
    size_t total = count_of(rows->servers) + count_of(rows->files) + base->source_count + 1;
    struct directory_stated_source *sources =
        arena_alloc_array(context->arena, total, sizeof *sources);
    size_t count = 0;
    bool good = read_sources(rows->servers, false, settings, context, sources, &count);
    good = read_sources(rows->files, true, settings, context, sources, &count) && good;
    /* the first of a name is found: those of the test stand before those of the file */
    for (size_t i = 0; i < base->source_count; i++)
        sources[count++] = base->sources[i];
    *out = (struct directory_stated){.sources = sources, .source_count = count};
    return good;
}

bool flow_test_given(const struct config_node *node, const struct settings *settings,
                     const struct option_context *context, const struct flow_test_answers *base,
                     struct flow_test_answers *out)
{
    struct given_rows rows = {0};
    const struct directory_stated nothing = {0};
    *out = base ? *base : (struct flow_test_answers){0};
    if (!node)
        return true;
    if (option_bind(&given_table, node, NULL, context, &rows) != OK)
        return false;
    bool good = read_directory(&rows, settings, context, base ? &base->directory : &nothing,
                               &out->directory);
    return read_names(rows.dns, context, base, out) && good;
}

bool flow_test_slurp(const char *path, const struct option_context *context, struct str *out)
{
    struct buf text BUF_CLEANUP;
    ssize_t got = -1;
    buf_init(&text, FILE_MAX);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *space = fd < 0 ? NULL : buf_reserve(&text, READ_SIZE);
    while (space && (got = read(fd, space, READ_SIZE)) > 0) {
        text.len += (size_t)got;
        space = buf_reserve(&text, READ_SIZE);
    }
    int error = got == 0 ? 0 : (errno ? errno : EFBIG);
    if (fd >= 0)
        close(fd);
    if (error)
        config_problem(context->report, CONFIG_ERROR, "unreadable", (struct config_place){0},
                       "cannot read %s: %s", path, strerror(error));
    *out = arena_str(context->arena, buf_str(&text));
    return error == 0;
}

bool flow_test_given_file(const char *path, const struct settings *settings,
                          const struct option_context *context, struct flow_test_answers *out)
{
    struct config_node *root = ARENA_NEW(context->arena, struct config_node);
    struct str text;
    *out = (struct flow_test_answers){0};
    return flow_test_slurp(path, context, &text) &&
           config_load_text(str_c(path), text, context->arena, context->report, root) == OK &&
           flow_test_given(config_get(root, STR("given")), settings, context, NULL, out);
}
