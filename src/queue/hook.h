/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/hook.h - what a script of the transport says before and after an attempt, made true.
 */
#pragma once

#include "queue/delivery.h"

/*
 * Deliver, and ask before and after if the transport says so. False: this tells nothing about the
 * destination, for a hook wanted no attempt or sent it to another server. The results say what
 * becomes of the recipients; attempt->transport may be another by then, and `reached` is true.
 */
bool queue_hook_deliver(struct queue_attempt *attempt,
                        struct queue_connection *connection) MAY_YIELD;
