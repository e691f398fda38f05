/* SPDX-License-Identifier: Apache-2.0 */
/* admin/reports_internal.h - between counting and storing (reports.c) and sending (report_mail.c).
 */
#pragma once

#include "admin/reports.h"
#include "base/buf.h"
#include "content/dmarc_report.h"

/* Fields of a row in the order in which they are kept, with tabs between. */
enum reports_field {
    REPORTS_IP,
    REPORTS_DISPOSITION,
    REPORTS_REASON,
    REPORTS_ALIGNED,
    REPORTS_HEADER_FROM,
    REPORTS_ENVELOPE_FROM,
    REPORTS_SPF,
    REPORTS_DKIM,
    REPORTS_FIELDS
};

/* A row of the report; slices of `fields` and of the arena. False: it is damaged. */
bool reports_read_row(struct str fields, uint64_t count, struct arena *arena,
                      struct dmarc_report_row *out);

/* Make, and queue, the report to each who wants it. `report` has its rows, its domain and its days;
 * the rest is filled in. *out_sent: to how many. FAILED: not now. */
enum result report_mail_send(struct gateway *gateway, const struct reports_settings *settings,
                             struct str organization, struct dmarc_report *report,
                             struct arena *arena, size_t *out_sent, struct error *err);
/* The message; for tests. FAILED: no memory. */
enum result report_mail_write(const struct reports_settings *settings, struct str to,
                              const struct dmarc_report *report, struct buf *out,
                              struct error *err);
