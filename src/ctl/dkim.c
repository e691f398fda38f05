/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/dkim.c - `postern dkim …`: keys that sign mail, and the records that publish them. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"
#include "content/dkim_key.h"
#include "ctl/dkim.h"
#include "ctl/list.h"
#include "gateway/dkim_dns.h"
#include "gateway/settings.h"
#include "mail/address.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORD_MAX = 4096, STRING_MAX = 255, RSA_BITS = 2048, KEY_MODE = 0640 };

/* ---- records ---- */

/* The strings of a TXT record, none over 255 octets (RFC 1035 3.3.14). */
static json_t *record_strings(struct str record)
{
    json_t *strings = json_array();
    for (size_t at = 0; at < record.len; at += STRING_MAX) {
        struct str part = str_slice(record, at, at + STRING_MAX);
        json_array_append_new(strings, json_stringn(part.ptr, part.len));
    }
    return strings;
}

const char *ctl_dkim_record(struct arena *arena, const struct sign_key *key)
{
    struct error err;
    const char *record = dkim_dns_record(arena, key, &err);
    if (!record)
        fprintf(stderr, "postern: %s\n", err.text);
    return record;
}

static int print_record(struct ctl *ctl, const char *name, struct str domain, struct str selector,
                        const struct sign_key *key)
{
    const char *record = ctl_dkim_record(ctl->arena, key);
    struct str owner =
        arena_printf(ctl->arena, "%.*s._domainkey.%.*s", STR_ARG(selector), STR_ARG(domain));
    if (!record)
        return CTL_NO;
    if (!ctl->json) {
        printf("%s\n", dkim_dns_zone_line(ctl->arena, owner, str_c(record)));
        return CTL_YES;
    }
    json_t *item =
        json_pack("{s:s*, s:s%, s:s%, s:s%, s:s, s:s, s:o}", "key", name, "domain", domain.ptr,
                  domain.len, "selector", selector.ptr, selector.len, "name", owner.ptr, owner.len,
                  "type", "TXT", "value", record, "strings", record_strings(str_c(record)));
    ctl_print_item(ctl, item, NULL);
    json_decref(item);
    return CTL_YES;
}

/* ---- generate ---- */

struct wanted {
    struct str domain;
    struct str selector;
    enum sign_kind kind;
    unsigned bits;
};

/* "e202611": a new name each month, another for each kind. */
static struct str default_selector(struct ctl *ctl, enum sign_kind kind)
{
    char text[TIME_RFC3339_SIZE];
    struct str now = clock_format_rfc3339(clock_wall_ns(), text);
    return arena_printf(ctl->arena, "%c%.4s%.2s", kind == SIGN_RSA ? 'r' : 'e', now.ptr,
                        now.ptr + 5);
}

static bool read_wanted(struct ctl *ctl, struct wanted *out)
{
    const char *domain = ctl_option(ctl, "--domain");
    const char *selector = ctl_option(ctl, "--selector");
    const char *bits = ctl_option(ctl, "--bits");
    uint64_t number = RSA_BITS;
    *out = (struct wanted){.kind = ctl_flag(ctl, "--rsa") || bits ? SIGN_RSA : SIGN_ED25519};
    ctl_arguments(ctl, 1, 1);
    if (!domain || !mail_domain_normalize(ctl->arena, str_c(domain), &out->domain)) {
        fprintf(stderr, "postern: name the domain with --domain\n");
        return false;
    }
    struct str name = selector ? str_c(selector) : default_selector(ctl, out->kind);
    if (!mail_domain_normalize(ctl->arena, name, &out->selector)) {
        fprintf(stderr, "postern: a selector is like a host name\n");
        return false;
    }
    if (bits && (!str_to_uint(str_c(bits), SIGN_RSA_BITS_MAX, &number) || number < RSA_BITS)) {
        fprintf(stderr, "postern: --bits is %d to %d\n", RSA_BITS, SIGN_RSA_BITS_MAX);
        return false;
    }
    out->bits = (unsigned)number;
    return true;
}

/* The service reads keys by its group. */
static void give_to_service(int fd)
{
    const struct group *group = geteuid() == 0 ? getgrnam("postern") : NULL;
    if (group && fchown(fd, 0, group->gr_gid) != 0)
        fprintf(stderr, "postern: the key does not belong to group postern: %s\n", strerror(errno));
}

static enum result write_key(const char *path, const struct sign_key *key, struct error *err)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, 16 * 1024);
    if (sign_key_private_text(key, &text, err) != OK)
        return FAILED;
    enum result result = OK;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, KEY_MODE);
    if (fd < 0)
        result = fail_errno(err, errno, "cannot make %s", path);
    else if (write(fd, text.ptr, text.len) != (ssize_t)text.len || fsync(fd) != 0)
        result = fail_errno(err, errno, "cannot write %s", path);
    if (fd >= 0) {
        give_to_service(fd);
        close(fd);
        if (result != OK)
            unlink(path);
    }
    memory_wipe(text.ptr, text.cap);
    return result;
}

int ctl_dkim_generate(struct ctl *ctl)
{
    struct wanted wanted;
    struct error err;
    struct sign_key *key = NULL;
    if (!read_wanted(ctl, &wanted))
        return CTL_USAGE;
    const char *path = ctl->argv[0];
    if (sign_key_generate(wanted.kind, wanted.bits, &key, &err) != OK ||
        write_key(path, key, &err) != OK) {
        fprintf(stderr, "postern: %s\n", err.text);
        sign_key_free(key);
        return CTL_NO;
    }
    int code = print_record(ctl, NULL, wanted.domain, wanted.selector, key);
    sign_key_free(key);
    if (code == CTL_YES && !ctl->json)
        fprintf(stderr,
                "The key is in %s. Publish the record; once DNS shows it, add to dkim_keys:\n"
                "  NAME: { domain: %.*s, selector: %.*s, key: %s }\n",
                path, STR_ARG(wanted.domain), STR_ARG(wanted.selector), path);
    return code;
}

/* ---- of a configuration ---- */

struct settings *ctl_dkim_settings(struct ctl *ctl, const char **out_path)
{
    const char *path = ctl->argc ? ctl->argv[0] : ctl_config_path(ctl);
    if (out_path)
        *out_path = path;
    struct config_report report;
    struct settings *settings = NULL;
    struct error err;
    config_report_init(&report, ctl->arena);
    if (settings_load(path, &report, &settings, &err) != OK) {
        fprintf(stderr, "postern: %s: %s (postern check says which)\n", path, err.text);
        return NULL;
    }
    return settings;
}

bool ctl_dkim_tell_none(const struct settings *settings)
{
    bool none = settings->dkim_keys.count == 0;
    if (none)
        fprintf(stderr, "postern: the configuration has no dkim_keys: postern dkim generate\n");
    return none;
}

static void print_key(struct ctl *ctl, const struct signing_key *key)
{
    bool is_rsa = sign_key_kind(key->key) == SIGN_RSA;
    unsigned bits = sign_key_bits(key->key);
    if (!ctl->json) {
        printf("%-16.*s %-24.*s %-14.*s %-8s %5u  %-6s %.*s\n", STR_ARG(key->name),
               STR_ARG(key->domain), STR_ARG(key->selector), is_rsa ? "rsa" : "ed25519", bits,
               key->active ? "signs" : "waits", STR_ARG(key->path));
        return;
    }
    json_t *item =
        json_pack("{s:s%, s:s%, s:s%, s:s, s:i, s:b, s:s%}", "key", key->name.ptr, key->name.len,
                  "domain", key->domain.ptr, key->domain.len, "selector", key->selector.ptr,
                  key->selector.len, "kind", is_rsa ? "rsa" : "ed25519", "bits", (int)bits,
                  "active", key->active, "path", key->path.ptr, key->path.len);
    ctl_print_item(ctl, item, NULL);
    json_decref(item);
}

int ctl_dkim_list(struct ctl *ctl)
{
    ctl_arguments(ctl, 0, 1);
    struct settings *settings = ctl_dkim_settings(ctl, NULL);
    if (!settings)
        return CTL_NO;
    for (size_t i = 0; i < settings->dkim_keys.count; i++)
        print_key(ctl, &settings->dkim_keys.items[i]);
    ctl_dkim_tell_none(settings);
    settings_unref(settings);
    return CTL_YES;
}

int ctl_dkim_publish(struct ctl *ctl)
{
    const char *domain = ctl_option(ctl, "--domain");
    const char *selector = ctl_option(ctl, "--selector");
    ctl_arguments(ctl, 0, 1);
    struct settings *settings = ctl_dkim_settings(ctl, NULL);
    if (!settings)
        return CTL_NO;
    int code = CTL_NO;
    for (size_t i = 0; i < settings->dkim_keys.count; i++) {
        const struct signing_key *key = &settings->dkim_keys.items[i];
        if ((domain && !str_equal_nocase(key->domain, str_c(domain))) ||
            (selector && !str_equal_nocase(key->selector, str_c(selector))))
            continue;
        code =
            print_record(ctl, arena_c(ctl->arena, key->name), key->domain, key->selector, key->key);
    }
    if (code != CTL_YES && !ctl_dkim_tell_none(settings))
        fprintf(stderr, "postern: there is no such key (postern dkim list)\n");
    settings_unref(settings);
    return code;
}
