/* SPDX-License-Identifier: Apache-2.0 */
/* Links that release, and hostile text on its way to people. */
#include "admin/quarantine_link.h"
#include "admin/quarantine_text.h"

#include "base/clock.h"
#include "spool/vault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct spool_vault *vault_new(void)
{
    char folder[] = "/tmp/postern-quarantine-XXXXXX";
    char path[64];
    struct spool_vault *vault = NULL;
    struct error err = {0};
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/keys", folder);
    assert_int_equal(spool_vault_open(str_c(path), STR_EMPTY, &vault, &err), OK);
    assert_int_equal(spool_vault_prepare(vault, &err), OK);
    unlink(path);
    rmdir(folder);
    return vault;
}

static const struct quarantine_link sample = {.message = {.high = 0x0123456789abcdef, .low = 42},
                                              .quarantine = {"spam", 4},
                                              .recipient = {"bob@example.org", 15},
                                              .expires_wall_ns = 2000 * NS_PER_S};

static void test_link(void **state)
{
    struct spool_vault *vault = vault_new();
    struct arena *arena = arena_new(0);
    struct quarantine_link back;
    struct str token;
    (void)state;
    assert_true(quarantine_link_make(vault, &sample, arena, &token));
    for (size_t i = 0; i < token.len; i++)
        assert_true(ascii_is_alpha(token.ptr[i]) || ascii_is_digit(token.ptr[i]) ||
                    token.ptr[i] == '-' || token.ptr[i] == '_');
    assert_int_equal(quarantine_link_read(vault, token, 1000 * NS_PER_S, arena, &back),
                     QUARANTINE_LINK_VALID);
    assert_true(mail_id_equal(back.message, sample.message));
    assert_true(str_equal(back.quarantine, sample.quarantine));
    assert_true(str_equal(back.recipient, sample.recipient));
    assert_int_equal(back.expires_wall_ns, sample.expires_wall_ns);
    assert_int_equal(quarantine_link_read(vault, token, 2001 * NS_PER_S, arena, &back),
                     QUARANTINE_LINK_EXPIRED);
    arena_free(arena);
    spool_vault_close(vault);
}

static void test_forged(void **state)
{
    struct spool_vault *vault = vault_new(), *other = vault_new();
    struct arena *arena = arena_new(0);
    struct quarantine_link back;
    struct str token, longer;
    (void)state;
    assert_true(quarantine_link_make(vault, &sample, arena, &token));
    assert_int_equal(quarantine_link_read(other, token, 0, arena, &back), QUARANTINE_LINK_FORGED);
    for (size_t len = 0; len < token.len; len++)
        assert_int_equal(quarantine_link_read(vault, str_slice(token, 0, len), 0, arena, &back),
                         QUARANTINE_LINK_FORGED);
    for (size_t i = 0; i + 1 < token.len; i++) { /* of the last one some bits mean nothing */
        char *bad = (char *)(uintptr_t)arena_str(arena, token).ptr;
        bad[i] = bad[i] == 'A' ? 'B' : 'A';
        assert_int_equal(quarantine_link_read(vault, str_of(bad, token.len), 0, arena, &back),
                         QUARANTINE_LINK_FORGED);
    }
    longer = arena_printf(arena, "%.*sAAAA", STR_ARG(token));
    assert_int_equal(quarantine_link_read(vault, longer, 0, arena, &back), QUARANTINE_LINK_FORGED);
    arena_free(arena);
    spool_vault_close(vault);
    spool_vault_close(other);
}

static void test_links_that_cannot_be(void **state)
{
    struct spool_vault *vault = vault_new(), *empty = NULL;
    struct arena *arena = arena_new(0);
    struct error err;
    struct str token;
    struct quarantine_link link = sample, back;
    char *many = arena_alloc(arena, 600);
    (void)state;
    memset(many, 'x', 600);
    link.recipient = str_of(many, 600);
    assert_false(quarantine_link_make(vault, &link, arena, &token));
    link = sample;
    link.quarantine = str_of(many, 256);
    assert_false(quarantine_link_make(vault, &link, arena, &token));
    link.quarantine = str_of(many, 255);
    link.recipient = str_of(many, 512);
    assert_true(quarantine_link_make(vault, &link, arena, &token));
    assert_int_equal(quarantine_link_read(vault, token, 0, arena, &back), QUARANTINE_LINK_VALID);
    link = sample;
    link.recipient = STR("@example.org"); /* everybody there */
    assert_true(quarantine_link_make(vault, &link, arena, &token));
    assert_int_equal(quarantine_link_read(vault, token, 0, arena, &back), QUARANTINE_LINK_FORGED);
    assert_int_equal(spool_vault_open(STR("/nonexistent/keys"), STR_EMPTY, &empty, &err), OK);
    assert_false(quarantine_link_make(empty, &sample, arena, &token));
    arena_free(arena);
    spool_vault_close(vault);
    spool_vault_close(empty);
}

static void test_hostile_text(void **state)
{
    static const struct {
        const char *name, *text, *html, *plain;
    } cases[] = {
        {"nothing", "", "", ""},
        {"markup", "<b a=\"x\" c='y'>&", "&lt;b a=&quot;x&quot; c=&#39;y&#39;&gt;&amp;",
         "<b a=\"x\" c='y'>&"},
        {"lines", "a\r\nb\tc", "a  b c", "a  b c"},
        {"letters", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x92\x8a", "gr\xc3\xbc\xc3\x9f \xf0\x9f\x92\x8a",
         "gr\xc3\xbc\xc3\x9f \xf0\x9f\x92\x8a"},
        {"turned round",
         "exe.\xe2\x80\xae"
         "fdp",
         "exe.\xef\xbf\xbd"
         "fdp",
         "exe.\xef\xbf\xbd"
         "fdp"},
        {"isolates", "\xe2\x81\xa6x", "\xef\xbf\xbdx", "\xef\xbf\xbdx"},
        {"a C1 control",
         "\xc2\x9b"
         "31m",
         "\xef\xbf\xbd"
         "31m",
         "\xef\xbf\xbd"
         "31m"},
        {"escape", "\x1b[31m", " [31m", " [31m"},
        {"no UTF-8", "\xff\xc3", "\xef\xbf\xbd\xef\xbf\xbd", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"too long a form of <", "\xc0\xbc", "\xef\xbf\xbd\xef\xbf\xbd",
         "\xef\xbf\xbd\xef\xbf\xbd"},
        {"a link", "see http://evil.example", "see http[:]//evil.example",
         "see http[:]//evil.example"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf html BUF_CLEANUP, plain BUF_CLEANUP;
        buf_init(&html, 4096);
        buf_init(&plain, 4096);
        quarantine_text_html(str_c(cases[i].text), &html);
        quarantine_text_plain(str_c(cases[i].text), &plain);
        if (!str_equal(buf_str(&html), str_c(cases[i].html)) ||
            !str_equal(buf_str(&plain), str_c(cases[i].plain)))
            fail_msg("%s: \"%.*s\", \"%.*s\"", cases[i].name, STR_ARG(buf_str(&html)),
                     STR_ARG(buf_str(&plain)));
    }
}

static void test_long_text_is_cut(void **state)
{
    struct buf out BUF_CLEANUP;
    char many[5000];
    (void)state;
    memset(many, '&', sizeof many);
    buf_init(&out, 1 << 20);
    quarantine_text_html(str_of(many, sizeof many), &out);
    assert_true(out.len < 2000 && str_ends(buf_str(&out), STR("&amp;\xe2\x80\xa6")));
}

/* Every line of what is sent fits SMTP, and no header comes from the messages. */
static void test_digest(void **state)
{
    struct queue_item_kept kept = {.quarantine = STR("spam"),
                                   .why = STR("why\r\nBcc: x"),
                                   .subject = STR("x\r\nBcc: victim@example.org\r\n\r\n<script>"),
                                   .author = STR("a\r\n--digest--\r\n"),
                                   .problem = STR_EMPTY,
                                   .scored = true,
                                   .score = 7250};
    struct queue_item item = {
        .sender = STR("s@example.net"), .hold_reason = STR("spam"), .kept = &kept};
    struct digest_item items[] = {{&item, STR("https://q.example.org/quarantine/abc")}};
    struct digest digest = {.from = STR("q@example.org"),
                            .to = STR("bob@example.org"),
                            .hostname = STR("mx.example.org"),
                            .quarantine = STR("spam"),
                            .items = items,
                            .count = 1,
                            .left_out = 3,
                            .keep_ns = 30 * 86400 * NS_PER_S};
    struct buf out BUF_CLEANUP;
    (void)state;
    buf_init(&out, 1 << 20);
    quarantine_digest_write(&digest, &out);
    assert_false(out.overflow);
    struct str text = buf_str(&out), line;
    assert_true(str_find_str(text, STR("Subject: Quarantine: 4 new messages\r\n")) > 0);
    assert_true(str_find_str(text, STR("Auto-Submitted: auto-generated\r\n")) > 0);
    assert_int_equal(str_find_str(text, STR("Bcc")), -1);
    size_t ends = 0;
    while (str_split(&text, '\n', &line) && text.ptr) {
        assert_true(str_ends(line, STR("\r")) && line.len < 998);
        ends += str_starts(line, STR("--digest--"));
    }
    assert_int_equal(ends, 1);
}

/* All that may stand in one, as long as can be. */
static void test_largest_digest(void **state)
{
    struct arena *arena = arena_new(0);
    char *quotes = arena_alloc(arena, 2000);
    (void)state;
    memset(quotes, '"', 2000);
    struct queue_item_kept kept = {.why = str_of(quotes, 2000),
                                   .subject = str_of(quotes, 2000),
                                   .author = str_of(quotes, 2000),
                                   .problem = STR_EMPTY};
    struct queue_item item = {.kept = &kept};
    struct digest_item *items = arena_alloc_array(arena, DIGEST_ITEMS_MAX, sizeof *items);
    for (size_t i = 0; i < DIGEST_ITEMS_MAX; i++)
        items[i] = (struct digest_item){&item, str_of(quotes, 1900)};
    struct digest digest = {.from = str_of(quotes, 256),
                            .to = str_of(quotes, 512),
                            .hostname = str_of(quotes, 255),
                            .items = items,
                            .count = DIGEST_ITEMS_MAX,
                            .left_out = SIZE_MAX / 2};
    struct buf out BUF_CLEANUP;
    buf_init(&out, DIGEST_MESSAGE_MAX);
    quarantine_digest_write(&digest, &out);
    assert_false(out.overflow);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_forged),
        cmocka_unit_test(test_links_that_cannot_be),
        cmocka_unit_test(test_hostile_text),
        cmocka_unit_test(test_long_text_is_cut),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_largest_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
