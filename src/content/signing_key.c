/* SPDX-License-Identifier: Apache-2.0 */
#include "content/signing_key.h"

#include "base/memory.h"
#include "mail/address.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 16 * 1024, FOR_ALL = 0007 };

static const struct option rows[] = {
    {.name = "domain",
     .type = OPTION_TEXT,
     .offset = offsetof(struct signing_key, domain),
     .text = "domain that signs; its subdomains without keys of their own use it too",
     .required = true},
    {.name = "selector",
     .type = OPTION_TEXT,
     .offset = offsetof(struct signing_key, selector),
     .text = "name of the key: its record is at SELECTOR._domainkey.DOMAIN",
     .required = true},
    {.name = "key",
     .type = OPTION_PATH,
     .offset = offsetof(struct signing_key, path),
     .text = "private key, PEM; RSA or Ed25519",
     .required = true},
    {.name = "active",
     .type = OPTION_BOOL,
     .offset = offsetof(struct signing_key, active),
     .text = "false: keep it, do not sign with it",
     .fallback = "true"},
    {.name = NULL},
};
const struct option_table signing_key_options = {
    .name = "dkim_keys.*",
    .text = "A key that signs mail of a domain. `postern dkim generate` makes one.",
    .options = rows,
    .size = sizeof(struct signing_key),
};

/* ---- files ---- */

static enum result read_file(const char *path, char text[FILE_MAX], size_t *out_len,
                             bool *out_exposed, struct error *err)
{
    struct stat stat = {0};
    ssize_t got = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &stat) == 0)
        got = read(fd, text, FILE_MAX);
    int number = errno;
    if (fd >= 0)
        close(fd);
    if (got < 0)
        return fail_errno(err, number, "%s", path);
    *out_len = (size_t)got;
    *out_exposed = (stat.st_mode & FOR_ALL) != 0;
    return OK;
}

enum result signing_key_read(const char *path, struct sign_key **out_key, bool *out_exposed,
                             struct error *err)
{
    char text[FILE_MAX];
    size_t len = 0;
    *out_exposed = false;
    enum result result = read_file(path, text, &len, out_exposed, err);
    if (result == OK && sign_key_private(str_of(text, len), out_key, err) != OK)
        result = fail_context(err, "%s", path);
    memory_wipe(text, sizeof text);
    return result;
}

/* ---- the section ---- */

static void release(void *key)
{
    sign_key_free(key);
}

static struct config_place place_of(const struct signing_key *key, const char *name)
{
    const struct config_node *value = config_get(key->node, str_c(name));
    return value ? value->place : key->place;
}

static bool normalize(struct signing_key *key, const char *name, struct str *value,
                      const struct option_context *context)
{
    struct str written = *value;
    if (mail_domain_normalize(context->arena, written, value))
        return true;
    config_problem(context->report, CONFIG_ERROR, "wrong-value", place_of(key, name),
                   "\"%.*s\" is no %s", STR_ARG(str_slice(written, 0, 60)), name);
    return false;
}

static void load(struct signing_key *key, const struct option_context *context)
{
    struct error err = {0};
    bool exposed = false;
    if (signing_key_read(arena_c(context->arena, key->path), &key->key, &exposed, &err) != OK) {
        config_problem(context->report, CONFIG_ERROR, "dkim-key", place_of(key, "key"), "%s",
                       err.text)
            ->fix = STR("make one with: postern dkim generate --domain D --selector S FILE");
        return;
    }
    arena_hook(context->arena, release, key->key);
    if (exposed)
        config_problem(context->report, CONFIG_WARNING, "secret-readable", place_of(key, "key"),
                       "%.*s: every user of this host may read it", STR_ARG(key->path))
            ->fix = STR("chmod o= FILE; then change the key, for it may be known");
}

/* One selector of a domain names one key. */
static void check_twin(const struct signing_keys *keys, const struct signing_key *key,
                       const struct option_context *context)
{
    for (const struct signing_key *at = keys->items; at != key; at++)
        if (str_equal(at->domain, key->domain) && str_equal(at->selector, key->selector))
            config_problem(context->report, CONFIG_ERROR, "duplicate", key->place,
                           "\"%.*s\" has this domain and selector too", STR_ARG(at->name));
}

void signing_keys_bind(const struct config_node *section, const struct option_context *context,
                       struct signing_keys *out)
{
    *out = (struct signing_keys){0};
    if (!section)
        return;
    out->items = arena_alloc_array(context->arena, section->count + 1, sizeof *out->items);
    for (size_t i = 0; i < section->count; i++) {
        struct signing_key *key = &out->items[i];
        out->count = i + 1;
        key->name = section->pairs[i].key;
        key->place = section->pairs[i].place;
        key->node = &section->pairs[i].value;
        if (option_bind(&signing_key_options, key->node, NULL, context, key) == FAILED)
            continue;
        if (normalize(key, "domain", &key->domain, context) &&
            normalize(key, "selector", &key->selector, context))
            check_twin(out, key, context);
        load(key, context);
    }
}

/* ---- finding ---- */

const struct signing_key *signing_keys_next(const struct signing_keys *keys, struct str domain,
                                            size_t *cursor)
{
    while (*cursor < keys->count) {
        const struct signing_key *key = &keys->items[(*cursor)++];
        if (key->active && key->key && str_equal(key->domain, domain))
            return key;
    }
    return NULL;
}

struct str signing_keys_domain(const struct signing_keys *keys, struct str domain)
{
    while (domain.len) {
        size_t cursor = 0;
        if (signing_keys_next(keys, domain, &cursor))
            return domain;
        ptrdiff_t dot = str_find(domain, '.');
        domain = dot < 0 ? STR_EMPTY : str_from(domain, (size_t)dot + 1);
    }
    return STR_EMPTY;
}
