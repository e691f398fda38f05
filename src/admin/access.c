/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/access.h"

#include "admin/http.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "crypto/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TOKENS_MAX = 256,
    TOKEN_BYTES = 20, /* 160 bits: 32 letters and digits */
    NAME_MAX_BYTES = 64,
    BY_MAX = 128,
    REFUSALS_A_MINUTE = 10,
    HEX_SIZE = 2 * SHA256_SIZE + 1,
};

struct token {
    char name[NAME_MAX_BYTES + 1];
    unsigned char hash[SHA256_SIZE];
    enum admin_scope scope;
    int64_t created_wall_ns;
    int64_t expires_wall_ns;
    int64_t used_wall_ns; /* since the start; 0: not yet */
    char by[BY_MAX];
};

struct admin_access {
    pthread_mutex_t mutex; /* for all that follows */
    char path[4096];
    struct token tokens[TOKENS_MAX];
    size_t count;
    int64_t minute; /* of the refusals counted */
    unsigned refusals;
};

/* ---- scopes ---- */

static const char *const scope_names[] = {
    [ADMIN_SCOPE_ADMIN] = "admin",
    [ADMIN_SCOPE_OPERATE] = "operate",
    [ADMIN_SCOPE_READ] = "read",
    [ADMIN_SCOPE_NONE] = "none",
};

const char *admin_scope_name(enum admin_scope scope)
{
    return scope_names[scope];
}

bool admin_scope_parse(struct str word, enum admin_scope *out_scope)
{
    for (int i = ADMIN_SCOPE_ADMIN; i < ADMIN_SCOPE_NONE; i++) {
        if (str_equal(word, str_c(scope_names[i]))) {
            *out_scope = (enum admin_scope)i;
            return true;
        }
    }
    return false;
}

/* ---- the file ---- */

static void hash_of(struct str text, unsigned char out[SHA256_SIZE])
{
    struct sha256 sha;
    sha256_open(&sha);
    sha256_add(&sha, text);
    sha256_finish(&sha, out);
    sha256_close(&sha);
}

static void hex_of(const unsigned char hash[SHA256_SIZE], char out[HEX_SIZE])
{
    for (size_t i = 0; i < SHA256_SIZE; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_hex(struct str hex, unsigned char out[SHA256_SIZE])
{
    if (hex.len != 2 * SHA256_SIZE)
        return false;
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        int high = hex_digit(hex.ptr[2 * i]);
        int low = hex_digit(hex.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static struct str text_of(json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value))
                                 : STR_EMPTY;
}

static json_t *token_json(const struct token *token)
{
    char hex[HEX_SIZE];
    hex_of(token->hash, hex);
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:o}", "name", token->name, "sha256", hex, "scope",
                     scope_names[token->scope], "created_ns", (json_int_t)token->created_wall_ns,
                     "expires_ns", (json_int_t)token->expires_wall_ns, "by",
                     admin_json(str_c(token->by)));
}

static bool token_parse(json_t *object, struct token *out)
{
    json_t *expires = json_object_get(object, "expires_ns");
    *out = (struct token){
        .created_wall_ns = json_integer_value(json_object_get(object, "created_ns")),
        .expires_wall_ns = json_integer_value(expires),
    };
    (void)str_to_c(text_of(object, "by"), out->by, sizeof out->by);
    return str_to_c(text_of(object, "name"), out->name, sizeof out->name) && out->name[0] &&
           json_is_integer(expires) && parse_hex(text_of(object, "sha256"), out->hash) &&
           admin_scope_parse(text_of(object, "scope"), &out->scope);
}

static enum result load(struct admin_access *access, struct error *err)
{
    json_error_t problem;
    FILE *file = fopen(access->path, "re");
    if (!file)
        return errno == ENOENT ? OK : fail_errno(err, errno, "cannot read %s", access->path);
    json_t *root = json_loadf(file, JSON_REJECT_DUPLICATES, &problem);
    fclose(file);
    json_t *list = json_object_get(root, "tokens");
    size_t i;
    json_t *item;
    bool good = json_is_array(list) && json_array_size(list) <= TOKENS_MAX;
    json_array_foreach(list, i, item)
    {
        good = good && token_parse(item, &access->tokens[i]);
    }
    access->count = good ? json_array_size(list) : 0;
    json_decref(root);
    return good ? OK : fail(err, ERROR_PERMANENT, "%s: not a file of tokens", access->path);
}

static enum result save(struct admin_access *access, struct error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < access->count; i++)
        json_array_append_new(list, token_json(&access->tokens[i]));
    json_t *root = json_pack("{s:o}", "tokens", list);
    char *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    if (!text)
        return fail(err, ERROR_LIMIT, "cannot write %s", access->path);
    enum result result = file_replace(access->path, 0600, str_c(text), err);
    free(text);
    return result;
}

/* ---- life ---- */

enum result admin_access_open(struct str folder, struct admin_access **out_access,
                              struct error *err)
{
    struct admin_access *access = NEW(struct admin_access);
    enum result result = OK;
    pthread_mutex_init(&access->mutex, NULL);
    int length = snprintf(access->path, sizeof access->path, "%.*s/tokens.json", STR_ARG(folder));
    if (length < 0 || (size_t)length >= sizeof access->path)
        result = fail(err, ERROR_PERMANENT, "the path of the folder for tokens is too long");
    if (result == OK)
        result = load(access, err);
    if (result != OK) {
        admin_access_close(access);
        return FAILED;
    }
    *out_access = access;
    return OK;
}

void admin_access_close(struct admin_access *access)
{
    if (!access)
        return;
    pthread_mutex_destroy(&access->mutex);
    free(access);
}

/* ---- tokens ---- */

static struct token *find(struct admin_access *access, struct str name)
{
    for (size_t i = 0; i < access->count; i++) {
        if (str_equal(str_c(access->tokens[i].name), name))
            return &access->tokens[i];
    }
    return NULL;
}

/* "pst_" and 32 letters and digits. */
static struct str make_token(struct arena *arena)
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    unsigned char bytes[TOKEN_BYTES];
    char text[TOKEN_BYTES * 8 / 5];
    unsigned held = 0, bits = 0;
    size_t at = 0;
    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        held = held << 8 | bytes[i];
        for (bits += 8; bits >= 5; bits -= 5)
            text[at++] = digits[held >> (bits - 5) & 31];
        held &= 255;
    }
    struct str token = arena_printf(arena, "pst_%.*s", (int)at, text);
    explicit_bzero(bytes, sizeof bytes);
    explicit_bzero(text, sizeof text);
    return token;
}

static enum result add(struct admin_access *access, const struct admin_token_wish *wish,
                       struct str secret, struct error *err)
{
    struct token *token = &access->tokens[access->count];
    *token = (struct token){
        .scope = wish->scope,
        .created_wall_ns = clock_wall_ns(),
        .expires_wall_ns = wish->expires_wall_ns,
    };
    (void)str_to_c(wish->name, token->name, sizeof token->name);
    (void)str_to_c(str_slice(wish->by, 0, wish->by.len < BY_MAX ? wish->by.len : BY_MAX - 1),
                   token->by, sizeof token->by);
    hash_of(secret, token->hash);
    access->count++;
    enum result result = save(access, err);
    if (result != OK)
        access->count--;
    return result;
}

enum result admin_token_create(struct admin_access *access, const struct admin_token_wish *wish,
                               struct arena *arena, enum admin_token_result *out_result,
                               struct str *out_token, struct error *err)
{
    enum result result = OK;
    *out_token = STR_EMPTY;
    pthread_mutex_lock(&access->mutex);
    *out_result = find(access, wish->name)      ? ADMIN_TOKEN_EXISTS
                  : access->count == TOKENS_MAX ? ADMIN_TOKEN_TOO_MANY
                                                : ADMIN_TOKEN_MADE;
    if (*out_result == ADMIN_TOKEN_MADE) {
        struct str secret = make_token(arena);
        result = add(access, wish, secret, err);
        if (result == OK)
            *out_token = secret;
    }
    pthread_mutex_unlock(&access->mutex);
    return result;
}

enum result admin_token_revoke(struct admin_access *access, struct str name, bool *out_found,
                               struct error *err)
{
    enum result result = OK;
    pthread_mutex_lock(&access->mutex);
    struct token *token = find(access, name);
    *out_found = token != NULL;
    if (token) {
        size_t at = (size_t)(token - access->tokens);
        memmove(token, token + 1, (access->count - at - 1) * sizeof *token);
        access->count--;
        result = save(access, err);
    }
    pthread_mutex_unlock(&access->mutex);
    return result;
}

static json_t *time_json(int64_t wall_ns)
{
    char text[TIME_RFC3339_SIZE];
    return wall_ns > 0 && wall_ns != TIME_NEVER ? admin_json(clock_format_rfc3339(wall_ns, text))
                                                : json_null();
}

json_t *admin_token_list(struct admin_access *access)
{
    json_t *list = json_array();
    pthread_mutex_lock(&access->mutex);
    for (size_t i = 0; i < access->count; i++) {
        const struct token *token = &access->tokens[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "name", token->name,
                                              "scope", scope_names[token->scope], "created",
                                              time_json(token->created_wall_ns), "expires",
                                              time_json(token->expires_wall_ns), "by",
                                              admin_json(str_c(token->by)), "last_used",
                                              time_json(token->used_wall_ns)));
    }
    pthread_mutex_unlock(&access->mutex);
    return list;
}

/* ---- at the door ---- */

bool admin_access_check(struct admin_access *access, struct str authorization, struct arena *arena,
                        struct str *out_name, enum admin_scope *out_scope)
{
    unsigned char hash[SHA256_SIZE];
    const struct token *fits = NULL;
    if (!str_starts_nocase(authorization, STR("Bearer ")))
        return false;
    hash_of(str_trim(str_from(authorization, 7)), hash);
    int64_t now = clock_wall_ns();
    pthread_mutex_lock(&access->mutex);
    for (size_t i = 0; i < access->count; i++) { /* all of them, however early one fits */
        struct token *token = &access->tokens[i];
        if (sha256_equal(token->hash, hash) && now < token->expires_wall_ns) {
            token->used_wall_ns = now;
            fits = token;
        }
    }
    if (fits) {
        *out_name = arena_str(arena, str_c(fits->name));
        *out_scope = fits->scope;
    }
    pthread_mutex_unlock(&access->mutex);
    return fits != NULL;
}

bool admin_access_refusal(struct admin_access *access)
{
    int64_t minute = clock_monotonic_ns() / (60 * NS_PER_S);
    pthread_mutex_lock(&access->mutex);
    if (minute != access->minute)
        access->refusals = 0;
    access->minute = minute;
    bool told = ++access->refusals <= REFUSALS_A_MINUTE;
    pthread_mutex_unlock(&access->mutex);
    return told;
}
