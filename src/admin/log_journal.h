/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/log_journal.h - events as journald takes them over its socket.
 *
 * The message is the line for people, and beside it stand the event's fields, so that journalctl
 * finds by them (POSTERN_REF=7KQ2M9XD), and a MESSAGE_ID, by which journalctl -x tells what the
 * event means and what to do (packaging/: postern.catalog). Protocol:
 * systemd.io/JOURNAL_NATIVE_PROTOCOL.
 */
#pragma once

#include "event/event.h"

struct buf;

enum { EVENT_ID_SIZE = 33 };
/* The MESSAGE_ID of a type of event; made of its name, so it stays while that stays. */
const char *log_journal_id(enum event_type type, char out[static EVENT_ID_SIZE]);
/* One datagram; `id` is of its type. `node` and `revision` are left out when empty. */
void log_journal_entry(const struct event *event, const char *id, struct str node,
                       struct str revision, struct buf *out);
