/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event/names.h - names with what stands around them in JSON.
 *
 * Private to event/.
 */
#pragma once

#include "event/event.h"

/* `,"event":"NAME","severity":"`, open for the severity. */
struct str event_type_piece(enum event_type type);
/* `,"NAME":` */
struct str event_key_piece(enum event_key key);
