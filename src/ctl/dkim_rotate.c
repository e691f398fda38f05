/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/dkim_rotate.c - `postern dkim rotate` and `revoke`: another key signs, the old one ends.
 *
 * Signing never moves to a key that the world cannot see: the new key is asked for in DNS first.
 * The switch itself is an edit of the configuration, shown before it is made; the file is replaced
 * as a whole, and only if it still checks.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "ctl/dkim.h"
#include "gateway/dkim_dns.h"
#include "gateway/settings.h"
#include "net/dns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 8 * 1024 * 1024, WAIT_MAX_S = 7 * 86400, PAUSE_S = 5, EDITS_MAX = 32 };

/* ---- does DNS show it? ---- */

struct watch_dns {
    const struct settings *settings;
    const struct signing_key *key;
    int64_t deadline_ns;
    enum dkim_shown shown;
    struct error err;
    bool failed;
};

static MAY_YIELD void look_until_shown(struct loop *loop, void *arg)
{
    struct watch_dns *watch = arg;
    struct error err;
    for (;;) {
        struct dns *dns; /* a new one each time, so that what was missing is not remembered */
        if (dns_new(loop, &watch->settings->dns, &dns, &watch->err) != OK) {
            watch->failed = true;
            return;
        }
        watch->shown = dkim_dns_look(dns, watch->key);
        dns_free(dns);
        if (watch->shown == DKIM_SHOWN_PUBLISHED || clock_monotonic_ns() >= watch->deadline_ns ||
            fiber_sleep(PAUSE_S * NS_PER_S, &err) != OK)
            return;
    }
}

/* ---- editing the file ---- */

struct edit { /* put `text` in place of `length` bytes at `offset` */
    size_t offset, length;
    const char *text;
};
struct change {
    const char *path;
    struct str before;
    struct edit edits[EDITS_MAX];
    size_t count;
};

/* Places count characters, files bytes. */
static size_t offset_of(struct str text, struct config_place place)
{
    size_t at = 0;
    for (unsigned line = 1; line < place.line && at < text.len; at++)
        line += text.ptr[at] == '\n';
    for (unsigned column = 1; column < place.column && at < text.len; column++) {
        at++;
        while (at < text.len && ((unsigned char)text.ptr[at] & 0xc0) == 0x80)
            at++;
    }
    return at;
}

static bool add_edit(struct change *change, size_t offset, size_t length, const char *text)
{
    if (change->count == EDITS_MAX || offset + length > change->before.len)
        return false;
    change->edits[change->count++] = (struct edit){offset, length, text};
    return true;
}

/* Write `active: VALUE` into the entry of a key. */
static bool set_active(struct ctl *ctl, struct change *change, const struct signing_key *key,
                       bool active)
{
    const struct config_node *value = config_get(key->node, STR("active"));
    if (!str_equal(config_file_name(key->place.file), str_c(change->path)))
        return false; /* in conf.d: nobody should have to guess which file was changed */
    if (value) {
        size_t at = offset_of(change->before, value->place);
        return str_starts(str_from(change->before, at), value->text) &&
               add_edit(change, at, value->text.len, active ? "true" : "false");
    }
    if (active) /* that is the default */
        return true;
    if (!key->node->count)
        return false;
    /* before the first key of the entry, in the same style: behind "{ " or on a line of its own */
    const struct config_pair *first = &key->node->pairs[0];
    size_t at = offset_of(change->before, first->place);
    size_t line = at;
    while (line > 0 && change->before.ptr[line - 1] != '\n')
        line--;
    struct str lead = str_slice(change->before, line, at);
    bool block = str_trim(lead).len == 0;
    struct str text = block ? arena_printf(ctl->arena, "active: false\n%.*s", STR_ARG(lead))
                            : STR("active: false, ");
    return add_edit(change, at, 0, arena_c(ctl->arena, text));
}

static int by_offset(const void *a, const void *b)
{
    const struct edit *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static struct str apply(struct ctl *ctl, struct change *change)
{
    struct buf text BUF_CLEANUP;
    size_t at = 0;
    buf_init(&text, FILE_MAX + 4096);
    qsort(change->edits, change->count, sizeof change->edits[0], by_offset);
    for (size_t i = 0; i < change->count; i++) {
        buf_append(&text, str_slice(change->before, at, change->edits[i].offset));
        buf_append(&text, str_c(change->edits[i].text));
        at = change->edits[i].offset + change->edits[i].length;
    }
    buf_append(&text, str_from(change->before, at));
    return arena_str(ctl->arena, buf_str(&text));
}

static void print_changed_lines(struct str before, struct str after)
{
    struct str old_line, new_line, old_rest = before, new_rest = after;
    while (str_split(&old_rest, '\n', &old_line)) {
        if (!str_split(&new_rest, '\n', &new_line))
            return;
        if (str_equal(old_line, new_line))
            continue;
        if (str_equal(str_trim(new_line), STR("active: false")) &&
            !str_equal(str_trim(old_line), STR("active: true"))) { /* a line was put in */
            printf("+ %.*s\n", STR_ARG(new_line));
            (void)str_split(&new_rest, '\n', &new_line);
            continue;
        }
        printf("- %.*s\n+ %.*s\n", STR_ARG(old_line), STR_ARG(new_line));
    }
}

static bool read_text(struct ctl *ctl, const char *path, struct str *out)
{
    FILE *file = fopen(path, "re");
    struct buf text BUF_CLEANUP;
    buf_init(&text, FILE_MAX);
    char *space;
    while (file && (space = buf_reserve(&text, 65536))) {
        size_t got = fread(space, 1, 65536, file);
        text.len += got;
        if (got == 0)
            break;
    }
    bool good = file && !ferror(file) && !text.overflow;
    if (!good)
        fprintf(stderr, "postern: cannot read %s: %s\n", path, strerror(errno));
    if (file)
        fclose(file);
    *out = arena_str(ctl->arena, buf_str(&text));
    return good;
}

/* The new text beside the file, checked there, then in its place. */
static enum result replace(struct ctl *ctl, const char *path, struct str text, struct error *err)
{
    const char *beside = arena_c(ctl->arena, arena_printf(ctl->arena, "%s.new", path));
    struct stat info;
    if (stat(path, &info) != 0)
        return fail_errno(err, errno, "%s", path);
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, info.st_mode & 0777);
    if (fd < 0)
        return fail_errno(err, errno, "%s", beside);
    bool written = write(fd, text.ptr, text.len) == (ssize_t)text.len && fsync(fd) == 0 &&
                   (geteuid() != 0 || fchown(fd, info.st_uid, info.st_gid) == 0);
    int number = errno;
    close(fd);
    struct config_report report;
    struct settings *settings = NULL;
    config_report_init(&report, ctl->arena);
    enum result result = OK;
    if (!written)
        result = fail_errno(err, number, "%s", beside);
    else if (settings_load(beside, &report, &settings, err) != OK)
        result = fail_context(err, "the changed file does not check");
    else if (rename(beside, path) != 0)
        result = fail_errno(err, errno, "%s", path);
    settings_unref(settings);
    if (result != OK)
        unlink(beside);
    return result;
}

/* ---- rotate ---- */

static const struct signing_key *find_key(const struct settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->dkim_keys.count; i++)
        if (str_equal(settings->dkim_keys.items[i].name, str_c(name)))
            return &settings->dkim_keys.items[i];
    fprintf(stderr, "postern: there is no key \"%s\" under dkim_keys\n", name);
    return NULL;
}

static bool is_replaced_by(const struct signing_key *old, const struct signing_key *next)
{
    return old != next && old->active && str_equal(old->domain, next->domain) &&
           sign_key_kind(old->key) == sign_key_kind(next->key);
}

static int switch_over(struct ctl *ctl, const struct settings *settings,
                       const struct signing_key *next, const char *path)
{
    struct change change = {.path = path};
    struct error err;
    if (!read_text(ctl, path, &change.before))
        return CTL_NO;
    bool good = set_active(ctl, &change, next, true);
    for (size_t i = 0; i < settings->dkim_keys.count; i++)
        if (is_replaced_by(&settings->dkim_keys.items[i], next))
            good = good && set_active(ctl, &change, &settings->dkim_keys.items[i], false);
    if (!good || change.count == 0) {
        fprintf(stderr,
                good
                    ? "postern: %.*s signs already\n"
                    : "postern: cannot see how to change the entry of %.*s: say active: true there "
                      "and active: false for the others\n",
                STR_ARG(next->name));
        return good ? CTL_YES : CTL_NO;
    }
    struct str after = apply(ctl, &change);
    print_changed_lines(change.before, after);
    if (!ctl_confirm(ctl, "Change the configuration so?"))
        return CTL_NO;
    if (replace(ctl, path, after, &err) != OK) {
        fprintf(stderr, "postern: %s\n", err.text);
        return CTL_NO;
    }
    fprintf(stderr,
            "%s is changed: reload the gateway. Leave the old record in DNS for a week, then "
            "publish what `postern dkim revoke` prints.\n",
            path);
    return CTL_YES;
}

int ctl_dkim_rotate(struct ctl *ctl)
{
    const char *name = ctl_option(ctl, "--to");
    const char *wait = ctl_option(ctl, "--wait");
    const char *path;
    uint64_t seconds = 0;
    ctl_arguments(ctl, 0, 1);
    if (!name || (wait && !str_to_uint(str_c(wait), WAIT_MAX_S, &seconds))) {
        fprintf(stderr, name ? "postern: --wait is a number of seconds\n"
                             : "postern: name the key that is to sign, with --to\n");
        return CTL_USAGE;
    }
    struct settings *settings = ctl_dkim_settings(ctl, &path);
    const struct signing_key *next = settings ? find_key(settings, name) : NULL;
    if (!next || !next->key) {
        settings_unref(settings);
        return CTL_NO;
    }
    struct watch_dns watch = {.settings = settings,
                              .key = next,
                              .deadline_ns = clock_deadline((int64_t)seconds * NS_PER_S)};
    int code = CTL_NO;
    if (ctl_on_loop(look_until_shown, &watch, &watch.err) != OK || watch.failed) {
        fprintf(stderr, "postern: %s\n", watch.err.text);
    } else if (watch.shown == DKIM_SHOWN_PUBLISHED) {
        code = switch_over(ctl, settings, next, path);
    } else {
        struct str owner = arena_printf(ctl->arena, "%.*s._domainkey.%.*s", STR_ARG(next->selector),
                                        STR_ARG(next->domain));
        const char *record = ctl_dkim_record(ctl->arena, next->key);
        fprintf(stderr,
                "postern: DNS does not show the key (%s), so nothing was changed. Publish:\n",
                dkim_shown_words[watch.shown]);
        printf("%s\n", record ? dkim_dns_zone_line(ctl->arena, owner, str_c(record)) : "");
        code = CTL_TRY_AGAIN;
    }
    settings_unref(settings);
    return code;
}

/* ---- revoke ---- */

int ctl_dkim_revoke(struct ctl *ctl)
{
    const char *name = ctl_option(ctl, "--key");
    ctl_arguments(ctl, 0, 1);
    if (!name) {
        fprintf(stderr, "postern: name the key with --key\n");
        return CTL_USAGE;
    }
    struct settings *settings = ctl_dkim_settings(ctl, NULL);
    const struct signing_key *key = settings ? find_key(settings, name) : NULL;
    int code = CTL_NO;
    if (key && key->active) {
        fprintf(stderr,
                "postern: %s still signs: mail of the last days would fail too. `postern dkim "
                "rotate --to NEXT` first\n",
                name);
        code = CTL_CONFLICT;
    } else if (key) {
        struct str owner = arena_printf(ctl->arena, "%.*s._domainkey.%.*s", STR_ARG(key->selector),
                                        STR_ARG(key->domain));
        printf("%s\n", dkim_dns_zone_line(ctl->arena, owner, STR("v=DKIM1; p=")));
        fprintf(stderr,
                "An empty p= says that the key is revoked (RFC 6376 3.6.1). Once it is "
                "published, take %s out of dkim_keys and destroy its file.\n",
                name);
        code = CTL_YES;
    }
    settings_unref(settings);
    return code;
}
