/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook/signature.h - who gets a webhook can tell that it is ours, and of now (Standard Webhooks
 * 1.0.0, symmetric scheme v1).
 *
 * HMAC-SHA-256 over "ID.SECONDS.BODY" with a secret that both sides have.
 */
#pragma once

#include "base/buf.h"

enum { WEBHOOK_SECRET_LEAST = 24, WEBHOOK_SECRET_MOST = 64, WEBHOOK_SECRETS_MAX = 2 };

struct webhook_secret {
    unsigned char bytes[WEBHOOK_SECRET_MOST];
    size_t len;
};

/* "whsec_" and base64 of 24 to 64 bytes. The caller wipes it. */
bool webhook_secret_parse(struct str text, struct webhook_secret *out);
/* "v1,BASE64", one a secret, with blanks between them: the value of webhook-signature. Neither `id`
 * nor the time has a full stop in it. */
void webhook_sign(const struct webhook_secret *secrets, size_t count, struct str id,
                  int64_t seconds, struct str body, struct buf *out);
