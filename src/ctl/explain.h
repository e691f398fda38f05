/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/explain.h - the parts of an explanation (admin/explanation.h), printed. */
#pragma once

#include "ctl/ctl.h"
#include "gateway/settings.h"

void explain_print_flow(const char *title, json_t *flow);
void explain_print_transport(json_t *transport, const char *title);
