/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/supervisor.h - keeps the listening sockets and a working child, whatever happens to it.
 */
#pragma once

#include <stdbool.h>

/* Check the configuration, start a child, and start it again when it dies, until SIGTERM. Returns
 * the exit status of the process. `unconfined`: the child keeps all paths and system calls. */
int supervisor_run(const char *config_path, bool unconfined);
