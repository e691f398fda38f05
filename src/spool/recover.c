/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Main segments newest first: only newer ones can say how far an older one is valid and durable,
 * and applying is order-free (spool/index.h). Cold ones speak for themselves. Each is walked once.
 */
#include "spool/recover.h"

#include "base/clock.h"
#include "base/memory.h"
#include "spool/bytes.h"

#include <stdlib.h>

struct spool_total_step {
    uint64_t unit;
    unsigned total;
    int64_t delta;
};

/* One segment being walked. */
struct walk {
    struct spool_recovery *recovery;
    struct spool_recover_segment *source;
    struct spool_scan scan;
};

/* A run of records of one unit. */
struct unit_run {
    const struct spool_found_record *records;
    size_t count;
    uint64_t begin;
    uint64_t end;
    bool whole;
    bool durable;
};

static struct spool_recover_segment *segment_by_id(struct spool_recovery *recovery, uint64_t id)
{
    size_t low = 0;
    size_t high = recovery->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (recovery->segments[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < recovery->count && recovery->segments[low].id == id)
        return &recovery->segments[low];
    return NULL;
}

static void raise_must_end(struct spool_recovery *recovery, uint64_t id, uint64_t offset)
{
    struct spool_recover_segment *segment = segment_by_id(recovery, id);
    if (segment && offset > segment->must_end)
        segment->must_end = offset;
}

static struct str payload_of(const struct walk *walk, const struct spool_found_record *found)
{
    return spool_found_record_payload(walk->source->bytes, found);
}

static void guard(const struct walk *walk, bool enter)
{
    const struct spool_recovery *recovery = walk->recovery;
    if (recovery->guard)
        recovery->guard(recovery->guard_context, enter);
}

/* ---- damage ---- */

static void add_damage(struct spool_recovered *out, struct spool_damage damage)
{
    if (out->damage_count == out->damage_cap) {
        out->damage_cap = out->damage_cap ? out->damage_cap * 2 : 16;
        out->damages = memory_resize_array(out->damages, out->damage_cap, sizeof *out->damages);
    }
    out->damages[out->damage_count++] = damage;
}

/* How many bits keep the id from having been made between 2004 and 2074. */
static int unlikely_bits(struct mail_id id)
{
    int one = __builtin_popcountll(id.high >> 56 ^ 1);
    int two = __builtin_popcountll(id.high >> 56 ^ 2);
    return one < two ? one : two;
}

/* Bytes that a write never reached are those of the segment that the file was before: the entries
 * that they name were made before this segment was. */
static bool is_left_over(const struct walk *walk, struct mail_id entry)
{
    enum { TIME_BITS_FROM = 16 }; /* of the high half: milliseconds */
    return walk->source->was_used &&
           (int64_t)(entry.high >> TIME_BITS_FROM) < walk->source->created_wall_ns / NS_PER_MS;
}

/* By what stands where an ENTRY record has its ids, verified or not: text and noise are no name,
 * for a wrong one is worse than none; ids of which a bit was flipped still are. */
static void name_damage(const struct walk *walk, struct spool_damage *damage,
                        const unsigned char *payload)
{
    struct mail_id entry = spool_id_decode(payload);
    struct mail_id message = spool_id_decode(payload + 16);
    if (unlikely_bits(entry) + unlikely_bits(message) > 1 || is_left_over(walk, entry))
        return;
    damage->entry = entry;
    damage->message = message;
    damage->named = true;
}

/* The ids that an ENTRY record at `offset` would hold, unverified: a name to search by. */
static void guess_name(const struct walk *walk, uint64_t offset, struct spool_damage *damage)
{
    struct str bytes = walk->source->bytes;
    if (damage->named || offset + SPOOL_RECORD_HEADER + SPOOL_ENTRY_FIXED > bytes.len)
        return;
    const unsigned char *at = (const unsigned char *)bytes.ptr + offset;
    bool has_magic = bytes.ptr[offset] == 'P' && bytes.ptr[offset + 2] == 'E';
    if (!has_magic && spool_get16(at + 8) != SPOOL_RECORD_ENTRY)
        return;
    if (spool_get16(at + 8) != SPOOL_RECORD_ENTRY &&
        spool_get32(at + 24) < SPOOL_ENTRY_FIXED) /* too short to be one */
        return;
    name_damage(walk, damage, at + SPOOL_RECORD_HEADER);
}

/* What lives was not damaged: its name lies where another's should. */
static void forget_wrong_names(const struct walk *walk, size_t damages_before)
{
    const struct spool_recovered *out = walk->recovery->out;
    for (size_t i = damages_before; i < out->damage_count; i++) {
        struct spool_damage *damage = &out->damages[i];
        if (!damage->named || damage->sure)
            continue;
        const struct spool_entry *entry = spool_index_find(walk->recovery->index, damage->entry);
        damage->named = !entry || !spool_entry_lives(entry);
    }
}

/* ---- limits: how far segments are valid and durable ---- */

static void read_limits(struct walk *walk)
{
    struct spool_recovery *recovery = walk->recovery;
    struct spool_recover_segment *source = walk->source;
    for (size_t i = 0; i < walk->scan.record_count; i++) {
        const struct spool_found_record *found = &walk->scan.records[i];
        if (found->record.unit >= recovery->out->next_unit && source->kind == SPOOL_SEGMENT_MAIN)
            recovery->out->next_unit = found->record.unit + 1;
        if (!found->intact)
            continue;
        struct spool_batch batch;
        struct spool_previous previous;
        if (found->record.type == SPOOL_RECORD_BATCH &&
            spool_batch_decode(payload_of(walk, found), &batch)) {
            raise_must_end(recovery, batch.durable_segment, batch.durable_offset);
            if (batch.sequence >= recovery->out->next_sequence)
                recovery->out->next_sequence = batch.sequence + 1;
        } else if (found->record.type == SPOOL_RECORD_PREVIOUS &&
                   spool_previous_decode(payload_of(walk, found), &previous)) {
            struct spool_recover_segment *other = segment_by_id(recovery, previous.segment);
            if (!other || other->id >= source->id)
                continue;
            if (!other->cut_known || previous.valid_end < other->valid_end)
                other->valid_end = previous.valid_end;
            other->cut_known = true;
            raise_must_end(recovery, other->id, previous.must_end);
            if (previous.reason == SPOOL_PREVIOUS_ROLL)
                continue;
            other->segment->was_cut = true;
            if (!source->segment->cuts_from || other->id < source->segment->cuts_from)
                source->segment->cuts_from = other->id;
        } else if (found->record.type == SPOOL_RECORD_FOOTER) {
            source->has_footer = true;
            raise_must_end(recovery, source->id, found->offset);
        }
    }
}

/* ---- totals ---- */

static void read_totals(struct walk *walk, const struct spool_found_record *found)
{
    struct spool_recovery *recovery = walk->recovery;
    struct str payload = payload_of(walk, found);
    const unsigned char *at = (const unsigned char *)payload.ptr;
    if (recovery->totals_were_newer)
        return;
    if (found->record.type == SPOOL_RECORD_COUNTERS) {
        if (payload.len != SPOOL_TOTALS * 8 ||
            (recovery->has_totals && found->record.unit < recovery->totals_unit))
            return;
        for (unsigned i = 0; i < SPOOL_TOTALS; i++)
            recovery->out->totals[i] = (int64_t)spool_get64(at + (size_t)i * 8);
        recovery->has_totals = true;
        recovery->index->totals_from = walk->source->id;
        recovery->totals_unit = found->record.unit;
        return;
    }
    for (size_t i = 0; i + SPOOL_COUNT_SIZE <= payload.len; i += SPOOL_COUNT_SIZE) {
        struct spool_total_step step = {found->record.unit, spool_get32(at + i),
                                        (int64_t)spool_get64(at + i + 8)};
        if (step.total >= SPOOL_TOTALS)
            continue;
        if (recovery->step_count == recovery->step_cap) {
            recovery->step_cap = recovery->step_cap ? recovery->step_cap * 2 : 256;
            recovery->steps =
                memory_resize_array(recovery->steps, recovery->step_cap, sizeof *recovery->steps);
        }
        recovery->steps[recovery->step_count++] = step;
    }
}

static void finish_totals(struct spool_recovery *recovery)
{
    for (size_t i = 0; i < recovery->step_count; i++) {
        const struct spool_total_step *step = &recovery->steps[i];
        if (recovery->has_totals && step->unit <= recovery->totals_unit)
            continue;
        int64_t *total = &recovery->out->totals[step->total];
        *total = (int64_t)((uint64_t)*total + (uint64_t)step->delta);
    }
    free(recovery->steps);
    recovery->steps = NULL;
    recovery->step_count = recovery->step_cap = 0;
}

/* ---- units ---- */

static const struct spool_found_record *body_of(const struct unit_run *run, unsigned index)
{
    for (size_t i = 0; i < run->count; i++) {
        const struct spool_found_record *found = &run->records[i];
        if (found->record.index == index && found->record.type == SPOOL_RECORD_BODY)
            return found;
    }
    return NULL;
}

static void note_applied(struct spool_recovery *recovery, struct mail_id entry)
{
    if (recovery->applied_count == recovery->applied_cap) {
        recovery->applied_cap = recovery->applied_cap ? recovery->applied_cap * 2 : 1024;
        recovery->applied = memory_resize_array(recovery->applied, recovery->applied_cap,
                                                sizeof *recovery->applied);
    }
    recovery->applied[recovery->applied_count++] = entry;
}

/* Returns why this entry cannot be used, or NULL after it was applied. */
static const char *apply_entry(struct walk *walk, const struct unit_run *run,
                               const struct spool_found_record *found, struct spool_damage *damage)
{
    struct str payload = payload_of(walk, found);
    struct spool_entry_record entry;
    if (!found->intact || !spool_entry_decode(payload, found->record.length, &entry)) {
        if (payload.len >= SPOOL_ENTRY_FIXED)
            name_damage(walk, damage, (const unsigned char *)payload.ptr);
        return "entry does not verify";
    }
    damage->entry = entry.entry;
    damage->message = entry.message;
    damage->named = damage->sure = true;
    uint64_t body_offset = 0;
    if (entry.body_record != SPOOL_NO_BODY) {
        const struct spool_found_record *body = body_of(run, entry.body_record);
        if (!body || !body->intact || body->record.length != entry.body_size)
            return "body does not verify";
        body_offset = body->offset;
    }
    struct spool_place place = {walk->source->segment, found->offset, found->record.unit};
    spool_index_apply_entry(walk->recovery->index, place, &entry, body_offset);
    note_applied(walk->recovery, entry.entry);
    return NULL;
}

static const char *apply_record(struct walk *walk, const struct unit_run *run,
                                const struct spool_found_record *found, struct spool_damage *damage)
{
    struct spool_index *index = walk->recovery->index;
    struct spool_place place = {walk->source->segment, found->offset, found->record.unit};
    struct str payload = payload_of(walk, found);
    struct mail_id id;
    uint64_t sequence;
    struct str state;
    if (found->record.type == SPOOL_RECORD_ENTRY)
        return apply_entry(walk, run, found, damage);
    if (!found->intact)
        return found->record.type == SPOOL_RECORD_BODY ? NULL : "record does not verify";
    switch (found->record.type) {
    case SPOOL_RECORD_STATE:
        if (spool_state_decode(payload, &id, &sequence, &state))
            spool_index_apply_state(index, place, id, sequence, state.len);
        break;
    case SPOOL_RECORD_REMOVE:
        if (payload.len == SPOOL_REMOVE_SIZE)
            spool_index_apply_remove(index, place,
                                     spool_id_decode((const unsigned char *)payload.ptr));
        break;
    case SPOOL_RECORD_COUNT:
    case SPOOL_RECORD_COUNTERS:
        read_totals(walk, found);
        break;
    default:
        break;
    }
    return NULL;
}

/* What the records may have that a unit lacks: a body, if an entry says so, and totals. */
static uint64_t missing_bytes(const struct walk *walk, const struct unit_run *run)
{
    uint64_t bytes =
        (run->records[0].record.count - run->count) * spool_record_size(SPOOL_COUNT_SIZE);
    for (size_t i = 0; i < run->count; i++) {
        const struct spool_found_record *found = &run->records[i];
        struct spool_entry_record entry;
        if (found->record.type == SPOOL_RECORD_ENTRY && found->intact &&
            spool_entry_decode(payload_of(walk, found), found->record.length, &entry) &&
            entry.body_record != SPOOL_NO_BODY && !body_of(run, entry.body_record))
            return bytes + spool_record_size(entry.body_size);
    }
    return bytes;
}

/* The bytes of a broken unit reach over the gap that broke it. */
static void widen_over_gaps(const struct walk *walk, struct unit_run *run)
{
    for (size_t i = 0; i < walk->scan.gap_count; i++) {
        const struct spool_gap *gap = &walk->scan.gaps[i];
        uint64_t end = gap->end < walk->source->must_end ? gap->end : walk->source->must_end;
        bool behind = gap->begin == run->end && end > gap->begin;
        bool before = !behind && gap->end == run->begin;
        if (behind)
            run->end = end;
        if (before)
            run->begin = gap->begin;
        if (behind || before)
            walk->scan.gaps[i].known += missing_bytes(walk, run);
    }
}

static void apply_unit(struct walk *walk, struct unit_run *run)
{
    bool told = false;
    if (!run->whole)
        widen_over_gaps(walk, run);
    for (size_t i = 0; i < run->count; i++) {
        struct spool_damage damage = {
            .segment = walk->source->id, .begin = run->begin, .end = run->end};
        damage.why = apply_record(walk, run, &run->records[i], &damage);
        if (damage.why) {
            add_damage(walk->recovery->out, damage);
            told = true;
        }
    }
    walk->recovery->out->units++;
    if (run->whole || told)
        return;
    struct spool_damage damage = {.segment = walk->source->id,
                                  .begin = run->begin,
                                  .end = run->end,
                                  .why = "part of a unit is missing"};
    for (size_t i = 0; i < walk->scan.gap_count; i++) {
        uint64_t at = walk->scan.gaps[i].begin;
        if (at >= run->begin && at < run->end)
            guess_name(walk, at, &damage);
    }
    add_damage(walk->recovery->out, damage);
}

static struct unit_run next_run(const struct walk *walk, size_t first)
{
    const struct spool_found_record *records = walk->scan.records;
    struct unit_run run = {.records = records + first, .begin = records[first].offset};
    bool whole = records[first].record.index == 0;
    size_t i = first;
    do {
        const struct spool_found_record *found = &records[i];
        whole = whole && found->intact && found->record.index == i - first;
        run.end = spool_found_record_end(found);
        i++;
    } while (i < walk->scan.record_count && records[i].record.unit == records[first].record.unit &&
             records[i].record.count == records[first].record.count &&
             records[i].record.index > records[i - 1].record.index);
    run.count = i - first;
    run.whole = whole && run.count == records[first].record.count;
    run.durable = run.end <= walk->source->must_end;
    return run;
}

static void apply_units(struct walk *walk)
{
    struct spool_recover_segment *source = walk->source;
    uint64_t last_end = SPOOL_SEGMENT_HEADER;
    source->whole_end = SPOOL_SEGMENT_HEADER;
    enum { AT_ONCE = 256 }; /* records: nobody waits long for the index */
    for (size_t i = 0, breath = AT_ONCE; i < walk->scan.record_count;) {
        if (i >= breath) {
            guard(walk, false);
            guard(walk, true);
            breath = i + AT_ONCE;
        }
        struct unit_run run = next_run(walk, i);
        i += run.count;
        if (run.end > source->valid_end)
            continue; /* void: its sync failed */
        if (!run.whole && !run.durable) {
            walk->recovery->out->dropped++;
            continue;
        }
        if (run.begin == source->whole_end)
            source->whole_end = run.end;
        last_end = run.end;
        apply_unit(walk, &run);
    }
    if (source->whole_end < source->must_end)
        source->whole_end = source->must_end;
    if (last_end < source->must_end)
        last_end = source->must_end;
    if (last_end < source->valid_end)
        source->valid_end = last_end;
}

/* A gap beside a broken unit may hold others whole: then the name of that one does not tell of it.
 */
static bool tells_of_gap(const struct spool_damage *damage, const struct spool_gap *gap)
{
    if (gap->begin < damage->begin || gap->end > damage->end)
        return false;
    bool is_inside = damage->begin < gap->begin && gap->end < damage->end;
    return is_inside || !damage->named || gap->end - gap->begin <= gap->known;
}

/* Durable bytes that are no record, unless a broken unit beside them has told of them. */
static void tell_gaps(struct walk *walk, size_t damages_before)
{
    const struct spool_recovered *out = walk->recovery->out;
    size_t damages_after = out->damage_count;
    for (size_t i = 0; i < walk->scan.gap_count; i++) {
        struct spool_gap gap = walk->scan.gaps[i];
        if (gap.end > walk->source->must_end)
            gap.end = walk->source->must_end;
        bool told = gap.begin >= gap.end;
        for (size_t k = damages_before; k < damages_after && !told; k++)
            told = tells_of_gap(&out->damages[k], &gap);
        if (told)
            continue;
        struct spool_damage damage = {.segment = walk->source->id,
                                      .begin = gap.begin,
                                      .end = gap.end,
                                      .why = "bytes do not verify"};
        guess_name(walk, gap.begin, &damage);
        add_damage(walk->recovery->out, damage);
    }
}

static void tell_cut(struct walk *walk)
{
    struct spool_recover_segment *source = walk->source;
    if (source->bytes.len < source->must_end && !source->is_gone) {
        struct spool_damage damage = {.segment = source->id,
                                      .begin = source->bytes.len,
                                      .end = source->must_end,
                                      .why = "segment is cut short"};
        add_damage(walk->recovery->out, damage);
    }
    /* shorter than its header it never was in use */
    if (source->header_is_bad && !source->is_empty && source->bytes.len >= SPOOL_SEGMENT_HEADER) {
        struct spool_damage damage = {.segment = source->id,
                                      .begin = 0,
                                      .end = SPOOL_SEGMENT_HEADER,
                                      .why = "header of the segment does not verify"};
        add_damage(walk->recovery->out, damage);
    }
}

static void read_header(struct spool_recover_segment *source)
{
    struct spool_segment_header header;
    source->header_is_bad =
        source->bytes.len < SPOOL_SEGMENT_HEADER ||
        !spool_segment_header_decode((const unsigned char *)source->bytes.ptr, &header) ||
        header.id != source->id || header.kind != source->kind;
    source->was_used = !source->header_is_bad && header.was_used;
    source->created_wall_ns = source->was_used ? header.created_wall_ns : 0;
}

static bool is_zero(struct str bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.ptr[i])
            return false;
    }
    return true;
}

static void recover_segment(struct spool_recovery *recovery, struct spool_recover_segment *source)
{
    struct walk walk = {.recovery = recovery, .source = source};
    size_t damages_before = recovery->out->damage_count;
    if (recovery->load)
        recovery->load(recovery->load_context, source, /* load= */ true);
    read_header(source);
    if (source->unread_end <= source->valid_end)
        raise_must_end(recovery, source->id, source->unread_end);
    /* where nothing was before, zeros are behind the end: all that is there is looked at */
    uint64_t written = source->was_used ? source->must_end : UINT64_MAX;
    spool_segment_scan(source->bytes, source->id, written, &walk.scan);
    size_t header = source->header_is_bad ? 0 : (size_t)SPOOL_SEGMENT_HEADER;
    bool has_nothing = source->was_used ? source->must_end <= SPOOL_SEGMENT_HEADER
                                        : is_zero(str_from(source->bytes, header));
    source->is_empty = walk.scan.record_count == 0 && has_nothing && !source->unread_end;
    source->is_foreign = walk.scan.record_count == 0 && source->header_is_bad && !source->is_empty;
    guard(&walk, true);
    read_limits(&walk);
    apply_units(&walk);
    source->segment->end = source->valid_end;
    source->segment->sealed = true;
    guard(&walk, false);
    tell_gaps(&walk, damages_before);
    tell_cut(&walk);
    guard(&walk, true);
    forget_wrong_names(&walk, damages_before);
    guard(&walk, false);
    recovery->totals_were_newer = recovery->has_totals;
    spool_scan_done(&walk.scan);
    if (recovery->load)
        recovery->load(recovery->load_context, source, /* load= */ false);
}

void spool_recover_begin(struct spool_recovery *recovery, struct spool_recover_segment *segments,
                         size_t count, spool_recover_load *load, void *load_context,
                         struct spool_index *index, struct spool_recovered *out)
{
    *out = (struct spool_recovered){.next_unit = 1, .next_sequence = 1};
    *recovery = (struct spool_recovery){.segments = segments,
                                        .count = count,
                                        .load = load,
                                        .load_context = load_context,
                                        .index = index,
                                        .out = out,
                                        .cold_left = count,
                                        .main_left = count};
    index->recovering = true;
    for (size_t i = 0; i < count; i++) {
        segments[i].segment =
            spool_index_add_segment(index, segments[i].id, segments[i].kind, /* fd= */ -1);
        segments[i].valid_end = UINT64_MAX;
        segments[i].must_end = 0;
    }
}

/* The newest of a kind that was not walked; NULL: none. */
static struct spool_recover_segment *next_of(struct spool_recovery *recovery, size_t *left,
                                             bool cold)
{
    while (*left > 0) {
        struct spool_recover_segment *source = &recovery->segments[--*left];
        if ((source->kind == SPOOL_SEGMENT_COLD) == cold)
            return source;
    }
    return NULL;
}

void spool_recover_head(struct spool_recovery *recovery)
{
    struct spool_recover_segment *source;
    while (!recovery->has_totals &&
           (source = next_of(recovery, &recovery->main_left, false)) != NULL)
        recover_segment(recovery, source);
    finish_totals(recovery);
}

bool spool_recover_in_head(const struct spool_recovery *recovery, size_t segment)
{
    return segment >= recovery->main_left && recovery->segments[segment].kind != SPOOL_SEGMENT_COLD;
}

struct spool_recover_segment *spool_recover_next(struct spool_recovery *recovery)
{
    struct spool_recover_segment *source = next_of(recovery, &recovery->cold_left, true);
    if (source == NULL)
        source = next_of(recovery, &recovery->main_left, false);
    if (source != NULL)
        recover_segment(recovery, source);
    return source;
}

void spool_recover_end(struct spool_recovery *recovery)
{
    free(recovery->applied);
    free(recovery->steps);
    *recovery = (struct spool_recovery){0};
}

void spool_recover(struct spool_recover_segment *segments, size_t count, spool_recover_load *load,
                   void *load_context, struct spool_index *index, struct spool_recovered *out)
{
    struct spool_recovery recovery;
    spool_recover_begin(&recovery, segments, count, load, load_context, index, out);
    spool_recover_head(&recovery);
    while (spool_recover_next(&recovery))
        recovery.applied_count = 0;
    spool_recover_end(&recovery);
    spool_index_finish(index);
}

void spool_recovered_done(struct spool_recovered *recovered)
{
    free(recovered->damages);
    *recovered = (struct spool_recovered){0};
}
