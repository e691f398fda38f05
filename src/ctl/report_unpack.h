/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/report_unpack.h - a report as it came: a message, gzip, zip, or plain XML. */
#pragma once

#include "base/error.h"
#include "base/str.h"

/* False: it is no report, which has been said. */
typedef bool report_take_xml(struct str xml, void *context);
/* Call `take` for each report in the input. FAILED: there is none. To be called confined. */
enum result report_unpack(struct str input, report_take_xml *take, void *context,
                          struct error *err);
