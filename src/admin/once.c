/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file: a first line "postern-once 1 KEY" (of the HMACs), then lines that tell what happened:
 *   b KEY BODY MILLISECONDS ID   a request began
 *   d KEY STATUS TEXT            its answer; TEXT is JSON in one line
 *   f KEY                        nothing was done
 * A last line that is cut off is what was being written when the process ended. What is over is
 * left out when the file is written anew: at the start, and when it is much longer than it need be.
 */
#include "admin/once.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/list.h"
#include "base/map.h"
#include "base/memory.h"
#include "base/random.h"
#include "crypto/hmac.h"
#include "crypto/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CEILING = 16 * 1024 * 1024,
    FILE_MAX = 4 * CEILING,
    SLACK = 1024 * 1024, /* of lines that are over */
    HEX_SIZE = 2 * HMAC_SIZE + 1,
    ENTRY_BYTES = 400, /* with its place in the map and its line */
    KEEP_MS = ONCE_HOURS * 3600 * 1000,
};
#define FIRST_WORDS "postern-once 1 "

struct entry {
    struct list link; /* the oldest first */
    char key[HEX_SIZE];
    char body[HEX_SIZE];
    int64_t begun_ms;
    struct mail_id id;
    enum once_state state; /* RUNNING, DONE or UNKNOWN */
    bool secret;
    unsigned status;
    struct buf text;
};

struct once {
    pthread_mutex_t mutex; /* for all that follows */
    char path[4096];
    int fd; /* -1: no file yet */
    unsigned char secret[HMAC_SIZE];
    struct list entries;
    struct map map; /* by key */
    size_t bytes, ceiling;
    size_t file_bytes;
};

/* ---- words ---- */

static void write_hex(const unsigned char *bytes, char out[HEX_SIZE])
{
    for (size_t i = 0; i < HMAC_SIZE; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static bool is_hex(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_digit(text.ptr[i]) && !(text.ptr[i] >= 'a' && text.ptr[i] <= 'f'))
            return false;
    return text.len == HEX_SIZE - 1;
}

/* With the length of the first, so that no two requests look alike. */
static void hash(const struct once *once, struct str a, struct str b, char out[HEX_SIZE])
{
    unsigned char digest[SHA256_SIZE], mac[HMAC_SIZE];
    char length[32];
    struct sha256 sha;
    snprintf(length, sizeof length, "%zu:", a.len);
    sha256_open(&sha);
    sha256_add(&sha, str_c(length));
    sha256_add(&sha, a);
    sha256_add(&sha, b);
    sha256_finish(&sha, digest);
    sha256_close(&sha);
    hmac_sha256(str_of((const char *)once->secret, sizeof once->secret),
                str_of((const char *)digest, sizeof digest), mac);
    write_hex(mac, out);
}

/* ---- entries ---- */

static struct entry *find(const struct once *once, const char *key)
{
    return map_get(&once->map, str_c(key));
}

static struct entry *add(struct once *once, struct str key, struct str body, int64_t begun_ms,
                         struct mail_id id)
{
    struct entry *entry = NEW(struct entry);
    str_to_c(key, entry->key, sizeof entry->key);
    str_to_c(body, entry->body, sizeof entry->body);
    entry->begun_ms = begun_ms;
    entry->id = id;
    entry->state = ONCE_RUNNING;
    buf_init(&entry->text, FILE_MAX);
    list_append(&once->entries, &entry->link);
    map_put(&once->map, str_c(entry->key), entry);
    once->bytes += ENTRY_BYTES;
    return entry;
}

static void drop(struct once *once, struct entry *entry)
{
    map_remove(&once->map, str_c(entry->key));
    list_remove(&entry->link);
    once->bytes -= ENTRY_BYTES + entry->text.len;
    if (entry->text.len)
        memory_wipe(entry->text.ptr, entry->text.len);
    buf_done(&entry->text);
    free(entry);
}

static void set_done(struct once *once, struct entry *entry, unsigned status, struct str text)
{
    once->bytes += text.len;
    entry->state = ONCE_DONE;
    entry->status = status;
    buf_append(&entry->text, text);
}

static void drop_old(struct once *once, int64_t now_ms)
{
    LIST_EACH (&once->entries, link) {
        struct entry *entry = CONTAINER(link, struct entry, link);
        if (entry->begun_ms + KEEP_MS > now_ms)
            break;
        if (entry->state != ONCE_RUNNING)
            drop(once, entry);
    }
}

/* ---- the file ---- */

static void format_begin(const struct entry *entry, struct buf *out)
{
    buf_printf(out, "b %s %s %lld %s\n", entry->key, entry->body, (long long)entry->begun_ms,
               mail_id_text(entry->id).chars);
}

static void format_done(const struct entry *entry, struct buf *out)
{
    buf_printf(out, "d %s %u ", entry->key, entry->status);
    buf_append(out, buf_str(&entry->text));
    buf_append_byte(out, '\n');
}

/* All that is known, in place of what stands there; it is open then. */
static enum result write_anew(struct once *once, struct error *err)
{
    struct buf text BUF_CLEANUP;
    char secret[HEX_SIZE];
    buf_init(&text, FILE_MAX);
    write_hex(once->secret, secret);
    buf_printf(&text, FIRST_WORDS "%s\n", secret);
    LIST_EACH (&once->entries, link) {
        const struct entry *entry = CONTAINER(link, struct entry, link);
        if (entry->secret)
            continue;
        format_begin(entry, &text);
        if (entry->state == ONCE_DONE)
            format_done(entry, &text);
    }
    if (text.overflow)
        return fail(err, ERROR_LIMIT, "it would be too long");
    if (file_replace(once->path, 0600, buf_str(&text), err) == FAILED)
        return FAILED;
    if (once->fd >= 0)
        close(once->fd);
    once->fd = open(once->path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (once->fd < 0)
        return fail_errno(err, errno, "cannot open it");
    once->file_bytes = text.len;
    return OK;
}

/* A line about what has happened to an entry by now. */
static enum result append(struct once *once, struct str line, struct error *err)
{
    if (once->fd < 0 || once->file_bytes > 2 * once->bytes + SLACK)
        return write_anew(once, err);
    if (file_write(once->fd, line, err) == FAILED) {
        close(once->fd); /* a part of the line may stand there: begin anew */
        once->fd = -1;
        return FAILED;
    }
    once->file_bytes += line.len;
    return OK;
}

/* ---- reading it ---- */

static void read_begin(struct once *once, struct str rest)
{
    struct str key, body, time;
    struct mail_id id;
    uint64_t begun_ms;
    if (!str_split(&rest, ' ', &key) || !rest.ptr || !str_split(&rest, ' ', &body) || !rest.ptr ||
        !str_split(&rest, ' ', &time) || !rest.ptr || !is_hex(key) || !is_hex(body) ||
        !str_to_uint(time, INT64_MAX - KEEP_MS, &begun_ms) || !mail_id_parse(rest, &id) ||
        map_get(&once->map, key))
        return;
    add(once, key, body, (int64_t)begun_ms, id)->state = ONCE_UNKNOWN;
}

static void read_line(struct once *once, struct str line)
{
    struct str kind, key, status, rest = line;
    uint64_t number;
    if (!str_split(&rest, ' ', &kind) || !rest.ptr)
        return;
    if (str_equal(kind, STR("b"))) {
        read_begin(once, rest);
        return;
    }
    str_split(&rest, ' ', &key);
    struct entry *entry = map_get(&once->map, key);
    if (entry && str_equal(kind, STR("f")))
        drop(once, entry);
    if (entry && str_equal(kind, STR("d")) && entry->state != ONCE_DONE && rest.ptr &&
        str_split(&rest, ' ', &status) && rest.ptr && str_to_uint(status, 999, &number))
        set_done(once, entry, (unsigned)number, rest);
}

static bool read_secret(struct once *once, struct str line)
{
    if (!str_starts(line, STR(FIRST_WORDS)) || !is_hex(str_from(line, sizeof FIRST_WORDS - 1)))
        return false;
    struct str hex = str_from(line, sizeof FIRST_WORDS - 1);
    for (size_t i = 0; i < HMAC_SIZE; i++) {
        unsigned value = 0;
        for (size_t k = 2 * i; k < 2 * i + 2; k++)
            value = value * 16 + (unsigned)(ascii_is_digit(hex.ptr[k]) ? hex.ptr[k] - '0'
                                                                       : hex.ptr[k] - 'a' + 10);
        once->secret[i] = (unsigned char)value;
    }
    return true;
}

static enum result read_file(struct once *once, struct error *err)
{
    struct buf text BUF_CLEANUP;
    struct str rest, line;
    buf_init(&text, FILE_MAX + SLACK);
    if (access(once->path, F_OK) != 0 && errno == ENOENT)
        return OK;
    if (file_read_path(once->path, &text, err) == FAILED)
        return FAILED;
    rest = buf_str(&text);
    ptrdiff_t end = str_find(rest, '\n');
    if (end < 0 || !read_secret(once, str_slice(rest, 0, (size_t)end)))
        return fail(err, ERROR_PERMANENT, "not a file of keys");
    rest = str_from(rest, (size_t)end + 1);
    while ((end = str_find(rest, '\n')) >= 0) { /* what ends in no newline was cut off */
        line = str_slice(rest, 0, (size_t)end);
        rest = str_from(rest, (size_t)end + 1);
        read_line(once, line);
    }
    drop_old(once, clock_wall_ns() / NS_PER_MS);
    return write_anew(once, err);
}

enum result once_open(struct str folder, size_t ceiling, struct once **out_once, struct error *err)
{
    struct once *once = NEW(struct once);
    pthread_mutex_init(&once->mutex, NULL);
    list_init(&once->entries);
    map_init(&once->map);
    once->fd = -1;
    once->ceiling = ceiling ? ceiling : CEILING;
    random_bytes(once->secret, sizeof once->secret);
    snprintf(once->path, sizeof once->path, "%.*s/once.log", STR_ARG(folder));
    struct error why;
    if (read_file(once, &why) == OK) {
        *out_once = once;
        return OK;
    }
    enum result result = fail(err, why.kind, "%s: %s", once->path, why.text);
    once_close(once);
    return result;
}

void once_close(struct once *once)
{
    if (!once)
        return;
    LIST_EACH (&once->entries, link)
        drop(once, CONTAINER(link, struct entry, link));
    map_done(&once->map);
    if (once->fd >= 0)
        close(once->fd);
    pthread_mutex_destroy(&once->mutex);
    free(once);
}

/* ---- requests ---- */

static struct entry *begin(struct once *once, const struct once_request *request, const char *key,
                           const char *body)
{
    struct buf line BUF_CLEANUP;
    struct error err;
    buf_init(&line, 512);
    if (once->bytes + ENTRY_BYTES > once->ceiling)
        return NULL;
    struct entry *entry = add(once, str_c(key), str_c(body), request->now_ms, mail_id_new());
    entry->secret = request->secret;
    if (entry->secret)
        return entry;
    format_begin(entry, &line);
    if (append(once, buf_str(&line), &err) == OK)
        return entry;
    drop(once, entry);
    return NULL;
}

void once_begin(struct once *once, const struct once_request *request, struct arena *arena,
                struct once_answer *out)
{
    char key[HEX_SIZE], body[HEX_SIZE];
    *out = (struct once_answer){.state = ONCE_NEW, .text = STR_EMPTY};
    pthread_mutex_lock(&once->mutex);
    drop_old(once, request->now_ms);
    hash(once, request->actor, request->key, key);
    hash(once, request->what, request->body, body);
    struct entry *entry = find(once, key);
    if (!entry) {
        entry = begin(once, request, key, body);
        out->state = entry ? ONCE_NEW : ONCE_FULL;
    } else if (strcmp(entry->body, body) != 0) {
        out->state = ONCE_OTHER;
    } else {
        out->state = entry->state;
    }
    if (entry)
        out->id = entry->id;
    if (out->state == ONCE_DONE) {
        out->status = entry->status;
        out->text = arena_str(arena, buf_str(&entry->text));
    }
    pthread_mutex_unlock(&once->mutex);
}

void once_done(struct once *once, const struct once_request *request, unsigned status,
               struct str text)
{
    struct buf line BUF_CLEANUP;
    struct error err;
    char key[HEX_SIZE];
    buf_init(&line, FILE_MAX);
    pthread_mutex_lock(&once->mutex);
    hash(once, request->actor, request->key, key);
    struct entry *entry = find(once, key);
    if (entry && entry->state != ONCE_DONE) {
        set_done(once, entry, status, text);
        if (!entry->secret) {
            format_done(entry, &line);
            (void)append(once, buf_str(&line), &err); /* then a restart asks whether it was done */
        }
    }
    pthread_mutex_unlock(&once->mutex);
}

void once_forget(struct once *once, const struct once_request *request)
{
    struct buf line BUF_CLEANUP;
    struct error err;
    char key[HEX_SIZE];
    buf_init(&line, 128);
    pthread_mutex_lock(&once->mutex);
    hash(once, request->actor, request->key, key);
    struct entry *entry = find(once, key);
    if (entry) {
        bool written = !entry->secret;
        buf_printf(&line, "f %s\n", key);
        drop(once, entry);
        if (written)
            (void)append(once, buf_str(&line), &err);
    }
    pthread_mutex_unlock(&once->mutex);
}
