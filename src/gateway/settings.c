/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/settings.c - loading a whole configuration, step by step, and its life. */
#include "gateway/settings.h"

#include "gateway/settings_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- life ---- */

static void release_map(void *object)
{
    map_done(object);
}

static struct settings *new_settings(void)
{
    struct arena *arena = arena_new(0);
    struct settings *settings = ARENA_NEW(arena, struct settings);
    settings->hidden = ARENA_NEW(arena, struct settings_private);
    settings->hidden->arena = arena;
    atomic_init(&settings->hidden->references, 1);
    map_init(&settings->hidden->domains);
    arena_hook(arena, release_map, &settings->hidden->domains);
    return settings;
}

struct settings *settings_ref(const struct settings *settings)
{
    atomic_fetch_add_explicit(&settings->hidden->references, 1, memory_order_relaxed);
    return (struct settings *)settings;
}

void settings_unref(const struct settings *settings)
{
    if (settings &&
        atomic_fetch_sub_explicit(&settings->hidden->references, 1, memory_order_acq_rel) == 1)
        arena_free(settings->hidden->arena);
}

static void release_settings(void *object)
{
    settings_unref(object);
}

/* ---- helpers of the steps ---- */

const struct config_node *settings_section(struct settings_loading *loading, const char *name)
{
    const struct config_node *node = config_get(loading->context.root, str_c(name));
    if (!node || node->kind == CONFIG_MAP)
        return node;
    if (!node->is_null)
        SETTINGS_ERROR(loading, "wrong-type", node->place, "\"%s\" is a map of names", name)->fix =
            STR("write NAME: and its settings, indented");
    else
        SETTINGS_ERROR(loading, "empty-value", node->place, "\"%s\" is empty", name)->fix =
            STR("give it entries, or remove the line");
    return NULL;
}

static void read_interfaces(struct settings_private *hidden)
{
    struct ifaddrs *list = NULL;
    size_t count = 0;
    if (getifaddrs(&list) != 0)
        return;
    for (const struct ifaddrs *at = list; at; at = at->ifa_next)
        count++;
    hidden->interfaces = arena_alloc_array(hidden->arena, count + 1, sizeof *hidden->interfaces);
    for (const struct ifaddrs *at = list; at; at = at->ifa_next) {
        if (!at->ifa_addr ||
            (at->ifa_addr->sa_family != AF_INET && at->ifa_addr->sa_family != AF_INET6))
            continue;
        struct sockaddr_storage storage = {0};
        if (at->ifa_addr->sa_family == AF_INET)
            *(struct sockaddr_in *)&storage = *(const struct sockaddr_in *)at->ifa_addr;
        else
            *(struct sockaddr_in6 *)&storage = *(const struct sockaddr_in6 *)at->ifa_addr;
        struct net_address address;
        net_address_from_sockaddr(&storage, &address);
        hidden->interfaces[hidden->interface_count++] = address.ip;
    }
    freeifaddrs(list);
}

/* ---- loading ---- */

static void bind_keys(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    signing_keys_bind(settings_section(loading, "dkim_keys"), &loading->context,
                      &settings->dkim_keys);
    for (size_t i = 0; i < settings->dkim_keys.count; i++)
        if (settings->dkim_keys.items[i].path.len)
            option_paths_add(&settings->files, loading->arena, settings->dkim_keys.items[i].path);
}

static void bind_webhooks(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    const struct webhook_neighbours neighbours = {.servers = settings->servers,
                                                  .server_count = settings->server_count,
                                                  .files = &settings->files};
    webhook_settings_bind(settings_section(loading, "webhooks"), &loading->context, &neighbours,
                          &settings->webhooks, &settings->webhook_count);
}

/* A transport that would have to convert what we signed: then it is converted before
 * (RFC 6376 5.3). */
static bool signs_seven_bit(const struct settings *settings)
{
    for (size_t i = 0; i < settings->transport_count; i++)
        if (settings->transports[i].eight_bit == TRANSPORT_EIGHT_BIT_CONVERT)
            return true;
    return false;
}

static void bind_flows(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    settings->signs_seven_bit = signs_seven_bit(settings);
    loading->flow_context = (struct flow_compile_context){
        .option = loading->context,
        .servers = settings->servers,
        .server_count = settings->server_count,
        .lists = settings->lists,
        .list_count = settings->list_count,
        .keys = &settings->dkim_keys,
        .files = &settings->files,
        .root = loading->context.root,
        .signs_seven_bit = settings->signs_seven_bit,
    };
    (void)!flow_compile_all(config_get(loading->context.root, STR("flows")), &loading->flow_context,
                            &settings->flows);
}

/* Scripts around attempts: the queue has read the rows, and knows no scripts. */
static void bind_attempt_scripts(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    settings->attempt_scripts = arena_alloc_array(loading->arena, settings->transport_count + 1,
                                                  sizeof(struct flow_attempt_script *));
    for (size_t i = 0; i < settings->transport_count; i++) {
        const struct transport *transport = &settings->transports[i];
        const struct transport_script *script = &transport->script;
        const struct config_node *node = config_get(
            config_get(config_get(loading->context.root, STR("transports")), transport->name),
            STR("script"));
        if (!script->file.len || !node)
            continue;
        const struct config_node *file = config_get(node, STR("file"));
        const struct config_node *before = config_get(node, STR("before"));
        const struct config_node *after = config_get(node, STR("after"));
        struct flow_attempt_options options = {
            .transport = transport->name,
            .file = script->file,
            .before = script->before,
            .after = script->after,
            .servers = script->servers,
            .memory = script->memory,
            .work = script->work,
            .time_ns = script->time_ns,
            .file_place = file ? file->place : node->place,
            .before_place = before ? before->place : node->place,
            .after_place = after ? after->place : node->place,
        };
        settings->attempt_scripts[i] = flow_attempt_compile(&loading->flow_context, &options);
    }
}

/* Everything behind the reading of the files. Each step goes on after errors of the one before. */
static void bind_all(struct settings_loading *loading)
{
    struct settings *settings = loading->settings;
    settings_expand(loading, &settings->hidden->root);
    settings_bind_top(loading);
    (void)!server_bind_all(settings_section(loading, "servers"), &loading->context,
                           &settings->servers, &settings->server_count);
    (void)!transport_bind_all(settings_section(loading, "transports"), &loading->context,
                              settings->servers, settings->server_count, &settings->transports,
                              &settings->transport_count);
    settings_bind_lists(loading);
    settings_bind_providers(loading);
    settings_bind_certificates(loading);
    settings_bind_quarantines(loading);
    bind_webhooks(loading);
    bind_keys(loading);
    bind_flows(loading);
    bind_attempt_scripts(loading);
    settings_bind_listeners(loading);
    settings_bind_trusted(loading);
    settings_bind_domains(loading);
    settings_check_relay(loading);
    settings_check_logins(loading);
    settings_check_unused(loading);
}

/* A process that confined itself cannot read a folder that was named later, whoever owns it. */
static void explain_confined(struct settings_loading *loading)
{
    const struct option_paths *paths = &loading->settings->paths;
    for (size_t i = 0; i < paths->count; i++) {
        const char *path = arena_c(loading->arena, paths->items[i]);
        if (access(path, R_OK) != 0)
            continue; /* for an everyday reason, which has been told */
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd >= 0)
            close(fd);
        else if (errno == EACCES)
            SETTINGS_ERROR(loading, "confined", loading->context.root->place,
                           "%s lies outside the folders that the running gateway may reach", path)
                ->fix = STR("restart posternd: it is confined at its start to what its "
                            "configuration names");
    }
}

/* Bind what was read into hidden->root, and hand it out if no error was found. */
static enum result finish(struct settings *settings, struct config_report *report, bool was_read,
                          struct settings **out_settings, struct error *err)
{
    struct settings_private *hidden = settings->hidden;
    struct settings_loading loading = {
        .settings = settings,
        .arena = hidden->arena,
        .report = report,
        .context = {.arena = hidden->arena,
                    .report = report,
                    .root = &hidden->root,
                    .paths = &settings->paths},
    };
    /* places in the report point into the tree: it stays as long as the report */
    arena_hook(report->arena, release_settings, settings);
    if (was_read)
        bind_all(&loading);
    if (report->errors)
        explain_confined(&loading);
    if (report->errors)
        return fail(err, ERROR_PERMANENT, "the configuration has %zu error%s", report->errors,
                    report->errors == 1 ? "" : "s");
    *out_settings = settings_ref(settings);
    return OK;
}

/* A warning: the file may be checked on another host than the one that it is for. */
static void check_user(const struct settings *settings, struct config_report *report)
{
    char name[64];
    char space[4096];
    struct passwd entry;
    struct passwd *found = NULL;
    const struct config_node *node = config_get(&settings->hidden->root, STR("user"));
    if (!node || !str_to_c(settings->user, name, sizeof name))
        return;
    getpwnam_r(name, &entry, space, sizeof space, &found);
    if (!found)
        config_problem(report, CONFIG_WARNING, "unknown-user", node->place,
                       "there is no user %s on this host: posternd, started as root, ends", name)
            ->fix = STR("make it with adduser --system, or name another");
}

enum result settings_load(const char *path, struct config_report *report,
                          struct settings **out_settings, struct error *err)
{
    struct settings *settings = new_settings();
    read_interfaces(settings->hidden);
    enum result read = config_load(path, settings->hidden->arena, report, &settings->hidden->root);
    bool usable = read == OK || settings->hidden->root.count > 0;
    enum result result = finish(settings, report, usable, out_settings, err);
    if (usable)
        check_user(settings, report);
    return result;
}

enum result settings_load_texts(const struct config_texts *texts, struct config_report *report,
                                struct settings **out_settings, struct error *err)
{
    struct settings *settings = new_settings();
    struct arena *arena = settings->hidden->arena;
    struct config_texts copies = {
        .items = arena_alloc_array(arena, texts->count + 1, sizeof(struct config_text)),
        .count = texts->count};
    for (size_t i = 0; i < texts->count; i++)
        copies.items[i] = (struct config_text){.name = arena_str(arena, texts->items[i].name),
                                               .text = arena_str(arena, texts->items[i].text),
                                               .folder = arena_str(arena, texts->items[i].folder)};
    read_interfaces(settings->hidden);
    enum result read = config_load_texts(&copies, arena, report, &settings->hidden->root);
    bool usable = read == OK || settings->hidden->root.count > 0;
    return finish(settings, report, usable, out_settings, err);
}

enum result settings_load_text(struct str name, struct str text, struct config_report *report,
                               struct settings **out_settings, struct error *err)
{
    struct settings *settings = new_settings();
    enum result read =
        config_load_text(name, text, settings->hidden->arena, report, &settings->hidden->root);
    bool usable = settings->hidden->root.kind == CONFIG_MAP &&
                  (read == OK || settings->hidden->root.count > 0);
    if (!usable && !report->errors)
        config_problem(report, CONFIG_ERROR, "wrong-type", settings->hidden->root.place,
                       "a configuration is a map of sections");
    return finish(settings, report, usable, out_settings, err);
}

/* ---- finding ---- */

const struct settings_listener *settings_find_listener(const struct settings *settings,
                                                       struct str name)
{
    for (size_t i = 0; i < settings->listener_count; i++) {
        if (str_equal(settings->listeners[i].name, name))
            return &settings->listeners[i];
    }
    return NULL;
}

const struct transport *settings_find_transport(const struct settings *settings, struct str name)
{
    return transport_find(settings->transports, settings->transport_count, name);
}
