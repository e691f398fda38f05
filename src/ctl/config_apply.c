/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/config_apply.c - `postern config apply, confirm, rollback`: changing what is in force.
 *
 * The check with its carets, the flow tests and the differences are made here, of the texts that
 * are then sent; the daemon checks them again before it loads them.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "ctl/config.h"
#include "ctl/list.h"
#include "ctl/tests.h"
#include "gateway/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPORT_MAX = 16 * 1024 * 1024 };

struct applying {
    struct ctl *ctl;
    const char *path;     /* of the candidate */
    const char *file;     /* that the daemon reads */
    const char *revision; /* in force */
    struct config_texts texts;
    int64_t confirm_ns;
    unsigned share;
    bool ignore_tests;
    struct ctl_tally tally;
};

/* ---- before ---- */

/* 0: not given. */
static int64_t read_confirm(struct ctl *ctl)
{
    const char *confirm = ctl_option(ctl, "--confirm");
    int64_t confirm_ns = 0;
    if (confirm && (!option_parse_duration(str_c(confirm), &confirm_ns) || confirm_ns < NS_PER_S)) {
        fprintf(stderr, "postern: --confirm: a time of at least 1s, like 10m\n");
        exit(CTL_USAGE);
    }
    return confirm_ns;
}

static void read_options(struct ctl *ctl, struct applying *out)
{
    const char *share = ctl_option(ctl, "--share");
    uint64_t percent = 0;
    out->confirm_ns = read_confirm(ctl);
    out->ignore_tests = ctl_flag(ctl, "--ignore-tests");
    ctl_arguments(ctl, 0, 1);
    out->path = ctl->argc ? ctl->argv[0] : NULL;
    struct str digits = str_c(share);
    if (str_ends(digits, STR("%")))
        digits.len--;
    if (share && (!str_to_uint(digits, 99, &percent) || percent == 0)) {
        fprintf(stderr, "postern: --share: 1%% to 99%% of the clients\n");
        exit(CTL_USAGE);
    }
    out->share = (unsigned)percent;
}

static bool read_candidate(struct applying *applying)
{
    if (!ctl_config_read(applying->ctl, applying->path, &applying->texts))
        return false;
    ctl_config_place(applying->ctl, &applying->texts, applying->file);
    return true;
}

static struct settings *check(struct applying *applying)
{
    struct ctl *ctl = applying->ctl;
    struct config_report report;
    struct settings *settings = NULL;
    struct error err;
    struct buf text BUF_CLEANUP;
    config_report_init(&report, ctl->arena);
    enum result result = settings_load_texts(&applying->texts, &report, &settings, &err);
    buf_init(&text, REPORT_MAX);
    if (ctl->json && result != OK)
        config_report_json(&report, &text);
    else if (!ctl->json)
        config_report_print(&report, ctl->colour, &text);
    fwrite(buf_str(&text).ptr, 1, text.len, stdout);
    if (result == OK)
        return settings;
    fprintf(stderr, "postern: %s; nothing was applied\n", err.text);
    return NULL;
}

static bool test(struct applying *applying, const struct settings *settings)
{
    struct ctl_tally *tally = &applying->tally;
    ctl_test_beside(applying->ctl, settings, ctl_folder_of(str_c(applying->path)), tally);
    if (tally->failed + tally->broken == 0 || applying->ignore_tests)
        return true;
    fprintf(stderr,
            "postern: %zu of %zu flow tests failed%s; nothing was applied (--ignore-tests applies "
            "all the same)\n",
            tally->failed, tally->passed + tally->failed,
            tally->broken ? ", and a test file has errors" : "");
    return false;
}

/* Exit code; 0: it may be sent. */
static int prepare(struct applying *applying)
{
    json_t *object;
    struct config_texts before;
    struct ctl *ctl = applying->ctl;
    int code = ctl_config_get(ctl, "/api/v1/config", &object);
    if (code)
        return code;
    applying->file = arena_c(ctl->arena, str_c(ctl_text(object, "file")));
    applying->revision = arena_c(ctl->arena, str_c(ctl_text(object, "revision")));
    json_decref(object);
    if (!applying->path)
        applying->path = applying->file;
    if (!read_candidate(applying))
        return CTL_NO;
    struct settings *settings = check(applying);
    if (!settings)
        return CTL_NO;
    bool good = test(applying, settings);
    settings_unref(settings);
    if (!good)
        return CTL_NO;
    if (ctl->json)
        return CTL_YES;
    code = ctl_config_texts(ctl, applying->revision, &before);
    if (code == CTL_YES)
        ctl_config_print_diff(ctl, &before, &applying->texts, applying->revision, "the file");
    return code;
}

/* ---- and after ---- */

static void print_file_state(json_t *answer)
{
    if (strcmp(ctl_text(answer, "file_state"), "same") != 0)
        printf("the file is not what is in force; after it is changed, it counts again at the next "
               "start or reload\n  see it:   postern config diff\n  write it: postern config "
               "write\n");
}

static void print_warning(json_t *answer)
{
    const char *warning = ctl_text(answer, "warning");
    if (warning[0])
        fprintf(stderr, "postern: warning: %s\n", warning);
}

static void print_pending(json_t *pending)
{
    const char *revision = ctl_text(pending, "revision");
    const char *deadline = ctl_text(pending, "confirm_by");
    long long share = ctl_number(pending, "share");
    if (share)
        printf("%s gets %lld%% of the new sessions, by the network of the client; queue and "
               "transports stay with %s\n",
               revision, share, ctl_text(pending, "former"));
    if (deadline[0]) {
        printf("taken back ");
        ctl_print_time(deadline, true);
        printf(" unless: postern config confirm %s\n", revision);
    } else if (share) {
        printf("for all: postern config confirm %s; for none: postern config rollback\n", revision);
    }
}

static void print_applied(const struct applying *applying, json_t *answer)
{
    const struct ctl_tally *tally = &applying->tally;
    json_t *pending = json_object_get(answer, "pending");
    if (json_is_true(json_object_get(answer, "unchanged"))) {
        printf("%s is in force already; nothing was applied\n", ctl_text(answer, "revision"));
        print_file_state(answer);
        return;
    }
    printf("%s -> %s  check ok, tests %zu of %zu%s\n", ctl_text(answer, "former"),
           ctl_text(answer, "revision"), tally->passed, tally->passed + tally->failed,
           tally->failed + tally->broken ? " (ignored)" : "");
    size_t i;
    json_t *section;
    json_array_foreach(json_object_get(answer, "after_restart"), i, section)
        printf("%s changed: that counts only after posternd is started anew\n",
               json_string_value(section));
    if (json_is_object(pending))
        print_pending(pending);
    if (ctl_number(pending, "share") == 0)
        print_file_state(answer);
}

static json_t *request_of(const struct applying *applying)
{
    json_t *files = json_array();
    for (size_t i = 0; i < applying->texts.count; i++) {
        const struct config_text *one = &applying->texts.items[i];
        json_array_append_new(files, json_pack("{s:s%, s:s%}", "name", one->name.ptr, one->name.len,
                                               "text", one->text.ptr, one->text.len));
    }
    return json_pack("{s:o, s:I, s:i}", "files", files, "confirm_seconds",
                     (json_int_t)(applying->confirm_ns / NS_PER_S), "share", (int)applying->share);
}

int ctl_config_apply(struct ctl *ctl)
{
    struct applying applying = {.ctl = ctl};
    struct ctl_answer answer;
    read_options(ctl, &applying);
    int code = prepare(&applying);
    if (code)
        return code;
    json_t *request = request_of(&applying);
    if (!request) {
        fprintf(stderr, "postern: the configuration is not UTF-8; nothing was applied\n");
        return CTL_NO;
    }
    ctl->if_match = applying.revision; /* the differences shown are those to it */
    code = ctl_request(ctl, "POST", "/api/v1/config/applications", request, &answer);
    json_decref(request);
    if (code)
        return code;
    if (!ctl_print_change(ctl, answer.json))
        print_applied(&applying, answer.json);
    json_decref(answer.json);
    return CTL_YES;
}

/* ---- confirm, rollback ---- */

static int wish(struct ctl *ctl, const char *path, int64_t confirm_ns, struct ctl_answer *out)
{
    json_t *request = json_pack("{s:s}", "revision", ctl->argc ? ctl->argv[0] : "");
    if (confirm_ns)
        json_object_set_new(request, "confirm_seconds", json_integer(confirm_ns / NS_PER_S));
    int code = ctl_request(ctl, "POST", path, request, out);
    json_decref(request);
    if (code == CTL_YES && ctl->json)
        ctl_print(ctl, out->json);
    return code;
}

int ctl_config_confirm(struct ctl *ctl)
{
    struct ctl_answer answer;
    ctl_arguments(ctl, 0, 1);
    int code = wish(ctl, "/api/v1/config/confirmations", 0, &answer);
    if (code)
        return code;
    if (!ctl->json) {
        printf("%s stays\n", ctl_text(answer.json, "revision"));
        print_file_state(answer.json);
    }
    json_decref(answer.json);
    return CTL_YES;
}

int ctl_config_rollback(struct ctl *ctl)
{
    struct ctl_answer answer;
    int64_t confirm_ns = read_confirm(ctl);
    bool write = ctl_flag(ctl, "--write");
    ctl_arguments(ctl, 0, 1);
    if (confirm_ns && write) {
        fprintf(stderr,
                "postern: --write is for what stays: confirm it, then postern config write\n");
        return CTL_USAGE;
    }
    int code = wish(ctl, "/api/v1/config/rollbacks", confirm_ns, &answer);
    if (code)
        return code;
    if (!ctl->json) {
        printf("%s -> %s  in force again\n", ctl_text(answer.json, "former"),
               ctl_text(answer.json, "revision"));
        print_warning(answer.json);
        if (json_is_object(json_object_get(answer.json, "pending")))
            print_pending(json_object_get(answer.json, "pending"));
        if (!write)
            print_file_state(answer.json);
    }
    json_decref(answer.json);
    return write ? ctl_config_write_file(ctl) : CTL_YES;
}
