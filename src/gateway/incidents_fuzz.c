/* SPDX-License-Identifier: Apache-2.0 */
/* The file of incidents: what is read is written the same way, and read again. */
#include "base/buf.h"
#include "base/check.h"
#include "gateway/incidents_internal.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct incident_table table, again;
    struct buf first, second;
    if (incident_table_parse(str_of((const char *)data, size), &table, NULL) != OK)
        return 0;
    buf_init(&first, 64 << 20);
    buf_init(&second, 64 << 20);
    incident_table_print(&table, &first);
    check(incident_table_parse(buf_str(&first), &again, NULL) == OK);
    incident_table_print(&again, &second);
    check(str_equal(buf_str(&first), buf_str(&second)));
    buf_done(&first);
    buf_done(&second);
    incident_table_done(&table);
    incident_table_done(&again);
    return 0;
}
