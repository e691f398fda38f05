/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/check.h"

#include "base/buf.h"
#include "daemon/problems.h"
#include "gateway/settings.h"

#include <stdio.h>
#include <unistd.h>

enum { REPORT_MAX = 16 * 1024 * 1024 };

int check_configuration(const char *path)
{
    struct arena *arena = arena_new(0);
    struct config_report report;
    struct error err;
    config_report_init(&report, arena);
    struct settings *settings = NULL;
    enum result result = settings_load(path, &report, &settings, &err);
    settings_unref(settings);
    if (isatty(STDOUT_FILENO)) {
        struct buf text BUF_CLEANUP;
        buf_init(&text, REPORT_MAX);
        config_report_print(&report, true, &text);
        config_report_summary(&report, &text);
        fwrite(buf_str(&text).ptr, 1, text.len, stdout);
    } else {
        problems_emit(&report);
        if (result != OK)
            problems_fatal(&err, 1);
        problems_flush();
    }
    arena_free(arena);
    return result == OK ? 0 : 1;
}
