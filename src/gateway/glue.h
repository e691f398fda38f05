/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/glue.h - what the queue needs from above, answered from settings and flows. Inside
 * gateway/ only.
 */
#pragma once

#include "queue/queue.h"

struct gateway;

void glue_fill_handler(struct gateway *gateway, struct queue_handler *out);
