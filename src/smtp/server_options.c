/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_options.c - the rows of listeners.*.limits.
 */
#include "config/option.h"
#include "smtp/server.h"

#define ROW(name_, type_, member_, fallback_, text_)                                               \
    .name = (name_), .type = (type_), .offset = offsetof(struct smtp_limits, member_),             \
    .fallback = (fallback_), .text = (text_)

static const struct option rows[] = {
    {ROW("size", OPTION_SIZE, size, "50M", "Largest message; told in EHLO and refused with 552."),
     .min = 1024, .max = INT64_C(4) << 30},
    {ROW("recipients", OPTION_INT, recipients, "1000",
         "Recipients of one message; more are told to come again (452)."),
     .min = 1, .max = 100000},
    {ROW("line", OPTION_SIZE, line, "64K", "Longest line of a message."), .min = 998,
     .max = INT64_C(1) << 30},
    {ROW("command_line", OPTION_SIZE, command_line, "12288",
         "Longest line of an AUTH exchange; other commands may have 4096 bytes."),
     .min = 1024, .max = 65535},
    {ROW("header_bytes", OPTION_SIZE, header_bytes, "256K", "Largest header section."), .min = 1024,
     .max = INT64_C(1) << 20},
    {ROW("header_fields", OPTION_INT, header_fields, "1000", "Most fields of a header section."),
     .min = 10, .max = 100000},
    {ROW("hops", OPTION_INT, hops, "50", "Most Received fields; more is a mail loop."), .min = 5,
     .max = 1000},
    {ROW("errors", OPTION_INT, errors, "10",
         "Errors until the connection is closed; an accepted message sets the count to 0."),
     .min = 1, .max = 10000},
    {ROW("commands", OPTION_INT, commands, "1000",
         "Commands, RCPT and BDAT not counted, without an accepted message between them."),
     .min = 10, .max = 1000000},
    {ROW("sessions", OPTION_INT, sessions, "5000", "Connections of the listener at a time."),
     .min = 1, .max = 1000000},
    {ROW("sessions_per_client", OPTION_INT, sessions_per_client, "50",
         "Connections of one client network (IPv4 /24, IPv6 /64) at a time."),
     .min = 1, .max = 1000000},
    {ROW("command_timeout", OPTION_DURATION, command_timeout_ns, "5m",
         "Longest wait for a command, or for more of a message."),
     .min = NS_PER_S, .max = 3600 * NS_PER_S},
    {ROW("session_timeout", OPTION_DURATION, session_timeout_ns, "1h",
         "Longest life of a connection."),
     .min = NS_PER_S, .max = 86400 * NS_PER_S},
    {ROW("data_timeout", OPTION_DURATION, data_timeout_ns, "10m",
         "Longest time for the content of one message."),
     .min = NS_PER_S, .max = 86400 * NS_PER_S},
    {ROW("min_rate", OPTION_SIZE, min_rate, "500",
         "Bytes per second that a client must send over a message's content, after a minute."),
     .min = 0, .max = INT64_C(1) << 30},
    {ROW("auth_failures", OPTION_INT, auth_failures, "3",
         "Failed logins until the connection is closed."),
     .min = 1, .max = 100},
    {.name = NULL},
};

const struct option_table smtp_limits_options = {
    .name = "listeners.*.limits",
    .text = "Bounds of what a client may ask for; reaching one is an event (session.limit).",
    .options = rows,
    .size = sizeof(struct smtp_limits),
};
