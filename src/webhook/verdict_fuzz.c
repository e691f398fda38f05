/* SPDX-License-Identifier: Apache-2.0 */
/* What receivers of webhooks answer: HTTP that may be cut off, and how long they want to be left
 * alone. */
#include "base/check.h"
#include "net/http.h"
#include "webhook/verdict.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(0);
    struct http_answer answer;
    struct error err;
    struct str text = str_of((const char *)data, size);
    struct str retry_after = text;
    unsigned status = 503;
    if (http_read_beginning(text, arena, &answer, &err) == OK) {
        check(answer.status >= 200 && answer.status <= 599 && answer.body.len <= size);
        status = answer.status;
        retry_after = http_field(&answer, "Retry-After");
    }
    struct webhook_verdict verdict = webhook_judge(status, retry_after, INT64_C(1764270000000));
    check(verdict.retry_after_ms >= 0 && verdict.retry_after_ms <= 86400 * 1000);
    check((verdict.outcome == WEBHOOK_DELIVERED) == (status >= 200 && status < 300));
    arena_free(arena);
    return 0;
}
