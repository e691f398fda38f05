/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of links, and text for people: whatever comes, nothing is let through that is not ours. */
#include "admin/quarantine_link.h"
#include "admin/quarantine_text.h"

#include "base/check.h"
#include "spool/vault.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct spool_vault *vault_of_process(void)
{
    static struct spool_vault *vault; /* no keys: nothing can be signed */
    struct error err;
    if (!vault)
        check(spool_vault_open(STR("/nonexistent/keys"), STR_EMPTY, &vault, &err) == OK);
    return vault;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size);
    struct arena *arena = arena_new(0);
    struct quarantine_link link;
    struct buf out BUF_CLEANUP;
    check(quarantine_link_read(vault_of_process(), input, 0, arena, &link) ==
          QUARANTINE_LINK_FORGED);
    buf_init(&out, 1 << 20);
    quarantine_text_html(input, &out);
    for (size_t i = 0; i < out.len; i++)
        check(out.ptr[i] != '<' && out.ptr[i] != '>' && out.ptr[i] != '"' && out.ptr[i] != '\n');
    buf_clear(&out);
    quarantine_text_plain(input, &out);
    check(!out.overflow && str_find(buf_str(&out), '\n') < 0);
    arena_free(arena);
    return 0;
}
