/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/revise.c - which configuration is in force, and how that changes.
 *
 * The administrator's file is the source, but what was decided since it was written last (applied,
 * confirmed, taken back) holds until somebody writes it again: the state on disk has the hash of
 * the file as it was then. Each decision is on disk before it counts, so that it outlives a crash
 * at any point, but for the way back, which a full disk does not bar (decision 30). The file itself
 * is never written here.
 */
#include "admin/change.h"
#include "admin/revisions.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"
#include "daemon/child_internal.h"
#include "daemon/problems.h"
#include "daemon/revise_tell.h"
#include "event/event.h"
#include "gateway/gateway.h"
#include "gateway/settings.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PROBLEMS_MAX = 4 * 1024 * 1024, DETAIL_MAX = 512 };
static const int64_t KEEP_AGAIN_NS = 2 * NS_PER_S;

/* What one decision works with. */
struct work {
    struct child *child;
    struct arena *arena;
    struct config_report report;
    struct error err;
};

static void begin_work(struct work *work, struct child *child, struct arena *arena)
{
    *work = (struct work){.child = child, .arena = arena};
    config_report_init(&work->report, arena);
}

/* ---- texts and settings ---- */

/* Names as if the files stood at the configured path: relative paths in them start there. */
static void rebase(struct work *work, struct config_texts *texts)
{
    struct str main = str_c(work->child->options->config_path);
    struct str folder = str_slice(main, 0, (size_t)(str_find_last(main, '/') + 1));
    for (size_t i = 0; i < texts->count; i++) {
        struct str name = texts->items[i].name;
        struct str base = str_from(name, (size_t)(str_find_last(name, '/') + 1));
        texts->items[i].name =
            i == 0 ? main
                   : arena_printf(work->arena, "%.*sconf.d/%.*s", STR_ARG(folder), STR_ARG(base));
    }
}

/* NULL: the report says why, and work->err how many. */
static struct settings *load(struct work *work, const struct config_texts *texts, unsigned number)
{
    struct settings *settings = NULL;
    if (settings_load_texts(texts, &work->report, &settings, &work->err) != OK)
        return NULL;
    settings->revision = number;
    return settings;
}

static struct settings *load_file(struct work *work, struct config_texts *out_texts)
{
    (void)!config_read_texts(work->child->options->config_path, work->arena, &work->report,
                             out_texts);
    return load(work, out_texts, 0);
}

/* Of a number. NULL: work->err. */
static struct settings *load_revision(struct work *work, unsigned number,
                                      struct revision *out_revision)
{
    if (revisions_read(work->child->revisions, number, work->arena, out_revision, &work->err) != OK)
        return NULL;
    rebase(work, &out_revision->texts);
    return load(work, &out_revision->texts, number);
}

static void hash_file(struct work *work, char out[REVISION_HASH_SIZE])
{
    struct config_report unheard;
    struct config_texts texts;
    config_report_init(&unheard, work->arena);
    out[0] = '\0';
    if (config_read_texts(work->child->options->config_path, work->arena, &unheard, &texts) == OK)
        revisions_hash(&texts, out);
}

static bool has_hash(struct work *work, unsigned number, const char *hash)
{
    struct revision revision;
    struct error err;
    return number && work->child->revisions &&
           revisions_read(work->child->revisions, number, work->arena, &revision, &err) == OK &&
           strcmp(revision.hash, hash) == 0;
}

/* ---- telling ---- */

static void tell_refused(const struct work *work)
{
    event_emit(EVENT_CONFIG_REFUSED, F_C(DETAIL, work->err.text));
}

static void tell_if_different(struct work *work)
{
    char hash[REVISION_HASH_SIZE];
    hash_file(work, hash);
    unsigned number = work->child->settings->revision;
    if (work->child->revisions && !has_hash(work, number, hash))
        revise_tell(EVENT_CONFIG_DIFFERS, number, STR_EMPTY, STR_EMPTY);
}

static void warn(const struct error *err)
{
    event_emit(EVENT_DAEMON_WARNING, F_C(OBJECT, "revisions"), F_C(DETAIL, err->text));
}

/* The state where mail goes on whether or not it can be kept. */
static void keep(struct child *child, const struct revisions_state *state)
{
    struct error err;
    if (child->revisions && revisions_set_state(child->revisions, state, &err) != OK)
        warn(&err);
}

static void mark(struct child *child, unsigned number, struct str fate)
{
    struct error err;
    if (child->revisions && revisions_set_fate(child->revisions, number, fate, &err) != OK)
        warn(&err);
}

/* ---- start ---- */

static void wake(void)
{
    kill(getpid(), SIGUSR2);
}

static void open_revisions(struct work *work, struct str spool_path)
{
    struct child *child = work->child;
    struct str folder = arena_printf(work->arena, "%.*s/revisions", STR_ARG(spool_path));
    if (revisions_open(folder, &child->revisions, &work->err) != OK)
        warn(&work->err);
}

/* A way back that was not confirmed says nothing of the revision that it led to. */
static void mark_reverted(struct child *child, unsigned number, unsigned current)
{
    mark(child, number, number < current ? STR_EMPTY : STR("reverted"));
}

static void drop_pending(struct child *child, struct revisions_state *state)
{
    mark_reverted(child, state->pending, state->current);
    state->pending = state->share = 0;
    state->confirm_by_ns = 0;
}

/* The file was written since the last decision, so it decides. */
static void follow_file(struct work *work, const struct config_texts *texts, const char *hash,
                        struct revisions_state *state)
{
    struct child *child = work->child;
    if (strcmp(hash, state->file_hash) == 0 && state->current)
        return;
    memcpy(state->file_hash, hash, REVISION_HASH_SIZE);
    if (state->pending && has_hash(work, state->pending, hash))
        return;
    if (state->pending)
        drop_pending(child, state);
    if (has_hash(work, state->current, hash))
        return;
    unsigned number = 0;
    if (revisions_add(child->revisions, texts, STR("start"), STR_EMPTY, &number, &work->err) !=
        OK) {
        warn(&work->err);
        number = state->last + 1;
    }
    state->current = state->last = number;
    state->applied_ns = clock_wall_ns();
}

/* The one that the state says is in force; else the one before it; else what the file says. */
static struct settings *load_decided(struct work *work, struct revisions_state *state)
{
    struct revision revision;
    if (state->pending && !state->share) {
        struct settings *settings = load_revision(work, state->pending, &revision);
        work->child->former = load_revision(work, state->current, &revision);
        if (settings)
            return settings;
        drop_pending(work->child, state);
        if (work->child->former)
            return take(work->child->former);
    }
    struct settings *settings = load_revision(work, state->current, &revision);
    if (!settings)
        warn(&work->err);
    return settings;
}

static void load_trial(struct work *work, struct revisions_state *state)
{
    struct revision revision;
    if (!state->pending || !state->share)
        return;
    work->child->trial = load_revision(work, state->pending, &revision);
    if (!work->child->trial)
        drop_pending(work->child, state);
}

/* `file` is what the file holds, taken over; NULL at a start again. */
static enum result decide(struct work *work, struct settings *file,
                          const struct config_texts *texts)
{
    struct child *child = work->child;
    struct revisions_state state = revisions_state(child->revisions);
    char hash[REVISION_HASH_SIZE] = "";
    if (file) {
        revisions_hash(texts, hash);
        follow_file(work, texts, hash, &state);
    }
    if (state.pending && state.confirm_by_ns && clock_wall_ns() >= state.confirm_by_ns) {
        unsigned number = state.pending;
        drop_pending(child, &state);
        revise_tell(EVENT_CONFIG_REVERTED, number, STR("deadline"),
                    STR("it was not confirmed in time"));
    }
    child->settings = load_decided(work, &state);
    if (child->settings)
        settings_unref(file);
    else if ((child->settings = file ? file : load_file(work, &(struct config_texts){0})))
        child->settings->revision = state.current; /* its text cannot be used any more */
    load_trial(work, &state);
    keep(child, &state);
    return child->settings ? OK : FAILED;
}

enum result revise_start(struct child *child, struct error *err)
{
    struct work work;
    struct config_texts texts = {0};
    struct settings *file = NULL;
    struct arena *arena = arena_new(0);
    begin_work(&work, child, arena);
    child->desk = change_desk_new(wake);
    child->revert_at_ns = child->keep_at_ns = TIME_NEVER;
    enum result result = OK;
    if (!child->options->again) {
        file = load_file(&work, &texts);
        problems_emit(&work.report);
        result = file ? OK : FAILED;
    }
    if (result == OK) {
        open_revisions(&work, file ? file->spool.path : child->options->spool_path);
        if (child->revisions)
            result = decide(&work, file, &texts);
        else
            child->settings = file ? file : load_file(&work, &texts);
        if (!child->settings)
            result = FAILED;
        else if (!child->revisions)
            child->settings->revision = child->counted = 1;
    }
    *err = work.err;
    arena_free(arena);
    return result;
}

/* Count to the deadline that stands in the state. */
static void set_deadline(struct child *child, const struct revisions_state *state)
{
    int64_t left_ns = state->confirm_by_ns - clock_wall_ns();
    child->revert_at_ns = state->pending && state->confirm_by_ns
                              ? clock_deadline(left_ns > 0 ? left_ns : 0)
                              : TIME_NEVER;
}

void revise_started(struct child *child)
{
    struct work work;
    struct arena *arena = arena_new(0);
    begin_work(&work, child, arena);
    struct revisions_state state = revise_state(child);
    child->at_start = gateway_start_of(child->settings);
    if (!str_to_c(child->settings->spool.path, child->spool_path, sizeof child->spool_path))
        child->spool_path[0] = '\0';
    revise_tell_applied(child, STR("start"), STR_EMPTY);
    tell_if_different(&work);
    if (child->trial) {
        gateway_share(child->gateway, child->trial, state.share);
        revise_tell_shared(child, STR("start"), STR_EMPTY);
    }
    set_deadline(child, &state);
    arena_free(arena);
}

/* The state that the disk did not take before. */
static void keep_at_last(struct child *child)
{
    struct revisions_state state = revise_state(child);
    struct error err;
    if (child->keep_at_ns == TIME_NEVER)
        return;
    bool kept = revisions_set_state(child->revisions, &state, &err) == OK;
    child->keep_at_ns = kept ? TIME_NEVER : clock_deadline(KEEP_AGAIN_NS);
}

void revise_stop(struct child *child)
{
    keep_at_last(child);
    change_desk_free(child->desk);
    settings_unref(child->former);
    settings_unref(child->trial);
    revisions_close(child->revisions);
}

/* ---- reading files again ---- */

static void end_trial(struct child *child)
{
    settings_unref(take(child->trial));
    settings_unref(take(child->former));
    child->revert_at_ns = TIME_NEVER;
}

/* A number for texts that are not those in force. */
static unsigned number_of(struct work *work, const struct config_texts *texts, struct str actor)
{
    struct child *child = work->child;
    unsigned number = 0;
    if (child->revisions &&
        revisions_add(child->revisions, texts, actor, STR_EMPTY, &number, &work->err) == OK)
        return number;
    if (child->revisions)
        warn(&work->err);
    return child->settings->revision + 1;
}

/* True: the file says the same as what is in force. */
static bool says_the_same(struct work *work, const char *hash)
{
    return has_hash(work, work->child->settings->revision, hash);
}

static enum result take_file(struct work *work, struct settings *settings,
                             const struct config_texts *texts)
{
    struct child *child = work->child;
    struct revisions_state state = revise_state(child);
    struct child_sockets sockets;
    char hash[REVISION_HASH_SIZE];
    revisions_hash(texts, hash);
    bool same = says_the_same(work, hash);
    if (state.pending && !same) {
        settings_unref(settings);
        return fail(&work->err, ERROR_TEMPORARY,
                    "r%u waits for its confirmation: confirm it or roll back first", state.pending);
    }
    if (child_ask_for_sockets(child, settings, &sockets, &work->err) != OK) {
        settings_unref(settings);
        return FAILED;
    }
    settings->revision =
        same ? child->settings->revision : number_of(work, texts, STR("reload by signal"));
    memcpy(state.file_hash, hash, sizeof hash);
    if (!same) {
        state.current = state.last = settings->revision;
        state.applied_ns = clock_wall_ns();
    }
    keep(child, &state);
    child_use(child, settings, &sockets);
    if (child->trial)
        gateway_share(child->gateway, child->trial, state.share);
    return OK;
}

void revise_read_file(struct child *child)
{
    struct work work;
    struct config_texts texts = {0};
    struct arena *arena = arena_new(0);
    begin_work(&work, child, arena);
    struct settings *settings = load_file(&work, &texts);
    problems_emit(&work.report);
    if (settings && take_file(&work, settings, &texts) == OK)
        revise_tell_applied(child, STR("reload by signal"), STR_EMPTY);
    else
        tell_refused(&work);
    arena_free(arena);
}

void revise_read_named(struct child *child)
{
    struct work work;
    struct revision revision;
    struct config_texts texts = {0};
    struct child_sockets sockets;
    struct arena *arena = arena_new(0);
    begin_work(&work, child, arena);
    unsigned number = child->settings->revision;
    struct settings *settings =
        child->revisions ? load_revision(&work, number, &revision) : load_file(&work, &texts);
    problems_emit(&work.report);
    if (settings && child_ask_for_sockets(child, settings, &sockets, &work.err) == OK) {
        settings->revision = number;
        child_use(child, settings, &sockets);
        if (child->trial)
            gateway_share(child->gateway, child->trial, revise_state(child).share);
        revise_tell_applied(child, STR("changed files"), STR_EMPTY);
    } else {
        settings_unref(settings);
        tell_refused(&work);
    }
    arena_free(arena);
}

/* ---- wishes ---- */

static void refuse(struct change *change, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void refuse(struct change *change, unsigned status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    change->status = status;
    change->detail = arena_vprintf(change->arena, format, args);
    va_end(args);
}

static void add_problems(struct change *change, const struct work *work)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, PROBLEMS_MAX);
    config_report_json(&work->report, &text);
    change->problems = arena_str(change->arena, buf_str(&text));
}

/* The queue works by the settings in force: what a trial routes must have its way out there too. */
static bool has_transports(const struct settings *base, const struct settings *trial,
                           struct change *change)
{
    for (size_t i = 0; i < trial->transport_count; i++) {
        if (settings_find_transport(base, trial->transports[i].name))
            continue;
        refuse(change, 409,
               "transport %.*s is new: the queue works by r%u until the change is confirmed, so a "
               "share of the sessions cannot use it; apply it to all",
               STR_ARG(trial->transports[i].name), base->revision);
        return false;
    }
    return true;
}

/* May these settings come into force in this process? */
static bool fits_process(struct work *work, const struct settings *settings, struct change *change)
{
    const struct child *child = work->child;
    if (!str_equal(str_c(child->spool_path), settings->spool.path)) {
        refuse(change, 409,
               "spool.path can change only while posternd is stopped: the mail and the revisions "
               "are at %s",
               child->spool_path);
        return false;
    }
    change->restart_count = gateway_restart_sections(&child->at_start, settings, change->restart);
    return true;
}

/* The state on disk. A way back is taken even where the disk is full: it may be the remedy. */
static bool is_kept(struct work *work, const struct revisions_state *state, struct change *change)
{
    struct child *child = work->child;
    if (revisions_set_state(child->revisions, state, &work->err) == OK)
        return true;
    if (change->kind != CHANGE_ROLLBACK)
        return false;
    if (revisions_set_state_in_spare(child->revisions, state) == OK)
        return true;
    change->warning = arena_printf(change->arena,
                                   "%s; it is tried again, but posternd started before that begins "
                                   "with what was in force before",
                                   work->err.text);
    warn(&work->err);
    revisions_assume_state(child->revisions, state);
    child->keep_at_ns = clock_deadline(KEEP_AGAIN_NS);
    return true;
}

/* Into force, or on trial; the state stands on disk before. `settings` is taken over. */
static void begin(struct work *work, struct settings *settings, struct revisions_state *state,
                  struct change *change)
{
    struct child *child = work->child;
    struct child_sockets sockets = {0};
    hash_file(work, state->file_hash);
    state->applied_ns = clock_wall_ns();
    bool ready = state->share || child_ask_for_sockets(child, settings, &sockets, &work->err) == OK;
    if (!ready || !is_kept(work, state, change)) {
        for (size_t i = 0; i < sockets.count; i++)
            close(sockets.fds[i]);
        settings_unref(settings);
        refuse(change, 503, "%s", work->err.text);
        return;
    }
    if (state->share) {
        child->trial = settings;
        gateway_share(child->gateway, settings, state->share);
    } else {
        struct settings *former = settings_ref(child->settings);
        end_trial(child);
        child_use(child, settings, &sockets);
        if (state->pending)
            child->former = take(former);
        settings_unref(former);
    }
    set_deadline(child, state);
    change->status = 200;
}

static void apply_settings(struct work *work, struct settings *settings, struct change *change)
{
    struct child *child = work->child;
    struct revisions_state state = revise_state(child);
    unsigned number = 0;
    if (!fits_process(work, settings, change) ||
        (change->share && !has_transports(child->settings, settings, change))) {
        settings_unref(settings);
        return;
    }
    if (revisions_add(child->revisions, &change->texts, change->actor, change->reason, &number,
                      &work->err) != OK) {
        settings_unref(settings);
        refuse(change, 503, "%s", work->err.text);
        return;
    }
    settings->revision = change->revision = state.last = number;
    state.share = change->share;
    if (change->share || change->confirm_ns)
        state.pending = number;
    else
        state.current = number;
    state.confirm_by_ns = change->confirm_ns ? clock_wall_ns() + change->confirm_ns : 0;
    begin(work, settings, &state, change);
    if (change->status != 200)
        mark(child, number, STR("not applied"));
    else if (change->share)
        revise_tell_shared(child, change->actor, change->reason);
    else
        revise_tell_applied(child, change->actor, change->reason);
}

static void apply(struct work *work, struct change *change)
{
    char hash[REVISION_HASH_SIZE];
    struct revisions_state state = revise_state(work->child);
    rebase(work, &change->texts);
    if (state.pending) {
        refuse(change, 409, "r%u waits for its confirmation: confirm it or roll back first",
               state.pending);
        return;
    }
    if (change->base && change->base != state.current) {
        refuse(change, 412,
               "r%u is in force by now, not r%u: look at postern config diff, then apply again",
               state.current, change->base);
        return;
    }
    struct settings *settings = load(work, &change->texts, 0);
    add_problems(change, work);
    if (!settings) {
        refuse(change, 422, "%s", work->err.text);
        return;
    }
    revisions_hash(&change->texts, hash);
    if (change->dry_run) {
        change->unchanged = says_the_same(work, hash);
        if (fits_process(work, settings, change))
            change->status = 200;
        settings_unref(settings);
        return;
    }
    if (!says_the_same(work, hash)) {
        apply_settings(work, settings, change);
        return;
    }
    settings_unref(settings);
    hash_file(work, state.file_hash);
    keep(work->child, &state);
    change->unchanged = true;
    change->status = 200;
}

static void confirm(struct work *work, struct change *change)
{
    struct child *child = work->child;
    struct revisions_state state = revise_state(child);
    unsigned number = state.pending;
    if (!number || (change->number && change->number != number)) {
        refuse(change, 409,
               number ? "r%u waits for its confirmation, not r%u"
                      : "nothing waits for a confirmation",
               number, change->number);
        return;
    }
    bool shared = state.share != 0;
    state.current = number;
    state.pending = state.share = 0;
    state.confirm_by_ns = 0;
    if (shared) {
        begin(work, settings_ref(child->trial), &state, change);
    } else if (revisions_set_state(child->revisions, &state, &work->err) != OK) {
        refuse(change, 503, "%s", work->err.text);
    } else {
        end_trial(child);
        change->status = 200;
    }
    if (change->status != 200)
        return;
    change->revision = number;
    revise_tell(EVENT_CONFIG_CONFIRMED, number, change->actor, change->reason);
    if (shared)
        revise_tell_applied(child, change->actor, change->reason);
}

/* What waits is taken back: at its deadline, or because somebody says so. */
static void revert(struct work *work, struct str actor, struct str reason, struct change *change)
{
    struct child *child = work->child;
    struct revisions_state state = revise_state(child);
    struct revision revision;
    unsigned number = state.pending;
    bool shared = state.share != 0;
    struct settings *former = shared          ? settings_ref(child->settings)
                              : child->former ? settings_ref(child->former)
                                              : load_revision(work, state.current, &revision);
    if (!former) {
        refuse(change, 503, "%s", work->err.text);
        return;
    }
    state.pending = state.share = 0;
    state.confirm_by_ns = 0;
    begin(work, former, &state, change);
    if (change->status != 200)
        return;
    mark_reverted(child, number, state.current);
    child->files_state = 0; /* what its files say by now is read soon */
    change->revision = state.current;
    revise_tell(EVENT_CONFIG_REVERTED, number, actor, reason);
    if (!shared)
        revise_tell_applied(child, actor, reason);
    tell_if_different(work);
}

/* The latest before `current` that was not taken back; 0: none. */
static unsigned find_former(struct work *work, unsigned current)
{
    size_t count;
    struct revisions *revisions = work->child->revisions;
    const unsigned *numbers = revisions_numbers(revisions, work->arena, &count);
    while (count-- > 0) {
        struct revision revision;
        if (numbers[count] < current &&
            revisions_read(revisions, numbers[count], work->arena, &revision, &work->err) == OK &&
            revision.fate.len == 0)
            return numbers[count];
    }
    return 0;
}

static void go_back(struct work *work, unsigned target, struct change *change)
{
    struct child *child = work->child;
    struct revisions_state state = revise_state(child);
    struct revision revision;
    unsigned number = child->settings->revision;
    struct settings *settings = load_revision(work, target, &revision);
    add_problems(change, work);
    if (!settings) {
        refuse(change, work->report.errors ? 422 : 404, "%s", work->err.text);
        return;
    }
    if (!fits_process(work, settings, change)) {
        settings_unref(settings);
        return;
    }
    unsigned waiting = state.pending;
    state.pending = change->confirm_ns ? target : 0;
    state.share = 0;
    state.confirm_by_ns = change->confirm_ns ? clock_wall_ns() + change->confirm_ns : 0;
    if (!state.pending)
        state.current = target;
    begin(work, settings, &state, change);
    if (change->status != 200)
        return;
    if (!state.pending)
        mark(child, number, STR("rolled back"));
    if (waiting)
        mark(child, waiting, STR("reverted"));
    mark(child, target, STR_EMPTY);
    change->revision = target;
    revise_tell(EVENT_CONFIG_REVERTED, number, change->actor, change->reason);
    revise_tell_applied(child, change->actor, change->reason);
    tell_if_different(work);
}

static void roll_back(struct work *work, struct change *change)
{
    struct revisions_state state = revise_state(work->child);
    if (state.pending && change->confirm_ns) {
        refuse(change, 409, "r%u waits for its confirmation: confirm it or roll back first",
               state.pending);
        return;
    }
    if (state.pending && (!change->number || change->number == state.current)) {
        change->former = state.pending;
        revert(work, change->actor, change->reason, change);
        return;
    }
    unsigned target = change->number ? change->number : find_former(work, state.current);
    if (!target)
        refuse(change, 409, "there is no revision before r%u to go back to", state.current);
    else if (target == work->child->settings->revision)
        refuse(change, 409, "r%u is in force", target);
    else
        go_back(work, target, change);
}

static void answer(struct child *child, struct change *change)
{
    struct work work;
    struct arena *arena = arena_new(0);
    begin_work(&work, child, arena);
    change->revision = change->former = child->settings->revision;
    if (!child->revisions)
        refuse(change, 503, "the folder of the revisions cannot be used (see the log)");
    else if (change->kind == CHANGE_APPLY)
        apply(&work, change);
    else if (change->kind == CHANGE_CONFIRM)
        confirm(&work, change);
    else
        roll_back(&work, change);
    arena_free(arena);
}

void revise_turn(struct child *child)
{
    struct change *change = change_take(child->desk);
    if (clock_monotonic_ns() >= child->keep_at_ns)
        keep_at_last(child);
    if (change) {
        answer(child, change);
        change_done(child->desk);
    }
    if (clock_monotonic_ns() < child->revert_at_ns)
        return;
    struct work work;
    struct arena *arena = arena_new(0);
    struct change reverting = {.kind = CHANGE_ROLLBACK, .arena = arena};
    begin_work(&work, child, arena);
    revert(&work, STR("deadline"), STR("it was not confirmed in time"), &reverting);
    if (reverting.status != 200) {
        event_emit(EVENT_DAEMON_ERROR, F_STR(DETAIL, reverting.detail));
        child->revert_at_ns = clock_deadline(NS_PER_S); /* again */
    }
    arena_free(arena);
}
