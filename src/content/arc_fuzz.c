/* SPDX-License-Identifier: Apache-2.0 */
/* content/arc_fuzz.c - chains from outside: there is an answer, and what we seal onto them is a set
 * that can be read again. */
#include "base/check.h"
#include "content/arc.h"
#include "crypto/sign.h"
#include "mail/header.h"

static unsigned asked;

static enum result give_key(void *context, struct str name, struct arena *arena,
                            struct dns_text_answer *out, struct error *err)
{
    static struct str key = {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
                             66};
    (void)context;
    (void)arena;
    (void)err;
    asked++;
    check(name.len <= 253 && !str_has_nul(name));
    *out = (struct dns_text_answer){.status = DNS_FOUND, .texts = &key, .count = 1};
    return OK;
}

static NO_YIELD_CHECK void seal(struct dkim_message *message, const struct arc_answer *chain,
                                struct arena *arena)
{
    struct error err = {0};
    struct sign_key *key = NULL;
    struct str set = STR_EMPTY;
    check(sign_key_private(STR("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="), &key, &err) == OK);
    struct arc_sealer sealer = {.domain = STR("example.org"),
                                .selector = STR("ed"),
                                .key = key,
                                .authserv_id = STR("mx.example.org")};
    if (arc_seal(message, &sealer, chain, arena, &set, &err) == OK && set.len)
        check(!chain->ended && mail_header_count(set, STR("ARC-Seal")) == 1);
    sign_key_free(key);
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
    struct arc_answer answer;
    size_t header = mail_header_length(text);
    asked = 0;
    dkim_message_init(&message, &content, str_slice(text, 0, header ? header : size));
    check(arc_verify(&message, &dns, arena, &answer, &err) == OK);
    check(asked <= ARC_SETS_MAX + 1 && answer.count <= ARC_INSTANCE_MAX);
    check(answer.result != ARC_FAIL || answer.detail.len > 0);
    check(answer.result != ARC_PASS || (answer.known && answer.count > 0));
    seal(&message, &answer, arena);
    body_unref(body);
    arena_free(arena);
    return 0;
}
