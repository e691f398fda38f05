/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/check.c - `postern check` and `postern schema`: the configuration, without the daemon. */
#include "base/buf.h"
#include "ctl/check.h"
#include "ctl/ctl.h"
#include "gateway/settings.h"

#include <stdio.h>

enum { REPORT_MAX = 16 * 1024 * 1024 };

/* `path`: of the file that nobody named. */
static void print_summary(const struct config_report *report, bool refused, const char *path)
{
    printf("%s%s", path ? path : "", path ? ": " : "");
    printf("%zu %s, %zu %s.%s\n", report->errors, report->errors == 1 ? "error" : "errors",
           report->warnings, report->warnings == 1 ? "warning" : "warnings",
           refused ? " posternd would refuse this file." : "");
}

int ctl_check(struct ctl *ctl)
{
    bool live = ctl_flag(ctl, "--live");
    ctl_arguments(ctl, 0, 1);
    const char *path = ctl->argc ? ctl->argv[0] : ctl_config_path(ctl);
    struct config_report report;
    struct error err;
    config_report_init(&report, ctl->arena);
    report.may_rehearse = true;
    struct settings *settings = NULL;
    enum result result = settings_load(path, &report, &settings, &err);
    bool refused = result != OK;
    if (live && result == OK)
        result = check_live(ctl, settings, &report, &err);
    struct buf text BUF_CLEANUP;
    buf_init(&text, REPORT_MAX);
    if (ctl->json)
        config_report_json(&report, &text);
    else
        config_report_print(&report, ctl->colour, &text);
    fwrite(buf_str(&text).ptr, 1, text.len, stdout);
    if (!ctl->json && result != OK && report.errors == 0)
        fprintf(stderr, "postern: %s\n", err.text);
    if (!ctl->json)
        print_summary(&report, refused, ctl->argc ? NULL : path);
    settings_unref(settings); /* places point into it */
    return result == OK && report.errors == 0 ? CTL_YES : CTL_NO;
}

int ctl_schema(struct ctl *ctl)
{
    ctl_arguments(ctl, 0, 0);
    struct buf text BUF_CLEANUP;
    buf_init(&text, REPORT_MAX);
    settings_schema(&text);
    fwrite(buf_str(&text).ptr, 1, text.len, stdout);
    return CTL_YES;
}
