/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dkim_signature_fuzz.c - messages with signatures from outside: whatever is in them, there
 * is an answer, within the bounds, and nothing passes without a key.
 */
#include "base/check.h"
#include "content/dkim.h"
#include "mail/header.h"

static unsigned asked;

/* Every other name has a key; it fits no signature. */
static enum result give_key(void *context, struct str name, struct arena *arena,
                            struct dns_text_answer *out, struct error *err)
{
    static struct str key = {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
                             66};
    (void)context;
    (void)arena;
    asked++;
    check(name.len <= 253 && !str_has_nul(name));
    if (name.len % 3 == 0)
        return fail(err, ERROR_TEMPORARY, "no answer");
    *out = (struct dns_text_answer){.status = name.len % 3 == 1 ? DNS_FOUND : DNS_NO_NAME,
                                    .texts = &key,
                                    .count = name.len % 3 == 1};
    return OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
NO_YIELD_CHECK int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_of((const char *)data, size);
    struct arena *arena = arena_new(0);
    struct body *body = body_memory_new(1 << 24);
    struct error err;
    check(body_append(body, text, &err) == OK && body_seal(body, &err) == OK);
    struct mail_content content = {.head = STR_EMPTY, .body = body};
    struct dkim_dns dns = {.text = give_key};
    struct dkim_message message;
    struct dkim_answer answer;
    size_t header = mail_header_length(text);
    asked = 0;
    dkim_message_init(&message, &content, str_slice(text, 0, header ? header : size));
    check(dkim_verify(&message, &dns, arena, &answer, &err) == OK);
    check(answer.count <= DKIM_SIGNATURES_MAX && asked <= answer.count);
    for (size_t i = 0; i < answer.count; i++) {
        const struct dkim_signature *signature = &answer.signatures[i];
        check(signature->result != DKIM_NONE && !str_has_nul(signature->domain));
        check(signature->result == DKIM_PASS || signature->detail.len > 0);
    }
    check((answer.result == DKIM_NONE) == (answer.count == 0));
    body_unref(body);
    arena_free(arena);
    return 0;
}
