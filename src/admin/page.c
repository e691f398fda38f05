/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/page.h"

#include "base/buf.h"
#include "crypto/base64.h"

#include <stdlib.h>
#include <string.h>

enum {
    PLAIN_MAX = ADMIN_PAGE_KEY_MAX + 64,
    CURSOR_MAX = PLAIN_MAX / 3 * 4 + 4,
};

/* ---- cursors: "LIST SORT KEY" in the base 64 of URLs ---- */

static void swap(char *text, size_t length, const char *from, const char *to)
{
    for (size_t i = 0; i < length; i++) {
        const char *at = memchr(from, text[i], 2);
        if (at)
            text[i] = to[at - from];
    }
}

json_t *admin_page_next(const struct admin_page *page)
{
    struct buf plain BUF_CLEANUP;
    struct buf text BUF_CLEANUP;
    buf_init(&plain, PLAIN_MAX);
    buf_init(&text, CURSOR_MAX);
    buf_printf(&plain, "%s %s ", page->list, page->sort);
    buf_append(&plain, page->last);
    if (!page->more || plain.overflow)
        return json_null();
    base64_encode(buf_str(&plain), &text);
    while (text.len && text.ptr[text.len - 1] == '=')
        text.len--;
    swap(text.ptr, text.len, "+/", "-_");
    return json_stringn(text.ptr, text.len);
}

/* The text in the standard base 64; false for anything else. */
static bool decode(struct str cursor, struct buf *out)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, CURSOR_MAX);
    if (cursor.len > CURSOR_MAX - 4 || memchr(cursor.ptr, '+', cursor.len) ||
        memchr(cursor.ptr, '/', cursor.len) || memchr(cursor.ptr, '=', cursor.len))
        return false;
    buf_append(&text, cursor);
    while (text.len % 4)
        buf_append_byte(&text, '=');
    swap(text.ptr, text.len, "-_", "+/");
    return base64_decode(buf_str(&text), out);
}

bool admin_cursor_read(struct str cursor, const char *list, const char *sort, struct arena *arena,
                       struct str *out_key)
{
    struct buf plain BUF_CLEANUP;
    struct str rest, word;
    buf_init(&plain, PLAIN_MAX);
    if (!decode(cursor, &plain))
        return false;
    rest = buf_str(&plain);
    if (!str_split(&rest, ' ', &word) || !str_equal(word, str_c(list)) || !rest.ptr)
        return false;
    if (!str_split(&rest, ' ', &word) || !str_equal(word, str_c(sort)) || !rest.len)
        return false;
    *out_key = arena_str(arena, rest);
    return true;
}

static bool choose_sort(struct str wish, const char *const *sorts, struct admin_page *page)
{
    page->sort = sorts ? sorts[0] : "";
    for (; sorts && *sorts && wish.len; sorts++) {
        if (!str_equal(wish, str_c(*sorts)))
            continue;
        page->sort = *sorts;
        return true;
    }
    return !wish.len;
}

static bool is_odd(struct admin_answer *answer, const char *name, const char *why)
{
    admin_problem(answer, 400, "Bad request", "%s: %s", name, why);
    admin_problem_parameter(answer, name, why);
    return false;
}

bool admin_page_read(const struct admin_request *request, const char *list, size_t limit,
                     const char *const *sorts, struct admin_page *out, struct admin_answer *answer)
{
    struct str number = admin_query(request, "limit");
    struct str cursor = admin_query(request, "cursor");
    struct str count = admin_query(request, "count");
    uint64_t wish = limit;
    *out = (struct admin_page){.list = list, .after = STR_EMPTY, .last = STR_EMPTY};
    if (number.len && (!str_to_uint(number, UINT32_MAX, &wish) || wish == 0))
        return is_odd(answer, "limit", "a number of items, at least 1");
    out->limit = wish < ADMIN_PAGE_MAX ? (size_t)wish : ADMIN_PAGE_MAX;
    out->counts = count.len > 0;
    if (count.len && !str_equal(count, STR("exact")))
        return is_odd(answer, "count", "only \"exact\"");
    if (!choose_sort(admin_query(request, "sort"), sorts, out))
        return is_odd(answer, "sort", "there is no such order");
    if (cursor.len && !admin_cursor_read(cursor, list, out->sort, request->arena, &out->after))
        return is_odd(answer, "cursor", "it is none that this list gave; begin without one");
    return true;
}

/* ---- rows ---- */

static int compare_rows(const void *a, const void *b)
{
    const struct admin_row *left = a;
    const struct admin_row *right = b;
    return str_compare(left->key, right->key);
}

size_t admin_page_rows(struct admin_page *page, struct admin_row *rows, size_t count,
                       size_t *out_begin)
{
    size_t begin = 0;
    if (count)
        qsort(rows, count, sizeof *rows, compare_rows);
    while (page->after.len && begin < count && str_compare(rows[begin].key, page->after) <= 0)
        begin++;
    size_t left = count - begin;
    size_t taken = left < page->limit ? left : page->limit;
    page->more = taken < left;
    page->total = count;
    page->last = taken ? rows[begin + taken - 1].key : STR_EMPTY;
    *out_begin = begin;
    return taken;
}

json_t *admin_page_objects(struct admin_page *page, struct arena *arena, json_t *all,
                           const char *member)
{
    size_t count = json_array_size(all), at;
    struct admin_row *rows = arena_alloc_array(arena, count + 1, sizeof *rows);
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(all, i);
        rows[i] = (struct admin_row){str_c(json_string_value(json_object_get(item, member))), item};
    }
    json_t *items = json_array();
    count = admin_page_rows(page, rows, count, &at);
    for (size_t i = at; i < at + count; i++)
        json_array_append(items, (json_t *)(uintptr_t)rows[i].item);
    return items;
}

bool admin_page_after_id(const struct admin_page *page, struct mail_id *out_after,
                         struct admin_answer *answer)
{
    *out_after = (struct mail_id){0};
    if (!page->after.len || mail_id_parse(page->after, out_after))
        return true;
    return is_odd(answer, "cursor", "it is none that this list gave; begin without one");
}

bool admin_page_is_older(struct mail_id id, struct mail_id after)
{
    bool any = after.high != 0 || after.low != 0;
    return !any || id.high < after.high || (id.high == after.high && id.low < after.low);
}

void admin_page_narrow(struct store_range *range, struct mail_id after)
{
    if (after.high != 0 && mail_id_time_ms(after) < range->until_ms)
        range->until_ms = mail_id_time_ms(after);
}

void admin_page_ids(struct admin_page *page, struct arena *arena, struct mail_id last, bool more)
{
    page->last = arena_str(arena, str_c(mail_id_text(last).chars));
    page->more = more;
}

json_t *admin_page_json(const struct admin_page *page, json_t *items)
{
    json_t *answer = json_pack("{s:o, s:o}", "items", items, "next", admin_page_next(page));
    if (page->counts)
        json_object_set_new(answer, "total", json_integer((json_int_t)page->total));
    return answer;
}

struct str admin_page_falling(struct arena *arena, uint64_t number)
{
    return arena_printf(arena, "%016llx", (unsigned long long)(UINT64_MAX - number));
}
