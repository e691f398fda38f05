/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/signed_names.h - which fields of a message we sign.
 */
#pragma once

#include "base/error.h"
#include "content/fields.h"

enum { SIGNED_NAMES_MAX = 256 };

/* Names for h=, each as often as it is to be signed. FAILED with ERROR_LIMIT if there are more. */
enum result signed_names_choose(const struct fields *fields, struct str names[SIGNED_NAMES_MAX],
                                size_t *out_count, struct error *err);
