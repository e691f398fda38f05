/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reclaim: segments in which nothing is needed are removed; of old, sparse ones what lives is first
 * copied to a cold segment (bodies, entries, states, tombstones that are still needed).
 *
 * The order is what keeps mail and keeps the dead dead: copy → sync → index → unlink → folder sync
 * → only then may the tombstones die that the removed records needed.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "event/event.h"
#include "spool/bytes.h"
#include "spool/crc.h"
#include "spool/internal.h"
#include "spool/load.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BYTES_A_SECOND =
        16 * 1024 * 1024, /* written, and a quarter of what is read: mail comes first */
    DEAD_AT_ONCE = 64,
    BELOW_IN_NEED = 75, /* percent, see reclaim_below; when space runs out */
};

/* ---- removing what is dead ---- */

static size_t find_dead(struct spool *spool, struct spool_segment *out[DEAD_AT_ONCE])
{
    size_t count = 0;
    pthread_mutex_lock(&spool->index_lock);
    LIST_EACH (&spool->index.segments, link) {
        struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
        if (count < DEAD_AT_ONCE && spool_segment_is_dead(&spool->index, segment))
            out[count++] = segment;
    }
    pthread_mutex_unlock(&spool->index_lock);
    return count;
}

/* Its file goes to the pool, if nobody reads it any more, or away. */
static bool take_out_of_log(struct spool *spool, struct spool_segment *segment, unsigned *to_pool)
{
    if (segment->reusable && !segment->is_private && atomic_load(&segment->references) == 1 &&
        spool_pool_has_room(spool, *to_pool))
        segment->is_freed = spool_pool_rename_into(spool, segment);
    *to_pool += segment->is_freed;
    if (segment->is_freed)
        return true;
    return atomic_load(&segment->references) == 1
               ? spool_remove_gently(spool, segment->id, segment->kind)
               : spool_files_unlink(spool, segment->id, segment->kind);
}

/*
 * The folder could not be synced: the old name may come back, and a second sync that succeeds says
 * nothing of what the first one lost. So the file itself is made empty, and that is synced. False:
 * it cannot be, or somebody reads it; then the tombstones that its records need stay, too.
 */
static bool make_empty(struct spool *spool, struct spool_segment *segment)
{
    struct error ignored;
    if (segment->is_freed)
        spool_pool_remove(spool, segment->id);
    pthread_mutex_lock(&spool->index_lock);
    bool is_read = atomic_load(&segment->references) > 1;
    segment->stays = true;
    pthread_mutex_unlock(&spool->index_lock);
    return !is_read && ftruncate(segment->fd, 0) == 0 &&
           spool_files_sync(spool, segment->fd, &ignored) == OK;
}

/* True if there was something. Dead segments stay dead, so nobody else touches them meanwhile. One
 * whose file cannot be removed keeps its tombstones: its records would count at the next start. */
bool spool_remove_dead(struct spool *spool)
{
    struct spool_segment *dead[DEAD_AT_ONCE];
    size_t found = find_dead(spool, dead), count = 0;
    unsigned to_pool = 0;
    for (size_t i = 0; i < found; i++)
        if (take_out_of_log(spool, dead[i], &to_pool))
            dead[count++] = dead[i];
    struct error err;
    if (!count)
        return false;
    int number = fault_hit("spool.removed");
    bool is_synced = number ? fail_errno(&err, number, "sync folder") == OK
                            : spool_files_sync_folder(spool, spool->log_fd, &err) == OK;
    if (!is_synced) {
        event_emit(EVENT_SPOOL_ERROR, F_C(ERROR, err.text));
        found = count;
        count = 0;
        for (size_t i = 0; i < found; i++)
            if (make_empty(spool, dead[i]))
                dead[count++] = dead[i];
    }
    pthread_mutex_lock(&spool->index_lock);
    for (size_t i = 0; i < count; i++) {
        if (dead[i]->is_freed && is_synced)
            spool_pool_add(spool, dead[i]->id);
        spool_index_drop_segment(&spool->index, dead[i]);
    }
    pthread_mutex_unlock(&spool->index_lock);
    return is_synced;
}

/* ---- choosing ---- */

static bool is_worth_copying(const struct spool *spool, const struct spool_segment *segment,
                             int64_t now_ns)
{
    int64_t age = spool->settings.reclaim_age_ns;
    if (!segment->sealed || segment->keep || now_ns - segment->sealed_ns < age)
        return false;
    if (segment->kind == SPOOL_SEGMENT_MAIN && segment->id >= spool->index.totals_from)
        return false;
    if (!segment->live_entries && !segment->live_states && !segment->tombs_needed)
        return false; /* it only waits for a segment that it cuts */
    uint64_t below = spool->settings.reclaim_below;
    if (!atomic_load(&spool->has_space) && below < BELOW_IN_NEED)
        below = BELOW_IN_NEED;
    return segment->live_bytes < segment->end * below / 100;
}

/* The oldest, so that tombstones are freed rather than copied. */
static struct spool_segment *choose(struct spool *spool)
{
    struct spool_segment *chosen = NULL;
    int64_t now_ns = clock_monotonic_ns();
    pthread_mutex_lock(&spool->index_lock);
    LIST_EACH (&spool->index.segments, link) {
        struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
        if (is_worth_copying(spool, segment, now_ns)) {
            chosen = segment;
            break;
        }
    }
    pthread_mutex_unlock(&spool->index_lock);
    return chosen;
}

/* ---- building the copies ---- */

/* What was copied, to be applied once it is durable. */
struct copied {
    enum spool_record_type type;
    struct mail_id entry;
    uint64_t from; /* offset in the old segment */
    uint64_t to;   /* offset in the cold one */
    uint64_t body; /* of the body's record there, or 0 */
    uint64_t state_sequence;
    uint32_t length; /* of the payload, of an ENTRY record */
};

struct copying {
    struct spool *spool;
    struct spool_segment *old;
    struct str bytes; /* of the old one */
    struct spool_scan scan;
    struct buf out; /* goes to the cold segment at `base` */
    uint64_t base;
    struct copied *copied;
    size_t count;
    size_t cap;
    bool stuck; /* something that lives cannot be copied */
};

static void note(struct copying *copying, struct copied copied)
{
    if (copying->count == copying->cap) {
        copying->cap = copying->cap ? copying->cap * 2 : 256;
        copying->copied =
            memory_resize_array(copying->copied, copying->cap, sizeof *copying->copied);
    }
    copying->copied[copying->count++] = copied;
}

/* Append a record of up to three parts; returns its offset in the cold segment. */
static uint64_t put_record(struct copying *copying, struct spool_record record, struct str a,
                           struct str b, struct str c)
{
    uint64_t offset = copying->base + copying->out.len;
    struct str parts[] = {a, b, c};
    for (int i = 0; i < 3; i++) {
        record.payload_crc = spool_crc(record.payload_crc, parts[i].ptr, parts[i].len);
        record.length += (uint32_t)parts[i].len;
    }
    unsigned char header[SPOOL_RECORD_HEADER];
    spool_record_encode(&record, copying->spool->cold->id, offset, header);
    buf_append(&copying->out, str_of((const char *)header, sizeof header));
    for (int i = 0; i < 3; i++)
        buf_append(&copying->out, parts[i]);
    while (copying->out.len % SPOOL_RECORD_ALIGN)
        buf_append_byte(&copying->out, 0);
    return offset;
}

static struct str payload_of(const struct copying *copying, const struct spool_found_record *found)
{
    return spool_found_record_payload(copying->bytes, found);
}

/* Is this the ENTRY record of a live entry? Fills a copy of what the index says. */
static bool is_live_entry(struct copying *copying, const struct spool_found_record *found,
                          struct spool_entry *out)
{
    struct str payload = payload_of(copying, found);
    if (found->record.type != SPOOL_RECORD_ENTRY || payload.len < SPOOL_ENTRY_FIXED)
        return false;
    struct spool *spool = copying->spool;
    struct mail_id id = spool_id_decode((const unsigned char *)payload.ptr);
    pthread_mutex_lock(&spool->index_lock);
    struct spool_entry *entry = spool_index_find(&spool->index, id);
    bool live =
        entry && entry->home == copying->old->slot && spool_entry_offset(entry) == found->offset;
    if (live)
        *out = *entry;
    /* a third record of one entry would outrun the account of tombstones */
    if (live && spool_entry_other(&spool->index, entry))
        copying->stuck = true;
    pthread_mutex_unlock(&spool->index_lock);
    return live;
}

/* The state that goes into the copy: the newest, if it lies in the old segment, else the first. */
static struct str state_for_copy(struct copying *copying, const struct spool_entry *entry,
                                 struct str own_state, uint64_t own_sequence,
                                 uint64_t *out_sequence)
{
    *out_sequence = own_sequence;
    if (entry->state_home != copying->old->slot)
        return own_state;
    *out_sequence = entry->state_sequence;
    if (entry->state_place == entry->place)
        return own_state;
    uint64_t begin = spool_entry_state_offset(entry) + SPOOL_RECORD_HEADER + SPOOL_STATE_FIXED;
    return str_slice(copying->bytes, begin, begin + entry->state_len);
}

static void put_entry(struct copying *copying, const struct spool_found_record *found,
                      const struct spool_entry *entry, struct spool_record record,
                      uint16_t body_record, uint64_t body_offset)
{
    struct str payload = payload_of(copying, found);
    struct spool_entry_record fixed;
    if (!spool_entry_decode(payload, payload.len, &fixed))
        return;
    size_t texts = (size_t)fixed.head_len + fixed.meta_len;
    struct str middle = str_slice(payload, SPOOL_ENTRY_FIXED, SPOOL_ENTRY_FIXED + texts);
    uint64_t own_sequence = fixed.state_sequence ? fixed.state_sequence : found->record.unit;
    struct str own_state = str_from(payload, SPOOL_ENTRY_FIXED + texts);
    uint64_t sequence;
    struct str state = state_for_copy(copying, entry, own_state, own_sequence, &sequence);
    fixed.state_sequence = sequence;
    fixed.state_len = (uint32_t)state.len;
    fixed.body_record = body_record;
    fixed.copy = true;
    unsigned char bytes[SPOOL_ENTRY_FIXED];
    spool_entry_encode(&fixed, bytes);
    uint64_t to =
        put_record(copying, record, str_of((const char *)bytes, sizeof bytes), middle, state);
    note(copying, (struct copied){.type = SPOOL_RECORD_ENTRY,
                                  .entry = fixed.entry,
                                  .from = found->offset,
                                  .to = to,
                                  .body = body_offset,
                                  .state_sequence = sequence,
                                  .length = (uint32_t)(sizeof bytes + texts + state.len)});
}

/* The newest state of a live entry lies in a record of its own here: does that one verify? */
static bool has_sound_state(const struct copying *copying, const struct spool_entry *entry)
{
    const struct spool_scan *scan = &copying->scan;
    uint64_t offset = spool_entry_state_offset(entry);
    if (entry->state_home != copying->old->slot || entry->state_place == entry->place)
        return true;
    size_t low = 0;
    for (size_t high = scan->record_count; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (scan->records[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low < scan->record_count && scan->records[low].offset == offset &&
           scan->records[low].intact;
}

/* Which records of a unit are needed: live entries, and the bodies that they use. */
static size_t mark_needed(struct copying *copying, const struct spool_found_record *records,
                          size_t count, struct spool_entry *live, bool *needed)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_live_entry(copying, &records[i], &live[i]))
            continue;
        needed[i] = true;
        copying->stuck |= !records[i].intact || !has_sound_state(copying, &live[i]);
        for (size_t k = 0; k < count && spool_entry_body_offset(&live[i]); k++) {
            if (records[k].offset != spool_entry_body_offset(&live[i]))
                continue;
            needed[k] = true;
            copying->stuck |= !records[k].intact;
        }
    }
    for (size_t i = 0; i < count; i++)
        total += needed[i];
    return total;
}

static void copy_unit(struct copying *copying, const struct spool_found_record *records,
                      size_t count)
{
    struct spool_entry *live = memory_alloc_array(count, sizeof *live);
    bool *needed = memory_alloc_array(count, sizeof *needed);
    uint64_t *places = memory_alloc_array(count, sizeof *places);
    uint16_t *indexes = memory_alloc_array(count, sizeof *indexes);
    size_t total = mark_needed(copying, records, count, live, needed);
    struct spool_record record = {.count = (uint16_t)total,
                                  .unit = total ? copying->spool->cold_units++ : 0};
    for (size_t i = 0; i < count && !copying->stuck; i++) {
        record.type = records[i].record.type;
        if (!needed[i])
            continue;
        indexes[i] = record.index;
        if (record.type == SPOOL_RECORD_BODY) {
            places[i] =
                put_record(copying, record, payload_of(copying, &records[i]), STR_EMPTY, STR_EMPTY);
        } else {
            uint16_t body_record = SPOOL_NO_BODY;
            uint64_t body_offset = 0;
            for (size_t k = 0; k < i && spool_entry_body_offset(&live[i]); k++) {
                if (records[k].offset == spool_entry_body_offset(&live[i])) {
                    body_record = indexes[k];
                    body_offset = places[k];
                }
            }
            put_entry(copying, &records[i], &live[i], record, body_record, body_offset);
        }
        record.index++;
    }
    free(live);
    free(needed);
    free(places);
    free(indexes);
}

/* The newest state of an entry that lives elsewhere. */
static void copy_state(struct copying *copying, const struct spool_found_record *found)
{
    struct spool *spool = copying->spool;
    struct mail_id id;
    uint64_t sequence;
    struct str state;
    if (!spool_state_decode(payload_of(copying, found), &id, &sequence, &state))
        return;
    pthread_mutex_lock(&spool->index_lock);
    struct spool_entry *entry = spool_index_find(&spool->index, id);
    bool live = entry && entry->home != copying->old->slot &&
                entry->state_home == copying->old->slot &&
                spool_entry_state_offset(entry) == found->offset;
    sequence = live ? entry->state_sequence : 0;
    pthread_mutex_unlock(&spool->index_lock);
    if (!live)
        return;
    unsigned char fixed[SPOOL_STATE_FIXED];
    spool_id_encode(id, fixed);
    spool_put64(fixed + 16, sequence);
    struct spool_record record = {
        .type = SPOOL_RECORD_STATE, .count = 1, .unit = spool->cold_units++};
    uint64_t to =
        put_record(copying, record, str_of((const char *)fixed, sizeof fixed), state, STR_EMPTY);
    note(copying, (struct copied){.type = SPOOL_RECORD_STATE,
                                  .entry = id,
                                  .from = found->offset,
                                  .to = to,
                                  .state_sequence = sequence});
}

/* The tombstones here that records elsewhere need: each such grave knows its entry. */
static void copy_tombs(struct copying *copying)
{
    struct spool *spool = copying->spool;
    size_t before = copying->count;
    pthread_mutex_lock(&spool->index_lock);
    LIST_EACH (&spool->index.segments, link) {
        struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
        for (size_t i = 0; i < segment->grave_count; i++) {
            if (segment->graves[i].tomb == copying->old->id)
                note(copying, (struct copied){.type = SPOOL_RECORD_REMOVE,
                                              .entry = segment->graves[i].entry});
        }
    }
    pthread_mutex_unlock(&spool->index_lock);
    for (size_t i = before; i < copying->count; i++) {
        unsigned char fixed[SPOOL_REMOVE_SIZE];
        spool_id_encode(copying->copied[i].entry, fixed);
        struct spool_record record = {
            .type = SPOOL_RECORD_REMOVE, .count = 1, .unit = spool->cold_units++};
        copying->copied[i].to = put_record(
            copying, record, str_of((const char *)fixed, sizeof fixed), STR_EMPTY, STR_EMPTY);
    }
}

static void build(struct copying *copying)
{
    const struct spool_scan *scan = &copying->scan;
    for (size_t i = 0; i < scan->record_count && !copying->stuck;) {
        const struct spool_found_record *first = &scan->records[i];
        size_t count = 1;
        while (i + count < scan->record_count &&
               scan->records[i + count].record.unit == first->record.unit)
            count++;
        /* what is void here is in no index, so it is never copied */
        copy_unit(copying, first, count);
        for (size_t k = 0; k < count; k++) {
            if (first[k].record.type == SPOOL_RECORD_STATE && first[k].intact)
                copy_state(copying, &first[k]);
        }
        i += count;
    }
    if (!copying->stuck)
        copy_tombs(copying);
}

/* ---- the cold segment ---- */

/* The place for the next batch: an open cold segment with room. */
static bool open_cold(struct spool *spool, struct error *err)
{
    if (spool->cold && spool->cold_offset >= spool->segment_size)
        spool_reclaim_seal(spool);
    if (spool->cold)
        return true;
    struct spool_segment *segment;
    if (spool_files_new_segment(spool, SPOOL_SEGMENT_COLD, SPOOL_SEGMENT_HEADER, &segment, err) !=
        OK)
        return false;
    pthread_mutex_lock(&spool->index_lock);
    spool->cold = spool_index_add_segment(&spool->index, segment->id, segment->kind, segment->fd);
    spool->cold->end = SPOOL_SEGMENT_HEADER;
    pthread_mutex_unlock(&spool->index_lock);
    segment->fd = -1;
    spool_segment_unref(segment);
    spool->cold_offset = SPOOL_SEGMENT_HEADER;
    return true;
}

static void leave_cold(struct spool *spool)
{
    pthread_mutex_lock(&spool->index_lock);
    spool->cold->sealed = true;
    spool->cold->sealed_ns = clock_monotonic_ns();
    pthread_mutex_unlock(&spool->index_lock);
    spool->cold = NULL;
}

void spool_reclaim_seal(struct spool *spool)
{
    if (!spool->cold)
        return;
    unsigned char bytes[SPOOL_RECORD_HEADER + SPOOL_FOOTER_SIZE];
    spool_put64(bytes + SPOOL_RECORD_HEADER, spool->cold_offset);
    spool_put64(bytes + SPOOL_RECORD_HEADER + 8, 0);
    struct spool_record record = {.type = SPOOL_RECORD_FOOTER,
                                  .count = 1,
                                  .unit = spool->cold_units++,
                                  .length = SPOOL_FOOTER_SIZE,
                                  .payload_crc =
                                      spool_crc(0, bytes + SPOOL_RECORD_HEADER, SPOOL_FOOTER_SIZE)};
    spool_record_encode(&record, spool->cold->id, spool->cold_offset, bytes);
    struct iovec piece = {bytes, sizeof bytes};
    struct error ignored;
    if (spool_files_write(spool->cold->fd, &piece, 1, spool->cold_offset, &ignored) == OK)
        (void)!spool_files_sync(spool, spool->cold->fd, &ignored);
    leave_cold(spool);
}

/* The batch record says that all before it is durable; it is the first in `out`. */
static void put_batch(struct copying *copying)
{
    struct spool *spool = copying->spool;
    struct spool_batch batch = {.durable_segment = spool->cold->id,
                                .durable_offset = spool->cold_offset};
    unsigned char payload[SPOOL_BATCH_SIZE];
    spool_batch_encode(&batch, payload);
    struct spool_record record = {
        .type = SPOOL_RECORD_BATCH, .count = 1, .unit = spool->cold_units++};
    put_record(copying, record, str_of((const char *)payload, sizeof payload), STR_EMPTY,
               STR_EMPTY);
}

/* ---- applying ---- */

static void apply_copies(struct copying *copying, bool durable)
{
    struct spool *spool = copying->spool;
    struct spool_segment *cold = spool->cold;
    pthread_mutex_lock(&spool->index_lock);
    for (size_t i = 0; i < copying->count; i++) {
        const struct copied *copied = &copying->copied[i];
        struct spool_copy copy = {.entry = copied->entry,
                                  .from = copying->old,
                                  .from_offset = copied->from,
                                  .to = cold,
                                  .to_offset = copied->to,
                                  .body_offset = copied->body,
                                  .state_sequence = copied->state_sequence,
                                  .length = copied->length};
        if (copied->type == SPOOL_RECORD_ENTRY && durable)
            spool_index_move_entry(&spool->index, &copy);
        else if (copied->type == SPOOL_RECORD_ENTRY)
            spool_index_suspect_copy(&spool->index, &copy);
        else if (copied->type == SPOOL_RECORD_STATE && durable)
            spool_index_move_state(&spool->index, &copy);
    }
    if (durable) {
        spool_index_move_tombs(&spool->index, copying->old, cold);
        cold->end = copying->base + copying->out.len;
        cold->disk_bytes = cold->end;
    }
    pthread_mutex_unlock(&spool->index_lock);
}

static bool write_copies(struct copying *copying)
{
    struct spool *spool = copying->spool;
    struct iovec piece = {copying->out.ptr, copying->out.len};
    struct error err;
    bool durable = !copying->out.overflow &&
                   spool_files_write(spool->cold->fd, &piece, 1, spool->cold_offset, &err) == OK &&
                   spool_files_sync(spool, spool->cold->fd, &err) == OK;
    apply_copies(copying, durable);
    if (durable) {
        spool->cold_offset += copying->out.len;
        atomic_fetch_add(&spool->bytes_written, copying->out.len);
        return true;
    }
    /* never synced again; what it holds durably stays good */
    event_emit(EVENT_SPOOL_ERROR, F_C(ERROR, err.text), F_INT(SEGMENT, spool->cold->id));
    leave_cold(spool);
    return false;
}

static void copy_forward(struct spool *spool, struct spool_segment *old)
{
    struct error err = {0};
    if (!open_cold(spool, &err))
        return;
    struct copying copying = {.spool = spool, .old = old, .base = spool->cold_offset};
    buf_init(&copying.out, (size_t)1 << 31);
    char *bytes = memory_resize_array(NULL, old->end + 1, 1);
    struct spool_unread unread;
    spool_read_all(old->fd, bytes, old->end, 0, &unread);
    if (unread.bytes) { /* it is looked at again when it has aged once more */
        old->sealed_ns = clock_monotonic_ns();
        buf_done(&copying.out);
        free(bytes);
        return;
    }
    copying.bytes = str_of(bytes, old->end);
    spool_segment_scan(copying.bytes, old->id, UINT64_MAX, &copying.scan);
    put_batch(&copying);
    build(&copying);
    bool copied = !copying.stuck && write_copies(&copying);
    pthread_mutex_lock(&spool->index_lock);
    /* Damage that was not there at the start is found and told of when the entry is read. What was
     * left behind cannot be copied another time either. */
    old->keep =
        copying.stuck || (copied && (old->live_entries || old->live_states || old->tombs_needed));
    pthread_mutex_unlock(&spool->index_lock);
    int64_t work = (int64_t)(copying.out.len + old->end / 4);
    spool->reclaim_after_ns = spool_real_ns() + work * NS_PER_S / BYTES_A_SECOND;
    buf_done(&copying.out);
    spool_scan_done(&copying.scan);
    free(copying.copied);
    free(bytes);
}

bool spool_reclaim_step(struct spool *spool)
{
    if (atomic_load(&spool->is_loading)) /* nobody knows yet what is needed */
        return false;
    if (spool_remove_dead(spool))
        return true;
    if (spool_real_ns() < spool->reclaim_after_ns)
        return false;
    struct spool_segment *old = choose(spool);
    if (!old)
        return false;
    copy_forward(spool, old);
    return spool_remove_dead(spool);
}
