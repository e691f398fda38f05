/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/test.c - `postern test`: the flow tests that stand beside a configuration. */
#include "base/buf.h"
#include "ctl/ctl.h"
#include "ctl/flow_test.h"
#include "ctl/list.h"
#include "ctl/tests.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { REPORT_MAX = 1024 * 1024 };

static void print_report(struct ctl *ctl, const struct config_report *report)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, REPORT_MAX);
    if (ctl->json)
        config_report_json(report, &text);
    else
        config_report_print(report, ctl->colour, &text);
    fwrite(buf_str(&text).ptr, 1, text.len, ctl->json ? stdout : stderr);
}

static struct str reply_text(struct ctl *ctl, const struct rehearsal *got)
{
    return got->reply.code ? mail_reply_text(ctl->arena, &got->reply) : STR_EMPTY;
}

static void print_json(struct ctl *ctl, const struct flow_test_result *result)
{
    const struct rehearsal *got = &result->rehearsal;
    struct str place = config_place_text(ctl->arena, result->place);
    json_t *differences = json_array();
    for (size_t i = 0; i < result->difference_count; i++) {
        const struct flow_test_difference *one = &result->differences[i];
        json_array_append_new(differences,
                              json_pack("{s:s, s:s%, s:s%, s:s%}", "key", one->key, "place",
                                        config_place_text(ctl->arena, one->place).ptr,
                                        config_place_text(ctl->arena, one->place).len, "expected",
                                        one->expected.ptr, one->expected.len, "got", one->got.ptr,
                                        one->got.len));
    }
    struct str reply = reply_text(ctl, got);
    json_t *object = json_pack(
        "{s:s%, s:s%, s:b, s:o, s:s, s:s, s:s%, s:s%, s:s%, s:s, s:s%, s:s%, s:s%}", "name",
        result->name.ptr, result->name.len, "place", place.ptr, place.len, "passed",
        result->difference_count == 0, "differences", differences, "auth", got->auth, "recipient",
        got->recipient, "step", got->step.ptr, got->step.len, "domain", got->domain.ptr,
        got->domain.len, "content", got->content.ptr, got->content.len, "verdict",
        got->content_action, "transport", got->transport.ptr, got->transport.len, "reply",
        reply.ptr, reply.len, "detail", got->detail.ptr, got->detail.len);
    ctl_print_item(ctl, object, NULL);
    json_decref(object);
}

static void print_result(struct ctl *ctl, const struct flow_test_result *result)
{
    bool passed = result->difference_count == 0;
    printf("  %s  ", passed ? "ok    " : "FAILED");
    ctl_print_text(arena_c(ctl->arena, result->name));
    printf("\n");
    for (size_t i = 0; i < result->difference_count; i++) {
        const struct flow_test_difference *one = &result->differences[i];
        printf("          %s  %s: expected \"%.*s\", got ",
               config_place_text(ctl->arena, one->place).ptr, one->key, STR_ARG(one->expected));
        if (one->got.len)
            printf("\"%.*s\"\n", STR_ARG(one->got));
        else
            printf("nothing: it did not come to that\n");
    }
    const struct rehearsal *got = &result->rehearsal;
    struct str reply = reply_text(ctl, got);
    if (passed)
        return;
    printf("          the last reply was \"%.*s\"", STR_ARG(reply));
    if (got->step.len)
        printf(", by step %.*s", STR_ARG(got->step));
    if (got->detail.len)
        printf(" (%.*s)", STR_ARG(got->detail));
    printf("\n");
}

static void run_file(struct ctl *ctl, const struct settings *settings, const char *path,
                     struct ctl_tally *tally)
{
    struct config_report report;
    struct flow_test_result *results = NULL;
    size_t count = 0;
    struct error err;
    config_report_init(&report, ctl->arena);
    enum result done = flow_test_run_file(path, settings, &report, &results, &count, &err);
    if (!ctl->json && done == OK && !tally->quiet)
        printf("%s\n", path);
    if (done != OK) {
        print_report(ctl, &report);
        tally->broken++;
    }
    for (size_t i = 0; i < count; i++) {
        if (tally->quiet && (ctl->json || results[i].difference_count == 0))
            ;
        else if (ctl->json)
            print_json(ctl, &results[i]);
        else
            print_result(ctl, &results[i]);
        if (results[i].difference_count)
            tally->failed++;
        else
            tally->passed++;
    }
}

void ctl_test_beside(struct ctl *ctl, const struct settings *settings, struct str folder,
                     struct ctl_tally *tally)
{
    struct str pattern = arena_printf(ctl->arena, "%.*s/tests/*.test.yaml", STR_ARG(folder));
    glob_t found = {0};
    tally->quiet = true;
    if (glob(pattern.ptr, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++)
            run_file(ctl, settings, found.gl_pathv[i], tally);
    globfree(&found);
}

/* The folder of a path without its final slash; "." for a bare name. */
static struct str folder_of(struct str path)
{
    ptrdiff_t slash = str_find_last(path, '/');
    return slash < 0 ? STR(".") : str_slice(path, 0, (size_t)slash);
}

/* The configuration beside the folder of the test (tests/a.test.yaml: postern.yaml), if there. */
static const char *configuration_of(struct ctl *ctl, const char *test)
{
    struct str folder = folder_of(str_c(test));
    struct str path = arena_printf(ctl->arena, "%.*s/../postern.yaml", STR_ARG(folder));
    return access(path.ptr, R_OK) == 0 ? path.ptr : ctl_config_path(ctl);
}

static int run_all(struct ctl *ctl, const char *configuration, char *const *paths, size_t count)
{
    struct config_report report;
    struct settings *settings = NULL;
    struct ctl_tally tally = {0};
    struct error err;
    config_report_init(&report, ctl->arena);
    if (settings_load(configuration, &report, &settings, &err) != OK) {
        print_report(ctl, &report);
        fprintf(stderr, "postern: %s: %s\n", configuration, err.text);
        settings_unref(settings);
        return CTL_NO;
    }
    for (size_t i = 0; i < count; i++)
        run_file(ctl, settings, paths[i], &tally);
    settings_unref(settings);
    if (!ctl->json)
        printf("%zu passed, %zu failed%s\n", tally.passed, tally.failed,
               tally.broken ? "; a test file has errors" : "");
    return tally.failed || tally.broken ? CTL_NO : CTL_YES;
}

int ctl_test(struct ctl *ctl)
{
    const char *configuration = ctl_option(ctl, "--config");
    ctl_arguments(ctl, 0, 1000);
    if (ctl->argc) {
        if (!configuration)
            configuration = configuration_of(ctl, ctl->argv[0]);
        return run_all(ctl, configuration, ctl->argv, (size_t)ctl->argc);
    }
    if (!configuration)
        configuration = ctl_config_path(ctl);
    struct str folder = folder_of(str_c(configuration));
    struct str pattern = arena_printf(ctl->arena, "%.*s/tests/*.test.yaml", STR_ARG(folder));
    glob_t found = {0};
    int code = CTL_NO;
    if (glob(pattern.ptr, 0, NULL, &found) == 0)
        code = run_all(ctl, configuration, found.gl_pathv, found.gl_pathc);
    else
        fprintf(stderr, "postern: there are no tests at %s\n", pattern.ptr);
    globfree(&found);
    return code;
}
