/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/spool.c - `postern spool verify`: reads a spool's files without the daemon. */
#include "spool/spool.h"

#include "base/buf.h"
#include "ctl/list.h"

#include "admin/http.h"

#include <stdio.h>

int ctl_spool_verify(struct ctl *ctl)
{
    bool verbose = ctl_flag(ctl, "--verbose");
    ctl_arguments(ctl, 1, 1);
    size_t problems = 0;
    struct error err;
    struct buf text BUF_CLEANUP;
    buf_init(&text, 256 * 1024 * 1024);
    if (spool_verify(str_c(ctl->argv[0]), verbose, &text, &problems, &err) != OK) {
        fprintf(stderr, "postern: %s\n", err.text);
        return CTL_NO;
    }
    if (ctl->json) {
        json_t *found = json_pack("{s:s, s:I, s:o}", "folder", ctl->argv[0], "problems",
                                  (json_int_t)problems, "text", admin_json(buf_str(&text)));
        ctl_print(ctl, found);
        json_decref(found);
    } else {
        ctl_print_file(buf_str(&text));
    }
    if (text.overflow)
        fprintf(stderr, "postern: the list is longer than what is shown; without --verbose all "
                        "that is wrong fits\n");
    return problems ? CTL_NO : CTL_YES;
}
