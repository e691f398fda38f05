/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/body.h - is the body of a request what its schema says? Every part that is not is named,
 * with a JSON pointer, so handlers read members without looking at their types again.
 */
#pragma once

#include "admin/http.h"

/* `body` against the row of that name in admin/schemas.c. False: the answer is a problem. */
bool admin_body_fits(json_t *body, const char *schema, struct arena *arena,
                     struct admin_answer *answer);
