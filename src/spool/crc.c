/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/crc.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

/* One row for each low nibble: sixteen entries need no start-up work and no mutable table. */
static const uint32_t nibbles[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t spool_crc_table(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *at = data;
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= at[i];
        crc = crc >> 4 ^ nibbles[crc & 15];
        crc = crc >> 4 ^ nibbles[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_processor(uint32_t crc, const void *data,
                                                                size_t size)
{
    const unsigned char *at = data;
    uint64_t value = ~crc;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        value = _mm_crc32_u64(value, word);
    }
    uint32_t last = (uint32_t)value;
    for (; size; size--)
        last = _mm_crc32_u8(last, *at++);
    return ~last;
}

static int has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#elif defined(__aarch64__)
__attribute__((target("+crc"))) static uint32_t crc_processor(uint32_t crc, const void *data,
                                                              size_t size)
{
    const unsigned char *at = data;
    crc = ~crc;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        crc = __crc32cd(crc, word);
    }
    for (; size; size--)
        crc = __crc32cb(crc, *at++);
    return ~crc;
}

static int has_instruction(void)
{
    return (getauxval(AT_HWCAP) & (1UL << 7)) != 0; /* HWCAP_CRC32 */
}
#endif

uint32_t spool_crc(uint32_t crc, const void *data, size_t size)
{
#if defined(__x86_64__) || defined(__aarch64__)
    if (has_instruction())
        return crc_processor(crc, data, size);
#endif
    return spool_crc_table(crc, data, size);
}
