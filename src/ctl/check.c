/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/check.c - `postern check` and `postern schema`: the configuration, without the daemon. */
#include "base/buf.h"
#include "ctl/ctl.h"
#include "gateway/settings.h"

#include <stdio.h>

enum { REPORT_MAX = 16 * 1024 * 1024 };
static const char default_path[] = "/etc/postern/postern.yaml";

static void print_summary(const struct config_report *report)
{
    printf("%zu %s, %zu %s.%s\n", report->errors, report->errors == 1 ? "error" : "errors",
           report->warnings, report->warnings == 1 ? "warning" : "warnings",
           report->errors ? " posternd would refuse this file." : "");
}

int ctl_check(struct ctl *ctl)
{
    ctl_arguments(ctl, 0, 1);
    const char *path = ctl->argc ? ctl->argv[0] : default_path;
    struct config_report report;
    struct error err;
    config_report_init(&report, ctl->arena);
    struct settings *settings = NULL;
    enum result result = settings_load(path, &report, &settings, &err);
    settings_unref(settings);
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
        print_summary(&report);
    return result == OK ? CTL_YES : CTL_NO;
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
