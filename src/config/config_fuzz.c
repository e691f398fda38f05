/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any text is read, bound to rows of every type, and its problems are shown. */
#include "config/load.h"

#include "base/buf.h"

#include <stddef.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct values {
    int64_t number, wait_ns;
    uint64_t size;
    bool flag;
    struct option_rate rate;
    struct str text, path, name;
    int word;
    unsigned words;
    struct option_texts texts;
    struct option_durations delays;
    const struct config_node *node;
};
static const struct option_word words[] = {{"red", 0}, {"green", 1}, {NULL, 0}};
#define ROW(name_, type_, member_)                                                                 \
    .name = (name_), .type = (type_), .offset = offsetof(struct values, member_), .text = "row"
static const struct option group_rows[] = {
    {ROW("number", OPTION_INT, number)}, {ROW("wait", OPTION_DURATION, wait_ns)}, {0}};
static const struct option_table group = {"group", "text", group_rows, "wait",
                                          sizeof(struct values)};
static const struct option rows[] = {
    {ROW("flag", OPTION_BOOL, flag)},
    {ROW("size", OPTION_SIZE, size), .min = 10, .max = 1 << 20},
    {ROW("rate", OPTION_RATE, rate)},
    {ROW("text", OPTION_TEXT, text)},
    {ROW("path", OPTION_PATH, path)},
    {ROW("word", OPTION_WORD, word), .words = words},
    {ROW("words", OPTION_WORDS, words), .words = words},
    {ROW("name", OPTION_REFERENCE, name), .refers_to = "node"},
    {ROW("texts", OPTION_TEXTS, texts)},
    {ROW("delays", OPTION_DURATIONS, delays)},
    {ROW("node", OPTION_NODE, node)},
    {.name = "group", .type = OPTION_GROUP, .text = "row", .group = &group},
    {0},
};
static const struct option_table table = {"file", "text", rows, NULL, sizeof(struct values)};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(0);
    struct config_report report;
    struct config_node root;
    struct values values = {0};
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 22);
    config_report_init(&report, arena);
    (void)!config_load_text(STR("fuzz.yaml"), str_of((const char *)data, size), arena, &report,
                            &root);
    struct option_context context = {.arena = arena, .report = &report, .root = &root};
    if (option_bind(&table, &root, NULL, &context, &values) == OK)
        option_effective(&table, &values, &root, 0, &out);
    config_report_print(&report, true, &out);
    config_report_json(&report, &out);
    arena_free(arena);
    return 0;
}
