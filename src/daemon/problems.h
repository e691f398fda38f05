/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/problems.h - how the daemon says what is wrong: as events, on standard output.
 */
#pragma once

#include "base/error.h"
#include "config/report.h"

/* An event for each problem of a configuration. */
void problems_emit(const struct config_report *report);
/* An event, and `code` back. */
int problems_fatal(const struct error *err, int code);
/* Write the events of this process to standard output now; for a process without a log thread. */
void problems_flush(void);
