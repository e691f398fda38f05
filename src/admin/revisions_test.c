/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/revisions.h"

#include "base/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static struct arena *arena;
static struct revisions *revisions;

static int open_folder(void **state)
{
    (void)state;
    assert_true(str_to_c(STR("/tmp/postern-revisions-XXXXXX"), folder, sizeof folder));
    assert_non_null(mkdtemp(folder));
    arena = arena_new(0);
    struct error err = {0};
    struct str path = arena_printf(arena, "%s/revisions", folder);
    assert_int_equal(revisions_open(path, &revisions, &err), OK);
    return 0;
}

static int close_folder(void **state)
{
    (void)state;
    revisions_close(revisions);
    struct str command = arena_printf(arena, "rm -r %s", folder);
    int removed = system(command.ptr);
    arena_free(arena);
    return removed;
}

static void reopen(void)
{
    struct error err = {0};
    revisions_close(revisions);
    struct str path = arena_printf(arena, "%s/revisions", folder);
    assert_int_equal(revisions_open(path, &revisions, &err), OK);
}

static struct config_texts texts_of(const char *name, const char *text, const char *part)
{
    struct config_text *items = arena_alloc_array(arena, 2, sizeof *items);
    items[0] = (struct config_text){.name = str_c(name), .text = str_c(text)};
    struct str beside =
        arena_printf(arena, "%.*sconf.d/a.yaml", (int)(str_find_last(str_c(name), '/') + 1), name);
    items[1] = (struct config_text){.name = beside, .text = str_c(part)};
    return (struct config_texts){.items = items, .count = part ? 2 : 1};
}

static unsigned add(const char *text)
{
    struct error err = {0};
    unsigned number = 0;
    struct config_texts texts = texts_of("/etc/x/postern.yaml", text, "lists: {}\n");
    assert_int_equal(revisions_add(revisions, &texts, STR("uid 0"), STR("why"), &number, &err), OK);
    return number;
}

static void test_kept_and_read(void **state)
{
    (void)state;
    struct revision got;
    struct error err = {0};
    assert_int_equal(add("version: 1\n"), 1);
    assert_int_equal(add("version: 1 # \xc3\xa9\n"), 2);
    assert_int_equal(revisions_set_fate(revisions, 2, STR("reverted"), &err), OK);
    reopen();
    assert_int_equal(revisions_read(revisions, 2, arena, &got, &err), OK);
    assert_str(got.actor, "uid 0");
    assert_str(got.reason, "why");
    assert_str(got.fate, "reverted");
    assert_int_equal(got.texts.count, 2);
    assert_str(got.texts.items[0].name, "/etc/x/postern.yaml");
    assert_str(got.texts.items[0].text, "version: 1 # \xc3\xa9\n");
    assert_str(got.texts.items[1].text, "lists: {}\n");
    char hash[REVISION_HASH_SIZE];
    revisions_hash(&got.texts, hash);
    assert_string_equal(hash, got.hash);
    assert_int_equal(revisions_read(revisions, 3, arena, &got, &err), FAILED);
    assert_int_equal(err.kind, ERROR_PERMANENT);
    assert_int_equal(add("version: 1\n"), 3);
}

static void test_nobody_else_may_read(void **state)
{
    (void)state;
    struct stat facts;
    add("version: 1\n");
    assert_int_equal(stat(arena_printf(arena, "%s/revisions", folder).ptr, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0700);
    assert_int_equal(stat(arena_printf(arena, "%s/revisions/1.json", folder).ptr, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
}

static void test_state_outlives(void **state)
{
    (void)state;
    struct error err = {0};
    struct revisions_state want = {.current = 4,
                                   .last = 6,
                                   .pending = 6,
                                   .share = 10,
                                   .confirm_by_ns = INT64_C(1800000000000000001),
                                   .applied_ns = 77};
    memset(want.file_hash, 'a', REVISION_HASH_SIZE - 1);
    assert_int_equal(revisions_set_state(revisions, &want, &err), OK);
    reopen();
    struct revisions_state got = revisions_state(revisions);
    assert_int_equal(got.current, 4);
    assert_int_equal(got.last, 6);
    assert_int_equal(got.pending, 6);
    assert_int_equal(got.share, 10);
    assert_int_equal(got.confirm_by_ns, want.confirm_by_ns);
    assert_int_equal(got.applied_ns, 77);
    assert_string_equal(got.file_hash, want.file_hash);
}

/* The oldest go; what is in force or may come back into force stays, however old it is. */
static void test_pruned(void **state)
{
    (void)state;
    struct error err = {0};
    struct revision got;
    add("version: 1\n");
    add("version: 1\n");
    struct revisions_state now = {.current = 2, .last = 2};
    assert_int_equal(revisions_set_state(revisions, &now, &err), OK);
    for (unsigned i = 3; i <= REVISIONS_KEPT + 5; i++)
        assert_int_equal(add("version: 1\n"), i);
    size_t count;
    const unsigned *numbers = revisions_numbers(revisions, arena, &count);
    assert_int_equal(count, REVISIONS_KEPT + 1);
    assert_int_equal(numbers[0], 2);
    assert_int_equal(numbers[1], 6);
    assert_int_equal(revisions_read(revisions, 2, arena, &got, &err), OK);
    assert_int_equal(revisions_read(revisions, 1, arena, &got, &err), FAILED);
}

static void test_hash(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *part;
        bool same;
    } cases[] = {
        {"/etc/postern/postern.yaml", "a: 1\n", "b: 2\n", true},
        {"/home/me/new.yaml", "a: 1\n", "b: 2\n", true},
        {"new.yaml", "a: 1\n", "b: 2\n", true},
        {"/etc/postern/postern.yaml", "a: 1\nb: 2\n", "", false},
        {"/etc/postern/postern.yaml", "a: 1\n", NULL, false},
        {"/etc/postern/postern.yaml", "a: 2\n", "b: 2\n", false},
    };
    char want[REVISION_HASH_SIZE];
    struct config_texts texts = texts_of("/etc/postern/postern.yaml", "a: 1\n", "b: 2\n");
    revisions_hash(&texts, want);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[REVISION_HASH_SIZE];
        texts = texts_of(cases[i].name, cases[i].text, cases[i].part);
        revisions_hash(&texts, got);
        assert_int_equal(strcmp(got, want) == 0, cases[i].same);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    unsigned number = 0;
    assert_true(revision_parse(STR("r41"), &number) && number == 41);
    assert_true(revision_parse(STR("7"), &number) && number == 7);
    assert_false(revision_parse(STR("r0"), &number));
    assert_false(revision_parse(STR("r"), &number));
    assert_false(revision_parse(STR("../7"), &number));
    assert_false(revision_parse(STR("99999999999"), &number));
}

/* As with a full disk: what is new cannot be written, what is there can. */
static void test_state_on_a_full_disk(void **unused)
{
    (void)unused;
    struct error err = {0};
    struct revisions_state state = revisions_state(revisions);
    state.current = state.last = add("a: 1\n");
    assert_int_equal(revisions_set_state(revisions, &state, &err), OK);
    struct str draft = arena_printf(arena, "%s/revisions/state.json.new", folder);
    assert_int_equal(mkdir(draft.ptr, 0700), 0);
    state.pending = 7;
    state.confirm_by_ns = 1234;
    assert_int_equal(revisions_set_state(revisions, &state, &err), FAILED);
    assert_int_equal(revisions_state(revisions).pending, 0);
    for (unsigned i = 8; i < 10; i++) { /* the room is made anew */
        state.pending = i;
        assert_int_equal(revisions_set_state_in_spare(revisions, &state), OK);
        reopen();
        assert_int_equal(revisions_state(revisions).pending, i);
        assert_true(revisions_state(revisions).confirm_by_ns == 1234);
    }
    struct str spare = arena_printf(arena, "%s/revisions/state.spare", folder);
    assert_int_equal(unlink(spare.ptr), 0);
    state.pending = 11;
    assert_int_equal(revisions_set_state_in_spare(revisions, &state), FAILED);
    reopen();
    assert_int_equal(revisions_state(revisions).pending, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_state_on_a_full_disk, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_kept_and_read, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_nobody_else_may_read, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_state_outlives, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_pruned, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(test_hash, open_folder, close_folder),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
