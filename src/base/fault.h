/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/fault.h - named places where tests make a system call fail.
 *
 * A place asks fault_hit("spool.sync") before the call and behaves as if the call had failed with
 * that errno. Nothing arms a fault but fault_arm(), which only tests call: no setting and no
 * environment variable does. Unarmed it costs one load.
 */
#pragma once

#include <stdint.h>

/* The calls number `first` … `first + count - 1` (from 1, counted from now) of `point` fail with
 * errno `number`. `point` is static text. At most 8 points. Any thread. */
void fault_arm(const char *point, unsigned first, unsigned count, int number);
void fault_disarm_all(void);
/* Every call that covers `place` of something fails, until disarmed: a bad page of a file. */
void fault_arm_place(const char *point, uint64_t place, int number);
/* 0, or the errno to fail with. */
int fault_hit(const char *point);
int fault_hit_place(const char *point, uint64_t begin, uint64_t end);
