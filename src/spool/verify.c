/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk over the files that shares nothing with the running spool but the layout: all segments,
 * all live entries, each byte of each large body. A running spool moves on meanwhile: mail that the
 * log had is delivered and its body gone before that is looked for. So what is found is a problem
 * only when it is found again by another walk, over the log as it is then; the rest has changed.
 */
#include "base/buf.h"
#include "base/fault.h"
#include "base/memory.h"
#include "spool/internal.h"
#include "spool/load.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

enum { WALKS_MAX = 5 };

/* What makes a problem the same as one of another walk: the entry, or the place. */
struct problem {
    struct mail_id entry; /* with a body that is not as it should be; else zero */
    uint64_t segment, begin;
};
struct problems { /* those of the walk before are sorted: there may be as many as entries */
    struct problem *items;
    size_t count, cap;
};

struct verify {
    int log_fd;
    int bulk_fd;
    struct spool_loader loader;
    struct spool_index index;
    struct spool_recovered recovered;
    struct buf *out;
    bool verbose;
    struct problems found;
    const struct problems *before; /* of the walk before; NULL: this is the first */
    size_t changed;                /* of those found: not found before */
};

static int compare_numbers(uint64_t left, uint64_t right)
{
    return left < right ? -1 : left > right ? 1 : 0;
}

static int compare_problems(const void *left, const void *right)
{
    const struct problem *a = left;
    const struct problem *b = right;
    int order = compare_numbers(a->entry.high, b->entry.high);
    order = order ? order : compare_numbers(a->entry.low, b->entry.low);
    order = order ? order : compare_numbers(a->segment, b->segment);
    return order ? order : compare_numbers(a->begin, b->begin);
}

/* Remembers it. How the line about it begins. */
static const char *note(struct verify *verify, struct problem problem)
{
    struct problems *found = &verify->found;
    if (found->count == found->cap) {
        found->cap = found->cap ? 2 * found->cap : 16;
        found->items = memory_resize_array(found->items, found->cap, sizeof *found->items);
    }
    found->items[found->count++] = problem;
    if (verify->before && bsearch(&problem, verify->before->items, verify->before->count,
                                  sizeof problem, compare_problems))
        return "problem";
    verify->changed++;
    return "changed meanwhile";
}

static enum result open_folders(struct verify *verify, struct str path, struct error *err)
{
    char text[PATH_MAX];
    if (!str_to_c(path, text, sizeof text))
        return fail(err, ERROR_PERMANENT, "path is too long");
    int folder = open(text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return fail_errno(err, errno, "open %s", text);
    verify->log_fd = openat(folder, "log", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int number = errno;
    verify->bulk_fd = openat(folder, "bodies", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(folder);
    if (verify->log_fd < 0)
        return fail_errno(err, number, "%s is no spool: open log", text);
    return OK;
}

static void tell_segments(struct verify *verify)
{
    static const char *const kinds[] = {"", "main", "cold"};
    for (size_t i = 0; i < verify->loader.count && verify->verbose; i++) {
        const struct spool_recover_segment *source = &verify->loader.segments[i];
        buf_printf(verify->out,
                   "segment %016" PRIx64 " %s: %" PRIu64 " of %" PRIu64 " bytes valid, %" PRIu64
                   " entries, %" PRIu64 " states, %" PRIu64 " live bytes%s%s\n",
                   source->id, kinds[source->kind], source->valid_end,
                   verify->loader.files[i].file_size, source->segment->live_entries,
                   source->segment->live_states, source->segment->live_bytes,
                   source->has_footer ? ", sealed" : "", source->is_empty ? ", made ahead" : "");
    }
}

static void tell_damages(struct verify *verify)
{
    for (size_t i = 0; i < verify->recovered.damage_count; i++) {
        const struct spool_damage *damage = &verify->recovered.damages[i];
        struct mail_id_text entry = mail_id_text(damage->entry);
        struct mail_id_text message = mail_id_text(damage->message);
        const char *kind =
            note(verify, (struct problem){.segment = damage->segment, .begin = damage->begin});
        buf_printf(verify->out,
                   "%s: segment %016" PRIx64 " bytes %" PRIu64 " to %" PRIu64
                   ": %s; entry %s of message %s\n",
                   kind, damage->segment, damage->begin, damage->end, damage->why,
                   damage->named ? entry.chars : "unknown",
                   damage->named ? message.chars : "unknown");
    }
}

static enum result check_large_body(const struct verify *verify, const struct spool_entry *entry,
                                    struct error *err)
{
    char name[SPOOL_NAME_SIZE];
    spool_segment_name(entry->bulk, SPOOL_SEGMENT_BULK, name);
    int number = fault_hit("spool.verify");
    int fd = number ? -1 : openat(verify->bulk_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, number ? number : errno, "file of the body");
    enum result result =
        spool_bulk_check(fd, entry->bulk, spool_entry_body_size(&verify->index, entry), err);
    close(fd);
    return result;
}

/* Of the message as it is delivered; the record says where it begins, and what message it is. */
static uint64_t content_size(struct verify *verify, const struct spool_entry *entry,
                             struct mail_id *out_message)
{
    uint64_t begin = spool_entry_offset(entry) + SPOOL_RECORD_HEADER;
    struct str bytes =
        spool_loader_part(&verify->loader, spool_entry_home(&verify->index, entry)->id, begin,
                          begin + SPOOL_ENTRY_FIXED);
    struct spool_entry_record record;
    bool sound = spool_entry_decode(bytes, entry->length, &record);
    free((char *)(uintptr_t)bytes.ptr);
    *out_message = sound ? record.message : (struct mail_id){0};
    return sound ? record.head_len + record.body_size - record.body_start : 0;
}

static void walk_entries(struct verify *verify)
{
    uint64_t bytes = 0;
    for (struct spool_entry *entry = spool_index_next(&verify->index, NULL); entry;
         entry = spool_index_next(&verify->index, entry)) {
        struct mail_id_text id = mail_id_text(entry->id);
        struct mail_id message_id;
        struct error err;
        const char *why =
            entry->in_bulk && check_large_body(verify, entry, &err) != OK ? err.text : NULL;
        uint64_t size = content_size(verify, entry, &message_id);
        struct mail_id_text message = mail_id_text(message_id);
        bytes += size;
        if (verify->verbose)
            buf_printf(verify->out,
                       "entry %s of message %s: segment %016" PRIx64 " offset %" PRIu64 ", %" PRIu64
                       " bytes\n",
                       id.chars, message.chars, spool_entry_home(&verify->index, entry)->id,
                       spool_entry_offset(entry), size);
        if (!why)
            continue;
        const char *kind = note(verify, (struct problem){.entry = entry->id});
        buf_printf(verify->out, "%s: entry %s of message %s: %s\n", kind, id.chars, message.chars,
                   why);
    }
    buf_printf(verify->out, "%zu segments, %zu entries, %" PRIu64 " bytes of mail, %zu problems\n",
               verify->loader.count, verify->index.count, bytes,
               verify->found.count - verify->changed);
}

static enum result walk(struct verify *verify, struct error *err)
{
    enum result result =
        spool_loader_open(&verify->loader, verify->log_fd, /* writable= */ false, err);
    if (result == OK) {
        spool_index_init(&verify->index);
        verify->recovered = (struct spool_recovered){0};
        spool_recover(verify->loader.segments, verify->loader.count, spool_loader_load,
                      &verify->loader, &verify->index, &verify->recovered);
        tell_segments(verify);
        tell_damages(verify);
        walk_entries(verify);
        spool_recovered_done(&verify->recovered);
        spool_index_done(&verify->index);
    }
    spool_loader_done(&verify->loader);
    return result;
}

enum result spool_verify(struct str path, bool verbose, struct buf *out, size_t *out_problems,
                         struct error *err)
{
    struct verify verify = {.log_fd = -1, .bulk_fd = -1, .out = out, .verbose = verbose};
    struct problems before = {0};
    enum result result = open_folders(&verify, path, err);
    if (result == OK)
        result = walk(&verify, err);
    for (int walks = 1; result == OK && verify.changed && walks < WALKS_MAX; walks++) {
        free(before.items);
        before = verify.found;
        qsort(before.items, before.count, sizeof *before.items, compare_problems);
        verify.before = &before;
        verify.found = (struct problems){0};
        verify.changed = 0;
        buf_clear(out);
        result = walk(&verify, err);
    }
    *out_problems = verify.found.count - verify.changed;
    free(before.items);
    free(verify.found.items);
    if (verify.log_fd >= 0)
        close(verify.log_fd);
    if (verify.bulk_fd >= 0)
        close(verify.bulk_fd);
    return result;
}
