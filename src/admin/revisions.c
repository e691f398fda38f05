/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/revisions.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "crypto/sha256.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SPARE_SIZE = 4096,
    NAME_SIZE = 32,
    FILE_MAX = 64 * 1024 * 1024,
    READ_PIECE = 65536,
    NUMBER_MAX = 999999999
};

struct revisions {
    int folder_fd;
    pthread_mutex_t mutex;
    struct revisions_state state;
};

/* ---- files ---- */

/* Takes `json`. */
static enum result save(struct revisions *revisions, const char *name, json_t *json,
                        struct error *err)
{
    char draft[NAME_SIZE + 8];
    snprintf(draft, sizeof draft, "%s.new", name);
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(json);
    if (!text)
        return fail(err, ERROR_PERMANENT, "the configuration is not UTF-8");
    int fd = openat(revisions->folder_fd, draft,
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    enum result result = fd >= 0 ? file_write(fd, str_c(text), err)
                                 : fail(err, ERROR_TEMPORARY, "%s", strerror(errno));
    if (fd >= 0)
        close(fd);
    free(text);
    if (result != OK)
        return fail_context(err, "cannot write revisions/%s", draft);
    if (renameat(revisions->folder_fd, draft, revisions->folder_fd, name) != 0 ||
        fsync(revisions->folder_fd) != 0)
        return fail_errno(err, errno, "cannot write revisions/%s", name);
    return OK;
}

/* NULL: there is none, or it cannot be used; `err` says which. */
static json_t *read_json(struct revisions *revisions, const char *name, struct error *err)
{
    int fd = openat(revisions->folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        int number = errno;
        (void)!fail_errno(err, number, "cannot read revisions/%s", name);
        if (number == ENOENT)
            err->kind = ERROR_PERMANENT;
        return NULL;
    }
    struct buf text BUF_CLEANUP;
    buf_init(&text, FILE_MAX);
    ssize_t got = 1;
    while (got > 0) {
        char *room = buf_reserve(&text, READ_PIECE);
        got = room ? read(fd, room, READ_PIECE) : -1;
        text.len += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    json_t *json = got < 0 ? NULL : json_loadb(buf_str(&text).ptr, text.len, 0, NULL);
    if (!json)
        (void)!fail(err, ERROR_TEMPORARY, "revisions/%s cannot be read", name);
    return json;
}

static struct str text_of(json_t *object, const char *name, struct arena *arena)
{
    json_t *value = json_object_get(object, name);
    const char *text = json_string_value(value);
    return text ? arena_str(arena, str_of(text, json_string_length(value))) : STR_EMPTY;
}

static void copy_hash(json_t *object, const char *name, char out[REVISION_HASH_SIZE])
{
    if (!str_to_c(str_c(json_string_value(json_object_get(object, name))), out, REVISION_HASH_SIZE))
        out[0] = '\0';
}

/* ---- the state ---- */

static unsigned number_of(json_t *object, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(object, name));
    return value > 0 && value <= NUMBER_MAX ? (unsigned)value : 0;
}

static enum result read_state(struct revisions *revisions, struct error *err)
{
    json_t *json = read_json(revisions, "state.json", err);
    if (!json)
        return err->kind == ERROR_PERMANENT ? OK : FAILED;
    struct revisions_state *state = &revisions->state;
    state->current = number_of(json, "current");
    state->last = number_of(json, "last");
    state->pending = number_of(json, "pending");
    state->share = number_of(json, "share");
    state->confirm_by_ns = json_integer_value(json_object_get(json, "confirm_by_ns"));
    state->applied_ns = json_integer_value(json_object_get(json, "applied_ns"));
    copy_hash(json, "file_hash", state->file_hash);
    json_decref(json);
    return OK;
}

static json_t *state_json(const struct revisions_state *state)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "current", (json_int_t)state->current,
                     "last", (json_int_t)state->last, "pending", (json_int_t)state->pending,
                     "share", (json_int_t)state->share, "confirm_by_ns",
                     (json_int_t)state->confirm_by_ns, "applied_ns", (json_int_t)state->applied_ns,
                     "file_hash", state->file_hash);
}

static enum result save_state(struct revisions *revisions, const struct revisions_state *state,
                              struct error *err)
{
    return save(revisions, "state.json", state_json(state), err);
}

/* ---- room for a state, for the time when there is none ---- */

/* Blanks that the disk has taken. That there is none is no fault: it is tried after each state. */
static void make_spare(struct revisions *revisions)
{
    struct stat found;
    struct error unheard;
    char blanks[SPARE_SIZE];
    bool exists = fstatat(revisions->folder_fd, "state.spare", &found, AT_SYMLINK_NOFOLLOW) == 0;
    if (exists && found.st_size == SPARE_SIZE)
        return;
    memset(blanks, ' ', sizeof blanks);
    int fd = openat(revisions->folder_fd, "state.spare",
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    (void)!file_write(fd, str_of(blanks, sizeof blanks), &unheard);
    close(fd);
}

/* The blocks are there already, and so is the name that it gets. */
static enum result fill_spare(int fd, const char *text)
{
    char room[SPARE_SIZE];
    size_t len = strlen(text);
    struct stat found;
    if (fd < 0 || len >= sizeof room || fstat(fd, &found) != 0 || found.st_size != SPARE_SIZE)
        return FAILED;
    memset(room, ' ', sizeof room);
    memcpy(room, text, len);
    room[sizeof room - 1] = '\n';
    return pwrite(fd, room, sizeof room, 0) == (ssize_t)sizeof room && fdatasync(fd) == 0 ? OK
                                                                                          : FAILED;
}

enum result revisions_set_state_in_spare(struct revisions *revisions,
                                         const struct revisions_state *state)
{
    json_t *json = state_json(state);
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(json);
    int fd = openat(revisions->folder_fd, "state.spare", O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    enum result result = text ? fill_spare(fd, text) : FAILED;
    if (fd >= 0)
        close(fd);
    free(text);
    if (result != OK ||
        renameat(revisions->folder_fd, "state.spare", revisions->folder_fd, "state.json") != 0 ||
        fsync(revisions->folder_fd) != 0)
        return FAILED;
    revisions_assume_state(revisions, state);
    make_spare(revisions); /* the state before left some room */
    return OK;
}

struct revisions_state revisions_state(struct revisions *revisions)
{
    pthread_mutex_lock(&revisions->mutex);
    struct revisions_state state = revisions->state;
    pthread_mutex_unlock(&revisions->mutex);
    return state;
}

enum result revisions_set_state(struct revisions *revisions, const struct revisions_state *state,
                                struct error *err)
{
    if (save_state(revisions, state, err) != OK)
        return FAILED;
    revisions_assume_state(revisions, state);
    make_spare(revisions);
    return OK;
}

void revisions_assume_state(struct revisions *revisions, const struct revisions_state *state)
{
    pthread_mutex_lock(&revisions->mutex);
    revisions->state = *state;
    pthread_mutex_unlock(&revisions->mutex);
}

/* ---- life ---- */

/* A state that was lost does not give out a number again. */
static void find_last(struct revisions *revisions)
{
    struct arena *arena = arena_new(0);
    size_t count;
    const unsigned *numbers = revisions_numbers(revisions, arena, &count);
    if (count && numbers[count - 1] > revisions->state.last)
        revisions->state.last = numbers[count - 1];
    arena_free(arena);
}

enum result revisions_open(struct str folder, struct revisions **out, struct error *err)
{
    struct arena *arena = arena_new(0);
    const char *path = arena_c(arena, folder);
    struct revisions *revisions = NEW(struct revisions);
    pthread_mutex_init(&revisions->mutex, NULL);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        (void)!fail_errno(err, errno, "cannot make %s", path);
    revisions->folder_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    enum result result = OK;
    if (revisions->folder_fd < 0)
        result = fail_errno(err, errno, "cannot open %s", path);
    else
        result = read_state(revisions, err);
    arena_free(arena);
    if (result == OK) {
        find_last(revisions);
        *out = revisions;
    } else {
        revisions_close(revisions);
    }
    return result;
}

void revisions_close(struct revisions *revisions)
{
    if (!revisions)
        return;
    if (revisions->folder_fd >= 0)
        close(revisions->folder_fd);
    pthread_mutex_destroy(&revisions->mutex);
    free(revisions);
}

/* ---- one revision ---- */

/* The name beside the main file: "postern.yaml" and "conf.d/a.yaml" are alike in each folder. */
static struct str short_name(const struct config_texts *texts, size_t index)
{
    ptrdiff_t slash = str_find_last(texts->items[0].name, '/');
    struct str name = texts->items[index].name;
    return index == 0 ? STR("main") : str_from(name, (size_t)(slash + 1));
}

void revisions_hash(const struct config_texts *texts, char out[REVISION_HASH_SIZE])
{
    unsigned char bytes[SHA256_SIZE];
    struct sha256 sha;
    sha256_open(&sha);
    for (size_t i = 0; i < texts->count; i++) {
        char lengths[64];
        struct str name = short_name(texts, i);
        snprintf(lengths, sizeof lengths, "%zu %zu\n", name.len, texts->items[i].text.len);
        sha256_add(&sha, str_c(lengths));
        sha256_add(&sha, name);
        sha256_add(&sha, texts->items[i].text);
    }
    sha256_finish(&sha, bytes);
    sha256_close(&sha);
    for (size_t i = 0; i < SHA256_SIZE; i++)
        snprintf(&out[i * 2], 3, "%02x", bytes[i]);
}

bool revision_parse(struct str text, unsigned *out_number)
{
    uint64_t value = 0;
    if (str_starts(text, STR("r")))
        text = str_from(text, 1);
    if (!str_to_uint(text, NUMBER_MAX, &value) || value == 0)
        return false;
    *out_number = (unsigned)value;
    return true;
}

static json_t *files_json(const struct config_texts *texts)
{
    json_t *files = json_array();
    for (size_t i = 0; i < texts->count; i++) {
        const struct config_text *one = &texts->items[i];
        json_array_append_new(files, json_pack("{s:s%, s:s%}", "name", one->name.ptr, one->name.len,
                                               "text", one->text.ptr, one->text.len));
    }
    return files;
}

static void file_name(unsigned number, char out[NAME_SIZE])
{
    snprintf(out, NAME_SIZE, "%u.json", number);
}

static void read_files(json_t *files, struct arena *arena, struct config_texts *out)
{
    size_t count = json_array_size(files);
    out->items = arena_alloc_array(arena, count + 1, sizeof *out->items);
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        json_t *file = json_array_get(files, i);
        out->items[i] = (struct config_text){.name = text_of(file, "name", arena),
                                             .text = text_of(file, "text", arena)};
    }
}

enum result revisions_read(struct revisions *revisions, unsigned number, struct arena *arena,
                           struct revision *out, struct error *err)
{
    char name[NAME_SIZE];
    file_name(number, name);
    json_t *json = read_json(revisions, name, err);
    if (!json)
        return err->kind == ERROR_PERMANENT
                   ? fail(err, ERROR_PERMANENT, "there is no revision r%u", number)
                   : FAILED;
    *out = (struct revision){
        .number = number,
        .made_ns = json_integer_value(json_object_get(json, "made_ns")),
        .actor = text_of(json, "actor", arena),
        .reason = text_of(json, "reason", arena),
        .fate = text_of(json, "fate", arena),
    };
    copy_hash(json, "hash", out->hash);
    read_files(json_object_get(json, "files"), arena, &out->texts);
    json_decref(json);
    return out->texts.count ? OK : fail(err, ERROR_TEMPORARY, "revision r%u is damaged", number);
}

enum result revisions_set_fate(struct revisions *revisions, unsigned number, struct str fate,
                               struct error *err)
{
    char name[NAME_SIZE];
    file_name(number, name);
    json_t *json = read_json(revisions, name, err);
    if (!json)
        return FAILED;
    json_object_set_new(json, "fate", json_stringn(fate.ptr, fate.len));
    return save(revisions, name, json, err);
}

/* ---- all of them ---- */

static int compare_numbers(const void *a, const void *b)
{
    unsigned left = *(const unsigned *)a;
    unsigned right = *(const unsigned *)b;
    return left < right ? -1 : left > right;
}

unsigned *revisions_numbers(struct revisions *revisions, struct arena *arena, size_t *out_count)
{
    size_t cap = 64;
    unsigned *numbers = arena_alloc_array(arena, cap, sizeof *numbers);
    *out_count = 0;
    int copy = openat(revisions->folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (!folder) {
        if (copy >= 0)
            close(copy);
        return numbers;
    }
    for (struct dirent *item; (item = readdir(folder));) {
        struct str name = str_c(item->d_name);
        uint64_t value;
        if (!str_ends(name, STR(".json")) ||
            !str_to_uint(str_slice(name, 0, name.len - 5), NUMBER_MAX, &value) || value == 0)
            continue;
        if (*out_count == cap) {
            unsigned *more = arena_alloc_array(arena, cap * 2, sizeof *more);
            memcpy(more, numbers, cap * sizeof *more);
            numbers = more;
            cap *= 2;
        }
        numbers[(*out_count)++] = (unsigned)value;
    }
    closedir(folder);
    if (*out_count)
        qsort(numbers, *out_count, sizeof *numbers, compare_numbers);
    return numbers;
}

/* The newest stay. What cannot be removed is tried again the next time. */
static void prune(struct revisions *revisions)
{
    struct arena *arena = arena_new(0);
    const struct revisions_state *state = &revisions->state;
    size_t count;
    uint64_t bytes = 0;
    size_t kept = 0;
    const unsigned *numbers = revisions_numbers(revisions, arena, &count);
    for (size_t i = count; i-- > 0;) {
        char name[NAME_SIZE];
        struct stat facts;
        file_name(numbers[i], name);
        if (fstatat(revisions->folder_fd, name, &facts, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        bytes += (uint64_t)facts.st_size;
        kept++;
        bool named = numbers[i] == state->current || numbers[i] == state->pending ||
                     numbers[i] == state->last;
        if (!named && (kept > REVISIONS_KEPT || bytes > REVISIONS_BYTES))
            unlinkat(revisions->folder_fd, name, 0);
    }
    arena_free(arena);
}

enum result revisions_add(struct revisions *revisions, const struct config_texts *texts,
                          struct str actor, struct str reason, unsigned *out_number,
                          struct error *err)
{
    char name[NAME_SIZE];
    char hash[REVISION_HASH_SIZE];
    unsigned number = revisions->state.last + 1;
    if (number > NUMBER_MAX)
        return fail(err, ERROR_LIMIT, "there are no more numbers for revisions");
    file_name(number, name);
    revisions_hash(texts, hash);
    json_t *json =
        json_pack("{s:I, s:I, s:s%, s:s%, s:s, s:s, s:o}", "number", (json_int_t)number, "made_ns",
                  (json_int_t)clock_wall_ns(), "actor", actor.ptr, actor.len, "reason", reason.ptr,
                  reason.len, "fate", "", "hash", hash, "files", files_json(texts));
    if (!json)
        return fail(err, ERROR_PERMANENT, "the configuration or its reason is not UTF-8");
    if (save(revisions, name, json, err) != OK)
        return FAILED;
    pthread_mutex_lock(&revisions->mutex);
    revisions->state.last = number;
    pthread_mutex_unlock(&revisions->mutex);
    *out_number = number;
    prune(revisions);
    return OK;
}
