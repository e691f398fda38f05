/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/check.h - `posternd --check`: what is wrong with a configuration, and nothing else. */
#pragma once

/* For a person on a terminal, else as events. Returns the exit status: 0 good, 1 errors. */
int check_configuration(const char *path);
