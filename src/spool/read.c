/* SPDX-License-Identifier: Apache-2.0 */
/* Reading an entry back: on the lane, everything verified before the caller sees a byte. */
#include "base/check.h"
#include "base/memory.h"
#include "spool/crc.h"
#include "spool/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct read_job {
    struct lane_job job;
    struct spool *spool;
    struct spool_entry entry;   /* a copy */
    struct spool_segment *home; /* of it; referenced */
    uint64_t bulk;              /* of its body, or 0 */
    uint64_t body_size;
    struct spool_entry_record fixed; /* what its record says */
    char *record;                    /* payload of the ENTRY record */
    char *body;                      /* small body */
    int fd;                          /* of a large one */
    enum result result;
    struct error err; /* ERROR_PERMANENT: damaged; else it cannot be read just now */
};

/* The payload of the record at `offset`, verified. NULL with ERROR_PERMANENT only if the bytes are
 * there and wrong: a disk or a table of descriptors in trouble is no reason to give mail up. */
static char *read_record(const struct spool_segment *segment, uint64_t offset,
                         enum spool_record_type type, uint64_t length, struct error *err)
{
    const char *wrong =
        type == SPOOL_RECORD_BODY ? "body does not verify" : "entry does not verify";
    unsigned char header[SPOOL_RECORD_HEADER];
    struct spool_record record;
    if (spool_files_read(segment->fd, header, sizeof header, offset, err) != OK)
        return NULL;
    if (!spool_record_decode(header, segment->id, offset, &record) || record.type != type ||
        record.length != length) {
        (void)fail(err, ERROR_PERMANENT, "%s", wrong);
        return NULL;
    }
    char *payload = memory_resize_array(NULL, length ? length : 1, 1);
    if (spool_files_read(segment->fd, payload, length, offset + sizeof header, err) == OK) {
        if (spool_crc(0, payload, length) == record.payload_crc)
            return payload;
        (void)fail(err, ERROR_PERMANENT, "%s", wrong);
    }
    free(payload);
    return NULL;
}

bool spool_entry_message(const struct spool_segment *home, const struct spool_entry *entry,
                         struct mail_id *out)
{
    enum { MESSAGE_AT = 16 }; /* in the payload */
    unsigned char bytes[16];
    struct error ignored;
    if (spool_files_read(home->fd, bytes, sizeof bytes,
                         spool_entry_offset(entry) + SPOOL_RECORD_HEADER + MESSAGE_AT,
                         &ignored) != OK)
        return false;
    *out = spool_id_decode(bytes);
    return true;
}

static enum result read_body(struct read_job *job)
{
    const struct spool_entry *entry = &job->entry;
    if (job->bulk) {
        job->fd = spool_bulk_open(job->spool, job->bulk);
        if (job->fd >= 0)
            return spool_bulk_check(job->fd, job->bulk, job->body_size, &job->err);
        return errno == ENOENT ? fail(&job->err, ERROR_PERMANENT, "file of the body is missing")
                               : fail_errno(&job->err, errno, "open the file of the body");
    }
    uint64_t offset = spool_entry_body_offset(entry);
    if (!offset)
        return OK;
    job->body = read_record(job->home, offset, SPOOL_RECORD_BODY, job->body_size, &job->err);
    if (!job->body)
        return FAILED;
    if (job->body_size > SPOOL_READ_WHOLE)
        free(take(job->body)); /* verified; it is read again piece by piece */
    return OK;
}

static void work(struct lane_job *lane_job)
{
    struct read_job *job = CONTAINER(lane_job, struct read_job, job);
    const struct spool_entry *entry = &job->entry;
    job->record = read_record(job->home, spool_entry_offset(entry), SPOOL_RECORD_ENTRY,
                              entry->length, &job->err);
    if (job->record &&
        !spool_entry_decode(str_of(job->record, entry->length), entry->length, &job->fixed)) {
        (void)fail(&job->err, ERROR_PERMANENT, "entry does not verify");
        free(take(job->record));
    }
    job->result = job->record ? read_body(job) : FAILED;
}

static void let_go(struct read_job *job)
{
    struct spool *spool = job->spool;
    if (job->fd >= 0)
        close(job->fd);
    if (job->bulk) {
        pthread_mutex_lock(&spool->index_lock);
        struct spool_bulk *bulk = spool_index_bulk(&spool->index, job->bulk);
        if (bulk)
            spool_index_let_go_bulk(&spool->index, bulk);
        bool dead = !list_is_empty(&spool->index.dead_bulks);
        pthread_mutex_unlock(&spool->index_lock);
        if (dead)
            spool_wake_upkeep(spool);
    }
    spool_segment_unref(job->home);
    free(job->record);
    free(job->body);
    free(job);
}

static void release(struct lane_job *lane_job)
{
    let_go(CONTAINER(lane_job, struct read_job, job));
}

static struct read_job *start(struct spool *spool, struct mail_id id)
{
    struct read_job *job = NULL;
    pthread_mutex_lock(&spool->index_lock);
    struct spool_entry *entry = spool_index_find(&spool->index, id);
    if (entry && spool_entry_lives(entry) && !entry->damaged) {
        job = NEW(struct read_job);
        job->job.work = work;
        job->job.release = release;
        job->spool = spool;
        job->entry = *entry;
        job->fd = -1;
        job->home = spool_segment_ref(spool_entry_home(&spool->index, entry));
        job->bulk = spool_entry_bulk(entry);
        job->body_size = spool_entry_body_size(&spool->index, entry);
        if (job->bulk)
            spool_index_hold_bulk(&spool->index, spool_index_bulk(&spool->index, job->bulk));
    }
    pthread_mutex_unlock(&spool->index_lock);
    return job;
}

static enum result damaged(struct read_job *job, struct error *err)
{
    struct spool *spool = job->spool;
    const struct spool_entry *entry = &job->entry;
    pthread_mutex_lock(&spool->index_lock);
    struct spool_entry *in_index = spool_index_find(&spool->index, entry->id);
    bool first = in_index && !in_index->damaged;
    if (first)
        in_index->damaged = true;
    pthread_mutex_unlock(&spool->index_lock);
    if (first) {
        uint64_t body_offset = spool_entry_body_offset(entry);
        struct spool_damage damage = {
            .segment = job->home->id,
            .begin = body_offset ? body_offset : spool_entry_offset(entry),
            .end = spool_entry_offset(entry) + spool_record_size(entry->length),
            .named = true,
            .sure = true,
            .entry = entry->id,
            .why = job->err.text};
        struct error ignored;
        (void)spool_entry_message(job->home, entry, &damage.message);
        uint64_t size = damage.end - damage.begin;
        char *bytes = memory_alloc(size);
        bool got = spool_files_read(job->home->fd, bytes, size, damage.begin, &ignored) == OK;
        spool_set_aside(spool, &damage, got ? str_of(bytes, size) : STR_EMPTY);
        free(bytes);
        if (job->bulk)
            spool_set_body_aside(spool, job->bulk);
    }
    return fail(err, ERROR_PERMANENT, "%s", job->err.text);
}

static struct body *make_body(struct read_job *job)
{
    struct spool *spool = job->spool;
    if (job->bulk) {
        pthread_mutex_lock(&spool->index_lock);
        struct spool_bulk *bulk = spool_index_bulk(&spool->index, job->bulk);
        spool_index_hold_bulk(&spool->index, bulk);
        pthread_mutex_unlock(&spool->index_lock);
        int fd = job->fd;
        job->fd = -1;
        return spool_body_stored_bulk(spool, bulk, fd, job->body_size);
    }
    if (job->body || !job->body_size)
        return spool_body_stored_memory(take(job->body), job->body_size);
    return spool_body_stored(spool, job->home,
                             spool_entry_body_offset(&job->entry) + SPOOL_RECORD_HEADER,
                             job->body_size);
}

enum result spool_read(struct spool *spool, struct mail_id entry, struct arena *arena,
                       struct str *out_meta, struct mail_content *out_content, struct error *err)
{
    struct read_job *job = start(spool, entry);
    if (!job)
        return fail(err, ERROR_PERMANENT, "no such entry in the spool");
    if (lane_run(spool->lane, &job->job, err) != OK)
        return FAILED;
    if (job->result != OK) {
        enum result result = job->err.kind == ERROR_PERMANENT
                                 ? damaged(job, err)
                                 : fail(err, job->err.kind, "%s", job->err.text);
        let_go(job);
        return result;
    }
    const char *head = job->record + SPOOL_ENTRY_FIXED;
    *out_meta = arena_str(arena, str_of(head + job->fixed.head_len, job->fixed.meta_len));
    *out_content =
        (struct mail_content){.head = arena_str(arena, str_of(head, job->fixed.head_len)),
                              .body = make_body(job),
                              .body_start = job->fixed.body_start};
    let_go(job);
    return OK;
}

/* A copy of what the index knows, and a reference to the segment. False: it does not live. */
static bool look_up(struct spool *spool, struct mail_id id, struct spool_entry *out,
                    struct spool_segment **out_home)
{
    pthread_mutex_lock(&spool->index_lock);
    const struct spool_entry *found = spool_index_find(&spool->index, id);
    bool lives = found && spool_entry_lives(found);
    if (lives) {
        *out = *found;
        *out_home = spool_segment_ref(spool_entry_home(&spool->index, found));
    }
    pthread_mutex_unlock(&spool->index_lock);
    return lives;
}

bool spool_find(struct spool *spool, struct mail_id entry, struct mail_id *out_message)
{
    struct spool_entry found;
    struct spool_segment *home;
    if (!look_up(spool, entry, &found, &home))
        return false;
    if (!spool_entry_message(home, &found, out_message))
        *out_message = (struct mail_id){0};
    spool_segment_unref(home);
    return true;
}

bool spool_has(struct spool *spool, struct mail_id entry)
{
    pthread_mutex_lock(&spool->index_lock);
    const struct spool_entry *found = spool_index_find(&spool->index, entry);
    bool lives = found && spool_entry_lives(found);
    pthread_mutex_unlock(&spool->index_lock);
    return lives;
}

size_t spool_ids(struct spool *spool, size_t *cursor, struct mail_id *out, size_t max)
{
    check(max >= SPOOL_IDS_MIN);
    pthread_mutex_lock(&spool->index_lock);
    size_t count = spool_index_ids(&spool->index, cursor, out, max);
    pthread_mutex_unlock(&spool->index_lock);
    return count;
}
