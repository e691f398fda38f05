/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/settings_files.c - sections that stand for files: certificates, lists, domains_file.
 */
#include "gateway/settings_internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "mail/address.h"
#include "net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 32 * 1024 * 1024, LINES_MAX = 1000 * 1000 };

/* ---- lines of a file ---- */

bool settings_read_lines(struct settings_loading *loading, struct str path,
                         struct config_place place, struct option_texts *out)
{
    struct buf bytes BUF_CLEANUP;
    struct error err;
    buf_init(&bytes, FILE_MAX);
    *out = (struct option_texts){0};
    option_paths_add(&loading->settings->files, loading->arena, path);
    if (file_read_path(arena_c(loading->arena, path), &bytes, &err) != OK) {
        SETTINGS_ERROR(loading, "unreadable", place, "%.*s: %s", STR_ARG(path), err.text);
        return false;
    }
    struct str text = arena_str(loading->arena, buf_str(&bytes)), line, rest = text;
    size_t count = 1;
    for (size_t i = 0; i < text.len; i++)
        count += text.ptr[i] == '\n';
    if (count > LINES_MAX) {
        SETTINGS_ERROR(loading, "too-large", place, "%.*s has more than 1,000,000 lines",
                       STR_ARG(path));
        return false;
    }
    out->items = arena_alloc_array(loading->arena, count, sizeof *out->items);
    out->places = arena_alloc_array(loading->arena, count, sizeof *out->places);
    while (rest.ptr && str_split(&rest, '\n', &line)) {
        ptrdiff_t comment = str_find(line, '#');
        line = str_trim(comment >= 0 ? str_slice(line, 0, (size_t)comment) : line);
        if (!line.len)
            continue;
        out->items[out->count] = line;
        out->places[out->count++] = place; /* that of the setting that names the file */
    }
    return true;
}

/* ---- lists ---- */

struct list_values {
    struct str path;
};
static const struct option list_rows[] = {
    {.name = "path",
     .type = OPTION_PATH,
     .offset = offsetof(struct list_values, path),
     .text = "file: a line an address, a domain or a network",
     .required = true},
    {0},
};
const struct option_table settings_list_options = {
    .name = "lists.*",
    .text = "A file by name, for the right side of `in`.",
    .options = list_rows,
    .shorthand = "path",
    .size = sizeof(struct list_values),
};

static void bind_list(struct settings_loading *loading, const struct config_pair *pair,
                      struct flow_list *list)
{
    struct list_values values = {STR_EMPTY};
    struct option_texts lines;
    list->name = pair->key;
    if (option_bind(&settings_list_options, &pair->value, NULL, &loading->context, &values) ==
            FAILED ||
        !settings_read_lines(loading, values.path, pair->value.place, &lines))
        return;
    list->networks = arena_alloc_array(loading->arena, lines.count + 1, sizeof *list->networks);
    list->texts = arena_alloc_array(loading->arena, lines.count + 1, sizeof *list->texts);
    for (size_t i = 0; i < lines.count; i++) {
        if (net_network_parse(lines.items[i], &list->networks[list->network_count]))
            list->network_count++;
        else
            list->texts[list->text_count++] = arena_lower(loading->arena, lines.items[i]);
    }
}

void settings_bind_lists(struct settings_loading *loading)
{
    const struct config_node *section = settings_section(loading, "lists");
    struct settings *settings = loading->settings;
    if (!section)
        return;
    settings->lists =
        arena_alloc_array(loading->arena, section->count + 1, sizeof *settings->lists);
    settings->list_count = section->count;
    for (size_t i = 0; i < section->count; i++)
        bind_list(loading, &section->pairs[i], &settings->lists[i]);
}

/* ---- certificates ---- */

static const struct option certificate_rows[] = {
    {.name = "cert",
     .type = OPTION_PATH,
     .offset = offsetof(struct settings_certificate, cert_path),
     .text = "certificate and its chain, PEM",
     .required = true},
    {.name = "key",
     .type = OPTION_PATH,
     .offset = offsetof(struct settings_certificate, key_path),
     .text = "private key, PEM",
     .required = true},
    {0},
};
const struct option_table settings_certificate_options = {
    .name = "certificates.*",
    .text = "A certificate by name. Its files are watched and read again when they change.",
    .options = certificate_rows,
    .size = sizeof(struct settings_certificate),
};

static bool can_read(struct settings_loading *loading, const struct config_node *node,
                     const char *key, struct str path)
{
    const struct config_node *value = config_get(node, str_c(key));
    if (access(arena_c(loading->arena, path), R_OK) == 0)
        return true;
    SETTINGS_ERROR(loading, "unreadable", value ? value->place : node->place, "%.*s: %s",
                   STR_ARG(path), strerror(errno))
        ->fix =
        errno == EACCES ? STR("let this user read it, or run the check as root") : STR_EMPTY;
    return false;
}

static struct str fix_of(struct arena *arena, const struct settings_certificate *certificate,
                         struct str why)
{
    if (str_find_str(why, STR("mismatch")) >= 0)
        return STR("name the key that this certificate was made for; the certificate itself comes "
                   "first in its file, those of its issuers behind it");
    if (str_find_str(why, STR("is encrypted")) >= 0)
        return arena_printf(arena, "openssl pkey -in %.*s -out NEW, with umask 077",
                            STR_ARG(certificate->key_path));
    if (str_find_str(why, STR("PEM form")) >= 0)
        return STR("a file in PEM form has a line -----BEGIN CERTIFICATE----- or "
                   "-----BEGIN PRIVATE KEY-----; \"openssl\" converts others");
    return STR_EMPTY;
}

static void judge_mode(struct settings_loading *loading,
                       const struct settings_certificate *certificate)
{
    struct stat status;
    const struct config_node *key = config_get(certificate->node, STR("key"));
    if (stat(arena_c(loading->arena, certificate->key_path), &status) == 0 &&
        status.st_mode & S_IRWXO)
        SETTINGS_WARNING(loading, "secret-readable", key ? key->place : certificate->place,
                         "%.*s: every user of this host may read it",
                         STR_ARG(certificate->key_path))
            ->fix = arena_printf(loading->arena, "chmod o= %.*s", STR_ARG(certificate->key_path));
}

/* Load it alone, so that what is wrong with it is said once and at its own place. */
static bool try_certificate(struct settings_loading *loading,
                            const struct settings_certificate *certificate)
{
    struct tls_certificate_files files = {certificate->name, certificate->cert_path,
                                          certificate->key_path};
    struct tls_server_settings settings = {.certificates = &files, .count = 1, .min_version = 12};
    struct tls_context *context = NULL;
    struct error err;
    if (tls_server_new(&settings, &context, &err) == FAILED) {
        SETTINGS_ERROR(loading, "certificate", certificate->place, "%s", err.text)->fix =
            fix_of(loading->arena, certificate, str_c(err.text));
        return false;
    }
    int days = tls_context_days_left(context);
    struct config_problem *problem = NULL;
    if (days < 0)
        problem = SETTINGS_WARNING(loading, "certificate-ends", certificate->place,
                                   "the certificate has ended");
    else if (days < 14)
        problem = SETTINGS_WARNING(loading, "certificate-ends", certificate->place,
                                   "the certificate ends in %d days", days);
    else if (tls_context_is_early(context))
        SETTINGS_WARNING(loading, "certificate-begins", certificate->place,
                         "the certificate is not valid yet")
            ->fix = STR("is the clock of this host right?");
    if (problem)
        problem->fix = STR("renew it: once its files are new, posternd reads them by itself");
    tls_context_unref(context);
    return true;
}

void settings_bind_certificates(struct settings_loading *loading)
{
    const struct config_node *section = settings_section(loading, "certificates");
    struct settings *settings = loading->settings;
    if (!section)
        return;
    settings->certificates =
        arena_alloc_array(loading->arena, section->count + 1, sizeof *settings->certificates);
    settings->certificate_count = section->count;
    for (size_t i = 0; i < section->count; i++) {
        struct settings_certificate *certificate = &settings->certificates[i];
        certificate->name = section->pairs[i].key;
        certificate->place = section->pairs[i].place;
        certificate->node = &section->pairs[i].value;
        if (option_bind(&settings_certificate_options, certificate->node, NULL, &loading->context,
                        certificate) == FAILED)
            continue;
        bool cert = can_read(loading, certificate->node, "cert", certificate->cert_path);
        bool key = can_read(loading, certificate->node, "key", certificate->key_path);
        certificate->usable = cert && key && try_certificate(loading, certificate);
        if (certificate->usable)
            judge_mode(loading, certificate);
    }
}

static void release_tls(void *object)
{
    tls_context_unref(object);
}

static bool is_named(const struct option_texts *names, struct str name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (str_equal(names->items[i], name))
            return true;
    }
    return names->count == 0;
}

struct tls_context *settings_listener_tls(struct settings_loading *loading,
                                          const struct option_texts *names, int min_version,
                                          struct str ciphers, struct config_place place)
{
    const struct settings *settings = loading->settings;
    struct tls_certificate_files *files =
        arena_alloc_array(loading->arena, settings->certificate_count + 1, sizeof *files);
    size_t count = 0;
    /* in the order in which the listener names them: the first serves clients without SNI */
    for (size_t n = 0; n < (names->count ? names->count : 1); n++) {
        for (size_t i = 0; i < settings->certificate_count; i++) {
            const struct settings_certificate *at = &settings->certificates[i];
            bool wanted =
                names->count ? str_equal(at->name, names->items[n]) : is_named(names, at->name);
            if (wanted && at->usable && count < settings->certificate_count)
                files[count++] =
                    (struct tls_certificate_files){at->name, at->cert_path, at->key_path};
        }
    }
    if (count == 0)
        return NULL; /* what is wrong with each was reported */
    struct tls_server_settings wanted = {
        .certificates = files, .count = count, .min_version = min_version, .ciphers = ciphers};
    struct tls_context *context = NULL;
    struct error err;
    if (tls_server_new(&wanted, &context, &err) == FAILED) {
        SETTINGS_ERROR(loading, "tls", place, "%s", err.text);
        return NULL;
    }
    arena_hook(loading->arena, release_tls, context);
    return context;
}
