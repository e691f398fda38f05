/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/server.c - reading the `servers` section: addresses, TLS, secrets from their files.
 */
#include "net/server.h"

#include "base/buf.h"
#include "base/clock.h"
#include "net/secret.h"
#include "net/tls.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

enum { ENDPOINTS_MAX = 64 };

static const struct option_word tls_words[] = {
    {"none", SERVER_TLS_NONE},
    {"opportunistic", SERVER_TLS_OPPORTUNISTIC},
    {"required", SERVER_TLS_REQUIRED},
    {"verified", SERVER_TLS_VERIFIED},
    {NULL, 0},
};

struct str server_tls_name(enum server_tls tls)
{
    return str_c(tls_words[tls].word); /* they stand in the order of their numbers */
}

#define AT(member) offsetof(struct server, member)
static const struct option rows[] = {
    {.name = "smtp",
     .type = OPTION_TEXTS,
     .offset = AT(written.smtp),
     .text = "mail server, host:port or several (port 25)"},
    {.name = "lmtp",
     .type = OPTION_TEXTS,
     .offset = AT(written.lmtp),
     .text = "LMTP server, host:port (24) or unix:/path"},
    {.name = "ldap",
     .type = OPTION_TEXTS,
     .offset = AT(written.ldap),
     .text = "directory, ldap:// or ldaps:// URL, or several"},
    {.name = "clamd",
     .type = OPTION_TEXTS,
     .offset = AT(written.clamd),
     .text = "ClamAV's clamd, unix:/path or host:port (3310), or several that are equal"},
    {.name = "rspamd",
     .type = OPTION_TEXTS,
     .offset = AT(written.rspamd),
     .text = "rspamd, http:// or https:// URL, or several that are equal"},
    {.name = "spamd",
     .type = OPTION_TEXTS,
     .offset = AT(written.spamd),
     .text = "SpamAssassin's spamd, unix:/path or host:port (783), or several that are equal"},
    {.name = "milter",
     .type = OPTION_TEXTS,
     .offset = AT(written.milter),
     .text = "milter, unix:/path or host:port (8891), or several that are equal"},
    {.name = "http",
     .type = OPTION_TEXTS,
     .offset = AT(written.http),
     .text = "HTTP service, URL, or several that are equal"},
    {.name = "tls",
     .type = OPTION_WORD,
     .offset = AT(tls),
     .text = "TLS towards smtp and lmtp servers",
     .fallback = "opportunistic",
     .words = tls_words},
    {.name = "ca_file",
     .type = OPTION_PATH,
     .offset = AT(ca_file),
     .text = "certificates that are trusted in place of the system's"},
    {.name = "user",
     .type = OPTION_TEXT,
     .offset = AT(user),
     .text = "login at the mail server (smarthost)"},
    {.name = "password_file",
     .type = OPTION_PATH,
     .offset = AT(written.password_file),
     .text = "file that holds its password"},
    {.name = "timeout",
     .type = OPTION_DURATION,
     .offset = AT(timeout_ns),
     .text = "longest wait for an answer",
     .fallback = "30s",
     .min = 100 * NS_PER_MS,
     .max = 600 * NS_PER_S},
    {.name = "starttls",
     .type = OPTION_BOOL,
     .offset = AT(starttls),
     .text = "ldap: start TLS on an ldap:// connection",
     .fallback = "false"},
    {.name = "base_dn",
     .type = OPTION_TEXT,
     .offset = AT(base_dn),
     .text = "ldap: where searches start"},
    {.name = "bind_dn",
     .type = OPTION_TEXT,
     .offset = AT(bind_dn),
     .text = "ldap: whom searches log in as"},
    {.name = "bind_password_file",
     .type = OPTION_PATH,
     .offset = AT(written.bind_password_file),
     .text = "ldap: file that holds the password of bind_dn"},
    {0},
};
const struct option_table server_options = {
    .name = "servers.*",
    .text = "A backend by name; steps and transports refer to it.",
    .options = rows,
    .size = sizeof(struct server),
};

/* ---- kinds ---- */

static const struct kind {
    const char *key;
    enum server_kind kind;
    uint16_t default_port;
    bool is_url, may_be_unix;
    const char *also; /* keys that only some kinds know, each with blanks around it */
} kinds[] = {
    {"smtp", SERVER_SMTP, 25, false, false, " tls ca_file user password_file "},
    {"lmtp", SERVER_LMTP, 24, false, true, " tls ca_file user password_file "},
    {"ldap", SERVER_LDAP, 389, true, false,
     " ca_file starttls base_dn bind_dn bind_password_file "},
    {"clamd", SERVER_CLAMD, 3310, false, true, " "},
    {"rspamd", SERVER_RSPAMD, 80, true, false, " password_file ca_file "},
    {"spamd", SERVER_SPAMD, 783, false, true, " "},
    {"milter", SERVER_MILTER, 8891, false, true, " "},
    {"http", SERVER_HTTP, 80, true, false, " ca_file password_file "},
};
enum { KIND_COUNT = sizeof kinds / sizeof *kinds };

static const struct kind *find_kind(const struct config_node *node, struct config_place name_place,
                                    const struct option_context *context)
{
    const struct kind *found = NULL;
    for (size_t i = 0; i < KIND_COUNT; i++) {
        const struct config_pair *pair = config_get_pair(node, str_c(kinds[i].key));
        if (!pair)
            continue;
        if (found) {
            config_problem(context->report, CONFIG_ERROR, "wrong-value", pair->place,
                           "a server is either %s or %s", found->key, kinds[i].key)
                ->fix = STR("make two entries of it");
            return NULL;
        }
        found = &kinds[i];
    }
    if (!found && node->kind == CONFIG_MAP)
        config_problem(context->report, CONFIG_ERROR, "missing-key", name_place,
                       "nothing says what kind of server this is")
            ->fix = STR("add one of: smtp, lmtp, ldap, clamd, rspamd, spamd, milter, http");
    return found;
}

/* Keys that some kinds only know. */
static const char *const some_keys[] = {"tls",      "ca_file", "user",    "password_file",
                                        "starttls", "base_dn", "bind_dn", "bind_password_file"};

static bool kind_has_key(struct arena *arena, const struct kind *kind, const char *key)
{
    return str_find_str(str_c(kind->also), arena_printf(arena, " %s ", key)) >= 0;
}

static void refuse_foreign_keys(const struct kind *kind, const struct config_node *node,
                                const struct option_context *context)
{
    for (size_t i = 0; i < sizeof some_keys / sizeof *some_keys; i++) {
        const struct config_pair *pair = config_get_pair(node, str_c(some_keys[i]));
        if (!pair || kind_has_key(context->report->arena, kind, some_keys[i]))
            continue;
        struct config_problem *problem = config_problem(
            context->report, CONFIG_ERROR, "wrong-key", pair->place,
            "\"%s\" has no meaning for a server of kind %s", some_keys[i], kind->key);
        problem->fix = kind->kind == SERVER_LDAP && i == 0
                           ? STR("write ldaps:// in the URL, or starttls: true")
                           : STR("remove it");
    }
}

/* ---- endpoints ---- */

static bool is_host_name(struct str host)
{
    if (host.len == 0 || host.len > 253 || host.ptr[0] == '-' || host.ptr[0] == '.')
        return false;
    for (size_t i = 0; i < host.len; i++) {
        char c = host.ptr[i];
        if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '.' && c != '_')
            return false;
    }
    return true;
}

/* "host", "host:port", "192.0.2.1:25", "[2001:db8::1]:25". */
static bool parse_host_port(struct str text, uint16_t default_port, struct server_endpoint *out)
{
    struct net_ip ip;
    struct str host = text, port = STR_EMPTY;
    bool with_port = false;
    if (str_starts(text, STR("["))) {
        ptrdiff_t end = str_find(text, ']');
        if (end < 0)
            return false;
        host = str_slice(text, 1, (size_t)end);
        port = str_from(text, (size_t)end + 1);
        if (port.len && port.ptr[0] != ':')
            return false;
        with_port = port.len > 0;
        port = str_from(port, 1);
        if (!net_ip_parse(host, &ip))
            return false;
    } else if (!net_ip_parse(text, &ip)) { /* a bare IPv6 address holds colons too */
        ptrdiff_t colon = str_find_last(text, ':');
        with_port = colon >= 0;
        host = with_port ? str_slice(text, 0, (size_t)colon) : text;
        port = with_port ? str_from(text, (size_t)colon + 1) : STR_EMPTY;
        if (!is_host_name(host))
            return false;
    }
    uint64_t number = default_port;
    if (with_port && (!str_to_uint(port, 65535, &number) || number == 0))
        return false;
    out->host = host;
    out->port = (uint16_t)number;
    return true;
}

/* "scheme://host[:port][/…]" */
static bool parse_url(const struct kind *kind, struct str text, struct server_endpoint *out)
{
    ptrdiff_t mark = str_find_str(text, STR("://"));
    if (mark <= 0)
        return false;
    struct str scheme = str_slice(text, 0, (size_t)mark);
    struct str rest = str_from(text, (size_t)mark + 3);
    bool ldap = kind->kind == SERVER_LDAP;
    bool secure = str_equal(scheme, ldap ? STR("ldaps") : STR("https"));
    if (ldap && str_equal(scheme, STR("ldapi"))) {
        out->url = text;
        return true;
    }
    if (!secure && !str_equal(scheme, ldap ? STR("ldap") : STR("http")))
        return false;
    ptrdiff_t slash = str_find(rest, '/');
    if (slash >= 0)
        rest = str_slice(rest, 0, (size_t)slash);
    uint16_t port = (uint16_t)(!secure ? kind->default_port : ldap ? 636 : 443);
    if (!parse_host_port(rest, port, out))
        return false;
    out->url = text;
    return true;
}

static bool parse_endpoint(const struct kind *kind, struct str text, struct server_endpoint *out)
{
    *out = (struct server_endpoint){STR_EMPTY, 0, STR_EMPTY, STR_EMPTY};
    if (kind->is_url)
        return parse_url(kind, text, out);
    if (str_starts(text, STR("unix:"))) {
        struct net_address address;
        out->unix_path = str_from(text, 5);
        return kind->may_be_unix && net_address_parse(text, 0, &address);
    }
    return parse_host_port(text, kind->default_port, out);
}

bool server_parse_url(struct str text, struct server_endpoint *out)
{
    static const struct kind http = {"http", SERVER_HTTP, 80, true, false, " "};
    *out = (struct server_endpoint){STR_EMPTY, 0, STR_EMPTY, STR_EMPTY};
    return parse_url(&http, text, out);
}

static void report_endpoint(const struct kind *kind, struct str text, struct config_place place,
                            const struct option_context *context)
{
    bool credentials = kind->is_url && str_find(text, '@') >= 0;
    struct config_problem *problem = config_problem(
        context->report, CONFIG_ERROR, credentials ? "secret-inline" : "wrong-value", place,
        credentials ? "secrets do not stand in this file"
                    : "this is not the address of a server of kind %s",
        kind->key);
    if (credentials)
        problem->fix = STR("leave user and password out of the URL");
    else if (kind->is_url)
        problem->fix = kind->kind == SERVER_LDAP ? STR("write ldap://HOST or ldaps://HOST")
                                                 : STR("write http://HOST:PORT");
    else
        problem->fix = kind->may_be_unix ? STR("write HOST:PORT or unix:/PATH")
                                         : STR("write HOST or HOST:PORT, IPv6 as [ADDRESS]:PORT");
}

static void bind_endpoints(struct server *server, const struct kind *kind,
                           const struct config_node *node, const struct option_context *context)
{
    const struct config_node *value = config_get(node, str_c(kind->key));
    struct option_texts texts;
    struct option_context quiet = *context; /* the binder has reported what is no text */
    struct config_report ignored;
    config_report_init(&ignored, context->report->arena);
    quiet.report = &ignored;
    if (!option_read_texts(value, &quiet, &texts))
        return;
    if (texts.count == 0 || texts.count > ENDPOINTS_MAX) {
        config_problem(context->report, CONFIG_ERROR, "empty-value", value->place,
                       "1 to 64 addresses are wanted here");
        return;
    }
    server->endpoints = arena_alloc_array(context->arena, texts.count, sizeof *server->endpoints);
    for (size_t i = 0; i < texts.count; i++) {
        if (parse_endpoint(kind, texts.items[i], &server->endpoints[server->endpoint_count]))
            server->endpoint_count++;
        else
            report_endpoint(kind, texts.items[i], texts.places[i], context);
    }
}

/* ---- secrets ---- */

static void want_pair(const struct config_node *node, const char *key, const char *other,
                      const struct option_context *context)
{
    const struct config_pair *pair = config_get_pair(node, str_c(key));
    if (pair && !config_get(node, str_c(other)))
        config_problem(context->report, CONFIG_ERROR, "missing-key", pair->place,
                       "\"%s\" without \"%s\"", key, other)
            ->fix = arena_printf(context->report->arena, "add \"%s:\"", other);
}

static void bind_secrets(struct server *server, const struct config_node *node,
                         const struct option_context *context)
{
    want_pair(node, "bind_dn", "bind_password_file", context);
    want_pair(node, "bind_password_file", "bind_dn", context);
    want_pair(node, "user", "password_file", context);
    if (server->kind == SERVER_SMTP || server->kind == SERVER_LMTP)
        want_pair(node, "password_file", "user", context);
    secret_read(server->written.password_file, config_get(node, STR("password_file")), context,
                &server->password);
    secret_read(server->written.bind_password_file, config_get(node, STR("bind_password_file")),
                context, &server->bind_password);
}

/* ---- TLS ---- */

static void release_tls(void *object)
{
    tls_context_unref(object);
}

/* By the URLs of rspamd and http; all of one server's are alike. */
static bool has_https(const struct server *server, const struct config_node *node,
                      const struct option_context *context)
{
    size_t secure = 0;
    if (server->kind != SERVER_RSPAMD && server->kind != SERVER_HTTP)
        return false;
    for (size_t i = 0; i < server->endpoint_count; i++)
        secure += str_starts(server->endpoints[i].url, STR("https://"));
    if (secure && secure < server->endpoint_count)
        config_problem(context->report, CONFIG_ERROR, "wrong-value", node->place,
                       "some of these URLs are http and some are https")
            ->fix = STR("make two servers of them");
    return secure > 0;
}

const struct tls_context *server_find_trust(const struct server *servers, size_t count,
                                            struct str ca_file)
{
    for (size_t i = 0; i < count; i++)
        if (servers[i].tls_context && str_equal(servers[i].ca_file, ca_file))
            return servers[i].tls_context;
    return NULL;
}

/* `before`: servers that are bound. */
static void bind_tls(struct server *server, const struct server *before, size_t before_count,
                     const struct config_node *node, const struct option_context *context)
{
    const struct config_node *ca = config_get(node, STR("ca_file"));
    if (server->ca_file.len && ca && access(arena_c(context->arena, server->ca_file), R_OK) != 0) {
        config_problem(context->report, CONFIG_ERROR, "unreadable", ca->place, "%.*s: %s",
                       STR_ARG(server->ca_file), strerror(errno));
        return;
    }
    bool smtp = server->kind == SERVER_SMTP || server->kind == SERVER_LMTP;
    bool https = has_https(server, node, context);
    if (!https && (!smtp || server->tls == SERVER_TLS_NONE))
        return;
    struct tls_client_settings settings = {
        .verify = https || server->tls == SERVER_TLS_VERIFIED,
        .ca_path = server->ca_file,
        .min_version = smtp && server->tls == SERVER_TLS_OPPORTUNISTIC ? 10 : 12,
        .trust_of = server_find_trust(before, before_count, server->ca_file),
    };
    struct error err;
    if (tls_client_new(&settings, &server->tls_context, &err) == FAILED)
        config_problem(context->report, CONFIG_ERROR, "tls", ca ? ca->place : server->place, "%s",
                       err.text);
    else
        arena_hook(context->arena, release_tls, server->tls_context);
}

/* ---- the section ---- */

static void bind_server(const struct config_pair *pair, const struct option_context *context,
                        struct server *servers, size_t index)
{
    struct server *server = &servers[index];
    const struct config_node *node = &pair->value;
    server->name = pair->key;
    server->place = pair->place;
    (void)!option_bind(&server_options, node, NULL, context, server);
    const struct kind *kind = find_kind(node, pair->place, context);
    if (!kind)
        return;
    server->kind = kind->kind;
    server->tls_given = config_get(node, STR("tls")) != NULL;
    refuse_foreign_keys(kind, node, context);
    bind_endpoints(server, kind, node, context);
    bind_secrets(server, node, context);
    bind_tls(server, servers, index, node, context);
}

enum result server_bind_all(const struct config_node *section, const struct option_context *context,
                            struct server **out_servers, size_t *out_count)
{
    size_t errors_before = context->report->errors;
    *out_servers = NULL;
    *out_count = 0;
    if (!section)
        return OK;
    if (section->kind != CONFIG_MAP) {
        config_problem(context->report, CONFIG_ERROR, "wrong-type", section->place,
                       "a map of servers by name is wanted here")
            ->fix = STR("write NAME: { smtp: HOST:25 }");
        return FAILED;
    }
    struct server *servers = arena_alloc_array(context->arena, section->count + 1, sizeof *servers);
    for (size_t i = 0; i < section->count; i++)
        bind_server(&section->pairs[i], context, servers, i);
    *out_servers = servers;
    *out_count = section->count;
    return context->report->errors == errors_before ? OK : FAILED;
}

const struct server *server_find(const struct server *servers, size_t count, struct str name)
{
    for (size_t i = 0; i < count; i++) {
        if (str_equal(servers[i].name, name))
            return &servers[i];
    }
    return NULL;
}

bool server_has_key(const struct server *server, struct str key)
{
    const struct kind *kind = NULL;
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (kinds[i].kind == server->kind)
            kind = &kinds[i];
        if (str_equal(key, str_c(kinds[i].key)))
            return kinds[i].kind == server->kind;
    }
    for (size_t i = 0; kind && i < sizeof some_keys / sizeof *some_keys; i++) {
        if (!str_equal(key, str_c(some_keys[i])))
            continue;
        struct arena *scratch = arena_new(0);
        bool has = kind_has_key(scratch, kind, some_keys[i]);
        arena_free(scratch);
        return has;
    }
    return true;
}

bool server_is_loopback(const struct server *server)
{
    for (size_t i = 0; i < server->endpoint_count; i++) {
        const struct server_endpoint *endpoint = &server->endpoints[i];
        struct net_ip ip;
        if (endpoint->unix_path.len || str_equal_nocase(endpoint->host, STR("localhost")))
            continue;
        if (!net_ip_parse(endpoint->host, &ip) || !net_ip_is_loopback(&ip))
            return false;
    }
    return true;
}
