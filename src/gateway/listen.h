/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/listen.h - a worker's share of the listening sockets. Inside gateway/ only.
 */
#pragma once

#include "gateway/worker.h"

/* On the worker's thread: accept from these sockets (in the order of listeners and addresses), in
 * place of those before. */
void listen_open(struct worker *worker, const int *fds, size_t count);
void listen_close(struct worker *worker);
