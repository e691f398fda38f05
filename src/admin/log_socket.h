/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/log_socket.h - datagrams to what collects logs on this machine: syslogd, journald.
 *
 * It may be started later, or again: who cannot be reached is tried with each line.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"

#include <syslog.h>

#define LOG_SOCKET_SYSLOG  "/dev/log"
#define LOG_SOCKET_JOURNAL "/run/systemd/journal/socket"

struct log_socket {
    int fd; /* -1: not connected */
    char path[108];
    bool takes_files;
};

/* `takes_files`: what is too long for a datagram may come in a file, as journald has it. */
void log_socket_init(struct log_socket *to, struct str path, bool takes_files);
void log_socket_close(struct log_socket *to);
/* FAILED: nobody listens there. */
enum result log_socket_connect(struct log_socket *to, struct error *err);
/* Waits for a reader that has no time, but not for long. False: it is lost. */
bool log_socket_send(struct log_socket *to, struct str datagram);

enum { LOG_SOCKET_HEAD_SIZE = 128 };
/* "<22>Nov 27 19:20:00 NAME[7]: ", as syslogd takes it over the local socket. */
struct str log_socket_head(int level, int64_t wall_ns, const char *name, unsigned process,
                           char out[static LOG_SOCKET_HEAD_SIZE]);
