/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crypto/wipe.h - what the library frees leaves no keys behind.
 *
 * Its decoders wipe the key they make, but not each copy on the way there. So whatever it frees is
 * overwritten first.
 */
#pragma once

#include <stdbool.h>

/* Once, before anything else of the library is used; false if it was too late. */
bool crypto_wipe_freed(void);
