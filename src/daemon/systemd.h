/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/systemd.h - what systemd is told, and the sockets that it hands over.
 *
 * Both are a few lines of protocol (sd_notify(3), sd_listen_fds(3)), so no library is needed.
 * Started by anybody else, all of this does nothing.
 */
#pragma once

#include "daemon/sockets.h"

/* Once, at the start: remember where to report, and take both variables out of the environment, so
 * that no child speaks for us. */
void systemd_begin(void);
void systemd_ready(void);
void systemd_reloading(void);
void systemd_stopping(void);
/* Put the listening sockets that systemd opened into the set, by the addresses they have. */
void systemd_take_sockets(struct sockets *sockets);
