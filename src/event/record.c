/* SPDX-License-Identifier: Apache-2.0 */
#include "event/record.h"

#include <string.h>

_Static_assert(EVENT_KEY_COUNT <= UINT8_MAX, "keys fit a byte");
_Static_assert((int)EVENT_TYPE_COUNT < (int)RECORD_SKIP, "types fit");

/* Where to cut, so that no UTF-8 sequence is split. */
static size_t cut(struct str text)
{
    if (text.len <= EVENT_TEXT)
        return text.len;
    size_t end = EVENT_TEXT;
    while (end > EVENT_TEXT - 3 && ((unsigned char)text.ptr[end] & 0xC0) == 0x80)
        end--;
    return end;
}

static struct record_field head_of(const struct event_field *field)
{
    size_t length = field->kind == EVENT_VALUE_STR ? cut(field->text) : sizeof(field->number);
    return (struct record_field){(uint8_t)field->key, (uint8_t)field->kind, (uint16_t)length};
}

static const char *bytes_of(const struct event_field *field)
{
    return field->kind == EVENT_VALUE_STR ? field->text.ptr : (const char *)&field->number;
}

static size_t put_field(char *to, const struct event_field *from)
{
    struct record_field head = head_of(from);
    memcpy(to, &head, sizeof head);
    if (head.length)
        memcpy(to + sizeof head, bytes_of(from), head.length);
    return sizeof head + head.length;
}

static size_t padded(size_t size)
{
    return (size + RECORD_ALIGNMENT - 1) / RECORD_ALIGNMENT * RECORD_ALIGNMENT;
}

struct record record_head(const char *bytes)
{
    struct record record;
    memcpy(&record, bytes, sizeof record);
    return record;
}

static size_t whole_size(const struct event_field *const *fields, unsigned count)
{
    size_t size = sizeof(struct record);
    for (unsigned i = 0; i < count; i++)
        size += sizeof(struct record_field) + head_of(fields[i]).length;
    return size;
}

/* Most texts are short: to call memcmp for each field of each event takes longer than to compare.
 */
static bool same_bytes(const char *a, const char *b, size_t len)
{
    uint64_t left, right;
    if (len < sizeof left) {
        for (size_t i = 0; i < len; i++)
            if (a[i] != b[i])
                return false;
        return true;
    }
    for (size_t i = 0;; i = i + 2 * sizeof left <= len ? i + sizeof left : len - sizeof left) {
        memcpy(&left, a + i, sizeof left);
        memcpy(&right, b + i, sizeof right);
        if (left != right)
            return false;
        if (i + sizeof left == len)
            return true;
    }
}

/* False: it is another kind of event than the last one. */
static bool compare(const struct image *image, const struct event_field *const *fields,
                    unsigned count, uint32_t may_differ, struct record_plan *plan)
{
    const char *at = image->bytes + sizeof(struct record);
    plan->size = sizeof(struct record) + sizeof plan->changed;
    for (unsigned i = 0; i < count; i++) {
        struct record_field last;
        memcpy(&last, at, sizeof last);
        if (!(may_differ & UINT32_C(1) << i)) {
            plan->whole_size += sizeof last + last.length;
            at += sizeof last + last.length;
            continue;
        }
        struct record_field head = head_of(fields[i]);
        if (last.key != head.key || last.kind != head.kind)
            return false;
        plan->whole_size += sizeof head + head.length;
        if (last.length != head.length ||
            !same_bytes(at + sizeof last, bytes_of(fields[i]), head.length)) {
            plan->changed |= UINT32_C(1) << i;
            plan->size += sizeof head + head.length;
            plan->keeps_lengths = plan->keeps_lengths && last.length == head.length;
        }
        at += sizeof last + last.length;
    }
    return plan->size < plan->whole_size && plan->whole_size <= IMAGE_MAX;
}

struct record_plan record_plan(const struct image *image, const struct event_field *const *fields,
                               unsigned count, uint32_t may_differ)
{
    struct record_plan plan = {.keeps_lengths = true, .whole_size = sizeof(struct record)};
    if (image->size && record_head(image->bytes).count == count)
        plan.is_like = compare(image, fields, count, may_differ, &plan);
    if (!plan.is_like) {
        plan.whole_size = whole_size(fields, count);
        plan.size = plan.whole_size;
    }
    plan.size = padded(plan.size);
    return plan;
}

void record_write(char *to, const struct record_plan *plan, enum event_type type, int64_t wall_ns,
                  const struct event_field *const *fields, unsigned count)
{
    struct record record = {(uint32_t)plan->size, (uint16_t)type, (uint16_t)count, wall_ns};
    if (plan->is_like)
        record.count |= RECORD_LIKE;
    memcpy(to, &record, sizeof record);
    to += sizeof record;
    if (!plan->is_like) {
        for (unsigned i = 0; i < count; i++)
            to += put_field(to, fields[i]);
        return;
    }
    memcpy(to, &plan->changed, sizeof plan->changed);
    to += sizeof plan->changed;
    for (uint32_t rest = plan->changed; rest; rest &= rest - 1)
        to += put_field(to, fields[__builtin_ctz(rest)]);
}

/* Fields that are as long as before, where they stand. */
static void overwrite(struct image *image, const struct record_plan *plan,
                      const struct event_field *const *fields, unsigned count)
{
    char *at = image->bytes + sizeof(struct record);
    uint32_t rest = plan->changed;
    for (unsigned i = 0; i < count && rest; i++) {
        struct record_field head;
        memcpy(&head, at, sizeof head);
        if (rest & UINT32_C(1) << i && head.length)
            memcpy(at + sizeof head, bytes_of(fields[i]), head.length);
        rest &= ~(UINT32_C(1) << i);
        at += sizeof head + head.length;
    }
}

void record_note(struct image *image, const struct record_plan *plan,
                 const struct event_field *const *fields, unsigned count)
{
    if (plan->is_like && plan->keeps_lengths) {
        overwrite(image, plan, fields, count);
        return;
    }
    image->size = 0;
    if (plan->whole_size > IMAGE_MAX)
        return;
    struct record record = {.count = (uint16_t)count};
    memcpy(image->bytes, &record, sizeof record);
    char *at = image->bytes + sizeof record;
    for (unsigned i = 0; i < count; i++)
        at += put_field(at, fields[i]);
    image->size = (uint32_t)plan->whole_size;
}
