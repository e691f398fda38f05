/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/child.h"

#include "admin/access.h"
#include "admin/once.h"
#include "admin/change.h"
#include "admin/domain_watch.h"
#include "admin/http.h"
#include "admin/log.h"
#include "history/store.h"
#include "admin/metrics.h"
#include "admin/quarantine.h"
#include "admin/reports.h"
#include "history/tail.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/map.h"
#include "daemon/child_internal.h"
#include "daemon/sandbox.h"
#include "daemon/link.h"
#include "daemon/poison.h"
#include "daemon/problems.h"
#include "event/event.h"
#include "fiber/fiber.h"
#include "gateway/gateway.h"
#include "gateway/settings.h"
#include "webhook/webhooks.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DRAIN_S = 30,      /* for sessions and running attempts after SIGTERM */
    REFRESH_TURNS = 3, /* seconds between looks at certificate files */
    FILES_TURNS = 5,   /* and at files that the configuration names: lists, domains */
};

static const struct event_context *context_of_fiber(void)
{
    return fiber_current() ? fiber_context() : NULL;
}

/* ---- sockets ---- */

static void close_sockets(struct child_sockets *set)
{
    for (size_t i = 0; i < set->count; i++)
        close(set->fds[i]);
    set->count = 0;
}

/* One packet back for each address asked for, also after a failure. */
static enum result receive_sockets(struct child *child, size_t count, struct child_sockets *out,
                                   struct error *err)
{
    enum result result = OK;
    for (size_t i = 0; i < count; i++) {
        static struct link_packet packet;
        int fd = -1;
        if (link_receive(child->options->link, &packet, &fd, err) != OK)
            return FAILED;
        if (fd >= 0)
            out->fds[out->count++] = fd;
        else
            result = fail(err, ERROR_PERMANENT, "%s", packet.text);
    }
    return result;
}

enum result child_ask_for_sockets(struct child *child, const struct settings *settings,
                                  struct child_sockets *out, struct error *err)
{
    static struct link_packet packet;
    packet = (struct link_packet){.kind = LINK_WANT};
    *out = (struct child_sockets){0};
    for (size_t i = 0; i < settings->listener_count; i++) {
        for (size_t k = 0; k < settings->listeners[i].address_count; k++) {
            check(packet.count < SETTINGS_ADDRESSES_MAX); /* those who loaded them counted */
            packet.addresses[packet.count++] = settings->listeners[i].addresses[k];
        }
    }
    if (link_send(child->options->link, &packet, -1, err) != OK)
        return FAILED;
    if (receive_sockets(child, packet.count, out, err) == OK)
        return OK;
    close_sockets(out);
    return FAILED;
}

static void tell(struct child *child, enum link_kind kind)
{
    static struct link_packet packet;
    packet = (struct link_packet){.kind = (int)kind};
    struct error err;
    if (link_send(child->options->link, &packet, -1, &err) != OK)
        event_emit(EVENT_DAEMON_WARNING, F_C(DETAIL, err.text));
}

static void tell_listeners(const struct settings *settings)
{
    for (size_t i = 0; i < settings->listener_count; i++) {
        for (size_t k = 0; k < settings->listeners[i].address_count; k++) {
            char text[NET_ADDRESS_TEXT];
            struct str address = net_address_format(&settings->listeners[i].addresses[k], text);
            event_emit(EVENT_LISTENER_OPEN, F_STR(LISTENER, settings->listeners[i].name),
                       F_STR(ADDRESS, address));
        }
    }
}

/* ---- settings ---- */

/* A number that changes when one of the files that the settings were read from does. */
static uint64_t files_state(const struct settings *settings)
{
    uint64_t state = 0;
    for (size_t i = 0; i < settings->files.count; i++) {
        char path[4096];
        struct stat seen = {0};
        if (str_to_c(settings->files.items[i], path, sizeof path))
            stat(path, &seen); /* a file that is gone has the state of zeroes */
        struct {
            uint64_t before;
            int64_t inode, size, seconds, nanoseconds;
        } facts = {state, (int64_t)seen.st_ino, seen.st_size, seen.st_mtim.tv_sec,
                   seen.st_mtim.tv_nsec};
        state = hash_bytes(str_of((const char *)&facts, sizeof facts));
    }
    return state;
}

static void show_revision(struct child *child)
{
    char revision[16];
    snprintf(revision, sizeof revision, "r%u", child->settings->revision);
    admin_log_set_revision(child->log, str_c(revision));
}

static void let_settings_go(void *settings)
{
    settings_unref(settings);
}

static void use_webhooks(struct child *child, const struct settings *settings)
{
    const struct webhook_set set = {.items = settings->webhooks,
                                    .count = settings->webhook_count,
                                    .keeper = settings_ref(settings),
                                    .release = let_settings_go};
    webhooks_use(child->webhooks, &set);
}

void child_use(struct child *child, struct settings *settings, struct child_sockets *sockets)
{
    gateway_apply(child->gateway, settings, sockets->fds, sockets->count);
    close_sockets(sockets);
    tell(child, LINK_READY);
    settings_unref(child->settings);
    child->settings = settings;
    child->files_state = files_state(settings);
    use_webhooks(child, settings);
    show_revision(child);
    tell_listeners(settings);
}

/* ---- what it may still do ---- */

enum { NAMED_SETS = 3, WRITABLE_MAX = 4 };

static struct str folder_of(struct str path)
{
    ptrdiff_t slash = str_find_last(path, '/');
    return slash > 0 ? str_slice(path, 0, (size_t)slash) : STR_EMPTY;
}

/* What the configuration in force, the one to return to and the one on trial name. */
static struct sandbox sandbox_of(const struct child *child, struct arena *arena)
{
    const struct settings *sets[NAMED_SETS] = {child->settings, child->former, child->trial};
    const struct settings *settings = child->settings;
    const char *credentials = getenv("CREDENTIALS_DIRECTORY"); /* keys of quarantines, perhaps */
    size_t count = 2;
    for (size_t i = 0; i < NAMED_SETS; i++)
        count += sets[i] ? sets[i]->paths.count : 0;
    struct str *readable = arena_alloc_array(arena, count, sizeof *readable);
    struct str *writable = arena_alloc_array(arena, WRITABLE_MAX, sizeof *writable);
    count = 0;
    readable[count++] = str_c(child->options->config_path);
    if (credentials)
        readable[count++] = str_c(credentials);
    for (size_t i = 0; i < NAMED_SETS; i++)
        for (size_t k = 0; sets[i] && k < sets[i]->paths.count; k++)
            readable[count++] = sets[i]->paths.items[k];
    writable[0] = settings->spool.path;
    writable[1] = settings->events.path;
    writable[2] = folder_of(settings->log.path);
    writable[3] = folder_of(settings->control.socket);
    return (struct sandbox){readable, count, writable, WRITABLE_MAX};
}

/* Before the first thread, as neither kind of rule reaches threads that run already. */
static enum result confine_child(struct child *child, struct error *err)
{
    if (child->options->unconfined)
        return OK;
    struct arena *arena = arena_new(0);
    char spool[4096];
    /* a history larger than memory is sorted there: the usual places are closed */
    if (str_to_c(child->settings->spool.path, spool, sizeof spool))
        setenv("SQLITE_TMPDIR", spool, 1);
    struct sandbox wanted = sandbox_of(child, arena);
    enum result result = sandbox_enter(&wanted, &child->confined, err);
    arena_free(arena);
    return result;
}

static void tell_confined(const struct child *child)
{
    if (child->options->unconfined)
        event_emit(EVENT_DAEMON_WARNING,
                   F_C(DETAIL, "the working process is not confined, as --unconfined asks"));
    else if (child->confined == SANDBOX_NO_LANDLOCK)
        event_emit(EVENT_DAEMON_CONFINED, F_C(VALUE, "system calls"),
                   F_C(DETAIL, "this kernel cannot confine to paths (Landlock, Linux 5.19)"));
    else
        event_emit(EVENT_DAEMON_CONFINED, F_C(VALUE, "system calls and paths"));
}

/* ---- start ---- */

static void open_store(struct child *child)
{
    const struct settings *settings = child->settings;
    struct error err;
    struct store_settings store = {
        .folder = settings->events.path.len ? settings->events.path : settings->spool.path,
        .keep_ns = settings->events.keep_ns,
        .size = settings->events.size,
    };
    if (store_open(&store, &child->store, &err) != OK)
        event_emit(EVENT_EVENTS_FAILED, F_C(DETAIL, err.text), F_STR(FILE, store.folder));
}

/* Reports are a courtesy: mail goes on without. */
static void open_reports(struct child *child)
{
    const struct settings *settings = child->settings;
    struct error err;
    struct reports_settings reports = {
        .folder = settings->events.path.len ? settings->events.path : settings->spool.path,
        .from = settings->reports.from,
        .organization = settings->reports.organization.len ? settings->reports.organization
                                                           : settings->hostname,
        .contact = settings->reports.contact,
        .hostname = settings->hostname,
        .at_ns = settings->reports.at_ns,
    };
    if (reports.from.len && reports_open(&reports, &child->reports, &err) != OK)
        event_emit(EVENT_DMARC_REPORT_FAILED, F_C(ERROR, err.text));
}

/* Before the log, which offers them events. */
static void start_webhooks(struct child *child)
{
    const struct settings *settings = child->settings;
    struct error err;
    if (webhooks_start(settings->spool.path, settings->hostname, &settings->dns, &child->webhooks,
                       &err) == OK)
        use_webhooks(child, settings);
    else
        event_emit(EVENT_DAEMON_WARNING, F_C(DETAIL, err.text));
}

static enum result start_log(struct child *child, struct error *err)
{
    static const enum admin_log_target targets[] = {[SETTINGS_LOG_STDOUT] = ADMIN_LOG_STDOUT,
                                                    [SETTINGS_LOG_JOURNAL] = ADMIN_LOG_JOURNAL,
                                                    [SETTINGS_LOG_SYSLOG] = ADMIN_LOG_SYSLOG,
                                                    [SETTINGS_LOG_FILE] = ADMIN_LOG_FILE};
    const struct settings *settings = child->settings;
    struct admin_log_settings log = {
        .target = targets[settings->log.target],
        .path = settings->log.path,
        .socket = settings->log.socket,
        .trace = settings->log.trace,
        .least = (enum event_severity)settings->log.least,
        .node = settings->hostname,
        .postfix = settings->log.compat == SETTINGS_COMPAT_POSTFIX,
        .human = settings->log.target == SETTINGS_LOG_STDOUT && isatty(STDOUT_FILENO),
    };
    open_store(child);
    open_reports(child);
    child->tail = tail_new();
    log.store = child->store;
    log.tail = child->tail;
    child->metrics = metrics_new();
    log.metrics = child->metrics;
    log.reports = child->reports;
    start_webhooks(child);
    log.webhooks = child->webhooks;
    return admin_log_start(&log, &child->log, err);
}

static void open_access(struct child *child)
{
    struct error err;
    if (admin_access_open(child->settings->spool.path, &child->access, &err) != OK)
        event_emit(EVENT_DAEMON_WARNING, F_C(DETAIL, err.text));
    if (once_open(child->settings->spool.path, 0, &child->once, &err) != OK)
        event_emit(EVENT_DAEMON_WARNING, F_C(DETAIL, err.text));
}

static enum admin_scope scope_of(enum settings_scope scope)
{
    return scope == SETTINGS_SCOPE_READ      ? ADMIN_SCOPE_READ
           : scope == SETTINGS_SCOPE_OPERATE ? ADMIN_SCOPE_OPERATE
                                             : ADMIN_SCOPE_ADMIN;
}

static enum result start_admin(struct child *child, struct error *err)
{
    const struct settings *settings = child->settings;
    open_access(child);
    struct admin_http_settings http = {
        .socket_path = settings->control.socket,
        .group = settings->control.group,
        .mode = settings->control.mode,
        .group_scope = scope_of((enum settings_scope)settings->control.scope),
        .access = child->access,
        .once = child->once,
        .gateway = child->gateway,
        .log = child->log,
        .store = child->store,
        .tail = child->tail,
        .metrics = child->metrics,
        .desk = child->desk,
        .revisions = child->revisions,
        .config_path = str_c(child->options->config_path),
        .reports = child->reports,
        .quarantines = child->quarantines,
        .domains = child->domains,
        .webhooks = child->webhooks,
        .node = settings->hostname,
    };
    if (admin_http_start(&http, &child->http, err) != OK)
        return FAILED;
    enum result result = OK;
    for (size_t i = 0; i < settings->admin.address_count && result == OK; i++)
        result = admin_http_serve_api(child->http, &settings->admin.addresses[i], err);
    for (size_t i = 0; i < settings->metrics.address_count && result == OK; i++)
        result = admin_http_serve_metrics(child->http, &settings->metrics.addresses[i], err);
    if (result != OK)
        admin_http_stop(child->http); /* the control socket goes with it */
    return result;
}

static enum result start(struct child *child, struct error *err)
{
    struct gateway_options options = {
        .config_path = str_c(child->options->config_path),
        .poison_page = child->options->poison->page,
        .suspects = child->options->poison->twice,
        .suspect_count = child->options->poison->twice_count,
        .delivery_paused = child->options->delivery_paused,
        .unpacker = child->options->unpacker,
    };
    struct child_sockets sockets;
    if (start_log(child, err) != OK)
        return FAILED;
    tell_confined(child);
    if (child_ask_for_sockets(child, child->settings, &sockets, err) != OK)
        return FAILED;
    if (gateway_new(child->settings, &options, &child->gateway, err) != OK)
        return fail_context(err, "cannot start");
    gateway_apply(child->gateway, child->settings, sockets.fds, sockets.count);
    close_sockets(&sockets);
    if ((child->reports && reports_start(child->reports, child->gateway, err) != OK) ||
        quarantine_keeper_start(child->settings->spool.path, child->gateway, &child->quarantines,
                                err) != OK ||
        domain_watch_start(child->gateway, &child->domains, err) != OK ||
        start_admin(child, err) != OK)
        return FAILED;
    tell(child, LINK_READY);
    show_revision(child);
    revise_started(child);
    tell_listeners(child->settings);
    event_emit(EVENT_DAEMON_READY, F_INT(PID, getpid()), F_C(VALUE, POSTERN_VERSION));
    return OK;
}

/* ---- the main thread ---- */

static void stop(struct child *child)
{
    event_emit(EVENT_DAEMON_STOP, F_INT(PID, getpid()));
    tail_stop(child->tail);
    change_desk_close(child->desk);
    webhooks_halt(child->webhooks); /* a test would hold up the next */
    admin_http_stop(child->http);   /* first: its threads ask the gateway */
    reports_stop(child->reports);   /* likewise */
    quarantine_keeper_stop(child->quarantines);
    domain_watch_stop(child->domains);
    gateway_drain(child->gateway, clock_deadline(DRAIN_S * NS_PER_S));
    gateway_free(child->gateway);
    admin_log_stop(child->log);
    webhooks_stop(child->webhooks);
    reports_close(child->reports);
    store_close(child->store);
    tail_free(child->tail);
    metrics_free(child->metrics);
    revise_stop(child);
    admin_access_close(child->access);
    once_close(child->once);
    settings_unref(child->settings);
}

static void wait_for_signals(struct child *child, const sigset_t *signals)
{
    for (unsigned turn = 1;; turn++) {
        siginfo_t info;
        struct timespec second = {.tv_sec = 1};
        int signal_number = sigtimedwait(signals, &info, &second);
        if (signal_number == SIGTERM || signal_number == SIGINT)
            return;
        if (signal_number == SIGHUP) {
            revise_read_file(child);
            tell(child, LINK_RELOADED);
        }
        if (signal_number == SIGUSR1)
            admin_log_reopen(child->log);
        revise_turn(child);
        if (!gateway_is_alive(child->gateway)) {
            fprintf(stderr, "a worker has not come round for 5 s\n");
            abort();
        }
        if (turn % REFRESH_TURNS == 0)
            gateway_refresh(child->gateway);
        if (turn % FILES_TURNS == 0 && files_state(child->settings) != child->files_state) {
            child->files_state = files_state(child->settings); /* also if they cannot be used */
            revise_read_named(child);
        }
    }
}

int child_run(const struct child_options *options)
{
    struct child child = {.options = options};
    struct error err = {0};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);               /* a wish for a change waits */
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* threads inherit the mask */
    signal(SIGPIPE, SIG_IGN);
    event_context_source = context_of_fiber;
    if (privileges_drop(&options->privileges, &err) != OK)
        return problems_fatal(&err, CHILD_CANNOT_START);
    /* changing the user clears this, so it comes after; the parent may be gone already */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() == 1)
        return CHILD_DONE;
    if (revise_start(&child, &err) != OK || confine_child(&child, &err) != OK ||
        start(&child, &err) != OK) {
        int code = problems_fatal(&err, CHILD_CANNOT_START);
        if (child.log)
            admin_log_stop(child.log);
        else
            problems_flush();
        fflush(NULL);
        _exit(code); /* threads may wait at barriers: no orderly end */
    }
    child.files_state = files_state(child.settings);
    revise_turn(&child); /* there may be one already */
    wait_for_signals(&child, &signals);
    stop(&child);
    return CHILD_DONE;
}
