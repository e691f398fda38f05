/* SPDX-License-Identifier: Apache-2.0 */
/* spool/vault.c - the keys, and short texts under them; vault_body.c has the bodies. */
#include "spool/vault.h"

#include "base/buf.h"
#include "base/memory.h"
#include "base/random.h"
#include "spool/bytes.h"
#include "spool/record.h"
#include "spool/vault_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEYS_MAX = 1000,
    FILE_MAX = 256 * 1024,
    ID_DIGITS = SPOOL_VAULT_ID_SIZE - 1,
    KEY_DIGITS = AEAD_KEY_SIZE * 2,
    TEXT_HEADER = 8 + SPOOL_VAULT_SALT_SIZE,
};

struct key {
    uint64_t id;
    unsigned char bytes[AEAD_KEY_SIZE];
};

struct spool_vault {
    pthread_mutex_t writing; /* one at a time adds a key; taken first */
    pthread_mutex_t lock;    /* for what others read; held for memory work only */
    struct key *keys;        /* room for KEYS_MAX; never moved */
    size_t count;
    size_t own;     /* the first so many stand in the file; the others in `extra` */
    uint64_t fresh; /* id of the one for what is new; 0: none */
    char *path;
};

/* ---- the file ---- */

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_digits(struct str text, unsigned char *out)
{
    for (size_t i = 0; i < text.len; i += 2) {
        int high = digit_of(text.ptr[i]), low = digit_of(text.ptr[i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i / 2] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static bool read_line(struct str line, struct key *out)
{
    unsigned char id[8];
    if (line.len != ID_DIGITS + 1 + KEY_DIGITS || line.ptr[ID_DIGITS] != ' ' ||
        !read_digits(str_slice(line, 0, ID_DIGITS), id) ||
        !read_digits(str_from(line, ID_DIGITS + 1), out->bytes))
        return false;
    out->id = 0;
    for (size_t i = 0; i < sizeof id; i++)
        out->id = out->id << 8 | id[i];
    return out->id != 0;
}

static enum result read_file(const char *path, struct buf *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = 1;
    if (fd < 0)
        return errno == ENOENT ? OK : fail_errno(err, errno, "cannot read %s", path);
    while (got > 0) {
        char *room = buf_reserve(out, 4096);
        got = room ? read(fd, room, 4096) : -1;
        if (got > 0)
            out->len += (size_t)got;
    }
    int number = errno;
    close(fd);
    if (out->overflow)
        return fail(err, ERROR_PERMANENT, "%s is too large for a file of keys", path);
    return got == 0 ? OK : fail_errno(err, number, "cannot read %s", path);
}

static enum result take_keys(struct spool_vault *vault, struct str text, const char *path,
                             struct error *err)
{
    struct str line;
    size_t number = 0;
    while (text.len && str_split(&text, '\n', &line)) {
        number++;
        line = str_trim(line);
        if (!line.len || line.ptr[0] == '#')
            continue;
        if (vault->count == KEYS_MAX)
            return fail(err, ERROR_LIMIT, "%s: more than %d keys", path, KEYS_MAX);
        if (!read_line(line, &vault->keys[vault->count]))
            return fail(err, ERROR_PERMANENT, "%s, line %zu: not ID KEY in hexadecimal", path,
                        number);
        vault->fresh = vault->keys[vault->count++].id;
    }
    return OK;
}

static enum result take_file(struct spool_vault *vault, const char *path, struct error *err)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, FILE_MAX);
    (void)buf_reserve(&text, FILE_MAX / 2); /* not moved, so that no copy of the keys is left */
    enum result result = read_file(path, &text, err);
    if (result == OK)
        result = take_keys(vault, buf_str(&text), path, err);
    if (text.ptr)
        memory_wipe(text.ptr, text.cap);
    return result;
}

enum result spool_vault_open(struct str path, struct str extra, struct spool_vault **out_vault,
                             struct error *err)
{
    struct spool_vault *vault = NEW(struct spool_vault);
    struct arena *arena = arena_new(0);
    pthread_mutex_init(&vault->lock, NULL);
    pthread_mutex_init(&vault->writing, NULL);
    vault->keys = memory_alloc_array(KEYS_MAX, sizeof *vault->keys);
    vault->path = memory_alloc(path.len + 1);
    (void)str_to_c(path, vault->path, path.len + 1);
    enum result result = take_file(vault, vault->path, err);
    vault->own = vault->count;
    if (result == OK && extra.len)
        result = take_file(vault, arena_c(arena, extra), err);
    arena_free(arena);
    if (result == OK)
        *out_vault = vault;
    else
        spool_vault_close(vault);
    return result;
}

void spool_vault_close(struct spool_vault *vault)
{
    if (!vault)
        return;
    memory_wipe(vault->keys, KEYS_MAX * sizeof *vault->keys);
    free(vault->keys);
    free(vault->path);
    pthread_mutex_destroy(&vault->lock);
    pthread_mutex_destroy(&vault->writing);
    free(vault);
}

static bool write_whole(int fd, struct str text)
{
    while (text.len > 0) {
        ssize_t done = write(fd, text.ptr, text.len);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        text = str_from(text, (size_t)done);
    }
    return fsync(fd) == 0;
}

static bool sync_folder_of(const char *path, struct arena *arena)
{
    ptrdiff_t slash = str_find_last(str_c(path), '/');
    struct str folder = slash > 0 ? str_slice(str_c(path), 0, (size_t)slash) : STR(".");
    int fd = open(arena_c(arena, folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return done;
}

/* The old file or the new one, whatever happens: a key that was lost costs mail. */
static enum result write_file(const char *path, struct str text, struct error *err)
{
    struct arena *arena = arena_new(0);
    const char *draft = arena_printf(arena, "%s.new", path).ptr;
    int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool written = fd >= 0 && fchmod(fd, 0600) == 0 && write_whole(fd, text);
    if (fd >= 0)
        close(fd);
    enum result result = OK;
    if (!written || rename(draft, path) != 0 || !sync_folder_of(path, arena))
        result = fail_errno(err, errno, "cannot write %s", path);
    arena_free(arena);
    return result;
}

static void print_keys(const struct spool_vault *vault, struct buf *out)
{
    buf_append(out, STR("# Keys of the quarantines: who has this file can read them, and without "
                        "it nobody can.\n# ID KEY; the last one is for what is new.\n"));
    for (size_t i = 0; i < vault->own; i++) {
        char id[SPOOL_VAULT_ID_SIZE];
        spool_vault_id_text(vault->keys[i].id, id);
        buf_printf(out, "%s ", id);
        for (size_t k = 0; k < AEAD_KEY_SIZE; k++)
            buf_printf(out, "%02x", vault->keys[i].bytes[k]);
        buf_append(out, STR("\n"));
    }
}

/* Under `writing`; others see the key when it is on disk. */
static enum result add_key(struct spool_vault *vault, struct error *err)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, FILE_MAX);
    if (vault->own < vault->count)
        return fail(err, ERROR_PERMANENT, "the keys come from a credential: add the new one there");
    if (vault->count == KEYS_MAX)
        return fail(err, ERROR_LIMIT, "there are %d keys already", KEYS_MAX);
    struct key *key = &vault->keys[vault->count];
    do
        random_bytes(&key->id, sizeof key->id);
    while (key->id == 0);
    random_bytes(key->bytes, sizeof key->bytes);
    vault->own = vault->count + 1;
    (void)buf_reserve(&text, FILE_MAX / 2); /* not moved, so that no copy of the keys is left */
    print_keys(vault, &text);
    enum result result = write_file(vault->path, buf_str(&text), err);
    memory_wipe(text.ptr, text.cap);
    vault->own = result == OK ? vault->count + 1 : vault->count;
    pthread_mutex_lock(&vault->lock);
    if (result == OK)
        vault->fresh = vault->keys[vault->count++].id;
    pthread_mutex_unlock(&vault->lock);
    return result;
}

enum result spool_vault_prepare(struct spool_vault *vault, struct error *err)
{
    pthread_mutex_lock(&vault->writing);
    enum result result = vault->count ? OK : add_key(vault, err);
    pthread_mutex_unlock(&vault->writing);
    return result;
}

enum result spool_vault_add_key(struct spool_vault *vault, uint64_t *out_id, struct error *err)
{
    pthread_mutex_lock(&vault->writing);
    enum result result = add_key(vault, err);
    *out_id = vault->fresh;
    pthread_mutex_unlock(&vault->writing);
    return result;
}

/* ---- keys ---- */

uint64_t spool_vault_current(struct spool_vault *vault)
{
    pthread_mutex_lock(&vault->lock);
    uint64_t id = vault->fresh;
    pthread_mutex_unlock(&vault->lock);
    return id;
}

static bool get_key(struct spool_vault *vault, uint64_t id, unsigned char out[AEAD_KEY_SIZE])
{
    bool found = false;
    pthread_mutex_lock(&vault->lock);
    for (size_t i = 0; i < vault->count && !found && id; i++) {
        found = vault->keys[i].id == id;
        for (size_t k = 0; k < AEAD_KEY_SIZE && found; k++)
            out[k] = vault->keys[i].bytes[k];
    }
    pthread_mutex_unlock(&vault->lock);
    return found;
}

bool spool_vault_has(struct spool_vault *vault, uint64_t id)
{
    unsigned char bytes[AEAD_KEY_SIZE];
    bool has = get_key(vault, id, bytes);
    memory_wipe(bytes, sizeof bytes);
    return has;
}

void spool_vault_id_text(uint64_t id, char out[SPOOL_VAULT_ID_SIZE])
{
    snprintf(out, SPOOL_VAULT_ID_SIZE, "%016llx", (unsigned long long)id);
}

bool spool_vault_mac(struct spool_vault *vault, uint64_t id, struct str purpose, struct str data,
                     unsigned char out[HMAC_SIZE])
{
    unsigned char master[AEAD_KEY_SIZE], derived[HMAC_SIZE];
    bool has = get_key(vault, id, master);
    if (has) {
        hmac_sha256(str_of((const char *)master, sizeof master), purpose, derived);
        hmac_sha256(str_of((const char *)derived, sizeof derived), data, out);
    }
    memory_wipe(master, sizeof master);
    memory_wipe(derived, sizeof derived);
    return has;
}

enum result spool_vault_derive(struct spool_vault *vault, const struct spool_vault_place *place,
                               unsigned char out[AEAD_KEY_SIZE], struct error *err)
{
    unsigned char data[SPOOL_VAULT_SALT_SIZE + 16];
    char text[SPOOL_VAULT_ID_SIZE];
    for (size_t i = 0; i < SPOOL_VAULT_SALT_SIZE; i++)
        data[i] = place->salt[i];
    spool_id_encode(place->message, data + SPOOL_VAULT_SALT_SIZE);
    spool_vault_id_text(place->key, text);
    if (!place->key)
        return fail(err, ERROR_TEMPORARY, "there is no key to encrypt with");
    if (!spool_vault_mac(vault, place->key, place->purpose, str_of((const char *)data, sizeof data),
                         out))
        return fail(err, ERROR_TEMPORARY, "it is encrypted with the key %s, which is not in %s",
                    text, vault->path);
    return OK;
}

/* ---- short texts ---- */

/* text := u64 key, 16 bytes salt, bytes and tag under a key of its own */
static const unsigned char no_nonce[AEAD_NONCE_SIZE];

enum result spool_vault_seal_text(struct spool_vault *vault, struct mail_id message,
                                  struct str text, struct arena *arena, struct str *out,
                                  struct error *err)
{
    unsigned char key[AEAD_KEY_SIZE];
    char *sealed = arena_alloc(arena, TEXT_HEADER + text.len + AEAD_TAG_SIZE);
    unsigned char *header = (unsigned char *)sealed;
    struct spool_vault_place place = {spool_vault_current(vault), header + 8, message,
                                      STR("postern quarantine text")};
    spool_put64(header, place.key);
    random_bytes(header + 8, SPOOL_VAULT_SALT_SIZE);
    if (spool_vault_derive(vault, &place, key, err) != OK)
        return FAILED;
    aead_seal(&(struct aead_place){key, no_nonce, str_of(sealed, TEXT_HEADER)}, text,
              sealed + TEXT_HEADER);
    memory_wipe(key, sizeof key);
    *out = str_of(sealed, TEXT_HEADER + text.len + AEAD_TAG_SIZE);
    return OK;
}

uint64_t spool_vault_key_of(struct str sealed)
{
    return sealed.len < TEXT_HEADER + AEAD_TAG_SIZE
               ? 0
               : spool_get64((const unsigned char *)sealed.ptr);
}

enum result spool_vault_open_text(struct spool_vault *vault, struct mail_id message,
                                  struct str sealed, struct arena *arena, struct str *out,
                                  struct error *err)
{
    unsigned char key[AEAD_KEY_SIZE];
    const unsigned char *header = (const unsigned char *)sealed.ptr;
    struct spool_vault_place place = {spool_vault_key_of(sealed), header + 8, message,
                                      STR("postern quarantine text")};
    if (!place.key)
        return fail(err, ERROR_TEMPORARY, "this is no sealed text");
    if (spool_vault_derive(vault, &place, key, err) != OK)
        return FAILED;
    struct str rest = str_from(sealed, TEXT_HEADER);
    char *text = arena_alloc(arena, rest.len);
    bool fits = aead_open(&(struct aead_place){key, no_nonce, str_slice(sealed, 0, TEXT_HEADER)},
                          rest, text);
    memory_wipe(key, sizeof key);
    if (!fits)
        return fail(err, ERROR_TEMPORARY, "it does not open with its key");
    *out = str_of(text, rest.len - AEAD_TAG_SIZE);
    return OK;
}
