/* SPDX-License-Identifier: Apache-2.0 */
/* base/random.h - unpredictable bytes of the operating system. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Fill `out`; never fails (aborts if the system has no randomness). Buffered per thread. */
void random_bytes(void *out, size_t size);
/* Even over 0 … bound-1; `bound` > 0. */
uint32_t random_below(uint32_t bound);
