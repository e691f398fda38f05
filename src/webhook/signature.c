/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/signature.h"

#include "base/check.h"
#include "base/memory.h"
#include "crypto/base64.h"
#include "crypto/hmac.h"

#include <string.h>

bool webhook_secret_parse(struct str text, struct webhook_secret *out)
{
    struct buf bytes BUF_CLEANUP;
    buf_init(&bytes, WEBHOOK_SECRET_MOST + 3); /* as much as it may take at first */
    bool good = str_starts(text, STR("whsec_")) && base64_decode(str_from(text, 6), &bytes) &&
                bytes.len >= WEBHOOK_SECRET_LEAST && bytes.len <= WEBHOOK_SECRET_MOST;
    if (good) {
        memcpy(out->bytes, bytes.ptr, bytes.len);
        out->len = bytes.len;
    }
    if (bytes.ptr)
        memory_wipe(bytes.ptr, bytes.cap);
    return good;
}

void webhook_sign(const struct webhook_secret *secrets, size_t count, struct str id,
                  int64_t seconds, struct str body, struct buf *out)
{
    struct buf content BUF_CLEANUP;
    buf_init(&content, id.len + body.len + 32);
    check(str_find(id, '.') < 0);
    buf_printf(&content, "%.*s.%lld.", STR_ARG(id), (long long)seconds);
    buf_append(&content, body);
    for (size_t i = 0; i < count; i++) {
        unsigned char sum[HMAC_SIZE];
        hmac_sha256(str_of((const char *)secrets[i].bytes, secrets[i].len), buf_str(&content), sum);
        buf_append(out, i ? STR(" v1,") : STR("v1,"));
        base64_encode(str_of((const char *)sum, sizeof sum), out);
    }
}
