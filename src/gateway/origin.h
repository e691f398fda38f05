/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/origin.h - the facts of a session as bytes, kept with a message whose content flow runs
 * later (processing: queued).
 */
#pragma once

#include "flow/facts.h"

/* In `arena`. */
struct str origin_encode(struct arena *arena, const struct flow_facts *facts);
/* Texts are copied to `arena`. False if the bytes are not whole. */
bool origin_decode(struct arena *arena, struct str bytes, struct flow_facts *out_facts);
