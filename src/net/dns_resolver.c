/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_resolver.h"

#include "base/check.h"
#include "base/memory.h"
#include "fiber/loop.h"
#include "net/dns_event.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLASS_IN = 1, SEC_BOGUS = 1, SEC_SECURE = 2 };

/* The keys of the root, should the system have no file of them (IANA, key tags of 2017 and 2024).
 */
static const char *const root_anchors[] = {
    ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
    ". IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16",
};
static const char *const anchor_files[] = {"/usr/share/dns/root.key", "/var/lib/unbound/root.key"};

/*
 * A question under way. It outlives a waiter that gave up: libunbound holds a pointer to it until
 * it calls back.
 */
struct query {
    struct list link;
    struct fiber *waiter; /* NULL: given up */
    bool done;
    bool cached; /* answered while it was asked */
    int rcode, security;
    char *packet;
    size_t size;
    char why_bogus[128];
};

struct dns_resolver {
    struct dns_event_base base;
    struct ub_ctx *unbound;
    int64_t timeout_ns;
    struct list queries;
};

/* ---- set up ---- */

static enum result set_options(struct ub_ctx *unbound, struct error *err)
{
    static const struct {
        const char *name, *value;
    } options[] = {
        {"do-not-query-localhost:", "no"},
        {"use-syslog:", "no"},
        {"msg-cache-size:", "4m"},
        {"rrset-cache-size:", "8m"},
        {"cache-max-negative-ttl:", "900"},
        {"outgoing-range:", "128"},
        {"outgoing-num-tcp:", "16"},
        /* a server that was down is noticed again at once, not after a quarter of an hour */
        {"infra-keep-probing:", "yes"},
        {"infra-host-ttl:", "60"},
        {"use-caps-for-id:", "yes"},
        /* names of private addresses are for our servers to answer */
        {"unblock-lan-zones:", "yes"},
        {"insecure-lan-zones:", "yes"},
        {"minimal-responses:", "yes"},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        int code = ub_ctx_set_option(unbound, options[i].name, options[i].value);
        if (code)
            return fail(err, ERROR_PERMANENT, "DNS library: %s %s: %s", options[i].name,
                        options[i].value, ub_strerror(code));
    }
    return OK;
}

static enum result set_servers(struct ub_ctx *unbound, const struct dns_settings *settings,
                               struct error *err)
{
    for (size_t i = 0; i < settings->server_count; i++) {
        char ip[NET_IP_TEXT], text[NET_IP_TEXT + 8];
        const struct net_address *server = &settings->servers[i];
        snprintf(text, sizeof text, "%s@%u", net_ip_format(&server->ip, ip).ptr, server->port);
        int code = ub_ctx_set_fwd(unbound, text);
        if (code)
            return fail(err, ERROR_PERMANENT, "DNS server %s: %s", text, ub_strerror(code));
    }
    if (settings->server_count)
        return OK;
    /* as resolv.conf(5) says: without the file it is the name server of this machine */
    if (ub_ctx_resolvconf(unbound, NULL) != 0 && ub_ctx_set_fwd(unbound, "127.0.0.1") != 0)
        return fail(err, ERROR_PERMANENT, "no usable DNS server in /etc/resolv.conf");
    (void)ub_ctx_hosts(unbound, NULL); /* no such file, no such names */
    return OK;
}

static enum result set_anchor(struct ub_ctx *unbound, struct str file, struct error *err)
{
    char path[4096];
    if (file.len) {
        if (!str_to_c(file, path, sizeof path) || access(path, R_OK) != 0 ||
            ub_ctx_add_ta_file(unbound, path) != 0)
            return fail(err, ERROR_PERMANENT, "cannot read the trust anchor %.*s", STR_ARG(file));
        return OK;
    }
    for (size_t i = 0; i < sizeof anchor_files / sizeof anchor_files[0]; i++)
        if (access(anchor_files[i], R_OK) == 0 && ub_ctx_add_ta_file(unbound, anchor_files[i]) == 0)
            return OK;
    for (size_t i = 0; i < sizeof root_anchors / sizeof root_anchors[0]; i++)
        if (ub_ctx_add_ta(unbound, root_anchors[i]) != 0)
            return fail(err, ERROR_PERMANENT, "cannot use the root's trust anchor");
    return OK;
}

static enum result set_validation(struct ub_ctx *unbound, const struct dns_settings *settings,
                                  struct error *err)
{
    bool validate = settings->dnssec == DNS_DNSSEC_VALIDATE;
    const char *modules = validate ? "validator iterator" : "iterator";
    if (ub_ctx_set_option(unbound, "module-config:", modules) != 0)
        return fail(err, ERROR_PERMANENT, "DNS library: cannot choose its modules");
    return validate ? set_anchor(unbound, settings->trust_anchor_file, err) : OK;
}

static void ignore_answer(void *arg, int rcode, void *packet, int size, int security, char *why,
                          int limited)
{
    (void)arg, (void)rcode, (void)packet, (void)size, (void)security, (void)why, (void)limited;
}

/*
 * The first question makes libunbound read its files and open what it needs; later the process may
 * be confined. This one is answered without the network.
 */
static enum result warm_up(struct ub_ctx *unbound, struct error *err)
{
    /* names inside a site are for its servers too; removing ends the setting of options */
    int code = ub_ctx_zone_remove(unbound, "test.");
    if (!code)
        code = ub_ctx_zone_remove(unbound, "home.arpa.");
    if (!code)
        code = ub_resolve_event(unbound, "localhost.", DNS_A, CLASS_IN, NULL, ignore_answer, NULL);
    if (code)
        return fail(err, ERROR_PERMANENT, "DNS library: %s", ub_strerror(code));
    return OK;
}

struct set_up {
    struct dns_resolver *resolver;
    const struct dns_settings *settings;
    struct error *err;
    enum result result;
};

/* The library's first context sets up what all share, without a lock: one worker at a time. */
static pthread_mutex_t set_up_lock = PTHREAD_MUTEX_INITIALIZER;

static void set_up(void *arg)
{
    struct set_up *job = arg;
    struct dns_resolver *resolver = job->resolver;
    job->result = FAILED;
    resolver->unbound = ub_ctx_create_ub_event(&resolver->base.ub);
    if (!resolver->unbound) {
        (void)fail(job->err, ERROR_TEMPORARY, "DNS library: cannot start");
        return;
    }
    (void)ub_ctx_debugout(resolver->unbound, NULL);
    if (set_options(resolver->unbound, job->err) == OK &&
        set_servers(resolver->unbound, job->settings, job->err) == OK &&
        set_validation(resolver->unbound, job->settings, job->err) == OK)
        job->result = warm_up(resolver->unbound, job->err);
}

enum result dns_resolver_new(struct loop *loop, const struct dns_settings *settings,
                             struct dns_resolver **out_resolver, struct error *err)
{
    check(loop == loop_current());
    struct dns_resolver *resolver = NEW(struct dns_resolver);
    dns_event_base_init(&resolver->base);
    list_init(&resolver->queries);
    resolver->timeout_ns = settings->timeout_ns ? settings->timeout_ns : 10 * NS_PER_S;
    struct set_up job = {resolver, settings, err, FAILED};
    pthread_mutex_lock(&set_up_lock);
    fiber_on_loop_stack(set_up, &job);
    pthread_mutex_unlock(&set_up_lock);
    if (job.result == FAILED) {
        dns_resolver_free(resolver);
        return FAILED;
    }
    *out_resolver = resolver;
    return OK;
}

static void free_query(struct query *query)
{
    list_remove(&query->link);
    free(query->packet);
    free(query);
}

static void tear_down(void *arg)
{
    struct dns_resolver *resolver = arg;
    if (resolver->unbound)
        ub_ctx_delete(resolver->unbound); /* may call back for what is under way */
    dns_event_base_done(&resolver->base);
}

void dns_resolver_free(struct dns_resolver *resolver)
{
    if (!resolver)
        return;
    fiber_on_loop_stack(tear_down, resolver);
    LIST_EACH (&resolver->queries, link) {
        struct query *query = CONTAINER(link, struct query, link);
        check(!query->waiter);
        free_query(query);
    }
    free(resolver);
}

/* ---- asking ---- */

static void on_answer(void *arg, int rcode, void *packet, int size, int security, char *why,
                      int limited)
{
    (void)limited;
    struct query *query = arg;
    if (!query->waiter) {
        free_query(query);
        return;
    }
    query->done = true;
    query->rcode = rcode;
    query->security = security;
    if (why)
        snprintf(query->why_bogus, sizeof query->why_bogus, "%s", why);
    if (rcode == 0 && size > 0) {
        query->packet = memory_alloc((size_t)size);
        query->size = (size_t)size;
        memcpy(query->packet, packet, query->size);
    }
    fiber_wake(query->waiter);
}

struct start {
    struct dns_resolver *resolver;
    const char *name;
    const enum dns_type *types;
    size_t count;
    struct query **queries;
};

static void start_queries(void *arg)
{
    struct start *job = arg;
    for (size_t i = 0; i < job->count; i++) {
        struct query *query = job->queries[i];
        /* what is cached calls back before this returns */
        int code = ub_resolve_event(job->resolver->unbound, job->name, (int)job->types[i], CLASS_IN,
                                    query, on_answer, NULL);
        query->cached = query->done;
        if (code && !query->done) {
            query->done = true;
            query->rcode = -1;
            snprintf(query->why_bogus, sizeof query->why_bogus, "%s", ub_strerror(code));
        }
    }
}

static bool all_done(struct query *const *queries, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!queries[i]->done)
            return false;
    return true;
}

/* FAILED: by the fiber's own scopes. A question that takes too long is merely not done. */
static MAY_YIELD enum result await(const struct dns_resolver *resolver,
                                   struct query *const *queries, size_t count, struct error *err)
{
    struct scope scope;
    enum result result = OK;
    scope_open(&scope, clock_deadline(resolver->timeout_ns));
    while (result == OK && !all_done(queries, count))
        result = fiber_suspend(NULL);
    scope_close(&scope);
    return result == OK ? OK : fiber_check(err);
}

static void clean_text(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = ' ';
}

static enum result judge(struct query *query, struct str name, enum dns_type type,
                         struct arena *arena, struct dns_reply *out, struct error *err)
{
    if (!query->done)
        return fail(err, ERROR_TIMEOUT, "no DNS server answered in time");
    clean_text(query->why_bogus);
    if (query->rcode < 0)
        return fail(err, ERROR_TEMPORARY, "DNS: %s", query->why_bogus);
    if (query->rcode)
        return fail(err, ERROR_TEMPORARY, "no answer from the DNS servers (%s)",
                    query->rcode == 2   ? "SERVFAIL"
                    : query->rcode == 5 ? "REFUSED"
                                        : "error");
    if (query->security == SEC_BOGUS)
        return fail(err, ERROR_TEMPORARY, "the DNS answer is forged or wrongly signed: %s",
                    query->why_bogus);
    out->secure = query->security == SEC_SECURE;
    return dns_answer_parse((struct str){query->packet, query->size}, name, type, arena,
                            &out->answer, err);
}

enum result dns_resolver_ask(struct dns_resolver *resolver, struct str name,
                             const enum dns_type *types, size_t count, struct arena *arena,
                             struct dns_reply *out_replies, struct error *err)
{
    struct query *queries[DNS_TYPES_AT_ONCE];
    char text[DNS_NAME_TEXT + 1];
    check(count <= DNS_TYPES_AT_ONCE && str_to_c(name, text, sizeof text));
    for (size_t i = 0; i < count; i++) {
        queries[i] = NEW(struct query);
        queries[i]->waiter = fiber_current();
        list_append(&resolver->queries, &queries[i]->link);
    }
    struct start start = {resolver, text, types, count, queries};
    fiber_on_loop_stack(start_queries, &start);
    enum result result = await(resolver, queries, count, err);
    for (size_t i = 0; i < count; i++) {
        out_replies[i] = (struct dns_reply){.cached = queries[i]->cached};
        if (result == OK && judge(queries[i], name, types[i], arena, &out_replies[i],
                                  &out_replies[i].why) == FAILED)
            out_replies[i].failed = true;
        if (queries[i]->done)
            free_query(queries[i]);
        else
            queries[i]->waiter = NULL;
    }
    return result;
}
