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

static int digit_value(char c)
{
    switch (c) {
    case 'o':
    case 'O':
        return 0;
    case 'i':
    case 'I':
    case 'l':
    case 'L':
        return 1;
    default:
        break;
    }
    if (c >= 'a' && c <= 'z')
        c = (char)(c - 'a' + 'A');
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
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
