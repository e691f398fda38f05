/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/id.h"

#include "base/clock.h"
#include "base/random.h"

#include <string.h>

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; /* Crockford base 32 */

struct mail_id mail_id_new(void)
{
    static _Thread_local struct mail_id last;
    struct mail_id id;
    random_bytes(&id, sizeof id);
    uint64_t time_ms = (uint64_t)(clock_wall_ns() / NS_PER_MS) & 0xffffffffffff;
    id.high = time_ms << 16 | (id.high & 0xffff);
    if (last.high >> 16 >= time_ms) {
        /* the same millisecond, or the clock went back: count on from the last one */
        id = last;
        id.low++;
        if (id.low == 0)
            id.high++;
    }
    last = id;
    return id;
}

struct mail_id_text mail_id_text(struct mail_id id)
{
    struct mail_id_text text;
    for (int i = MAIL_ID_LEN - 1; i >= 0; i--) {
        text.chars[i] = digits[id.low & 31];
        id.low = id.low >> 5 | id.high << 59;
        id.high >>= 5;
    }
    text.chars[MAIL_ID_LEN] = '\0';
    return text;
}

/* What a character counts, + 1; either case, and o, i, l for what they look like. */
static const unsigned char values[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
    ['G'] = 17, ['H'] = 18, ['J'] = 19, ['K'] = 20, ['M'] = 21, ['N'] = 22, ['P'] = 23, ['Q'] = 24,
    ['R'] = 25, ['S'] = 26, ['T'] = 27, ['V'] = 28, ['W'] = 29, ['X'] = 30, ['Y'] = 31, ['Z'] = 32,
    ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16, ['g'] = 17, ['h'] = 18,
    ['j'] = 19, ['k'] = 20, ['m'] = 21, ['n'] = 22, ['p'] = 23, ['q'] = 24, ['r'] = 25, ['s'] = 26,
    ['t'] = 27, ['v'] = 28, ['w'] = 29, ['x'] = 30, ['y'] = 31, ['z'] = 32, ['O'] = 1,  ['o'] = 1,
    ['I'] = 2,  ['i'] = 2,  ['L'] = 2,  ['l'] = 2,
};

static int digit_value(char c)
{
    return values[(unsigned char)c] - 1;
}

bool mail_id_parse(struct str text, struct mail_id *out_id)
{
    if (text.len != MAIL_ID_LEN || digit_value(text.ptr[0]) > 7)
        return false; /* 26 digits hold 130 bits: the first carries three */
    struct mail_id id = {0};
    for (size_t i = 0; i < text.len; i++) {
        int value = digit_value(text.ptr[i]);
        if (value < 0)
            return false;
        id.high = id.high << 5 | id.low >> 59;
        id.low = id.low << 5 | (uint64_t)value;
    }
    *out_id = id;
    return true;
}

bool mail_id_prefix(struct str text, struct mail_id *out_first, struct mail_id *out_last)
{
    char first[MAIL_ID_LEN];
    char last[MAIL_ID_LEN];
    if (text.len == 0 || text.len > MAIL_ID_LEN)
        return false;
    memset(first, '0', sizeof first);
    memset(last, 'Z', sizeof last);
    memcpy(first, text.ptr, text.len);
    memcpy(last, text.ptr, text.len);
    return mail_id_parse(str_of(first, sizeof first), out_first) &&
           mail_id_parse(str_of(last, sizeof last), out_last);
}

bool mail_id_equal(struct mail_id a, struct mail_id b)
{
    return a.high == b.high && a.low == b.low;
}

int64_t mail_id_time_ms(struct mail_id id)
{
    return (int64_t)(id.high >> 16);
}

struct mail_ref mail_ref_new(void)
{
    unsigned char random[MAIL_REF_LEN];
    random_bytes(random, sizeof random);
    struct mail_ref ref;
    for (size_t i = 0; i < MAIL_REF_LEN; i++)
        ref.chars[i] = digits[random[i] & 31];
    ref.chars[MAIL_REF_LEN] = '\0';
    return ref;
}
