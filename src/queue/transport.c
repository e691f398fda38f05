/* SPDX-License-Identifier: Apache-2.0 */
/* queue/transport.c - reading the `transports` section, and when a retry is due. */
#include "queue/transport.h"

#include "base/clock.h"
#include "net/tls.h"
#include "script/options.h"
#include "smtp/client.h"

#include <stddef.h>

static const struct option_word method_words[] = {
    {"server", TRANSPORT_SERVER},
    {"lookup-mx", TRANSPORT_LOOKUP_MX},
    {"lmtp", TRANSPORT_LMTP},
    {"discard", TRANSPORT_DISCARD},
    {NULL, 0},
};
static const struct option_word direction_words[] = {
    {"inbound", TRANSPORT_INBOUND},
    {"outbound", TRANSPORT_OUTBOUND},
    {NULL, 0},
};
static const struct option_word tls_words[] = {
    {"none", SERVER_TLS_NONE},
    {"opportunistic", SERVER_TLS_OPPORTUNISTIC},
    {"required", SERVER_TLS_REQUIRED},
    {"verified", SERVER_TLS_VERIFIED},
    {NULL, 0},
};
static const struct option_word notify_words[] = {
    {"failure", TRANSPORT_NOTIFY_FAILURE},
    {"delay", TRANSPORT_NOTIFY_DELAY},
    {"success", TRANSPORT_NOTIFY_SUCCESS},
    {NULL, 0},
};
static const struct option_word strangers_words[] = {
    {"verified", TRANSPORT_DSN_VERIFIED},
    {"always", TRANSPORT_DSN_ALWAYS},
    {"never", TRANSPORT_DSN_NEVER},
    {NULL, 0},
};
/* a set of enum smtp_extension: bit numbers */
static const struct option_word extension_words[] = {
    {"pipelining", 0}, {"8bitmime", 2}, {"smtputf8", 3}, {"chunking", 4}, {"dsn", 5}, {NULL, 0},
};
_Static_assert(SMTP_EXT_PIPELINING == 1 << 0 && SMTP_EXT_8BITMIME == 1 << 2 &&
                   SMTP_EXT_SMTPUTF8 == 1 << 3 && SMTP_EXT_CHUNKING == 1 << 4 &&
                   SMTP_EXT_DSN == 1 << 5,
               "words are named by bit");
static const struct option_word eight_bit_words[] = {
    {"send", TRANSPORT_EIGHT_BIT_SEND},
    {"convert", TRANSPORT_EIGHT_BIT_CONVERT},
    {"fail", TRANSPORT_EIGHT_BIT_FAIL},
    {NULL, 0},
};

#define DAY_NS (INT64_C(86400) * NS_PER_S)
enum { UNSET = -1 /* of a word without a fixed default */ };

static const struct option retry_rows[] = {
    {.name = "delays",
     .type = OPTION_DURATIONS,
     .offset = offsetof(struct transport_retry, delays),
     .text = "time from the start of an attempt to the next; the last one repeats",
     .fallback = "[ 5m, 15m, 30m, 60m, 120m ]",
     .min = NS_PER_S,
     .max = 30 * DAY_NS},
    {.name = "count",
     .type = OPTION_INT,
     .offset = offsetof(struct transport_retry, count),
     .text = "how many retries after the first attempt; default: as many as delays",
     .fallback = "-1",
     .min = 0,
     .max = 100000},
    {0},
};
static const struct option_table retry_options = {
    .name = "transports.*.retry",
    .text = "When an attempt that failed for now is made again.",
    .options = retry_rows,
    .size = sizeof(struct transport_retry),
};

#define AT(member) offsetof(struct transport, member)
/* a group at offset 0: its rows name members of the transport itself */
static const struct option limit_rows[] = {
    {.name = "connections",
     .type = OPTION_INT,
     .offset = AT(limit_connections),
     .text = "connections to one destination at a time",
     .fallback = "20",
     .min = 1,
     .max = 10000},
    {.name = "messages",
     .type = OPTION_RATE,
     .offset = AT(limit_messages),
     .text = "messages to one destination, as 100/1m"},
    {0},
};
static const struct option_table limit_options = {
    .name = "transports.*.limits",
    .text = "How much one destination gets.",
    .options = limit_rows,
    .size = sizeof(struct transport),
};

static const struct option_word on_error_words[] = {
    {"defer", TRANSPORT_ON_ERROR_DEFER},
    {"next", TRANSPORT_ON_ERROR_NEXT},
    {NULL, 0},
};
static const struct option script_rows[] = {
    {.name = "file",
     .type = OPTION_PATH,
     .offset = offsetof(struct transport_script, file),
     .text = "the Lua file; it may require others beside it"},
    {.name = "before",
     .type = OPTION_TEXT,
     .offset = offsetof(struct transport_script, before),
     .text = "its function that is called before each attempt: it may put it off, hold the "
             "message, give it up, or send it to another server"},
    {.name = "after",
     .type = OPTION_TEXT,
     .offset = offsetof(struct transport_script, after),
     .text = "its function that is called after each attempt: it may say when the next is due, and "
             "what a refusal means"},
    {.name = "servers",
     .type = OPTION_REFERENCES,
     .offset = offsetof(struct transport_script, servers),
     .refers_to = "servers",
     .text = "those that `before` may send an attempt to"},
    {.name = "on_error",
     .type = OPTION_WORD,
     .offset = offsetof(struct transport_script, on_error),
     .words = on_error_words,
     .fallback = "defer",
     .text = "when `before` fails: defer the attempt, or make it (next)"},
    SCRIPT_LIMIT_ROWS(struct transport_script),
    {0},
};
static const struct option_table script_options = {
    .name = "transports.*.script",
    .text = "Lua functions around each attempt of delivery.",
    .options = script_rows,
    .size = sizeof(struct transport_script),
};

static const struct option rows[] = {
    {.name = "method",
     .type = OPTION_WORD,
     .offset = AT(method),
     .text = "how mail leaves; server when a server is named",
     .words = method_words},
    {.name = "server",
     .type = OPTION_REFERENCE,
     .offset = AT(server_name),
     .text = "the server that takes it",
     .refers_to = "servers"},
    {.name = "direction",
     .type = OPTION_WORD,
     .offset = AT(direction),
     .text = "inbound: to mail servers of ours (default with a server); outbound: to the world",
     .words = direction_words},
    {.name = "port",
     .type = OPTION_INT,
     .offset = AT(port),
     .text = "lookup-mx: port of the mail exchangers",
     .fallback = "25",
     .min = 1,
     .max = 65535},
    {.name = "tls",
     .type = OPTION_WORD,
     .offset = AT(tls),
     .text = "lookup-mx: TLS towards mail exchangers; a server has its own",
     .fallback = "opportunistic",
     .words = tls_words},
    {.name = "source_address",
     .type = OPTION_TEXT,
     .offset = AT(source_address),
     .text = "address to connect from"},
    {.name = "helo",
     .type = OPTION_TEXT,
     .offset = AT(helo),
     .text = "name to greet with; default: hostname"},
    {.name = "retry",
     .type = OPTION_GROUP,
     .offset = AT(retry),
     .text = "when to try again",
     .group = &retry_options},
    {.name = "dsn",
     .type = OPTION_WORDS,
     .offset = AT(dsn),
     .text = "what senders are told of",
     .fallback = "[ failure ]",
     .words = notify_words},
    {.name = "dsn_to_strangers",
     .type = OPTION_WORD,
     .offset = AT(dsn_to_strangers),
     .text = "may a sender that is no user of ours get a report",
     .fallback = "verified",
     .words = strangers_words},
    {.name = "delay_after",
     .type = OPTION_DURATION,
     .offset = AT(delay_after_ns),
     .text = "when a report of delay is due",
     .fallback = "4h",
     .min = NS_PER_S,
     .max = 30 * DAY_NS},
    {.name = "expire",
     .type = OPTION_DURATION,
     .offset = AT(expire_ns),
     .text = "age at which everything but a hold ends",
     .fallback = "5d",
     .min = NS_PER_S,
     .max = 90 * DAY_NS},
    {.name = "attempt_timeout",
     .type = OPTION_DURATION,
     .offset = AT(attempt_timeout_ns),
     .text = "longest attempt",
     .fallback = "5m",
     .min = NS_PER_S,
     .max = 3600 * NS_PER_S},
    {.name = "eight_bit",
     .type = OPTION_WORD,
     .offset = AT(eight_bit),
     .text = "8-bit mail to a host that does not offer 8BITMIME",
     .fallback = "send",
     .words = eight_bit_words},
    {.name = "ignore_extensions",
     .type = OPTION_WORDS,
     .offset = AT(ignored_extensions),
     .text = "what a host offers in its answer to EHLO and does not master",
     .words = extension_words},
    {.name = "allow_private",
     .type = OPTION_BOOL,
     .offset = AT(allow_private),
     .text = "may connect to private and loopback addresses; implied by a server",
     .fallback = "false"},
    {.name = "limits",
     .type = OPTION_GROUP,
     .offset = 0,
     .text = "how much one destination gets",
     .group = &limit_options},
    {.name = "script",
     .type = OPTION_GROUP,
     .offset = AT(script),
     .text = "Lua functions around each attempt",
     .group = &script_options},
    {0},
};
const struct option_table transport_options = {
    .name = "transports.*",
    .text = "How mail leaves.",
    .options = rows,
    .size = sizeof(struct transport),
};

/* ---- what rows cannot say ---- */

static void derive_method(struct transport *transport, const struct config_node *node,
                          const struct option_context *context)
{
    const struct config_pair *server = config_get_pair(node, STR("server"));
    const struct config_pair *method = config_get_pair(node, STR("method"));
    if (transport->method == UNSET) {
        if (!server && !method)
            config_problem(context->report, CONFIG_ERROR, "missing-key", transport->place,
                           "nothing says how mail leaves")
                ->fix = STR("add \"method: lookup-mx\", or \"server: NAME\"");
        transport->method = server ? TRANSPORT_SERVER : TRANSPORT_DISCARD;
    }
    bool wants_server =
        transport->method == TRANSPORT_SERVER || transport->method == TRANSPORT_LMTP;
    if (wants_server && !server)
        config_problem(context->report, CONFIG_ERROR, "missing-key",
                       method ? method->place : transport->place,
                       "this method needs the name of a server")
            ->fix = STR("add \"server: NAME\", a name under \"servers\"");
    if (!wants_server && server && method)
        config_problem(context->report, CONFIG_ERROR, "wrong-key", server->place,
                       "a server is used by method server or lmtp only")
            ->fix = STR("remove it, or write \"method: server\"");
    if (transport->direction == UNSET)
        transport->direction =
            transport->method == TRANSPORT_LOOKUP_MX ? TRANSPORT_OUTBOUND : TRANSPORT_INBOUND;
    transport->allow_private = transport->allow_private || wants_server;
}

static void find_server(struct transport *transport, const struct config_node *node,
                        const struct option_context *context, const struct server *servers,
                        size_t server_count)
{
    const struct config_pair *pair = config_get_pair(node, STR("server"));
    transport->server = server_find(servers, server_count, transport->server_name);
    if (!transport->server || !pair)
        return; /* a name that dangles was reported */
    enum server_kind kind = transport->server->kind;
    bool fits = transport->method == TRANSPORT_LMTP ? kind == SERVER_LMTP || kind == SERVER_SMTP
                                                    : kind == SERVER_SMTP || kind == SERVER_LMTP;
    if (!fits) {
        config_problem(context->report, CONFIG_ERROR, "wrong-value", pair->value.place,
                       "\"%.*s\" is not a mail server", STR_ARG(transport->server_name))
            ->fix = STR("name a server with smtp or lmtp");
        return;
    }
    if (kind == SERVER_LMTP && transport->method == TRANSPORT_SERVER)
        transport->method = TRANSPORT_LMTP;
}

static void release_tls(void *object)
{
    tls_context_unref(object);
}

/* `trust_of`: a context with the system's certificates, if there is one. */
static void bind_tls(struct transport *transport, const struct tls_context *trust_of,
                     const struct config_node *node, const struct option_context *context)
{
    const struct config_pair *tls = config_get_pair(node, STR("tls"));
    if (transport->method != TRANSPORT_LOOKUP_MX) {
        if (tls)
            config_problem(context->report, CONFIG_ERROR, "wrong-key", tls->place,
                           "TLS towards a server is a setting of the server")
                ->fix = STR("move \"tls\" to the entry under \"servers\"");
        return;
    }
    if (transport->tls == SERVER_TLS_NONE)
        return;
    struct tls_client_settings settings = {
        .verify = transport->tls == SERVER_TLS_VERIFIED,
        .ca_path = STR_EMPTY,
        .min_version = transport->tls == SERVER_TLS_OPPORTUNISTIC ? 10 : 12,
        .trust_of = trust_of,
    };
    struct error err;
    if (tls_client_new(&settings, &transport->tls_context, &err) == FAILED)
        config_problem(context->report, CONFIG_ERROR, "tls", tls ? tls->place : transport->place,
                       "%s", err.text);
    else
        arena_hook(context->arena, release_tls, transport->tls_context);
}

/* Retries that `expire` cuts off are no error, but hardly meant. */
static void check_span(const struct transport *transport, const struct option_context *context)
{
    int64_t span_ns = 0, delay_ns;
    for (unsigned k = 1; (delay_ns = transport_retry_delay(transport, k)) >= 0; k++) {
        span_ns += delay_ns;
        if (span_ns <= transport->expire_ns)
            continue;
        config_problem(context->report, CONFIG_WARNING, "retry-beyond-expire", transport->place,
                       "mail expires before retry %u of %lld", k,
                       (long long)(transport->retry.count < 0
                                       ? (int64_t)transport->retry.delays.count
                                       : transport->retry.count))
            ->fix = STR("raise \"expire\", or lower \"count\"");
        return;
    }
}

/* Without any of its keys, as in a file that shows all defaults, there is no script. */
static void check_script(const struct transport *transport, const struct config_node *node,
                         const struct option_context *context)
{
    const struct transport_script *script = &transport->script;
    const struct config_pair *pair = config_get_pair(node, STR("script"));
    bool calls = script->before.len || script->after.len;
    if (pair && !script->file.len && (calls || script->servers.count))
        config_problem(context->report, CONFIG_ERROR, "missing-key", pair->place,
                       "the script has no file")
            ->fix = STR("add \"file: scripts/NAME.lua\"");
    else if (pair && script->file.len && !calls)
        config_problem(context->report, CONFIG_ERROR, "missing-key", pair->place,
                       "no function of the script is called")
            ->fix = STR("add \"before: FUNCTION\" or \"after: FUNCTION\"");
}

static void check_values(const struct transport *transport, const struct config_node *node,
                         const struct option_context *context)
{
    const struct config_node *source = config_get(node, STR("source_address"));
    struct net_ip ip;
    if (source && transport->source_address.len && !net_ip_parse(transport->source_address, &ip))
        config_problem(context->report, CONFIG_ERROR, "wrong-value", source->place,
                       "this is not an IP address")
            ->fix = STR("write an address of this host, without a port");
    const struct config_node *delays = config_get(config_get(node, STR("retry")), STR("delays"));
    if (delays && delays->kind == CONFIG_LIST && delays->count == 0 && transport->retry.count != 0)
        config_problem(context->report, CONFIG_ERROR, "empty-value", delays->place,
                       "there are no delays")
            ->fix = STR("write delays, or \"count: 0\" for no retries");
    check_script(transport, node, context);
    if (context->report->errors == 0)
        check_span(transport, context);
}

static void bind_transport(const struct config_pair *pair, const struct option_context *context,
                           const struct server *servers, size_t server_count,
                           const struct tls_context *trust_of, struct transport *transport)
{
    *transport = (struct transport){
        .name = pair->key, .place = pair->place, .method = UNSET, .direction = UNSET};
    size_t errors_before = context->report->errors;
    (void)!option_bind(&transport_options, &pair->value, NULL, context, transport);
    if (pair->value.kind != CONFIG_MAP)
        return;
    if (context->report->errors == errors_before || transport->method != UNSET ||
        !config_get(&pair->value, STR("method")))
        derive_method(transport, &pair->value, context);
    find_server(transport, &pair->value, context, servers, server_count);
    bind_tls(transport, trust_of, &pair->value, context);
    check_values(transport, &pair->value, context);
}

enum result transport_bind_all(const struct config_node *section,
                               const struct option_context *context, const struct server *servers,
                               size_t server_count, struct transport **out, size_t *out_count)
{
    size_t errors_before = context->report->errors;
    *out = NULL;
    *out_count = 0;
    if (!section)
        return OK;
    if (section->kind != CONFIG_MAP) {
        config_problem(context->report, CONFIG_ERROR, "wrong-type", section->place,
                       "a map of transports by name is wanted here")
            ->fix = STR("write NAME: { method: lookup-mx }");
        return FAILED;
    }
    struct transport *transports =
        arena_alloc_array(context->arena, section->count + 1, sizeof *transports);
    const struct tls_context *trust_of = server_find_trust(servers, server_count, STR_EMPTY);
    for (size_t i = 0; i < section->count; i++) {
        bind_transport(&section->pairs[i], context, servers, server_count, trust_of,
                       &transports[i]);
        if (transports[i].tls_context)
            trust_of = transports[i].tls_context;
    }
    *out = transports;
    *out_count = section->count;
    return context->report->errors == errors_before ? OK : FAILED;
}

const struct transport *transport_find(const struct transport *transports, size_t count,
                                       struct str name)
{
    for (size_t i = 0; i < count; i++) {
        if (str_equal(transports[i].name, name))
            return &transports[i];
    }
    return NULL;
}

const char *transport_direction_name(const struct transport *transport)
{
    return transport->direction == TRANSPORT_INBOUND ? "inbound" : "outbound";
}

int64_t transport_retry_delay(const struct transport *transport, unsigned k)
{
    const struct option_durations *delays = &transport->retry.delays;
    uint64_t count = transport->retry.count < 0 ? delays->count : (uint64_t)transport->retry.count;
    if (k == 0 || k > count || delays->count == 0)
        return -1;
    return delays->items[k <= delays->count ? k - 1 : delays->count - 1];
}
