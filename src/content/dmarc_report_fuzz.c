/* SPDX-License-Identifier: Apache-2.0 */
/* Reports come from anybody. What was read is written and read again. */
#include "content/dmarc_report.h"

#include "base/check.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err;
    struct dmarc_report report, again;
    struct arena *arena = arena_new(0);
    if (dmarc_report_read(str_of((const char *)data, size), arena, &report, &err) == OK) {
        struct buf text BUF_CLEANUP;
        buf_init(&text, DMARC_REPORT_XML_MAX);
        dmarc_report_write(&report, &text);
        check(dmarc_report_read(buf_str(&text), arena, &again, &err) == OK);
        check(again.row_count == report.row_count);
    }
    arena_free(arena);
    return 0;
}
