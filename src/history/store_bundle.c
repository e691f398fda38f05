/* SPDX-License-Identifier: Apache-2.0 */
#include "history/store_bundle.h"

#include "history/store_file.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Formats of rows that are one story are in store_pack.c. */
enum { FORMAT_BUNDLE = 3, NUMBER = 4, HEAD = 1 + 2 * NUMBER, PLACE = 16 + NUMBER, BASES_MAX = 255 };

/* ---- writing ---- */

void bundler_init(struct bundler *bundler, size_t max)
{
    *bundler = (struct bundler){0};
    buf_init(&bundler->bytes, max);
    buf_init(&bundler->bundle, max);
}

void bundler_done(struct bundler *bundler)
{
    bundler_clear(bundler);
    buf_done(&bundler->bytes);
    buf_done(&bundler->bundle);
    free(bundler->stories);
    free(bundler->bases);
    bundler->stories = NULL;
    bundler->bases = NULL;
    bundler->cap = bundler->base_cap = 0;
}

void bundler_clear(struct bundler *bundler)
{
    while (bundler->base_count)
        base_drop(bundler->bases[--bundler->base_count]);
    buf_clear(&bundler->bytes);
    bundler->count = bundler->taken = 0;
}

void bundler_settle(struct bundler *bundler, size_t *needed)
{
    size_t max = bundler->bytes.max;
    uint64_t bundles = bundler->bundles;
    buf_settle(&bundler->bytes, needed);
    bundler_clear(bundler);
    if (bundler->bytes.ptr)
        return;
    bundler_done(bundler);
    bundler_init(bundler, max);
    bundler->bundles = bundles;
}

static void keep_bases(struct bundler *bundler, struct base *const *bases, size_t count)
{
    if (bundler->base_count + count > bundler->base_cap) {
        bundler->base_cap = bundler->base_cap * 2 + 64 + count;
        bundler->bases =
            memory_resize_array(bundler->bases, bundler->base_cap, sizeof(struct base *));
    }
    for (size_t i = 0; i < count; i++)
        bundler->bases[bundler->base_count++] = base_keep(bases[i]);
}

bool bundler_add(struct bundler *bundler, struct mail_id id, struct str bytes,
                 struct base *const *bases, size_t base_count)
{
    size_t offset = bundler->bytes.len;
    buf_append(&bundler->bytes, bytes);
    if (bundler->bytes.overflow)
        return false;
    if (bundler->count == bundler->cap) {
        bundler->cap = bundler->cap ? bundler->cap * 2 : 64;
        bundler->stories =
            memory_resize_array(bundler->stories, bundler->cap, sizeof *bundler->stories);
    }
    bundler->stories[bundler->count++] =
        (struct bundled){id, (uint32_t)offset, (uint32_t)bytes.len, (uint32_t)bundler->base_count,
                         (uint32_t)base_count};
    keep_bases(bundler, bases, base_count);
    return true;
}

static int by_id(const void *a, const void *b)
{
    const struct bundled *one = a;
    const struct bundled *two = b;
    if (one->id.high != two->id.high)
        return one->id.high < two->id.high ? -1 : 1;
    if (one->id.low != two->id.low)
        return one->id.low < two->id.low ? -1 : 1;
    return one->offset < two->offset ? -1 : 1; /* as they came */
}

static void put_number(struct buf *out, size_t number)
{
    uint32_t bytes = __builtin_bswap32((uint32_t)number);
    buf_append(out, str_of((const char *)&bytes, sizeof bytes));
}

/* ---- one bundle ---- */

/* The bases of the story that the bundle does not have yet. False: they are too many for it. */
static bool add_bases(struct bundler *bundler, const struct bundled *story, struct base **table,
                      size_t *io_count)
{
    size_t before = *io_count;
    for (size_t i = 0; i < story->base_count; i++) {
        struct base *base = bundler->bases[story->first_base + i];
        if (base->bundle == bundler->bundles && base->place < *io_count &&
            table[base->place] == base)
            continue;
        if (*io_count == BASES_MAX) {
            *io_count = before;
            return false;
        }
        base->bundle = bundler->bundles;
        base->place = (unsigned)*io_count;
        table[(*io_count)++] = base;
    }
    return true;
}

static void put_story(const struct bundler *bundler, const struct bundled *story, struct buf *out)
{
    buf_append_byte(out, (char)story->base_count);
    for (size_t i = 0; i < story->base_count; i++)
        buf_append_byte(out, (char)bundler->bases[story->first_base + i]->place);
    buf_append(out, str_of(bundler->bytes.ptr + story->offset, story->size));
}

static void put_bundle(struct bundler *bundler, const struct bundled *stories, size_t count,
                       struct base *const *table, size_t base_count)
{
    struct buf *out = &bundler->bundle;
    size_t end = 0;
    buf_clear(out);
    buf_append_byte(out, FORMAT_BUNDLE);
    put_number(out, count);
    put_number(out, base_count);
    for (size_t i = 0; i < count; i++) {
        unsigned char id[16];
        store_id_bytes(stories[i].id, id);
        buf_append(out, str_of((const char *)id, sizeof id));
        end += 1 + stories[i].base_count + stories[i].size;
        put_number(out, end);
    }
    end = 0;
    for (size_t i = 0; i < base_count; i++)
        put_number(out, end += table[i]->bytes.len);
    for (size_t i = 0; i < base_count; i++)
        buf_append(out, table[i]->bytes);
    for (size_t i = 0; i < count; i++)
        put_story(bundler, &stories[i], out);
}

bool bundler_next(struct bundler *bundler, struct bundle *out)
{
    struct base *table[BASES_MAX];
    size_t base_count = 0;
    size_t left = bundler->count - bundler->taken;
    if (left == 0)
        return false;
    if (bundler->taken == 0)
        qsort(bundler->stories, bundler->count, sizeof *bundler->stories, by_id);
    bundler->bundles++;
    const struct bundled *first = &bundler->stories[bundler->taken];
    size_t size = 0;
    size_t count = 0;
    while (count < left && (count == 0 || size + first[count].size <= BUNDLE_BYTES) &&
           mail_id_time_ms(first[count].id) - mail_id_time_ms(first->id) <= BUNDLE_SPAN_MS &&
           add_bases(bundler, &first[count], table, &base_count))
        size += first[count++].size;
    *out = (struct bundle){.first = first->id, .last = first[count - 1].id, .count = count};
    out->bytes = str_of(bundler->bytes.ptr + first->offset, first->size);
    if (count > 1 || base_count) {
        put_bundle(bundler, first, count, table, base_count);
        out->bytes = buf_str(&bundler->bundle);
    }
    bundler->taken += count;
    return true;
}

/* ---- reading ---- */

static size_t number_at(struct str bytes, size_t at)
{
    uint32_t number;
    memcpy(&number, bytes.ptr + at, sizeof number);
    return __builtin_bswap32(number);
}

/* Stories with their places, and bases with where they end, fit into what is there. */
size_t bundle_count(struct str bytes)
{
    if (bytes.len < HEAD || bytes.ptr[0] != FORMAT_BUNDLE)
        return 0;
    size_t count = number_at(bytes, 1);
    size_t bases = number_at(bytes, 1 + NUMBER);
    return bases <= BASES_MAX && count <= (bytes.len - HEAD) / PLACE &&
                   bases * NUMBER <= bytes.len - HEAD - count * PLACE
               ? count
               : 0;
}

struct mail_id bundle_id(struct str bytes, size_t index)
{
    return store_id_of((const unsigned char *)bytes.ptr + HEAD + index * PLACE);
}

/* Where the numbers that tell the ends of bases begin. */
static size_t base_ends(struct str bytes)
{
    return HEAD + bundle_count(bytes) * PLACE;
}

static bool piece(struct str bytes, size_t begin, size_t end, struct str *out)
{
    if (begin > end || end > bytes.len)
        return false;
    *out = str_slice(bytes, begin, end);
    return true;
}

static bool base_at(struct str bytes, size_t index, struct str *out)
{
    size_t ends = base_ends(bytes);
    size_t count = number_at(bytes, 1 + NUMBER);
    if (index >= count)
        return false;
    size_t begin = index ? number_at(bytes, ends + (index - 1) * NUMBER) : 0;
    size_t end = number_at(bytes, ends + index * NUMBER);
    return piece(str_from(bytes, ends + count * NUMBER), begin, end, out);
}

bool bundle_story(struct str bytes, size_t index, struct bundle_story *out)
{
    size_t bases = number_at(bytes, 1 + NUMBER);
    struct str rest = str_from(bytes, base_ends(bytes) + bases * NUMBER);
    size_t all = bases ? number_at(bytes, base_ends(bytes) + (bases - 1) * NUMBER) : 0;
    size_t begin = index ? number_at(bytes, HEAD + index * PLACE - NUMBER) : 0;
    size_t end = number_at(bytes, HEAD + index * PLACE + 16);
    struct str story;
    if (!piece(rest, all, rest.len, &rest) || !piece(rest, begin, end, &story) || story.len == 0)
        return false;
    out->id = bundle_id(bytes, index);
    out->base_count = (unsigned char)story.ptr[0];
    if (out->base_count > STORE_STORY_BASES || story.len < 1 + out->base_count)
        return false;
    for (size_t i = 0; i < out->base_count; i++) {
        if (!base_at(bytes, (unsigned char)story.ptr[1 + i], &out->bases[i]))
            return false;
    }
    out->bytes = str_from(story, 1 + out->base_count);
    return true;
}

size_t bundle_find(struct str bytes, struct mail_id id)
{
    size_t low = 0;
    size_t high = bundle_count(bytes);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct mail_id at = bundle_id(bytes, middle);
        if (at.high < id.high || (at.high == id.high && at.low < id.low))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
