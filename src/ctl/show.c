/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/show.c - `postern config show --effective`: every setting in force, with the place where it
 * was written or the word default. From the file, without the daemon; secrets are masked.
 */
#include "base/buf.h"
#include "ctl/ctl.h"
#include "gateway/settings.h"

#include <stdio.h>

enum { TEXT_MAX = 64 * 1024 * 1024 };

int ctl_config_show(struct ctl *ctl)
{
    bool effective = ctl_flag(ctl, "--effective");
    ctl_arguments(ctl, 0, 1);
    if (!effective) {
        fprintf(stderr, "postern: config show needs --effective\n");
        return CTL_USAGE;
    }
    const char *path = ctl->argc ? ctl->argv[0] : "/etc/postern/postern.yaml";
    struct config_report report;
    struct error err;
    config_report_init(&report, ctl->arena);
    struct settings *settings = NULL;
    struct buf text BUF_CLEANUP;
    buf_init(&text, TEXT_MAX);
    if (settings_load(path, &report, &settings, &err) != OK) {
        config_report_print(&report, false, &text);
        fwrite(buf_str(&text).ptr, 1, text.len, stderr);
        fprintf(stderr, "postern: %s; no value is in force\n", err.text);
        return CTL_NO;
    }
    settings_effective(settings, &text);
    settings_unref(settings);
    fwrite(buf_str(&text).ptr, 1, text.len, stdout);
    return CTL_YES;
}
