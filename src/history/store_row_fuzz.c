/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/store_row_fuzz.c - any bytes as a row of the history. What can be read from it has its
 * texts in the bytes, as they are: store_scan() passes over rows in which a text does not stand.
 */
#include "history/store_bundle.h"
#include "history/store_pack.h"
#include "history/store_text.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_event(const struct event *event, struct str revision, void *arg)
{
    const struct str *row = arg;
    (void)revision;
    for (unsigned i = 0; i < event->count; i++) {
        struct store_text wanted;
        const struct event_field *field = &event->fields[i];
        if (field->kind != EVENT_VALUE_STR || field->text.len == 0)
            continue;
        store_text_init(&wanted, field->text);
        check(store_text_is_in(&wanted, *row));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str row = str_of((const char *)data, size);
    struct dictionary dictionary;
    struct buf names BUF_CLEANUP;
    struct bundle_story story;
    struct mail_id id = {0};
    buf_init(&names, 65536);
    dictionary_text(&names);
    dictionary_parse(buf_str(&names), 1, &dictionary);
    size_t count = bundle_count(row);
    for (size_t i = 0; i < count; i++) {
        check(bundle_find(row, bundle_id(row, i)) <= count);
        if (bundle_story(row, i, &story))
            pack_read(story.bytes, story.bases, story.base_count, &dictionary, take_event, &row);
    }
    check(bundle_find(row, id) <= count);
    if (count == 0)
        pack_read(row, NULL, 0, &dictionary, take_event, &row);
    return 0;
}
