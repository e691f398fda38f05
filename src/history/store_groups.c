/* SPDX-License-Identifier: Apache-2.0 */
#include "history/store_groups.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    STORIES_MAX = 100000,
    WORDS_MAX = 2000, /* of a story, in one row */
    SAID_MAX = 128 * 1024,
    WAIT_S = 5,
    STALE_S = 3600, /* a session whose end was dropped */
    PACK_ENOUGH = 512 * 1024,
    SPARE_MAX = 1024,        /* a turn of the thread writes some hundred */
    SPARE_BYTES = 16 * 1024, /* a larger one is not kept */
    TOLD_MAX = 8,
};
static const unsigned NO_STREAM = UINT32_MAX; /* of an event that is told again */

/* A session's event, kept as it came until its message needs it. */
struct record {
    uint32_t size; /* of the packed event behind it */
    char revision[12];
    uint64_t seq;
};

void groups_init(struct groups *groups, uint64_t dictionary)
{
    *groups = (struct groups){.dictionary = dictionary};
    map_init(&groups->messages);
    map_init(&groups->sessions);
    list_init(&groups->ready);
    list_init(&groups->waiting);
    list_init(&groups->spare);
}

static void drop_bases(struct story *story)
{
    while (story->base_count)
        base_drop(story->bases[--story->base_count]);
}

static void drop_told(struct story *session)
{
    while (session->told_count)
        base_drop(session->told[--session->told_count].base);
    free(session->told);
    session->told = NULL;
    session->told_end = 0;
}

static void story_free(struct story *story)
{
    list_remove(&story->in_list);
    drop_bases(story);
    drop_told(story);
    if (story->pack)
        pack_done(story->pack);
    free(story->pack);
    buf_done(&story->said);
    free(story->words);
    free(story);
}

/* As story_free(), but its memory may serve the next one. */
static void story_leave(struct groups *groups, struct story *story)
{
    const struct pack *pack = story->pack;
    if (groups->spare_count == SPARE_MAX || story->said.cap > SPARE_BYTES ||
        (pack && (pack->bytes.cap > SPARE_BYTES ||
                  pack->address_cap * sizeof *pack->addresses > SPARE_BYTES)) ||
        story->word_cap * sizeof *story->words > SPARE_BYTES) {
        story_free(story);
        return;
    }
    list_remove(&story->in_list);
    drop_bases(story);
    drop_told(story);
    list_append(&groups->spare, &story->in_list);
    groups->spare_count++;
}

void groups_settle(struct groups *groups)
{
    for (; groups->spare_least > 0; groups->spare_least--) {
        story_free(CONTAINER(groups->spare.next, struct story, in_list));
        groups->spare_count--;
    }
    groups->spare_least = groups->spare_count;
    map_settle(&groups->messages);
    map_settle(&groups->sessions);
}

static void end_stream(void *pointer)
{
    base_stream_end(pointer);
    free(pointer);
}

void groups_done(struct groups *groups)
{
    size_t cursor = 0;
    void *value;
    struct str key;
    while (map_next(&groups->messages, &cursor, &key, &value))
        story_free(value);
    for (cursor = 0; map_next(&groups->sessions, &cursor, &key, &value);)
        story_free(value);
    if (groups->gateway)
        story_free(groups->gateway);
    while (!list_is_empty(&groups->spare))
        story_free(CONTAINER(groups->spare.next, struct story, in_list));
    map_done(&groups->messages);
    map_done(&groups->sessions);
    event_slots_done(&groups->streams, end_stream);
}

void groups_begin_turn(struct groups *groups)
{
    groups->turn++;
}

/* Which of its fields a text is, from 1; 0: it has none. */
static unsigned place_of(const struct event *event, enum event_key key)
{
    for (unsigned i = 0; i < event->count; i++) {
        if (event->fields[i].key == key && event->fields[i].kind == EVENT_VALUE_STR)
            return i + 1;
    }
    return 0;
}

static struct str text_at(const struct event *event, unsigned place)
{
    return place ? event->fields[place - 1].text : STR_EMPTY;
}

/* ---- words ---- */

static void add_word(struct story *story, uint64_t word)
{
    for (size_t i = 0; i < story->word_count; i++) {
        if (story->words[i] == word)
            return;
    }
    if (story->word_count == WORDS_MAX)
        return;
    if (story->word_count == story->word_cap) {
        story->word_cap = story->word_cap ? story->word_cap * 2 : 16;
        story->words = memory_resize_array(story->words, story->word_cap, sizeof *story->words);
    }
    story->words[story->word_count++] = word;
}

/* Up to two: of an address and of its domain. */
static unsigned words_of(const struct event_field *field, uint64_t out[2])
{
    if (field->kind != EVENT_VALUE_STR || field->text.len == 0 || !store_is_indexed(field->key))
        return 0;
    if (field->key == KEY_REASON && str_equal(field->text, STR("none")))
        return 0;
    out[0] = store_word(field->key, field->text);
    ptrdiff_t at = str_find_last(field->text, '@');
    if (at < 0 || (field->key != KEY_FROM && field->key != KEY_TO && field->key != KEY_RCPT))
        return 1;
    out[1] = store_word(KEY_DOMAIN, str_from(field->text, (size_t)at + 1));
    return 2;
}

static void index_field(struct story *story, const struct event_field *field)
{
    uint64_t words[2];
    unsigned count = words_of(field, words);
    for (unsigned i = 0; i < count; i++)
        add_word(story, words[i]);
}

static void index_base(struct base *base)
{
    for (unsigned i = 0; i < base->count; i++) {
        uint64_t words[2];
        unsigned count = words_of(&base->fields[i], words);
        for (unsigned k = 0; k < count; k++) {
            check(base->word_count < BASE_WORDS); /* no event has so many keys that are indexed */
            base->word_fields[base->word_count] = (uint8_t)i;
            base->words[base->word_count++] = words[k];
        }
    }
    base->is_indexed = true;
}

/* What the event shares with its base. */
static void index_shared(struct story *story, const struct base *base, uint32_t fields)
{
    for (unsigned i = 0; i < base->word_count; i++) {
        if (!(fields & UINT32_C(1) << base->word_fields[i]))
            add_word(story, base->words[i]);
    }
}

/* ---- packing ---- */

/* Where the base is among the story's; false if those are too many. */
static bool refer(struct story *story, struct base *base, struct pack_reference *out)
{
    unsigned number = 0;
    while (number < story->base_count && story->bases[number] != base)
        number++;
    if (number == STORE_STORY_BASES)
        return false;
    if (number == story->base_count)
        story->bases[story->base_count++] = base_keep(base);
    *out = (struct pack_reference){.base = base, .number = number};
    return true;
}

static void pack_with(struct story *story, const struct event *event, struct str revision,
                      struct pack_reference reference)
{
    struct pack_added added;
    if (!pack_add(story->pack, event, revision, reference, &added))
        return;
    uint64_t word = store_event_word(event->type);
    if (word)
        add_word(story, word);
    if (added.by_reference)
        index_shared(story, reference.base, reference.fields);
    for (; added.fresh; added.fresh &= added.fresh - 1)
        index_field(story, &event->fields[__builtin_ctz(added.fresh)]);
}

/* A live event, with what it can be told by. */
struct live {
    const struct event *event;
    struct str revision;
    struct str message, session; /* whom it is about; may be empty */
    struct base *base;           /* NULL: it is told in full */
    uint32_t fields;
};

static void pack_live(struct story *story, const struct live *live)
{
    struct pack_reference reference = {0};
    if (live->base && refer(story, live->base, &reference))
        reference.fields = live->fields;
    pack_with(story, live->event, live->revision, reference);
}

/* Every live event passes here, in the order of its stream. */
static struct live follow(struct groups *groups, const struct event *event, struct str revision)
{
    struct live live = {.event = event, .revision = revision};
    void **slot = event_slot(&groups->streams, event->source, event->type);
    if (!*slot)
        *slot = NEW(struct base_stream);
    struct base_stream *stream = *slot;
    if (event->changed == EVENT_ALL_CHANGED) {
        stream->message = place_of(event, KEY_MESSAGE);
        stream->session = place_of(event, KEY_SESSION);
    }
    live.message = text_at(event, stream->message);
    live.session = text_at(event, stream->session);
    live.base = base_follow(stream, event, revision, groups->turn, &live.fields);
    if (live.base && !live.base->is_indexed)
        index_base(live.base);
    return live;
}

/* ---- finding ---- */

static struct str key_of(const struct mail_id *id)
{
    return str_of((const char *)id, sizeof *id); /* short enough to lie in the map itself */
}

/* Where a story that was asked for lately is noted; ids differ most in their last characters. */
static struct story **recent_of(struct groups *groups, struct str name)
{
    unsigned char last = (unsigned char)name.ptr[MAIL_ID_LEN - 1];
    unsigned char before = (unsigned char)name.ptr[MAIL_ID_LEN - 2];
    return &groups->recent[(last + before * 8u) % GROUPS_RECENT];
}

/* NULL: there is none; *out_id is what it would have, or nothing where the name is no id. */
static struct story *look_up(struct groups *groups, bool is_session, struct str name,
                             struct mail_id *out_id)
{
    *out_id = (struct mail_id){0};
    if (name.len != MAIL_ID_LEN)
        return NULL;
    struct story **recent = recent_of(groups, name);
    if (*recent && (*recent)->is_session == is_session &&
        memcmp(name.ptr, (*recent)->name, MAIL_ID_LEN) == 0)
        return *recent;
    const struct map *map = is_session ? &groups->sessions : &groups->messages;
    struct story *story = mail_id_parse(name, out_id) ? map_get(map, key_of(out_id)) : NULL;
    *recent = story ? story : *recent;
    return story;
}

static void forget(struct groups *groups, const struct story *story)
{
    map_remove(story->is_session ? &groups->sessions : &groups->messages, key_of(&story->id));
    struct story **recent = recent_of(groups, str_of(story->name, MAIL_ID_LEN));
    if (*recent == story)
        *recent = NULL;
}

/* ---- sessions ---- */

static void say(struct story *session, const struct event *event, struct str revision)
{
    struct record record = {.size = (uint32_t)event->packed.len, .seq = event->seq};
    if (session->said.len + sizeof record + record.size > SAID_MAX)
        return;
    str_to_c(revision, record.revision, sizeof record.revision);
    buf_append(&session->said, str_of((const char *)&record, sizeof record));
    buf_append(&session->said, event->packed);
}

static size_t take_record(const struct story *session, size_t at, struct record *out,
                          struct event *out_event)
{
    memcpy(out, session->said.ptr + at, sizeof *out);
    at += sizeof *out;
    event_unpack(str_of(session->said.ptr + at, out->size), out_event);
    out_event->seq = out->seq;
    out_event->source = NO_STREAM;
    return at + out->size;
}

/* Pack what the session said from `begin` on into `story`. */
static void repeat(const struct story *session, size_t begin, struct story *story)
{
    for (size_t at = begin; at < session->said.len;) {
        struct record record;
        struct event event;
        at = take_record(session, at, &record, &event);
        pack_with(story, &event, str_c(record.revision), (struct pack_reference){0});
    }
}

/* What it said until now, as bases: it will stand in front of more than one message. */
static void make_bases(struct story *session)
{
    session->told = memory_alloc_array(TOLD_MAX, sizeof *session->told);
    while (session->told_count < TOLD_MAX && session->told_end < session->said.len) {
        struct record record;
        struct event event;
        session->told_end = take_record(session, session->told_end, &record, &event);
        struct base *base = base_new(&event, str_c(record.revision));
        index_base(base);
        session->told[session->told_count++] =
            (struct told){base, event.type, event.wall_ns, event.seq};
    }
}

/* In front of a message. */
static void repeat_all(struct story *session, struct story *story)
{
    struct event event;
    struct pack_reference reference;
    event.source = NO_STREAM;
    event.number = event.count = 0;
    event.changed = EVENT_ALL_CHANGED;
    if (session->introductions++ == 1)
        make_bases(session);
    for (unsigned i = 0; i < session->told_count; i++) {
        const struct told *told = &session->told[i];
        event.type = told->type;
        event.wall_ns = told->wall_ns;
        event.seq = told->seq;
        check(refer(story, told->base, &reference)); /* the story has no others yet */
        pack_with(story, &event, told->base->revision, reference);
    }
    repeat(session, session->told_end, story);
}

static void sweep(struct groups *groups, int64_t now_ns)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&groups->sessions, &cursor, &key, &value)) {
        struct story *session = value;
        if (now_ns - session->touched_ns < STALE_S * NS_PER_S)
            continue;
        forget(groups, session);
        story_leave(groups, session);
    }
}

/* An empty pack: it is larger than all that a session says, and most are never written. */
static void begin_pack(const struct groups *groups, struct story *story)
{
    if (story->pack) {
        pack_clear(story->pack, groups->dictionary);
        return;
    }
    story->pack = NEW(struct pack);
    pack_init(story->pack, groups->dictionary);
}

static struct story *story_new(struct groups *groups, struct mail_id id, struct str name,
                               int64_t now_ns)
{
    struct story *story;
    if (list_is_empty(&groups->spare)) {
        story = NEW(struct story);
        buf_init(&story->said, SAID_MAX);
    } else {
        story = CONTAINER(groups->spare.next, struct story, in_list);
        list_remove(&story->in_list);
        groups->spare_count--;
        if (groups->spare_count < groups->spare_least)
            groups->spare_least = groups->spare_count;
        story->is_session = story->closed = story->refused = false;
        story->written = story->word_count = 0;
        story->introductions = 0;
        story->introduced = (struct mail_id){0};
        buf_clear(&story->said);
    }
    story->id = id;
    memcpy(story->name, name.ptr, name.len);
    story->born_ns = story->touched_ns = now_ns;
    list_init(&story->in_list);
    return story;
}

static void wait_for_writing(struct groups *groups, struct story *story, int64_t now_ns)
{
    if (!list_is_empty(&story->in_list))
        return;
    story->born_ns = now_ns;
    list_append(&groups->waiting, &story->in_list);
}

static bool is_refusal(enum event_type type)
{
    return event_severity(type) >= EVENT_NOTICE;
}

static bool add_to_session(struct groups *groups, const struct live *live, int64_t now_ns)
{
    struct mail_id id;
    struct story *session = look_up(groups, /* is_session= */ true, live->session, &id);
    if (!session) {
        if (groups->sessions.count >= STORIES_MAX)
            sweep(groups, now_ns);
        if (groups->sessions.count >= STORIES_MAX || mail_id_equal(id, (struct mail_id){0}))
            return false;
        session = story_new(groups, id, live->session, now_ns);
        session->is_session = true;
        map_put(&groups->sessions, key_of(&session->id), session);
        *recent_of(groups, live->session) = session;
    }
    session->touched_ns = now_ns;
    say(session, live->event, live->revision);
    session->refused = session->refused || is_refusal(live->event->type);
    if (session->refused)
        wait_for_writing(groups, session, now_ns);
    if (live->event->type != EVENT_SESSION_CLOSE)
        return true;
    session->closed = true;
    if (!session->refused) {
        forget(groups, session);
        story_leave(groups, session);
    } else { /* at once */
        list_remove(&session->in_list);
        list_append(&groups->ready, &session->in_list);
    }
    return true;
}

/* ---- messages ---- */

static bool ends_message(enum event_type type)
{
    return type == EVENT_MESSAGE_DONE || type == EVENT_MESSAGE_REJECTED ||
           type == EVENT_DELIVERY_DEFERRED;
}

/* What the session said before stands in front of the message, once. */
static void introduce(struct groups *groups, struct story *story, const struct live *live)
{
    struct mail_id id;
    struct story *session = look_up(groups, /* is_session= */ true, live->session, &id);
    if (!session || text_at(live->event, place_of(live->event, KEY_LISTENER)).len == 0 ||
        mail_id_equal(session->introduced, story->id))
        return; /* not said by the session itself, or told already */
    session->introduced = story->id;
    repeat_all(session, story);
}

static bool add_to_message(struct groups *groups, const struct live *live, int64_t now_ns)
{
    struct mail_id id;
    struct story *story = look_up(groups, /* is_session= */ false, live->message, &id);
    if (!story) {
        if (groups->messages.count >= STORIES_MAX || mail_id_equal(id, (struct mail_id){0}))
            return false;
        story = story_new(groups, id, live->message, now_ns);
        begin_pack(groups, story);
        map_put(&groups->messages, key_of(&story->id), story);
        *recent_of(groups, live->message) = story;
        introduce(groups, story, live);
        wait_for_writing(groups, story, now_ns);
    }
    pack_live(story, live);
    if (ends_message(live->event->type) || story->pack->bytes.len > PACK_ENOUGH) {
        story->closed = true;
        list_remove(&story->in_list);
        list_append(&groups->ready, &story->in_list);
    }
    return true;
}

bool groups_add(struct groups *groups, const struct event *event, struct str revision,
                int64_t now_ns)
{
    struct live live = follow(groups, event, revision);
    if (live.message.len && event->type != EVENT_SESSION_CLOSE)
        return add_to_message(groups, &live, now_ns);
    if (live.session.len)
        return add_to_session(groups, &live, now_ns);
    if (!groups->gateway) {
        groups->gateway = story_new(groups, mail_id_new(), STR_EMPTY, now_ns);
        begin_pack(groups, groups->gateway);
        wait_for_writing(groups, groups->gateway, now_ns);
    }
    pack_live(groups->gateway, &live);
    if (groups->gateway->pack->bytes.len > PACK_ENOUGH) {
        list_remove(&groups->gateway->in_list);
        list_append(&groups->ready, &groups->gateway->in_list);
    }
    return true;
}

/* ---- taking ---- */

struct story *groups_next(struct groups *groups, int64_t now_ns, bool all)
{
    bool ready = !list_is_empty(&groups->ready);
    if (!ready && list_is_empty(&groups->waiting))
        return NULL;
    struct list *first = ready ? groups->ready.next : groups->waiting.next;
    struct story *story = CONTAINER(first, struct story, in_list);
    if (!all && !ready && now_ns - story->born_ns < WAIT_S * NS_PER_S)
        return NULL;
    list_remove(&story->in_list);
    if (story->is_session) {
        begin_pack(groups, story);
        repeat(story, story->written, story);
        story->written = story->said.len;
    }
    return story;
}

void groups_written(struct groups *groups, struct story *story)
{
    if (story->is_session && !story->closed) {
        story->word_count = 0;
        pack_clear(story->pack, groups->dictionary);
        drop_bases(story);
        return;
    }
    if (story == groups->gateway)
        groups->gateway = NULL;
    else
        forget(groups, story);
    story_leave(groups, story);
}
