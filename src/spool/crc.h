/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool/crc.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the processor's instruction where
 * there is one. Own code: no library that we link has this polynomial, and zlib's CRC-32 costs six
 * times as much a byte, on every byte of mail.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The CRC of what `crc` covers followed by `data`; start with 0. */
uint32_t spool_crc(uint32_t crc, const void *data, size_t size);
/* The same without the processor's help; for tests. */
uint32_t spool_crc_table(uint32_t crc, const void *data, size_t size);
