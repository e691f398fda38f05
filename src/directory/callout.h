/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/callout.h - mail servers as directories: opening a conversation with one, and what its
 * replies say about logins and recipients.
 */
#pragma once

#include "directory/directory_internal.h"
#include "smtp/client.h"

/*
 * Connect to the first endpoint that answers properly: greeting, EHLO, STARTTLS as the server entry
 * says. `for_login`: the connection must be fit for a password (TLS, unless `tls: none` was written
 * out) and offer a mechanism. Deadline: the fiber's. FAILED: no endpoint did; the text names the
 * last fault.
 */
enum result callout_open(struct directory *directory, const struct server *server, bool for_login,
                         struct smtp_client **out_client, struct error *err) MAY_YIELD;

/* When this server's time is over, from now. */
int64_t callout_deadline(const struct server *server);

/* The tables of outcomes, as pure functions. */
enum directory_login callout_judge_login(const struct mail_reply *auth);
enum directory_lookup callout_judge_lookup(const struct mail_reply *mail,
                                           const struct mail_reply *rcpt);
