/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/log_postfix.h - events in the words of Postfix, for the programs that read its log.
 *
 * What pflogsumm counts and fail2ban watches for is there: who connected, what was accepted and
 * refused, logins, deliveries. Pure: from an event to lines, nothing is remembered between them.
 */
#pragma once

#include "event/event.h"

/*
 * Hand each line that says what the event says (none for most) to `put`: the program that would
 * have written it ("smtpd"), its process ("1234"; of a session one of its own), and the words
 * without a line end, printable ASCII. Texts are borrowed until `put` returns.
 */
void log_postfix_lines(const struct event *event,
                       void (*put)(const char *program, unsigned process, struct str line,
                                   void *arg),
                       void *arg);

enum { LOG_POSTFIX_TIME_SIZE = 16 };
/* "Nov 24 10:21:00", local time, as syslog writes it. */
struct str log_postfix_time(int64_t wall_ns, char out[LOG_POSTFIX_TIME_SIZE]);
