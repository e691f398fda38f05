/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/settings.h"

#include "base/clock.h"
#include "base/memory.h"
#include "net/secret.h"
#include "net/tls.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define AT(member) offsetof(struct webhook_settings, member)

static const struct option_word payload_words[] = {
    {"thin", WEBHOOK_THIN}, {"full", WEBHOOK_FULL}, {0}};

static const struct option rows[] = {
    {.name = "url",
     .type = OPTION_TEXT,
     .offset = AT(url),
     .text = "where events are sent by POST: https://, or http:// on this host. Its path is never "
             "shown, for with some services it is the secret",
     .required = true},
    {.name = "secret_file",
     .type = OPTION_TEXTS,
     .offset = AT(secret_files),
     .text = "file with the secret that signs: `whsec_` and base64 of 24 to 64 random bytes. While "
             "it changes, a list of two, the new one first",
     .required = true},
    {.name = "events",
     .type = OPTION_TEXTS,
     .offset = AT(events),
     .text = "names of events; `delivery.*` is all of a family, `*` all but those of severity "
             "debug. Those about webhooks are never sent"},
    {.name = "q",
     .type = OPTION_TEXT,
     .offset = AT(expression),
     .text = "an expression as of `postern tail`, all of which must fit an event; in place of "
             "`events` or beside it"},
    {.name = "payload",
     .type = OPTION_WORD,
     .offset = AT(payload),
     .text = "`thin`: ids, names and closed words only, to ask the API with; `full`: all fields of "
             "the event, addresses and what others wrote among them",
     .fallback = "thin",
     .words = payload_words},
    {.name = "timeout",
     .type = OPTION_DURATION,
     .offset = AT(timeout_ns),
     .text = "longest wait for an answer",
     .fallback = "20s",
     .min = NS_PER_S,
     .max = 60 * NS_PER_S},
    {.name = "concurrency",
     .type = OPTION_INT,
     .offset = AT(concurrency),
     .text = "requests at a time",
     .fallback = "2",
     .min = 1,
     .max = WEBHOOK_CONCURRENCY_MAX},
    {.name = "give_up",
     .type = OPTION_DURATION,
     .offset = AT(give_up_ns),
     .text = "how long a delivery is tried, from its event on",
     .fallback = "3d",
     .min = 60 * NS_PER_S,
     .max = 30 * INT64_C(86400) * NS_PER_S},
    {.name = "waiting",
     .type = OPTION_INT,
     .offset = AT(waiting),
     .text = "deliveries that wait at most; the oldest are dropped, counted and told of",
     .fallback = "10000",
     .min = 10,
     .max = 1000000},
    {.name = "size",
     .type = OPTION_SIZE,
     .offset = AT(size),
     .text = "what they take at most, likewise",
     .fallback = "16M",
     .min = 256 << 10,
     .max = INT64_C(1) << 30},
    {.name = "ca_file",
     .type = OPTION_PATH,
     .offset = AT(ca_file),
     .text = "certificates that are trusted in place of the system's"},
    {.name = "allow_cleartext",
     .type = OPTION_BOOL,
     .offset = AT(allow_cleartext),
     .text = "http:// to another host: whoever is on the way reads along",
     .fallback = "false"},
    {0},
};
const struct option_table webhook_options = {
    .name = "webhooks.*",
    .text = "Events are sent to a web service, signed (Standard Webhooks).",
    .options = rows,
    .size = sizeof(struct webhook_settings),
};

struct binding {
    struct webhook_settings *webhook;
    const struct option_context *context;
    const struct webhook_neighbours *neighbours;
};

static struct config_place place_of(const struct binding *binding, const char *key)
{
    const struct config_node *value = config_get(binding->webhook->node, str_c(key));
    return value ? value->place : binding->webhook->place;
}

#define PROBLEM(binding, severity, code, key, ...)                                                 \
    config_problem((binding)->context->report, severity, code, place_of(binding, key), __VA_ARGS__)

/* ---- the name: a label of metrics and a part of paths ---- */

static bool is_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '_' && c != '.')
            return false;
    }
    return name.len > 0 && name.len <= WEBHOOK_NAME_MAX;
}

/* ---- where ---- */

static bool is_clean(struct str url)
{
    for (size_t i = 0; i < url.len; i++)
        if (url.ptr[i] <= ' ' || url.ptr[i] > '~' || url.ptr[i] == '#')
            return false;
    return url.len <= 2000;
}

static bool is_loopback(const struct server_endpoint *endpoint)
{
    const struct server one = {.endpoints = (struct server_endpoint *)endpoint,
                               .endpoint_count = 1};
    return server_is_loopback(&one);
}

static struct str origin_of(struct str url)
{
    size_t scheme = (size_t)str_find_str(url, STR("://")) + 3;
    ptrdiff_t slash = str_find(str_from(url, scheme), '/');
    return slash < 0 ? url : str_slice(url, 0, scheme + (size_t)slash);
}

static void bind_url(const struct binding *binding)
{
    struct webhook_settings *webhook = binding->webhook;
    if (!webhook->url.len)
        return;
    bool parsed = is_clean(webhook->url) && server_parse_url(webhook->url, &webhook->endpoint);
    if (!parsed && str_find(webhook->url, '@') >= 0) {
        PROBLEM(binding, CONFIG_ERROR, "secret-inline", "url", "secrets do not stand in this file")
            ->fix = STR("leave user and password out of the URL: the signature says who we are");
        return;
    }
    if (!parsed) {
        PROBLEM(binding, CONFIG_ERROR, "wrong-value", "url", "this is not the URL of a web service")
            ->fix = STR("write https://HOST/PATH");
        return;
    }
    webhook->origin = origin_of(webhook->url);
    if (str_starts(webhook->url, STR("https://")) || is_loopback(&webhook->endpoint))
        return;
    if (webhook->allow_cleartext)
        PROBLEM(binding, CONFIG_WARNING, "clear-text", "url",
                "events go to %.*s in the clear: whoever is on the way reads along",
                STR_ARG(webhook->endpoint.host));
    else
        PROBLEM(binding, CONFIG_ERROR, "clear-text", "url",
                "http:// to another host: whoever is on the way reads along")
            ->fix = STR("write https://, or add allow_cleartext: true");
}

static void release_tls(void *object)
{
    tls_context_unref(object);
}

/* Certificates that another trusts, from the same file, are not read twice. */
static const struct tls_context *find_trust(const struct binding *binding,
                                            const struct webhook_settings *before)
{
    struct str ca_file = binding->webhook->ca_file;
    for (; before < binding->webhook; before++)
        if (before->tls && str_equal(before->ca_file, ca_file))
            return before->tls;
    return server_find_trust(binding->neighbours->servers, binding->neighbours->server_count,
                             ca_file);
}

static void bind_tls(const struct binding *binding, const struct webhook_settings *first)
{
    struct webhook_settings *webhook = binding->webhook;
    struct error err;
    if (!webhook->origin.len || !str_starts(webhook->url, STR("https://")))
        return;
    struct str ca_file = webhook->ca_file;
    if (ca_file.len && access(arena_c(binding->context->arena, ca_file), R_OK) != 0) {
        PROBLEM(binding, CONFIG_ERROR, "unreadable", "ca_file", "%.*s: %s", STR_ARG(ca_file),
                strerror(errno));
        return;
    }
    const struct tls_client_settings settings = {.verify = true,
                                                 .ca_path = ca_file,
                                                 .min_version = 12,
                                                 .trust_of = find_trust(binding, first)};
    if (tls_client_new(&settings, &webhook->tls, &err) != OK)
        PROBLEM(binding, CONFIG_ERROR, "tls", "ca_file", "%s", err.text);
    else
        arena_hook(binding->context->arena, release_tls, webhook->tls);
}

/* ---- secrets ---- */

static void wipe_secrets(void *object)
{
    struct webhook_settings *webhook = object;
    memory_wipe(webhook->secrets, sizeof webhook->secrets);
}

static void bind_secret(const struct binding *binding, const struct config_node *node)
{
    struct webhook_settings *webhook = binding->webhook;
    struct arena *arena = binding->context->report->arena;
    struct str path = STR_EMPTY, text = STR_EMPTY;
    size_t errors = binding->context->report->errors;
    if (!option_read_path(node, binding->context, &path))
        return;
    option_paths_add(binding->neighbours->files, binding->context->arena, path);
    secret_read(path, node, binding->context, &text);
    if (binding->context->report->errors > errors) {
        struct config_report *report = binding->context->report;
        struct str *fix = &report->problems[report->count - 1].fix;
        if (fix->len == 0)
            *fix = arena_printf(
                arena, "make one: (umask 077; echo \"whsec_$(openssl rand -base64 32)\" > %.*s)",
                STR_ARG(path));
        return;
    }
    if (webhook_secret_parse(text, &webhook->secrets[webhook->secret_count]))
        webhook->secret_count++;
    else
        config_problem(binding->context->report, CONFIG_ERROR, "wrong-value", node->place,
                       "%.*s: this is no secret: whsec_ and base64 of %d to %d bytes",
                       STR_ARG(path), WEBHOOK_SECRET_LEAST, WEBHOOK_SECRET_MOST)
            ->fix = STR("make one: echo \"whsec_$(openssl rand -base64 32)\"");
}

static void bind_secrets(const struct binding *binding)
{
    struct webhook_settings *webhook = binding->webhook;
    const struct config_node *node = config_get(webhook->node, STR("secret_file"));
    arena_hook(binding->context->arena, wipe_secrets, webhook);
    if (!node || !webhook->secret_files.count) /* told already */
        return;
    if (webhook->secret_files.count > WEBHOOK_SECRETS_MAX) {
        PROBLEM(binding, CONFIG_ERROR, "wrong-value", "secret_file",
                "at most two secrets, the new one first");
        return;
    }
    if (node->kind != CONFIG_LIST) {
        bind_secret(binding, node);
        return;
    }
    for (size_t i = 0; i < node->count; i++)
        bind_secret(binding, &node->items[i]);
}

/* ---- which events ---- */

static void bind_word(const struct binding *binding, struct str word, struct config_place place)
{
    struct config_report *report = binding->context->report;
    size_t count;
    struct config_problem *problem;
    switch (webhook_choice_add(&binding->webhook->choice, word)) {
    case WEBHOOK_WORD_TAKEN:
        return;
    case WEBHOOK_WORD_OF_OWN:
        config_problem(report, CONFIG_ERROR, "wrong-value", place,
                       "events about webhooks are not sent by webhooks: one that failed would make "
                       "the next")
            ->fix = STR("watch the log for them, or the metric postern_webhook_pending");
        return;
    case WEBHOOK_WORD_UNKNOWN:
        break;
    }
    const struct str *names = webhook_choice_names(report->arena, &count);
    problem = config_problem(report, CONFIG_ERROR, "unknown-event", place,
                             "there is no event \"%.*s\"", STR_ARG(str_slice(word, 0, 100)));
    config_suggest(problem, report->arena, word, names, count,
                   STR("all of them: postern docs events"));
}

static void bind_choice(const struct binding *binding)
{
    struct webhook_settings *webhook = binding->webhook;
    struct error err;
    for (size_t i = 0; i < webhook->events.count; i++)
        bind_word(binding, webhook->events.items[i], webhook->events.places[i]);
    if (webhook->expression.len) {
        if (webhook_choice_filter(&webhook->choice, webhook->expression, webhook->events.count == 0,
                                  binding->context->arena, &err) != OK)
            PROBLEM(binding, CONFIG_ERROR, "wrong-value", "q", "%s", err.text);
    } else if (webhook->events.count == 0) {
        PROBLEM(binding, CONFIG_ERROR, "missing-key", "events",
                "nothing says which events are sent")
            ->fix = STR("add events: [ message.rejected, \"delivery.*\" ], or q:");
    }
}

/* ---- the section ---- */

static void bind_one(const struct config_pair *pair, const struct binding *binding,
                     const struct webhook_settings *first)
{
    struct webhook_settings *webhook = binding->webhook;
    webhook->name = pair->key;
    webhook->place = pair->place;
    webhook->node = &pair->value;
    if (!is_name(webhook->name))
        config_problem(binding->context->report, CONFIG_ERROR, "wrong-value", pair->place,
                       "the name of a webhook: 1 to %d letters, digits, \"-\", \"_\" and \".\"",
                       WEBHOOK_NAME_MAX);
    (void)!option_bind(&webhook_options, webhook->node, NULL, binding->context, webhook);
    if (webhook->node->kind != CONFIG_MAP)
        return;
    bind_url(binding);
    bind_tls(binding, first);
    bind_secrets(binding);
    bind_choice(binding);
}

void webhook_settings_bind(const struct config_node *section, const struct option_context *context,
                           const struct webhook_neighbours *neighbours,
                           struct webhook_settings **out, size_t *out_count)
{
    if (!section)
        return;
    if (section->count > WEBHOOKS_MAX) {
        config_problem(context->report, CONFIG_ERROR, "wrong-value", section->place,
                       "at most %d webhooks", WEBHOOKS_MAX);
        return;
    }
    struct webhook_settings *webhooks =
        arena_alloc_array(context->arena, section->count + 1, sizeof *webhooks);
    for (size_t i = 0; i < section->count; i++) {
        const struct binding binding = {&webhooks[i], context, neighbours};
        bind_one(&section->pairs[i], &binding, webhooks);
    }
    *out = webhooks;
    *out_count = section->count;
}
