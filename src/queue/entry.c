/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/entry.c - encoding and decoding of entries.
 *
 * Numbers are little endian; a text is u32 length and bytes.
 *
 * meta   := u8 version, id message, id session, i64 accepted, u32 flags,
 *           sender, text fairness_key, text origin, text transport, text content_flow,
 *           [version 2 or 3, where a content flow kept the message: kept]
 *           u32 n, n × (text address, text domain, text orcpt, u8 notify)
 * kept   := text step, text quarantine, text why, text findings, u8 scored, i64 score
 *           [version 3: text label]
 * sender := text address, u8 body, u8 smtputf8, u8 ret, text envid, u64 size
 * record := u8 version=1, u8 flags, text reason, u32 attempts, i64 due, i64 last_try,
 *           i64 held_since, i64 held_total, u32 n
 *           [unless ALL_PENDING: u8 m, m × said, n × (u8 status, u8 said (0: none, else from 1))]
 * said   := u16 code, u8 class, u16 subject, u16 detail, text words, text mta
 */
#include "queue/entry.h"

#include "base/check.h"

#include <string.h>

enum {
    VERSION = 1,
    VERSION_KEPT = 2,
    VERSION_LABEL = 3, /* kept, and a label */
    RECORD_HELD = 1,
    RECORD_DELAY_TOLD = 2,
    RECORD_ALL_PENDING = 4,
    RECORD_DIGESTED = 8,
    RECORD_ON_DISK = 127,
    RECORD_HAS_HELD = 128, /* in memory: the tail begins with the times of a hold */
    OWN_SHORT = 1,         /* a single recipient, of whom all but the local part is elsewhere */
    OWN_ENVID = 2,
    OWN_KEPT = 4,
    OWN_ORCPT = 8, /* with OWN_SHORT: given as ORCPT_PREFIX and its address */
    OWN_NOTIFY = 16,
    OWN_SESSION = 32, /* in full: it is not from the minute before the message */
    SESSION_MS = 1 << 16,
    SAID_MAX = 12,
    WORDS_MAX = 180,
    MTA_MAX = 80,
    RECIPIENTS_CEILING = 100000,
};

#define ORCPT_PREFIX "rfc822;"

/* ---- writing ---- */

static char *write_number(char *to, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        *to++ = (char)(unsigned char)(value >> (8 * i));
    return to;
}

static char *write_text(char *to, struct str text)
{
    to = write_number(to, text.len, 4);
    if (text.len > 0)
        memcpy(to, text.ptr, text.len);
    return to + text.len;
}

static void put_number(struct buf *out, uint64_t value, unsigned size)
{
    char bytes[8];
    write_number(bytes, value, size);
    buf_append(out, str_of(bytes, size));
}

static void put_text(struct buf *out, struct str text)
{
    put_number(out, text.len, 4);
    buf_append(out, text);
}

/* In memory only: seven bits a byte, the low ones first. */
static void put_small(struct buf *out, uint64_t value)
{
    for (; value >= 128; value >>= 7)
        buf_append_byte(out, (char)(unsigned char)(value | 128));
    buf_append_byte(out, (char)(unsigned char)value);
}

static void put_short_text(struct buf *out, struct str text)
{
    put_small(out, text.len);
    buf_append(out, text);
}

static void put_id(struct buf *out, struct mail_id id)
{
    put_number(out, id.high, 8);
    put_number(out, id.low, 8);
}

/* ---- reading ---- */

struct reader {
    struct str rest;
    bool bad;
    bool is_kept; /* the bytes are in the arena: texts need no copy */
    struct arena *arena;
};

static uint64_t get_number(struct reader *reader, unsigned size)
{
    if (reader->bad || reader->rest.len < size) {
        reader->bad = true;
        return 0;
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)(unsigned char)reader->rest.ptr[i] << (8 * i);
    reader->rest = str_from(reader->rest, size);
    return value;
}

static struct str get_text(struct reader *reader)
{
    uint64_t len = get_number(reader, 4);
    if (reader->bad || len > reader->rest.len) {
        reader->bad = true;
        return STR_EMPTY;
    }
    struct str text = str_slice(reader->rest, 0, (size_t)len);
    if (!reader->is_kept)
        text = arena_str(reader->arena, text);
    reader->rest = str_from(reader->rest, (size_t)len);
    return text;
}

static uint64_t get_small(struct reader *reader)
{
    uint64_t value = 0, part = 128;
    for (unsigned shift = 0; part >= 128 && shift < 64; shift += 7) {
        part = get_number(reader, 1);
        value |= (part & 127) << shift;
    }
    return value;
}

/* Not copied. */
static struct str get_short_text(struct reader *reader)
{
    uint64_t len = get_small(reader);
    if (reader->bad || len > reader->rest.len) {
        reader->bad = true;
        return STR_EMPTY;
    }
    struct str text = str_slice(reader->rest, 0, (size_t)len);
    reader->rest = str_from(reader->rest, (size_t)len);
    return text;
}

static struct mail_id get_id(struct reader *reader)
{
    struct mail_id id;
    id.high = get_number(reader, 8);
    id.low = get_number(reader, 8);
    return id;
}

/* ---- meta ---- */

static void put_recipients(struct buf *out, const struct queue_meta *meta)
{
    enum { NUMBERS = 3 * 4 + 1 }; /* of each recipient */
    size_t size = 4 + meta->recipient_count * NUMBERS;
    for (size_t i = 0; i < meta->recipient_count; i++) {
        const struct mail_recipient *recipient = &meta->recipients[i];
        size += recipient->address.len + recipient->domain.len + recipient->orcpt.len;
    }
    char *to = buf_reserve(out, size);
    if (to == NULL)
        return;
    to = write_number(to, meta->recipient_count, 4);
    for (size_t i = 0; i < meta->recipient_count; i++) {
        const struct mail_recipient *recipient = &meta->recipients[i];
        to = write_text(to, recipient->address);
        to = write_text(to, recipient->domain);
        to = write_text(to, recipient->orcpt);
        to = write_number(to, recipient->notify, 1);
    }
    out->len += size;
}

static void put_kept(struct buf *out, const struct queue_kept *kept)
{
    put_text(out, kept->step);
    put_text(out, kept->quarantine);
    put_text(out, kept->why);
    put_text(out, kept->findings);
    put_number(out, kept->scored, 1);
    put_number(out, (uint64_t)kept->score, 8);
    put_text(out, kept->label);
}

static void get_kept(struct reader *reader, bool has_label, struct queue_kept *kept)
{
    kept->step = get_text(reader);
    kept->quarantine = get_text(reader);
    kept->why = get_text(reader);
    kept->findings = get_text(reader);
    kept->scored = get_number(reader, 1) != 0;
    kept->score = (int64_t)get_number(reader, 8);
    kept->label = has_label ? get_text(reader) : STR_EMPTY;
}

static bool is_kept(const struct queue_kept *kept)
{
    return kept->step.len || kept->quarantine.len || kept->why.len || kept->findings.len ||
           kept->scored;
}

void queue_meta_encode(const struct queue_meta *meta, struct buf *out)
{
    bool kept = is_kept(&meta->kept);
    put_number(out, kept ? VERSION_LABEL : VERSION, 1);
    put_id(out, meta->message);
    put_id(out, meta->session);
    put_number(out, (uint64_t)meta->accepted_wall_ns, 8);
    put_number(out, meta->flags, 4);
    put_text(out, meta->sender.address);
    put_number(out, (uint64_t)meta->sender.body, 1);
    put_number(out, meta->sender.smtputf8, 1);
    put_number(out, (uint64_t)meta->sender.ret, 1);
    put_text(out, meta->sender.envid);
    put_number(out, meta->sender.size, 8);
    put_text(out, meta->fairness_key);
    put_text(out, meta->origin);
    put_text(out, meta->transport);
    put_text(out, meta->content_flow);
    if (kept)
        put_kept(out, &meta->kept);
    put_recipients(out, meta);
}

static void get_sender(struct reader *reader, struct mail_sender *sender)
{
    sender->address = get_text(reader);
    uint64_t body = get_number(reader, 1);
    uint64_t smtputf8 = get_number(reader, 1);
    uint64_t ret = get_number(reader, 1);
    if (body > MAIL_BODY_BINARY || smtputf8 > 1 || ret > MAIL_RET_FULL)
        reader->bad = true;
    sender->body = (enum mail_body_type)body;
    sender->smtputf8 = smtputf8 != 0;
    sender->ret = (enum mail_ret)ret;
    sender->envid = get_text(reader);
    sender->size = get_number(reader, 8);
}

static bool get_recipients(struct reader *reader, struct queue_meta *meta)
{
    uint64_t count = get_number(reader, 4);
    /* each takes 13 bytes or more, so the count cannot ask for more memory than was read */
    if (reader->bad || count > RECIPIENTS_CEILING || count * 13 > reader->rest.len)
        return false;
    meta->recipient_count = (size_t)count;
    meta->recipients =
        arena_alloc_array(reader->arena, (size_t)count + 1, sizeof *meta->recipients);
    for (size_t i = 0; i < count; i++) {
        struct mail_recipient *recipient = &meta->recipients[i];
        recipient->address = get_text(reader);
        recipient->domain = get_text(reader);
        recipient->orcpt = get_text(reader);
        recipient->notify = (unsigned)get_number(reader, 1);
    }
    return !reader->bad && reader->rest.len == 0;
}

bool queue_meta_decode(struct str bytes, struct arena *arena, struct queue_meta *out)
{
    struct reader reader = {.rest = arena_str(arena, bytes), .is_kept = true, .arena = arena};
    struct queue_meta meta = {0};
    uint64_t version = get_number(&reader, 1);
    if (version != VERSION && version != VERSION_KEPT && version != VERSION_LABEL)
        return false;
    meta.message = get_id(&reader);
    meta.session = get_id(&reader);
    meta.accepted_wall_ns = (int64_t)get_number(&reader, 8);
    meta.flags = (unsigned)get_number(&reader, 4);
    get_sender(&reader, &meta.sender);
    meta.fairness_key = get_text(&reader);
    meta.origin = get_text(&reader);
    meta.transport = get_text(&reader);
    meta.content_flow = get_text(&reader);
    if (version != VERSION)
        get_kept(&reader, version == VERSION_LABEL, &meta.kept);
    if (!get_recipients(&reader, &meta))
        return false;
    *out = meta;
    return true;
}

/* ---- meta in memory ---- */

/* The length of the local part if the address is made of it, @ and the domain; else 0. */
static size_t local_part(struct str address, struct str domain)
{
    if (domain.len == 0 || address.len <= domain.len + 1)
        return 0;
    size_t local = address.len - domain.len - 1;
    return address.ptr[local] == '@' && str_equal(str_from(address, local + 1), domain) ? local : 0;
}

/* What clients give who know the address only (RFC 3461 4.2). */
static bool says_address(struct str orcpt, struct str address)
{
    return str_starts(orcpt, STR(ORCPT_PREFIX)) &&
           str_equal(str_from(orcpt, sizeof ORCPT_PREFIX - 1), address);
}

/* A single recipient of whom all but the local part is elsewhere. */
static bool is_short(const struct queue_meta *meta)
{
    const struct mail_recipient *first = meta->recipients;
    return meta->recipient_count == 1 && local_part(first->address, first->domain) > 0 &&
           (first->orcpt.len == 0 || says_address(first->orcpt, first->address));
}

static void put_common(struct buf *common, const struct queue_meta *meta, struct str sender)
{
    put_small(common, meta->flags);
    put_small(common, (uint64_t)meta->sender.body);
    put_small(common, meta->sender.smtputf8);
    put_small(common, (uint64_t)meta->sender.ret);
    put_short_text(common, sender);
    put_short_text(common, meta->fairness_key);
    put_short_text(common, meta->origin);
    put_short_text(common, meta->transport);
    buf_append(common, meta->content_flow);
}

/* A session begins not long before its message: but for the difference of the two times. */
static void put_session(struct buf *own, const struct queue_meta *meta, bool whole)
{
    if (whole) {
        put_id(own, meta->session);
        return;
    }
    put_number(own, (uint64_t)(mail_id_time_ms(meta->message) - mail_id_time_ms(meta->session)), 2);
    put_number(own, meta->session.high, 2);
    put_number(own, meta->session.low, 8);
}

static struct mail_id get_session(struct reader *reader, struct mail_id message, bool whole)
{
    if (whole)
        return get_id(reader);
    uint64_t time_ms = (uint64_t)mail_id_time_ms(message) - get_number(reader, 2);
    uint64_t high = time_ms << 16 | get_number(reader, 2);
    return (struct mail_id){.high = high, .low = get_number(reader, 8)};
}

static unsigned form_of(const struct queue_meta *meta)
{
    bool is_one = is_short(meta);
    int64_t before_ms = mail_id_time_ms(meta->message) - mail_id_time_ms(meta->session);
    return (is_one ? OWN_SHORT : 0u) |
           (is_one && meta->recipients[0].orcpt.len > 0 ? OWN_ORCPT : 0u) |
           (is_one && meta->recipients[0].notify != 0 ? OWN_NOTIFY : 0u) |
           (meta->sender.envid.len > 0 ? OWN_ENVID : 0u) | (is_kept(&meta->kept) ? OWN_KEPT : 0u) |
           (before_ms < 0 || before_ms >= SESSION_MS ? OWN_SESSION : 0u);
}

void queue_meta_split(const struct queue_meta *meta, struct buf *common, struct str *out_domain,
                      struct buf *own)
{
    const struct mail_recipient *first = meta->recipients;
    struct str sender = meta->sender.address;
    unsigned form = form_of(meta);
    /* many senders may have sent one message each, and each of their names may be new */
    size_t sender_local = (size_t)(str_find_last(sender, '@') + 1);
    put_common(common, meta, str_from(sender, sender_local));
    put_small(own, form);
    put_session(own, meta, (form & OWN_SESSION) != 0);
    put_small(own, meta->sender.size);
    put_short_text(own, str_slice(sender, 0, sender_local));
    if ((form & OWN_ENVID) != 0)
        put_text(own, meta->sender.envid);
    if ((form & OWN_KEPT) != 0)
        put_kept(own, &meta->kept);
    *out_domain = (form & OWN_SHORT) != 0 ? first->domain : STR_EMPTY;
    if ((form & OWN_SHORT) == 0) {
        put_recipients(own, meta);
        return;
    }
    if ((form & OWN_NOTIFY) != 0)
        put_number(own, first->notify, 1);
    buf_append(own, str_slice(first->address, 0, local_part(first->address, first->domain)));
}

static struct str joined(struct arena *arena, struct str a, struct str b)
{
    char *text = arena_alloc(arena, a.len + b.len + 1);
    memcpy(text, a.ptr, a.len);
    memcpy(text + a.len, b.ptr, b.len);
    return str_of(text, a.len + b.len);
}

static void get_short(struct reader *reader, struct str domain, unsigned form,
                      struct queue_meta *meta)
{
    struct arena *arena = reader->arena;
    struct mail_recipient *recipient = ARENA_NEW(arena, struct mail_recipient);
    recipient->notify = (form & OWN_NOTIFY) != 0 ? (unsigned)get_number(reader, 1) : 0;
    recipient->domain = arena_str(arena, domain);
    recipient->address = joined(arena, joined(arena, reader->rest, STR("@")), domain);
    recipient->orcpt =
        (form & OWN_ORCPT) != 0 ? joined(arena, STR(ORCPT_PREFIX), recipient->address) : STR_EMPTY;
    meta->recipients = recipient;
    meta->recipient_count = 1;
}

static void get_common(struct reader *reader, struct queue_meta *meta)
{
    meta->flags = (unsigned)get_small(reader);
    meta->sender.body = (enum mail_body_type)get_small(reader);
    meta->sender.smtputf8 = get_small(reader) != 0;
    meta->sender.ret = (enum mail_ret)get_small(reader);
    meta->sender.address = get_short_text(reader); /* the domain of it */
    meta->fairness_key = arena_str(reader->arena, get_short_text(reader));
    meta->origin = arena_str(reader->arena, get_short_text(reader));
    meta->transport = arena_str(reader->arena, get_short_text(reader));
    meta->content_flow = arena_str(reader->arena, reader->rest);
}

bool queue_meta_read(struct mail_id message, struct str common, struct str domain, struct str own,
                     struct arena *arena, struct queue_meta *out)
{
    struct reader shared = {.rest = common, .arena = arena};
    struct reader reader = {.rest = arena_str(arena, own), .is_kept = true, .arena = arena};
    struct queue_meta meta = {0};
    get_common(&shared, &meta);
    unsigned form = (unsigned)get_small(&reader);
    meta.message = message;
    meta.session = get_session(&reader, message, (form & OWN_SESSION) != 0);
    meta.sender.size = get_small(&reader);
    meta.sender.address = joined(arena, get_short_text(&reader), meta.sender.address);
    meta.sender.envid = (form & OWN_ENVID) != 0 ? get_text(&reader) : STR_EMPTY;
    if ((form & OWN_KEPT) != 0)
        get_kept(&reader, /* has_label= */ true, &meta.kept);
    if ((form & OWN_SHORT) != 0)
        get_short(&reader, domain, form, &meta);
    else if (!get_recipients(&reader, &meta))
        return false;
    *out = meta;
    return !shared.bad && !reader.bad;
}

/* ---- record ---- */

void queue_record_init(struct queue_record *record, size_t recipient_count, struct arena *arena)
{
    *record = (struct queue_record){.recipient_count = recipient_count};
    record->status = arena_alloc(arena, recipient_count + 1);
    record->said = arena_alloc_array(arena, recipient_count + 1, sizeof *record->said);
}

size_t queue_record_pending(const struct queue_record *record)
{
    size_t pending = 0;
    for (size_t i = 0; i < record->recipient_count; i++)
        pending += record->status[i] == QUEUE_STATUS_PENDING;
    return pending;
}

static bool is_untouched(const struct queue_record *record)
{
    for (size_t i = 0; i < record->recipient_count; i++)
        if (record->status[i] != QUEUE_STATUS_PENDING || record->said[i] != NULL)
            return false;
    return true;
}

static bool said_equal(const struct queue_said *a, const struct queue_said *b)
{
    return a == b ||
           (a->reply.code == b->reply.code && a->reply.enhanced.class == b->reply.enhanced.class &&
            a->reply.enhanced.subject == b->reply.enhanced.subject &&
            a->reply.enhanced.detail == b->reply.enhanced.detail &&
            str_equal(a->reply.text, b->reply.text) && str_equal(a->mta, b->mta));
}

/* Distinct words of all recipients; `index` gets 0 or the place from 1. */
static size_t collect_said(const struct queue_record *record, const struct queue_said **distinct,
                           unsigned char *index)
{
    size_t count = 0;
    for (size_t i = 0; i < record->recipient_count; i++) {
        const struct queue_said *said = record->said[i];
        index[i] = 0;
        if (said == NULL || record->status[i] != QUEUE_STATUS_PENDING)
            continue;
        size_t at = 0;
        while (at < count && !said_equal(distinct[at], said))
            at++;
        if (at == SAID_MAX)
            continue; /* no place left; it will be asked again anyway */
        if (at == count)
            distinct[count++] = said;
        index[i] = (unsigned char)(at + 1);
    }
    return count;
}

static void put_said(struct buf *out, const struct queue_said *said)
{
    put_number(out, said->reply.code, 2);
    put_number(out, said->reply.enhanced.class, 1);
    put_number(out, said->reply.enhanced.subject, 2);
    put_number(out, said->reply.enhanced.detail, 2);
    put_text(out, str_slice(said->reply.text, 0, WORDS_MAX));
    put_text(out, str_slice(said->mta, 0, MTA_MAX));
}

static void put_tail(const struct queue_record *record, struct buf *out)
{
    check(record->recipient_count <= QUEUE_RECIPIENTS_MAX);
    unsigned char index[QUEUE_RECIPIENTS_MAX];
    const struct queue_said *distinct[SAID_MAX];
    size_t count = collect_said(record, distinct, index);
    put_number(out, count, 1);
    for (size_t i = 0; i < count; i++)
        put_said(out, distinct[i]);
    for (size_t i = 0; i < record->recipient_count; i++) {
        put_number(out, record->status[i], 1);
        put_number(out, index[i], 1);
    }
}

/* As a word that may differ (queue/alike.h): of a million that are held each has times of its own,
 * and the rest of their tails in common. */
static void put_held(struct buf *tail, const struct queue_record *record)
{
    buf_printf(tail, "%llu-%llu\n", (unsigned long long)record->held_since_wall_ns,
               (unsigned long long)record->held_total_ns);
}

static bool take_held(struct str *tail, int64_t *out_since_wall_ns, int64_t *out_total_ns)
{
    struct str word, part;
    uint64_t since, total;
    if (!str_split(tail, '\n', &word) || !str_split(&word, '-', &part) ||
        !str_to_uint(part, UINT64_MAX, &since) || !str_to_uint(word, UINT64_MAX, &total))
        return false;
    *out_since_wall_ns = (int64_t)since;
    *out_total_ns = (int64_t)total;
    return true;
}

void queue_record_split(const struct queue_record *record, struct queue_record_fixed *out_fixed,
                        struct buf *tail)
{
    bool untouched = is_untouched(record);
    *out_fixed = (struct queue_record_fixed){
        .due_wall_ns = record->due_wall_ns,
        .last_try_wall_ns = record->last_try_wall_ns,
        .attempts = record->attempts,
        .flags = (uint8_t)((record->held ? RECORD_HELD : 0) |
                           (record->delay_told ? RECORD_DELAY_TOLD : 0) |
                           (record->digested ? RECORD_DIGESTED : 0) |
                           (untouched ? RECORD_ALL_PENDING : 0)),
        .reason = (uint8_t)record->reason,
    };
    if (record->held_since_wall_ns != 0 || record->held_total_ns != 0) {
        out_fixed->flags |= RECORD_HAS_HELD;
        put_held(tail, record);
    }
    if (!untouched)
        put_tail(record, tail);
}

void queue_record_join(const struct queue_record_fixed *fixed, struct str tail,
                       size_t recipient_count, struct buf *out)
{
    int64_t held_since_wall_ns = 0, held_total_ns = 0;
    if ((fixed->flags & RECORD_HAS_HELD) != 0)
        check(take_held(&tail, &held_since_wall_ns, &held_total_ns)); /* our own bytes */
    put_number(out, VERSION, 1);
    put_number(out, fixed->flags & RECORD_ON_DISK, 1);
    put_text(out, str_c(mail_reason_name((enum mail_reason)fixed->reason)));
    put_number(out, fixed->attempts, 4);
    put_number(out, (uint64_t)fixed->due_wall_ns, 8);
    put_number(out, (uint64_t)fixed->last_try_wall_ns, 8);
    put_number(out, (uint64_t)held_since_wall_ns, 8);
    put_number(out, (uint64_t)held_total_ns, 8);
    put_number(out, recipient_count, 4);
    buf_append(out, tail);
}

void queue_record_encode(const struct queue_record *record, struct buf *out)
{
    struct queue_record_fixed fixed;
    BUF_CLEANUP struct buf tail;
    buf_init(&tail, QUEUE_RECORD_MAX);
    queue_record_split(record, &fixed, &tail);
    queue_record_join(&fixed, buf_str(&tail), record->recipient_count, out);
}

static enum mail_reason reason_of(struct str name)
{
    for (int i = 0; i < MAIL_REASON_COUNT; i++)
        if (str_equal(name, str_c(mail_reason_name((enum mail_reason)i))))
            return (enum mail_reason)i;
    return MAIL_REASON_NONE; /* a name of a newer version */
}

static struct queue_said *get_said(struct reader *reader)
{
    struct queue_said *said = ARENA_NEW(reader->arena, struct queue_said);
    said->reply.code = (unsigned short)get_number(reader, 2);
    said->reply.enhanced.class = (unsigned char)get_number(reader, 1);
    said->reply.enhanced.subject = (unsigned short)get_number(reader, 2);
    said->reply.enhanced.detail = (unsigned short)get_number(reader, 2);
    said->reply.text = get_text(reader);
    said->mta = get_text(reader);
    return said;
}

static void get_statuses(struct reader *reader, struct queue_record *record)
{
    struct queue_said *said[SAID_MAX] = {0};
    uint64_t count = get_number(reader, 1);
    if (count > SAID_MAX) {
        reader->bad = true;
        return;
    }
    for (size_t i = 0; i < count; i++)
        said[i] = get_said(reader);
    for (size_t i = 0; i < record->recipient_count && !reader->bad; i++) {
        uint64_t status = get_number(reader, 1);
        uint64_t index = get_number(reader, 1);
        if (status > QUEUE_STATUS_DONE || index > count) {
            reader->bad = true;
            return;
        }
        record->status[i] = (unsigned char)status;
        record->said[i] = index == 0 ? NULL : said[index - 1];
    }
}

static bool read_tail(struct reader *reader, const struct queue_record_fixed *fixed,
                      size_t recipient_count, struct queue_record *out)
{
    struct queue_record record;
    queue_record_init(&record, recipient_count, reader->arena);
    record.held = (fixed->flags & RECORD_HELD) != 0;
    record.delay_told = (fixed->flags & RECORD_DELAY_TOLD) != 0;
    record.digested = (fixed->flags & RECORD_DIGESTED) != 0;
    record.reason = (enum mail_reason)fixed->reason;
    record.attempts = fixed->attempts;
    record.due_wall_ns = fixed->due_wall_ns;
    record.last_try_wall_ns = fixed->last_try_wall_ns;
    if ((fixed->flags & RECORD_HAS_HELD) != 0 &&
        !take_held(&reader->rest, &record.held_since_wall_ns, &record.held_total_ns))
        return false;
    if ((fixed->flags & RECORD_ALL_PENDING) == 0)
        get_statuses(reader, &record);
    if (reader->bad || reader->rest.len != 0)
        return false;
    *out = record;
    return true;
}

bool queue_record_delay_told(const struct queue_record_fixed *fixed)
{
    return (fixed->flags & RECORD_DELAY_TOLD) != 0;
}

bool queue_record_read(const struct queue_record_fixed *fixed, struct str tail,
                       size_t recipient_count, struct arena *arena, struct queue_record *out)
{
    struct reader reader = {.rest = tail, .arena = arena};
    return read_tail(&reader, fixed, recipient_count, out);
}

bool queue_record_decode(struct str bytes, size_t recipient_count, struct arena *arena,
                         struct queue_record *out)
{
    struct reader reader = {.rest = bytes, .arena = arena};
    struct queue_record_fixed fixed;
    if (get_number(&reader, 1) != VERSION)
        return false;
    fixed.flags = (uint8_t)(get_number(&reader, 1) & RECORD_ON_DISK);
    fixed.reason = (uint8_t)reason_of(get_text(&reader));
    fixed.attempts = (uint32_t)get_number(&reader, 4);
    fixed.due_wall_ns = (int64_t)get_number(&reader, 8);
    fixed.last_try_wall_ns = (int64_t)get_number(&reader, 8);
    int64_t held_since_wall_ns = (int64_t)get_number(&reader, 8);
    int64_t held_total_ns = (int64_t)get_number(&reader, 8);
    if (get_number(&reader, 4) != recipient_count ||
        !read_tail(&reader, &fixed, recipient_count, out))
        return false;
    out->held_since_wall_ns = held_since_wall_ns;
    out->held_total_ns = held_total_ns;
    return true;
}
